"""The z-buffer as compiled loops, and the gradient of its weights: the "numba" backend, CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from facerecon.backend import as_array, as_indices, over_batch


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
def _first_pixel(a: float, b: float, c: float, zero: float) -> float:
    """The first column (row) in the image that is not before all three corners."""
    return np.ceil(max(min(a, b, c), zero))  # `zero` and `end` are of the coordinates' type


@njit(nogil=True, cache=True, error_model="numpy")
@no_type_check
def _last_pixel(a: float, b: float, c: float, end: float) -> float:
    """Rounded down, the last column (row) in the image that is not behind all three corners."""
    return min(max(a, b, c), end)


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
    real = projected.dtype.type
    zero, one = real(0), real(1)
    past = np.uint32(1)
    right_end, bottom_end = real(width - 1), real(height - 1)
    nearest = np.empty((height, width), np.float32)
    drawn = np.empty(len(triangles), np.uint8)
    candidates = np.empty(len(triangles), np.uint32)
    coordinates = np.empty((3, projected.shape[1]), projected.dtype)
    x, y, z = coordinates[0], coordinates[1], coordinates[2]
    for item in range(start, stop):
        mesh = projected[item]
        for v in range(len(mesh)):
            x[v], y[v], z[v] = mesh[v, 0], mesh[v, 1], mesh[v, 2]
        # Front faces that may cover a pixel centre, without a branch that the processor would have
        # to guess: that costs less than the guesses of the loop over pixels.
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            xi, xj, xk, yi, yj, yk = x[i], x[j], x[k], y[i], y[j], y[k]
            front = (yj - yi) * (xk - xi) - (xj - xi) * (yk - yi) > zero
            columns = _first_pixel(xi, xj, xk, zero) <= _last_pixel(xi, xj, xk, right_end)
            rows = _first_pixel(yi, yj, yk, zero) <= _last_pixel(yi, yj, yk, bottom_end)
            drawn[t] = front & columns & rows
        n_candidates = 0
        for t in range(len(triangles)):
            candidates[n_candidates] = t
            n_candidates += drawn[t]
        visible = triangle[item]
        nearest[:] = -np.inf
        visible[:] = -1
        for t in candidates[:n_candidates]:
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            xi, xj, xk, yi, yj, yk = x[i], x[j], x[k], y[i], y[j], y[k]
            zi, zj, zk = z[i], z[j], z[k]
            left = np.uint32(_first_pixel(xi, xj, xk, zero))
            right = np.uint32(_last_pixel(xi, xj, xk, right_end))
            top = np.uint32(_first_pixel(yi, yj, yk, zero))
            bottom = np.uint32(_last_pixel(yi, yj, yk, bottom_end))
            for row in range(top, bottom + past):
                v = real(row)
                for column in range(left, right + past):
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
                weight = weights[item, row, column]
                if visible[row, column] < 0:
                    weight[0] = weight[1] = weight[2] = zero
                    continue
                t = np.uint32(visible[row, column])
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
                # How the loss changes as the pixel wanders over its triangle ...
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
