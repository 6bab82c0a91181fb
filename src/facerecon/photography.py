"""What stands around a synthetic face and what a camera does to the picture (3.2.2).

Every function works on a batch (B, 1, S, S) of intensities (`occlude` and `expose` on colours, too)
and draws from the generator it is given, on that generator's device.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

# Luminance quantisation table of the JPEG standard (ITU-T T.81, Table K.1), row by row.
_JPEG_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


class Draw:
    """Per-image random numbers of shape (count, 1, 1, 1) from one generator."""

    def __init__(self, count: int, generator: torch.Generator):
        self.count, self.generator = count, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), (count, *shape), by default (count, 1, 1, 1)."""
        size = (self.count, *(shape or (1, 1, 1)))
        device = self.generator.device
        return low + (high - low) * torch.rand(size, generator=self.generator, device=device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (count, *shape), by default (count, 1, 1, 1)."""
        size = (self.count, *(shape or (1, 1, 1)))
        return torch.randn(size, generator=self.generator, device=self.generator.device)

    def chance(self, probability: float) -> Tensor:
        """True with the given probability, (count, 1, 1, 1)."""
        return self.uniform(0, 1) < probability

    def integer(self, low: int, high: int) -> int:
        """One number for the whole batch, low <= n < high."""
        device = self.generator.device
        return int(torch.randint(low, high, (1,), generator=self.generator, device=device))


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns (1, 1, 1, S) and rows (1, 1, S, 1) of pixel centres."""
    ramp = torch.arange(size, dtype=torch.float32, device=device)
    return ramp.view(1, 1, 1, size), ramp.view(1, 1, size, 1)


def blob(
    draw: Draw, size: int, centre: Tensor, radii: Tensor, power: float, angle: Tensor
) -> Tensor:
    """Soft super-ellipse (B, 1, S, S) in [0, 1]: power 2 is an ellipse, 8 nearly a rectangle.

    Args:
        centre: (B, 2) column and row; radii: (B, 2) pixels; angle: (B, 1, 1, 1) radians.
    """
    column, row = pixel_grid(size, centre.device)
    dx = column - centre[:, 0].view(-1, 1, 1, 1)
    dy = row - centre[:, 1].view(-1, 1, 1, 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    u = ((cos * dx + sin * dy) / radii[:, 0].view(-1, 1, 1, 1)).abs()
    v = ((cos * dy - sin * dx) / radii[:, 1].view(-1, 1, 1, 1)).abs()
    distance = u * u + v * v if power == 2 else u**power + v**power
    return torch.sigmoid((1 - distance) * draw.uniform(4, 30))


def background(draw: Draw, size: int) -> Float[Tensor, "batch 1 size size"]:
    """Clutter, a little out of focus: octaves of noise and a few shapes."""
    half = (size + 1) // 2  # nothing behind a face needs more detail
    picture = draw.uniform(0, 1).expand(-1, -1, half, half)
    for cells, strength in ((2, 0.35), (5, 0.25), (14, 0.15), (50, 0.07)):
        octave = F.interpolate(draw.normal(1, cells, cells), size=(half, half), mode="bilinear")
        picture = picture + octave * draw.uniform(0, strength)
    for power in (2, 8, 8):
        centre = draw.uniform(-0.2, 1.2, 2) * half
        radii = draw.uniform(0.05, 0.5, 2) * half
        shape = blob(draw, half, centre, radii, power, draw.uniform(0, math.pi))
        picture = torch.lerp(picture, draw.uniform(0, 1), shape * draw.chance(0.5))
    picture = (picture * draw.uniform(0.3, 1.2) + draw.uniform(0, 0.2)).clamp(0, 1)
    return F.interpolate(picture, size=(size, size), mode="bilinear")


def person(
    draw: Draw,
    picture: Float[Tensor, "batch 1 size size"],
    head: Float[Tensor, "batch 2"],
    shoulders: Float[Tensor, "batch 2"],
    scale: Float[Tensor, " batch"],
    p_hair: float,
    p_clothes: float,
) -> Float[Tensor, "batch 1 size size"]:
    """Hair behind the head and clothes below it.

    Args:
        head, shoulders: pixel (column, row) of the skull's centre and of the base of the neck.
        scale: pixels per mm.
    """
    size = picture.shape[-1]
    texture = F.interpolate(draw.normal(1, 70, 40), size=(size, size), mode="bilinear") * 0.06
    radii = torch.stack([draw.uniform(65, 125, 1)[:, 0], draw.uniform(90, 150, 1)[:, 0]], 1)
    hair = blob(draw, size, head, radii * scale[:, None], 2, draw.uniform(-0.2, 0.2))
    shade = draw.uniform(0, 1) ** 2
    picture = torch.where(draw.chance(p_hair), torch.lerp(picture, shade + texture, hair), picture)
    column, row = pixel_grid(size, picture.device)
    fall = draw.uniform(0, 0.5) * (column - shoulders[:, 0].view(-1, 1, 1, 1)).abs()
    cloth = torch.sigmoid((row - shoulders[:, 1].view(-1, 1, 1, 1) - fall) / 2)
    pattern = texture * draw.uniform(0, 4) * draw.chance(0.4)
    return torch.where(
        draw.chance(p_clothes), torch.lerp(picture, draw.uniform(0, 1) + pattern, cloth), picture
    )


def occlude(
    draw: Draw, picture: Float[Tensor, "batch channels size size"], probability: float
) -> Float[Tensor, "batch channels size size"]:
    """A blob or a bar in front of some faces: a hand, a microphone, a strand of hair."""
    size = picture.shape[-1]
    centre = draw.uniform(0, 1, 2) * size
    long, slim = draw.uniform(0.06, 0.35, 1), draw.uniform(0.15, 1.0, 1)
    radii = torch.cat([long, long * slim], 1) * size
    texture = F.interpolate(draw.normal(1, 30, 30), size=(size, size), mode="bilinear") * 0.05
    shape = blob(draw, size, centre, radii, 2, draw.uniform(0, math.pi))
    covered = torch.lerp(picture, draw.uniform(0, 1) + texture, shape)
    return torch.where(draw.chance(probability), covered, picture)


def expose(
    draw: Draw,
    picture: Float[Tensor, "batch channels size size"],
    face: Bool[Tensor, "batch 1 size size"],
    p_auto: float,
) -> Float[Tensor, "batch channels size size"]:
    """Exposure as a camera chooses it (the face comes out mid-grey), a tone curve, and contrast."""
    gamma = draw.uniform(0.5, 1.1)
    area = picture.shape[1] * face.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (picture * face).sum((1, 2, 3), keepdim=True) / area
    target = draw.uniform(0.22, 0.68) ** (1 / gamma)
    gain = torch.where(draw.chance(p_auto), target / mean.clamp(min=1e-3), torch.ones_like(mean))
    picture = (picture * gain).clamp(0, 1) ** gamma
    return (picture - 0.5) * draw.uniform(0.65, 1.3) + 0.5 + draw.uniform(-0.1, 0.1)


def blur(
    draw: Draw, picture: Float[Tensor, "batch 1 size size"], probability: float
) -> Float[Tensor, "batch 1 size size"]:
    """Gaussian blur with a width of its own per image and axis (defocus, slight motion)."""
    count = len(picture)
    sigma = torch.where(draw.chance(probability), draw.uniform(0.3, 1.7), draw.uniform(0.05, 0.06))
    stretch = torch.where(draw.chance(0.2), draw.uniform(0.3, 1.8), torch.ones_like(sigma))
    taps = torch.arange(-4, 5, device=picture.device).view(1, 1, 1, -1)
    planes = picture.view(1, count, *picture.shape[-2:])
    for width, axis in ((sigma * stretch, 3), (sigma, 2)):
        kernel = torch.exp(-(taps**2) / (2 * width**2))
        kernel = kernel / kernel.sum(3, keepdim=True)
        kernel, padding = (kernel, (4, 4, 0, 0)) if axis == 3 else (kernel.mT, (0, 0, 4, 4))
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel, groups=count)
    return planes.view_as(picture)


def lower_resolution(
    draw: Draw, picture: Float[Tensor, "batch 1 size size"], probability: float
) -> Float[Tensor, "batch 1 size size"]:
    """Some images taken as if from a small one."""
    size = picture.shape[-1]
    small = draw.integer(size // 5, (size * 3) // 5)
    low = F.interpolate(picture, size=(small, small), mode="area")
    low = F.interpolate(low, size=(size, size), mode="bicubic", align_corners=False)
    return torch.where(draw.chance(probability), low, picture)


def add_noise(
    draw: Draw, picture: Float[Tensor, "batch 1 size size"], probability: float
) -> Float[Tensor, "batch 1 size size"]:
    """Read noise and photon noise (its variance grows with intensity)."""
    read, photon = draw.uniform(0, 0.03), draw.uniform(0, 0.03)
    sigma = read + photon * picture.clamp(min=0).sqrt()
    noisy = picture + draw.normal(*picture.shape[1:]) * sigma
    return torch.where(draw.chance(probability), noisy, picture)


def jpeg(
    draw: Draw, picture: Float[Tensor, "batch 1 size size"], probability: float
) -> Float[Tensor, "batch 1 size size"]:
    """Quantise 8x8 cosine blocks as JPEG does, at qualities 20 to 90."""
    size, device = picture.shape[-1], picture.device
    padded = F.pad(picture, (0, -size % 8, 0, -size % 8), mode="replicate") * 255 - 128
    k = torch.arange(8, dtype=torch.float32, device=device)
    transform = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    transform[0] = math.sqrt(1 / 8)
    tiles = padded.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 1, rows, columns, 8, 8)
    quality = draw.uniform(20, 90)
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    table = torch.tensor(_JPEG_LUMINANCE, dtype=torch.float32, device=device)
    step = (table * percent[..., None, None] / 100).clamp(min=1)
    coefficients = torch.round((transform @ tiles @ transform.T) / step) * step
    tiles = transform.T @ coefficients @ transform
    restored = tiles.transpose(3, 4).reshape(padded.shape)[..., :size, :size]
    return torch.where(draw.chance(probability), (restored + 128) / 255, picture)
