"""Pictures of a track: the mesh over the frame, and the same mesh as clay beside it."""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from facerecon.camera import POSE_UNITS
from facerecon.imaging import to_bytes
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.video.track import Track
from facerecon.views.viz import halved, shaded

MAX_ROWS = 720
"""Rows of the pictures at most; larger frames are scaled down."""

OPACITY = 0.5
"""Of the mesh over the photograph."""

MARGIN = 1.15
"""Side of what is shown beside it, in crops: a face in profile is wider than from the front."""

BACKGROUND = 0.93
"""Grey value behind the clay."""


def overlay(
    image: Float[np.ndarray, "height width 3"], track: Track, index: int, model: MorphableModel
) -> UInt8[np.ndarray, "rows columns 3"]:
    """One picture of a video: the frame with the face's mesh over it, and a square with the mesh.

    Args:
        image: the frame of this index of the track.
    """
    scale = min(MAX_ROWS / image.shape[0], 1.0)
    rows, columns = round(image.shape[0] * scale), round(image.shape[1] * scale)
    if scale < 1:
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    panel = np.full((rows, rows, 3), BACKGROUND, np.float32)
    if track.found[index]:
        crop = track.crop_of(index)
        side = crop.side * scale
        size = int(np.clip(round(side), 64, MAX_ROWS))
        grey, cover = _clay(model, track, index, size)
        # From the crop's pixels to the picture's; the center of the first pixel is (0, 0).
        step = side / size
        left, top = (edge * scale + step / 2 - 0.5 for edge in (crop.x, crop.y))
        place = np.array([[step, 0, left], [0, step, top]])
        layers = np.dstack([grey * cover, cover]).astype(np.float32)
        laid, covered = np.moveaxis(cv2.warpAffine(layers, place, (columns, rows)), 2, 0)
        image = image * (1 - OPACITY * covered[..., None]) + OPACITY * laid[..., None]
        grey, cover = _clay(model, track, index, rows, MARGIN)
        panel = np.repeat((grey * cover + BACKGROUND * (1 - cover))[..., None], 3, axis=2)
    return to_bytes(np.concatenate([image, panel], axis=1))


@torch.no_grad()
def _clay(
    model: MorphableModel, track: Track, index: int, size: int, margin: float = 1.0
) -> tuple[Float[np.ndarray, "size size"], Float[np.ndarray, "size size"]]:
    """The shaded face in its crop, without ears and neck, and the share of it in each pixel."""
    r = track.representation(index).to(model.mean)
    r[0, -1] -= math.log(margin) / POSE_UNITS[-1].item()
    maps = render(model, r, 2 * size)
    beside = interpolate(model.ears_and_neck[None, :, None], maps.fragments, model.triangles)
    mask = (maps.mask & (beside < 0.5))[0, 0].cpu().numpy()
    grey = shaded(maps.normals[0].permute(1, 2, 0).cpu().numpy(), 0.0)
    cover = halved(mask.astype(np.float32))
    return halved(np.where(mask, grey, 0.0)) / np.maximum(cover, 1e-6), cover
