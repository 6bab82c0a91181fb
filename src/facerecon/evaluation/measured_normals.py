"""Normals of single photographs against normals that photometric stereo measured."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from facerecon.evaluation.yale import YalePerson
from facerecon.normalnet import MIN_FACING

LIGHTS = ("A+000E+00", "A+020E+10", "A-035E+15", "A+000E+45", "A-050E+00")
"""The lamps whose photographs the methods see, one at a time."""

RELIEF_MM = 5.0
"""Standard deviation of the Gaussian that is taken off the slopes: relief is what is left."""

MARGIN = ((90, 90), (80, 80))
"""Rows and columns by which a photograph is continued: CroppedYale ends at the cheeks."""

BOX = (50.0, 58.0, 228.0, 228.0)
"""x, y, width, height of the face in the continued photograph, as a detector would box it."""

METRICS = ("normals", "relief", "added", "gain")

Normals = Float[np.ndarray, "height width 3"]


class Surface(NamedTuple):
    """What a method says of a photograph.

    normals: on the photograph's pixels, unit, NaN outside the face. mm_per_pixel: of those.
    """

    normals: Normals
    mm_per_pixel: float


Method = Callable[[Float[np.ndarray, "height width 3"], tuple[float, float, float, float]], Surface]
"""From a photograph (RGB in [0, 1]) and the face's box to the surface."""


def slopes(normals: Normals) -> Float[np.ndarray, "height width 2"]:
    """dz/dx (x to the right) and dz/dy (y up), bounded where the surface turns away."""
    return -normals[..., :2] / np.maximum(normals[..., 2:], MIN_FACING)


def relief(
    values: Float[np.ndarray, "height width 2"],
    valid: Bool[np.ndarray, "height width"],
    sigma: float,
) -> Float[np.ndarray, "pixels 2"]:
    """Slopes without their Gaussian mean over the valid pixels, at those pixels.

    Args:
        sigma: pixels.
    """
    weight = np.maximum(gaussian_filter(valid.astype(np.float64), sigma), 1e-6)
    found = []
    for channel in np.moveaxis(values, 2, 0):
        known = np.where(valid, channel, 0.0)
        found.append((known - gaussian_filter(known, sigma) / weight)[valid])
    return np.stack(found, axis=1)


def score(found: Surface, coarse: Surface, person: YalePerson) -> dict[str, float]:
    """How near a surface is to the measured one, on skin that both methods cover.

    Args:
        coarse: what the method began with.

    Returns:
        `normals`: mean angle in degrees. `relief`: correlation of slopes finer than `RELIEF_MM`.
        `added`, `gain`: correlation of what was added to the coarse relief with what that lacks,
        and its size along it, 1 for all of it; NaN where nothing was added.
    """
    truth = person.measured.normals
    valid = person.skin & np.isfinite(found.normals[..., 0]) & np.isfinite(coarse.normals[..., 0])
    result = dict.fromkeys(METRICS, np.nan)
    if valid.any():
        cosine = (found.normals * truth).sum(-1)[valid]
        sigma = RELIEF_MM / found.mm_per_pixel
        own, start, true = (
            relief(slopes(np.where(valid[..., None], normals, [0, 0, 1])), valid, sigma).ravel()
            for normals in (found.normals, coarse.normals, truth)
        )
        added, lacking = own - start, true - start
        changed = min(added.std(), lacking.std()) > 1e-6
        values = (
            np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(),
            np.corrcoef(own, true)[0, 1],
            np.corrcoef(added, lacking)[0, 1] if changed else np.nan,
            added @ lacking / (lacking @ lacking) if changed else np.nan,
        )
        result |= dict(zip(METRICS, map(float, values), strict=True))
    return result


def continued(image: np.ndarray) -> Float[np.ndarray, "height width 3"]:
    """A photograph of CroppedYale as a method sees it: with its border repeated; RGB in [0, 1]."""
    grey = np.pad(image, MARGIN, "edge").astype(np.float32) / 255
    return np.repeat(grey[..., None], 3, axis=2)


def lit_photographs(
    people: Iterable[YalePerson], lights: tuple[str, ...] = LIGHTS
) -> Iterator[tuple[YalePerson, str, Float[np.ndarray, "height width 3"]]]:
    """Each person under each of these lamps, with the photograph, `continued`.

    Lamps under which the publishers have no usable photograph of a person are left out.
    """
    for person in people:
        for light in lights:
            image = person.image(light)
            if image is not None:
                yield person, light, continued(image)


def cut(surface: Surface) -> Surface:
    """The part of a surface that CroppedYale's own pixels show."""
    (top, bottom), (left, right) = MARGIN
    return surface._replace(normals=surface.normals[top:-bottom, left:-right])


def evaluate_people(
    people: Iterable[YalePerson],
    methods: dict[str, Method],
    coarse: str = "coarse",
    lights: tuple[str, ...] = LIGHTS,
) -> list[dict]:
    """One row per method, person and lamp: `METRICS` and their names.

    Args:
        methods: by name. coarse: the one that the others add to. lights: the photographs that are
            shown; those that a person lacks are left out.
    """
    rows = []
    for person, light, photo in lit_photographs(people, lights):
        found = {name: cut(method(photo, BOX)) for name, method in methods.items()}
        for name, surface in found.items():
            values = score(surface, found[coarse], person)
            rows.append({"method": name, "person": person.name, "lamp": light, **values})
    return rows


def means(rows: list[dict]) -> list[dict]:
    """One row per method: the means of `METRICS` over all photographs, and their number."""
    found = []
    for name in dict.fromkeys(row["method"] for row in rows):
        chosen = [row for row in rows if row["method"] == name]
        values = {}
        for metric in METRICS:
            known = [row[metric] for row in chosen if np.isfinite(row[metric])]
            values[metric] = float(np.mean(known)) if known else None
        found.append({"method": name, "photographs": len(chosen), **values})
    return found


def table(rows: list[dict]) -> str:
    """`means` as text."""
    lines = [f"{'':<16}{'photographs':>12}" + "".join(f"{name:>10}" for name in METRICS)]
    for row in rows:
        cells = "".join(
            f"{'-':>10}"
            if row[name] is None
            else f"{row[name]:>10.{2 if name == 'normals' else 3}f}"
            for name in METRICS
        )
        lines.append(f"{row['method']:<16}{row['photographs']:>12}{cells}")
    return "\n".join(lines)
