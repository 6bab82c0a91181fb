"""Rescores uncertain boxes by the error that CoarseNet predicts for its fit in them."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.coarsenet import CoarseNet, feedback, iterate
from facerecon.detection.box import Box
from facerecon.displacements import DISPLACEMENT_MM, place_points, points_of, seen
from facerecon.imaging import crop
from facerecon.morphable_model import MorphableModel

_SIZE = 200  # pixels of CoarseNet's crops
_ITERATIONS = 3


@torch.no_grad()
def expected_errors(
    network: CoarseNet,
    model: MorphableModel,
    grey: Float[np.ndarray, "height width"],
    boxes: list[Box],
) -> Float[np.ndarray, " boxes"]:
    """How wrong CoarseNet expects to be about where the face in each box lies, in mm.

    After some iterations it predicts the error of each of its displacements
    (`coarsenet.CoarseEstimate`); their mean is a few mm on a face and more where there is none.

    Args:
        network: with points. grey: photograph in [0, 1]. boxes: of the detector; at least one.
    """
    crops = [crop(grey, box.crop_box(), _SIZE)[0] for box in boxes]
    image = torch.from_numpy(np.stack(crops))[:, None].to(model.mean)
    r = iterate(network, model, image, _ITERATIONS, both_sides=False)[-1]
    return expected_errors_of_fits(network, model, image, r).cpu().numpy()


@torch.no_grad()
def expected_errors_of_fits(
    network: CoarseNet,
    model: MorphableModel,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
) -> Float[Tensor, " batch"]:
    """The same of fits r that were made already, in mm; image: the grey crops."""
    log_error = network(feedback(model, image, r, network.config), r, model).log_error
    points = points_of(model, network.points)
    weight = seen(points, r, place_points(points, r)).expand_as(log_error)
    mean = (log_error.exp() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    return DISPLACEMENT_MM * mean
