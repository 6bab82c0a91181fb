"""Fit a linear face model to points of a face's surface, by nearest points on the triangles."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from trimesh.triangles import closest_point, points_to_barycentric

from facerecon.camera import rotation_matrix
from facerecon.evaluation.heads import registration as head_registration
from facerecon.rasterize import rasterize

CANDIDATES = 10  # triangles, by distance of their centers, among which the nearest is sought
TURN = 1 / 50  # rad, and relative size, that count as 1 mm: keeps the equations well scaled
VIEWS = [(0, 0), (0, -40), (0, 40), (0, -75), (0, 75), (-30, 0), (30, 0)]  # pitch, yaw in degrees


@dataclass(frozen=True)
class LinearFace:
    """A mean (v, 3) and components (k, v, 3) in mm per standard deviation, on triangles (f, 3)."""

    mean: np.ndarray
    components: np.ndarray
    triangles: np.ndarray

    def pick(self, n: int) -> "LinearFace":
        """The first `n` components."""
        return LinearFace(self.mean, self.components[:n], self.triangles)

    def shape(self, coefficients: np.ndarray) -> np.ndarray:
        """(v, 3) mm."""
        return self.mean + np.tensordot(coefficients, self.components, 1)


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + shift."""

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return self.scale * points @ self.rotation.T + self.shift

    @classmethod
    def between(cls, points: np.ndarray, target: np.ndarray) -> "Similarity":
        """The one that takes points (n, 3) closest to target (n, 3), by least squares."""
        return cls(*head_registration.similarity(points, target))


@dataclass(frozen=True)
class Fit:
    """A fitted face."""

    coefficients: np.ndarray  # (k,)
    similarity: Similarity
    residual: np.ndarray  # (n,) mm: from every point to the nearest point of the surface


def nearest_on_surface(
    vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangle (n,) and position (n, 3) of the surface's nearest point to every point (n, 3)."""
    corners = vertices[triangles]
    _, near = cKDTree(corners.mean(1)).query(points, k=min(CANDIDATES, len(triangles)))
    repeated = np.repeat(points, near.shape[1], axis=0)
    found = closest_point(corners[near.ravel()], repeated).reshape(*near.shape, 3)
    best = np.linalg.norm(found - points[:, None], axis=2).argmin(1)
    rows = np.arange(len(points))
    return near[rows, best], found[rows, best]


def fit(
    face: LinearFace, points: np.ndarray, start: Similarity, prior: float, rounds: int = 12
) -> Fit:
    """Minimize the sum of squared distances (mm^2) of the points plus prior * |coefficients|^2.

    Over a similarity and the coefficients, by Gauss-Newton steps: every round looks up the nearest
    surface points again and solves for motion along the lines of distance.

    points: (n, 3) mm; start: takes the face's frame to that of the points.
    """
    n = len(face.components)
    by_vertex = np.ascontiguousarray(np.moveaxis(face.components, 0, -1), dtype=np.float32)
    coefficients, similarity = np.zeros(n), start
    damping = np.r_[np.full(n, prior), np.full(7, 1e-6)]
    for _ in range(rounds):
        vertices = similarity(face.shape(coefficients))
        index, foot = nearest_on_surface(vertices, face.triangles, points)
        corners = vertices[face.triangles[index]]
        away = points - foot
        distance = np.linalg.norm(away, axis=1)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        far = distance > 1e-3
        normal[far] = away[far] / distance[far, None]
        share = points_to_barycentric(corners, foot)
        along = similarity.scale * normal @ similarity.rotation
        mixing = (share[:, :, None] * along[:, None]).reshape(-1, 1, 9).astype(np.float32)
        moved = mixing @ by_vertex[face.triangles[index]].reshape(len(index), 9, n)
        arm = foot - similarity.shift
        turning = TURN * np.cross(arm, normal)
        growing = TURN * (arm * normal).sum(1, keepdims=True)
        rows = np.concatenate([moved[:, 0], normal, turning, growing], 1).astype(np.float64)
        pull = rows.T @ (away * normal).sum(1)
        pull[:n] -= prior * coefficients
        step = np.linalg.solve(rows.T @ rows + np.diag(damping), pull)
        coefficients = coefficients + step[:n]
        similarity = Similarity(
            similarity.scale * np.exp(TURN * step[-1]),
            Rotation.from_rotvec(TURN * step[-4:-1]).as_matrix() @ similarity.rotation,
            similarity.shift + step[n : n + 3],
        )
    vertices = similarity(face.shape(coefficients))
    _, foot = nearest_on_surface(vertices, face.triangles, points)
    return Fit(coefficients, similarity, np.linalg.norm(points - foot, axis=1))


def visible(
    vertices: np.ndarray, triangles: np.ndarray, size: int = 800, width_mm: float = 260.0
) -> np.ndarray:
    """(v,) bool: vertices of triangles that show in a view from the front, a side or an angle.

    What lies inside nostrils, mouth and lids does not: no scanner sees it either.
    """
    centered = torch.from_numpy(vertices - vertices.mean(0)).float()[None]
    faces = torch.from_numpy(triangles).long()
    seen = np.zeros(len(vertices), bool)
    for pitch, yaw in VIEWS:
        turn = rotation_matrix(torch.deg2rad(torch.tensor([[pitch, yaw, 0.0]])))
        pixels = (centered @ turn.transpose(1, 2)) * (size / width_mm) * torch.tensor([1, -1, 1])
        pixels[..., :2] += (size - 1) / 2
        shown = rasterize(pixels.contiguous(), faces, size, size).triangle.unique()
        seen[faces[shown[shown >= 0]].numpy()] = True
    return seen
