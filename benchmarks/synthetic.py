"""Labeled photographs per second that the synthetic world makes, on one thread of a CPU.

    python benchmarks/synthetic.py [--size 200] [--batch 32] [--out FILE]

A sample is what training takes: the photograph, its r, an estimate r_t by Eq. (3), and the feedback
maps of r_t, hence two renders. "lit" is no more than these two renders, the linear model's albedo
under second-order spherical harmonics at the vertices, and the feedback maps; "plain" is such a
face before a soft gradient, with highlights, exposure and noise; "full" is the default. Times are
of the process, not of the clock, but other programs slow the memory down all the same;
`load_average` tells how many ran.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import finish, machine

from facerecon.coarsenet import feedback
from facerecon.lighting import LUMA, shade
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate, rasterize
from facerecon.render import place
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig

SEED = 0
CHUNK = 8  # faces at a time: their maps stay in the cache


def seconds(step: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Sorted times of `step`, after one run to compile and warm up."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeats + 1):
        start = clock()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return sorted(times[1:])


def speeds(times: list[float], batch: int) -> dict[str, float]:
    """What a list of sorted times means for one sample."""
    median = statistics.median(times)
    return {
        "per_second": round(batch / median, 1),
        "best_per_second": round(batch / times[0], 1),
        "ms_each": round(1000 * median / batch, 2),
    }


def lit(world: SyntheticWorld, batch: int) -> dict[str, Callable[[], object]]:
    """Shaded faces, alone and with the feedback maps of an estimate."""
    model, generator, size = world.model, world.generator(SEED), world.config.size
    luma = model.albedo_mean.new_tensor(LUMA)
    mean, basis = model.albedo_mean @ luma, model.albedo_basis @ luma

    def photographs():
        r = world.sample(batch, generator)
        albedo, light = (
            torch.randn(batch, count, generator=generator).to(mean) for count in (len(basis), 9)
        )
        light[:, 0] = 1
        reflected = (mean + albedo @ basis)[:, None, None]  # (batch, 1, 1, vertices)
        camera_vertices, projected = place(model, r, size)
        images = []
        for first in range(0, batch, CHUNK):
            part = slice(first, first + CHUNK)
            normals = vertex_normals(camera_vertices[part], model.triangles).mT[:, :, None]
            colors = shade(reflected[part], 0.3 * light[part], normals).clamp(0, 1)
            fragments = rasterize(projected[part], model.triangles, size, size)
            images.append(interpolate(colors[:, 0].mT, fragments, model.triangles))
        return torch.cat(images), r

    def samples():
        image, r = photographs()
        return feedback(model, image, world.feedback(r, generator))

    return {"photographs": photographs, "samples": samples}


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/synthetic.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    model = MorphableModel.default().to(device)
    full = SyntheticConfig(size=args.size)
    settings = {"size": args.size, "batch": args.batch, "threads": args.threads}
    settings |= {"device": args.device, "repeats": args.repeats}
    result = {"settings": settings, "machine": machine()}
    with torch.no_grad():
        for kind, step in lit(SyntheticWorld(model, full.plain()), args.batch).items():
            result[f"lit_{kind}"] = speeds(seconds(step, args.repeats, device), args.batch)
        for name, config in (("plain", full.plain()), ("full", full)):
            world = SyntheticWorld(model, config)
            generator = world.generator(SEED)

            def photographs(world=world, generator=generator):
                return world.photographs(args.batch, generator)

            def samples(world=world, generator=generator):
                image, r = world.photographs(args.batch, generator)
                return feedback(model, image, world.feedback(r, generator))

            for kind, step in (("photographs", photographs), ("samples", samples)):
                times = seconds(step, args.repeats, device)
                result[f"{name}_{kind}"] = speeds(times, args.batch)
    finish(result, args.out)


if __name__ == "__main__":
    main()
