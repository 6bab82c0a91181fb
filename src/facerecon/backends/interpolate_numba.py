"""Interpolation over the visible triangles as compiled loops: the "numba" backend, CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from torch import Tensor

from facerecon.backends.compiled import njit
from facerecon.backends.threads import as_array, as_indices, over_batch

# Channels that a kernel interpolates at once: as many copies of it are compiled, each unrolled.
CHANNELS_AT_ONCE = 4


def interpolate(attributes: Tensor, triangle: Tensor, weights: Tensor, triangles: Tensor) -> Tensor:
    """The images (batch, channels, height, width) of `rasterize.interpolate`."""
    return _Interpolate.apply(attributes, triangle, weights, triangles)


def interpolate_maps(
    vertices: Tensor,
    normals: Tensor,
    pncc: Tensor,
    triangle: Tensor,
    weights: Tensor,
    triangles: Tensor,
    shortest: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three images of `rasterize.interpolate_maps`."""
    return _InterpolateMaps.apply(vertices, normals, pncc, triangle, weights, triangles, shortest)


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


class _InterpolateMaps(torch.autograd.Function):
    """All maps of a face in one pass each way."""

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        normals: Tensor,
        pncc: Tensor,
        triangle: Tensor,
        weights: Tensor,
        triangles: Tensor,
        shortest: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(vertices, normals, pncc, triangle, weights, triangles)
        ctx.shortest = shortest
        batch, height, width = triangle.shape
        maps = tuple(vertices.new_empty(batch, c, height, width) for c in (1, 3, 3))
        indices = as_indices(triangles, vertices.shape[1])
        arrays = map(as_array, (triangle, weights, vertices, normals, pncc))
        over_batch(_maps_kernel, batch, indices, *arrays, *(m.numpy() for m in maps), shortest)
        ctx.set_materialize_grads(False)
        if not ctx.needs_input_grad[4]:
            ctx.mark_non_differentiable(maps[2])  # fixed weights of a constant
        return maps

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        vertices, normals, pncc, triangle, weights, triangles = ctx.saved_tensors
        moving = ctx.needs_input_grad[4]
        images = [
            vertices.new_zeros(len(triangle), channels, *triangle.shape[1:]) if g is None else g
            for g, channels in zip(gradients, (1, 3, 3 if moving else 0), strict=True)
        ]
        results = torch.zeros_like(vertices), torch.zeros_like(normals)
        to_weights = torch.zeros_like(weights) if moving else None
        indices = as_indices(triangles, vertices.shape[1])
        arrays = map(as_array, (triangle, weights, vertices, normals, pncc, *images, *results))
        last = as_array(weights[:0] if to_weights is None else to_weights)
        over_batch(
            _maps_backward_kernel, len(triangle), indices, *arrays, last, ctx.shortest, moving
        )
        return *results, None, None, to_weights, None, None


def _groups(n_channels: int) -> list[tuple[int, tuple[int, ...]]]:
    """First channel of each group, and the group as a tuple, whose length numba compiles in."""
    step = CHANNELS_AT_ONCE
    return [(first, (0,) * min(step, n_channels - first)) for first in range(0, n_channels, step)]


@njit()
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


@njit()
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


@njit()
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


@njit()
@no_type_check
def mixed(values: np.ndarray, i: int, j: int, k: int, weight: np.ndarray, c: int) -> float:
    """Channel c of three vertices' values, Eq. (6)."""
    return weight[0] * values[i, c] + weight[1] * values[j, c] + weight[2] * values[k, c]


@njit()
@no_type_check
def _through_unit(vector: tuple, gradient: tuple, least: float) -> tuple:
    """The gradient to a vector from that to the vector made unit."""
    x, y, z = vector
    gx, gy, gz = gradient
    squared = x * x + y * y + z * z
    # The part of the gradient along the vector would only change its length.
    along = (x * gx + y * gy + z * gz) / squared if squared > least else least * 0
    inverse = 1 / np.sqrt(max(squared, least))
    return (gx - along * x) * inverse, (gy - along * y) * inverse, (gz - along * z) * inverse


@njit()
@no_type_check
def _maps_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    pncc: np.ndarray,
    depth_map: np.ndarray,
    normal_map: np.ndarray,
    pncc_map: np.ndarray,
    shortest: float,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    least = vertices.dtype.type(shortest * shortest)
    for item in range(start, stop):
        places, directions = vertices[item], normals[item]
        depth, unit, color = depth_map[item, 0], normal_map[item], pncc_map[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    depth[row, column] = 0
                    for c in range(3):
                        unit[c, row, column] = color[c, row, column] = 0
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                weight = weights[item, row, column]
                depth[row, column] = mixed(places, i, j, k, weight, 2)
                x = mixed(directions, i, j, k, weight, 0)
                y = mixed(directions, i, j, k, weight, 1)
                z = mixed(directions, i, j, k, weight, 2)
                length = np.sqrt(max(x * x + y * y + z * z, least))
                unit[0, row, column] = x / length
                unit[1, row, column] = y / length
                unit[2, row, column] = z / length
                for c in range(3):
                    color[c, row, column] = mixed(pncc, i, j, k, weight, c)


@njit()
@no_type_check
def _maps_backward_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    pncc: np.ndarray,
    to_depth: np.ndarray,
    to_normal: np.ndarray,
    to_pncc: np.ndarray,
    to_vertices: np.ndarray,
    to_normals: np.ndarray,
    to_weights: np.ndarray,
    shortest: float,
    moving: bool,
) -> None:
    height, width = triangle.shape[1], triangle.shape[2]
    least = vertices.dtype.type(shortest * shortest)
    for item in range(start, stop):
        values, out, g = normals[item], to_normals[item], to_normal[item]
        for row in range(height):
            for column in range(width):
                if triangle[item, row, column] < 0:
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                weight = weights[item, row, column]
                gz = to_depth[item, 0, row, column]
                g_unit = g[0, row, column], g[1, row, column], g[2, row, column]
                vector = (
                    mixed(values, i, j, k, weight, 0),
                    mixed(values, i, j, k, weight, 1),
                    mixed(values, i, j, k, weight, 2),
                )
                gx, gy, gn = _through_unit(vector, g_unit, least)
                for corner in range(3):
                    v = triangles[t, corner]
                    to_vertices[item, v, 2] += weight[corner] * gz
                    out[v, 0] += weight[corner] * gx
                    out[v, 1] += weight[corner] * gy
                    out[v, 2] += weight[corner] * gn
                    if moving:
                        change = gx * values[v, 0] + gy * values[v, 1] + gn * values[v, 2]
                        change += gz * vertices[item, v, 2]
                        for c in range(3):
                            change += to_pncc[item, c, row, column] * pncc[v, c]
                        to_weights[item, row, column, corner] = change
