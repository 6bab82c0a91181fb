"""What stands behind and in front of a synthetic person (3.2.2)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from facerecon.synthetic.config import SceneConfig
from facerecon.synthetic.draws import Draw


def background(
    draw: Draw, size: int, channels: int, config: SceneConfig
) -> Float[Tensor, "batch channels size size"]:
    """Studio gradients, rooms and clutter out of focus, with a few bright discs of bokeh."""
    half = (size + 1) // 2  # nothing behind a face needs more detail
    column, row = pixel_grid(half, draw.generator.device)
    low, high = config.level
    level = low + (high - low) * draw.uniform(0, 1) ** config.level_power
    angle = draw.uniform(0, 2 * math.pi)
    slope = draw.normal() * 0.25
    across = torch.cos(angle) * (column / half - 0.5) + torch.sin(angle) * (row / half - 0.5)
    plain = level + slope * across
    clutter = plain
    for cells, strength in ((2, 0.3), (5, 0.25), (14, 0.16), (40, 0.05)):
        octave = F.interpolate(draw.normal(1, cells, cells), size=(half, half), mode="bilinear")
        clutter = clutter + octave * draw.uniform(0, strength)
    for power in (2, 8, 8, 8):  # furniture, windows, door frames
        centre = draw.uniform(-0.2, 1.2, 2) * half
        radii = draw.uniform(0.05, 0.6, 2) * half
        shape = blob(draw, half, centre, radii, power, draw.uniform(-0.15, 0.15))
        clutter = torch.lerp(clutter, draw.uniform(0, 0.9), shape * draw.chance(0.5))
    bokeh = draw.chance(config.p_bokeh)
    for _ in range(3):
        radius = draw.uniform(0.02, 0.09, 1) * half
        centre = draw.uniform(0, 1, 2) * half
        disc = blob(draw, half, centre, radius.expand(-1, 2), 2, torch.zeros_like(level))
        clutter = clutter + disc * bokeh * draw.uniform(0.1, 0.6)
    clutter = level + (clutter - level) * draw.uniform(*config.contrast)
    picture = torch.where(draw.chance(config.p_plain), plain, clutter)
    if channels == 3:
        saturation = draw.uniform(*config.saturation)
        hue = draw.normal(3, 2, 2)  # slowly varying
        hue = F.interpolate(hue, size=(half, half), mode="bilinear", align_corners=True)
        picture = picture * (1 + 0.4 * saturation * hue)
    picture = picture.clamp(0, 1)
    return F.interpolate(picture, size=(size, size), mode="bilinear")


def occlude(
    draw: Draw, picture: Float[Tensor, "batch channels size size"], config: SceneConfig
) -> Float[Tensor, "batch channels size size"]:
    """A rounded thing in front of some faces: a hand, a microphone, a cup."""
    size, channels = picture.shape[-1], picture.shape[1]
    centre = draw.uniform(0, 1, 2) * size
    long, slim = draw.uniform(*config.occluder, 1), draw.uniform(0.2, 1.0, 1)
    radii = torch.cat([long, long * slim], 1) * size
    texture = F.interpolate(draw.normal(1, 12, 12), size=(size, size), mode="bilinear") * 0.05
    shape = blob(draw, size, centre, radii, 2, draw.uniform(0, math.pi))
    colour = draw.uniform(0.05, 0.5) * draw.uniform(0.6, 1.0, channels, 1, 1)
    covered = torch.lerp(picture, colour + texture, shape)
    return torch.where(draw.chance(config.p_occluder), covered, picture)


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns (1, 1, 1, S) and rows (1, 1, S, 1) of pixel centres."""
    ramp = torch.arange(size, dtype=torch.float32, device=device)
    return ramp.view(1, 1, 1, size), ramp.view(1, 1, size, 1)


def blob(draw: Draw, size: int, centre: Tensor, radii: Tensor, power: int, angle: Tensor) -> Tensor:
    """Soft super-ellipse (B, 1, S, S) in [0, 1]: power 2 is an ellipse, 8 nearly a rectangle.

    Args:
        power: a power of two.
        centre: (B, 2) column and row; radii: (B, 2) pixels; angle: (B, 1, 1, 1) radians.
    """
    column, row = pixel_grid(size, centre.device)
    dx = column - centre[:, 0].view(-1, 1, 1, 1)
    dy = row - centre[:, 1].view(-1, 1, 1, 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    u = (cos * dx + sin * dy) / radii[:, 0].view(-1, 1, 1, 1)
    v = (cos * dy - sin * dx) / radii[:, 1].view(-1, 1, 1, 1)
    u, v = u * u, v * v
    for _ in range(int(math.log2(power)) - 1):  # squaring is far cheaper than pow
        u, v = u * u, v * v
    distance = u + v
    return torch.sigmoid((1 - distance) * draw.uniform(4, 30))
