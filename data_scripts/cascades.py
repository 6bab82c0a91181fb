"""The Viola-Jones detectors that the paper crops its inputs with (3.4)."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import UInt8

from facerecon.detection.box import Box, distinct


@dataclass(frozen=True)
class Cascade:
    """A cascade, and how its boxes lie beside those of `frontalface_default` on the same face.

    shift: of the center, to the right, in widths. scale: of the width.
    Both are medians over portraits that both cascades find.
    """

    name: str
    shift: float = 0.0
    scale: float = 1.0
    mirrored: bool = False


FRONTAL = (Cascade("frontalface_default"), Cascade("frontalface_alt2", scale=1.01))
PROFILE = (
    Cascade("profileface", shift=-0.17, scale=0.97),
    Cascade("profileface", shift=0.17, scale=0.97, mirrored=True),
)
SAME_FACE = 0.4
"""Overlap of two cascades' boxes of one face."""

_LONGEST = 640  # pixels; a face is then at least a sixteenth of the longest side
_SMALLEST = 40
_MIN_NEIGHBORS = 3


def agreed(grey: UInt8[np.ndarray, "height width"]) -> list[Box]:
    """The boxes on which two frontal cascades agree, which leaves hardly any false one."""
    first, second = (found(grey, cascade) for cascade in FRONTAL)
    both = [_merge([a, b]) for a in first for b in second if a.overlap(b) > SAME_FACE]
    return distinct(both)


def candidates(grey: UInt8[np.ndarray, "height width"]) -> list[Box]:
    """Every box of every cascade, frontal and profile, also where another does not agree."""
    boxes = [box for cascade in FRONTAL + PROFILE for box in found(grey, cascade)]
    groups = [_merge([b for b in boxes if a.overlap(b) > SAME_FACE]) for a in boxes]
    return distinct(groups)


def found(grey: UInt8[np.ndarray, "height width"], cascade: Cascade) -> list[Box]:
    """One cascade's boxes, brought to the size and place of the first frontal cascade's.

    The score is the number of windows that agree on a box.
    """
    factor = min(1.0, _LONGEST / max(grey.shape))
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    even = cv2.equalizeHist(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    view = np.ascontiguousarray(even[:, ::-1]) if cascade.mirrored else even
    windows, support = _classifier(cascade.name).detectMultiScale2(
        view, scaleFactor=1.1, minNeighbors=_MIN_NEIGHBORS, minSize=(_SMALLEST, _SMALLEST)
    )
    boxes = []
    for (left, y, side, _), neighbors in zip(windows, support, strict=True):
        x = size[0] - left - side if cascade.mirrored else left
        half = side * cascade.scale / 2
        x, y = x + (0.5 + cascade.shift) * side - half, y + side / 2 - half
        numbers = (float(value) / factor for value in (x, y, 2 * half, 2 * half))
        boxes.append(Box(*numbers, float(neighbors)))
    return boxes


@cache
def _classifier(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")


def _merge(boxes: list[Box]) -> Box:
    """The mean of boxes of one face, weighted by their support; supports add up."""
    score = sum(box.score for box in boxes)
    rows = np.array([[box.x, box.y, box.width, box.height] for box in boxes])
    weights = np.array([box.score for box in boxes]) / score
    return Box(*(float(value) for value in weights @ rows), score)
