"""How well the shipped CoarseNet finds 500 synthetic faces that it has never seen, from r = 0.

    python benchmarks/coarsenet.py [--faces 500] [--iterations 4] [--weights FILE] [--out FILE]

Prints JSON: median pose errors in degrees, mean landmark error in percent of the face's box, and
GMSE, after every iteration, of CoarseNet and, for comparison, of the mean face at the true pose and
of r = 0.
"""

import argparse
import math
from pathlib import Path

import torch
from timing import finish, machine, made_with

from facerecon.camera import split
from facerecon.coarsenet import CoarseNet
from facerecon.evaluation.coarse import coarse_metrics, held_out_faces, landmark_error
from facerecon.losses import gmse
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import load_coarsenet

SEED = 20_170_721  # not a training or validation seed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--weights", type=Path, help="CoarseNet weights (default: shipped)")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()
    model = MorphableModel.default()
    network: CoarseNet = load_coarsenet(args.weights)
    world = SyntheticWorld(model)
    faces = held_out_faces(world, args.faces, SEED)
    size = faces.image.shape[-1]
    metrics = coarse_metrics(network, model, faces, args.iterations)

    coefficients, pose = split(faces.r, model.n_coefficients)
    zero = torch.zeros_like(faces.r)
    posed = torch.cat([torch.zeros_like(coefficients), pose], dim=1)
    metric = model.geometry_metric()
    at_zero = gmse(torch.zeros_like(coefficients), coefficients, metric).item()
    report = {
        "machine": machine(),
        **made_with(coarsenet=args.weights),
        "seed": SEED,
        "faces": args.faces,
        "yaw_limit_deg": 45,
        "coarsenet": {name: round(value, 3) for name, value in metrics.items()},
        "r_zero": {
            "yaw_deg": round(math.degrees(0.5) * pose[:, 1].abs().median().item(), 3),
            "pitch_deg": round(math.degrees(0.3) * pose[:, 0].abs().median().item(), 3),
            "landmarks_pct": round(landmark_error(model, zero, faces.r, size).mean().item(), 3),
            "gmse_mm2": round(at_zero, 3),
        },
        "mean_face_at_true_pose": {
            "landmarks_pct": round(landmark_error(model, posed, faces.r, size).mean().item(), 3),
        },
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
