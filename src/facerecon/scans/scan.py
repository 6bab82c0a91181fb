"""A scan: a photograph and the X, Y, Z that a range sensor measured at each of its pixels.

Readers of one format each (`frgc`, `bosphorus`) find the files and read them; what is common to
all, orientation and checks, is here. Frames: docs/conventions.md.
"""

import csv
import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from facerecon.files import write_file
from facerecon.imaging import ImageError, load_image
from facerecon.messages import OneLine

LIST_COLUMNS = ("name", "subject", "range", "texture", "paired_by")
MIN_PIXELS = 1000
"""Measured pixels without which a file holds no face."""

_SLOPE = 1e-3  # mm per pixel: less is no direction
_ROW_PIXELS = 20  # of a row whose curvature counts


class ScanError(OneLine, ValueError):
    """A scan that cannot be used. `kind` is what the scans that were left out are counted by.

    kind: "truncated", "mis-sized", "unpaired", "damaged", "missing" or "not oriented".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple:  # errors travel between processes
        return ScanError, (self.kind, str(self))


class SkippedScanWarning(OneLine, UserWarning):
    """A scan was left out; the message names the file, the kind of fault and the cause."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A photograph and the geometry at its pixels.

    Attributes:
        image: RGB in [0, 1].
        points: mm, x right, y up, z toward the viewer; NaN where nothing was measured.
        landmarks: (column, row) by the name that the dataset gives them; may be empty.
        flipped: the axes of the file that had to change sign, such as "z".
    """

    name: str
    subject: str
    image: Float[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "height width 3"]
    landmarks: dict[str, tuple[float, float]] = field(default_factory=dict)
    flipped: str = ""

    @property
    def depth_mm(self) -> Float[np.ndarray, "height width"]:
        """Larger is nearer, NaN where nothing was measured."""
        return self.points[..., 2]

    @property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """Where there is geometry."""
        return np.isfinite(self.points[..., 2])


@dataclass(frozen=True)
class ScanFiles:
    """Where the parts of a scan lie, and how they were found to belong together."""

    name: str
    subject: str
    range: Path
    texture: Path
    paired_by: str
    landmarks: Mapping[str, tuple[float, float]] | Path | None = None


class Skipped(Counter):
    """How many scans were left out, by kind of fault; `reasons` has the message by file."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}

    def skip(self, path: Path, error: ScanError) -> None:
        """Count a scan as left out and warn."""
        self[error.kind] += 1
        self.reasons[str(path)] = f"{error.kind}: {error}"
        warnings.warn(f"left out ({error.kind}): {error}", SkippedScanWarning, stacklevel=3)


def assemble(
    files: ScanFiles,
    points: Float[np.ndarray, "height width 3"],
    landmarks: Mapping[str, tuple[float, float]],
) -> Scan:
    """Read the photograph of a scan, check that it fits and turn the axes as we use them.

    Args:
        points: as in the file, NaN where nothing was measured.

    Raises:
        ScanError: no face, another size than the photograph's, or axes whose direction is unknown.
    """
    try:
        image = load_image(files.texture)
    except ImageError as error:
        raise ScanError("damaged", str(error)) from None
    if image.shape != points.shape:
        raise ScanError(
            "mis-sized",
            f"{files.range}: has {points.shape[1]} x {points.shape[0]} pixels, but its photograph"
            f" {files.texture.name} has {image.shape[1]} x {image.shape[0]}; they must be equal",
        )
    points, flipped = orient(points, str(files.range))
    return Scan(files.name, files.subject, image, points, dict(landmarks), flipped)


def orient(
    points: Float[np.ndarray, "height width 3"], name: str = "scan"
) -> tuple[Float[np.ndarray, "height width 3"], str]:
    """Turn x to the right, y up and z toward the viewer, whatever the file's signs were.

    x and y follow their pixels. A head bulges toward the viewer from side to side: the sign of z
    is that for which most rows of the largest connected part, each fitted by a parabola, fall off
    sideways. (One quadratic surface through all of it is turned over by a narrow neck between a
    face and a chest.)

    Returns:
        The points, float32, and the axes that changed sign ("", "z", "yz", ...).

    Raises:
        ScanError: fewer than MIN_PIXELS points, or an unknown direction.
    """
    mask = np.isfinite(points).all(axis=-1)
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    if not sizes.size or sizes.max() < MIN_PIXELS:
        raise ScanError(
            "damaged", f"{name}: {int(mask.sum())} measured pixels hold no face; leave it out"
        )
    row, column = np.nonzero(parts == 1 + sizes.argmax())
    x, y, z = points[row, column].astype(np.float64).T
    u, v = column - column.mean(), row - row.mean()
    across, down = _slope(u, v, x)[0], _slope(u, v, y)[1]
    if abs(across) < _SLOPE or abs(down) < _SLOPE:
        raise ScanError("not oriented", f"{name}: X, Y do not follow columns and rows; rotate it")
    bend = _bend(row, u, z)
    if abs(bend) < _SLOPE:
        raise ScanError("not oriented", f"{name}: as flat as a wall, so the sign of z is unknown")
    signs = np.sign([across, -down, -bend])
    flipped = "".join(axis for axis, sign in zip("xyz", signs, strict=True) if sign < 0)
    return np.where(mask[..., None], points * signs, np.nan).astype(np.float32), flipped


def _bend(
    row: Int[np.ndarray, " n"], u: Float[np.ndarray, " n"], z: Float[np.ndarray, " n"]
) -> float:
    """Quadratic part of z along a row, over the row's spread in pixels; median over the rows."""
    ends = np.flatnonzero(np.diff(row)) + 1
    bends = [
        np.polyfit((across - across.mean()) / across.std(), depth, 2)[0] / across.std()
        for across, depth in zip(np.split(u, ends), np.split(z, ends), strict=True)
        if len(across) >= _ROW_PIXELS
    ]
    return float(np.median(bends)) if bends else 0.0


def _slope(
    u: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " 2"]:
    basis = np.stack([u, v, np.ones_like(u)], axis=1)
    return np.linalg.lstsq(basis, value, rcond=None)[0][:2]


def mm_per_pixel(
    points: Float[np.ndarray, "height width 3"], mask: Bool[np.ndarray, "height width"]
) -> float:
    """Width of a pixel in mm over a part of a scan, from its X and Y: the weak-perspective scale.

    Raises:
        ValueError: fewer than three pixels.
    """
    row, column = np.nonzero(mask)
    if len(row) < 3:
        raise ValueError("the width of a pixel needs at least three measured ones")
    u, v = (c - c.mean() for c in (column.astype(np.float64), row.astype(np.float64)))
    x, y = points[mask][:, :2].astype(np.float64).T
    across, down = _slope(u, v, x), _slope(u, v, y)
    return float(np.sqrt(abs(across[0] * down[1] - across[1] * down[0])))


def write_list(path: str | Path, files: Sequence[ScanFiles], root: Path) -> str:
    """Write which scans were used, as CSV with paths relative to `root`; returns its SHA-256."""
    data = _list_text(files, root).encode()
    write_file(Path(path), data)
    return hashlib.sha256(data).hexdigest()


def list_hash(files: Sequence[ScanFiles], root: Path) -> str:
    """SHA-256 of the list that `write_list` writes."""
    return hashlib.sha256(_list_text(files, root).encode()).hexdigest()


def select(files: Sequence[ScanFiles], path: str | Path) -> list[ScanFiles]:
    """The scans that a list names, in its order.

    Args:
        files: what was found.
        path: a CSV with a column `name`, such as `write_list` makes; other columns are ignored.

    Raises:
        ScanError: the list cannot be read, or names a scan that was not found.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            names = [row["name"] for row in csv.DictReader(stream)]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ScanError(
            "missing", f"{path}: not a list of scans, a CSV with a column `name` ({error})"
        ) from None
    known = {item.name: item for item in files}
    missing = [name for name in names if name not in known]
    if missing:
        raise ScanError(
            "missing", f"{path}: {len(missing)} of its scans were not found, first {missing[0]}"
        )
    return [known[name] for name in dict.fromkeys(names)]


def _list_text(files: Sequence[ScanFiles], root: Path) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LIST_COLUMNS)
    for item in files:
        paths = (path.relative_to(root).as_posix() for path in (item.range, item.texture))
        writer.writerow([item.name, item.subject, *paths, item.paired_by])
    return text.getvalue()
