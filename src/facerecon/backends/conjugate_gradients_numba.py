"""Conjugate gradients of normal integration in compiled passes: the "numba" backend, CPU."""

from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from facerecon.backends.compiled import njit
from facerecon.backends.threads import as_array, over_batch


def conjugate_gradients(
    moment: Tensor, right: Tensor, down: Tensor, anchor: Tensor, tolerance: float, most: int
) -> Tensor:
    """`integration.conjugate_gradients` on the CPU; the pixels without an edge at once."""
    result = torch.zeros_like(moment, memory_format=torch.contiguous_format)
    arrays = (as_array(each[:, 0]) for each in (moment, right, down, anchor))
    over_batch(_kernel, len(moment), *arrays, result[:, 0].numpy(), tolerance, most)
    return result


@njit()
@no_type_check
def _kernel(
    start: int,
    stop: int,
    moment: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    anchor: np.ndarray,
    result: np.ndarray,
    tolerance: float,
    most: int,
) -> None:
    for item in range(start, stop):
        _solve(moment[item], right[item], down[item], anchor[item], result[item], tolerance, most)


@njit(fastmath={"contract", "reassoc"})
@no_type_check
def _solve(
    moment: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    anchor: np.ndarray,
    z: np.ndarray,
    tolerance: float,
    most: int,
) -> None:
    """Two passes over the pixels a step; the maps have a border, so that no pixel is special."""
    height, width = moment.shape
    real = moment.dtype.type
    east = np.zeros((height + 2, width + 2), moment.dtype)  # weight of the edge to the right
    south = np.zeros((height + 2, width + 2), moment.dtype)
    mu = np.ones((height + 2, width + 2), moment.dtype)
    east[1:-1, 1:width] = right
    south[1:height, 1:-1] = down
    mu[1:-1, 1:-1] = anchor
    inverse = np.zeros_like(mu)
    residual, direction, changed = np.zeros_like(mu), np.zeros_like(mu), np.zeros_like(mu)
    size = 0.0
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            total = east[i, j] + east[i, j - 1] + south[i, j] + south[i - 1, j]
            inverse[i, j] = 1 / (mu[i, j] + total)
            residual[i, j] = moment[i - 1, j - 1]
            direction[i, j] = residual[i, j] * inverse[i, j]
            size += residual[i, j] * direction[i, j]
    enough = tolerance * tolerance * size
    for _ in range(most):
        if size <= enough:
            break
        curvature = 0.0
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                here = direction[i, j]
                value = (
                    mu[i, j] * here
                    + east[i, j] * (here - direction[i, j + 1])
                    + east[i, j - 1] * (here - direction[i, j - 1])
                    + south[i, j] * (here - direction[i + 1, j])
                    + south[i - 1, j] * (here - direction[i - 1, j])
                )
                changed[i, j] = value
                curvature += here * value
        length = real(size / curvature)
        new = 0.0
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                z[i - 1, j - 1] += length * direction[i, j]
                rest = residual[i, j] - length * changed[i, j]
                residual[i, j] = rest
                new += rest * rest * inverse[i, j]
        ratio = real(new / size)
        size = new
        for i in range(1, height + 1):
            for j in range(1, width + 1):
                direction[i, j] = residual[i, j] * inverse[i, j] + ratio * direction[i, j]
