"""Time a photograph of one face and one of twenty, in turns: how much does a crowd cost?

    python benchmarks/crowd.py [--out benchmarks/results/crowd.json]

The faces are those portraits of the London set that ship. The photograph of one face is a
portrait, another one each time; the photograph of twenty is a grid of them, each as large as alone.
Both times include finding the faces.
"""

import argparse
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import finish, interleaved, machine, made_with, threads

from facerecon.pipeline import Reconstructor
from facerecon.views.portraits import people

ROWS, COLUMNS = 4, 5
ONE, TWENTY = "one face", "twenty faces"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=400, help="pixels of a portrait (default: 400)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()

    size = (args.side, args.side)
    portraits = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in people().values()]
    again = cycle(portraits)
    rows = [np.concatenate([next(again) for _ in range(COLUMNS)], axis=1) for _ in range(ROWS)]
    grid, again = np.concatenate(rows), cycle(portraits)
    reconstruct = Reconstructor.from_pretrained()
    faces = reconstruct(grid, all_faces=True)
    with threads(args.threads):
        steps = {
            ONE: lambda: reconstruct(next(again), all_faces=True),
            TWENTY: lambda: reconstruct(grid, all_faces=True),
        }
        times = interleaved(steps, args.rounds)
    report = {
        "machine": machine(),
        **made_with(detector=None, coarsenet=None, normalnet=None),
        "settings": {
            "pixels": {ONE: list(size), TWENTY: list(grid.shape[:2])},
            "crops": sorted(round(face.crop.side) for face in faces),
            "threads": args.threads,
            "rounds": args.rounds,
        },
        "found": len(faces),
        "steps": times,
        "ratio": round(times[TWENTY]["median_ms"] / times[ONE]["median_ms"], 2),
        "cpu_ratio": round(times[TWENTY]["cpu_ms"] / times[ONE]["cpu_ms"], 2),
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
