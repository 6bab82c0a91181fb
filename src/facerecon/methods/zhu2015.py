"""The morphable model fitted to 68 landmarks, as in [47] (HPEN).

X. Zhu, Z. Lei, J. Yan, D. Yi, S. Z. Li, High-fidelity pose and expression normalization for face
recognition in the wild, CVPR 2015. From the publication: identity and expression coefficients and a
weak-perspective pose that bring the model's landmarks onto the photograph's, with a Gaussian prior,
while the landmarks of the jaw march along the face to its outline. Our reading: identity,
expression and pose take Gauss-Newton steps together, where HPEN solves for them in turns; the
criterion is the same. `LANDMARK_ERROR_MM` is ours.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import CROP_MM, POSE_UNITS, project, rotation_matrix, split
from facerecon.imaging import Crop
from facerecon.methods.contour import Contour
from facerecon.morphable_model import MorphableModel

LANDMARK_ERROR_MM = 4.0
"""Spread of the landmarks in mm on the face: how much they count beside the prior."""

_ROUNDS = 12
_SETTLED = 1e-4  # standard deviations and pose units


class LandmarkFit(NamedTuple):
    """A fitted face: r in the frame of a square of the photograph."""

    r: Float[Tensor, "1 n"]
    crop: Crop


def fit_landmarks(
    model: MorphableModel,
    contour: Contour,
    landmarks: Float[np.ndarray, "68 2"],
    error_mm: float = LANDMARK_ERROR_MM,
    shape: bool = True,
) -> LandmarkFit:
    """The face that best explains the landmarks of a photograph.

    Minimizes sum_i |p_i - u_i|^2 / (f error_mm)^2 + |alpha|^2, where p_i are the projected
    landmarks, u_i the given ones, f the pixels per mm of the first pose, and alpha the coefficients
    in standard deviations.

    Args:
        landmarks: column and row in the photograph, jaw as its outline is seen.
        error_mm: > 0; large: the mean face, small: whatever meets the landmarks.
        shape: False fits the pose of the mean face alone.

    Raises:
        ValueError: the landmarks are not finite or all in one place.
    """
    crop = _square(landmarks)
    target = torch.from_numpy(crop.to_crop(landmarks)).double()
    n = model.n_coefficients
    r = torch.zeros(1, n + len(POSE_UNITS), dtype=torch.float64)
    r[:, n:] = fit_pose(model.mean[model.landmarks].double(), target, crop.size)
    spread = error_mm * _pixels_per_mm(r[:, n:], crop.size)
    basis = model.basis.unflatten(1, (-1, 3))
    for _ in range(_ROUNDS):
        coefficients, pose = split(r, n)
        vertices = model.vertices(coefficients.float())
        index = contour.march(vertices, pose.float())[0]
        part = basis[:, index].double() if shape else None
        moved = _step(r, model.mean[index].double(), part, target, crop.size, spread)
        settled = (moved - r).abs().max() < _SETTLED
        r = moved
        if settled:
            break
    return LandmarkFit(r.float(), crop)


def fit_pose(
    points: Float[Tensor, "n 3"], target: Float[Tensor, "n 2"], size: int
) -> Float[Tensor, "1 6"]:
    """The weak-perspective pose that brings points (mm, model frame) near places in a crop.

    The affine camera of least squares, whose two axes are then made orthogonal and equally long;
    the exact pose where the points fit exactly.

    Args:
        target: column and row. size: of the crop in pixels.

    Raises:
        ValueError: the points fit no camera.
    """
    image = (target - (size - 1) / 2) * target.new_tensor([1.0, -1.0])
    design = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    affine = torch.linalg.lstsq(design, image).solution.T  # (2, 4)
    left, strength, right = torch.linalg.svd(affine[:, :3], full_matrices=False)
    if not affine.isfinite().all() or strength[1] < 1e-6:
        raise ValueError("the landmarks lie on a line or in one place: no face has them")
    axes = left @ right
    rotation = torch.cat([axes, torch.linalg.cross(axes[:1], axes[1:])])
    angles = [
        torch.asin(rotation[2, 1].clamp(-1, 1)),
        torch.atan2(-rotation[2, 0], rotation[2, 2]),
        torch.atan2(-rotation[0, 1], rotation[1, 1]),
    ]
    log_scale = torch.log(strength.mean() * CROP_MM / size)
    pose = torch.stack([*angles, *(affine[:, 3] / size), log_scale])
    return (pose / POSE_UNITS.to(pose))[None]


def landmark_energy(
    r: Float[Tensor, "1 n"],
    mean: Float[Tensor, "68 3"],
    basis: Float[Tensor, "coefficients 68 3"],
    target: Float[Tensor, "68 2"],
    size: int,
    spread: float,
) -> Float[Tensor, ""]:
    """What a step decreases, for the vertices that the landmarks lie on now; spread: pixels."""
    coefficients, pose = split(r, len(basis))
    points = mean + torch.einsum("bc,cvk->bvk", coefficients, basis)
    distance = project(points, pose, size)[0, :, :2] - target
    return distance.square().sum() / spread**2 + coefficients.square().sum()


def _step(
    r: Tensor, mean: Tensor, basis: Tensor | None, target: Tensor, size: int, spread: float
) -> Tensor:
    """One Gauss-Newton step, shortened until the energy does not grow."""
    n = r.shape[1] - len(POSE_UNITS)
    if basis is None:
        basis = mean.new_zeros(n, *mean.shape)
    coefficients, pose = split(r, n)
    points = mean + torch.einsum("bc,cvk->bvk", coefficients, basis)
    places = project(points, pose, size)[0, :, :2]
    by_pose = _pose_jacobian(points[0], pose, size)
    rotation = rotation_matrix(pose[:, :3] * POSE_UNITS[:3].to(pose))[0, :2]
    axes = rotation * _pixels_per_mm(pose, size) * rotation.new_tensor([[1.0], [-1.0]])
    by_shape = torch.einsum("cvk,ak->vac", basis, axes).flatten(0, 1)
    jacobian = torch.cat([by_shape, by_pose], dim=1) / spread
    residual = (places - target).flatten() / spread
    prior = torch.cat([torch.ones(n), torch.zeros(len(POSE_UNITS))]).to(r)
    gram = jacobian.T @ jacobian + torch.diag(prior)
    step = torch.linalg.solve(gram, jacobian.T @ residual + prior * r[0])
    before = landmark_energy(r, mean, basis, target, size, spread)
    for shorter in (1.0, 0.5, 0.25, 0.1):
        moved = r - shorter * step
        if landmark_energy(moved, mean, basis, target, size, spread) <= before:
            return moved
    return r


def _pose_jacobian(
    points: Float[Tensor, "n 3"], pose: Float[Tensor, "1 6"], size: int
) -> Float[Tensor, "values 6"]:
    """Derivatives of columns and rows in turns by the pose.

    A rotation is a constant plus cosine and sine of each of its angles, so that half the difference
    of a quarter turn forward and back is the exact derivative.
    """
    flip, angles = pose.new_tensor([1.0, -1.0]), pose[:, :3] * POSE_UNITS[:3].to(pose)
    scale = _pixels_per_mm(pose, size)
    quarter = torch.eye(3).to(pose) * (torch.pi / 2)
    turns = (rotation_matrix(angles + quarter) - rotation_matrix(angles - quarter)) / 2
    moved = scale * flip * (points @ turns.mT)[..., :2]  # (3, n, 2)
    shift = size * flip.diag()[:, None].expand(-1, len(points), -1)
    grown = scale * flip * (points @ rotation_matrix(angles)[0].T)[None, :, :2]
    return torch.cat([moved, shift, grown]).flatten(1).T * POSE_UNITS.to(pose)


def _pixels_per_mm(pose: Tensor, size: int) -> float:
    return float(size / CROP_MM * torch.exp(pose[0, 5] * POSE_UNITS[5]))


def _square(landmarks: Float[np.ndarray, "68 2"]) -> Crop:
    """A square around the landmarks, one pixel of its own per pixel of the photograph."""
    if not np.isfinite(landmarks).all():
        raise ValueError("the landmarks hold NaN or infinity")
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    size = max(2, round(1.6 * float((high - low).max())))
    x, y = (low + high) / 2 - (size - 1) / 2
    return Crop(float(x), float(y), float(size), size)
