"""Interpolation over the visible triangles as compiled loops: the "numba" backend, CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from facerecon.backend import as_array, as_indices, over_batch

# Channels that a kernel interpolates at once: as many copies of it are compiled, each unrolled.
CHANNELS_AT_ONCE = 4


def interpolate(attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor) -> Tensor:
    """The images (batch, channels, height, width) of `rasterize.interpolate`."""
    return _Interpolate.apply(attributes, triangle, weights, triangles)


def interpolate_unit(
    vectors: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor, shortest: float
) -> Tensor:
    """The images (batch, 3, height, width) of `rasterize.interpolate_unit`."""
    return _InterpolateUnit.apply(vectors, triangle, weights, triangles, shortest)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor
    ) -> Tensor:
        ctx.save_for_backward(attributes, triangle, weights, triangles)
        batch, height, width = triangle.shape
        n_channels = attributes.shape[2]
        result = attributes.new_empty(batch, n_channels, height, width)
        indices = as_indices(triangles, attributes.shape[1])
        arrays = (*map(as_array, (triangle, weights, attributes)), result.numpy())
        for channels in _groups(n_channels):
            over_batch(_interpolate_kernel, batch, indices, *arrays, *channels)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        attributes, triangle, weights, triangles = ctx.saved_tensors
        shared, n_vertices, n_channels = attributes.shape
        batch = len(triangle)
        indices = as_indices(triangles, n_vertices)
        to_attributes = to_weights = None
        pixels, image = tuple(map(as_array, (triangle, weights))), as_array(gradient)
        if ctx.needs_input_grad[0]:
            to_attributes = gradient.new_zeros(batch, n_vertices, n_channels)
            for channels in _groups(n_channels):
                arrays = (indices, *pixels, image, to_attributes.numpy())
                over_batch(_attributes_backward_kernel, batch, *arrays, *channels)
            if shared != batch:
                to_attributes = to_attributes.sum(dim=0, keepdim=True)
        if ctx.needs_input_grad[2]:
            to_weights = torch.empty_like(weights)
            arrays = (indices, pixels[0], as_array(attributes), image, to_weights.numpy())
            over_batch(_weight_gradient_kernel, batch, *arrays)
        return to_attributes, None, to_weights, None


class _InterpolateUnit(torch.autograd.Function):
    """In one pass each way, without the map of what is not yet unit."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        triangle: Tensor,
        weights: Tensor,
        triangles: Tensor,
        shortest: float,
    ) -> Tensor:
        ctx.save_for_backward(vectors, triangle, weights, triangles)
        ctx.shortest = shortest
        batch, height, width = triangle.shape
        result = vectors.new_empty(batch, 3, height, width)
        indices = as_indices(triangles, vectors.shape[1])
        arrays = (*map(as_array, (triangle, weights, vectors)), result.numpy())
        over_batch(_unit_kernel, batch, indices, *arrays, shortest)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        vectors, triangle, weights, triangles = ctx.saved_tensors
        batch = len(triangle)
        to_vectors = gradient.new_zeros(batch, *vectors.shape[1:])
        to_weights = gradient.new_empty(weights.shape if ctx.needs_input_grad[2] else (0, 0, 0, 3))
        indices = as_indices(triangles, vectors.shape[1])
        arrays = map(as_array, (triangle, weights, vectors, gradient))
        results = to_vectors.numpy(), to_weights.numpy()
        over_batch(_unit_backward_kernel, batch, indices, *arrays, *results, ctx.shortest)
        if len(vectors) != batch:
            to_vectors = to_vectors.sum(dim=0, keepdim=True)
        return to_vectors, None, to_weights if ctx.needs_input_grad[2] else None, None, None


def _groups(n_channels: int) -> list[tuple[int, tuple[int, ...]]]:
    """First channel of each group, and the group as a tuple, whose length numba compiles in."""
    step = CHANNELS_AT_ONCE
    return [(first, (0,) * min(step, n_channels - first)) for first in range(0, n_channels, step)]


@njit(nogil=True, cache=True)
@no_type_check
def _interpolate_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    attributes: np.ndarray,
    result: np.ndarray,
    first: int,
    channels: tuple,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    for item in range(start, stop):
        values = attributes[item if len(attributes) > 1 else 0]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    for c in range(len(channels)):
                        result[item, first + c, row, column] = 0
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                wi = weights[item, row, column, 0]
                wj = weights[item, row, column, 1]
                wk = weights[item, row, column, 2]
                for c in range(len(channels)):
                    a = first + c
                    value = wi * values[i, a] + wj * values[j, a] + wk * values[k, a]
                    result[item, a, row, column] = value


@njit(nogil=True, cache=True)
@no_type_check
def _attributes_backward_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
    first: int,
    channels: tuple,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    for item in range(start, stop):
        out = result[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                wi = weights[item, row, column, 0]
                wj = weights[item, row, column, 1]
                wk = weights[item, row, column, 2]
                for c in range(len(channels)):
                    a = first + c
                    g = gradient[item, a, row, column]
                    out[i, a] += wi * g
                    out[j, a] += wj * g
                    out[k, a] += wk * g


@njit(nogil=True, cache=True)
@no_type_check
def _weight_gradient_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    attributes: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    for item in range(start, stop):
        values = attributes[item if len(attributes) > 1 else 0]
        for row in range(height):
            for column in range(width):
                out = result[item, row, column]
                out[:] = 0
                if triangle[item, row, column] < 0:
                    continue
                t = np.uint32(triangle[item, row, column])
                for c in range(values.shape[1]):
                    g = gradient[item, c, row, column]
                    for corner in range(3):
                        out[corner] += g * values[triangles[t, corner], c]


@njit(nogil=True, cache=True)
@no_type_check
def _mixed(values: np.ndarray, i: int, j: int, k: int, weight: np.ndarray, c: int) -> float:
    return weight[0] * values[i, c] + weight[1] * values[j, c] + weight[2] * values[k, c]


@njit(nogil=True, cache=True)
@no_type_check
def _unit_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    vectors: np.ndarray,
    result: np.ndarray,
    shortest: float,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    least = vectors.dtype.type(shortest * shortest)
    for item in range(start, stop):
        values = vectors[item if len(vectors) > 1 else 0]
        out = result[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    out[0, row, column] = out[1, row, column] = out[2, row, column] = 0
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                weight = weights[item, row, column]
                x = _mixed(values, i, j, k, weight, 0)
                y = _mixed(values, i, j, k, weight, 1)
                z = _mixed(values, i, j, k, weight, 2)
                length = np.sqrt(max(x * x + y * y + z * z, least))
                out[0, row, column] = x / length
                out[1, row, column] = y / length
                out[2, row, column] = z / length


@njit(nogil=True, cache=True)
@no_type_check
def _unit_backward_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    vectors: np.ndarray,
    gradient: np.ndarray,
    to_vectors: np.ndarray,
    to_weights: np.ndarray,
    shortest: float,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    least = vectors.dtype.type(shortest * shortest)
    zero = vectors.dtype.type(0)
    for item in range(start, stop):
        values = vectors[item if len(vectors) > 1 else 0]
        out, g = to_vectors[item], gradient[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    if len(to_weights) > 0:
                        to_weights[item, row, column] = 0
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                weight = weights[item, row, column]
                x = _mixed(values, i, j, k, weight, 0)
                y = _mixed(values, i, j, k, weight, 1)
                z = _mixed(values, i, j, k, weight, 2)
                gx, gy, gz = g[0, row, column], g[1, row, column], g[2, row, column]
                squared = x * x + y * y + z * z
                # The part of the gradient along the vector would only change its length.
                along = (x * gx + y * gy + z * gz) / squared if squared > least else zero
                inverse = 1 / np.sqrt(max(squared, least))
                gx, gy, gz = (
                    (gx - along * x) * inverse,
                    (gy - along * y) * inverse,
                    (gz - along * z) * inverse,
                )
                for corner in range(3):
                    v = triangles[t, corner]
                    out[v, 0] += weight[corner] * gx
                    out[v, 1] += weight[corner] * gy
                    out[v, 2] += weight[corner] * gz
                    if len(to_weights) > 0:
                        change = gx * values[v, 0] + gy * values[v, 1] + gz * values[v, 2]
                        to_weights[item, row, column, corner] = change
