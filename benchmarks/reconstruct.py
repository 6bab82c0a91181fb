"""Time loading the networks, turning a photograph into a mesh, and the parts of that.

    python benchmarks/reconstruct.py [PHOTO] [--out benchmarks/results/reconstruct.json]

Without a photograph, the portrait that comes with matplotlib is taken.
"""

import argparse
import tempfile
import time
from pathlib import Path

import matplotlib
import torch
from timing import finish, interleaved, machine, made_with, threads

from facerecon.coarsenet import iterate
from facerecon.detection.detect import largest_face
from facerecon.imaging import load_image, to_grey
from facerecon.pipeline import Reconstructor


def main() -> None:
    """Measure and print."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=portrait)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--coarse", type=Path, help="other CoarseNet weights")
    parser.add_argument("--fine", type=Path, help="other FineNet weights")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    args = parser.parse_args()

    start = time.perf_counter()
    reconstruct = Reconstructor.from_pretrained(args.coarse, args.fine)
    loading = time.perf_counter() - start
    larger = Reconstructor.from_pretrained(args.coarse, args.fine, size=400)
    start = time.perf_counter()
    face = reconstruct(args.photo)  # the first call compiles kernels or reads their cache
    first = time.perf_counter() - start
    image, box = load_image(args.photo), face.box
    cut = torch.from_numpy(to_grey(face.crop.cut(image)))[None, None]
    network, model = reconstruct.coarsenet, reconstruct.model

    def iterations(number: int) -> None:
        with torch.inference_mode():
            iterate(network, model, cut, number)

    with tempfile.TemporaryDirectory() as folder, threads(args.threads):
        steps = {
            "photograph to mesh, 200 x 200": lambda: reconstruct(args.photo),
            "photograph to mesh, 400 x 400": lambda: larger(args.photo),
            "of the first: finding the face": lambda: largest_face(image),
            "of the first: all but finding the face": lambda: reconstruct(image, box),
            "of the first: CoarseNet, four iterations": lambda: iterations(4),
            "writing the mesh, .ply": lambda: face.save(Path(folder) / "face.ply"),
        }
        times = interleaved(steps, args.rounds)
    report = {
        "machine": machine(),
        **made_with(detector=None, coarsenet=args.coarse, normalnet=args.fine),
        "settings": {
            "photo": args.photo.name,
            "pixels": list(image.shape[:2]),
            "threads": args.threads,
            "rounds": args.rounds,
        },
        "load_networks_s": round(loading, 3),
        "first_photograph_s": round(first, 3),
        "steps": times,
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
