"""Time the networks and a whole reconstruction under torch and under ONNX Runtime, in turns.

    python benchmarks/onnx_backend.py [PHOTO] [--out benchmarks/results/onnx_backend.json]

Without a photograph, the portrait that comes with matplotlib is taken. The results of both are
compared, too.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import onnxruntime
import torch
from timing import finish, interleaved, machine, made_with, threads

from facerecon.detection.network import load_detector, search
from facerecon.imaging import load_image, to_grey
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction

BACKENDS = ("torch", "onnx")


def parts(backend, reconstruct, image, grey) -> dict:
    """What is timed of one backend, by name."""
    maps = torch.rand(2, 7, 200, 200).contiguous(memory_format=torch.channels_last)
    coarse, normals = reconstruct.coarsenet, reconstruct.normals.network
    detector = reconstruct.detector or load_detector()
    found = {
        "photograph to mesh": lambda: reconstruct(image),
        "detector, all levels of the photograph": lambda: search(detector, grey, 0.1),
        "CoarseNet, one crop": lambda: coarse.read(maps[:1], torch.zeros(1, 290)),
        "CoarseNet, a crop and its mirror image": lambda: coarse.read(maps, torch.zeros(2, 290)),
        "NormalNet, one crop": lambda: normals(torch.zeros(1, 9, 200, 200)),
    }
    return {f"{backend}: {name}": step for name, step in found.items()}


def differences(one: Reconstruction, other: Reconstruction) -> dict[str, float]:
    """Of two reconstructions: the largest in r, and quantiles of that of the depth in mm."""
    depth = np.abs(one.depth_mm - other.depth_mm)[one.mask & other.mask]
    return {
        "r": float(f"{np.abs(one.iterations[-1] - other.iterations[-1]).max():.2g}"),
        "depth_mm_999": float(f"{np.quantile(depth, 0.999):.2g}"),
        "depth_mm": float(f"{depth.max():.2g}"),
    }


def main() -> None:
    """Measure and print."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=portrait)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()

    image = load_image(args.photo)
    grey = to_grey(image)
    steps, faces = {}, {}
    with threads(args.threads), torch.inference_mode():
        for backend in BACKENDS:  # sessions take the number of threads that torch has now
            reconstruct = Reconstructor.from_pretrained(backend=backend)
            faces[backend] = reconstruct(image)
            steps |= parts(backend, reconstruct, image, grey)
        times = interleaved(steps, args.rounds)
    report = {
        "machine": machine() | {"onnxruntime": onnxruntime.__version__},
        **made_with(coarsenet=None, normalnet=None, detector=None),
        "settings": {
            "photo": args.photo.name,
            "pixels": list(image.shape[:2]),
            "threads": args.threads,
            "rounds": args.rounds,
        },
        "steps": {
            name: {backend: times[f"{backend}: {name}"] for backend in BACKENDS}
            for name in (key.removeprefix("torch: ") for key in times if key.startswith("torch: "))
        },
        "differences": differences(*faces.values()),
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
