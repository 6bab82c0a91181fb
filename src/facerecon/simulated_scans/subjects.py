"""facerecon-bench: subjects with known geometry, written in FRGC's own format.

Made from a seed by a generator that is not the training world: other shapes (`shapes`), other
skin (`skins`), a perspective camera, other light and a range sensor with noise and holes
(`sensor`). Read it back with `scans.frgc.find_frgc` and `scans.frgc.read_frgc`.
"""

import io
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from facerecon import __version__
from facerecon.evaluation.heads.models import heads_file, load_heads
from facerecon.files import write_file
from facerecon.imaging import to_bytes
from facerecon.pools import fresh_pool
from facerecon.scans.frgc import write_abs
from facerecon.simulated_scans.sensor import Shot, face_mask, shoot
from facerecon.simulated_scans.shapes import Subjects
from facerecon.simulated_scans.skins import paint
from facerecon.weights import shipped

CARD = "bench.json"
SCANS, TRUTH = Path("nd1") / "bench", Path("truth")
METADATA = Path("BEE_DIST") / "FRGC2.0" / "metadata" / "FRGC_2.0_Metadata.xml"
FIRST_SUBJECT, MAX_SUBJECTS = 90001, 9000
JPEG_SHARE = 0.3
JPEG_QUALITY = 93


def subject(
    subjects: Subjects, seed: int, index: int, yaw: float | None = None
) -> tuple[Shot, np.random.Generator]:
    """One subject's photograph and scan; depends on nothing but the population and these numbers.

    Args:
        yaw: degrees; by default sampled, nearly frontal.

    Returns:
        The shot, and the generator for what is sampled next.
    """
    rng = np.random.default_rng([seed, index])
    head = subjects.sample(rng)
    skins = paint(head.chart[head.landmarks], rng)
    return shoot(head, skins, rng, yaw), rng


def write_bench(
    folder: str | Path,
    count: int = 100,
    seed: int = 0,
    heads: str | Path | None = None,
    resume: bool = False,
    jobs: int = 1,
) -> Iterator[str]:
    """Write the benchmark; yields the name of each scan when it is there.

    Beside FRGC's files, `truth/NAME.npz` holds what a real dataset lacks: `depth_mm` (float32 mm,
    larger is nearer, NaN in the background) before noise and holes, `face` (where there is skin or
    an eye), the 68 `landmarks` (column, row), and the camera's `focal` and `centre` in pixels.

    Args:
        folder: new, empty, or an earlier benchmark, whose files are replaced.
        heads: another population, as for `evaluation.heads.models.load_heads`; the default
            model, whose samples are bent, if None.
        resume: keep the scans of an earlier, unfinished or smaller one of the same seed and
            population, and add those that are missing; scans beyond `count` stay.
        jobs: processes.

    Raises:
        ValueError: an impossible number of subjects, or a folder with something else in it.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    if not 1 <= count <= MAX_SUBJECTS:
        raise ValueError(f"a benchmark has 1 to {MAX_SUBJECTS} subjects, got {count}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _own(folder))):
        raise ValueError(f"{folder}: is not empty and no benchmark; name a new folder")
    card = {
        "format": "facerecon-bench/1",
        "version": __version__,
        "subjects": count,
        "seed": seed,
        "population": "default" if heads is None else heads_file(heads).name,
    }
    if not (resume and _of_same_kind(folder, card)):
        for part in (TRUTH, SCANS):  # of an earlier, perhaps larger benchmark
            for path in (folder / part).glob("9????d[12].*"):
                path.unlink()
    write_file(folder / CARD, (json.dumps({**card, "complete": False}) + "\n").encode())
    missing = [index for index in range(count) if not _is_there(folder, index)]
    yield from (_name(index) for index in range(count) if index not in missing)
    tasks = [(folder, heads, seed, index) for index in missing]
    if jobs == 1 or len(tasks) < 2:
        yield from map(_write_subject, tasks)
    else:
        with fresh_pool(min(jobs, len(tasks)), torch.set_num_threads, 1) as pool:
            yield from pool.map(_write_subject, tasks)
    truths = sorted((folder / TRUTH).glob("9????d1.npz"))
    recordings = ElementTree.Element("Recordings")
    for path in truths:
        with np.load(path, allow_pickle=False) as truth:
            _add_recordings(recordings, path.stem.removesuffix("d1"), truth["landmarks"])
    ElementTree.indent(recordings)
    write_file(folder / METADATA, ElementTree.tostring(recordings, xml_declaration=True))
    card["subjects"] = len(truths)
    write_file(folder / CARD, (json.dumps({**card, "complete": True}) + "\n").encode())


def _name(index: int) -> str:
    return f"{FIRST_SUBJECT + index}d1"


def _write_subject(task: tuple[Path, str | Path | None, int, int]) -> str:
    """Make the files of one subject; the truth last, so that it stands for all of them."""
    folder, heads, seed, index = task
    shot, rng = subject(population(heads), seed, index)
    name, texture = _name(index), f"{FIRST_SUBJECT + index}d2"
    write_abs(folder / SCANS / f"{name}.abs.gz", shot.scan)
    _write_texture(folder / SCANS / texture, shot.image, rng.random() < JPEG_SHARE)
    _write_truth(folder / TRUTH / f"{name}.npz", shot)
    return name


@lru_cache(maxsize=2)
def population(heads: str | Path | None = None) -> Subjects:
    """The benchmark's population, from a file of heads or the default model; kept in memory."""
    return Subjects(load_heads(shipped("morphable_model.npz") if heads is None else heads))


def _is_there(folder: Path, index: int) -> bool:
    return (folder / TRUTH / f"{_name(index)}.npz").is_file()


def _of_same_kind(folder: Path, card: dict) -> bool:
    """Whether a folder's benchmark differs at most in its number of subjects."""
    try:
        found = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return False
    return all(found.get(name) == value for name, value in card.items() if name != "subjects")


def _own(folder: Path) -> bool:
    return (folder / CARD).is_file()


def _write_texture(path: Path, image: Float[np.ndarray, "height width 3"], jpeg: bool) -> None:
    data = io.BytesIO()
    picture = Image.fromarray(to_bytes(image))
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
        centre=np.array(shot.camera.center),
    )
    write_file(path, data.getvalue())


def _add_recordings(
    recordings: ElementTree.Element, number: str, landmarks: Float[np.ndarray, "68 2"]
) -> None:
    """FRGC's annotations; left and right are the person's, so left is at the larger column."""
    points = {
        "LeftEyeCenter": landmarks[42:48].mean(axis=0),
        "RightEyeCenter": landmarks[36:42].mean(axis=0),
        "Nose": landmarks[30],
        "Mouth": landmarks[48:60].mean(axis=0),
    }
    for recording in (1, 2):
        element = ElementTree.SubElement(
            recordings, "Recording", recording_id=f"nd1R{number}d{recording}"
        )
        for name, (column, row) in points.items():
            ElementTree.SubElement(element, name, x=str(round(column)), y=str(round(row)))
