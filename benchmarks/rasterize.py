"""Time the rasterizer beside 3DDFA_V2's Sim3DR (C++) and Embree; prints JSON.

Usage: python benchmarks/rasterize.py --sim3dr PATH --out benchmarks/results/rasterize.json

PATH is a checkout of https://github.com/cleardusk/3DDFA_V2; its C++ is compiled in a temporary
folder with g++. All find the visible triangle and the weights of each pixel of the same faces.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from peers import PeerMissing, embree, sim3dr
from timing import finish, interleaved, machine, threads

from facerecon.camera import project
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import rasterize


def work_per_image(projected: np.ndarray, triangles: np.ndarray, ids: np.ndarray) -> dict[str, int]:
    """Front faces with a pixel center in their box, pixels in these boxes, pixels covered."""
    size = ids.shape[1]
    x, y, _ = np.moveaxis(projected[:, triangles], 3, 0)
    area = (y[..., 1] - y[..., 0]) * (x[..., 2] - x[..., 0])
    area -= (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0])
    columns, rows = (
        np.floor(a.max(2).clip(max=size - 1)) - np.ceil(a.min(2).clip(min=0)) + 1 for a in (x, y)
    )
    visible = (area > 0) & (columns > 0) & (rows > 0)
    counts = {
        "triangles": visible.sum(),
        "tests": (columns * rows)[visible].sum(),
        "covered": (ids >= 0).sum(),
    }
    return {name: round(float(count) / len(ids)) for name, count in counts.items()}


def on(number: int, step: Callable[[], object]) -> Callable[[], None]:
    """The same step on this many threads."""

    def run() -> None:
        with threads(number):
            step()

    return run


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sim3dr", type=Path, metavar="PATH", help="checkout of 3DDFA_V2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=200, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="compared with one thread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON there")
    options = parser.parse_args()

    generator = torch.Generator().manual_seed(options.seed)
    model = MorphableModel.default()
    pose = 0.5 * torch.randn(options.batch, 6, generator=generator)
    vertices = model.vertices(model.sample(options.batch, generator))
    projected = project(vertices, pose, options.size)
    triangles = model.triangles

    def ours(backend: str):
        return lambda: rasterize(projected, triangles, options.size, options.size, backend)

    expected = ours("numba")().triangle.numpy()
    steps, skipped, differing = {"numba": ours("numba")}, {}, {}
    arrays = (projected.numpy(), triangles.numpy(), options.size)
    with TemporaryDirectory() as folder:
        makers = {
            "sim3dr": lambda: sim3dr(options.sim3dr, Path(folder), *arrays),
            "embree": lambda: embree(*arrays),
        }
        for name, make in makers.items():
            try:
                steps[name] = make()
                differing[name] = float(np.mean(steps[name]() != expected))
            except PeerMissing as error:
                skipped[name] = str(error)
        with threads(1):
            single = interleaved(steps, options.rounds, options.batch)
            slow = interleaved({"torch": ours("torch")}, 3, options.batch)
    turns = {number: on(number, ours("numba")) for number in (1, options.threads)}
    turns = interleaved(turns, options.rounds, options.batch)
    alone, both = (turns[number] for number in (1, options.threads))

    speed = {name: row["images_per_second"] for name, row in single.items()}
    report = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("sim3dr", "out")},
        "machine": machine(),
        "triangles": len(triangles),
        "work_per_image": work_per_image(projected.numpy(), triangles.numpy(), expected),
        "foreground": round(float((expected >= 0).mean()), 3),
        "one_thread": single | slow,
        "all_threads": {"numba": both},
        "numba_over": {k: round(speed["numba"] / v, 2) for k, v in speed.items() if k != "numba"},
        "scaling": round(both["images_per_second"] / alone["images_per_second"], 2),
        "pixels_that_differ": differing,
        "skipped": skipped,
    }
    finish(report, options.out)


if __name__ == "__main__":
    main()
