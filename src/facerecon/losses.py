"""Training criteria of both networks.

Every pixel loss is a mean over the mask, then over the batch, where the paper writes a sum: the
balance of the terms does not depend on the size of the image or of the face in it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.depth import five_point_interior, laplacian, normals_from_depth
from facerecon.lighting import shade

INTENSITY_UNIT = 1 / 255
"""Intensity that counts as one in Eq. (8): the residual is measured in 8-bit grey levels."""

DEPTH_UNIT = 1 / 128
"""Pixel widths of depth that count as one in Eq. (13).

The paper states the weights of Eq. (14) but no units, and the balance depends on them: relative to
the squared intensity the smoothness weighs INTENSITY_UNIT^2 / DEPTH_UNIT and the fidelity
5e-3 (INTENSITY_UNIT / DEPTH_UNIT)^2. On a face-sized surface with known wrinkles, light and albedo
(tests/test_losses.py) the coarse normals are wrong by 1.4 degrees on average. At the minimum of the
energy it is 1.3 with these units; 2.1 with images in [0, 1] and depth in pixels, where smoothness
bends the whole face; and 2.7 with grey levels and depth in pixels, where nothing stops the noise.
Pixels, not mm, because shading depends on slopes only: the criterion is a function of what one sees
in the image, not of its scale in mm.
"""


class ShadedImage(NamedTuple):
    """A photograph and what its shading depends on: all of Eq. (8) but the depth.

    image: intensity in [0, 1]. albedo: reflectance in [0, 1]. light: 4 or 9 spherical-harmonics
    coefficients. mask: the pixels that count. mm_per_pixel: width of a pixel, one per item.
    """

    image: Float[Tensor, "batch 1 height width"]
    albedo: Float[Tensor, "batch 1 height width"]
    light: Float[Tensor, "batch terms"]
    mask: Bool[Tensor, "batch 1 height width"]
    mm_per_pixel: Float[Tensor, " batch"]


class CriterionWeights(NamedTuple):
    """The lambdas of Eq. (14), by default the paper's, and the units of its terms.

    intensity_unit: see `INTENSITY_UNIT`. depth_unit: in pixels, see `DEPTH_UNIT`.
    """

    shading: float = 1.0
    fidelity: float = 5e-3
    smoothness: float = 1.0
    intensity_unit: float = INTENSITY_UNIT
    depth_unit: float = DEPTH_UNIT


class FineNetLoss(NamedTuple):
    """Eq. (14) and its unweighted terms: scalars, in the units above.

    Attributes:
        total: the weighted sum.
        shading: mean squared residual, squared grey levels.
        fidelity: mean squared depth change, squared depth units.
        smoothness: mean absolute Laplacian, depth units.
    """

    total: Float[Tensor, ""]
    shading: Float[Tensor, ""]
    fidelity: Float[Tensor, ""]
    smoothness: Float[Tensor, ""]


def gmse(
    predicted: Float[Tensor, "batch coefficients"],
    target: Float[Tensor, "batch coefficients"],
    metric: Float[Tensor, "coefficients coefficients"],
) -> Float[Tensor, ""]:
    """Geometry mean square error: the weighted mean squared displacement of the vertices, mm^2.

    Source: Eq. (4), divided by the number of vertices. Through the Gram matrix of the basis it
    costs one small product instead of two decoded meshes.

    Args:
        predicted, target: identity and expression coefficients, in standard deviations.
        metric: `MorphableModel.geometry_metric()`.
    """
    error = predicted - target
    return torch.einsum("bi,ij,bj->b", error, metric, error).mean()


def identity_confusion(
    predicted: Float[Tensor, "batch coefficients"],
    true: Float[Tensor, "batch coefficients"],
    metric: Float[Tensor, "coefficients coefficients"],
    width: float,
) -> Float[Tensor, ""]:
    """How hard it is to tell from the estimated identities which photographs show one person.

    InfoNCE (van den Oord et al. 2018) with the distance d of Eq. (4): the negative logarithm of the
    share that a person's other photographs have in the sum of exp(-d^2 / (2 width^2)) over all
    other photographs; the mean over those of which there is another one, 0 if there is none.

    Args:
        predicted, true: identity coefficients, in standard deviations.
        metric: their part of `MorphableModel.geometry_metric()`.
        width: mm.
    """
    product = predicted @ metric @ predicted.mT
    norm = product.diagonal()
    squared = norm[:, None] + norm - 2 * product
    itself = torch.eye(len(true), dtype=torch.bool, device=true.device)
    same = (true[:, None] == true).all(2) & ~itself
    known = same.any(1)
    if not known.any():
        return predicted.new_zeros(())
    likeness = (-squared / (2 * width**2)).masked_fill(itself, -torch.inf)[known]
    return (
        likeness.logsumexp(1) - likeness.masked_fill(~same[known], -torch.inf).logsumexp(1)
    ).mean()


def pose_mse(
    predicted: Float[Tensor, "batch 6"], target: Float[Tensor, "batch 6"]
) -> Float[Tensor, ""]:
    """Mean square error of the six pose parameters, in their units of docs/conventions.md.

    Source: section 3.3.
    """
    return (predicted - target).square().mean()


def masked_mean(
    values: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch 1 height width"]
) -> Float[Tensor, ""]:
    """Mean over the mask of each item, then over the batch; an empty mask counts as 0."""
    total = torch.where(mask, values, 0.0).sum(dim=(1, 2, 3))
    return (total / mask.sum(dim=(1, 2, 3)).clamp(min=1)).mean()


def shading_energy(
    depth: Float[Tensor, "batch 1 height width"], shaded: ShadedImage
) -> Float[Tensor, ""]:
    """Mean squared difference between the photograph and the shading of a depth map.

    Source: Eq. (8).

    Args:
        depth: mm.
    """
    normals = normals_from_depth(depth, shaded.mm_per_pixel, shaded.mask)
    residual = shade(shaded.albedo, shaded.light, normals) - shaded.image
    return masked_mean(residual.square(), shaded.mask)


def fidelity(
    depth: Float[Tensor, "batch 1 height width"],
    coarse: Float[Tensor, "batch 1 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
) -> Float[Tensor, ""]:
    """Mean squared distance to the coarse surface, in the squared unit of the two maps.

    Source: E_f of Eq. (13).
    """
    # Masked before the square: its gradient at a NaN of the background would be NaN.
    return masked_mean(torch.where(mask, depth - coarse, 0.0).square(), mask)


def smoothness(
    depth: Float[Tensor, "batch 1 height width"], mask: Bool[Tensor, "batch 1 height width"]
) -> Float[Tensor, ""]:
    """L1 norm of the discrete Laplacian, as a mean over the pixels where it is defined.

    Source: E_sm of Eq. (13).
    """
    return masked_mean(laplacian(depth, mask).abs(), five_point_interior(mask))


def finenet_loss(
    depth: Float[Tensor, "batch 1 height width"],
    coarse: Float[Tensor, "batch 1 height width"],
    shaded: ShadedImage,
    weights: CriterionWeights | None = None,
) -> FineNetLoss:
    """The unsupervised criterion of FineNet.

    Source: Eq. (14).

    Args:
        depth, coarse: the refined surface and the one it started from, mm.
        shaded: light and albedo from the coarse surface by Eqs. (11) and (12), without gradient.
        weights: those of the paper if None.
    """
    weights = weights or CriterionWeights()
    unit = weights.depth_unit * shaded.mm_per_pixel.view(-1, 1, 1, 1)
    residual = shading_energy(depth, shaded) / weights.intensity_unit**2
    distance = fidelity(depth / unit, coarse / unit, shaded.mask)
    roughness = smoothness(depth / unit, shaded.mask)
    total = (
        weights.shading * residual + weights.fidelity * distance + weights.smoothness * roughness
    )
    return FineNetLoss(total, residual, distance, roughness)


class LinearShading(NamedTuple):
    """Eq. (8) in log intensity, linear in the slopes that are added to a surface.

    residual: log intensity that the surface, its light and a local albedo leave unexplained.
    across, along: change of the log shading by dz/dx (x to the right) and dz/dy (y up).
    weight: in [0, 1], how far the pixel's brightness is believed to be the shape's.
    """

    residual: Float[Tensor, "batch 1 height width"]
    across: Float[Tensor, "batch 1 height width"]
    along: Float[Tensor, "batch 1 height width"]
    weight: Float[Tensor, "batch 1 height width"]


class LinearWeights(NamedTuple):
    """Weights of `linear_finenet_loss` beside a shading of 1; rises are in pixel widths.

    smoothness: of the squared Laplacian. fidelity: of the squared steps to the next pixels.
    anchor: of the squares.
    """

    smoothness: float
    fidelity: float
    anchor: float


LOG_UNIT = 0.01
"""Log intensity that counts as one in `linear_finenet_loss`: a percent."""


def linear_finenet_loss(
    depth: Float[Tensor, "batch 1 height width"],
    coarse: Float[Tensor, "batch 1 height width"],
    shading: LinearShading,
    mask: Bool[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    weights: LinearWeights,
) -> FineNetLoss:
    """The criterion of Eq. (14) in a form that is well conditioned on real skin; not the paper's.

    Squares throughout, of the rise over the coarse surface: a convex function with one minimum,
    which `shading_refinement.refine_by_shading` finds directly.

    Args:
        depth, coarse: the refined surface and the one it started from, mm.
        shading: of the coarse surface, without gradient.

    Returns:
        FineNetLoss: in squared units of `LOG_UNIT`; the fidelity holds that of slopes and depth.
    """
    rise = torch.where(mask, (depth - coarse) / mm_per_pixel.view(-1, 1, 1, 1), 0.0)
    steps = torch.cat([rise.diff(dim=3)[..., 1:-1, 1:], rise.diff(dim=2)[..., 1:, 1:-1]], dim=1)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    x = (rise[..., 1:-1, 2:] - rise[..., 1:-1, :-2]) / 2
    y = (rise[..., :-2, 1:-1] - rise[..., 2:, 1:-1]) / 2
    residual, across, along, weight = (each[inner] for each in shading)
    inside = five_point_interior(mask)[inner]
    left = weight * (residual - across * x - along * y).square()
    shaded = masked_mean(left, inside)
    kept = masked_mean(
        weights.fidelity * steps.square().sum(1, keepdim=True)
        + weights.anchor * rise[inner].square(),
        inside,
    )
    bent = weights.smoothness * masked_mean(laplacian(rise, mask)[inner].square(), inside)
    shaded, kept, bent = (each / LOG_UNIT**2 for each in (shaded, kept, bent))
    return FineNetLoss(shaded + kept + bent, shaded, kept, bent)


class DetailLoss(NamedTuple):
    """Supervision with a true surface: scalars.

    Attributes:
        total: the weighted sum.
        normals: mean angle to the true normals, degrees.
        squared_normals: mean of its square.
        depth: mean squared depth error without its mean, squared pixels.
    """

    total: Float[Tensor, ""]
    normals: Float[Tensor, ""]
    squared_normals: Float[Tensor, ""]
    depth: Float[Tensor, ""]


def detail_loss(
    depth: Float[Tensor, "batch 1 height width"],
    truth: Float[Tensor, "batch 1 height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    valid: Bool[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    normal_weight: float = 10.0,
    squared_normal_weight: float = 1.0,
    depth_weight: float = 1000.0,
) -> DetailLoss:
    """Distance to a known surface, the criterion that section 4.3 argues against.

    The mean squared depth error that the paper names is insensitive to wrinkles, so the angle of
    the normals is added: its mean, for all of the skin, and its mean square, for the few pixels of
    wrinkles. Under the mean alone, wrinkles are predicted only where they are more likely than not.

    Args:
        depth: refined, mm, on `mask`. truth, normals: the true surface, on `valid`.
        mm_per_pixel: width of a pixel in mm, one per item.
    """
    found = normals_from_depth(depth, mm_per_pixel, mask)
    chord = ((found - normals).square().sum(1, keepdim=True) + 1e-8).sqrt()
    chord = torch.rad2deg(chord)  # of a small angle: that angle
    angle, squared_angle = masked_mean(chord, valid), masked_mean(chord.square(), valid)
    error = torch.where(valid, (depth - truth) / mm_per_pixel.view(-1, 1, 1, 1), 0.0)
    area = valid.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    error = error - error.sum(dim=(1, 2, 3), keepdim=True) / area
    squared = masked_mean(error.square(), valid)
    total = normal_weight * angle + squared_normal_weight * squared_angle + depth_weight * squared
    return DetailLoss(total, angle, squared_angle, squared)


def sobolev_gradient(
    gradient: Float[Tensor, "batch 1 height width"], cutoff: float
) -> Float[Tensor, "batch 1 height width"]:
    """The gradient of a depth map in a Sobolev norm instead of the pixel-wise one.

    Shading fixes slopes, so the plain gradient of Eq. (8) is dominated by pixel-sized dipoles and a
    network needs very long to build a fold out of them. Dividing its spectrum by cutoff^2 + k^2
    makes the direction of descent smooth; the minima are the same.

    Args:
        gradient: of a criterion with respect to a depth map.
        cutoff: radians per pixel; slower waves than this are left as they are.

    Returns:
        The filtered gradient, with the root mean square of the given one.
    """
    height, width = gradient.shape[-2:]
    size = (2 * height, 2 * width)  # zeros around: one side must not wrap into the other
    row = torch.fft.fftfreq(size[0], device=gradient.device)[:, None]
    column = torch.fft.rfftfreq(size[1], device=gradient.device)
    squared = (2 * torch.pi) ** 2 * (row**2 + column**2)
    spectrum = torch.fft.rfft2(gradient, s=size) / (cutoff**2 + squared)
    smooth = torch.fft.irfft2(spectrum, s=size)[..., :height, :width]
    scale = gradient.square().mean().sqrt() / smooth.square().mean().sqrt().clamp(min=1e-12)
    return smooth * scale
