"""Where the faces are: the detector that crops a photograph for the networks (3.4)."""

from functools import cache

import numpy as np
from jaxtyping import Float

from facerecon.detection.box import CROP_MARGIN, Box, clash
from facerecon.detection.judge import expected_errors
from facerecon.detection.network import DetectionNet, search
from facerecon.imaging import to_grey
from facerecon.weights import load_detector

__all__ = ["CROP_MARGIN", "Box", "NoFaceError", "detect_faces"]

SURE = 0.9
"""Probability from which the detector's word alone is enough."""

POSSIBLE = 0.1
"""Probability below which its boxes are not looked at."""

FURTHER = 0.5
"""The same, beside a sure box: a photograph need not show a second face."""

EXPLAINED_MM = 3.75
"""Error that CoarseNet expects of its fit that leaves the odds of a face as the detector says."""

WEIGHT = 2.0
"""Natural logarithm of what a mm less does to these odds."""

_MOST_ASKED = 10  # boxes, the surest first
_AT_ONCE = 5  # of them; the rest only if none of these is a face


class NoFaceError(ValueError):
    """No face was found in an image."""


def detect_faces(image: Float[np.ndarray, "height width 3"]) -> list[Box]:
    """Find the faces in a photograph, largest first, up to profile and 40 degrees of roll.

    The paper crops its inputs with a standard face detector, such as that of Viola and Jones. Its
    cascades lose turned, tilted and unevenly lit faces, and their windows fire on eyes, chins and
    leaves. So a small network that learnt from synthetic faces looks first; where it is in doubt,
    CoarseNet is fitted to what it found, and a box stays if the fit explains it.

    A box holds 178 mm of a mean head, centred 17 mm below the middle of the eyes. The score is the
    detector's probability.

    Args:
        image: RGB in [0, 1].

    Raises:
        NoFaceError: nothing was found, as for faces under 22 pixels in an image of 1024.

    Source: 3.4.
    """
    rows, columns = image.shape[:2]
    grey = to_grey(image)
    possible = search(_network(), grey, POSSIBLE)  # the surest first
    boxes = _apart([box for box in possible if box.score >= SURE])
    doubtful = [box for box in possible if not any(clash(box, sure) for sure in boxes)]
    if boxes:
        doubtful = [box for box in doubtful if box.score >= FURTHER]
    for first in range(0, min(len(doubtful), _MOST_ASKED), _AT_ONCE):
        if explained := _explained(grey, doubtful[first : first + _AT_ONCE]):
            boxes += explained
            break
    if not boxes:
        raise NoFaceError(
            f"no face found in the image of {columns} x {rows} pixels; if there is one, pass its"
            " box"
        )
    return sorted(boxes, key=lambda box: -box.width)


def _explained(grey: Float[np.ndarray, "height width"], doubtful: list[Box]) -> list[Box]:
    """The boxes for which the odds of the detector and of CoarseNet's fit together are better."""
    scores = np.array([box.score for box in doubtful])
    log_odds = np.log(scores / (1 - scores))
    log_odds += WEIGHT * (EXPLAINED_MM - expected_errors(grey, doubtful))
    return _apart([doubtful[i] for i in np.argsort(-log_odds) if log_odds[i] > 0])


def _apart(boxes: list[Box]) -> list[Box]:
    """The boxes that can all be faces; of two that clash, the first."""
    kept: list[Box] = []
    for box in boxes:
        if not any(clash(box, known) for known in kept):
            kept.append(box)
    return kept


@cache
def _network() -> DetectionNet:
    return load_detector()
