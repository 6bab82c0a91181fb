"""The face detector, whose boxes are cropped for the networks (3.4)."""

from functools import cache

import numpy as np
from jaxtyping import Float

from facerecon.coarsenet import CoarseNet
from facerecon.detection.box import CROP_MARGIN, Box, clash
from facerecon.detection.judge import expected_errors
from facerecon.detection.network import DetectionNet, load_detector, search
from facerecon.imaging import to_grey
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel
from facerecon.weights import load_coarsenet

__all__ = ["CROP_MARGIN", "Box", "NoFaceError", "detect_faces", "largest_face"]

SURE = 0.9
"""Probability from which a box is accepted without rescoring."""

POSSIBLE = 0.1
"""Probability below which a box is discarded."""

POSSIBLE_BESIDE_SURE = 0.5
"""The same in a photograph with a sure box: it need not show a second face."""

NEUTRAL_MM = 3.75
"""Expected error (mm) at which the fit leaves the detector's odds unchanged."""

LOG_ODDS_PER_MM = 2.0
"""Log-odds gained per mm of lower expected error."""

_MAX_RESCORED = 10  # boxes, the most probable first
_BATCH = 5  # of them at once; the next only if none of these is a face


class NoFaceError(OneLine, ValueError):
    """No face was found in an image."""


def detect_faces(
    image: Float[np.ndarray, "height width 3"],
    coarsenet: CoarseNet | None = None,
    model: MorphableModel | None = None,
    detector: DetectionNet | None = None,
) -> list[Box]:
    """Find the faces in a photograph, largest first, up to profile and 40 degrees of roll.

    The paper crops its inputs with a standard face detector, such as that of Viola and Jones. Its
    cascades miss turned, tilted and unevenly lit faces, and accept eyes, chins and leaves. Instead,
    a small network that was trained on synthetic faces proposes boxes; where it is uncertain,
    CoarseNet is fitted in the box, and the box is kept if the fit is good.

    A box holds 178 mm of a mean head, centered 17 mm below the middle of the eyes. The score is the
    detector's probability.

    Args:
        image: RGB in [0, 1].
        coarsenet, model: that rescore uncertain boxes; those that ship if None. A network without
            points predicts no errors, and the probabilities of the detector decide alone.
        detector: that proposes the boxes; the one that ships if None.

    Raises:
        NoFaceError: nothing was found, as for faces under 22 pixels in an image of 1024.

    Source: 3.4.
    """
    return _detected(image, coarsenet, model, detector, largest_only=False)


def largest_face(
    image: Float[np.ndarray, "height width 3"],
    coarsenet: CoarseNet | None = None,
    model: MorphableModel | None = None,
    detector: DetectionNet | None = None,
) -> Box:
    """The largest of `detect_faces`; quicker, since uncertain smaller boxes need no rescoring.

    Raises:
        NoFaceError: nothing was found.
    """
    return _detected(image, coarsenet, model, detector, largest_only=True)[0]


def _detected(
    image: Float[np.ndarray, "height width 3"],
    coarsenet: CoarseNet | None,
    model: MorphableModel | None,
    detector: DetectionNet | None,
    largest_only: bool,
) -> list[Box]:
    rows, columns = image.shape[:2]
    grey = to_grey(image)
    possible = search(detector or _shipped_detector(), grey, POSSIBLE)  # the most probable first
    boxes = _compatible([box for box in possible if box.score >= SURE])
    uncertain = [box for box in possible if not any(clash(box, sure) for sure in boxes)]
    if boxes:
        enough = max(box.width for box in boxes) if largest_only else 0.0
        uncertain = [
            box for box in uncertain if box.score >= POSSIBLE_BESIDE_SURE and box.width > enough
        ]
    for first in range(0, min(len(uncertain), _MAX_RESCORED), _BATCH):
        if accepted := _rescored(grey, uncertain[first : first + _BATCH], coarsenet, model):
            boxes += accepted
            break
    if not boxes:
        raise NoFaceError(
            f"no face found in the image of {columns} x {rows} pixels; if there is one, pass its"
            " box"
        )
    return sorted(boxes, key=lambda box: -box.width)


def _rescored(
    grey: Float[np.ndarray, "height width"],
    boxes: list[Box],
    coarsenet: CoarseNet | None,
    model: MorphableModel | None,
) -> list[Box]:
    """The boxes that are more likely faces than not, after CoarseNet's fit."""
    scores = np.array([box.score for box in boxes])
    log_odds = np.log(scores / (1 - scores))
    network = coarsenet or _shipped_coarsenet()
    if network.config.points:
        errors = expected_errors(network, model or _shipped_model(), grey, boxes)
        log_odds += LOG_ODDS_PER_MM * (NEUTRAL_MM - errors)
    return _compatible([boxes[i] for i in np.argsort(-log_odds) if log_odds[i] > 0])


def _compatible(boxes: list[Box]) -> list[Box]:
    """The boxes that can all be faces; of two that clash, the first."""
    kept: list[Box] = []
    for box in boxes:
        if not any(clash(box, known) for known in kept):
            kept.append(box)
    return kept


_shipped_detector = cache(load_detector)
_shipped_coarsenet = cache(load_coarsenet)
_shipped_model = cache(MorphableModel.default)
