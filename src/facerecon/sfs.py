"""Shape from shading: the albedo of a photograph, and the refinement of one depth map."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from facerecon.lighting import (
    BRIGHTEST,
    DARKEST,
    LUMA,
    estimate_light,
    shade,
    weighted_least_squares,
    well_exposed,
)
from facerecon.losses import CriterionWeights, ShadedImage, finenet_loss
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments, interpolate

ALBEDO_RIDGE = 1e-4
"""One standard deviation of one coefficient costs as much as an rms residual of 1 % intensity."""


class Shading(NamedTuple):
    """Light and albedo of a photograph.

    Attributes:
        light: (B, 4 or 9) spherical-harmonics coefficients.
        albedo_coefficients: (B, K) in standard deviations.
        albedo: (B, 1, H, W) grey reflectance in [0, 1], 0 outside the mask.
        shading: (B, 1, H, W) <light, Y(normals)>, so that albedo * shading explains the photograph.
    """

    light: Float[Tensor, "batch terms"]
    albedo_coefficients: Float[Tensor, "batch coefficients"]
    albedo: Float[Tensor, "batch 1 height width"]
    shading: Float[Tensor, "batch 1 height width"]


def albedo_maps(
    model: MorphableModel, fragments: Fragments
) -> tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch coefficients height width"]]:
    """Grey mean and basis of the albedo of a morphable model, as seen by each pixel.

    Source: mu_T and A_T of Eq. (10).

    Args:
        model: the morphable model.
        fragments: the rasterized mesh.

    Returns:
        The mean (B, 1, H, W) and the basis (B, K, H, W), both 0 in the background.
    """
    grey = model.albedo_mean.new_tensor(LUMA)
    per_vertex = torch.cat([(model.albedo_mean @ grey)[None], model.albedo_basis @ grey]).T
    maps = interpolate(per_vertex[None].contiguous(), fragments, model.triangles)
    return maps[:, :1], maps[:, 1:]


def estimate_albedo(
    image: Float[Tensor, "batch 1 height width"],
    albedo_mean: Float[Tensor, "batch 1 height width"],
    albedo_basis: Float[Tensor, "batch coefficients height width"],
    light: Float[Tensor, "batch terms"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    weight: Float[Tensor, "batch 1 height width"] | None = None,
    darkest: float = DARKEST,
    brightest: float = BRIGHTEST,
    ridge: float = ALBEDO_RIDGE,
) -> Float[Tensor, "batch coefficients"]:
    """Albedo coefficients that best explain a photograph under a known light.

    Source: Eq. (12), with a Gaussian prior on the coefficients: a face seen from the side, or a
    light that reaches only part of it, leaves some of them undetermined.

    Args:
        image: intensity in [0, 1].
        albedo_mean, albedo_basis: reflectance, from `albedo_maps`.
        light: from `estimate_light`.
        normals: unit normals, camera frame.
        mask: the pixels to explain.
        weight: optional weight of each pixel.
        darkest, brightest: pixels outside this range are left out as shadowed or clipped.
        ridge: squared intensity per squared standard deviation.

    Returns:
        Coefficients in standard deviations; zeros (the mean) for an item without a usable pixel.
    """
    usable = well_exposed(image, mask, darkest, brightest).to(image.dtype)
    if weight is not None:
        usable = usable * weight
    irradiance = shade(torch.ones_like(image), light, normals)
    target = image - albedo_mean * irradiance
    return weighted_least_squares(albedo_basis * irradiance, target, usable, ridge)


@torch.no_grad()
def estimate_shading(
    image: Float[Tensor, "batch 1 height width"],
    albedo_mean: Float[Tensor, "batch 1 height width"],
    albedo_basis: Float[Tensor, "batch coefficients height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    weight: Float[Tensor, "batch 1 height width"] | None = None,
    order: int = 1,
    ridge: float = ALBEDO_RIDGE,
) -> Shading:
    """Light from the mean albedo, then the albedo from that light; without gradient.

    Source: Eqs. (10), (11), (12).

    Args:
        image: intensity in [0, 1].
        albedo_mean, albedo_basis: reflectance, from `albedo_maps`.
        normals: unit normals of the coarse surface, camera frame.
        mask: the pixels to explain.
        weight: optional weight of each pixel.
        order: of the spherical harmonics.
        ridge: see `estimate_albedo`.
    """
    light = estimate_light(image, albedo_mean, normals, mask, weight, order)
    coefficients = estimate_albedo(
        image, albedo_mean, albedo_basis, light, normals, mask, weight, ridge=ridge
    )
    albedo = albedo_mean + torch.einsum("bk,bkhw->bhw", coefficients, albedo_basis)[:, None]
    # Far from the mean the linear model can leave the range of reflectances.
    albedo = albedo.clamp(0, 1) * mask
    shading = shade(torch.ones_like(image), light, normals) * mask
    return Shading(light, coefficients, albedo, shading)


def robust_shading(
    image: Float[Tensor, "batch 1 height width"],
    albedo_mean: Float[Tensor, "batch 1 height width"],
    albedo_basis: Float[Tensor, "batch coefficients height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    scale: float = 0.06,
    rounds: int = 3,
    order: int = 1,
) -> Shading:
    """`estimate_shading`, repeated with Cauchy weights.

    Hair, hats, glasses and cast shadows are down-weighted: plain least squares reads dark hair
    above a face as light from below.

    Args:
        scale: residual, in intensity, at which a pixel counts half.
        rounds: of reweighting after the plain solution.

    The other arguments are those of `estimate_shading`.
    """
    found = estimate_shading(image, albedo_mean, albedo_basis, normals, mask, order=order)
    for _ in range(rounds):
        residual = found.albedo * found.shading - image
        weight = 1 / (1 + (residual / scale).square())
        found = estimate_shading(
            image, albedo_mean, albedo_basis, normals, mask, weight, order=order
        )
    return found


class DetailBounds(NamedTuple):
    """Which part of a photograph detail of the surface may explain.

    radius: crop widths; slower changes of brightness are light and albedo.
    limit: intensity; larger residuals are highlights, hair or make-up.
    edge_contrast: relative contrast of the explained image at which a residual counts half; 0:
        everywhere in full. Lips, lids, brows and nose of the coarse face lie a little beside those
        of the photograph, and the residual at their edges is this shift, not detail.
    """

    radius: float
    limit: float
    edge_contrast: float = 0.0


@torch.no_grad()
def detail_target(
    shaded: ShadedImage,
    normals: Float[Tensor, "batch 3 height width"],
    trust: Float[Tensor, "batch 1 height width"],
    bounds: DetailBounds,
) -> ShadedImage:
    """Take out of a photograph what no detail of the surface can explain.

    Cast shadows, hair, make-up and a light that is not far away change the brightness over
    centimeters; one global light and ten albedo coefficients cannot follow. As the local lighting
    term of RGBD-Fusion (Or-El et al. 2015), their smooth part becomes a factor of the albedo. The
    rest is bounded, so that a highlight or a strand of hair does not become a ridge.

    Args:
        shaded: albedo and light of `estimate_shading`.
        normals: unit normals of the coarse surface, camera frame.
        trust: weight in [0, 1] of each pixel's residual: 1 on skin, 0 on eyes and hair.

    Returns:
        The same with another image and albedo, for `losses.finenet_loss`.
    """
    image, albedo, light, mask, _ = shaded
    explained = shade(albedo, light, normals)
    radius = bounds.radius * image.shape[-1]
    area = gaussian_blur(mask.to(image), radius).clamp(min=1e-3)
    smooth_image = gaussian_blur(image * mask, radius) / area
    smooth_explained = gaussian_blur(explained * mask, radius) / area
    factor = (smooth_image.clamp(min=0.02) / smooth_explained.clamp(min=0.02)).clamp(0.1, 10.0)
    explained = explained * factor
    residual = bounds.limit * torch.tanh((image - explained) / bounds.limit) * trust
    if bounds.edge_contrast > 0:
        contrast = explained / smooth_image.clamp(min=0.02) - 1
        residual = residual / (1 + (contrast / bounds.edge_contrast).square())
    return shaded._replace(image=(explained + residual) * mask, albedo=albedo * factor * mask)


def gaussian_blur(
    maps: Float[Tensor, "batch 1 height width"], sigma: float
) -> Float[Tensor, "batch 1 height width"]:
    """Gaussian blur, zero beyond the border; kernel cut at three standard deviations."""
    reach = max(1, math.ceil(3 * sigma))
    taps = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    maps = functional.conv2d(maps, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(maps, kernel.view(1, 1, -1, 1), padding=(reach, 0))


def refine_depth(
    coarse: Float[Tensor, "batch 1 height width"],
    shaded: ShadedImage,
    weights: CriterionWeights | None = None,
    steps: int = 300,
    step_size: float = 0.03,
) -> Float[Tensor, "batch 1 height width"]:
    """Minimize the criterion of FineNet over depth maps: the network learns to do it in one pass.

    Source: Eq. (14), solved per image as in the axiomatic methods that the network replaces.

    Args:
        coarse: depth of the coarse surface, mm; kept outside of the mask.
        shaded: albedo and light of `estimate_shading`.
        weights: those of the paper if None.
        steps: iterations of Adam, with a step size that falls to 0 along half a cosine.
        step_size: in pixels of depth.

    Returns:
        Refined depth, mm, without gradient.
    """
    shaded = ShadedImage(*(value.detach() for value in shaded))
    start, scale = coarse.detach(), shaded.mm_per_pixel.view(-1, 1, 1, 1)
    offset = torch.zeros_like(start, requires_grad=True)
    # Adam's steps do not depend on the size of the gradient, hence not on the size of the batch.
    optimizer = torch.optim.Adam([offset], lr=step_size, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            finenet_loss(start + offset * scale, start, shaded, weights).total.backward()
            optimizer.step()
            schedule.step()
    return start + offset.detach() * scale * shaded.mask
