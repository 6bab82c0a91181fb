"""Face alignment of [19]: 68 landmarks by an ensemble of regression trees.

V. Kazemi, J. Sullivan, One millisecond face alignment with an ensemble of regression trees, CVPR
2014. From the publication: a cascade of gradient-boosted trees, whose splits compare the grey
values of two pixels that move with the current shape, and whose leaves add displacements of all
landmarks. The trees are dlib's (`train_shape_predictor`), which implements the publication; ours
are the synthetic faces that it was trained on, and a smaller size than usual
(`data_scripts/train_landmarks.py`).
"""

from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float, UInt8

from facerecon.detection.detect import CROP_MARGIN, Box, detect_faces
from facerecon.imaging import crop, to_bytes, to_grey
from facerecon.weights import shipped

SIZE = 160
"""Pixels of the crop in which the trees compare grey values."""

PREDICTOR = "landmarks.dat"

MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip
"""The number of each landmark in the mirror image."""

_SCALES, _SHIFTS = (0.92, 1.0, 1.08), (-0.04, 0.0, 0.04)


def require_dlib() -> ModuleType:
    """The module dlib, which is imported when it is needed.

    Raises:
        ImportError: with what to install.
    """
    try:
        import dlib
    except ImportError:
        raise ImportError(
            'alignment by regression trees needs dlib: pip install "facerecon[compare]"'
        ) from None
    return dlib


def face_rectangle(size: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the detector's box in a crop: what shapes are relative to."""
    margin = round(size * (1 - 1 / CROP_MARGIN) / 2)
    return margin, margin, size - 1 - margin, size - 1 - margin


class ShapePredictor:
    """The trees of a file.

    Args:
        path: made by `data_scripts/train_landmarks.py`; None: the one that ships. Only read files
            that you trust: dlib's format has no checks.

    Raises:
        ImportError: without dlib.
    """

    def __init__(self, path: str | Path | None = None):
        dlib = require_dlib()
        self._rectangle = dlib.rectangle(*face_rectangle(SIZE))
        self._trees = dlib.shape_predictor(str(path or shipped(PREDICTOR)))

    def on_crop(self, grey: UInt8[np.ndarray, "size size"]) -> Float[np.ndarray, "68 2"]:
        """Column and row of the landmarks in a crop of SIZE pixels around a detector's box."""
        shape = self._trees(np.ascontiguousarray(grey), self._rectangle)
        return np.array([[point.x, point.y] for point in shape.parts()], dtype=np.float64)

    def __call__(
        self, image: Float[np.ndarray, "height width 3"], box: Box | None = None
    ) -> Float[np.ndarray, "68 2"]:
        """Column and row of the 68 landmarks of the largest face of a photograph.

        The trees start from the box, and dlib rounds to whole pixels of the crop. So the result is
        the median over several boxes near the detector's, also in the mirror image: our addition,
        which costs some milliseconds.

        Args:
            image: RGB in [0, 1].
            box: of the face; the detector's if None.

        Raises:
            NoFaceError: no face was found.
        """
        x, y, side, _ = (box or detect_faces(image)[0]).crop_box()
        column, row = x + side / 2, y + side / 2
        grey, found = to_grey(image), []
        for scale, right, down in product(_SCALES, _SHIFTS, _SHIFTS):
            width = scale * side
            left, top = column + right * side - width / 2, row + down * side - width / 2
            cut, square = crop(grey, (left, top, width, width), SIZE)
            cut = to_bytes(cut)
            mirrored = self.on_crop(cut[:, ::-1])[list(MIRROR)]
            mirrored[:, 0] = SIZE - 1 - mirrored[:, 0]
            found += [square.to_image(points) for points in (self.on_crop(cut), mirrored)]
        return np.median(found, axis=0)


@cache
def default_predictor() -> ShapePredictor:
    """The trees that ship.

    Raises:
        ImportError: without dlib.
    """
    return ShapePredictor()
