"""Time the rendering layer forward and backward, stage by stage and as a whole; prints JSON.

Usage: python benchmarks/render_layer.py --out benchmarks/results/render_layer.json
       python benchmarks/render_layer.py --device cuda --batch 64 --out FILE

Each stage has a floor: the time to read its inputs and write its results once at the speed of a
copy, or, for the morphable model's matrix product, to multiply at the speed of a square product.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from timing import bandwidth, finish, flops, interleaved, machine, threads
from torch import Tensor

from facerecon.backends.choose import nvdiffrast_problem
from facerecon.camera import join, to_camera, to_pixels
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate_maps, rasterize
from facerecon.render import render

WAYS = ("forward", "backward")


class Stage(NamedTuple):
    """One step of the layer: a function of tensors that take a gradient, and what else it reads."""

    run: Callable[..., tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...] = ()
    operations: float = 0


def stages(model: MorphableModel, r: Tensor, size: int, backend: str) -> dict[str, Stage]:
    """The stages of `render`, each on its own real inputs."""
    coefficients, pose = r[:, : model.n_coefficients], r[:, model.n_coefficients :]
    vertices = model.vertices(coefficients)
    camera_vertices = to_camera(vertices, pose)
    projected = to_pixels(camera_vertices, pose, size)
    triangles, pncc = model.triangles, model.pncc
    fragments = rasterize(projected, triangles, size, size, backend)
    normals = vertex_normals(camera_vertices, triangles, backend)

    def pose_vertices(vertices: Tensor, pose: Tensor) -> tuple[Tensor, ...]:
        turned = to_camera(vertices, pose)
        return turned, to_pixels(turned, pose, size)

    def maps(camera_vertices: Tensor, normals: Tensor) -> tuple[Tensor, ...]:
        return interpolate_maps(camera_vertices, normals, pncc, fragments, triangles, backend)

    products = 2 * len(r) * model.basis.numel()
    return {
        "decode (Eq. 1)": Stage(
            lambda c: (model.vertices(c),), (coefficients,), (model.basis,), products
        ),
        "pose (Eq. 5)": Stage(pose_vertices, (vertices, pose)),
        "visible triangles": Stage(
            lambda p: tuple(rasterize(p, triangles, size, size, backend)),
            (projected.detach(),),
            (triangles,),
        ),
        "vertex normals": Stage(
            lambda v: (vertex_normals(v, triangles, backend),), (camera_vertices,), (triangles,)
        ),
        "interpolation (Eqs. 6, 7)": Stage(
            maps, (camera_vertices, normals), (triangles, *fragments, pncc)
        ),
    }


def stage_table(
    found: dict[str, Stage], rounds: int, bytes_per_s: float, flops_per_s: float
) -> dict[str, dict[str, float]]:
    """Milliseconds per image of each stage, both ways, and their floors."""
    steps, floors = {}, {}
    batch = len(next(iter(found.values())).inputs[0])

    def floor_ms(tensors: tuple[Tensor, ...], operations: float) -> float:
        moved = sum(t.numel() * t.element_size() for t in tensors)
        return 1e3 * max(moved / bytes_per_s, operations / flops_per_s) / batch

    for name, (run, inputs, constants, operations) in found.items():
        leaves = tuple(value.detach().clone().requires_grad_() for value in inputs)
        outputs = run(*leaves)
        steps[name, "forward"] = lambda run=run, leaves=leaves: run(*leaves)
        floors[name, "forward"] = floor_ms((*inputs, *constants, *outputs), operations)
        moving = tuple(out for out in outputs if out.requires_grad)
        if not moving:
            continue
        gradients = tuple(torch.randn_like(out) for out in moving)
        steps[name, "backward"] = lambda moving=moving, leaves=leaves, gradients=gradients: (
            torch.autograd.grad(moving, leaves, gradients, retain_graph=True)
        )
        both_ways = (*inputs, *constants, *gradients, *leaves)
        floors[name, "backward"] = floor_ms(both_ways, operations)
    times = interleaved(steps, rounds, batch)
    return {
        name: {
            f"{way}_{kind}": round(value, 4)
            for way in WAYS
            if (name, way) in times
            for kind, value in (
                ("ms", times[name, way]["median_ms"]),
                ("cpu_ms", times[name, way]["cpu_ms"]),
                ("floor_ms", floors[name, way]),
            )
        }
        for name in found
    }


def layer(
    model: MorphableModel, r: Tensor, size: int, backend: str, gradient: str
) -> Callable[[], None]:
    """Forward and backward of a loss of depth and normals."""
    leaf = r.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        maps = render(model, leaf, size, backend, gradient)
        (maps.depth.mean() + maps.normals.square().mean()).backward()

    return step


def resident_mb() -> float | None:
    """Memory of this process, MB; None where the system does not tell."""
    file = Path("/proc/self/statm")
    return 4096e-6 * int(file.read_text().split()[1]) if file.is_file() else None


def memory(step: Callable[[], None], steps: int) -> dict[str, float | None]:
    """Memory after a tenth of the steps and after all of them."""
    report: dict[str, float | None] = {"steps": steps}
    for number in range(1, steps + 1):
        step()
        if number in (steps // 10, steps):
            report[f"resident_mb_after_{number}"] = resident_mb()
            if torch.cuda.is_available():
                report[f"gpu_mb_after_{number}"] = torch.cuda.memory_allocated() / 1e6
    return {k: None if v is None else round(v, 1) for k, v in report.items()}


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="compared with one thread")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=200, help="side of the maps in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1000, help="of the memory test, 4 faces each")
    parser.add_argument("--device", default="cpu", help="such as cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON there")
    options = parser.parse_args()

    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    model = MorphableModel.default()
    pose = 0.5 * torch.randn(options.batch, 6, generator=generator)
    r = join(model.sample(options.batch, generator), pose).to(device)
    model = model.to(device)
    skipped = {}
    backends = ["numba", "torch"]
    if device.type != "cpu":
        backends = ["torch"]
        if problem := nvdiffrast_problem():
            skipped["nvdiffrast"] = problem
        else:
            backends.insert(0, "nvdiffrast")
    fastest = backends[0]

    def whole(backend: str, faces: Tensor) -> dict[str, Callable[[], None]]:
        return {
            f"{backend}, {gradient}": layer(model, faces, options.size, backend, gradient)
            for gradient in ("fixed", "full")
        }

    with threads(1), torch.no_grad():
        found = stages(model, r, options.size, fastest)
        speeds = bandwidth(device), flops(device)
    with threads(1):
        table = stage_table(found, options.rounds, *speeds)
        single = interleaved(whole(fastest, r), options.rounds, options.batch)
        for backend in backends[1:]:  # much slower on the CPU: fewer faces
            few = r if device.type != "cpu" else r[:4]
            single |= interleaved(whole(backend, few), options.rounds, len(few))
    with threads(options.threads):
        several = interleaved(whole(fastest, r), options.rounds, options.batch)
        flat = memory(layer(model, r[:4], options.size, fastest, "full"), options.steps)

    floor = sum(row.get(f"{way}_floor_ms", 0) for row in table.values() for way in WAYS)
    for row in single.values():
        row["times_the_floor"] = round(row["median_ms"] / floor, 2)
    name = f"{fastest}, fixed"
    report = {
        "settings": {key: value for key, value in vars(options).items() if key != "out"},
        "machine": machine(),
        "copy_gb_per_s": round(speeds[0] / 1e9, 2),
        "gflop_per_s": round(speeds[1] / 1e9, 1),
        "stages": {"backend": fastest, **table},
        "floor_ms": round(floor, 4),
        "forward_and_backward_one_thread": single,
        "forward_and_backward_all_threads": several,
        "scaling": round(single[name]["median_ms"] / several[name]["median_ms"], 2),
        "memory": flat,
        "skipped": skipped,
    }
    finish(report, options.out)


if __name__ == "__main__":
    main()
