"""How far a scan's photograph lies from its geometry, and how to move it back."""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool

from facerecon.depth import normals_from_depth
from facerecon.imaging import to_grey
from facerecon.lighting import sh_basis
from facerecon.scans.scan import Scan, mm_per_pixel

MAX_OFFSET = 12
"""Pixels in each direction within which the photograph is looked for."""

_SMOOTHING = 1.5  # pixels; without it, noise of the sensor would dominate the normals
_RIM = 3  # pixels along the border of the geometry, whose smoothed normals are wrong
_GRAZING = 0.4  # z of the normals below which the same holds


class Offset(NamedTuple):
    """Where the photograph lies as seen from the geometry.

    columns, rows: pixels to the right and downward. residual: root mean square intensity that the
    geometry does not explain at this offset. residual_unmoved: the same at (0, 0).
    """

    columns: float
    rows: float
    residual: float
    residual_unmoved: float

    @property
    def pixels(self) -> float:
        """Length of the offset."""
        return float(np.hypot(self.columns, self.rows))

    @property
    def gain(self) -> float:
        """Share of the unexplained intensity that moving the photograph removes."""
        return 1 - self.residual / self.residual_unmoved if self.residual_unmoved > 0 else 0.0


def measure_offset(
    scan: Scan, mask: Bool[np.ndarray, "height width"] | None = None, farthest: int = MAX_OFFSET
) -> Offset:
    """The shift at which the geometry, lit as it likes, explains the photograph best.

    At each shift the intensities under the measured pixels are fitted by second-order spherical
    harmonics of their normals; the best one is refined by a parabola. Where light comes from above,
    cast shadows pull the result down by up to a pixel: offsets below `ProtocolConfig.least_offset`
    are within the error.

    Args:
        mask: pixels to explain, all measured ones if None; those near the photograph's border, at
            the geometry's rim and seen at a grazing angle are left out.

    Raises:
        ValueError: fewer than 100 pixels.
    """
    mask = scan.mask if mask is None else mask & scan.mask
    mask = cv2.erode(mask.astype(np.uint8), np.ones((2 * _RIM + 1,) * 2)) > 0
    for border in (np.s_[:farthest], np.s_[-farthest:]):
        mask[border] = mask[:, border] = False
    if mask.sum() < 100:
        raise ValueError("too few measured pixels to register the photograph to")
    basis = _normal_basis(scan, mask)
    facing = basis[:, 3] > _GRAZING
    basis, mask[mask] = basis[facing], facing
    window = cv2.boundingRect(mask.astype(np.uint8))
    column, row, width, height = window
    grey = to_grey(scan.image).astype(np.float32)
    grey = grey - grey[mask].mean()
    picture = grey[
        row - farthest : row + height + farthest, column - farthest : column + width + farthest
    ]
    inside = mask[row : row + height, column : column + width]
    unexplained = _correlate(picture**2, inside.astype(np.float32))
    orthonormal = np.linalg.qr(basis)[0].astype(np.float32)
    for values in orthonormal.T:
        template = np.zeros(inside.shape, dtype=np.float32)
        template[inside] = values
        unexplained -= _correlate(picture, template) ** 2
    residual = np.sqrt(np.maximum(unexplained, 0) / inside.sum())
    best = divmod(int(residual.argmin()), residual.shape[1])
    rows, columns = (
        _vertex(residual.take(best[1 - axis], axis=1 - axis), best[axis]) - farthest
        for axis in (0, 1)
    )
    return Offset(columns, rows, float(residual[best]), float(residual[farthest, farthest]))


def moved(scan: Scan, offset: Offset) -> Scan:
    """The scan with its photograph (and its landmarks) moved onto the geometry; bilinear."""
    height, width = scan.mask.shape
    matrix = np.array([[1, 0, offset.columns], [0, 1, offset.rows]], dtype=np.float64)
    image = cv2.warpAffine(
        scan.image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    landmarks = {
        name: (x - offset.columns, y - offset.rows) for name, (x, y) in scan.landmarks.items()
    }
    return dataclasses.replace(scan, image=image, landmarks=landmarks)


def _normal_basis(scan: Scan, mask: np.ndarray) -> np.ndarray:
    known = scan.mask.astype(np.float32)
    depth = np.where(scan.mask, scan.depth_mm, 0).astype(np.float32)
    weight = cv2.GaussianBlur(known, (0, 0), _SMOOTHING)
    smooth = cv2.GaussianBlur(depth, (0, 0), _SMOOTHING) / np.maximum(weight, 1e-6)
    normals = normals_from_depth(
        torch.from_numpy(smooth)[None, None],
        torch.tensor([mm_per_pixel(scan.points, mask)]),
        torch.from_numpy(scan.mask)[None, None],
    )
    return sh_basis(normals, order=2)[0].permute(1, 2, 0).numpy()[mask].astype(np.float64)


def _correlate(picture: np.ndarray, template: np.ndarray) -> np.ndarray:
    return cv2.matchTemplate(picture, template, cv2.TM_CCORR).astype(np.float64)


def _vertex(values: np.ndarray, index: int) -> float:
    """Where the parabola through a minimum and its neighbors has its lowest point."""
    if not 0 < index < len(values) - 1:
        return float(index)
    before, at, after = values[index - 1 : index + 2]
    bend = before - 2 * at + after
    return float(index + 0.5 * (before - after) / bend) if bend > 0 else float(index)
