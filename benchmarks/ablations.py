"""What each choice of CoarseNet's training is worth: small networks, one choice changed at a time.

    python benchmarks/ablations.py                 every row that is missing; stop and resume freely
    python benchmarks/ablations.py pncc normals    these rows
    python benchmarks/ablations.py --samples 80000 --faces 20000 --folder runs/long

Every row sees the same stored faces, at 100 pixels, in the same order, and is measured on the same
faces that none has seen. Results go to benchmarks/results/ablations.json, from which
`benchmarks/tables.py` writes the table of docs/training.md. Runs are kept below --folder.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from timing import machine

from facerecon.coarsenet import CoarseNetConfig
from facerecon.evaluation.coarse import HeldOut, coarse_metrics, held_out_faces, landmark_error
from facerecon.files import write_file
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.shards import write_shards
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.presets import CoarseTraining, SyntheticConfig

RESULTS = Path(__file__).resolve().parent / "results" / "ablations.json"
SIZE = 100  # pixels
FACES = 2_000  # images in store; 8,000 samples use each of them four times
TEST_FACES, TEST_SEED = 200, 20_170_722  # not a seed of training or validation
ITERATIONS = 8
BASE = CoarseTraining(
    network=CoarseNetConfig(width=16),
    data=SyntheticConfig(size=SIZE),
    images_per_batch=16,
    passes=1,  # learns fastest at first; long runs go on from the network's own answers
    warmup=0.05,
    cooldown=0.4,
    ema_decay=0.99,
    validation_every=0,
)
ROWS = {
    "base": ("r_t from Eq. (3), a quarter 0; displacements; criterion with posed vertices", {}),
    "seed": ("the same with another seed: what chance does", {"seed": 1}),
    "pncc": ("feedback: PNCC alone", {"network": {"feedback": "pncc"}}),
    "normals": ("feedback: normals alone", {"network": {"feedback": "normals"}}),
    "unmasked": ("image not masked by the visible vertices", {"network": {"masked": False}}),
    "beta_low": ("beta of Eq. (3) in [0, 1/2]: far from the truth", {"beta": (0.0, 0.5)}),
    "beta_high": ("beta of Eq. (3) in [1/2, 1]: near the truth", {"beta": (0.5, 1.0)}),
    "no_displacement": ("regression alone, without displacements", {"network": {"points": 0}}),
    "plain": (
        "regression, and criterion of 3.3: GMSE and pose alone",
        {"vertex_loss": 0.0, "network": {"points": 0}},
    ),
    "paper": (
        "as the paper says: regression, all r_t from Eq. (3), criterion of 3.3",
        {"p_zero_start": 0.0, "vertex_loss": 0.0, "network": {"points": 0}},
    ),
    "own_output": (
        "three of four r_t are the network's own answers, as in the preset `cpu`",
        {"passes": 4},
    ),
}
"""Name of each row: what it is, and what it changes in `BASE`."""


def configured(changes: dict, samples: int) -> CoarseTraining:
    """`BASE` with these changes; those of the network are in a dictionary of their own."""
    changes = dict(changes)
    network = replace(BASE.network, **changes.pop("network", {}))
    return replace(BASE, network=network, samples=samples, **changes)


def train(
    name: str, model: MorphableModel, faces: HeldOut, samples: int, folder: Path, quiet: bool
) -> dict:
    """Train one row, or go on with it, and measure it after 1 to 8 iterations."""
    what, changes = ROWS[name]
    config = configured(changes, samples)
    device = model.mean.device
    task = CoarseTask(model, config, device, workers=0, data=folder / "faces")
    task.held_out = faces
    run = Run(task, folder / f"{name}-{samples}", device, quiet=quiet)
    run.train()
    metrics = coarse_metrics(run.averaged["coarsenet"], model, faces, ITERATIONS)
    return {
        "what": what,
        "changes": changes,
        "samples": run.samples,
        "hours": round(run.seconds / 3600, 3),
        **run.settings(),
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
    }


def main() -> None:
    """Train and record the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="default: all")
    parser.add_argument("--samples", type=int, default=8_000, help="of each row")
    parser.add_argument("--faces", type=int, default=FACES, help="in store")
    parser.add_argument("--test-faces", type=int, default=TEST_FACES)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    model = MorphableModel.default().to(args.device)
    world = SyntheticWorld(model, BASE.data)
    write_shards(args.folder / "faces", world, args.faces, 10, seed=7, quiet=args.quiet)
    faces = held_out_faces(world, args.test_faces, TEST_SEED)
    zero = torch.zeros_like(faces.r)
    start = landmark_error(model, zero, faces.r, SIZE).mean()  # of r = 0
    settings = {
        "faces": args.faces,
        "test_faces": args.test_faces,
        "size": SIZE,
        "network": asdict(BASE.network),
        "device": args.device,
        "start": round(start.item(), 4),
    }
    for name in args.rows or ROWS:
        done = read(args.out)["rows"].get(name)
        if done and done["samples"] >= args.samples:
            continue
        row = train(name, model, faces, args.samples, args.folder, args.quiet)
        rows = read(args.out)["rows"] | {name: row}  # another process may have added some
        report = {
            "settings": settings,
            "machine": machine(),
            "rows": {key: rows[key] for key in ROWS if key in rows},
        }
        write_file(args.out, (json.dumps(report, indent=1) + "\n").encode())
        print(f"{name}: landmarks {row['metrics']['landmarks_pct_4']:.2f} %", flush=True)


def read(path: Path) -> dict:
    """The report so far."""
    return json.loads(path.read_text()) if path.exists() else {"rows": {}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
