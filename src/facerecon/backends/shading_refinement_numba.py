"""Kernels of `shading_refinement`: local albedo and the linear system, CPU."""

from typing import no_type_check

import numpy as np

from facerecon.backends.compiled import njit


@njit()
@no_type_check
def local_mean(values, trust, sigma, contrast):
    """Mean of trusted neighbors with a similar value (a bilateral filter), rows, then columns.

    values, trust: (height, width). sigma: pixels, of the Gaussian. contrast: difference at which a
    neighbor counts half. A pixel without trusted neighbors keeps its value.
    """
    height, width = values.shape
    reach = int(np.ceil(2.5 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    rows, weight = np.empty_like(values), np.empty_like(values)
    for i in range(height):
        for j in range(width):
            total = share = 0.0
            for k in range(max(0, j - reach), min(width, j + reach + 1)):
                apart = (values[i, k] - values[i, j]) / contrast
                near = taps[k - j + reach] * trust[i, k] / (1 + apart * apart)
                total += near * values[i, k]
                share += near
            rows[i, j] = total / share if share > 1e-6 else values[i, j]
            weight[i, j] = share
    found = np.empty_like(values)
    for i in range(height):
        for j in range(width):
            total = share = 0.0
            for k in range(max(0, i - reach), min(height, i + reach + 1)):
                apart = (rows[k, j] - values[i, j]) / contrast
                near = taps[k - i + reach] * weight[k, j] / (1 + apart * apart)
                total += near * rows[k, j]
                share += near
            found[i, j] = total / share if share > 1e-6 else values[i, j]
    return found


@njit(fastmath={"contract", "reassoc"})
@no_type_check
def _times(z, across, along, inside, right, down, anchor, smooth, bend, turned, out):
    """The normal equations' matrix times z; maps with a border of one pixel (bend: two uses)."""
    height, width = z.shape
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            here = z[i, j]
            shaded = across[i, j] * (z[i, j + 1] - z[i, j - 1])
            turned[i, j] = shaded + along[i, j] * (z[i - 1, j] - z[i + 1, j])
            bend[i, j] = inside[i, j] * (
                z[i, j + 1] + z[i, j - 1] + z[i + 1, j] + z[i - 1, j] - 4 * here
            )
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            here = z[i, j]
            value = (
                anchor[i, j] * here
                + right[i, j] * (here - z[i, j + 1])
                + right[i, j - 1] * (here - z[i, j - 1])
                + down[i, j] * (here - z[i + 1, j])
                + down[i - 1, j] * (here - z[i - 1, j])
            )
            value += across[i, j - 1] * turned[i, j - 1] - across[i, j + 1] * turned[i, j + 1]
            value += along[i + 1, j] * turned[i + 1, j] - along[i - 1, j] * turned[i - 1, j]
            value += smooth * (
                bend[i, j + 1] + bend[i, j - 1] + bend[i + 1, j] + bend[i - 1, j] - 4 * bend[i, j]
            )
            out[i, j] = value


@njit(fastmath={"contract", "reassoc"})
@no_type_check
def solve(z, across, along, wanted, inside, right, down, anchor, smooth, tolerance, most):
    """Improve z, the solution of a regularized linear shape from shading, by conjugate gradients.

    Minimizes |across D_x z + along D_y z - wanted|^2 + sum_edges weight (step of z)^2 +
    smooth |Laplacian of z|^2 + sum anchor z^2, D_x and D_y twice the central differences to the
    right and up. All maps have a border of one pixel, where coefficients and z are zero. inside: 1
    where the five-point Laplacian counts.
    """
    bend, turned, out = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
    height, width = z.shape
    inverse, residual, direction = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
    _times(z, across, along, inside, right, down, anchor, smooth, bend, turned, out)
    size = begin = 0.0
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            moment = across[i, j - 1] * wanted[i, j - 1] - across[i, j + 1] * wanted[i, j + 1]
            moment += along[i + 1, j] * wanted[i + 1, j] - along[i - 1, j] * wanted[i - 1, j]
            diagonal = anchor[i, j] + right[i, j] + right[i, j - 1] + down[i, j] + down[i - 1, j]
            diagonal += across[i, j - 1] ** 2 + across[i, j + 1] ** 2
            diagonal += along[i + 1, j] ** 2 + along[i - 1, j] ** 2
            diagonal += smooth * (
                16 * inside[i, j]
                + inside[i, j - 1] + inside[i, j + 1] + inside[i - 1, j] + inside[i + 1, j]
            )  # fmt: skip
            inverse[i, j] = 1 / diagonal if diagonal > 0 else 0.0
            residual[i, j] = (moment - out[i, j]) * (inverse[i, j] > 0)
            direction[i, j] = residual[i, j] * inverse[i, j]
            size += residual[i, j] * direction[i, j]
            begin += moment * moment * inverse[i, j]
    enough = tolerance * tolerance * begin
    for _ in range(most):
        if size <= enough:
            break
        _times(direction, across, along, inside, right, down, anchor, smooth, bend, turned, out)
        curvature = 0.0
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                curvature += direction[i, j] * out[i, j]
        length, new = size / curvature, 0.0
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                z[i, j] += length * direction[i, j]
                residual[i, j] -= length * out[i, j]
                new += residual[i, j] * residual[i, j] * inverse[i, j]
        ratio, size = new / size, new
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                direction[i, j] = residual[i, j] * inverse[i, j] + ratio * direction[i, j]
