"""Smooth curves through numbers over time, and how much such numbers tremble."""

import math

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_banded


def smoothed(
    values: Float[np.ndarray, "frames numbers"],
    time: Float[np.ndarray, " frames"],
    cutoff_hz: float,
) -> Float[np.ndarray, "frames numbers"]:
    """Curves z that minimize the integral of (values - z)^2 + (2 pi cutoff)^-4 (z'')^2.

    That is a low-pass filter without delay: of a swing of f Hz a share of 1 / (1 + (f / cutoff)^4)
    stays, where it was. Straight lines stay as they are, to both ends; times need not be even.

    Args:
        time: seconds, increasing. cutoff_hz: of what swings as fast, half stays.

    Source: E. T. Whittaker, On a new method of graduation, 1923; there for even times.
    """
    count = len(time)
    if count < 3:
        return values.astype(np.float64)
    step = np.diff(time)
    left, right = step[:-1], step[1:]
    width = (left + right) / 2
    # Rows of second derivatives: three neighbors each.
    second = np.stack(
        [1 / (left * width), -1 / (left * width) - 1 / (right * width), 1 / (right * width)]
    )
    stiffness = width / (2 * math.pi * cutoff_hz) ** 4
    share = np.gradient(time)  # seconds that a frame stands for
    band = np.zeros((5, count))
    band[2] = share
    for i in range(3):
        for k in range(3):
            rows = np.arange(count - 2) + i
            np.add.at(band, (2 + i - k, rows - i + k), stiffness * second[i] * second[k])
    return solve_banded((2, 2), band, share[:, None] * values)


def tremble(values: Float[np.ndarray, "frames numbers"]) -> float:
    """How much numbers tremble from frame to frame, in their unit; 0 with fewer than 3 frames.

    The standard deviation of independent noise that would have the same second differences: slow
    movements hardly count. Frames are taken as evenly spaced; NaN interrupts.
    """
    second = np.diff(np.asarray(values, np.float64), n=2, axis=0)
    second = second[np.isfinite(second).all(axis=-1)]
    return float(np.sqrt(np.mean(second**2) / 6)) if second.size else 0.0


def runs(chosen: np.ndarray) -> list[slice]:
    """The slices of neighbors that are all True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
