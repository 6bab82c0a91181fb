"""CoarseNet on a photograph, where the crop follows the fit if the detector's box was off."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.camera import POSE_UNITS, split
from facerecon.coarsenet import iterate
from facerecon.imaging import Crop, to_grey

OFF_CENTRE = 0.1
"""Crop widths, or logarithm of the size, from which a fit is off enough to cut its crop anew."""

ASTRAY = 0.5
"""The same, from which the fit is not believed and the crop stays."""


def recentred(square: Crop, pose: Float[Tensor, " 6"]) -> Crop:
    """The crop in which a face of this pose, in pose units of `square`, has t = 0 and scale 1."""
    right, up, log_scale = _place(pose)
    side = square.side * math.exp(log_scale)
    column = square.x + square.side * (0.5 + right)
    row = square.y + square.side * (0.5 - up)
    return Crop(column - side / 2, row - side / 2, side, square.size)


@torch.no_grad()
def fit(
    network: nn.Module,
    model: nn.Module,
    photo: Float[np.ndarray, "height width *channels"],
    square: Crop,
    iterations: int = 4,
    recrops: int = 1,
) -> tuple[list[Float[Tensor, "1 n"]], Crop]:
    """Iterate CoarseNet; if the face turns out to lie beside its crop's middle, cut and start anew.

    CoarseNet was trained on crops as a detector leaves them, so it knows faces near the middle
    best.

    Args:
        photo: grey or RGB.
        square: where to begin, with the networks' size.
        recrops: how often the crop may move.

    Returns:
        r after every step of the last round, starting with r_0 = 0, and the crop they refer to.
    """
    while True:
        face = square.cut(photo)
        grey = to_grey(face) if face.ndim == 3 else face
        image = torch.from_numpy(grey).to(model.mean)[None, None]
        steps = iterate(network, model, image, iterations)
        pose = split(steps[-1], model.n_coefficients)[1][0]
        off = max(abs(number) for number in _place(pose))
        if recrops == 0 or not OFF_CENTRE < off < ASTRAY:
            return steps, square
        square, recrops = recentred(square, pose), recrops - 1


def _place(pose: Float[Tensor, " 6"]) -> tuple[float, float, float]:
    """t_x and t_y in crop widths, logarithm of the scale."""
    right, up, log_scale = (pose.double().cpu() * POSE_UNITS)[3:].tolist()
    return right, up, log_scale
