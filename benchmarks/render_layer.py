"""Time the rasterizer and the whole rendering layer with both backends; prints JSON.

Usage: python benchmarks/render_layer.py --threads 1
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from facerecon.camera import join, project
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import rasterize
from facerecon.render import render


def median_ms(step: Callable[[], None], repeats: int, device: torch.device) -> float:
    """Median wall-clock time of `step` in milliseconds, after one run to compile and warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def measure(
    model: MorphableModel, r: Tensor, size: int, backend: str, repeats: int
) -> dict[str, float]:
    """Medians in ms per batch: visibility alone, maps without and with gradients to r."""
    coefficients, pose = r[:, : model.n_coefficients], r[:, model.n_coefficients :]
    projected = project(model.vertices(coefficients), pose, size)
    leaf = r.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            render(model, r, size, backend)

    def forward_and_backward() -> None:
        leaf.grad = None
        rendering = render(model, leaf, size, backend)
        (rendering.depth.mean() + rendering.normals.square().mean()).backward()

    steps = {
        "rasterize": lambda: rasterize(projected, model.triangles, size, size, backend),
        "render": forward,
        "render_and_backward": forward_and_backward,
    }
    return {name: median_ms(step, repeats, r.device) for name, step in steps.items()}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=200, help="side of the maps in pixels")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    model = MorphableModel.default()
    coefficients = model.sample(options.batch, generator)
    pose = 0.5 * torch.randn(options.batch, 6, generator=generator)
    model, r = model.to(device), join(coefficients, pose).to(device)

    covered = render(model, r, options.size).mask.float().mean().item()
    backends = ("numba", "torch") if device.type == "cpu" else ("torch",)
    milliseconds = {
        backend: measure(model, r, options.size, backend, options.repeats) for backend in backends
    }
    report = {
        "options": vars(options),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "vertices": model.mean.shape[0],
        "triangles": len(model.triangles),
        "foreground": round(covered, 3),
        "median_ms_per_batch": milliseconds,
        "images_per_second": {
            backend: {step: round(1e3 * options.batch / ms, 1) for step, ms in steps.items()}
            for backend, steps in milliseconds.items()
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
