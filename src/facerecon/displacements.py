"""From displacements seen at points of the surface to the representation that explains them.

A network that compares a photograph with the rendering of r_t can say, place by place, how far the
surface still is from where it belongs. What such a field says about r is linear algebra that needs
no learning: the derivative of the projected points with respect to r is known (`jacobian`), and the
most likely r under the field and the network's own estimate is a regularised least-squares solution
(`most_likely`), a Gauss-Newton step.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from facerecon.camera import CROP_MM, POSE_UNITS, rotation_matrix, split
from facerecon.mesh import vertex_normals

DISPLACEMENT_MM = 10.0
"""Unit of displacements."""

_FACING = 0.15  # cosine between normal and line of sight, above which a point counts as seen


class Points(NamedTuple):
    """Some vertices of a morphable model.

    mean: (N, 3) mm. basis: (coefficients, N, 3) mm. normals: (N, 3), of the mean face.
    """

    mean: Tensor
    basis: Tensor
    normals: Tensor

    @classmethod
    def of(cls, model: nn.Module, index: Int[Tensor, " points"]) -> "Points":
        """These vertices of a model."""
        basis = model.basis.view(model.n_coefficients, -1, 3)
        normals = vertex_normals(model.mean[None], model.triangles)[0]
        return cls(model.mean[index], basis[:, index], normals[index])


def spread_points(model: nn.Module, count: int) -> Int[Tensor, " count"]:
    """Vertices spread evenly over the face: the landmarks, then always the one farthest from all.

    Vertices that Eq. (4) weighs less than half of the average are not of the face.

    Raises:
        ValueError: fewer than the landmarks are asked for.
    """
    if count < len(model.landmarks):
        raise ValueError(f"{count} points do not hold the {len(model.landmarks)} landmarks")
    chosen = model.landmarks.tolist()
    outside = model.vertex_weight < 0.5 * model.vertex_weight.mean()
    distance = torch.cdist(model.mean, model.mean[model.landmarks]).amin(1)
    while len(chosen) < count:
        distance[outside] = 0
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (model.mean - model.mean[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen, device=model.mean.device)


def place_points(points: Points, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch points 3"]:
    """Where the points are: from the crop's centre to the right, downward, and z; mm.

    x and y are mm at the crop's mean scale, so that a pixel is `CROP_MM / size`; they and the depth
    are those of `camera.project`.
    """
    coefficients, pose = split(r, len(points.basis))
    moved = torch.tensordot(coefficients, points.basis, 1)
    camera = (points.mean + moved) @ _rotation(pose).mT
    scale = (pose[:, 5] * POSE_UNITS[5].item()).exp()[:, None, None]
    flip = camera.new_tensor([1.0, -1.0])
    shift = pose[:, None, 3:5] * (CROP_MM * POSE_UNITS[3].item())
    return torch.cat([(camera[..., :2] * scale + shift) * flip, camera[..., 2:]], dim=2)


def jacobian(points: Points, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n points 3"]:
    """Derivative of `place_points` with respect to each number of r."""
    coefficients, pose = split(r, len(points.basis))
    units = POSE_UNITS.to(pose)
    rotation = _rotation(pose)
    scale = (pose[:, 5] * units[5]).exp()
    # From the camera's frame to the crop's: x right, y down, enlarged; the depth stays.
    zoom = torch.stack([scale, -scale, torch.ones_like(scale)], 1)
    rows = r.new_empty(len(r), r.shape[1], len(points.mean), 3)
    turned = points.basis @ (zoom[:, :, None] * rotation).flatten(0, 1).T
    rows[:, : len(points.basis)] = turned.unflatten(2, (-1, 3)).permute(2, 0, 1, 3)
    moved = points.mean + torch.tensordot(coefficients, points.basis, 1)
    camera = moved @ rotation.mT
    roll = pose[:, 2] * units[2]
    zero = torch.zeros_like(roll)
    axes = torch.stack(  # in the camera's frame, of R = R_z(roll) R_x(pitch) R_y(yaw)
        [
            torch.stack([roll.cos(), roll.sin(), zero], 1),
            rotation[:, :, 1],
            torch.stack([zero, zero, zero + 1], 1),
        ],
        dim=1,
    )
    turns = torch.linalg.cross(axes[:, :, None], camera[:, None])
    by_pose = rows[:, len(points.basis) :]
    by_pose[:, :3] = turns * zoom[:, None, None] * units[:3, None, None]
    by_pose[:, 3:5] = 0
    by_pose[:, 3, :, 0], by_pose[:, 4, :, 1] = CROP_MM * units[3], -CROP_MM * units[4]
    by_pose[:, 5, :, :2] = camera[..., :2] * zoom[:, None, :2] * units[5]
    by_pose[:, 5, :, 2] = 0
    return rows


def _rotation(pose: Tensor) -> Tensor:
    return rotation_matrix(pose[:, :3] * POSE_UNITS[:3].to(pose))


def seen(
    points: Points, r: Float[Tensor, "batch n"], places: Float[Tensor, "batch points 3"]
) -> Float[Tensor, "batch points 1"]:
    """1 for points of r that face the camera inside the crop, else 0.

    places: `place_points(points, r)`.
    """
    pose = split(r, len(points.basis))[1]
    facing = points.normals @ _rotation(pose)[:, 2, :, None] > _FACING
    inside = (places[..., :2].abs() < CROP_MM / 2).all(2, keepdim=True)
    return (facing & inside).to(r)


def read_field(
    field: Float[Tensor, "batch channels rows columns"], places: Float[Tensor, "batch points 3"]
) -> Float[Tensor, "batch points channels"]:
    """Values of a map over the crop, of any resolution, where points lie (`place_points`)."""
    grid = places[:, None, :, :2] * (2 / CROP_MM)
    found = grid_sample(field, grid, padding_mode="border", align_corners=False)
    return found[:, :, 0].mT


def most_likely(
    points: Points,
    estimate: Float[Tensor, "batch n"],
    log_spread: Float[Tensor, " n"],
    target: Float[Tensor, "batch points 3"],
    precision: Float[Tensor, "batch points 3"],
) -> Float[Tensor, "batch n"]:
    """The r that best agrees with an estimate of it and with where its points are to lie.

    Both are taken for normally distributed: r about the estimate, the places about the target.
    Linear about the estimate, so one Gauss-Newton step. Its derivative is that of the solution,
    with the derivative of the places held.

    Args:
        log_spread: logarithm of the estimate's standard deviation, units of r.
        target: mm, as of `place_points`.
        precision: one over the variance of each number of the target, `DISPLACEMENT_MM`^-2; 0 for
            one that says nothing.
    """
    missing = ((target - place_points(points, estimate)) / DISPLACEMENT_MM).flatten(1)
    weight = precision.flatten(1)
    tightness = (-2 * log_spread).exp()
    with torch.no_grad():
        rows = jacobian(points, estimate).flatten(2).div_(DISPLACEMENT_MM)
        system = (rows * weight[:, None]) @ rows.mT
        system.diagonal(dim1=1, dim2=2).add_(tightness)
        factor = torch.linalg.cholesky_ex(system).L  # NaN for NaN: training says which batch
        change = torch.cholesky_solve(rows @ (weight * missing)[..., None], factor)
    if torch.is_grad_enabled():
        # A second, empty step: its value is zero, its derivative that of the solution.
        left = missing - (rows.mT @ change)[..., 0]
        slope = rows @ (weight * left)[..., None] - tightness[:, None] * change
        change = change + torch.cholesky_solve(slope, factor)
    return estimate + change[..., 0]


def start_spread(n_coefficients: int) -> Float[Tensor, " n"]:
    """Logarithms of plausible errors of an estimate: most of the shape, 2 degrees, 2 pixels."""
    pose = torch.tensor([0.12, 0.07, 0.06, 0.15, 0.15, 0.2])
    return torch.cat([torch.full((n_coefficients,), math.log(0.8)), pose.log()])
