"""The record of a notebook's run: its numbers, and what they depend on."""

import hashlib
import json
import math
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("facerecon", "torch", "numpy", "numba", "opencv-python-headless")
CARD_FIELDS = ("task", "preset", "data", "samples", "seed", "commit", "metrics")


class Recorder:
    """Writes the numbers of a notebook to `<output_dir>/result.json`, with what they depend on.

        record = Recorder("figures/end_to_end", preset="quick", seed=0, weights=[...])
        record("error_mm", 1.4)

    Equal inputs give equal `values`. What differs from run to run, such as seconds, goes to
    `timing`, and `outcome` sets the item beside the paper's.

    Args:
        output_dir: made if it does not exist; an older result.json is replaced by the first number.
        preset, seed, device: as the notebook was run.
        weights: files whose hashes and training go into the record.
        data: what the numbers were measured on, in words.

    Raises:
        WeightsError: a weights file is missing or has no card.
    """

    def __init__(
        self,
        output_dir: str | Path,
        preset: str,
        seed: int,
        device: str = "cpu",
        weights: Sequence[str | Path] = (),
        data: str = "",
    ) -> None:
        from facerecon.weights import commit

        self.path = Path(output_dir) / "result.json"
        self.values: dict[str, object] = {}
        self.timings: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}
        self.context = {
            "data": data,
            "preset": preset,
            "seed": seed,
            "device": device,
            "commit": commit(),
            "machine": {"processor": processor(), "cores": os.cpu_count()},
            "python": platform.python_version(),
            "packages": {name: package_version(name) for name in PACKAGES},
            "weights": {Path(path).stem: _card(Path(path)) for path in weights},
        }

    def __call__(self, name: str, value: object) -> None:
        """Add a number, text, truth value, or list of them (also NumPy's and torch's).

        Raises:
            ValueError: a number is not finite, or JSON cannot hold the value.
            OutputError: the file cannot be written.
        """
        self.values[name] = _plain(name, value)
        self._write()

    def timing(self, name: str, seconds: float) -> None:
        """Add a duration, which no second run repeats exactly."""
        self.timings[name] = _plain(name, round(float(seconds), 3))
        self._write()

    def outcome(self, ours: str) -> None:
        """Say in words what came out, for the table that sets it beside the paper.

        Whether it is what the paper says is no notebook's opinion: `claims` judges the values.

        Args:
            ours: the result, short, its numbers taken from variables.
        """
        self.outcomes = {"ours": ours}
        self._write()

    def _write(self) -> None:
        from facerecon.files import write_file

        parts = {"values": self.values, "timings": self.timings, "outcome": self.outcomes}
        parts = {name: part for name, part in parts.items() if part}
        text = json.dumps({**parts, **self.context}, indent=2, ensure_ascii=False)
        write_file(self.path, f"{text}\n".encode())


def code_hash() -> str:
    """A hash of the package as it is here: code, model, weights; and of what it runs on."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(path.read_bytes())
    versions = [platform.python_version(), *map(package_version, PACKAGES)]
    digest.update(" ".join(versions).encode())
    return digest.hexdigest()


def processor() -> str:
    """The name of this machine's processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _card(path: Path) -> dict:
    from facerecon.weights import read_card

    card = read_card(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"sha256": digest, **{name: card[name] for name in CARD_FIELDS if name in card}}


def _plain(name: str, value: object) -> object:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value} is not a finite number")
    if isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{name}: a {type(value).__name__} cannot be recorded; give numbers or texts")


def package_version(package: str) -> str:
    """Of an installed distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
