"""Where the faces are: the Viola-Jones detector that the paper crops its inputs with (3.4)."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from facerecon.data import to_grey

CROP_MARGIN = 1.2
"""Side of the crop over that of the detector's box; 1.2 times 178 mm are 214 mm of a mean head."""


class NoFaceError(ValueError):
    """No face was found in an image."""


@dataclass(frozen=True)
class Box:
    """A face: left, top, width and height in pixels, counted from the image's left top corner.

    The score is the number of detector windows that agree on it.
    """

    x: float
    y: float
    width: float
    height: float
    score: float = 0.0

    def crop_box(self) -> tuple[float, float, float, float]:
        """The square (x, y, side, side) with the same centre that the networks see."""
        side = CROP_MARGIN * max(self.width, self.height)
        return self.x + (self.width - side) / 2, self.y + (self.height - side) / 2, side, side

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        shared = max(width, 0.0) * max(height, 0.0)
        return shared / (self.width * self.height + other.width * other.height - shared)


@dataclass(frozen=True)
class _Cascade:
    """A cascade, and how its boxes lie beside those of `frontalface_default` on the same face.

    shift: of the centre, to the right, in widths. scale: of the width.
    Both are medians over portraits that both cascades find.
    """

    name: str
    shift: float = 0.0
    scale: float = 1.0
    mirrored: bool = False


_FRONTAL = (_Cascade("frontalface_default"), _Cascade("frontalface_alt2", scale=1.01))
_PROFILE = (
    _Cascade("profileface", shift=-0.17, scale=0.97),
    _Cascade("profileface", shift=0.17, scale=0.97, mirrored=True),
)
# Longest side in pixels at which faces are looked for: the second only if the first finds none.
_SCALES = (640, 1600)
_SMALLEST = 40
_MIN_NEIGHBOURS = 3
_SAME_FACE = 0.4
# Windows times the box's share of the longest side: small boxes are many, so chance finds some.
_ENOUGH_ALONE = 2.5


def detect_faces(image: Float[np.ndarray, "height width 3"]) -> list[Box]:
    """Find the faces in a photograph, largest first.

    A box counts where two frontal cascades agree, which leaves hardly any false one. Where they
    agree nowhere, the profile cascades are asked too, also with contrast evened out locally, and
    the one best-supported box is taken. Boxes are brought to those of a frontal detector: 178 mm
    of a mean head, centred 17 mm below the middle of the eyes.

    Args:
        image: RGB in [0, 1].

    Raises:
        NoFaceError: nothing was found, as for faces under 40 pixels in an image of 1600.

    Source: 3.4, and P. Viola and M. Jones, CVPR 2001.
    """
    rows, columns = image.shape[:2]
    grey = np.rint(to_grey(image) * 255).astype(np.uint8)
    for longest in sorted({min(scale, max(rows, columns)) for scale in _SCALES}):
        factor = longest / max(rows, columns)
        size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
        boxes = _faces(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
        if boxes:
            x, y = columns / size[0], rows / size[1]
            return [Box(b.x * x, b.y * y, b.width * x, b.height * y, b.score) for b in boxes]
    raise NoFaceError(
        f"no face found in the image of {columns} x {rows} pixels; if there is one, pass its box"
    )


def _faces(grey: UInt8[np.ndarray, "height width"]) -> list[Box]:
    even = cv2.equalizeHist(grey)
    first, second = (_windows(even, cascade) for cascade in _FRONTAL)
    agreed = [_merge([a, b]) for a in first for b in second if a.overlap(b) > _SAME_FACE]
    if agreed:
        return sorted(_distinct(agreed), key=lambda box: -box.width)
    local = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(grey)
    found = [*first, *second, *(box for cascade in _PROFILE for box in _windows(even, cascade))]
    found += [box for cascade in _FRONTAL + _PROFILE for box in _windows(local, cascade)]
    groups = [_merge([b for b in found if a.overlap(b) > _SAME_FACE]) for a in found]
    share = 1 / max(grey.shape)
    return [b for b in _distinct(groups)[:1] if b.score * b.width * share >= _ENOUGH_ALONE]


def _windows(grey: UInt8[np.ndarray, "height width"], cascade: _Cascade) -> list[Box]:
    """One cascade's boxes, brought to the size and place of the first frontal cascade's."""
    view = np.ascontiguousarray(grey[:, ::-1]) if cascade.mirrored else grey
    found, support = _classifier(cascade.name).detectMultiScale2(
        view, scaleFactor=1.1, minNeighbors=_MIN_NEIGHBOURS, minSize=(_SMALLEST, _SMALLEST)
    )
    boxes = []
    for (left, y, side, _), neighbours in zip(found, support, strict=True):
        x = grey.shape[1] - left - side if cascade.mirrored else left
        half = side * cascade.scale / 2
        x, y = x + (0.5 + cascade.shift) * side - half, y + side / 2 - half
        boxes.append(Box(float(x), float(y), 2 * float(half), 2 * float(half), float(neighbours)))
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


def _distinct(boxes: list[Box]) -> list[Box]:
    """The best boxes that lie apart, best first; small ones with little support beside it go.

    Support grows with what a box shows of a face, so an eye inside a face loses to the face.
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score * box.width):
        weak = kept and box.width < kept[0].width / 2 and box.score < kept[0].score / 2
        if not weak and not any(box.overlap(k) > 0.1 or _inside(box, k) for k in kept):
            kept.append(box)
    return kept


def _inside(box: Box, other: Box) -> bool:
    x, y = box.x + box.width / 2, box.y + box.height / 2
    return other.x < x < other.x + other.width and other.y < y < other.y + other.height
