"""A smooth face-sized surface with wrinkles of known depth, and its photograph."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facerecon.depth import normals_from_depth
from facerecon.lighting import shade


class Wrinkles(NamedTuple):
    """All maps (1, 1, H, W), depths in mm."""

    image: Tensor
    depth: Tensor
    coarse: Tensor
    mask: Tensor
    wrinkled: Tensor
    albedo: Tensor
    light: Tensor
    mm_per_pixel: Tensor


def wrinkled_face(size: int = 200, noise: float = 0.005, amplitude: float = 0.3) -> Wrinkles:
    """An ellipsoid of 150 x 190 mm with wrinkles 8 to 10 mm wide on forehead and cheek.

    noise: standard deviation of the photograph's intensity; amplitude: of the wrinkles, mm.
    """
    mm = 214 / size
    across = (torch.arange(size) - (size - 1) / 2) * mm
    y, x = torch.meshgrid(-across, across, indexing="ij")
    inside = 1 - (x / 75) ** 2 - (y / 95) ** 2
    mask = inside > 0.15
    ellipsoid = 60 * inside.clamp(min=1e-3).sqrt()
    forehead = torch.exp(-(((y - 45) / 20) ** 2) - (x / 40) ** 2)
    cheek = torch.exp(-(((y + 20) / 25) ** 2) - ((x - 35) / 15) ** 2)
    waves = torch.sin(2 * math.pi * y / 8) + 0.7 * torch.sin(2 * math.pi * (x + 0.3 * y) / 10.4)
    relief = amplitude * (forehead + cheek) * waves
    coarse, depth, albedo, mask = (
        each[None, None]
        for each in (
            ellipsoid * mask,
            (ellipsoid + relief) * mask,
            0.6 + 0.1 * torch.sin(x / 30) * torch.cos(y / 25),
            mask,
        )
    )
    light = torch.tensor([[0.35, 0.25, 0.3, 0.55]])
    mm_per_pixel = torch.tensor([mm])
    image = shade(albedo, light, normals_from_depth(depth, mm_per_pixel, mask))
    generator = torch.Generator().manual_seed(0)
    image = (image + noise * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    wrinkled = mask & (relief.abs() > 0.05)
    return Wrinkles(image, depth, coarse, mask, wrinkled, albedo, light, mm_per_pixel)


def normal_error(depth: Tensor, face: Wrinkles, area: Tensor) -> float:
    """Mean angle in degrees between the normals of a depth map and the true ones."""
    found = normals_from_depth(depth, face.mm_per_pixel, face.mask)
    true = normals_from_depth(face.depth, face.mm_per_pixel, face.mask)
    # asin of the chord: exact for small angles, where acos of the dot product is not.
    chord = (found - true).square().sum(1, keepdim=True).sqrt()
    return torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1)))[area].mean().item()
