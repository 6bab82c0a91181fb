"""Pose and weak-perspective camera: model frame, camera frame, pixel grid (docs/conventions.md)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.shapes import require_shape

POSE_NAMES = ("pitch", "yaw", "roll", "t_x", "t_y", "log_scale")
N_POSE = len(POSE_NAMES)
# rad, rad, rad, fraction of the crop, fraction of the crop, natural logarithm
POSE_UNITS = torch.tensor([0.3, 0.5, 0.25, 1 / 16, 1 / 16, 0.15], dtype=torch.float64)
CROP_MM = 214.0


class Pose(NamedTuple):
    """A pose in physical units.

    rotation: model frame to camera frame. scale: pixels per mm. translation: pixels, x right, y up.
    """

    rotation: Float[Tensor, "batch 3 3"]
    scale: Float[Tensor, " batch"]
    translation: Float[Tensor, "batch 2"]


def rotation_matrix(angles: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """The rotation R = R_z(roll) R_x(pitch) R_y(yaw) from the model frame to the camera frame.

    Args:
        angles: pitch, yaw, roll in radians.

    Raises:
        ValueError: `angles` is not (batch, 3).
    """
    require_shape("angles", angles, None, 3)
    sx, sy, sz = angles.sin().unbind(1)
    cx, cy, cz = angles.cos().unbind(1)
    rows = (
        cz * cy - sz * sx * sy, -sz * cx, cz * sy + sz * sx * cy,
        sz * cy + cz * sx * sy, cz * cx, sz * sy - cz * sx * cy,
        -cx * sy, sx, cx * cy,
    )  # fmt: skip
    return torch.stack(rows, dim=1).unflatten(1, (3, 3))


def rotation_angles(rotation: Float[Tensor, "batch 3 3"]) -> Float[Tensor, "batch 3"]:
    """Pitch, yaw and roll in radians of rotations; undoes `rotation_matrix` for pitch in +-90 deg.

    Raises:
        ValueError: `rotation` is not (batch, 3, 3).
    """
    require_shape("rotation", rotation, None, 3, 3)
    pitch = rotation[:, 2, 1].clamp(-1, 1).asin()
    yaw = torch.atan2(-rotation[:, 2, 0], rotation[:, 2, 2])
    roll = torch.atan2(-rotation[:, 0, 1], rotation[:, 1, 1])
    return torch.stack([pitch, yaw, roll], dim=1)


def pose_parameters(pose: Float[Tensor, "batch 6"], size: float) -> Pose:
    """The pose in physical units for a crop of `size` x `size` pixels.

    Args:
        pose: six numbers in `POSE_UNITS`.
        size: side of the crop in pixels.

    Raises:
        ValueError: `pose` is not (batch, 6) or `size` is not positive.
    """
    require_shape("pose", pose, None, N_POSE)
    if size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size}")
    physical = pose * POSE_UNITS.to(pose)
    return Pose(
        rotation=rotation_matrix(physical[:, :3]),
        scale=(size / CROP_MM) * physical[:, 5].exp(),
        translation=size * physical[:, 3:5],
    )


def to_camera(
    vertices: Float[Tensor, "batch vertices 3"], pose: Float[Tensor, "batch 6"]
) -> Float[Tensor, "batch vertices 3"]:
    """Rotate vertices from the model frame to the camera frame; mm in, mm out.

    Raises:
        ValueError: wrong shapes, or different batch sizes.
    """
    require_shape("pose", pose, None, N_POSE)
    require_shape("vertices", vertices, pose.shape[0], None, 3)
    rotation = rotation_matrix(pose[:, :3] * POSE_UNITS[:3].to(pose))
    return vertices @ rotation.transpose(1, 2)


def to_pixels(
    camera_vertices: Float[Tensor, "batch vertices 3"], pose: Float[Tensor, "batch 6"], size: int
) -> Float[Tensor, "batch vertices 3"]:
    """Place camera-frame vertices (mm) on the pixel grid of a crop: column, row, depth in mm.

    Raises:
        ValueError: wrong shapes, different batch sizes, or `size` not positive.
    """
    _, scale, translation = pose_parameters(pose, size)
    require_shape("camera_vertices", camera_vertices, pose.shape[0], None, 3)
    flip, center = _pixel_axes(camera_vertices, size)
    offset = (_pad(translation) * flip + center)[:, None]
    return torch.addcmul(offset, camera_vertices, _per_axis(scale, flip))  # one pass


def in_perspective(
    camera_vertices: Float[Tensor, "batch vertices 3"], distance: Float[Tensor, " batch"]
) -> Float[Tensor, "batch vertices 3"]:
    """Camera-frame vertices as a pinhole at a finite distance sees them; z stays as it is.

    x and y grow by distance / (distance - z) about the optical axis, which passes through the
    model's origin. What lies in the origin's plane keeps its size, so the weak-perspective scale
    of a pose holds there; `to_pixels` then does the rest.

    Args:
        camera_vertices: mm. distance: mm from the pinhole to the model's origin.

    Raises:
        ValueError: wrong shapes, or a vertex not in front of the pinhole.
    """
    require_shape("camera_vertices", camera_vertices, distance.shape[0], None, 3)
    distance = distance[:, None, None]
    if (camera_vertices[..., 2:] >= distance).any():
        raise ValueError("the camera stands inside the head; the distance (mm) must exceed its z")
    x, y, z = camera_vertices.split(1, dim=2)
    factor = distance / (distance - z)
    return torch.cat([x * factor, y * factor, z], dim=2)


def project(
    vertices: Float[Tensor, "batch vertices 3"], pose: Float[Tensor, "batch 6"], size: int
) -> Float[Tensor, "batch vertices 3"]:
    """Project model-frame vertices (mm) to column, row (pixels) and depth (mm).

    Raises:
        ValueError: wrong shapes, different batch sizes, or `size` not positive.

    Source: Eqs. (2) and (5).
    """
    return to_pixels(to_camera(vertices, pose), pose, size)


def unproject(
    projected: Float[Tensor, "batch vertices 3"], pose: Float[Tensor, "batch 6"], size: int
) -> Float[Tensor, "batch vertices 3"]:
    """The inverse of `project`: column, row, depth (mm) back to the model frame in mm.

    Raises:
        ValueError: wrong shapes, different batch sizes, or `size` not positive.
    """
    rotation, scale, translation = pose_parameters(pose, size)
    require_shape("projected", projected, pose.shape[0], None, 3)
    flip, center = _pixel_axes(projected, size)
    camera_vertices = projected - (_pad(translation) * flip + center)[:, None]
    return (camera_vertices / _per_axis(scale, flip)) @ rotation


def split(
    r: Float[Tensor, "batch numbers"], n_coefficients: int = 284
) -> tuple[Float[Tensor, "batch coefficients"], Float[Tensor, "batch 6"]]:
    """Split the representation r into the model's coefficients and the pose.

    Raises:
        ValueError: `r` is not (batch, n_coefficients + 6).
    """
    require_shape("r", r, None, n_coefficients + N_POSE)
    return r[:, :n_coefficients], r[:, n_coefficients:]


def join(
    coefficients: Float[Tensor, "batch coefficients"], pose: Float[Tensor, "batch 6"]
) -> Float[Tensor, "batch numbers"]:
    """The representation r: coefficients, then pose.

    Raises:
        ValueError: wrong shapes, or different batch sizes.
    """
    require_shape("pose", pose, None, N_POSE)
    require_shape("coefficients", coefficients, pose.shape[0], None)
    return torch.cat([coefficients, pose], dim=1)


def _pixel_axes(like: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Signs that turn y up into rows down, and the pixel at the image plane's origin."""
    center = (size - 1) / 2
    return like.new_tensor([1.0, -1.0, 1.0]), like.new_tensor([center, center, 0.0])


def _per_axis(scale: Tensor, flip: Tensor) -> Tensor:
    """(batch, 1, 3) factors from camera frame to pixels; depth stays in mm."""
    return (torch.stack([scale, scale, torch.ones_like(scale)], dim=1) * flip)[:, None]


def _pad(translation: Tensor) -> Tensor:
    return torch.nn.functional.pad(translation, (0, 1))
