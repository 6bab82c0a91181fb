"""Bosphorus: range images (.bnt), their photographs (.png) and landmarks (.lm2).

A .bnt file is little-endian binary: two uint16 (rows, columns), float64 (the z of the background),
uint16 (length of a name), the name of the photograph, uint32 (5 rows columns), then five float64
planes: X, Y, Z in mm and the pixel's place a, b in the photograph, both in [0, 1]. The bottom row
comes first.
"""

import re
import struct
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from facerecon.rasterize import interpolate, rasterize
from facerecon.scans.scan import Scan, ScanError, ScanFiles, Skipped, assemble

TEXTURES = (".png", ".jpg", ".bmp")
MAX_JUMP_MM = 10.0
"""Neighbors of the range grid that differ more in depth are not joined."""

_FIXED = struct.Struct("<HHdH")
_COUNT = struct.Struct("<I")


def read_bnt(path: str | Path) -> Float[np.ndarray, "rows columns 5"]:
    """X, Y, Z (mm, the file's axes), a and b of every pixel, top row first; NaN: background.

    Raises:
        ScanError: missing, truncated, or with another number of values than pixels.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ScanError("missing", f"{path}: cannot be read ({error.strerror})") from None
    try:
        rows, columns, background, length = _FIXED.unpack_from(data)
        (count,) = _COUNT.unpack_from(data, _FIXED.size + length)
    except struct.error:
        raise ScanError("truncated", f"{path}: ends within its header; copy it again") from None
    values = data[_FIXED.size + length + _COUNT.size :]
    if count != 5 * rows * columns or len(values) > 8 * count:
        raise ScanError(
            "mis-sized",
            f"{path}: {count} values announced, {len(values) / 8:g} there, for {rows} x {columns}"
            " pixels of 5; copy it again",
        )
    if len(values) < 8 * count:
        raise ScanError(
            "truncated", f"{path}: {len(values)} of {8 * count} bytes of values; copy it again"
        )
    planes = np.frombuffer(values, dtype="<f8").reshape(5, rows, columns)[:, ::-1]
    measured = (planes[2] != background) & np.isfinite(planes).all(axis=0)
    return np.where(measured[..., None], np.moveaxis(planes, 0, -1), np.nan)


def read_lm2(path: str | Path) -> dict[str, tuple[float, float]]:
    """Landmarks by name, (column, row) of the photograph.

    The file says "22 landmarks:", then "Labels:" before the names, one per line, and "2D Image
    coordinates:" before as many lines of x and y; blank lines do not count.

    Raises:
        ScanError: the file cannot be understood.
    """
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="latin-1").splitlines()]
        lines = [line for line in lines if line]
        count = next(int(m[1]) for line in lines if (m := re.match(r"(\d+)\s+landmarks", line)))
        start = lines.index("Labels:") + 1
        names = lines[start : start + count]
        start = lines.index("2D Image coordinates:") + 1
        points = [tuple(map(float, line.split())) for line in lines[start : start + count]]
        return {name: (x, y) for name, (x, y) in zip(names, points, strict=True)}
    except (OSError, ValueError, StopIteration) as error:
        raise ScanError("damaged", f"{path}: not a list of landmarks ({error})") from None


def find_bosphorus(root: str | Path, skipped: Skipped | None = None) -> list[ScanFiles]:
    """All range images below a folder with the photographs of the same name, sorted by name.

    Args:
        skipped: counts the range images without photograph; each also gives a warning.

    Raises:
        ScanError: there is none.
    """
    root, skipped = Path(root), Skipped() if skipped is None else skipped
    paths = sorted(root.rglob("*.bnt"))
    if not paths:
        raise ScanError("missing", f"{root}: no .bnt file below this folder")
    found = []
    for path in paths:
        texture = next((t for s in TEXTURES if (t := path.with_suffix(s)).is_file()), None)
        if texture is None:
            skipped.skip(path, ScanError("unpaired", f"{path}: no photograph of the same name"))
            continue
        landmarks = path.with_suffix(".lm2")
        found.append(
            ScanFiles(
                path.stem,
                path.stem.split("_")[0],
                path,
                texture,
                "same name",
                landmarks if landmarks.is_file() else None,
            )
        )
    return sorted(found, key=lambda item: item.name)


def read_bosphorus(files: ScanFiles) -> Scan:
    """Read a scan; its geometry is brought to the photograph's pixels.

    The range grid is coarser than the photograph and a and b give the places of its points in it.
    Neighboring points are joined to triangles, none across a jump of more than MAX_JUMP_MM, and a
    pixel of the photograph gets the point of the triangle that covers it. Whether b counts from
    the top or from the bottom is read from the rows.

    Raises:
        ScanError: see `read_bnt`, `read_lm2` and `scan.assemble`.
    """
    planes = read_bnt(files.range)
    landmarks = read_lm2(files.landmarks) if isinstance(files.landmarks, Path) else {}
    try:
        with Image.open(files.texture) as image:
            width, height = image.size
    except OSError as error:
        raise ScanError("damaged", f"{files.texture}: not a readable image ({error})") from None
    return assemble(files, _on_photograph(planes, height, width), landmarks)


def _on_photograph(
    planes: Float[np.ndarray, "rows columns 5"], height: int, width: int
) -> Float[np.ndarray, "height width 3"]:
    a, b = planes[..., 3], planes[..., 4]
    measured = np.isfinite(planes).all(axis=-1)
    if (measured.sum(axis=1) > 0).sum() > 1:
        rows = np.flatnonzero(measured.any(axis=1))
        b = b if np.nanmean(b[rows[-1]]) > np.nanmean(b[rows[0]]) else 1 - b
    place = np.stack([a * width - 0.5, b * height - 0.5, planes[..., 2]], axis=-1)
    index = np.arange(measured.size).reshape(measured.shape)
    corners = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    first, low, across, right = (corner.ravel() for corner in corners)
    triangles = np.concatenate(
        [np.stack([first, low, across], axis=1), np.stack([first, across, right], axis=1)]
    )
    z = np.where(measured, planes[..., 2], np.inf).ravel()[triangles]
    with np.errstate(invalid="ignore"):
        triangles = triangles[np.ptp(z, axis=1) <= MAX_JUMP_MM]
    projected = torch.from_numpy(np.nan_to_num(place).reshape(1, -1, 3).astype(np.float32))
    faces = torch.from_numpy(triangles)
    fragments = rasterize(projected, faces, height, width)
    xyz = torch.from_numpy(np.nan_to_num(planes[..., :3]).reshape(1, -1, 3).astype(np.float32))
    points = interpolate(xyz, fragments, faces).where(fragments.mask, torch.nan)
    return points[0].permute(1, 2, 0).numpy()
