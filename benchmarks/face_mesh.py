"""MediaPipe's face mesh beside CoarseNet and the mean face, on facerecon-bench.

    python benchmarks/face_mesh.py [--subjects 30] [--jobs 2] [--out FILE]

MediaPipe is optional: docs/methods.md says how to install it.
"""

import argparse
from pathlib import Path

from populations import measure
from timing import finish, machine, made_with

from facerecon.methods.face_mesh import mediapipe

METHODS = ("ours (coarse)", "mean face", "mediapipe")


def main() -> None:
    """Read the arguments, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "face_mesh.json"
    )
    args = parser.parse_args()
    report = {
        "machine": machine(),
        **made_with(coarsenet=None),
        "mediapipe": mediapipe().__version__,
        "subjects": args.subjects,
        "seed": 0,
        "protocols": measure(None, args.subjects, args.jobs, METHODS),
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
