"""Albedo out of a photographed texture: the light, the exposure and foreign objects taken out.

Textures here are logarithms of intensity, so that light, exposure and skin tone are sums.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion, binary_opening, gaussian_filter, label
from torch import Tensor

from facerecon.lighting import DARKEST, LUMA, estimate_light, shade
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import Rendering
from facerecon.sfs import albedo_maps
from facerecon.synthetic.skin import HEMOGLOBIN, MELANIN, PIGMENT_FREE
from facerecon.synthetic.skin_zones import Zones, skin_weight

MIN_SHADING = 0.35
"""Of the mean shading; what is darker is lit by what bounces around and left out."""


STAGES = ((0.15, 1), (0.10, 1), (0.06, 1), (0.06, 2), (0.04, 2), (0.04, 2), (0.04, 2))
"""Residual, in intensity, at which a pixel counts half, and the order of the light fitted next."""

SKIN_SPREAD = ((0.08, 0.03, 0.03), (0.16, 0.07, 0.07))
"""Least and largest spread that one photograph's bare skin is granted: grey, red-green, green-blue,
in log intensity."""


class EstimatedShading(NamedTuple):
    """shading (1, 1, S, S): mean 1 over the skin, 0 outside the face. residual: RMS intensity."""

    shading: Float[Tensor, "1 1 size size"]
    residual: float


def estimate_shading(
    model: MorphableModel,
    image: Float[Tensor, "1 1 size size"],
    rendering: Rendering,
    ridge: float = 1e-3,
) -> EstimatedShading:
    """Second-order light from the smooth skin of a grey photograph.

    Source: Eq. (11), with Cauchy weights against hair, beards and cast shadows, from ambient light
    to nine terms: many terms at once would explain a fringe as light from below.

    Args:
        ridge: keeps the higher terms small where the visible skin says little about them.
    """
    skin = interpolate(skin_weight(model)[None, :, None], rendering.fragments, model.triangles)
    mask = rendering.mask & (skin > 0.5)
    albedo, _ = albedo_maps(model, rendering.fragments)
    ambient = (image / albedo.clamp(min=DARKEST))[mask].median()
    residual, light = ambient * albedo - image, None
    for scale, order in STAGES:
        weight = 1 / (1 + (residual / scale).square())
        light = estimate_light(image, albedo, rendering.normals, mask, weight, order, ridge=ridge)
        residual = shade(albedo, light, rendering.normals) - image
    shading = shade(torch.ones_like(image), light, rendering.normals) * rendering.mask
    spread = 1.4826 * residual[mask].abs().median()
    return EstimatedShading(shading / shading[mask].mean().clamp(min=1e-3), float(spread))


def balance(
    texture: Float[np.ndarray, "channels texels texels"],
    mirrored: Float[np.ndarray, "channels texels texels"],
    both: Bool[np.ndarray, "texels texels"],
    width: float,
) -> Float[np.ndarray, "channels texels texels"]:
    """Take out what differs smoothly between left and right: light from one side that was left.

    Args:
        texture, mirrored: logarithms. both: where both are known. width: texels, standard
            deviation below which a difference counts as skin.
    """
    weight = gaussian_filter(both.astype(np.float32), width)
    half = (texture - mirrored) / 2 * both
    smooth = np.stack([gaussian_filter(channel, width) for channel in half])
    return texture - smooth / np.maximum(weight, 1e-2)


def even_out(
    texture: Float[np.ndarray, "3 texels texels"],
    reference: Float[np.ndarray, "3 texels texels"],
    where: Bool[np.ndarray, "texels texels"],
    width: float,
    share: float = 0.6,
) -> Float[np.ndarray, "3 texels texels"]:
    """Take out a share of what differs smoothly from the reference, but for the common level.

    Nine numbers do not describe a lamp near the face or the shade of brows, while skin without a
    beard hardly changes over centimeters.

    Args:
        texture, reference: logarithms. where: bare skin that is known. width: texels, standard
            deviation over which light changes.
    """
    difference = (texture - reference) * where
    level = difference.sum((1, 2)) / max(int(where.sum()), 1)
    difference = (difference - level[:, None, None]) * where
    weight = gaussian_filter(where.astype(np.float32), width)
    smooth = np.stack([gaussian_filter(channel, width) for channel in difference])
    # Far from bare skin, such as in a beard, nothing is known: the correction fades out.
    return texture - share * smooth / np.maximum(weight, 0.1)


def bare_skin(
    texture: Float[np.ndarray, "3 texels texels"],
    known: Bool[np.ndarray, "texels texels"],
    where: Zones,
    reference: Float[np.ndarray, "3 texels texels"],
) -> Bool[np.ndarray, "texels texels"]:
    """The known texels without hair, hats and clothes in the zone where those may be.

    A texel must resemble the bare skin of the same photograph: brightness and two color
    differences, relative to the reference, within 3.5 robust standard deviations. Where beards
    grow it may be darker. The largest coherent patch is kept, without its rim.
    """
    size = len(known)
    soft = cv2.GaussianBlur(known.astype(np.float32), (0, 0), size / 200)
    opponent = _opponent((texture - reference) * known)
    opponent = np.stack([cv2.GaussianBlur(c, (0, 0), size / 200) for c in opponent])
    opponent = opponent / np.maximum(soft, 1e-3)
    sample = opponent[:, where.core & known]
    if sample.shape[1] < 100:
        return np.zeros_like(known)
    center = np.median(sample, axis=1)
    spread = 1.4826 * np.median(np.abs(sample - center[:, None]), axis=1)
    spread = np.clip(spread, SKIN_SPREAD[0], SKIN_SPREAD[1])
    deviation = (opponent - center[:, None, None]) / spread[:, None, None]
    deviation[0] = np.where(where.bearded, np.maximum(deviation[0], 0), deviation[0])
    distance = np.sqrt((deviation**2).sum(0))
    known = known & where.shown
    good = known & ((distance < 3.5) | ~(where.tested | where.bearded))
    good = binary_opening(good, iterations=max(1, size // 128))
    patches, n = label(good)
    if n == 0:
        return good
    largest = np.argmax(np.bincount(patches[where.core & good], minlength=n + 1)[1:]) + 1
    kept = patches == largest
    # The rim of hair is blurred into the skin; a hidden half's rim is not, but loses little.
    rim = binary_erosion(kept | ~known, iterations=max(1, size // 64), border_value=1)
    return kept & binary_erosion(rim & kept | ~where.tested, iterations=1, border_value=1)


def _opponent(texture: Float[np.ndarray, "3 texels texels"]) -> np.ndarray:
    red, green, blue = texture
    return np.stack(
        [np.tensordot(np.array(LUMA, texture.dtype), texture, 1), red - green, green - blue]
    )


def dim_highlights(
    texture: Float[np.ndarray, "3 texels texels"],
    bare: Float[np.ndarray, " 3"],
    reference: Float[np.ndarray, "3 texels texels"],
    limit: float = 0.10,
    share: float = 0.25,
) -> Float[np.ndarray, "3 texels texels"]:
    """Compress what is brighter than the person's bare skin: gloss, not pigment.

    Args:
        bare: median log color of the bare skin. reference: log albedo, whose own differences
            between places stay. limit: log intensity above which a texel shines. share: of the
            excess that stays.
    """
    grey = np.array(LUMA, texture.dtype)
    excess = np.tensordot(grey, texture - reference, 1) - limit - grey @ bare
    return texture - (1 - share) * np.maximum(excess, 0)


class Exposure(NamedTuple):
    """What a photograph's log colors carry beyond the skin, and the skin's pigments."""

    shift: Float[np.ndarray, " 3"]  # to subtract
    melanin: float
    hemoglobin: float
    surprise: float  # largest deviation from the priors, in their standard deviations


MELANIN_PRIOR = (0.74, 0.50)
"""Mean and spread of the procedural skin's tones (`config.SkinConfig`)."""
HEMOGLOBIN_PRIOR = (0.14, 0.07)
EXPOSURE_SPREAD = 0.25
TINT_SPREAD = 0.06


def explain_color(color: Float[np.ndarray, " 3"], level: float = 0.0) -> Exposure:
    """Split the log color of a photograph's skin into pigments, exposure and tint of the light.

    A pale face in little light and a dark one in bright light look alike up to hue: the most
    probable split under Gaussian priors (Beer-Lambert absorption makes the problem linear).

    Args:
        color: median log R, G, B of bare skin, shading of mean 1 divided out.
        level: mean log exposure of such photographs.
    """
    design = np.zeros((3, 5))
    design[:, 0], design[:, 1], design[:, 2] = -np.array(MELANIN), -np.array(HEMOGLOBIN), 1.0
    design[0, 3] = design[2, 4] = 1.0
    mean = np.array([MELANIN_PRIOR[0], HEMOGLOBIN_PRIOR[0], level, 0.0, 0.0])
    std = np.array(
        [MELANIN_PRIOR[1], HEMOGLOBIN_PRIOR[1], EXPOSURE_SPREAD, TINT_SPREAD, TINT_SPREAD]
    )
    prior = design * std
    noise = 0.02**2 * np.eye(3)
    gap = color - np.log(PIGMENT_FREE) - design @ mean
    whitened = prior.T @ np.linalg.solve(prior @ prior.T + noise, gap)
    found = mean + std * whitened
    melanin, hemoglobin = (max(float(value), 0.0) for value in found[:2])
    skin = typical_skin(melanin, hemoglobin)
    return Exposure(color - skin, melanin, hemoglobin, float(np.abs(whitened).max()))


def typical_skin(
    melanin: float = MELANIN_PRIOR[0], hemoglobin: float = HEMOGLOBIN_PRIOR[0]
) -> Float[np.ndarray, " 3"]:
    """Log color of bare procedural skin with these pigments."""
    absorbed = melanin * np.array(MELANIN) + hemoglobin * np.array(HEMOGLOBIN)
    return np.log(PIGMENT_FREE) - absorbed
