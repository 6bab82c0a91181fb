"""Kernels of `shading_refinement`: local albedo and the linear system, CPU."""

from typing import no_type_check

import numpy as np

from facerecon.backends.compiled import njit


@njit(fastmath={"contract", "reassoc"})
@no_type_check
def local_mean(values, trust, sigma, contrast):
    """Mean of trusted neighbors with a similar value (a bilateral filter), rows, then columns.

    values, trust: (height, width). sigma: pixels, of the Gaussian. contrast: difference at which a
    neighbor counts half. A pixel without trusted neighbors keeps its value.
    """
    reach = int(np.ceil(2.5 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(values.dtype)
    sharpness = values.dtype.type(1 / (contrast * contrast))
    across = values.T.copy()
    rows, weight = _mean_of_rows(across, trust.T.copy(), across, taps, sharpness)
    return _mean_of_rows(rows.T.copy(), weight.T.copy(), values, taps, sharpness)[0]


@njit(fastmath={"contract", "reassoc"}, error_model="numpy")
@no_type_check
def _mean_of_rows(values, trust, center, taps, sharpness):
    """Means over neighboring rows, each pixel's relative to its center, and their weights.

    Row by row, so that the innermost loop runs along memory, for the processor's vector
    instructions.
    """
    height, width = values.shape
    reach, one = len(taps) // 2, values.dtype.type(1)
    mean, weight = np.empty_like(values), np.empty_like(values)
    for i in range(height):
        total, share = np.zeros(width, values.dtype), np.zeros(width, values.dtype)
        for k in range(max(0, i - reach), min(height, i + reach + 1)):
            tap = taps[k - i + reach]
            for j in range(width):
                apart = values[k, j] - center[i, j]
                near = tap * trust[k, j] / (one + sharpness * apart * apart)
                total[j] += near * values[k, j]
                share[j] += near
        for j in range(width):
            mean[i, j] = total[j] / share[j] if share[j] > 1e-6 else center[i, j]
            weight[i, j] = share[j]
    return mean, weight


@njit(fastmath={"contract", "reassoc"})
@no_type_check
def _times(z, across, along, inside, right, down, anchor, smooth, bend, turned, out):
    """The normal equations' matrix times z; maps with a border of one pixel (bend: two uses)."""
    height, width = z.shape
    four = z.dtype.type(4)
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            here = z[i, j]
            shaded = across[i, j] * (z[i, j + 1] - z[i, j - 1])
            turned[i, j] = shaded + along[i, j] * (z[i - 1, j] - z[i + 1, j])
            bend[i, j] = inside[i, j] * (
                z[i, j + 1] + z[i, j - 1] + z[i + 1, j] + z[i - 1, j] - four * here
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
            bent = bend[i, j + 1] + bend[i, j - 1] + bend[i + 1, j] + bend[i - 1, j]
            value += smooth * (bent - four * bend[i, j])
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
    real = z.dtype.type
    smooth, sixteen = real(smooth), real(16)
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
                sixteen * inside[i, j]
                + inside[i, j - 1] + inside[i, j + 1] + inside[i - 1, j] + inside[i + 1, j]
            )  # fmt: skip
            inverse[i, j] = real(1) / diagonal if diagonal > 0 else real(0)
            residual[i, j] = moment - out[i, j] if diagonal > 0 else real(0)
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
        length, new = real(size / curvature), 0.0
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                z[i, j] += length * direction[i, j]
                residual[i, j] -= length * out[i, j]
                new += residual[i, j] * residual[i, j] * inverse[i, j]
        ratio, size = real(new / size), new
        for i in range(1, height - 1):
            for j in range(1, width - 1):
                direction[i, j] = residual[i, j] * inverse[i, j] + ratio * direction[i, j]
