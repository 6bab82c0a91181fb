"""Where a photograph shows the skin of a face: by color, for hair, hats and frames have another."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.sfs import gaussian_blur

_DARKEST = 0.03  # intensity whose color is not believed
_MIN_SPREAD = 0.04  # log ratio, of the colors of one face's skin
_FAR = 4.0  # spreads at which a color counts half
_BLUR_MM = 1.2  # standard deviation: cameras and JPEG blur color
_MIN_PIXELS = 200


def skin_by_color(
    rgb: Float[Tensor, "1 3 height width"],
    bare: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
) -> Float[Tensor, "1 1 height width"]:
    """Weight in [0, 1] of each pixel's color among those of this face's skin.

    The usual ratios of red to green and of green to blue, and their spread, are read where the
    coarse face has bare skin (medians, which glasses and a beard hardly change). Grey photographs
    have skin everywhere.

    Args:
        rgb: photograph in [0, 1]. bare: skin that hair seldom covers.
    """
    level = rgb.clamp(min=_DARKEST).log()
    sigma = max(_BLUR_MM / mm_per_pixel, 0.5)
    ratios = torch.cat([level[:, :1] - level[:, 1:2], level[:, 1:2] - level[:, 2:]])
    area = gaussian_blur(torch.ones_like(ratios[:1]), sigma)
    ratios = gaussian_blur(ratios, sigma) / area
    chosen = ratios[:, 0, bare[0, 0]]
    if chosen.shape[1] < _MIN_PIXELS:
        return torch.ones_like(rgb[:, :1])
    usual = chosen.median(dim=1, keepdim=True).values
    spread = 1.48 * (chosen - usual).abs().median(dim=1, keepdim=True).values
    far = (ratios[:, 0] - usual[..., None]) / (_FAR * spread.clamp(min=_MIN_SPREAD))[..., None]
    return (1 / (1 + far.square().sum(0).square()))[None, None]
