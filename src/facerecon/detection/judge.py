"""How well CoarseNet's fit explains a box: the word that decides where the detector doubts."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from facerecon.coarsenet import CoarseNet, feedback, iterate
from facerecon.detection.box import Box
from facerecon.displacements import DISPLACEMENT_MM, place_points, points_of, seen
from facerecon.imaging import crop, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.weights import load_coarsenet

_SIZE = 200  # pixels of CoarseNet's crops
_ITERATIONS = 3


class _Judge(NamedTuple):
    model: MorphableModel
    network: CoarseNet


@cache
def _judge() -> _Judge:
    return _Judge(MorphableModel.default(), load_coarsenet())


@torch.no_grad()
def expected_errors(
    photo: Float[np.ndarray, "height width *channels"], boxes: list[Box]
) -> Float[np.ndarray, " boxes"]:
    """How wrong CoarseNet expects to be about where the face in each box lies, in mm.

    After some iterations it states the error of every displacement that it sees
    (`coarsenet.Estimate`); their mean is a few mm on a face. Where there is none, nothing is where
    a face has it, and it says so. The network and the model that ship judge, whichever reconstruct.

    Args:
        photo: grey or RGB in [0, 1]. boxes: of the detector; at least one.
    """
    model, network = _judge()
    crops = [crop(photo, box.crop_box(), _SIZE)[0] for box in boxes]
    grey = np.stack([to_grey(cut) if cut.ndim == 3 else cut for cut in crops])
    image = torch.from_numpy(grey)[:, None].to(model.mean)
    r = iterate(network, model, image, _ITERATIONS, both_sides=False)[-1]
    points = points_of(model, network.points)
    log_error = network(feedback(model, image, r, network.config), r, model).log_error
    weight = seen(points, r, place_points(points, r)).expand_as(log_error)
    mean = (log_error.exp() * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    return DISPLACEMENT_MM * mean.numpy()
