"""Where a photograph shows the skin of a face, or hair: by color, for other things have another."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.sfs import gaussian_blur

_DARKEST = 0.03  # intensity whose color is not believed
_MIN_SPREAD = 0.04  # log ratio, of the colors of one face's skin
_FAR = 4.0  # spreads at which a color counts half
_BLUR_MM = 1.2  # standard deviation: cameras and JPEG blur color
_MIN_PIXELS = 200
_REDDER = 0.5  # log ratio up to which hair may be redder and yellower than skin
_BEYOND = 0.1  # log ratio beyond the colors of hair at which a color counts half
_HAIR_DARK = 1.2  # log intensity below the skin's at which hair has any color
_HAIR_BRIGHT = 0.5  # log intensity above the skin's at which nothing is hair


def skin_by_color(
    rgb: Float[Tensor, "1 3 height width"],
    bare: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
    max_spread: float = math.inf,
) -> Float[Tensor, "1 1 height width"]:
    """Weight in [0, 1] of each pixel's color among those of this face's skin.

    The usual ratios of red to green and of green to blue, and their spread, are read where the
    coarse face has bare skin (medians, which glasses and a beard hardly change). Grey photographs
    have skin everywhere.

    Args:
        rgb: photograph in [0, 1]. bare: skin that hair seldom covers. max_spread: of log ratios,
            where light of several colors makes it large.
    """
    ratios = _ratios(rgb, mm_per_pixel)
    chosen = ratios[:, 0, bare[0, 0]]
    if chosen.shape[1] < _MIN_PIXELS:
        return torch.ones_like(rgb[:, :1])
    usual = chosen.median(dim=1, keepdim=True).values
    spread = 1.48 * (chosen - usual).abs().median(dim=1, keepdim=True).values
    far = (ratios[:, 0] - usual[..., None]) / (
        _FAR * spread.clamp(min=_MIN_SPREAD, max=max_spread)
    )[..., None]
    return (1 / (1 + far.square().sum(0).square()))[None, None]


def hair_by_color(
    rgb: Float[Tensor, "1 3 height width"],
    bare: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
) -> Float[Tensor, "1 1 height width"]:
    """Weight in [0, 1] of each pixel's color among those of hair and beards.

    These lie between grey and what is redder than the skin, or are too dark to tell; leaves, walls
    and flowers are greener or bluer, or brighter than the skin. Arguments as of `skin_by_color`.
    """
    if bare.sum() < _MIN_PIXELS:
        return torch.ones_like(rgb[:, :1])
    ratios = _ratios(rgb, mm_per_pixel)
    usual = ratios[:, 0, bare[0, 0]].median(dim=1).values[:, None, None]
    beyond = (ratios[:, 0] - usual - _REDDER).clamp(min=0)
    beyond = beyond + (usual.clamp(max=0) - ratios[:, 0]).clamp(min=0)
    level = rgb.clamp(min=_DARKEST).log().mean(1)
    away = level - level[bare[:, 0]].median()
    far = beyond.square().sum(0, keepdim=True) / _BEYOND**2
    far = torch.where(away < -_HAIR_DARK, 0.0, far) + torch.where(away > _HAIR_BRIGHT, 9.0, 0.0)
    return (1 / (1 + far.square()))[None]


def _ratios(
    rgb: Float[Tensor, "1 3 height width"], mm_per_pixel: float
) -> Float[Tensor, "2 1 height width"]:
    """Logarithms of red over green and of green over blue, without what cameras and JPEG blur."""
    level = rgb.clamp(min=_DARKEST).log()
    sigma = max(_BLUR_MM / mm_per_pixel, 0.5)
    ratios = torch.cat([level[:, :1] - level[:, 1:2], level[:, 1:2] - level[:, 2:]])
    return gaussian_blur(ratios, sigma) / gaussian_blur(torch.ones_like(ratios[:1]), sigma)
