"""The z-buffer as compiled loops, and the gradient of its weights: the "numba" backend, CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from facerecon.backends.threads import as_array, as_indices, over_batch

LANES = 32  # triangles that are tested together, with the processor's vector instructions
SIDES = 8  # boxes from this side on count as equally large when triangles are sorted
# What is known of the triangles of a block, field by field: three corners (x, y, z), then the
# first column and row of the bounding box, then the last ones, and the depth at the tested pixel.
FIELDS, DEPTH = 14, 13


def rasterize(
    projected: Tensor, triangles: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Triangle ids and weights of `rasterize.Fragments`; the weights differentiable in x and y."""
    return _Rasterize.apply(projected, triangles, height, width)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, triangles: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        batch = len(projected)
        triangle = torch.empty(batch, height, width, dtype=torch.int32)
        weights = torch.empty(batch, height, width, 3, dtype=projected.dtype)
        indices = as_indices(triangles, projected.shape[1])
        arrays = (as_array(projected), indices, triangle.numpy(), weights.numpy())
        over_batch(_rasterize_kernel, batch, *arrays)
        ctx.save_for_backward(projected, triangles, triangle, weights)
        ctx.mark_non_differentiable(triangle)
        ctx.set_materialize_grads(False)
        return triangle, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: None, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:  # it would stand for zeros, and so does this
            return None, None, None, None
        projected, triangles, triangle, weights = ctx.saved_tensors
        result = torch.zeros(projected.shape, dtype=projected.dtype)
        indices = as_indices(triangles, projected.shape[1])
        arrays = map(as_array, (triangle, weights, projected, gradient))
        over_batch(_weights_backward_kernel, len(projected), indices, *arrays, result.numpy())
        return result, None, None, None


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _edge_functions(
    xi: float, yi: float, xj: float, yj: float, xk: float, yk: float
) -> tuple[float, float, float]:
    """Twice the signed areas that the origin spans with the sides opposite to i, j and k."""
    # Rows run downward, which makes front faces clockwise on the grid: hence y x - x y.
    return yj * xk - xj * yk, yk * xi - xk * yi, yi * xj - xi * yj


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _range(a: float, b: float, c: float, end: float) -> tuple[float, float]:
    """First and last column (row) of the image between three corners; last < first: none."""
    zero = end - end  # of the coordinates' type
    return np.ceil(max(min(a, b, c), zero)), np.floor(min(max(a, b, c), end))


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
    weights: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    nearest = np.empty(height * width, np.float32)
    kinds = np.empty(len(triangles), np.uint8)
    order = np.empty(len(triangles) + LANES, np.uint32)
    mesh = np.empty((3, projected.shape[1]), projected.dtype)
    for item in range(start, stop):
        for v in range(projected.shape[1]):
            for axis in range(3):
                mesh[axis, v] = projected[item, v, axis]
        nearest[:] = -np.inf
        triangle[item] = -1
        _box_kinds(mesh, triangles, height, width, kinds)
        first, past = _sort(kinds, order)
        visible = triangle[item].reshape(height * width)
        _draw(mesh, triangles, order[first:past], height, width, nearest, visible)
        _weigh(mesh, triangles, triangle[item], weights[item])


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _box_kinds(
    mesh: np.ndarray, triangles: np.ndarray, height: int, width: int, kinds: np.ndarray
) -> None:
    """Tell by the sides of its bounding box what kind a triangle is; 0: it covers no pixel.

    Back faces and what lies outside or between the pixel centers go without a branch that the
    processor would have to guess.
    """
    x, y = mesh[0], mesh[1]
    real = mesh.dtype.type
    zero, most = real(0), real(SIDES - 1)
    right_end, bottom_end = real(width - 1), real(height - 1)
    for t in range(len(triangles)):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        xi, xj, xk, yi, yj, yk = x[i], x[j], x[k], y[i], y[j], y[k]
        left, right = _range(xi, xj, xk, right_end)
        top, bottom = _range(yi, yj, yk, bottom_end)
        front = (yj - yi) * (xk - xi) - (xj - xi) * (yk - yi) > zero
        kind = np.uint8(1 + min(right - left, most) + SIDES * min(bottom - top, most))
        kinds[t] = kind if front & (right >= left) & (bottom >= top) else np.uint8(0)


@njit(nogil=True, cache=True)
@no_type_check
def _sort(kinds: np.ndarray, order: np.ndarray) -> tuple[int, int]:
    """The triangles to rasterize, sorted by kind, and where they begin and end in `order`.

    The last is repeated until the lanes are full, which does no harm.
    """
    place = np.zeros(SIDES * SIDES + 2, np.uint32)
    one = np.uint32(1)
    for t in range(len(kinds)):
        place[kinds[t] + 1] += one
    for kind in range(SIDES * SIDES + 1):
        place[kind + 1] += place[kind]
    first, past = place[1], np.uint32(len(kinds))
    for t in range(len(kinds)):
        order[place[kinds[t]]] = t
        place[kinds[t]] += one
    while (past - first) % LANES:
        order[past] = order[past - one]
        past += one
    return first, past


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _draw(
    mesh: np.ndarray,
    triangles: np.ndarray,
    order: np.ndarray,
    height: int,
    width: int,
    nearest: np.ndarray,
    visible: np.ndarray,
) -> None:
    """The z-buffer; `nearest` and `visible` have one entry per pixel, row by row."""
    x, y, z = mesh[0], mesh[1], mesh[2]
    real = mesh.dtype.type
    right_end, bottom_end = real(width - 1), real(height - 1)
    block = np.empty(FIELDS * LANES, mesh.dtype)
    pixel, hits = np.empty(LANES, np.uint32), np.empty(LANES, np.uint32)
    for base in range(0, len(order), LANES):
        columns, rows = real(0), real(0)
        for lane in range(LANES):
            t = order[base + lane]
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            left, right = _range(x[i], x[j], x[k], right_end)
            top, bottom = _range(y[i], y[j], y[k], bottom_end)
            corners = (x[i], y[i], z[i], x[j], y[j], z[j], x[k], y[k], z[k])
            for field, value in enumerate((*corners, left, top, right, bottom)):
                block[field * LANES + lane] = value
            columns, rows = max(columns, right - left), max(rows, bottom - top)
            pixel[lane] = np.uint32(top) * np.uint32(width) + np.uint32(left)
        for row in range(np.uint32(rows) + 1):
            for column in range(np.uint32(columns) + 1):
                _test(block, real(column), real(row))
                count = 0  # compact first: a branch per lane would be guessed wrong too often
                for lane in range(LANES):
                    hits[count] = lane
                    count += block[DEPTH * LANES + lane] > -np.inf
                step = np.uint32(row * width + column)
                for hit in range(count):
                    lane = hits[hit]
                    at, t = pixel[lane] + step, np.int32(order[base + lane])
                    depth = np.float32(block[DEPTH * LANES + lane])
                    if depth > nearest[at] or (depth == nearest[at] and t < visible[at]):
                        nearest[at] = depth
                        visible[at] = t


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _test(block: np.ndarray, column: float, row: float) -> None:
    """Depths of a block's triangles at one pixel of the box of each; -inf where not covered.

    All fields lie in one array at constant distances: so the compiler sees that the lanes are
    independent, and makes vector instructions of this loop.
    """
    zero, lowest = block.dtype.type(0), block.dtype.type(-np.inf)
    for lane in range(LANES):
        u, v = block[9 * LANES + lane] + column, block[10 * LANES + lane] + row
        xi, yi = block[lane] - u, block[LANES + lane] - v
        xj, yj = block[3 * LANES + lane] - u, block[4 * LANES + lane] - v
        xk, yk = block[6 * LANES + lane] - u, block[7 * LANES + lane] - v
        zi, zj, zk = block[2 * LANES + lane], block[5 * LANES + lane], block[8 * LANES + lane]
        in_box = (u <= block[11 * LANES + lane]) & (v <= block[12 * LANES + lane])
        ei, ej, ek = _edge_functions(xi, yi, xj, yj, xk, yk)
        area = ei + ej + ek
        covers = in_box & (ei >= zero) & (ej >= zero) & (ek >= zero) & (area > zero)
        depth = zi + (ej * (zj - zi) + ek * (zk - zi)) / area
        block[DEPTH * LANES + lane] = depth if covers else lowest


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _weigh(
    mesh: np.ndarray, triangles: np.ndarray, triangle: np.ndarray, weights: np.ndarray
) -> None:
    """Barycentric weights of the visible triangles: cheaper than writing them on every win."""
    x, y = mesh[0], mesh[1]
    real = mesh.dtype.type
    zero, one = real(0), real(1)
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            weight = weights[row, column]
            if triangle[row, column] < 0:
                weight[0] = weight[1] = weight[2] = zero
                continue
            t = np.uint32(triangle[row, column])
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v = real(column), real(row)
            xi, xj, xk, yi, yj, yk = x[i] - u, x[j] - u, x[k] - u, y[i] - v, y[j] - v, y[k] - v
            ei, ej, ek = _edge_functions(xi, yi, xj, yj, xk, yk)
            inverse = one / (ei + ej + ek)
            weight[0], weight[1], weight[2] = ei * inverse, ej * inverse, ek * inverse


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _weights_backward_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    projected: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    for item in range(start, stop):
        mesh, out = projected[item], result[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                xi, xj, xk = mesh[i, 0], mesh[j, 0], mesh[k, 0]
                yi, yj, yk = mesh[i, 1], mesh[j, 1], mesh[k, 1]
                area = (yj - yi) * (xk - xi) - (xj - xi) * (yk - yi)
                g = gradient[item, row, column]
                # How the loss changes as the pixel moves over its triangle ...
                along_x = (g[0] * (yk - yj) + g[1] * (yi - yk) + g[2] * (yj - yi)) / area
                along_y = (g[0] * (xj - xk) + g[1] * (xk - xi) + g[2] * (xi - xj)) / area
                # ... and moving corner m by d is moving the pixel by -weight_m d.
                weight = weights[item, row, column]
                out[i, 0] -= weight[0] * along_x
                out[i, 1] -= weight[0] * along_y
                out[j, 0] -= weight[1] * along_x
                out[j, 1] -= weight[1] * along_y
                out[k, 0] -= weight[2] * along_x
                out[k, 1] -= weight[2] * along_y
