"""Commands that are killed at random moments and started again, against an undisturbed run.

    python tests/robustness/kills.py --kills 20 --seed 1
    python tests/robustness/kills.py train reproduce --kills 20

A command is killed (SIGKILL, with all that it started) several times in a row in one folder, at
moments that depend on the seed, then run to its end. Its files must be those of the undisturbed
run, byte for byte, less what differs from run to run by design: see `WORKS`. Prints one line of
JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from safetensors.torch import load_file
from skimage import data as photographs

ROOT = Path(__file__).resolve().parents[2]
IN_A_ROW = 4
# The quick preset would write its first checkpoint after two minutes.
CLI = """
import sys
from dataclasses import replace
from facerecon.training import presets
quick = presets.COARSE_PRESETS["quick"]
few = dict(samples=96, validation_faces=4, validation_every=0, checkpoint_every=0)
presets.COARSE_PRESETS["tiny"] = replace(quick, **few)
from facerecon.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Work(NamedTuple):
    """A command and what of its folder must be the same after every way to its end."""

    arguments: Callable[[Path, Path], list[str]]  # of the folders of inputs and of results
    content: Callable[[Path], dict[str, object]]


def all_files(folder: Path) -> dict[str, object]:
    """Bytes by name, without what killed writers leave behind."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".facerecon-")
    }


def trained(folder: Path) -> dict[str, object]:
    """The weights: the card says how many hours it took, the history holds seconds."""
    tensors = load_file(folder / "out.safetensors")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def reproduced(folder: Path) -> dict[str, object]:
    """Pictures and numbers: the executed notebook holds the times of its cells."""
    files = {n: c for n, c in all_files(folder).items() if n.endswith((".png", ".jpg"))}
    result = json.loads((folder / "fig_03" / "result.json").read_bytes())
    result.pop("timings", None)
    json.loads((folder / "fig_03" / "notebook.ipynb").read_bytes())  # whole
    return files | {"result": result}


WORKS = {
    "reconstruct": Work(
        lambda given, out: [
            *("reconstruct", str(given / "photos"), "--out", str(out), "--formats", "obj"),
        ],
        all_files,
    ),
    "data": Work(
        lambda given, out: [
            *("data", "write", "--out", str(out), "--count", "96", "--shards", "6"),
            *("--size", "48", "--seed", "3", "--quiet"),
        ],
        all_files,
    ),
    "train": Work(
        lambda given, out: [
            *("train", "coarse", "--preset", "tiny", "--run", str(out), "--quiet"),
            *("--export", str(out / "out.safetensors")),
        ],
        trained,
    ),
    "scans": Work(
        lambda given, out: [
            *("evaluate", "scans", str(given / "bench"), "--out", str(out)),
            *("--methods", "ours,mean face"),
        ],
        all_files,
    ),
    "reproduce": Work(
        lambda given, out: ["reproduce", "fig_03", "--out", str(out)],
        reproduced,
    ),
}


def make_inputs(folder: Path, names: list[str]) -> None:
    """Three photographs, a benchmark of three scans: what the commands need."""
    if "reconstruct" in names:
        (folder / "photos").mkdir()
        for left in (90, 96, 102):
            photo = photographs.astronaut()[:256, left : left + 256]
            Image.fromarray(photo).save(folder / "photos" / f"{left}.png")
    if "scans" in names:
        bench = start(["bench", "write", str(folder / "bench"), "--subjects", "3", "--seed", "1"])
        finish(bench)


def start(arguments: list[str], limit_bytes: int | None = None) -> subprocess.Popen:
    """The command as a process of its own session; limit_bytes: of the files that it may write."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "FACERECON_ROOT": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=None if limit_bytes is None else partial(_limit_files, limit_bytes),
    )


def _limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def finish(process: subprocess.Popen) -> None:
    """Wait for its end, which must be a good one."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {errors.strip()[-500:]}")


def kill(process: subprocess.Popen, seconds: float) -> bool:
    """Kill a process and its children after so many seconds; False if it ended before."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def disturbed(work: Work, given: Path, folder: Path, kills: int, seed: int) -> Iterator[dict]:
    """Run the work once undisturbed, then with kills; yields a report per folder of results."""
    began = time.monotonic()
    finish(start(work.arguments(given, folder / "whole")))
    seconds = time.monotonic() - began
    expected = work.content(folder / "whole")
    rng = random.Random(seed)
    done = 0
    while done < kills:
        out, hits = folder / f"{done}", 0
        moments = []
        for _ in range(min(IN_A_ROW, kills - done)):
            moments.append(rng.uniform(0, seconds))
            began = time.monotonic()
            hit = kill(start(work.arguments(given, out)), moments[-1])
            hits += hit
            if not hit:  # it ended before: the first run was slower than the others
                seconds = min(seconds, time.monotonic() - began)
        finish(start(work.arguments(given, out)))
        found = work.content(out)
        names = sorted(expected.keys() | found.keys())
        differ = [name for name in names if expected.get(name) != found.get(name)]
        yield {
            "kills": hits,
            "moments": [round(moment / seconds, 2) for moment in moments],
            "differ": differ,
        }
        done += len(moments)


def main(arguments: list[str] | None = None) -> int:
    """Kill the commands; returns 1 if one came to another end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--kills", type=int, default=20, help="of each command (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    report, names = {}, args.works or list(WORKS)
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), names)
        for name in names:
            began = time.monotonic()
            place = Path(folder) / name
            runs = list(disturbed(WORKS[name], Path(folder), place, args.kills, args.seed))
            report[name] = {
                "kills": sum(run["kills"] for run in runs),
                "of": args.kills,
                "seconds": round(time.monotonic() - began),
                "differ": [run for run in runs if run["differ"]],
            }
            print(name, report[name], file=sys.stderr, flush=True)
    print(json.dumps(report))
    return 1 if any(entry["differ"] for entry in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
