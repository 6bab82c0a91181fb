"""Where the faces are: the detector that crops a photograph for the networks (3.4)."""

from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from facerecon.data import to_grey
from facerecon.detection import cascades
from facerecon.detection.box import CROP_MARGIN, Box, clash
from facerecon.detection.network import DetectionNet, search
from facerecon.weights import load_detector

__all__ = ["CROP_MARGIN", "Box", "NoFaceError", "detect_faces"]

SURE = 0.9
"""Probability from which the network's word alone is enough."""

ASSENT = 0.3
"""What it adds to the network's probability that a cascade sees the face, too."""

LIKELY = 0.7
"""Probability from which the only face of a photograph counts; further ones must be sure."""

POSSIBLE = 0.1
"""Probability below which the network's boxes are not looked at."""


class NoFaceError(ValueError):
    """No face was found in an image."""


def detect_faces(image: Float[np.ndarray, "height width 3"]) -> list[Box]:
    """Find the faces in a photograph, largest first, up to profile and 40 degrees of roll.

    The paper crops its inputs with a standard face detector, such as that of Viola and Jones. Its
    cascades lose turned, tilted and unevenly lit faces, and their windows fire on eyes, chins and
    leaves. So a small network that learnt from synthetic faces looks first, and the cascades have
    a say where it is in doubt, which also saves most of their time.

    A box holds 178 mm of a mean head, centred 17 mm below the middle of the eyes. The score is the
    network's probability, raised where a cascade was asked and agreed.

    Args:
        image: RGB in [0, 1].

    Raises:
        NoFaceError: nothing was found, as for faces under 22 pixels in an image of 1024.

    Source: 3.4.
    """
    rows, columns = image.shape[:2]
    grey = to_grey(image)
    possible = search(_network(), grey, POSSIBLE)
    boxes = _apart(possible)
    doubtful = [box for box in possible if SURE - ASSENT <= box.score < SURE]
    if not boxes or any(not any(clash(box, sure) for sure in boxes) for box in doubtful):
        possible = _heard(possible, np.rint(grey * 255).astype(np.uint8))
        boxes = _apart(possible) or [box for box in possible[:1] if box.score >= LIKELY]
    if not boxes:
        raise NoFaceError(
            f"no face found in the image of {columns} x {rows} pixels; if there is one, pass its"
            " box"
        )
    return sorted(boxes, key=lambda box: -box.width)


def _apart(boxes: list[Box]) -> list[Box]:
    """The boxes that are sure and can all be faces; of two that clash, the surer."""
    kept: list[Box] = []
    for box in boxes:  # the surest first
        if box.score >= SURE and not any(clash(box, known) for known in kept):
            kept.append(box)
    return kept


def _heard(boxes: list[Box], grey: UInt8[np.ndarray, "height width"]) -> list[Box]:
    """The boxes after the cascades had their say, the surest first."""
    seen = cascades.candidates(grey)

    def heard(box: Box) -> Box:
        agree = any(box.overlap(other) > cascades.SAME_FACE for other in seen)
        return replace(box, score=min(box.score + ASSENT, 0.99)) if agree else box

    return sorted(map(heard, boxes), key=lambda box: -box.score)


@cache
def _network() -> DetectionNet:
    return load_detector()
