"""What of a method's depth is brought onto the truth before errors are taken, each step by name."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

TRANSLATIONS = ("median", "mean", "none")
SCALES = ("none", "size", "fit")

_ICP_POINTS = 4000
_ICP_STEPS = 50
_ICP_KEPT = 0.9  # share of the pairs that a step uses: the farthest belong to nothing
_NEIGHBORS = 12


def align_depth(
    depth: Float[np.ndarray, " pixels"],
    truth: Float[np.ndarray, " pixels"],
    translation: str,
    scale: str,
    size: float = 1.0,
) -> Float[np.ndarray, " pixels"]:
    """Move a method's depth along z, and stretch it if asked for.

    Args:
        depth: mm, at the pixels that count.
        truth: mm, at the same pixels.
        translation: "median" or "mean" makes that of the differences zero; "none".
        scale: factor of the depth's relief before the translation. "none": 1. "size": `size`.
            "fit": the least-squares one, which uses the truth and is therefore optimistic; with
            "median", it is still fitted about the means.
        size: the true width of a pixel in mm over the one that the method assumed.

    Raises:
        ValueError: an unknown name, or "size" without a positive finite size.
    """
    if translation not in TRANSLATIONS or scale not in SCALES:
        raise ValueError(
            f"translation {translation!r} and scale {scale!r}: choose from {TRANSLATIONS}, {SCALES}"
        )
    middle = depth.mean(dtype=np.float64)
    relief = depth - middle
    if scale == "size":
        if not (np.isfinite(size) and size > 0):
            raise ValueError("scale 'size' needs a method that states its pixels' width in mm")
        relief = relief * size
    elif scale == "fit":
        spread = np.mean(relief**2)
        relief = relief * (np.mean(relief * (truth - truth.mean())) / spread if spread > 0 else 1)
    if translation == "none":
        return relief + middle
    center = np.median if translation == "median" else np.mean
    return relief + center(truth - relief)


def rigid_distances(
    points: Float[np.ndarray, "pixels 3"], truth: Float[np.ndarray, "others 3"]
) -> Float[np.ndarray, " pixels"]:
    """Distances in mm of a surface from the true one after the best rotation and translation.

    Iterated closest points with point-to-plane residuals; the worst tenth of the pairs is left
    out of a step. Unlike a comparison pixel by pixel, this forgives a wrong pose.

    Args:
        points: the method's, mm, camera frame.
        truth: the scan's, mm, camera frame; may reach beyond `points`.
    """
    points, truth = points.astype(np.float64), truth.astype(np.float64)
    tree = cKDTree(truth)
    normals = _normals(truth, tree)
    some = points[:: max(1, len(points) // _ICP_POINTS)]
    # A first step by the medians: the two frames may be a meter apart.
    rotation, shift = Rotation.identity(), np.median(truth, axis=0) - np.median(points, axis=0)
    for _ in range(_ICP_STEPS):
        placed = rotation.apply(some) + shift
        distance, nearest = tree.query(placed)
        kept = distance <= np.quantile(distance, _ICP_KEPT)
        arm, normal = placed[kept], normals[nearest[kept]]
        center = arm.mean(axis=0)
        design = np.concatenate([np.cross(arm - center, normal), normal], axis=1)
        gap = ((truth[nearest[kept]] - arm) * normal).sum(axis=1)
        step = np.linalg.lstsq(design, gap, rcond=None)[0]
        turn = Rotation.from_rotvec(step[:3])
        rotation, shift = turn * rotation, turn.apply(shift - center) + center + step[3:]
        if np.abs(step[3:]).max() < 1e-4 and np.abs(step[:3]).max() < 1e-6:
            break
    placed = rotation.apply(points) + shift
    nearest = tree.query(placed)[1]
    return np.abs(((truth[nearest] - placed) * normals[nearest]).sum(axis=1))


def _normals(points: Float[np.ndarray, "n 3"], tree: cKDTree) -> Float[np.ndarray, "n 3"]:
    """Directions of least spread among the nearest neighbors; their sign does not matter."""
    neighbors = points[tree.query(points, k=min(_NEIGHBORS, len(points)))[1]]
    centered = neighbors - neighbors.mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", centered, centered))[1][:, :, 0]
