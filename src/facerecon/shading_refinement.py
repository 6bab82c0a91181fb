"""A few linear steps of shape from shading on top of a network's normals.

The paper's FineNet was to replace such an optimization; here it follows a network. NormalNet knows
what faces look like; the photograph's shading shows what is too fine or too rare for the network.
So the steps stay near its normals where its expected error is low, and follow the photograph where
that shows bare skin.

In logarithms, Eq. (8) becomes log I = log albedo + log <light, Y(normals)>, where the albedo is an
offset: its local mean takes up skin tone, make-up and soft shadows alike.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion
from torch import Tensor

from facerecon.backends import shading_refinement_numba as kernels
from facerecon.lighting import BRIGHTEST, DARKEST
from facerecon.losses import LinearShading

_MIN_SHADING = 0.08  # of the level of the photograph; darker is shadow
_JUMP = 4.0  # pixel widths of depth between neighbors: one surface hides another
_LIGHT_ROUNDS = 5
_MIN_SPREAD = 0.12  # log intensity, of the albedo of skin
_MAX_STEPS = 60  # of the conjugate gradients, each time
_TOLERANCE = 0.03


@dataclass(frozen=True)
class ShadingRefinement:
    """How far to believe the shading. Lengths in mm of a mean-sized face.

    Tuned on yaleB01 to yaleB05, checked on yaleB06 to yaleB10.
    """

    iterations: int = 2
    albedo_mm: float = 9.0  # standard deviation of the local mean
    albedo_contrast: float = 0.5  # log intensity; larger steps are the albedo's
    smoothness: float = 0.1  # of the squared Laplacian, in pixel widths
    fidelity: float = 0.1  # of the squared changes of the slopes
    anchor: float = 0.001  # of the squared changes of depth, in pixel widths
    outlier: float = 0.3  # log intensity that the shape does not explain: a pixel counts a quarter
    tone: float = 2.5  # spreads of the skin's albedo beyond which hair, hats and beards begin
    trusted_error: float = 0.3  # rad; where NormalNet expects more, shading counts less


class Shaded(NamedTuple):
    """Refined slopes, the light that explains them, and what it left to the albedo.

    slopes: dz/dx (x to the right) and dz/dy (y up). rise: mm of depth that the refinement adds.
    light: of first order, as of `lighting.sh_basis`, for an albedo of 1 on average.
    albedo: of each pixel relative to that. trust: weight of each pixel in the last step.
    """

    slopes: Float[Tensor, "1 2 height width"]
    rise: Float[Tensor, "1 1 height width"]
    light: Float[Tensor, "1 4"]
    albedo: Float[Tensor, "1 1 height width"]
    trust: Float[Tensor, "1 1 height width"]


@torch.no_grad()
def refine_by_shading(
    image: Float[Tensor, "1 1 height width"],
    slopes: Float[Tensor, "1 2 height width"],
    depth: Float[Tensor, "1 1 height width"],
    mask: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
    skin: Float[Tensor, "1 1 height width"],
    error: Float[Tensor, "1 1 height width"] | None = None,
    settings: ShadingRefinement | None = None,
) -> Shaded:
    """Change a surface so that its shading explains the photograph better.

    What changes is a rise of the depth, so that what is added to the slopes belongs to a surface.
    Each iteration reads the light from the surface at hand (robust least squares), takes the local
    mean of what it leaves of the photograph for the albedo, and solves one linear system for the
    rise.

    Args:
        image: intensity in [0, 1]. slopes: of the network, dz/dx and dz/dy.
        depth: mm, larger is nearer; tells where one surface hides another.
        mm_per_pixel: width of a pixel.
        skin: weight in [0, 1]: 0 where there is none (eyes, mouth).
        error: expected angle of the normals in rad; alike everywhere if None.
    """
    settings = settings or ShadingRefinement()
    known, level, z0, whole, trust = _read(image, depth, mask, mm_per_pixel, skin)
    stiffness = np.ones_like(trust)
    if error is not None:
        ratio = settings.trusted_error / error[0, 0].float().cpu().numpy().clip(0.02)
        trust = trust * np.minimum(ratio, 1) ** 2
        stiffness = ratio.clip(0.5, 2) ** 2
    start = list(slopes[0].float().cpu().numpy())
    change = _bordered(np.zeros_like(z0))
    edges = _edges(known, z0, stiffness * settings.fidelity)
    inside = _bordered(whole.astype(np.float32))
    anchor = _bordered(np.where(known, np.float32(settings.anchor), 0))
    darkest = _MIN_SHADING * float(level[known].mean())
    nothing = np.zeros_like(z0)
    found = _Linearized(nothing, nothing, nothing, trust, np.zeros(4, np.float32), nothing)
    for _ in range(settings.iterations):
        present = change[1:-1, 1:-1]
        at = _added(start, present, whole)
        found = _linearized(level, at, trust, mm_per_pixel, darkest, settings)
        across, along = (
            _bordered(0.5 * np.sqrt(found.weight) * each) for each in (found.across, found.along)
        )  # half of the differences over two pixels
        factors = [each[1:-1, 1:-1] for each in (across, along)]
        moved = np.sqrt(found.weight) * found.residual + _twice(present, factors)
        kernels.solve(
            change, across, along, _bordered(moved), inside, *edges, anchor,
            settings.smoothness, _TOLERANCE, _MAX_STEPS,
        )  # fmt: skip
    rise = np.where(known, change[1:-1, 1:-1], 0.0)
    maps = (
        np.stack(_added(start, rise, whole)),
        rise[None] * mm_per_pixel,
        np.exp(found.albedo)[None],
        found.weight[None],
    )
    slopes, rise, albedo, trust = (torch.from_numpy(each).to(depth)[None] for each in maps)
    return Shaded(slopes, rise, torch.from_numpy(found.light).to(depth)[None], albedo, trust)


@torch.no_grad()
def linear_shading(
    image: Float[Tensor, "1 1 height width"],
    slopes: Float[Tensor, "1 2 height width"],
    depth: Float[Tensor, "1 1 height width"],
    mask: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
    skin: Float[Tensor, "1 1 height width"],
    settings: ShadingRefinement | None = None,
) -> LinearShading:
    """The linear problem of `refine_by_shading`'s first iteration, for a network to learn from.

    Args:
        image: intensity in [0, 1]. slopes: of the surface, dz/dx and dz/dy.
        depth: mm. mm_per_pixel: width of a pixel. skin: weight in [0, 1].
    """
    settings = settings or ShadingRefinement()
    known, level, _, _, trust = _read(image, depth, mask, mm_per_pixel, skin)
    start = list(torch.where(mask[0], slopes[0], 0.0).float().cpu().numpy())
    darkest = _MIN_SHADING * float(level[known].mean())
    found = _linearized(level, start, trust, mm_per_pixel, darkest, settings)
    maps = found.residual, found.across, found.along, found.weight
    return LinearShading(*(torch.from_numpy(each).to(depth)[None, None] for each in maps))


def _read(
    image: Tensor, depth: Tensor, mask: Tensor, mm_per_pixel: float, skin: Tensor
) -> tuple[np.ndarray, ...]:
    """Arrays of one face: mask, intensity, depth in pixel widths, whole pixels, their trust."""
    known = mask[0, 0].cpu().numpy()
    level = image[0, 0].float().cpu().numpy().clip(DARKEST / 2, 1)
    z0 = np.where(known, depth[0, 0].float().cpu().numpy(), 0) / mm_per_pixel
    whole = _whole(known, z0)
    exposed = (level > DARKEST) & (level < BRIGHTEST)
    trust = np.where(whole, skin[0, 0].float().cpu().numpy(), 0) * exposed
    return known, level, z0, whole, trust


class _Linearized(NamedTuple):
    """`LinearShading` as arrays, with the light and the logarithm of the albedo."""

    residual: np.ndarray
    across: np.ndarray
    along: np.ndarray
    weight: np.ndarray
    light: np.ndarray
    albedo: np.ndarray


def _linearized(
    level: np.ndarray,
    slopes: list[np.ndarray],
    trust: np.ndarray,
    mm_per_pixel: float,
    darkest: float,
    settings: ShadingRefinement,
) -> _Linearized:
    """The light, the local albedo, and what they leave, of a surface with these slopes.

    darkest: shading below which a pixel is taken for shadow.
    """
    basis, turning = _basis(slopes)
    light = _light(level, basis, trust)
    lit = _weighted(basis, light)
    shading = np.maximum(lit, darkest)
    left = np.log(level) - np.log(shading)
    sigma = settings.albedo_mm / mm_per_pixel
    albedo = kernels.local_mean(left, trust, sigma, settings.albedo_contrast)
    residual = left - albedo
    weight = trust * _skin_tone(albedo, trust, settings.tone) * (lit > 1.5 * darkest)
    weight = weight / (1 + (residual / settings.outlier) ** 2) ** 2
    across, along = (_weighted(each, light[1:]) / shading for each in turning)
    return _Linearized(residual, across, along, weight, light, albedo)


def _added(slopes: list[np.ndarray], rise: np.ndarray, whole: np.ndarray) -> list[np.ndarray]:
    """Slopes with those of the rise, where all its neighbors are known."""
    return [one + other * whole for one, other in zip(slopes, _slopes(rise), strict=True)]


def _skin_tone(
    albedo: np.ndarray, trust: np.ndarray, tone: float
) -> Float[np.ndarray, "height width"]:
    """How well a logarithmic albedo fits the face's usual one; that of hair and hats does not."""
    chosen = albedo[trust > 0.3]
    if len(chosen) < 50:
        return np.ones_like(albedo)
    usual = np.median(chosen)
    spread = max(1.48 * np.median(np.abs(chosen - usual)), _MIN_SPREAD)
    return 1 / (1 + (((albedo - usual) / (tone * spread)) ** 2) ** 2)


def _whole(known: np.ndarray, z: np.ndarray) -> Bool[np.ndarray, "height width"]:
    """Pixels whose eight neighbors belong to the same surface."""
    broken = np.zeros_like(known)
    for axis in (0, 1):
        jump = np.abs(np.diff(z, axis=axis)) > _JUMP
        before, after = ((1, 0), (0, 0)), ((0, 1), (0, 0))
        if axis == 1:
            before, after = before[::-1], after[::-1]
        broken |= np.pad(jump, before) | np.pad(jump, after)
    return binary_erosion(known & ~broken, np.ones((3, 3)))


def _bordered(values: np.ndarray) -> np.ndarray:
    return np.pad(values, 1)


def _edges(known: np.ndarray, z: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """Weights of the steps to the right and down; 0 across the rim and across jumps."""
    found = []
    for axis in (1, 0):
        first, second = (np.take(known, range(*at), axis) for at in _sides(known.shape[axis]))
        w1, w2 = (np.take(weight, range(*at), axis) for at in _sides(known.shape[axis]))
        whole = first & second & (np.abs(np.diff(z, axis=axis)) <= _JUMP)
        pad = ((0, 0), (0, 1)) if axis == 1 else ((0, 1), (0, 0))
        found.append(_bordered(np.pad((w1 + w2) / 2 * whole, pad)))
    return found


def _sides(count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, count - 1), (1, count)


def _slopes(z: np.ndarray) -> list[np.ndarray]:
    """dz/dx to the right and dz/dy up, by central differences."""
    padded = _bordered(z)
    return [
        (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2,
        (padded[:-2, 1:-1] - padded[2:, 1:-1]) / 2,
    ]


def _twice(z: np.ndarray, by: list[np.ndarray]) -> np.ndarray:
    return sum(2 * slope * factor for slope, factor in zip(_slopes(z), by, strict=True))


def _basis(slopes: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """First-order basis (4, height, width), and what its last three change with both slopes."""
    p, q = slopes
    facing = 1 / np.sqrt(1 + p**2 + q**2)
    normal = np.stack([-p * facing, -q * facing, facing])
    turning = []
    for number, slope in enumerate(slopes):
        change = -normal * (slope * facing**2)
        change[number] -= facing
        turning.append(change)
    return np.concatenate([np.ones_like(normal[:1]), normal]), turning


def _weighted(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum of maps by their weights; as a matrix product NumPy would wake all of its threads."""
    return sum(weight * each for weight, each in zip(weights, maps, strict=True))


def _light(level: np.ndarray, basis: np.ndarray, trust: np.ndarray) -> Float[np.ndarray, "4"]:
    """First-order light that explains the photograph of a surface of albedo 1; robust."""
    chosen = np.flatnonzero(trust > 0.05)
    if len(chosen) < 50:
        return np.array([level.mean(), 0, 0, 0], np.float32)
    design = basis.reshape(4, -1)[:, chosen]
    wanted, weight = level.ravel()[chosen], trust.ravel()[chosen]
    ridge = np.float32(1e-6 * len(chosen)) * np.eye(4, dtype=np.float32)
    usual = weight
    for _ in range(_LIGHT_ROUNDS):
        weighted = design * usual
        gram = np.einsum("in,jn->ij", weighted, design) + ridge
        light = np.linalg.solve(gram, np.einsum("in,n->i", weighted, wanted))
        residual = wanted - _weighted(design, light)
        scale = 1.5 * np.median(np.abs(residual)) + 1e-3
        usual = weight / (1 + (residual / scale) ** 2)
    return light
