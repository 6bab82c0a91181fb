"""The z-buffer and the interpolation of vertex attributes over the visible triangles.

Both backends evaluate the same expressions in the same order and precision and therefore agree on
every pixel. Coverage has no tolerance: the edge functions of two triangles that share an edge
differ in sign alone, so a pixel centre on that edge is covered by at least one of them.
"""

import math
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numba import njit
from torch import Tensor

from facerecon.backend import as_array, choose_backend, over_batch
from facerecon.rasterize_torch import rasterize_torch
from facerecon.shapes import require_shape


class Fragments(NamedTuple):
    """What a pixel sees: the id of its triangle (-1: none) and the barycentric weights there."""

    triangle: Int[Tensor, "batch height width"]
    barycentric: Float[Tensor, "batch height width 3"]

    @property
    def mask(self) -> Bool[Tensor, "batch 1 height width"]:
        """True where a triangle is visible."""
        return (self.triangle >= 0).unsqueeze(1)


def rasterize(
    projected: Float[Tensor, "batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    height: int,
    width: int,
    backend: str = "auto",
) -> Fragments:
    """Find the visible triangle of each pixel; not differentiable.

    Only front faces are drawn. A pixel belongs to the triangle that covers its centre, of several
    to the nearest (depths compared in float32), of equally near ones to the lowest id.

    Args:
        projected: column, row (pixels) and depth (mm, larger is nearer).
        triangles: counter-clockwise seen from outside.
        height, width: of the image in pixels.
        backend: "numba" (CPU), "torch" (any device) or "auto".

    Raises:
        ValueError: wrong shapes, an empty image, a backend that does not suit the tensors, or a
            mesh with NaN or infinite coordinates.

    Source: section 4.1.
    """
    require_shape("projected", projected, None, None, 3)
    require_shape("triangles", triangles, None, 3)
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} x {width}")
    projected = projected.detach()
    finite = projected.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        items = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"projected vertices hold NaN or infinity in batch items {items}")
    if choose_backend(backend, projected) == "torch":
        return Fragments(*rasterize_torch(projected, triangles, height, width))
    batch = len(projected)
    triangle = torch.empty(batch, height, width, dtype=torch.int64)
    barycentric = torch.empty(batch, height, width, 3, dtype=projected.dtype)
    arrays = (as_array(projected), as_array(triangles), triangle.numpy(), barycentric.numpy())
    over_batch(_rasterize_kernel, batch, *arrays)
    return Fragments(triangle, barycentric)


def interpolate(
    attributes: Float[Tensor, "attribute_batch vertices channels"],
    fragments: Fragments,
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> Float[Tensor, "batch channels height width"]:
    """Interpolate vertex attributes over the visible triangles; 0 in the background.

    Differentiable in the attributes; the barycentric weights count as fixed, and hidden vertices
    get no gradient.

    Args:
        attributes: any unit; a batch of one is shared by all images.
        fragments: from `rasterize` with the same triangles.
        backend: "numba" (CPU), "torch" (any device) or "auto".

    Raises:
        ValueError: wrong shapes, batch sizes that do not fit, or an unsuitable backend.

    Source: Eqs. (6) and (7).
    """
    require_shape("attributes", attributes, None, None, None)
    require_shape("triangles", triangles, None, 3)
    batch = len(fragments.triangle)
    if len(attributes) not in (1, batch):
        raise ValueError(f"attributes must have batch size 1 or {batch}, got {len(attributes)}")
    weights = fragments.barycentric.to(attributes.dtype)
    if choose_backend(backend, attributes) == "numba":
        return _Interpolate.apply(attributes, fragments.triangle, weights, triangles)
    return _interpolate_torch(attributes, fragments.triangle, weights, triangles)


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _edge_functions(
    xi: float, yi: float, xj: float, yj: float, xk: float, yk: float
) -> tuple[float, float, float]:
    """Twice the signed areas that the origin spans with the sides opposite to i, j and k."""
    # Rows run downward, which makes front faces clockwise on the grid: hence y x - x y.
    return yj * xk - xj * yk, yk * xi - xk * yi, yi * xj - xi * yj


# No fastmath here: contraction to fused multiply-adds would break the antisymmetry of the edge
# functions, and with it watertightness and the agreement of the backends.
@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _rasterize_kernel(
    start: int,
    stop: int,
    projected: np.ndarray,
    triangles: np.ndarray,
    triangle: np.ndarray,
    barycentric: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    real = projected.dtype.type
    zero, one, past_right, past_bottom = real(0), real(1), real(width), real(height)
    nearest = np.empty((height, width), np.float32)
    for item in range(start, stop):
        mesh = projected[item]
        visible = triangle[item]
        weights = barycentric[item]
        nearest[:] = -np.inf
        visible[:] = -1
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            xi, xj, xk = mesh[i, 0], mesh[j, 0], mesh[k, 0]
            yi, yj, yk = mesh[i, 1], mesh[j, 1], mesh[k, 1]
            if (yj - yi) * (xk - xi) - (xj - xi) * (yk - yi) <= zero:
                continue
            # Clamped before the conversion to int, which far-away coordinates would overflow.
            left = math.ceil(min(max(min(xi, xj, xk), zero), past_right))
            right = math.floor(max(min(max(xi, xj, xk), past_right - one), -one))
            if left > right:
                continue
            top = math.ceil(min(max(min(yi, yj, yk), zero), past_bottom))
            bottom = math.floor(max(min(max(yi, yj, yk), past_bottom - one), -one))
            if top > bottom:
                continue
            zi, zj, zk = mesh[i, 2], mesh[j, 2], mesh[k, 2]
            for row in range(top, bottom + 1):
                v = real(row)
                for column in range(left, right + 1):
                    u = real(column)
                    ei, ej, ek = _edge_functions(xi - u, yi - v, xj - u, yj - v, xk - u, yk - v)
                    if min(ei, ej, ek) >= zero:
                        area = ei + ej + ek
                        if area > zero:
                            depth = np.float32(zi + (ej * (zj - zi) + ek * (zk - zi)) / area)
                            if depth > nearest[row, column]:
                                nearest[row, column] = depth
                                visible[row, column] = t
        # Weights only for the pixels' final triangles: cheaper than writing them on every win.
        for row in range(height):
            for column in range(width):
                t = visible[row, column]
                if t < 0:
                    weights[row, column] = zero
                    continue
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                u, v = real(column), real(row)
                xi, xj, xk = mesh[i, 0] - u, mesh[j, 0] - u, mesh[k, 0] - u
                yi, yj, yk = mesh[i, 1] - v, mesh[j, 1] - v, mesh[k, 1] - v
                ei, ej, ek = _edge_functions(xi, yi, xj, yj, xk, yk)
                inverse = one / (ei + ej + ek)
                weights[row, column, 0] = ei * inverse
                weights[row, column, 1] = ej * inverse
                weights[row, column, 2] = ek * inverse


class _Interpolate(torch.autograd.Function):
    """Compiled interpolation with fixed barycentric weights."""

    @staticmethod
    def forward(
        ctx: Any, attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor
    ) -> Tensor:
        ctx.save_for_backward(triangle, weights, triangles)
        ctx.shape = attributes.shape
        batch, height, width = triangle.shape
        result = attributes.new_empty(batch, attributes.shape[2], height, width)
        arrays = map(as_array, (triangle, weights, triangles, attributes))
        over_batch(_interpolate_kernel, batch, *arrays, result.numpy())
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        triangle, weights, triangles = ctx.saved_tensors
        shared, n_vertices, channels = ctx.shape
        result = gradient.new_zeros(len(triangle), n_vertices, channels)
        arrays = map(as_array, (triangle, weights, triangles, gradient))
        over_batch(_interpolate_backward_kernel, len(triangle), *arrays, result.numpy())
        if shared != len(triangle):
            result = result.sum(dim=0, keepdim=True)
        return result, None, None, None


@njit(nogil=True, cache=True)
@no_type_check
def _interpolate_kernel(
    start: int,
    stop: int,
    triangle: np.ndarray,
    weights: np.ndarray,
    triangles: np.ndarray,
    attributes: np.ndarray,
    result: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    channels = attributes.shape[2]
    for item in range(start, stop):
        values = attributes[item if len(attributes) > 1 else 0]
        for row in range(height):
            for column in range(width):
                t = triangle[item, row, column]
                if t < 0:
                    for c in range(channels):
                        result[item, c, row, column] = 0
                    continue
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                wi = weights[item, row, column, 0]
                wj = weights[item, row, column, 1]
                wk = weights[item, row, column, 2]
                for c in range(channels):
                    value = wi * values[i, c] + wj * values[j, c] + wk * values[k, c]
                    result[item, c, row, column] = value


@njit(nogil=True, cache=True)
@no_type_check
def _interpolate_backward_kernel(
    start: int,
    stop: int,
    triangle: np.ndarray,
    weights: np.ndarray,
    triangles: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    channels = result.shape[2]
    for item in range(start, stop):
        out = result[item]
        for row in range(height):
            for column in range(width):
                t = triangle[item, row, column]
                if t < 0:
                    continue
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                wi = weights[item, row, column, 0]
                wj = weights[item, row, column, 1]
                wk = weights[item, row, column, 2]
                for c in range(channels):
                    g = gradient[item, c, row, column]
                    out[i, c] += wi * g
                    out[j, c] += wj * g
                    out[k, c] += wk * g


def _interpolate_torch(
    attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor
) -> Tensor:
    shared, n_vertices, channels = attributes.shape
    batch, height, width = triangle.shape
    seen = (triangle.flatten() >= 0).nonzero().squeeze(1)
    vertex = triangles[triangle.flatten()[seen]]
    if shared > 1:
        vertex = vertex + (seen // (height * width) * n_vertices)[:, None]
    weight = weights.flatten(0, 2)[seen]
    table = attributes.flatten(0, 1)
    # index_select, because its backward is index_add, much faster than that of indexing.
    value = sum(
        weight[:, corner, None] * table.index_select(0, vertex[:, corner]) for corner in range(3)
    )
    image = attributes.new_zeros(batch * height * width, channels).index_copy(0, seen, value)
    return image.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)
