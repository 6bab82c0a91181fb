"""The z-buffer and the interpolation as tensor operations on any device: the "torch" backend.

Every pixel of every front face's bounding box becomes a candidate; the visible one has the largest
key of depth and triangle id, found with one scattered maximum. No loop over triangles.
"""

from itertools import pairwise

import torch
from torch import Tensor

# Pixels tested at once: bounds the memory to a few hundred MB.
CANDIDATES_PER_CHUNK = 1 << 22


def rasterize(
    projected: Tensor, triangles: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Triangle ids and weights of `rasterize.Fragments`; the weights differentiable in x and y."""
    with torch.no_grad():
        triangle = _visible(projected, triangles, height, width)
    batch, n_vertices = projected.shape[:2]
    seen = (triangle >= 0).nonzero().squeeze(1)
    vertex = triangles[triangle[seen]] + (seen // (height * width) * n_vertices)[:, None]
    table = projected.flatten(0, 1)
    # index_select, because its backward is index_add, much faster than that of indexing.
    corners = torch.stack([table.index_select(0, index) for index in vertex.unbind(1)], dim=1)
    edge, area, _ = _edge_functions(corners, seen % width, seen // width % height)
    weights = edge * area.reciprocal()[:, None]
    image = projected.new_zeros(batch * height * width, 3).index_copy(0, seen, weights)
    shape = (batch, height, width)
    return triangle.int().unflatten(0, shape), image.unflatten(0, shape)


def interpolate(attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor) -> Tensor:
    """The images (batch, channels, height, width) of `rasterize.interpolate`."""
    shared, n_vertices, channels = attributes.shape
    batch, height, width = triangle.shape
    seen = (triangle.flatten() >= 0).nonzero().squeeze(1)
    vertex = triangles[triangle.flatten()[seen]]
    if shared > 1:
        vertex = vertex + (seen // (height * width) * n_vertices)[:, None]
    weight = weights.flatten(0, 2).index_select(0, seen)
    table = attributes.flatten(0, 1)
    value = sum(
        weight[:, corner, None] * table.index_select(0, vertex[:, corner]) for corner in range(3)
    )
    image = attributes.new_zeros(batch * height * width, channels).index_copy(0, seen, value)
    return image.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


def _visible(projected: Tensor, triangles: Tensor, height: int, width: int) -> Tensor:
    """The visible triangle's id (batch * height * width,), or -1."""
    batch, device = len(projected), projected.device
    corners = projected[:, triangles].flatten(0, 1)  # (batch * triangles, 3 corners, 3)
    low = corners[..., :2].amin(dim=1).ceil().clamp(min=0)
    limit = projected.new_tensor([width - 1, height - 1])
    high = corners[..., :2].amax(dim=1).floor().minimum(limit)
    (xi, yi), (xj, yj), (xk, yk) = (corners[:, c, :2].unbind(1) for c in range(3))
    front = (yj - yi) * (xk - xi) - (xj - xi) * (yk - yi) > 0
    front_faces = ((high >= low).all(dim=1) & front).nonzero().squeeze(1)
    corners, low = corners[front_faces], low[front_faces].long()
    box_width, box_height = (high[front_faces].long() - low + 1).unbind(1)
    item, face = front_faces // len(triangles), front_faces % len(triangles)
    box_size = box_width * box_height
    best = torch.full((batch * height * width,), torch.iinfo(torch.int64).min, device=device)
    for chunk in _chunks(box_size.cumsum(0)):
        # One candidate for each pixel of each triangle's bounding box.
        size = box_size[chunk]
        first = size.cumsum(0) - size
        owner = torch.arange(len(size), device=device).repeat_interleave(size)
        offset = torch.arange(len(owner), device=device) - first[owner]
        owner = owner + chunk.start
        row = torch.div(offset, box_width[owner], rounding_mode="floor")
        column = offset - row * box_width[owner] + low[owner, 0]
        row = row + low[owner, 1]
        edge, area, covers = _edge_functions(corners[owner], column, row)
        owner, row, column = owner[covers], row[covers], column[covers]
        _, ej, ek = edge[covers].unbind(1)
        zi, zj, zk = corners[owner, :, 2].unbind(1)
        depth = (zi + (ej * (zj - zi) + ek * (zk - zi)) / area[covers]).float()
        pixel = (item[owner] * height + row) * width + column
        best.scatter_reduce_(0, pixel, _pack(depth, face[owner]), "amax")
    return _unpack(best)


def _chunks(filled: Tensor) -> list[slice]:
    """Split triangles so that each part fills about `CANDIDATES_PER_CHUNK` pixels of boxes."""
    if len(filled) == 0:
        return []
    total = int(filled[-1])
    levels = list(range(CANDIDATES_PER_CHUNK, total, CANDIDATES_PER_CHUNK))
    cuts = torch.searchsorted(filled, filled.new_tensor(levels)).tolist() if levels else []
    bounds = [0, *cuts, len(filled)]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def _edge_functions(corners: Tensor, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The edge functions (n, 3), their sum, and whether the pixel is inside."""
    x = corners[..., 0] - column[:, None]
    y = corners[..., 1] - row[:, None]
    x_next, x_last = x.roll(-1, 1), x.roll(1, 1)
    y_next, y_last = y.roll(-1, 1), y.roll(1, 1)
    edge = y_next * x_last - x_next * y_last
    area = edge[:, 0] + edge[:, 1] + edge[:, 2]
    return edge, area, (edge >= 0).all(dim=1) & (area > 0)


def _pack(depth: Tensor, face: Tensor) -> Tensor:
    """A 64-bit key that grows with depth and, at equal depth, with falling triangle id."""
    bits = (depth + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # IEEE floats in the order of integers
    return (ordered.long() << 32) | (0x7FFFFFFF - face)


def _unpack(key: Tensor) -> Tensor:
    face = 0x7FFFFFFF - (key & 0xFFFFFFFF)
    return torch.where(key == torch.iinfo(torch.int64).min, -1, face)
