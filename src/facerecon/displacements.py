"""Displacements of points on the surface, and the r that they imply (beyond the paper).

A network that compares a photograph with the rendering of r_t can predict, place by place, how far
the surface still is from where it belongs (`DisplacementField`). What such a field implies for r
needs no learning: the derivative of the projected points with respect to r is known (`jacobian`),
and the most likely r under the field and the network's regression is a regularized least-squares
solution, a Gauss-Newton step (`most_likely`).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, relu

from facerecon.camera import CROP_MM, POSE_UNITS, pose_parameters, split, to_camera
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.resnet import convolution_block

DISPLACEMENT_MM = 10.0
"""Unit of displacements."""

_LOG_ERROR = (-4.0, 2.0)  # range of the logarithm of a displacement's expected error
_FACING = 0.15  # cosine between normal and line of sight, above which a point counts as seen


class Points(NamedTuple):
    """Some vertices of a morphable model.

    mean: (N, 3) mm. basis: (coefficients, N, 3) mm. normals: (N, 3), of the mean face.
    """

    mean: Tensor
    basis: Tensor
    normals: Tensor

    @classmethod
    def of(cls, model: MorphableModel, index: Int[Tensor, " points"]) -> "Points":
        """These vertices of a model."""
        basis = model.basis.view(model.n_coefficients, -1, 3)
        normals = vertex_normals(model.mean[None], model.triangles)[0]
        return cls(model.mean[index], basis[:, index], normals[index])


def points_of(model: MorphableModel, index: Int[Tensor, " points"]) -> Points:
    """`Points.of`, kept for the next call: gathering them takes as long as a small network.

    Raises:
        ValueError: some vertex occurs twice, as in a network whose points were never chosen.
    """
    return _points_of(model, model.basis.device, tuple(index.tolist()))


@lru_cache(maxsize=2)
def _points_of(model: MorphableModel, device: torch.device, index: tuple[int, ...]) -> Points:
    if len(set(index)) < len(index):
        raise ValueError("the network's points were never chosen: call set_points(model) first")
    return Points.of(model, torch.tensor(index, device=device))


def spread_points(model: MorphableModel, count: int) -> Int[Tensor, " count"]:
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
    """Where the points are: from the crop's center to the right, downward, and z; mm.

    x and y are mm at the crop's mean scale, so that a pixel is `CROP_MM / size`; they and the depth
    are those of `camera.project`.
    """
    coefficients, pose = split(r, len(points.basis))
    _, scale, translation = pose_parameters(pose, CROP_MM)  # pixels of 1 mm
    camera = to_camera(points.mean + torch.tensordot(coefficients, points.basis, 1), pose)
    flip = camera.new_tensor([1.0, -1.0])
    plane = (camera[..., :2] * scale[:, None, None] + translation[:, None]) * flip
    return torch.cat([plane, camera[..., 2:]], dim=2)


def jacobian(points: Points, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n points 3"]:
    """Derivative of `place_points` with respect to each number of r."""
    coefficients, pose = split(r, len(points.basis))
    units = POSE_UNITS.to(pose)
    rotation, scale, _ = pose_parameters(pose, CROP_MM)
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


def seen(
    points: Points, r: Float[Tensor, "batch n"], places: Float[Tensor, "batch points 3"]
) -> Float[Tensor, "batch points 1"]:
    """1 for points of r that face the camera inside the crop, else 0.

    places: `place_points(points, r)`.
    """
    pose = split(r, len(points.basis))[1]
    toward = pose_parameters(pose, CROP_MM).rotation[:, 2, :, None]
    facing = points.normals @ toward > _FACING
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
    with the derivative of the places held fixed.

    Args:
        log_spread: logarithm of the estimate's standard deviation, units of r.
        target: mm, as of `place_points`.
        precision: one over the variance of each number of the target, `DISPLACEMENT_MM`^-2; 0 for
            one that is unknown.
    """
    missing = ((target - place_points(points, estimate)) / DISPLACEMENT_MM).flatten(1)
    weight = precision.flatten(1)
    tightness = (-2 * log_spread).exp()
    with torch.no_grad():
        rows = jacobian(points, estimate).flatten(2).div_(DISPLACEMENT_MM)
        system = (rows * weight[:, None]) @ rows.mT
        system.diagonal(dim1=1, dim2=2).add_(tightness)
        factor = torch.linalg.cholesky_ex(system).L  # NaN for NaN: training names the batch
        change = torch.cholesky_solve(rows @ (weight * missing)[..., None], factor)
    if torch.is_grad_enabled():
        # A second, empty step: its value is zero, its derivative that of the solution.
        left = missing - (rows.mT @ change)[..., 0]
        slope = rows @ (weight * left)[..., None] - tightness[:, None] * change
        change = change + torch.cholesky_solve(slope, factor)
    return estimate + change[..., 0]


class Correction(NamedTuple):
    """An estimate corrected by displacements, as in `coarsenet.CoarseEstimate`."""

    r: Float[Tensor, "batch n"]
    displacement: Float[Tensor, "batch points 3"]
    log_error: Float[Tensor, "batch points 3"]


def corrected(
    points: Points,
    field: Float[Tensor, "batch 6 rows columns"],
    r: Float[Tensor, "batch n"],
    regressed: Float[Tensor, "batch n"],
    log_spread: Float[Tensor, " n"],
    log_repeats: Float[Tensor, ""],
) -> Correction:
    """The most likely r under a regression and a field of displacements of r_t's surface.

    Args:
        field: of `DisplacementField`. r: r_t. regressed, log_spread: as in `most_likely`.
        log_repeats: errors of neighboring points are correlated, so their precision is divided by
            its exponential.
    """
    with torch.autocast(r.device.type, enabled=False):  # too coarse for a linear system
        places = place_points(points, r)
        values = read_field(field.float(), places)
        displacement, log_error = values[..., :3], values[..., 3:].clamp(*_LOG_ERROR)
        precision = (-2 * log_error - log_repeats).exp() * seen(points, r, places)
        target = places + DISPLACEMENT_MM * displacement
        r = most_likely(points, regressed, log_spread, target, precision)
    return Correction(r, displacement, log_error)


class DisplacementField(nn.Module):
    """Displacements and the logarithms of their errors at an eighth of the crop's resolution.

    Reads several stages of a network, the coarse ones for what is where (a feature pyramid, Lin et
    al. 2017).

    Args:
        channels: of each stage, from fine to coarse. width: channels inside.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.merge = nn.Sequential(convolution_block(width, width, 3), nn.ReLU(inplace=True))
        self.output = nn.Conv2d(width, 6, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, stages: Sequence[Tensor]) -> Float[Tensor, "batch 6 rows columns"]:
        """From the features of these stages, fine to coarse."""
        finer = None
        for lateral, features in zip(reversed(self.lateral), reversed(stages), strict=True):
            here = lateral(features)
            if finer is not None:
                size = here.shape[2:]
                here = here + interpolate(finer, size, mode="bilinear", align_corners=False)
            finer = relu(here)
        return self.output(self.merge(finer))


def start_spread(n_coefficients: int) -> Float[Tensor, " n"]:
    """Logarithms of plausible errors of an estimate: most of the shape, 2 degrees, 2 pixels."""
    pose = torch.tensor([0.12, 0.07, 0.06, 0.15, 0.15, 0.2])
    return torch.cat([torch.full((n_coefficients,), math.log(0.8)), pose.log()])
