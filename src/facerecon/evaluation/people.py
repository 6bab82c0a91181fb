"""Who is who: CoarseNet on real people with a neutral and a smiling photograph each.

Read from the folder of the Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0, doi
10.6084/m9.figshare.5047666), for judging alone: 001_neutral.jpg, 001_smiling.jpg and so on, and
`points189.json` with the 189 points that people set on the neutral ones.
"""

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.camera import split
from facerecon.coarsenet import CoarseNet
from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.detection.recrop import fit
from facerecon.evaluation.coarse import projected_landmarks
from facerecon.imaging import Crop, ImageError, crop, load_image, to_grey
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel

POINTS_FILE = "points189.json"
SIZE = 200
"""Pixels of the crops."""

# Part: (point of the template, iBUG landmark). The template has no other points at the same places.
_SAME = {
    "eye corners": ((18, 36), (22, 39), (23, 42), (27, 45)),
    "mouth corners": ((87, 48), (93, 54)),
    "nose": ((64, 31), (55, 33), (69, 35)),
}
_JAW_POINTS, _JAW_LANDMARKS = slice(125, 134), slice(0, 17)
_EYES = (18, 27)  # outer corners: their distance is the unit
PARTS = (*_SAME, "jaw")
"""Of the face, whose points people set."""


class PeopleError(OneLine, ValueError):
    """A folder is not as expected; the message says what was."""


class PeopleWarning(OneLine, UserWarning):
    """A person is left out; the message says who, and why."""


class PersonPhotos(NamedTuple):
    """A person's photographs, and the points that people set on the neutral one (pixels)."""

    name: str
    neutral: Path
    smiling: Path
    points: Float[np.ndarray, "189 2"] | None


class FittedPerson(NamedTuple):
    """What CoarseNet says of a person. landmarks (68, 2): pixels of the neutral photograph."""

    name: str
    neutral: Float[Tensor, " identity"]
    smiling: Float[Tensor, " identity"]
    landmarks: Float[np.ndarray, "68 2"]
    points: Float[np.ndarray, "189 2"] | None


def list_people(folder: str | Path) -> list[PersonPhotos]:
    """Everyone with both photographs, in the order of the names.

    Raises:
        PeopleError: no such folder, fewer than two people in it, or unusable points.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PeopleError(f"{folder}: no such folder; give one with 001_neutral.jpg, ...")
    points = _read_points(folder / POINTS_FILE)
    people = []
    for neutral in sorted(folder.glob("*_neutral.jpg")):
        name = neutral.name.removesuffix("_neutral.jpg")
        smiling = folder / f"{name}_smiling.jpg"
        if not smiling.is_file():
            warnings.warn(f"{name} left out: {smiling.name} is missing", PeopleWarning, 2)
            continue
        people.append(PersonPhotos(name, neutral, smiling, points.get(neutral.name)))
    if len(people) < 2:
        raise PeopleError(
            f"{folder}: needs two people or more, each with NAME_neutral.jpg and NAME_smiling.jpg,"
            f" has {len(people)}"
        )
    return people


def _read_points(path: Path) -> dict[str, Float[np.ndarray, "189 2"]]:
    """By the photograph's file name; nobody's where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        found = {Path(name).name: np.array(rows, np.float64) for name, rows in content.items()}
    except (ValueError, AttributeError) as error:
        raise PeopleError(f"{path}: not points by photograph ({error}); copy it again") from error
    for name, rows in found.items():
        if rows.shape != (189, 2) or not np.isfinite(rows).all():
            raise PeopleError(f"{path}: {name} has not 189 finite points (column, row)")
    return found


def fit_people(
    network: CoarseNet,
    model: MorphableModel,
    people: list[PersonPhotos],
    iterations: int = 4,
    shape: nn.Module | None = None,
) -> list[FittedPerson]:
    """CoarseNet's identity of each photograph, and its landmarks on the neutral one.

    shape: corrects its answers, as `ShapeFromNormals` does.

    Warns:
        PeopleWarning: a photograph cannot be read, or shows no face; the person is left out.
    """
    fitted = []
    for person in people:
        try:
            steps = [
                _fit(network, model, path, iterations, shape)
                for path in (person.neutral, person.smiling)
            ]
        except (ImageError, NoFaceError) as error:
            warnings.warn(f"{person.name} left out: {error}", PeopleWarning, 2)
            continue
        neutral, smiling = (
            split(r, model.n_coefficients)[0][0, : model.n_identity].cpu() for r, _ in steps
        )
        r, square = steps[0]
        landmarks = projected_landmarks(model, r, SIZE)[0].cpu().numpy()
        fitted.append(
            FittedPerson(person.name, neutral, smiling, square.to_image(landmarks), person.points)
        )
    return fitted


def _fit(
    network: CoarseNet,
    model: MorphableModel,
    path: Path,
    iterations: int,
    shape: nn.Module | None,
) -> tuple[Tensor, Crop]:
    photo = load_image(path)
    _, square = crop(photo, largest_face(photo).crop_box(), SIZE)
    steps, square = fit(network, model, photo, square, iterations)
    r = steps[-1]
    if shape is not None:
        r = shape(torch.from_numpy(to_grey(square.cut(photo))).to(r)[None, None], r).r
    return r, square


def identity_distances(
    model: MorphableModel, people: list[FittedPerson]
) -> Float[Tensor, "people people"]:
    """Distance in mm (root mean square, Eq. 4) of each smiling shape from each neutral one."""
    neutral, smiling = (
        torch.stack([getattr(person, name) for person in people]).double()
        for name in ("neutral", "smiling")
    )
    metric = model.geometry_metric()[: model.n_identity, : model.n_identity].cpu().double()
    between = smiling[:, None] - neutral[None]
    return torch.einsum("abi,ij,abj->ab", between, metric, between).clamp(min=0).sqrt()


def recognition(distance: Float[Tensor, "people people"]) -> dict[str, float]:
    """How well the distances tell people apart; own distances are on the diagonal.

    Returns:
        `rank_1`: share of the smiling photographs to which the person's own neutral one is nearest.
        `auc`: probability that a person's own distance is below one between two people.
        `within_mm`, `between_mm`: means of the two kinds of distances.
    """
    own = torch.eye(len(distance), dtype=torch.bool)
    within, between = distance[own], distance[~own]
    below = (within[:, None] < between).double() + 0.5 * (within[:, None] == between)
    return {
        "rank_1": (distance.argmin(1) == torch.arange(len(distance))).double().mean().item(),
        "auc": below.mean().item(),
        "within_mm": within.mean().item(),
        "between_mm": between.mean().item(),
    }


def point_errors(
    landmarks: Float[np.ndarray, "68 2"], points: Float[np.ndarray, "189 2"]
) -> dict[str, float]:
    """Mean distances from the hand-set points, in percent of the outer eye corners' distance.

    The jaw's points slide along its line: theirs is the distance from the line of the landmarks.
    """
    unit = np.linalg.norm(points[_EYES[0]] - points[_EYES[1]]) / 100
    errors = {}
    for part, pairs in _SAME.items():
        template, ours = (list(each) for each in zip(*pairs, strict=True))
        errors[part] = np.linalg.norm(landmarks[ours] - points[template], axis=1).mean() / unit
    errors["jaw"] = _to_line(points[_JAW_POINTS], landmarks[_JAW_LANDMARKS]).mean() / unit
    return {part: float(value) for part, value in errors.items()}


def _to_line(
    points: Float[np.ndarray, "n 2"], line: Float[np.ndarray, "m 2"]
) -> Float[np.ndarray, " n"]:
    """Distance of points from a line of straight pieces."""
    start, along = line[:-1], np.diff(line, axis=0)
    offset = points[:, None] - start
    share = (offset * along).sum(2) / np.maximum((along**2).sum(1), 1e-12)
    return np.linalg.norm(offset - share.clip(0, 1)[..., None] * along, axis=2).min(1)


def mean_point_errors(people: list[FittedPerson]) -> dict[str, float]:
    """`point_errors` over the people whose points are known; empty where nobody's are."""
    each = [
        point_errors(person.landmarks, person.points)
        for person in people
        if person.points is not None
    ]
    return {part: float(np.mean([one[part] for one in each])) for part in PARTS} if each else {}
