"""The command `facerecon evaluate synthetic`: CoarseNet on held-out faces of the training world."""

import argparse

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results
from facerecon.evaluation.coarse import coarse_metrics, held_out_faces
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print the errors after every iteration."""
    faces = held_out_faces(SyntheticWorld(model), args.count, args.seed)
    metrics = coarse_metrics(network, model, faces, args.iterations)
    names = [name for name in metrics if f"{name}_{args.iterations}" in metrics]
    print(f"{'':<14}" + "".join(f"{name:>15}" for name in names))
    for number in range(1, args.iterations + 1):
        values = (metrics.get(f"{name}_{number}") for name in names)
        cells = "".join(" " * 15 if v is None else f"{v:>15.2f}" for v in values)
        print(f"iteration {number:<4}{cells}")
    return Results({"metrics": metrics}, {})
