"""Time loading the networks and turning a photograph into a mesh; prints JSON.

    python benchmarks/reconstruct.py [PHOTO] [--repeats 10] [--size 200] [--threads 2]

Without a photograph, the portrait that comes with matplotlib is taken.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch

from facerecon.data import load_image
from facerecon.detect import detect_faces
from facerecon.pipeline import Reconstructor


def seconds(action: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median and fastest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return {"median_s": round(statistics.median(times), 4), "fastest_s": round(min(times), 4)}


def main() -> None:
    """Measure and print."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=portrait)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--size", type=int, default=200, choices=(200, 400))
    parser.add_argument("--coarse", type=Path, help="other CoarseNet weights")
    parser.add_argument("--fine", type=Path, help="other FineNet weights")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    start = time.perf_counter()
    reconstruct = Reconstructor.from_pretrained(args.coarse, args.fine, size=args.size)
    loading = time.perf_counter() - start
    start = time.perf_counter()
    face = reconstruct(args.photo)  # the first call compiles kernels or reads their cache
    first = time.perf_counter() - start
    image, box = load_image(args.photo), face.box
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "photo": args.photo.name,
            "pixels": list(image.shape[:2]),
            "size": args.size,
            "threads": args.threads,
            "machine": platform.machine(),
            "torch": torch.__version__,
            "repeats": args.repeats,
            "load_networks_s": round(loading, 3),
            "first_photo_to_mesh_s": round(first, 3),
            "photo_to_mesh": seconds(lambda: reconstruct(args.photo), args.repeats),
            "four_iterations": seconds(lambda: iterate(coarsenet, model, grey), args.repeats),
            "detect": seconds(lambda: detect_faces(image), args.repeats),
            "networks_and_mesh": seconds(lambda: reconstruct(image, box), args.repeats),
            "save_ply": seconds(lambda: face.save(Path(folder) / "face.ply"), args.repeats),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
