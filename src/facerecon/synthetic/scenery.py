"""What stands behind and in front of a synthetic person (3.2.2)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from facerecon.synthetic.config import SceneConfig
from facerecon.synthetic.sampling import Sampler


def background(
    sampler: Sampler, size: int, channels: int, config: SceneConfig
) -> Float[Tensor, "batch channels size size"]:
    """Studio gradients, rooms and clutter out of focus, with a few bright discs of bokeh."""
    half = (size + 1) // 2  # nothing behind a face needs more detail
    column, row = pixel_grid(half, sampler.generator.device)
    low, high = config.level
    level = low + (high - low) * sampler.uniform(0, 1) ** config.level_power
    angle = sampler.uniform(0, 2 * math.pi)
    slope = sampler.normal() * 0.25
    across = torch.cos(angle) * (column / half - 0.5) + torch.sin(angle) * (row / half - 0.5)
    plain = level + slope * across
    clutter = plain.expand(-1, 1, half, half)
    for cells, strength in ((2, 0.3), (5, 0.25), (14, 0.16), (40, 0.05)):
        octave, weight = sampler.normal(1, cells, cells), sampler.uniform(0, strength)
        if config.p_plain < 1:
            octave = F.interpolate(octave, size=(half, half), mode="bilinear")
            clutter = clutter + octave * weight
    studio = sampler.chance(config.p_plain)
    for power in (2, 8, 8, 8):  # furniture, windows, door frames
        center = sampler.uniform(-0.2, 1.2, 2) * half
        radii = sampler.uniform(0.05, 0.6, 2) * half
        angle, sharpness = sampler.uniform(-0.15, 0.15), sampler.uniform(4, 30)
        shade, present = sampler.uniform(0, 0.9), sampler.chance(0.5) & ~studio
        chosen, shape = blobs(present, half, center, radii, angle, sharpness, power)
        covered = torch.lerp(clutter[chosen], shade[chosen], shape)
        clutter = clutter.index_copy(0, chosen, covered)
    bokeh = sampler.chance(config.p_bokeh) & ~studio
    for _ in range(3):
        radius = sampler.uniform(0.02, 0.09, 1) * half
        center, angle = sampler.uniform(0, 1, 2) * half, torch.zeros_like(level)
        sharpness, strength = sampler.uniform(4, 30), sampler.uniform(0.1, 0.6)
        chosen, disc = blobs(bokeh, half, center, radius.expand(-1, 2), angle, sharpness, 2)
        clutter = clutter.index_add(0, chosen, disc * strength[chosen])
    clutter = level + (clutter - level) * sampler.uniform(*config.contrast)
    picture = torch.where(studio, plain, clutter)
    if channels == 3:
        saturation = sampler.uniform(*config.saturation)
        hue = sampler.normal(3, 2, 2)  # slowly varying
        hue = F.interpolate(hue, size=(half, half), mode="bilinear", align_corners=True)
        picture = picture * (1 + 0.4 * saturation * hue)
    picture = picture.clamp(0, 1)
    return F.interpolate(picture, size=(size, size), mode="bilinear")


def occlude(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: SceneConfig
) -> Float[Tensor, "batch channels size size"]:
    """A rounded object in front of some faces: a hand, a microphone, a cup."""
    size, channels = picture.shape[-1], picture.shape[1]
    center = sampler.uniform(0, 1, 2) * size
    long, slim = sampler.uniform(*config.occluder, 1), sampler.uniform(0.2, 1.0, 1)
    radii = torch.cat([long, long * slim], 1) * size
    texture, angle = sampler.normal(1, 12, 12), sampler.uniform(0, math.pi)
    sharpness, present = sampler.uniform(4, 30), sampler.chance(config.p_occluder)
    color = sampler.uniform(0.05, 0.5) * sampler.uniform(0.6, 1.0, channels, 1, 1)
    chosen, shape = blobs(present, size, center, radii, angle, sharpness, 2)
    if not len(chosen):
        return picture
    texture = 0.05 * F.interpolate(texture[chosen], size=(size, size), mode="bilinear")
    covered = torch.lerp(picture[chosen], color[chosen] + texture, shape)
    return picture.index_copy(0, chosen, covered)


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns (1, 1, 1, S) and rows (1, 1, S, 1) of pixel centers."""
    ramp = torch.arange(size, dtype=torch.float32, device=device)
    return ramp.view(1, 1, 1, size), ramp.view(1, 1, size, 1)


def blobs(
    present: Bool[Tensor, "batch 1 1 1"],
    size: int,
    center: Float[Tensor, "batch 2"],
    radii: Float[Tensor, "batch 2"],
    angle: Float[Tensor, "batch 1 1 1"],
    sharpness: Float[Tensor, "batch 1 1 1"],
    power: int,
) -> tuple[Int[Tensor, " some"], Float[Tensor, "some 1 size size"]]:
    """Which images have one, and there a soft super-ellipse in [0, 1].

    Args:
        center: column and row, pixels. radii: pixels. angle: radians.
        sharpness: of its edge, relative to its size.
        power: a power of two: 2 is an ellipse, 8 nearly a rectangle.
    """
    chosen = present.flatten().nonzero().squeeze(1)
    center, radii = center[chosen, :, None, None], radii[chosen, :, None, None]
    column, row = pixel_grid(size, center.device)
    dx, dy = column - center[:, :1], row - center[:, 1:]
    cos, sin = torch.cos(angle[chosen]), torch.sin(angle[chosen])
    u = (cos * dx + sin * dy) / radii[:, :1]
    v = (cos * dy - sin * dx) / radii[:, 1:]
    u, v = u * u, v * v
    for _ in range(int(math.log2(power)) - 1):  # squaring is far cheaper than pow
        u, v = u * u, v * v
    return chosen, torch.sigmoid((1 - u - v) * sharpness[chosen])
