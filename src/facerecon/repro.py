"""Reproduction: run the notebooks strictly, and keep what they measured.

`reproduce` stands behind the command `facerecon reproduce`; with a `Recorder` a notebook writes its
numbers. papermill, which runs the notebooks, and torch are imported only when they are needed.
"""

import ast
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

ITEMS = {
    "morphable_model": "01_morphable_model_and_projection",
    "synthetic_data": "02_synthetic_data",
    "coarsenet": "03_coarsenet",
    "differentiable_rendering": "04_differentiable_rendering",
    "lighting_and_albedo": "05_lighting_and_albedo",
    "end_to_end": "07_end_to_end",
}
"""What can be reproduced, and the notebook that does it."""

PRESETS = ("quick", "full")
PACKAGES = ("facerecon", "torch", "numpy", "numba", "opencv-python-headless")


class ReproductionError(ValueError):
    """A reproduction cannot start; the message is one line: what is wrong and what to do."""


def reproduce(
    items: Sequence[str],
    preset: str = "quick",
    parameters: Mapping[str, object] | None = None,
    out: Path = Path("figures"),
) -> int:
    """Run the notebooks of some items, one after the other; a failure does not stop the others.

    Each leaves `<out>/<item>/notebook.ipynb` with its outputs (after a failure, the error) and,
    beside it, the figures and the result.json that it writes itself.

    Args:
        items: keys of `ITEMS`; empty means all.
        preset: "quick" (minutes on a CPU) or "full".
        parameters: other values for the notebooks' parameters; texts are read as the type of the
            parameter's default.
        out: folder of the results.

    Returns:
        0, or 1 if a notebook failed.

    Raises:
        ReproductionError: before anything runs: an unknown item, preset or parameter, a notebook
            that is missing or has no parameters, or papermill is not installed.
    """
    for item in items:
        if item not in ITEMS:
            raise ReproductionError(f"unknown item {item!r}; there are: {', '.join(ITEMS)}")
    if preset not in PRESETS:
        raise ReproductionError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")
    papermill = _papermill()
    plan = {}
    for item in dict.fromkeys(items or ITEMS):
        notebook = find_notebook(item)
        given = {**(parameters or {}), "preset": preset, "output_dir": str((out / item).resolve())}
        plan[item] = notebook, check_parameters(notebook, given)
    succeeded = [_run(papermill, item, path, given) for item, (path, given) in plan.items()]
    return 0 if all(succeeded) else 1


def find_notebook(item: str) -> Path:
    """The notebook of an item, below $FACERECON_ROOT, or the current folder, or a folder above it.

    Raises:
        ReproductionError: it is not there; notebooks come with the repository, not with the wheel.
    """
    name = Path("notebooks") / f"{ITEMS[item]}.ipynb"
    root = os.environ.get("FACERECON_ROOT")
    here = Path.cwd()
    folders = [Path(root)] if root else [here, *here.parents]
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).resolve()
    place = f"FACERECON_ROOT={root}" if root else f"{here} and the folders above it"
    raise ReproductionError(
        f"{name} is not in {place}; notebooks come with the repository: run this inside a clone, "
        "or set FACERECON_ROOT to one"
    )


def check_parameters(notebook: Path, given: Mapping[str, object]) -> dict[str, object]:
    """The values to inject into a notebook; papermill alone would only warn of unknown names.

    Raises:
        ReproductionError: the notebook has no cell tagged `parameters`, a name is not in it, or a
            value is not of the type of the default.
    """
    defaults = _papermill().inspect_notebook(notebook)
    if not defaults:
        raise ReproductionError(f"{notebook}: tag the cell that sets its parameters 'parameters'")
    for name in given:
        if name not in defaults:
            raise ReproductionError(
                f"{notebook.name} has no parameter {name!r}; there are: {', '.join(defaults)}"
            )
    return {
        name: _as_type_of(ast.literal_eval(defaults[name]["default"]), name, value)
        for name, value in given.items()
    }


def _as_type_of(default: object, name: str, value: object) -> object:
    """The value in the default's type; a text is read as a literal, or cut at commas for a list."""
    wanted = type(default)
    if isinstance(value, str) and wanted is not str:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            if wanted is list:
                value = [part.strip() for part in value.split(",")]
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise ReproductionError(
            f"parameter {name}: {value!r} is not of type {wanted.__name__}, like {default!r}"
        )
    return value


def _papermill() -> ModuleType:
    try:
        return import_module("papermill")
    except ImportError as error:
        raise ReproductionError(
            'papermill is needed to run notebooks: pip install "facerecon[notebooks]"'
        ) from error


def _run(papermill: ModuleType, item: str, notebook: Path, given: dict[str, object]) -> bool:
    """Run one notebook, with a progress bar on a terminal; say how it ended, return success."""
    target = Path(str(given["output_dir"])) / "notebook.ipynb"
    print(f"{item}: running {notebook}", flush=True)
    start = time.monotonic()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            notebook, target, given, progress_bar={"desc": item, "disable": None}
        )
    except (
        Exception
    ) as error:  # in the notebook, of its kernel, or of the disk: others may still run
        cause = f"{type(error).__name__}: {error}"
        if isinstance(error, papermill.PapermillExecutionError):
            cause = f"In [{error.exec_count}], {error.ename}: {error.evalue}"
        print(f"{item}: FAILED, {' '.join(cause.split())[:400]}; see {target}", file=sys.stderr)
        return False
    print(f"{item}: done in {time.monotonic() - start:.0f} s, see {target.parent}", flush=True)
    return True


class Recorder:
    """Writes the numbers of a notebook to `<output_dir>/result.json`, with what they depend on.

        record = Recorder("figures/end_to_end", preset="quick", seed=0, weights=[...])
        record("seconds", 1.4)

    Args:
        output_dir: made if it does not exist; an older result.json is replaced by the first number.
        preset, seed, device: as the notebook was run.
        weights: files whose model cards go into the record.

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
    ) -> None:
        from facerecon.weights import commit, read_card

        self.path = Path(output_dir) / "result.json"
        self.values: dict[str, object] = {}
        self.context = {
            "preset": preset,
            "seed": seed,
            "device": device,
            "commit": commit(),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "weights": {Path(path).stem: read_card(path) for path in weights},
        }

    def __call__(self, name: str, value: object) -> None:
        """Add a number, text, truth value, or list of them (also NumPy's and torch's).

        Raises:
            ValueError: a number is not finite, or JSON cannot hold the value.
            OutputError: the file cannot be written.
        """
        from facerecon.reconstruction import write_file

        self.values[name] = _plain(name, value)
        text = json.dumps({"values": self.values, **self.context}, indent=2, ensure_ascii=False)
        write_file(self.path, f"{text}\n".encode())


def _plain(name: str, value: object) -> object:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value} is not a finite number")
    if isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{name}: a {type(value).__name__} cannot be recorded; give numbers or texts")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
