"""CoarseNet's input of a face's fragments in one compiled pass: the "numba" backend, CPU."""

from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from facerecon.backends.compiled import njit
from facerecon.backends.interpolate_numba import mixed
from facerecon.backends.threads import as_array, as_indices, over_batch

CHANNELS = 7  # masked grey, PNCC, normals


def coarse_input(
    image: Tensor,
    normals: Tensor,
    pncc: Tensor,
    triangle: Tensor,
    weights: Tensor,
    triangles: Tensor,
    contrast: float,
    shortest: float,
) -> Tensor:
    """`coarsenet.coarse_input` without the maps in between; no gradient, channels last in memory.

    contrast: standard deviation that the grey values get. shortest: as in `interpolate_unit`.
    """
    batch, height, width = triangle.shape
    result = torch.empty(batch, height, width, CHANNELS, dtype=image.dtype)
    indices = as_indices(triangles, normals.shape[1])
    arrays = map(as_array, (image, normals, pncc, triangle, weights))
    over_batch(_input_kernel, batch, indices, *arrays, result.numpy(), contrast, shortest)
    return result.permute(0, 3, 1, 2)


@njit()
@no_type_check
def _grey_scale(image: np.ndarray, triangle: np.ndarray, contrast: float) -> tuple[float, float]:
    """Mean of the grey values in the mask, and the factor that gives them their contrast."""
    count, total, squares = 0, 0.0, 0.0
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            inside = triangle[row, column] >= 0
            count += inside
            total += image[row, column] * inside
    mean = total / max(count, 1)
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            difference = image[row, column] - mean
            squares += difference * difference * (triangle[row, column] >= 0)
    return mean, contrast / max(np.sqrt(squares / max(count, 1)), 0.01)


@njit()
@no_type_check
def _input_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    image: np.ndarray,
    normals: np.ndarray,
    pncc: np.ndarray,
    triangle: np.ndarray,
    weights: np.ndarray,
    result: np.ndarray,
    contrast: float,
    shortest: float,
) -> None:
    real = image.dtype.type
    least = real(shortest * shortest)
    for item in range(start, stop):
        grey, directions = image[item, 0], normals[item]
        mean, factor = _grey_scale(grey, triangle[item], contrast)
        mean, factor = real(mean), real(factor)
        for row in range(triangle.shape[1]):
            for column in range(triangle.shape[2]):
                out = result[item, row, column]
                if triangle[item, row, column] < 0:
                    out[:] = 0
                    continue
                t = np.uint32(triangle[item, row, column])
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                weight = weights[item, row, column]
                out[0] = (grey[row, column] - mean) * factor
                for c in range(3):
                    out[1 + c] = mixed(pncc, i, j, k, weight, c)
                x = mixed(directions, i, j, k, weight, 0)
                y = mixed(directions, i, j, k, weight, 1)
                z = mixed(directions, i, j, k, weight, 2)
                length = np.sqrt(max(x * x + y * y + z * z, least))
                out[4], out[5], out[6] = x / length, y / length, z / length
