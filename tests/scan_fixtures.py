"""A synthetic scan of known geometry, and methods with planted errors for the evaluation."""

import struct

import numpy as np

from facerecon.methods.estimate import Estimate
from facerecon.scans.frgc import write_abs
from facerecon.scans.scan import Scan

ROWS, COLUMNS = 120, 160
FOCAL, DISTANCE = 900.0, 1000.0
DEPTH_KEY = (7, 5)
"""The photograph's pixel whose red channel says which scan it is."""


def bump(height: float = 45.0) -> np.ndarray:
    """A head-like bulge seen in perspective: X right, Y up, Z negative away; NaN around it."""
    row, column = np.mgrid[:ROWS, :COLUMNS].astype(float)
    u, v = column - (COLUMNS - 1) / 2, (ROWS - 1) / 2 - row
    inside = 1 - (u / 55) ** 2 - (v / 50) ** 2
    relief = height * np.sqrt(np.maximum(inside, 0))
    relief = relief + 14 * np.exp(-((u / 6) ** 2) - ((v + 4) / 9) ** 2)
    z = relief - DISTANCE
    points = np.stack([u * -z / FOCAL, v * -z / FOCAL, z], axis=-1)
    points[inside <= 0.03] = np.nan
    return points


def photograph(points: np.ndarray) -> np.ndarray:
    """The bulge lit softly from the upper left in front of a grey wall."""
    z = np.nan_to_num(points[..., 2], nan=-DISTANCE)
    down, right = np.gradient(z, DISTANCE / FOCAL)
    normals = np.stack([-right, down, np.ones_like(z)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    shading = 0.45 + 0.4 * normals @ np.array([-0.45, 0.5, 0.74])
    grey = np.where(np.isfinite(points[..., 2]), shading, 0.3)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def scan(name: str = "00001d1", subject: str = "00001") -> Scan:
    points = bump()
    return Scan(name, subject, photograph(points), points.astype(np.float32))


def write_fixture(folder, stem: str, texture: str, suffix: str = ".abs.gz") -> None:
    """One scan in FRGC's format; `texture` with its suffix."""
    from PIL import Image

    points = bump()
    folder.mkdir(parents=True, exist_ok=True)
    write_abs(folder / f"{stem}{suffix}", points)
    pixels = np.rint(photograph(points) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / texture, quality=95)


def write_bnt(path, planes: np.ndarray, texture: str, background: float = -1e9) -> None:
    """A range image of X, Y, Z, a, b, top row first; NaN becomes the background."""
    name = texture.encode()
    values = np.moveaxis(np.nan_to_num(planes, nan=background)[::-1], -1, 0)
    header = struct.pack("<HHdH", *planes.shape[:2], background, len(name)) + name
    path.write_bytes(header + struct.pack("<I", planes.size) + values.astype("<f8").tobytes())


def truth(image: np.ndarray) -> Estimate:
    """The true depth, as if a method had found it."""
    return Estimate(bump()[..., 2].astype(np.float32), DISTANCE / FOCAL)


def shifted(image: np.ndarray) -> np.ndarray:
    return truth(image).depth_mm + 12.5


def one_in_three_off(image: np.ndarray) -> np.ndarray:
    """3 mm too near at every third column."""
    depth = truth(image).depth_mm.copy()
    depth[:, ::3] += 3
    return depth


def blind(image: np.ndarray) -> np.ndarray:
    raise ValueError("no face found")
