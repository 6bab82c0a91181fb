"""Benchmarks and single photographs of it that are made once and kept, for notebooks.

What is kept lies in folders that name a hash of the generator, so another generator's files are
never taken for this one's.
"""

import hashlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from facerecon.detection.detect import Box
from facerecon.evaluation.heads import models as head_models
from facerecon.files import png, write_file
from facerecon.imaging import load_image
from facerecon.scans.scan import Scan, mm_per_pixel
from facerecon.simulated_scans.sensor import face_mask
from facerecon.simulated_scans.subjects import population, subject, write_bench
from facerecon.weights import shipped

DETECTOR_MM, BELOW_EYES_MM = 178.0, 17.0
"""How a frontal detector boxes a mean head (`detect.detect_faces`)."""


class Photograph(NamedTuple):
    """A subject of the benchmark and the truth, before the sensor's noise and holes.

    scan: the photograph, and the true points of skin and eyes. landmarks: column and row of the
    68 points, hidden ones too.
    """

    scan: Scan
    landmarks: Float[np.ndarray, "68 2"]

    @property
    def box(self) -> Box:
        """As a frontal detector would box this face: 178 mm wide, 17 mm below the eyes."""
        pixel = mm_per_pixel(self.scan.points, self.scan.mask)
        side = DETECTOR_MM / pixel
        column, row = (self.landmarks[36:48].mean(axis=0) + 0.5).tolist()
        return Box(column - side / 2, row + BELOW_EYES_MM / pixel - side / 2, side, side)


def cached_bench(
    folder: Path, count: int, seed: int = 0, heads: str | Path | None = None, jobs: int = 1
) -> Iterator[str]:
    """Complete the benchmark in `bench_folder(...)`; yields the scans' names, as `write_bench`."""
    return write_bench(bench_folder(folder, seed, heads), count, seed, heads, True, jobs)


def bench_folder(folder: Path, seed: int = 0, heads: str | Path | None = None) -> Path:
    """Where in a cache folder the benchmark of a seed and a population lies."""
    name = "default" if heads is None else Path(heads).stem
    return folder / f"bench_{name}_seed{seed}_{generator_hash()}"


def cached_photograph(
    folder: Path, index: int, seed: int = 0, yaw: float | None = None
) -> Photograph:
    """One subject of the default population, made if it is not there.

    Args:
        folder: the cache.
        yaw: degrees by which the head is turned; by default nearly frontal, as in the benchmark.
    """
    place = folder / f"photographs_seed{seed}_{generator_hash()}"
    path = place / f"{index}{'' if yaw is None else f'_yaw{yaw:g}'}.npz"
    if not path.is_file():
        shot, _ = subject(population(), seed, index, yaw)
        data = io.BytesIO()
        np.savez_compressed(
            data,
            image=np.frombuffer(png(shot.image), np.uint8),
            points=np.where(face_mask(shot)[..., None], shot.points, np.nan).astype(np.float32),
            landmarks=shot.landmarks.astype(np.float32),
        )
        write_file(path, data.getvalue())
    with np.load(path, allow_pickle=False) as kept:
        image = load_image(Image.open(io.BytesIO(kept["image"].tobytes())))
        landmarks = kept["landmarks"]
        nose = {"Nose": (float(landmarks[30, 0]), float(landmarks[30, 1]))}
        return Photograph(Scan(path.stem, str(index), image, kept["points"], nose), landmarks)


@cache
def generator_hash() -> str:
    """Of all that decides what the benchmark looks like: its code and the default population."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(head_models.__file__)]
    digest = hashlib.sha256()
    for path in [*sources, shipped("morphable_model.npz")]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
