"""Where the faces are: the detector that crops a photograph for the networks (3.4)."""

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from facerecon.data import to_grey
from facerecon.detection import cascades
from facerecon.detection.box import CROP_MARGIN, Box, clash, mean
from facerecon.detection.network import DetectionNet, search
from facerecon.weights import load_detector

__all__ = ["CROP_MARGIN", "Box", "NoFaceError", "detect_faces"]

SURE = 0.9
"""Probability from which the network's word alone is enough."""

LIKELY = 0.8
"""The same, for the best box of a photograph without any surer one."""

POSSIBLE = 0.15
"""Probability from which the network does not object to what a cascade sees."""


class NoFaceError(ValueError):
    """No face was found in an image."""


def detect_faces(image: Float[np.ndarray, "height width 3"]) -> list[Box]:
    """Find the faces in a photograph, largest first, up to profile and 40 degrees of roll.

    The paper crops its inputs with a standard detector, that of Viola and Jones. Its frontal
    cascades come first, but lose turned, tilted and unevenly lit faces, and their windows fire on
    eyes, chins and leaves. So a small network that learnt from synthetic faces has a say: it adds
    the faces that it is sure of, and takes away what it thinks is none. Where both find nothing,
    the profile cascades are asked, too.

    A box holds 178 mm of a mean head, centred 17 mm below the middle of the eyes. The score is the
    network's probability.

    Args:
        image: RGB in [0, 1].

    Raises:
        NoFaceError: nothing was found, as for faces under 22 pixels in an image of 1024.

    Source: 3.4.
    """
    rows, columns = image.shape[:2]
    grey = to_grey(image)
    possible = search(_network(), grey, POSSIBLE)
    eight_bit = np.rint(grey * 255).astype(np.uint8)
    boxes = [both for box in cascades.agreed(eight_bit) for both in _confirmed(box, possible)]
    for box in possible:  # the surest first
        if box.score >= SURE and not any(clash(box, known) for known in boxes):
            boxes.append(box)
    boxes = boxes or _doubtful(possible, eight_bit)
    if not boxes:
        raise NoFaceError(
            f"no face found in the image of {columns} x {rows} pixels; if there is one, pass its"
            " box"
        )
    return sorted(boxes, key=lambda box: -box.width)


def _confirmed(box: Box, possible: list[Box]) -> list[Box]:
    """The mean of a cascade's box and the network's, if there is one at that place."""
    same = [other for other in possible if box.overlap(other) > cascades.SAME_FACE]
    return [mean(box, same[0], same[0].score)] if same else []


def _doubtful(possible: list[Box], grey: UInt8[np.ndarray, "height width"]) -> list[Box]:
    """The one face that the network thinks possible and any cascade sees, or a likely one."""
    if not possible:
        return []
    seen = cascades.candidates(grey)
    both = [box for box in possible if any(box.overlap(s) > cascades.SAME_FACE for s in seen)]
    return (both or [box for box in possible if box.score >= LIKELY])[:1]


@cache
def _network() -> DetectionNet:
    return load_detector()
