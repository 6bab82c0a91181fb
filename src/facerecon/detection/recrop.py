"""CoarseNet on a photograph, where the crop follows the fit if the detector's box was off."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import POSE_UNITS, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.box import Box
from facerecon.imaging import Crop, to_grey
from facerecon.morphable_model import MorphableModel

OFF_CENTER = 0.1
"""Crop widths, or logarithm of the size, from which the crop is cut anew around the fit."""

FAILED = 0.5
"""The same, from which the fit is taken for failed and the crop stays."""


class FittedFace(NamedTuple):
    """A face of a photograph and CoarseNet's fit.

    crop: in which it was fitted.
    steps: r after every iteration, starting with r_0 = 0, in the frame of the crop.
    """

    photo: Float[np.ndarray, "height width 3"]
    box: Box
    crop: Crop
    steps: list[Float[Tensor, "1 n"]]


def fit_face(
    network: CoarseNet,
    model: MorphableModel,
    photo: Float[np.ndarray, "height width 3"],
    box: Box,
    crop: Crop,
    iterations: int = 4,
) -> FittedFace:
    """`fit` of the face in a box; crop: of this box."""
    steps, crop = fit(network, model, photo, crop, iterations)
    return FittedFace(photo, box, crop, steps)


@torch.no_grad()
def fit(
    network: CoarseNet,
    model: MorphableModel,
    photo: Float[np.ndarray, "height width *channels"],
    crop: Crop,
    iterations: int = 4,
    recrops: int = 1,
) -> tuple[list[Float[Tensor, "1 n"]], Crop]:
    """Iterate CoarseNet; if the face turns out to lie off the crop's center, cut and start anew.

    CoarseNet was trained on crops as a detector leaves them, so it fits faces near the center best.

    Args:
        photo: grey or RGB.
        crop: where to begin, with the network's size.
        recrops: how often the crop may move.

    Returns:
        r after every step of the last round, starting with r_0 = 0, and the crop they refer to.
    """
    while True:
        face = crop.cut(photo)
        grey = to_grey(face) if face.ndim == 3 else face
        image = torch.from_numpy(grey).to(model.mean)[None, None]
        steps = iterate(network, model, image, iterations)
        pose = split(steps[-1], model.n_coefficients)[1][0]
        off = max(abs(number) for number in place(pose))
        if recrops == 0 or not OFF_CENTER < off < FAILED:
            return steps, crop
        crop, recrops = crop.moved(*place(pose)), recrops - 1


def place(pose: Float[Tensor, " 6"]) -> tuple[float, float, float]:
    """Of a pose: t_x and t_y in crop widths, logarithm of the scale; what `Crop.moved` takes."""
    right, up, log_scale = (pose.double().cpu() * POSE_UNITS)[3:].tolist()
    return right, up, log_scale
