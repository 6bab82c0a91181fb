"""Normals of a real face from photographs of it under many known lights."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

DARKEST, BRIGHTEST = 6.0, 250.0
"""Grey levels of 255 outside of which a pixel is taken for shadowed or clipped."""

_ROUNDS = 12
_OUTLIER = 1.5  # times the median residual (plus one grey level): where a photograph counts half
_RIDGE = 1e-6  # keeps pixels solvable that fewer than three lights reach


class MeasuredFace(NamedTuple):
    """What photometric stereo finds at every pixel.

    normals: unit, x to the viewer's right, y up, z to the viewer. albedo: grey levels under a lamp
    straight ahead. count: photographs that show the pixel neither dark nor clipped. residual:
    weighted root mean square in grey levels, of what a matte surface does not explain.
    """

    normals: Float[np.ndarray, "height width 3"]
    albedo: Float[np.ndarray, "height width"]
    count: Int[np.ndarray, "height width"]
    residual: Float[np.ndarray, "height width"]


def photometric_stereo(
    images: Real[np.ndarray, "photos height width"],
    lights: Float[np.ndarray, "photos 3"],
) -> MeasuredFace:
    """Normals and albedo of a matte surface, robust against cast shadows and highlights.

    Each pixel's intensities are albedo times the cosine between normal and light: linear in their
    product, which weighted least squares finds. Dark and clipped photographs are left out; the
    others get Cauchy weights by how well they fit, anew in every round.

    Args:
        images: grey levels, 0 to 255, of one exposure. lights: unit, toward the lamps.

    Raises:
        ValueError: fewer than three photographs, or lights that lie in a plane.

    Source: Woodham, Optical Engineering 1980; the weights: iteratively reweighted least squares.
    """
    count, height, width = images.shape
    if count < 3 or np.linalg.svd(lights, compute_uv=False)[-1] < 1e-3:
        raise ValueError(
            f"photometric stereo needs three lights that do not lie in a plane, got {count}"
        )
    seen_levels = images.reshape(count, -1).astype(np.float64)
    seen = (seen_levels > DARKEST) & (seen_levels < BRIGHTEST)
    weight = seen.astype(np.float64)
    identity = _RIDGE * np.eye(3)
    for _ in range(_ROUNDS):
        gram = np.einsum("mp,mi,mj->pij", weight, lights, lights, optimize=True) + identity
        moment = np.einsum("mp,mi,mp->pi", weight, lights, seen_levels, optimize=True)
        scaled = np.linalg.solve(gram, moment[..., None])[..., 0]
        residual = seen_levels - lights @ scaled.T
        usual = _median_of_seen(np.abs(residual), seen)
        weight = seen / (1 + (residual / (_OUTLIER * (usual + 1))) ** 2)
    albedo = np.linalg.norm(scaled, axis=1)
    normals = scaled / np.maximum(albedo, 1e-6)[:, None]
    total = np.maximum(weight.sum(0), 1e-6)
    spread = np.sqrt((weight * residual**2).sum(0) / total)
    return MeasuredFace(
        normals.reshape(height, width, 3).astype(np.float32),
        albedo.reshape(height, width).astype(np.float32),
        seen.sum(0).reshape(height, width),
        spread.reshape(height, width).astype(np.float32),
    )


def _median_of_seen(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Median over the photographs that show a pixel; 0 where none does."""
    ordered = np.sort(np.where(seen, values, np.inf), axis=0)
    middle = np.maximum(seen.sum(0) - 1, 0) // 2
    found = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return np.where(np.isfinite(found), found, 0.0)
