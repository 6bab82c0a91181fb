"""A stand-in for nvdiffrast.torch, on the CPU and by brute force, as strict as the real one.

It follows the documentation and the kernels of nvdiffrast 0.4: clip space, the row of y = -1 first,
the smaller z/w in front, no culling, results (u, v, z/w, id + 1) with u and v the weights of
corners 0 and 1, an "instanced" and a "range" mode, an area that is 1e-6 larger in the gradient,
contiguous float32 and int32 only. Not imitated: corners rounded to 1/16 of a pixel, and what
`antialias` does to colors.
"""

import torch
from torch import Tensor

calls: list[str] = []


class RasterizeCudaContext:
    """Counted, because a context is dear and should be kept."""

    made = 0

    def __init__(self, device: torch.device | None = None) -> None:
        type(self).made += 1


def check(tensor: Tensor, dtype: torch.dtype, *shape: int | None) -> None:
    assert tensor.dtype == dtype and tensor.is_contiguous()
    assert len(shape) == tensor.ndim
    assert all(n is None or n == m for n, m in zip(shape, tensor.shape, strict=True)), tensor.shape


def rasterize(
    glctx: RasterizeCudaContext,
    pos: Tensor,
    tri: Tensor,
    resolution: tuple[int, int],
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    calls.append("rasterize")
    assert isinstance(glctx, RasterizeCudaContext)
    check(tri, torch.int32, None, 3)
    assert len(tri) > 0 and pos.numel() > 0
    height, width = resolution
    if pos.ndim == 2:
        check(pos, torch.float32, None, 4)
        check(ranges, torch.int32, None, 2)
        images = [(pos, start, count) for start, count in ranges.tolist()]
    else:
        check(pos, torch.float32, None, None, 4)
        images = [(mesh, 0, len(tri)) for mesh in pos]
    rows = [
        _image(mesh, tri[start:][:count], start, height, width) for mesh, start, count in images
    ]
    raster = torch.stack(rows)
    return raster, torch.zeros_like(raster)


def _image(mesh: Tensor, tri: Tensor, start: int, height: int, width: int) -> Tensor:
    corners = mesh[tri.long()]  # (triangles, 3, 4)
    corners = corners[:, None, None]
    y, x = torch.meshgrid(
        (2 * torch.arange(height) + 1) / height - 1,
        (2 * torch.arange(width) + 1) / width - 1,
        indexing="ij",
    )
    px = corners[..., 0] - x[..., None] * corners[..., 3]  # (triangles, height, width, 3)
    py = corners[..., 1] - y[..., None] * corners[..., 3]
    a = px.roll(-1, -1) * py.roll(-2, -1) - py.roll(-1, -1) * px.roll(-2, -1)
    area = a.sum(-1)
    inside = ((a >= 0).all(-1) | (a <= 0).all(-1)) & (area != 0)
    area = torch.where(inside, area, 1.0)[..., None]
    b = a / (
        area + torch.copysign(torch.tensor(1e-6), area)
    )  # what its gradient takes the area for
    b = b + (a / area - b).detach()
    z = (b * (corners[..., 2] / corners[..., 3])).sum(-1)
    z = torch.where(inside & (z.abs() <= 1), z, torch.inf)
    nearest, winner = z.detach().min(dim=0)
    seen = nearest.isfinite()
    b = b.gather(0, winner[None, ..., None].expand(1, -1, -1, 3))[0]
    number = (winner + start + 1).float()
    raster = torch.stack([b[..., 0], b[..., 1], nearest, number], dim=-1)
    return torch.where(seen[..., None], raster, 0.0)


def interpolate(attr: Tensor, rast: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    calls.append("interpolate")
    check(rast, torch.float32, None, None, None, 4)
    check(tri, torch.int32, None, 3)
    check(attr, torch.float32, None, None, None)
    assert len(attr) in (1, len(rast))
    face = rast[..., 3].long() - 1
    corners = tri.long()[face.clamp(min=0)]
    item = torch.arange(len(rast))[:, None, None, None] if len(attr) > 1 else 0
    values = attr[item, corners]  # (batch, height, width, 3, channels)
    u, v = rast[..., 0:1], rast[..., 1:2]
    image = u * values[..., 0, :] + v * values[..., 1, :] + (1 - u - v) * values[..., 2, :]
    return torch.where(face[..., None] >= 0, image, 0.0), image.new_zeros(*rast.shape[:3], 0)


def antialias(color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor) -> Tensor:
    """Adds the mean position to every color instead of blending at outlines."""
    calls.append("antialias")
    check(rast, torch.float32, None, None, None, 4)
    check(color, torch.float32, *rast.shape[:3], None)
    check(tri, torch.int32, None, 3)
    check(pos, torch.float32, len(rast), None, 4)
    depth, _ = interpolate((pos[..., 2:3] / pos[..., 3:]).detach().contiguous(), rast, tri)
    assert torch.allclose(depth[..., 0], rast[..., 2], atol=1e-6), "z/w decides which edge is seen"
    return color + (pos[..., :2] / pos[..., 3:]).mean()
