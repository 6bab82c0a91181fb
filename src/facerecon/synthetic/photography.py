"""What a camera does to a synthetic scene: exposure, optics, sensor, sharpening, JPEG (3.2.2).

Every function works on a batch (B, C, S, S) of intensities, grey or color, and samples from the
generator it is given, on that generator's device.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.synthetic.config import CameraConfig
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.scenery import pixel_grid

# Luminance quantization table of the JPEG standard (ITU-T T.81, Table K.1), row by row.
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
_BLACK, _TOE, _SHOULDER, _HEADROOM = 0.02, 0.08, 0.75, 0.23  # the tone curve: 0.02 to 0.98
_PIVOT = 0.4  # grey level that contrast keeps
_MIN_BLUR = 0.5  # pixels: no lens and sensor resolve a single pixel


def photograph(
    sampler: Sampler,
    picture: Float[Tensor, "batch channels size size"],
    face: Bool[Tensor, "batch 1 size size"],
    config: CameraConfig,
) -> Float[Tensor, "batch channels size size"]:
    """The whole camera, from light to file; [0, 1]."""
    picture = vignette(sampler, picture, config)
    picture = expose(sampler, picture, face, config)
    picture = blur(sampler, picture, config)
    picture = lower_resolution(sampler, picture, config)
    picture = add_noise(sampler, picture, config)
    picture = sharpen(sampler, picture, config)
    return jpeg(sampler, picture.clamp(0, 1), config).clamp(0, 1)


def expose(
    sampler: Sampler,
    picture: Float[Tensor, "batch channels size size"],
    face: Bool[Tensor, "batch 1 size size"],
    config: CameraConfig,
) -> Float[Tensor, "batch channels size size"]:
    """Exposure as a camera chooses it (faces come out near mid-grey), a tone curve, contrast."""
    gamma = sampler.uniform(*config.gamma)
    area = picture.shape[1] * face.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (picture * face).sum((1, 2, 3), keepdim=True) / area
    target = sampler.uniform(*config.exposure) ** (1 / gamma)
    gain = (target / mean.clamp(min=1e-3)) ** sampler.uniform(*config.adaptation)
    gain = torch.where(sampler.chance(config.p_auto_exposure), gain, torch.ones_like(gain))
    picture = (picture * gain).clamp(min=1e-6) ** gamma
    saturation = sampler.uniform(*config.saturation)
    if picture.shape[1] > 1:
        grey = picture.mean(1, keepdim=True)
        picture = grey + (picture - grey) * saturation
    contrast, brightness = sampler.uniform(*config.contrast), sampler.uniform(*config.brightness)
    picture = picture * contrast + (_PIVOT * (1 - contrast) + brightness)
    return film(clarify(sampler, picture, config))


def clarify(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """More contrast between places some millimeters apart, without finer edges or noise."""
    amount = sampler.uniform(*config.clarity)
    if config.clarity == (0, 0):
        return picture
    size = picture.shape[-1]
    step = max(size // 50, 1)  # pixels, 4 of a 200-pixel crop
    around = F.avg_pool2d(picture, step, ceil_mode=True)
    around = F.avg_pool2d(F.pad(around, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    around = F.interpolate(around, size=(size, size), mode="bilinear")
    return torch.lerp(around, picture, 1 + amount)


def film(picture: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """A toe and a shoulder instead of hard clips: shadows and highlights keep some shape."""
    depth = _TOE - _BLACK
    toe = _BLACK + depth * torch.exp((picture - _TOE).clamp(max=0) / depth)
    shoulder = _SHOULDER + _HEADROOM * (1 - torch.exp((_SHOULDER - picture) / _HEADROOM))
    picture = torch.where(picture < _TOE, toe, picture)
    return torch.where(picture > _SHOULDER, shoulder, picture)


def vignette(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Light falls off toward the corners of some photographs."""
    size = picture.shape[-1]
    column, row = pixel_grid(size, picture.device)
    radius = ((column / size - 0.5).square() + (row / size - 0.5).square()) * 2
    loss = sampler.uniform(*config.vignette) * sampler.chance(config.p_vignette)
    if config.p_vignette == 0:
        return picture
    return picture * (1 - loss * radius)


def blur(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Gaussian blur with a width of its own per image and axis (defocus, slight motion)."""
    count, channels, size = picture.shape[:3]
    least = torch.full_like(sampler.uniform(0, 1), _MIN_BLUR)
    scale = size / 200
    sigma = torch.where(sampler.chance(config.p_blur), sampler.uniform(*config.blur) * scale, least)
    along = torch.where(
        sampler.chance(config.p_motion), sampler.uniform(*config.blur) * scale, sigma
    )
    if not config.lens:
        return picture
    reach = math.ceil(3 * max(config.blur[1] * scale, _MIN_BLUR))
    taps = torch.arange(-reach, reach + 1, device=picture.device).view(1, 1, 1, -1)
    planes = picture.reshape(1, count * channels, size, size)
    for width, axis in ((along.maximum(least), 3), (sigma.maximum(least), 2)):
        kernel = torch.exp(-(taps**2) / (2 * width**2))
        kernel = (kernel / kernel.sum(3, keepdim=True)).repeat_interleave(channels, 0)
        edges = (reach, reach, 0, 0)
        kernel, edges = (kernel, edges) if axis == 3 else (kernel.mT, edges[::-1])
        padded = F.pad(planes, edges, mode="replicate")
        planes = F.conv2d(padded, kernel, groups=count * channels)
    return planes.view_as(picture)


def lower_resolution(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Some images taken as if from a small one."""
    size = picture.shape[-1]
    low, high = config.resolution
    small = sampler.integer(max(int(low * size), 1), max(int(high * size), 2))
    chosen = sampler.chance(config.p_low_resolution).flatten().nonzero().squeeze(1)
    if not len(chosen):
        return picture
    coarse = F.interpolate(picture[chosen], size=(small, small), mode="area")
    coarse = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return picture.index_copy(0, chosen, coarse)


def sharpen(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Unsharp masking with the halo that phones leave."""
    amount = sampler.uniform(*config.sharpen)
    chosen = sampler.chance(config.p_sharpen).flatten().nonzero().squeeze(1)
    if not len(chosen):
        return picture
    part = picture[chosen]
    soft = F.avg_pool2d(F.pad(part, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return picture.index_copy(0, chosen, part + amount[chosen] * (part - soft))


def add_noise(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Read noise and photon noise (its variance grows with intensity)."""
    read, photon = sampler.uniform(*config.read_noise), sampler.uniform(*config.photon_noise)
    sigma = read + photon * picture.clamp(min=0).sqrt()
    return picture + sampler.normal(*picture.shape[1:]) * sigma * sampler.chance(config.p_noise)


def jpeg(
    sampler: Sampler, picture: Float[Tensor, "batch channels size size"], config: CameraConfig
) -> Float[Tensor, "batch channels size size"]:
    """Quantize 8x8 cosine blocks as JPEG does; each channel by the luminance table."""
    size, device = picture.shape[-1], picture.device
    quality = sampler.uniform(*config.quality)
    chosen = sampler.chance(config.p_jpeg).flatten().nonzero().squeeze(1)
    if not len(chosen):
        return picture
    part, quality = picture[chosen], quality[chosen]
    padded = F.pad(part, (0, -size % 8, 0, -size % 8), mode="replicate") * 255 - 128
    k = torch.arange(8, dtype=torch.float32, device=device)
    transform = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) / 2
    transform[0] = math.sqrt(1 / 8)
    tiles = padded.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, C, rows, columns, 8, 8)
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    table = torch.tensor(_JPEG_LUMINANCE, dtype=torch.float32, device=device)
    step = (table * percent[..., None, None] / 100).clamp(min=1)
    coefficients = torch.round((transform @ tiles @ transform.T) / step) * step
    tiles = transform.T @ coefficients @ transform
    restored = tiles.transpose(3, 4).reshape(padded.shape)[..., :size, :size]
    return picture.index_copy(0, chosen, (restored + 128) / 255)
