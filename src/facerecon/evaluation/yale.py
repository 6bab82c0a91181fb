"""Reader of CroppedYale: the Extended Yale Face Database B, as published.

One folder a person; a photograph's name holds the direction of its lamp:
yaleB01/yaleB01_P00A+035E+40.pgm was lit from 35 degrees of azimuth and 40 of elevation. Free for
research. Citation: Georghiades, Belhumeur and Kriegman, PAMI 2001; Lee, Ho and Kriegman, PAMI 2005.
"""

import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import binary_erosion

from facerecon.evaluation.photometric_stereo import MeasuredFace, photometric_stereo
from facerecon.messages import OneLine, cause_of

MAX_LAMP_DEGREES = 72.0
"""Degrees off the camera's axis; beyond, most of a face lies in its own shadow."""

MAX_BANDING = 0.03
"""Mean distance of a row's level from its neighbors' mean, over the level of the photograph.

A broken transfer leaves every other row of another picture: 0.044 to 0.17; the others have at most
0.022."""

MIN_LIT = 26
"""Photographs that have to show a pixel before its normal counts."""

_NAME = re.compile(r"_P(?P<pose>\d\d)A(?P<azimuth>[+-]\d{3})E(?P<elevation>[+-]\d\d)\.pgm$")
_STEEPEST = 0.35  # least n_z of skin that is measured well
_DARKEST_SKIN = 0.45  # of the median albedo: darker are brows, pupils, nostrils, beard


class YaleError(OneLine, ValueError):
    """A folder is not CroppedYale's; the message says what was expected."""


class YaleWarning(OneLine, UserWarning):
    """A photograph or a person is left out; the message says which, and why."""


@dataclass(frozen=True, eq=False)
class YalePerson:
    """A face under many lamps.

    lights: names such as "A+035E+40". images: grey, in their order. directions: unit vectors
    toward the lamps; x to the viewer's right, y up, z to the viewer.
    """

    name: str
    lights: tuple[str, ...]
    images: UInt8[np.ndarray, "photos height width"]
    directions: Float[np.ndarray, "photos 3"]

    def image(self, light: str) -> UInt8[np.ndarray, "height width"] | None:
        """The photograph under this lamp; None if it is missing."""
        return self.images[self.lights.index(light)] if light in self.lights else None

    @cached_property
    def measured(self) -> MeasuredFace:
        """Normals and albedo by photometric stereo, from the lamps within `MAX_LAMP_DEGREES`."""
        near = self.directions[:, 2] > np.cos(np.radians(MAX_LAMP_DEGREES))
        return photometric_stereo(self.images[near], self.directions[near])

    @cached_property
    def skin(self) -> Bool[np.ndarray, "height width"]:
        """Where the normals are measured well and belong to bare skin."""
        found = self.measured
        known = (found.count > min(MIN_LIT, len(self.images) // 2)) & (
            found.normals[..., 2] > _STEEPEST
        )
        if not known.any():
            return known
        bare = found.albedo > _DARKEST_SKIN * np.median(found.albedo[known])
        return binary_erosion(known & bare, iterations=2)


def direction(light: str) -> Float[np.ndarray, "3"]:
    """Toward the lamp of a name such as "A+035E+40": azimuths count to the viewer's left."""
    azimuth, elevation = (np.radians(float(part)) for part in light[1:].split("E"))
    return np.array(
        [
            -np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )


def read_person(folder: str | Path) -> YalePerson:
    """The usable photographs of one person.

    Photographs that cannot be read, differ in size from the others, or show rows of garbage are
    left out with a `YaleWarning`; those that the publishers marked as damaged (.bad) and the one
    without a lamp (Ambient) without.

    Raises:
        YaleError: no such folder, or no usable photograph.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise YaleError(f"{folder}: no such folder; give a person of CroppedYale, such as yaleB01")
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.search(path.name)
        if match is None or match["pose"] != "00":
            continue
        try:
            with Image.open(path) as picture:
                image = np.asarray(picture.convert("L"))
        except (OSError, ValueError, SyntaxError) as error:
            _leave_out(path, f"cannot be read ({cause_of(error)})")
            continue
        first = next(iter(found.values()), image)
        if image.shape != first.shape:
            _leave_out(path, f"has {image.shape} pixels, the others have {first.shape}")
        elif _banding(image) > MAX_BANDING:
            _leave_out(path, "shows rows of garbage: damaged in the publication")
        else:
            found[f"A{match['azimuth']}E{match['elevation']}"] = image
    if len(found) < 3:
        raise YaleError(
            f"{folder}: {len(found)} usable photographs named like {folder.name}_P00A+035E+40.pgm; "
            "photometric stereo needs three"
        )
    directions = np.stack([direction(light) for light in found])
    return YalePerson(folder.name, tuple(found), np.stack(list(found.values())), directions)


def list_people(folder: str | Path) -> list[Path]:
    """The people's folders of CroppedYale.

    Raises:
        YaleError: none is there, or no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise YaleError(f"{folder}: no such folder; give one with yaleB01, yaleB02, ...")
    people = sorted(path for path in folder.glob("yaleB*") if path.is_dir())
    if not people:
        raise YaleError(f"{folder}: holds no folder of a person (yaleB01, yaleB02, ...)")
    return people


def _banding(image: UInt8[np.ndarray, "height width"]) -> float:
    rows = image.astype(np.float64).mean(1)
    apart = rows[1:-1] - (rows[:-2] + rows[2:]) / 2
    return float(np.abs(apart).mean() / (image.mean() + 1))


def _leave_out(path: Path, cause: str) -> None:
    warnings.warn(f"{path}: {cause}; left out", YaleWarning, stacklevel=3)
