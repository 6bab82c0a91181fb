"""Bringing another model's mean into the morphable model's frame, and its heads into the basis."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from facerecon.mesh import similarity, vertex_normals
from facerecon.morphable_model import MorphableModel

NOT_SKIN = ("ears", "neck", "eye_left", "eye_right", "mouth_interior")
"""Regions that do not count as the skin of the face."""

_ROUNDS = 20
_NEIGHBORS = 3
_LANDMARK_SHARE = 0.2  # of the weight, on the 51 landmarks inside the face
_RIDGE = 0.003  # mm^2 that a coefficient of one standard deviation costs
_TRIM = 10.0  # mm: vertices farther from the other surface have no counterpart


class Registration(NamedTuple):
    """How the other frame maps to the model's: x -> scale * rotation @ x + shift.

    fitted (vertices, 3): the model's identities fitted to the other mean, mm, model frame.
    closest (vertices, 3): the nearest points of the other mean's face.
    index, weight (vertices, k): the other model's vertices around those points.
    used (vertices,): weight of each vertex in a fit, sums to 1; 0 where it has no counterpart.
    landmark_index, landmark_weight (68, k): the other model's vertices around the points of its
    whole surface that lie nearest to the fitted model's landmarks.
    """

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, " 3"]
    fitted: Float[Tensor, "vertices 3"]
    closest: Float[Tensor, "vertices 3"]
    index: Int[Tensor, "vertices k"]
    weight: Float[Tensor, "vertices k"]
    used: Float[Tensor, " vertices"]
    landmark_index: Int[Tensor, "68 k"]
    landmark_weight: Float[Tensor, "68 k"]

    def landmarks_on(
        self, other: Float[Tensor, "batch other_vertices 3"]
    ) -> Float[Tensor, "batch 68 3"]:
        """The model's landmarks on heads of the other model, in whatever frame those are given."""
        weight = self.landmark_weight.to(other)[..., None]
        return (other[:, self.landmark_index.to(other.device)] * weight).sum(2)

    def vertices_on(
        self, other: Float[Tensor, "batch other_vertices 3"], vertices: Int[Tensor, " some"]
    ) -> Float[Tensor, "batch some 3"]:
        """Some of the model's vertices on heads of the other model, in those heads' frame."""
        index = self.index.to(other.device)[vertices]
        weight = self.weight.to(other)[vertices]
        return (other[:, index] * weight[..., None]).sum(2)

    def best_fit(
        self,
        model: MorphableModel,
        moved: Float[Tensor, "batch other_vertices 3"],
        ridge: float = 0.001,
    ) -> Float[Tensor, "batch coefficients"]:
        """The model's coefficients that come closest to heads of the other model.

        Args:
            moved: displacement of the other model's vertices from its mean, mm, model frame.
            ridge: mm^2 that a coefficient of one standard deviation costs.
        """
        device = moved.device
        around = moved[:, self.index.to(device)] * self.weight.to(device)[..., None]
        target = self.closest.to(device) + around.sum(2)
        return ridge_fit(model.basis, target - model.mean, self.used.to(device), ridge)


def ridge_fit(
    basis: Float[Tensor, "coefficients values"],
    target: Float[Tensor, "batch vertices 3"],
    weight: Float[Tensor, " vertices"],
    ridge: float,
) -> Float[Tensor, "batch coefficients"]:
    """argmin_c sum_v weight_v |(c basis)_v - target_v|^2 + ridge |c|^2, solved in float64."""
    kept = weight > 0
    columns = basis.unflatten(1, (-1, 3))[:, kept].flatten(1)
    rows = columns * weight[kept].repeat_interleave(3)
    gram = (rows @ columns.T).double()
    gram = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    moment = (rows @ target[:, kept].flatten(1).T).double()
    return torch.linalg.solve(gram, moment).T.to(target)


def register_heads(
    model: MorphableModel,
    mean: Float[Tensor, "other_vertices 3"],
    triangles: Int[Tensor, "other_triangles 3"],
    landmarks: Int[Tensor, " 68"],
    face: Bool[Tensor, " other_vertices"],
) -> Registration:
    """Fit the model's identities to another mean and the other frame to the model's mean.

    In turns: closest points, the identity that comes near them, and the similarity that brings
    the closest points onto the model's *mean*.

    Args:
        mean, triangles, landmarks: of the other model; y up, z toward the viewer, any unit.
        face: vertices of its face, which alone are fitted.
    """
    own_mean = model.mean.cpu().double().numpy()
    own_landmarks = model.landmarks.cpu().numpy()
    basis = model.basis[: model.n_identity].cpu()
    weight = _skin_weight(model)
    other = mean.cpu().double().numpy()
    normals = vertex_normals(mean.cpu().double()[None], triangles.cpu())[0].numpy()
    other_landmarks = landmarks.cpu().numpy()
    allowed = np.flatnonzero(face.cpu().numpy())
    inner = np.arange(17, 68)
    share = _LANDMARK_SHARE / len(inner)
    scale, rotation, shift = similarity(
        other[other_landmarks[inner]], own_mean[own_landmarks[inner]]
    )
    fitted = own_mean
    for _ in range(_ROUNDS):
        placed = scale * other @ rotation.T + shift
        closest, distance = _closest(fitted, placed[allowed], (normals @ rotation.T)[allowed])
        used = weight * (distance < _TRIM)
        used = used / used.sum() * (1 - _LANDMARK_SHARE)
        target = np.where(used[:, None] > 0, closest, own_mean)
        # A landmark's counterpart is known; it stands beside the vertex's closest point.
        for own, there in zip(own_landmarks[inner], other_landmarks[inner], strict=True):
            both = used[own] + share
            target[own] = (used[own] * target[own] + share * placed[there]) / both
            used[own] = both
        moved = torch.from_numpy(target - own_mean)[None].float()
        coefficients = ridge_fit(basis, moved, torch.from_numpy(used).float(), _RIDGE)
        fitted = own_mean + (coefficients @ basis).view(-1, 3).double().numpy()
        back = (target - shift) @ rotation / scale
        scale, rotation, shift = similarity(back, own_mean, used)
    placed = scale * other @ rotation.T + shift
    closest, distance = _closest(fitted, placed[allowed], (normals @ rotation.T)[allowed])
    used = weight * (distance < _TRIM)
    index, near = _interpolation(closest, placed[allowed])
    on_skin, _ = _closest(fitted[own_landmarks], placed, normals @ rotation.T)
    landmark_index, landmark_weight = _interpolation(on_skin, placed)
    return Registration(
        scale,
        torch.from_numpy(rotation).float(),
        torch.from_numpy(shift).float(),
        torch.from_numpy(fitted).float(),
        torch.from_numpy(closest).float(),
        torch.from_numpy(allowed[index]),
        torch.from_numpy(near).float(),
        torch.from_numpy(used / used.sum()).float(),
        torch.from_numpy(landmark_index),
        torch.from_numpy(landmark_weight).float(),
    )


def _interpolation(
    points: Float[np.ndarray, "n 3"], vertices: Float[np.ndarray, "m 3"]
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The nearest vertices of each point and their weights, which sum to 1."""
    distance, index = cKDTree(vertices).query(points, k=_NEIGHBORS)
    weight = 1 / (distance + 1e-3)
    return index, weight / weight.sum(1, keepdims=True)


def _skin_weight(model: MorphableModel) -> Float[np.ndarray, " vertices"]:
    """The model's own weights, on the skin of the face alone."""
    regions = model.regions
    inside = regions["face"] > 0.5
    for name in NOT_SKIN:
        inside = inside & (regions[name] < 0.5)
    return (model.vertex_weight * inside).cpu().double().numpy()


def _closest(
    points: Float[np.ndarray, "n 3"],
    surface: Float[np.ndarray, "m 3"],
    normals: Float[np.ndarray, "m 3"],
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Points dropped onto the tangent plane of the nearest vertex, and that vertex's distance."""
    distance, nearest = cKDTree(surface).query(points)
    height = ((points - surface[nearest]) * normals[nearest]).sum(1, keepdims=True)
    return points - height * normals[nearest], distance
