"""What each choice of NormalNet's training is worth, judged on real people with measured normals.

    python benchmarks/normalnet_ablations.py DIR        every missing row; DIR: CroppedYale
    python benchmarks/normalnet_ablations.py DIR base seed --samples 4800

Small budgets from random weights, one choice changed at a time. A row is measured as
`facerecon evaluate yale` measures `normals`, without shading. Results go to
benchmarks/results/normalnet_ablations.json, from which `benchmarks/tables.py` writes the table of
docs/training.md. Runs are kept below --folder.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from timing import machine

from facerecon.evaluation.measured_normals import LIGHTS, evaluate_people, means
from facerecon.evaluation.yale import list_people, read_person
from facerecon.evaluation.yale_methods import yale_methods
from facerecon.files import write_file
from facerecon.morphable_model import MorphableModel
from facerecon.training.engine import Run
from facerecon.training.normals import NormalTask
from facerecon.training.presets import NormalTraining
from facerecon.weights import load_coarsenet, load_finenet

RESULTS = Path(__file__).resolve().parent / "results" / "normalnet_ablations.json"
BASE = NormalTraining(cooldown=0.5, ema_decay=0.99, warmup=0.02, validation_every=0)
ROWS = {
    "base": ("the preset `cpu`", {}),
    "seed": ("the same with another seed: what chance does", {"seed": 1}),
    "no_pncc": ("without PNCC", {"network": {"pncc": False}}),
    "no_logarithm": ("without the logarithm of the grey values", {"network": {"logarithm": False}}),
    "shallow": (
        "three levels instead of five: a pixel sees less of the face",
        {"network": {"widths": (24, 48, 96)}},
    ),
    "no_strobe": ("no faces in the light of a single hard lamp", {"p_strobe": 0.0}),
    "small": ("crops of at most 200 pixels alone", {"p_large": 0.0}),
    "own": ("every start is CoarseNet's own answer", {"p_own": 1.0}),
}
"""Name of each row: what it is, and what it changes in `BASE`."""


def configured(changes: dict, samples: int) -> NormalTraining:
    """`BASE` with these changes; those of the network are in a dictionary of their own."""
    changes = dict(changes)
    network = replace(BASE.network, **changes.pop("network", {}))
    return replace(BASE, network=network, samples=samples, **changes)


def train(name: str, model: MorphableModel, people: Path, samples: int, folder: Path) -> dict:
    """Train one row, or go on with it, and measure it on the people."""
    what, changes = ROWS[name]
    coarsenet = load_coarsenet()
    task = NormalTask(model, coarsenet, configured(changes, samples), torch.device("cpu"))
    run = Run(task, folder / f"{name}-{samples}", torch.device("cpu"), quiet=True)
    run.train()
    methods = yale_methods(model, coarsenet, load_finenet(), run.averaged["normalnet"])
    chosen = {key: methods[key] for key in ("coarse", "normals")}
    rows = []
    for person in list_people(people):
        rows += evaluate_people([read_person(person)], chosen, lights=LIGHTS)
    found = {row["method"]: row for row in means(rows)}
    return {
        "what": what,
        "changes": changes,
        "samples": run.samples,
        "hours": round(run.seconds / 3600, 3),
        **run.settings(),
        "coarse": found["coarse"],
        "metrics": found["normals"],
    }


def read(path: Path) -> dict:
    """The recorded rows; none without a file."""
    return json.loads(path.read_text())["rows"] if path.exists() else {}


def main() -> None:
    """Train and record the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, help="folder of CroppedYale")
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="default: all")
    parser.add_argument("--samples", type=int, default=2_400, help="of each row")
    parser.add_argument("--folder", type=Path, default=Path("runs/normalnet-ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    model = MorphableModel.default()
    for name in args.rows or ROWS:
        done = read(args.out).get(name)
        if done and done["samples"] >= args.samples:
            continue
        row = train(name, model, args.people, args.samples, args.folder)
        rows = read(args.out) | {name: row}  # another process may have added some
        report = {"machine": machine(), "rows": {key: rows[key] for key in ROWS if key in rows}}
        write_file(args.out, (json.dumps(report, indent=1) + "\n").encode())
        print(f"{name}: {row['metrics']['normals']:.2f} degrees", flush=True)


if __name__ == "__main__":
    main()
