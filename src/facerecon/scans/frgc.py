"""FRGC v2: range images (.abs, .abs.gz), their photographs, and which belongs to which.

An .abs file is ASCII, possibly gzipped: the lines "R rows", "C columns", "pixels (flag X Y Z):",
then R C flags (1: measured), then all X, all Y and all Z in mm, row by row from the top, with
-999999.000000 where nothing was measured.
"""

import gzip
import re
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facerecon.files import write_file
from facerecon.scans.scan import Scan, ScanError, ScanFiles, Skipped, assemble

SENTINEL = -999999.0
TEXTURES = (".ppm", ".jpg", ".jpeg", ".png")

_NAME = re.compile(r"(\d+)d(\d+)$")  # subject, number of the recording
_HEADER = re.compile(rb"\s*(\d+)\s+rows\s+(\d+)\s+columns\s+pixels[^\n]*:[^\n]*\n")
_GZIP = b"\x1f\x8b"
_POINTS = ("LeftEyeCenter", "RightEyeCenter", "Nose", "Mouth")


def read_abs(path: str | Path) -> Float[np.ndarray, "rows columns 3"]:
    """Points of a range image in the file's own axes, mm; NaN where nothing was measured.

    A pixel counts as measured if its flag is set and none of its coordinates is the sentinel.

    Raises:
        ScanError: missing, damaged, truncated, or with more numbers than pixels.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(_GZIP) else data
    except EOFError:
        raise ScanError("truncated", f"{path}: the gzip stream ends early; copy it again") from None
    except FileNotFoundError:
        raise ScanError("missing", f"{path}: no such file") from None
    except (OSError, zlib.error) as error:
        raise ScanError("damaged", f"{path}: cannot be read ({error}); copy it again") from None
    header = _HEADER.match(data)
    if header is None:
        kind = "truncated" if len(data) < 64 else "damaged"
        raise ScanError(kind, f"{path}: does not start as an .abs file does; copy it again")
    rows, columns = int(header[1]), int(header[2])
    try:
        numbers = np.fromstring(data[header.end() :].decode("ascii"), sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise ScanError("damaged", f"{path}: holds something else than numbers ({error})") from None
    if numbers.size != 4 * rows * columns:
        kind = "truncated" if numbers.size < 4 * rows * columns else "mis-sized"
        raise ScanError(
            kind,
            f"{path}: {numbers.size} numbers for {rows} x {columns} pixels, {4 * rows * columns}"
            " expected; copy it again",
        )
    flag, *axes = numbers.reshape(4, rows, columns)
    points = np.stack(axes, axis=-1)
    measured = (flag == 1) & (points > SENTINEL).all(axis=-1) & np.isfinite(points).all(axis=-1)
    return np.where(measured[..., None], points, np.nan)


def write_abs(path: str | Path, points: Float[np.ndarray, "rows columns 3"]) -> Path:
    """Write a range image, gzipped if the name ends in .gz; NaN becomes flag 0 and the sentinel.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    rows, columns = points.shape[:2]
    measured = np.isfinite(points).all(axis=-1).ravel()
    lines = [f"{rows} rows", f"{columns} columns", "pixels (flag X Y Z):"]
    lines.append(" ".join(np.where(measured, "1", "0").tolist()))
    for axis in range(3):
        text = np.full(measured.size, f"{SENTINEL:.6f}", dtype=object)
        text[measured] = [f"{value:.6f}" for value in points[..., axis].ravel()[measured].tolist()]
        lines.append(" ".join(text.tolist()))
    data = ("\n".join(lines) + "\n").encode("ascii")
    if path.suffix == ".gz":
        data = gzip.compress(data, compresslevel=3, mtime=0)
    return write_file(path, data)


def find_frgc(root: str | Path, skipped: Skipped | None = None) -> list[ScanFiles]:
    """All range images below a folder with their photographs, sorted by name.

    Any layout of folders will do: the distribution's (`nd1/Fall2003range/...` beside `BEE_DIST`),
    everything in one folder, or photographs apart. A photograph belongs to a range image if an XML
    list below `root` says so; else if it has the same name; else if it is the subject's next
    recording, as in 02463d562.abs.gz and 02463d563.ppm. The name goes before the number because
    where names are equal, the next number is the next scan's.

    Args:
        skipped: counts the range images without photograph; each also gives a warning.

    Raises:
        ScanError: there is no range image, or an XML list cannot be read.
    """
    root, skipped = Path(root), Skipped() if skipped is None else skipped
    if not root.is_dir():
        raise ScanError("missing", f"{root}: no such folder")
    everything = sorted(path for path in root.rglob("*") if path.is_file())
    ranges: dict[tuple[Path, str], Path] = {}
    textures: dict[str, list[Path]] = {}
    for path in everything:
        if path.name.lower().endswith((".abs", ".abs.gz")):
            ranges.setdefault((path.parent, _stem(path)), path)
        elif path.suffix.lower() in TEXTURES:
            textures.setdefault(_stem(path), []).append(path)
    if not ranges:
        raise ScanError("missing", f"{root}: no .abs or .abs.gz file below this folder")
    pairs, points = _read_lists([path for path in everything if path.suffix.lower() == ".xml"])
    found = []
    stems = [stem for _, stem in ranges]
    for (folder, stem), path in ranges.items():
        name = stem if stems.count(stem) == 1 else f"{folder.name}_{stem}"
        texture, paired_by = None, ""
        for candidate, how in _candidates(stem, pairs):
            if candidate in textures:
                texture = min(textures[candidate], key=lambda image: image.parent != folder)
                paired_by = how
                break
        if texture is None:
            error = ScanError("unpaired", f"{path}: no photograph of this scan below {root}")
            skipped.skip(path, error)
            continue
        match = _NAME.search(stem)
        subject = match[1] if match else stem
        found.append(ScanFiles(name, subject, path, texture, paired_by, points.get(_stem(texture))))
    return sorted(found, key=lambda item: item.name)


def read_frgc(files: ScanFiles) -> Scan:
    """Read a scan that `find_frgc` found.

    Raises:
        ScanError: see `read_abs` and `scan.assemble`.
    """
    landmarks = files.landmarks if isinstance(files.landmarks, Mapping) else {}
    return assemble(files, read_abs(files.range), landmarks)


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return name[: name.rfind(".")]


def _candidates(stem: str, pairs: Mapping[str, str]) -> list[tuple[str, str]]:
    named = [(pairs[stem], "list")] if stem in pairs else []
    match = _NAME.search(stem)
    follows = [(f"{stem[: match.start(2)]}{int(match[2]) + 1}", "next number")] if match else []
    return [*named, (stem, "same name"), *follows]


def _read_lists(
    paths: list[Path],
) -> tuple[dict[str, str], dict[str, dict[str, tuple[float, float]]]]:
    """Photograph by range image, and annotated points by photograph, from the XML below a root.

    Signature sets hold `presentation` elements with a `file-name` each; those of a range image and
    of its photograph have the same parent. The metadata holds a `Recording` for every file.
    """
    pairs: dict[str, str] = {}
    points: dict[str, dict[str, tuple[float, float]]] = {}
    for path in paths:
        try:
            tree = ElementTree.parse(path)
        except (ElementTree.ParseError, OSError) as error:
            raise ScanError("damaged", f"{path}: not readable as XML ({error})") from None
        for element in tree.iter():
            if element.tag == "Recording":
                annotated = {
                    name: (float(point.attrib["x"]), float(point.attrib["y"]))
                    for name in _POINTS
                    if (point := element.find(f".//{name}")) is not None
                }
                match = _NAME.search(element.get("recording_id", ""))
                if annotated and match:
                    points[match[0]] = annotated
            names = [Path(p.get("file-name", "")) for p in element.findall("presentation")]
            shapes = [p for p in names if p.name.lower().endswith((".abs", ".abs.gz"))]
            images = [p for p in names if p.suffix.lower() in TEXTURES]
            if len(shapes) == len(images):
                pairs |= {_stem(a): _stem(b) for a, b in zip(shapes, images, strict=True)}
    return pairs, points
