"""facerecon-bench: subjects with known geometry, written in FRGC's own format.

Made from a seed by a generator that is not the training world: other shapes (`shapes`), other
skin (`skins`), a perspective camera, other light and a range sensor with noise and holes
(`sensor`). Read it back with `scans.frgc.find_frgc` and `scans.frgc.read_frgc`.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from PIL import Image

from facerecon import __version__
from facerecon.bench.sensor import Shot, face_mask, shoot
from facerecon.bench.shapes import Subjects
from facerecon.bench.skins import paint
from facerecon.evaluation.head_models import load_heads
from facerecon.reconstruction import write_file
from facerecon.scans.frgc import write_abs
from facerecon.weights import shipped

CARD = "bench.json"
SCANS, TRUTH = Path("nd1") / "bench", Path("truth")
METADATA = Path("BEE_DIST") / "FRGC2.0" / "metadata" / "FRGC_2.0_Metadata.xml"
FIRST_SUBJECT, MAX_SUBJECTS = 90001, 9000
JPEG_SHARE = 0.3
JPEG_QUALITY = 93


def subject(subjects: Subjects, seed: int, index: int) -> tuple[Shot, np.random.Generator]:
    """One subject's photograph and scan; depends on nothing but the population and these numbers.

    Returns:
        The shot, and the generator for what is left to draw.
    """
    rng = np.random.default_rng([seed, index])
    head = subjects.draw(rng)
    skins = paint(head.chart[head.landmarks], rng)
    return shoot(head, skins, rng), rng


def write_bench(
    folder: str | Path, count: int = 100, seed: int = 0, heads: str | Path | None = None
) -> Iterator[str]:
    """Write the benchmark; yields the name of each scan when it is there.

    Beside FRGC's files, `truth/NAME.npz` holds what a real dataset lacks: `depth_mm` (float32 mm,
    larger is nearer, NaN in the background) before noise and holes, `face` (where there is skin or
    an eye), the 68 `landmarks` (column, row), and the camera's `focal` and `centre` in pixels.

    Args:
        folder: new, empty, or an earlier benchmark, whose files are replaced.
        heads: another population, as for `evaluation.head_models.load_heads`; the default
            model if None.

    Raises:
        ValueError: an impossible number of subjects, or a folder with something else in it.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    if not 1 <= count <= MAX_SUBJECTS:
        raise ValueError(f"a benchmark has 1 to {MAX_SUBJECTS} subjects, got {count}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _own(folder))):
        raise ValueError(f"{folder}: is not empty and no benchmark; name a new folder")
    subjects = Subjects(load_heads(shipped("morphable_model.npz") if heads is None else heads))
    card = {
        "format": "facerecon-bench/1",
        "version": __version__,
        "subjects": count,
        "seed": seed,
        "population": "default" if heads is None else Path(heads).name,
    }
    write_file(folder / CARD, (json.dumps({**card, "complete": False}) + "\n").encode())
    for part in (SCANS, TRUTH):  # of an earlier, perhaps larger benchmark
        for path in (folder / part).glob("9????d[12].*"):
            path.unlink()
    recordings = ElementTree.Element("Recordings")
    for index in range(count):
        shot, rng = subject(subjects, seed, index)
        number = FIRST_SUBJECT + index
        name, texture = f"{number}d1", f"{number}d2"
        write_abs(folder / SCANS / f"{name}.abs.gz", shot.scan)
        _write_texture(folder / SCANS / texture, shot.image, rng.random() < JPEG_SHARE)
        _write_truth(folder / TRUTH / f"{name}.npz", shot)
        _add_recordings(recordings, number, shot)
        yield name
    ElementTree.indent(recordings)
    write_file(folder / METADATA, ElementTree.tostring(recordings, xml_declaration=True))
    write_file(folder / CARD, (json.dumps({**card, "complete": True}) + "\n").encode())


def _own(folder: Path) -> bool:
    return (folder / CARD).is_file()


def _write_texture(path: Path, image: Float[np.ndarray, "height width 3"], jpeg: bool) -> None:
    data = io.BytesIO()
    picture = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    if jpeg:
        picture.save(data, format="JPEG", quality=JPEG_QUALITY)
    else:
        picture.save(data, format="PPM")
    write_file(path.with_suffix(".jpg" if jpeg else ".ppm"), data.getvalue())


def _write_truth(path: Path, shot: Shot) -> None:
    data = io.BytesIO()
    np.savez_compressed(
        data,
        depth_mm=shot.points[..., 2].astype(np.float32),
        face=face_mask(shot),
        landmarks=shot.landmarks.astype(np.float32),
        focal=np.array(shot.camera.focal),
        centre=np.array(shot.camera.centre),
    )
    write_file(path, data.getvalue())


def _add_recordings(recordings: ElementTree.Element, number: int, shot: Shot) -> None:
    """FRGC's annotations; left and right are the person's, so left is at the larger column."""
    points = {
        "LeftEyeCenter": shot.landmarks[42:48].mean(axis=0),
        "RightEyeCenter": shot.landmarks[36:42].mean(axis=0),
        "Nose": shot.landmarks[30],
        "Mouth": shot.landmarks[48:60].mean(axis=0),
    }
    for recording in (1, 2):
        element = ElementTree.SubElement(
            recordings, "Recording", recording_id=f"nd1R{number}d{recording}"
        )
        for name, (column, row) in points.items():
            ElementTree.SubElement(element, name, x=str(round(column)), y=str(round(row)))
