"""CoarseNet on a photograph, where the crop follows the fit if the detector's box was off."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.backends.threads import balanced_parts, side_by_side
from facerecon.camera import N_POSE, POSE_UNITS
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.imaging import Crop, to_grey
from facerecon.morphable_model import MorphableModel

OFF_CENTER = 0.1
"""Crop widths, or logarithm of the size, from which the crop is cut anew around the fit."""

FAILED = 0.5
"""The same, from which the fit is taken for failed and the crop stays."""

TOGETHER = 5
"""Faces that CoarseNet fits as one batch: more of them leave a processor's cache."""


class Fit(NamedTuple):
    """CoarseNet's fit of one face.

    steps: r after every iteration of the last round, starting with r_0 = 0, in the frame of the
    crop.
    """

    steps: list[Float[Tensor, "1 n"]]
    crop: Crop


def fit(
    network: CoarseNet,
    model: MorphableModel,
    photo: Float[np.ndarray, "height width *channels"],
    crop: Crop,
    iterations: int = 4,
    recrops: int = 1,
) -> Fit:
    """`fit_all` of one face."""
    return fit_all(network, model, photo, [crop], iterations, recrops)[0]


def fit_all(
    network: CoarseNet,
    model: MorphableModel,
    photo: Float[np.ndarray, "height width *channels"],
    crops: Sequence[Crop],
    iterations: int = 4,
    recrops: int = 1,
) -> list[Fit]:
    """Iterate CoarseNet on all faces of a photograph, `TOGETHER` at a time.

    A face that turns out to lie off its crop's center is cut anew and starts again: CoarseNet was
    trained on crops as a detector leaves them, so it fits faces near the center best.

    Args:
        photo: grey or RGB.
        crops: where to begin, with the network's size.
        recrops: how often a crop may move.
    """

    def fitted(part: Sequence[Crop]) -> list[Fit]:
        return _fit_batch(network, model, photo, part, iterations)

    parts = side_by_side(fitted, balanced_parts(crops, TOGETHER), model.mean.device)
    fits = [each for part in parts for each in part]
    moved = {}
    for number, (steps, crop) in enumerate(fits):
        move = place(steps[-1][0, -N_POSE:])
        if recrops and OFF_CENTER < max(map(abs, move)) < FAILED:
            moved[number] = crop.moved(*move)
    if moved:
        again = fit_all(network, model, photo, list(moved.values()), iterations, recrops - 1)
        for number, found in zip(moved, again, strict=True):
            fits[number] = found
    return fits


@torch.no_grad()
def _fit_batch(
    network: CoarseNet,
    model: MorphableModel,
    photo: Float[np.ndarray, "height width *channels"],
    crops: Sequence[Crop],
    iterations: int,
) -> list[Fit]:
    faces = (crop.cut(photo) for crop in crops)
    grey = np.stack([to_grey(face) if face.ndim == 3 else face for face in faces])
    image = torch.from_numpy(grey).to(model.mean)[:, None]
    steps = iterate(network, model, image, iterations)
    of_each = zip(*(step.split(1) for step in steps), strict=True)
    return [Fit(list(own), crop) for own, crop in zip(of_each, crops, strict=True)]


def place(pose: Float[Tensor, " 6"]) -> tuple[float, float, float]:
    """Of a pose: t_x and t_y in crop widths, logarithm of the scale; what `Crop.moved` takes."""
    right, up, log_scale = (pose.double().cpu() * POSE_UNITS)[3:].tolist()
    return right, up, log_scale
