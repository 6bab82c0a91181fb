"""`illumination.irradiance` and `highlight` as compiled loops: one pass instead of thirty."""

from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from facerecon.backends.compiled import njit
from facerecon.backends.threads import as_array, over_batch


def irradiance(
    light: tuple,
    environment: Tensor,
    normals: Tensor,
    occlusion: Tensor,
    shadow: Tensor,
    least: float,
    wrap: float,
) -> Tensor:
    """As `illumination.irradiance` and `simple_irradiance`; float32, CPU, no gradient.

    environment: (batch, 9). least: of it, before occlusion. wrap: of the lamps.
    """
    result = normals.new_empty(len(normals), light.tint.shape[1], *normals.shape[2:])
    like = normals[:, :1]
    arrays = (
        *(environment, light.tint, light.key_direction, light.key, light.fill_direction),
        *(light.fill, normals, occlusion.expand_as(like), shadow.expand_as(like), result),
    )
    over_batch(_irradiance_kernel, len(normals), *map(as_array, arrays), least, wrap)
    return result


def highlight(light: tuple, half: Tensor, normals: Tensor) -> Tensor:
    """As `illumination.highlight`; half: unit vectors between lamp and viewer (batch, 3)."""
    result = torch.empty_like(normals[:, :1])
    arrays = (half, light.key_direction, light.roughness, light.shininess, normals, result)
    over_batch(_highlight_kernel, len(normals), *map(as_array, arrays))
    return result


# Contraction to fused multiply-adds does no harm here.
@njit(error_model="numpy", fastmath={"contract"})
@no_type_check
def _irradiance_kernel(
    start: int,
    stop: int,
    environment: np.ndarray,
    tint: np.ndarray,
    key_direction: np.ndarray,
    key: np.ndarray,
    fill_direction: np.ndarray,
    fill: np.ndarray,
    normals: np.ndarray,
    occlusion: np.ndarray,
    shadow: np.ndarray,
    result: np.ndarray,
    least: float,
    wrap: float,
) -> None:
    real = normals.dtype.type
    zero, one, three, least = real(0), real(1), real(3), real(least)
    wrap, rest = real(wrap), real(1 - wrap)
    n = normals.shape[2] * normals.shape[3]
    for item in range(start, stop):
        l0, l1, l2, l3, l4, l5, l6, l7, l8 = environment[item][:9]
        kx, ky, kz = key_direction[item][:3]
        fx, fy, fz = fill_direction[item][:3]
        nx = normals[item, 0].reshape(n)
        ny = normals[item, 1].reshape(n)
        nz = normals[item, 2].reshape(n)
        open_ = occlusion[item, 0].reshape(n)
        lit = shadow[item, 0].reshape(n)
        for c in range(result.shape[1]):
            out = result[item, c].reshape(n)
            sky, lamp, second = tint[item, c], key[item, c], fill[item, c]
            for p in range(n):
                x, y, z = nx[p], ny[p], nz[p]
                around = l0 + l1 * x + l2 * y + l3 * z + l4 * x * y + l5 * x * z + l6 * y * z
                around += l7 * (x * x - y * y) + l8 * (three * z * z - one)
                first = max(rest * (kx * x + ky * y + kz * z) + wrap, zero) * lit[p] * lamp
                other = max(rest * (fx * x + fy * y + fz * z) + wrap, zero) * second
                out[p] = max(around, least) * open_[p] * sky + first + other


@njit(error_model="numpy", fastmath={"contract"})
@no_type_check
def _highlight_kernel(
    start: int,
    stop: int,
    half: np.ndarray,
    key_direction: np.ndarray,
    roughness: np.ndarray,
    shininess: np.ndarray,
    normals: np.ndarray,
    result: np.ndarray,
) -> None:
    real = normals.dtype.type
    zero, one, three, four = real(0), real(1), real(3), real(4)
    least, dark = real(1e-4), real(1e-3)
    n = normals.shape[2] * normals.shape[3]
    for item in range(start, stop):
        hx, hy, hz = half[item][:3]
        kx, ky, kz = key_direction[item][:3]
        nx = normals[item, 0].reshape(n)
        ny = normals[item, 1].reshape(n)
        nz = normals[item, 2].reshape(n)
        out = result[item, 0].reshape(n)
        alpha = roughness[item, 0] * roughness[item, 0]
        squared, power = alpha * alpha, shininess[item, 0]
        if roughness[item, 0] > zero:
            for p in range(n):
                x, y, z = nx[p], ny[p], nz[p]
                lit = min(max(four * (kx * x + ky * y + kz * z), zero), one)
                cosine = min(max(hx * x + hy * y + hz * z, zero), one)
                lobe = squared / max(cosine * cosine * (squared - one) + one, least)
                grazing = min(max(one - z, zero), one)
                grazing *= grazing
                out[p] = lobe * lobe * (one + three * grazing * grazing) * lit
        else:
            for p in range(n):
                x, y, z = nx[p], ny[p], nz[p]
                lit = min(max(four * (kx * x + ky * y + kz * z), zero), one)
                cosine = min(max(hx * x + hy * y + hz * z, dark), one)
                out[p] = cosine**power * lit if lit > zero else zero
