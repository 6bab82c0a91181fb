"""The "nvdiffrast" backend of `rasterize`: NVIDIA's rasterizer, float32, on an NVIDIA GPU.

nvdiffrast is optional and imported by the functions that call it (docs/gpu.md). Its image has clip
space at -1 ... 1 with the *smaller* z in front, and the row of y = -1 first. Rows that run downward
are therefore just y that runs downward: nothing needs to be turned upside down afterwards.
"""

import threading
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

# nvdiffrast returns triangle ids as floats, which count without gaps up to here.
MAX_ID = 1 << 24
# Depths fill clip space almost: at +-1 rounding would clip the nearest and the farthest vertex.
DEPTH_RANGE = 0.99
# The fourth coordinate. nvdiffrast adds 1e-6 to a triangle's area in clip space (times w squared)
# before it divides a gradient by it; with w = 1 that would halve the gradient of a triangle of half
# a pixel in a map of 2048. A large w leaves every result as it is, and a power of two exactly so.
W = 1024.0


def rasterize(
    projected: Tensor, triangles: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Triangle ids and weights of `rasterize.Fragments`; the weights differentiable in x and y.

    Raises:
        ValueError: the batch holds more triangles than nvdiffrast can number.
    """
    batch, n_vertices = projected.shape[:2]
    if batch * len(triangles) >= MAX_ID:
        raise ValueError(
            f"nvdiffrast numbers up to {MAX_ID - 1} triangles at once, got {batch} meshes of "
            f"{len(triangles)}; render fewer at a time"
        )
    if batch == 0 or len(triangles) == 0:  # nvdiffrast refuses
        triangle = torch.full((batch, height, width), -1, dtype=torch.int32)
        return triangle.to(projected.device), projected.new_zeros(batch, height, width, 3)
    dr = _nvdiffrast()
    # One mesh after the other in one list ("range mode"), so that each image has its own culling:
    # a back face collapses into its mesh's first vertex, and a point is never rendered.
    count = torch.arange(batch, device=projected.device)
    first = (count * n_vertices)[:, None, None]
    kept = torch.where(_front(projected, triangles)[..., None], triangles + first, first)
    starts = torch.arange(batch, dtype=torch.int32) * len(triangles)  # stays on the CPU
    raster, _ = dr.rasterize(
        _context(dr, projected.device),
        to_clip(projected, height, width).flatten(0, 1),
        kept.flatten(0, 1).int().contiguous(),
        (height, width),
        ranges=torch.stack([starts, torch.full_like(starts, len(triangles))], dim=1),
        grad_db=False,
    )
    u, v, _, number = raster.unbind(3)
    seen = number > 0
    offset = (count * len(triangles)).int()[:, None, None]
    triangle = torch.where(seen, number.int() - 1 - offset, -1)
    return triangle, torch.stack([u, v, torch.where(seen, 1 - u - v, 0)], dim=3)


def interpolate(attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor) -> Tensor:
    """The images (batch, channels, height, width) of `rasterize.interpolate`."""
    if triangle.numel() == 0 or len(triangles) == 0:
        return attributes.new_zeros(len(triangle), attributes.shape[2], *triangle.shape[1:])
    raster = _raster(triangle, weights, torch.zeros_like(weights[..., 0]))
    image, _ = _nvdiffrast().interpolate(
        attributes.contiguous(), raster, triangles.int().contiguous()
    )
    return image.permute(0, 3, 1, 2)


def antialias(
    image: Tensor, triangle: Tensor, weights: Tensor, projected: Tensor, triangles: Tensor
) -> Tensor:
    """The image of `rasterize.antialias`."""
    if triangle.numel() == 0 or len(triangles) == 0:
        return image
    dr = _nvdiffrast()
    clip = to_clip(projected, triangle.shape[1], triangle.shape[2])
    depth = interpolate(clip[..., 2:3].detach() / W, triangle, weights.detach(), triangles)
    raster = _raster(triangle, weights.detach(), depth[:, 0])
    pixels = image.permute(0, 2, 3, 1).contiguous()
    smooth = dr.antialias(pixels, raster, clip, triangles.int().contiguous())
    return smooth.permute(0, 3, 1, 2)


def to_clip(projected: Tensor, height: int, width: int) -> Tensor:
    """Column, row, depth to nvdiffrast's homogeneous clip space; differentiable in x and y."""
    x = (2 * projected[..., 0] + 1) / width - 1
    y = (2 * projected[..., 1] + 1) / height - 1
    z = projected.detach()[..., 2]
    low, high = z.amin(1, keepdim=True), z.amax(1, keepdim=True)
    half = ((high - low) / 2).clamp_min(torch.finfo(z.dtype).tiny)
    z = -DEPTH_RANGE * ((z - low) / half - 1)
    return W * torch.stack([x, y, z, torch.ones_like(z)], dim=-1)


def _front(projected: Tensor, triangles: Tensor) -> Tensor:
    """Which triangles (batch, triangles) face the viewer."""
    x, y = projected.detach()[..., 0], projected.detach()[..., 1]
    i, j, k = triangles.unbind(1)
    xi, yi = x[:, i], y[:, i]
    return (y[:, j] - yi) * (x[:, k] - xi) - (x[:, j] - xi) * (y[:, k] - yi) > 0


def _raster(triangle: Tensor, weights: Tensor, depth: Tensor) -> Tensor:
    """nvdiffrast's (u, v, z/w, id + 1); u and v weigh the first two corners."""
    parts = (weights[..., 0], weights[..., 1], depth, (triangle + 1).to(weights.dtype))
    return torch.stack(parts, dim=3).contiguous()


def _nvdiffrast() -> ModuleType:
    import nvdiffrast.torch as dr

    return dr


_contexts = threading.local()  # a context's buffers belong to one thread


def _context(dr: ModuleType, device: torch.device) -> Any:
    """The rasterizer of this thread and device, made once."""
    known = _contexts.__dict__.setdefault("by_device", {})
    if device not in known:
        known[device] = dr.RasterizeCudaContext(device=device)
    return known[device]
