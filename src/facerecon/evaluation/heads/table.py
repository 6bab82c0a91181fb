"""CoarseNet on photographed heads that its training world does not hold, beside plain baselines."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from torch import Tensor, nn

from facerecon.camera import POSE_UNITS, join, pose_parameters, project, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.heads.views import Views
from facerecon.evaluation.metrics import coverage, depth_errors, normal_error, point_error
from facerecon.morphable_model import MorphableModel
from facerecon.render import render

POSE_ANGLES = ("pitch", "yaw", "roll")
YAW_BINS = (0, 15, 30, 45, 60, 75, 90)  # degrees
WITHIN = 45.0  # degrees of yaw: the table's images
WITH_NORMALS = "shape from normals"
"""The row of the last iteration's shape corrected by normals."""
# name in the results: heading in the table
COLUMNS = {
    "depth": "depth",
    "depth_p90": "90 %",
    "scaled": "scaled",
    "scaled_p90": "90 %",
    "untilted": "untilted",
    "normals": "normals",
    "yaw": "yaw",
    "pitch": "pitch",
    "roll": "roll",
    "landmarks": "lmk %",
    "own_landmarks": "own %",
    "covered": "cover %",
}
LEGEND = (
    "Means over photographs with a yaw within 45 degrees; of yaw, pitch and roll, medians of the"
    " absolute errors.\n"
    "depth: mm after a shift along z, mean and 90 %, over the pixels of the face that the estimate"
    " covers (the face: skin within 95 mm of the tip of the nose, without ears, neck, eyeballs and"
    " mouth); scaled: after the depth was also scaled; untilted: after the best plane was taken"
    " off.\n"
    "normals, yaw, pitch, roll: degrees. lmk: the model's 68 landmarks; own: those of the heads'"
    " own list; both in percent of the face box. cover: of the face's pixels."
)


Results = dict[str, dict[str, Float[Tensor, " views"]]]


@torch.no_grad()
def evaluate_views(
    network: CoarseNet,
    model: MorphableModel,
    views: Views,
    iterations: int = 4,
    baselines: bool = True,
    batch: int = 25,
    shape: nn.Module | None = None,
) -> Results:
    """Per-image errors: name of the row, metric, value per view.

    The rows: every iteration; with `shape` (`ShapeFromNormals`), the last one after it
    (`WITH_NORMALS`); then, with `baselines`, the last one with its pose or its shape
    replaced ("best": the model's approximation of the true head; "its" scale and place stay with a
    true rotation), the mean face at the true pose and where the true landmarks put it, and a plane.

    The depth of an estimate is brought to the true pixels per mm first: weak perspective does
    not determine absolute size.
    """
    parts = [
        _rows(network, model, part, iterations, baselines, shape) for part in views.chunks(batch)
    ]
    return {
        row: {name: torch.cat([part[row][name] for part in parts]) for name in metrics}
        for row, metrics in parts[0].items()
    }


def _rows(
    network: CoarseNet,
    model: MorphableModel,
    views: Views,
    iterations: int,
    baselines: bool,
    shape: nn.Module | None,
) -> dict[str, dict[str, Tensor]]:
    n, size = model.n_coefficients, views.image.shape[-1]
    steps = iterate(network, model, views.image, iterations)[1:]
    rows = {f"iteration {number}": r for number, r in enumerate(steps, start=1)}
    if shape is not None:
        each = zip(views.image.split(1), steps[-1].split(1), strict=True)
        rows[WITH_NORMALS] = torch.cat([shape(image, r).r for image, r in each])
    if baselines:
        mean = torch.zeros_like(views.best_fit)
        points = model.mean[model.landmarks].expand(len(mean), -1, -1)
        placed = place_by_landmarks(points, views.landmarks[..., :2], views.pose, size)
        own, pose = split(steps[-1], n)
        turned = torch.cat([views.pose[:, :3], pose[:, 3:]], dim=1)
        rows |= {
            "its pose, mean shape": join(mean, pose),
            "its pose, best shape": join(views.best_fit, pose),
            "its shape, true rotation": join(own, turned),
            "mean shape, true rotation": join(mean, turned),
            "best shape, true pose": join(views.best_fit, views.pose),
            "mean face, true pose": join(mean, views.pose),
            "mean face, true landmarks": join(mean, placed),
        }
    results = {name: _errors(model, r, views) for name, r in rows.items()}
    if not baselines:
        return results
    nothing = torch.full_like(views.pose[:, 0], torch.nan)
    flat = depth_errors(torch.zeros_like(views.depth), views.depth, views.face)
    results["flat plane"] = dict.fromkeys(results["iteration 1"], nothing) | {
        "depth": flat["depth"],
        "depth_p90": flat["depth_p90"],
        "untilted": flat["untilted"],
    }
    return results


def _errors(model: MorphableModel, r: Tensor, views: Views) -> dict[str, Tensor]:
    size = views.image.shape[-1]
    pose = split(r, model.n_coefficients)[1]
    maps = render(model, r, size)
    to_true_mm = pose_parameters(pose, size).scale / pose_parameters(views.pose, size).scale
    valid = views.face & maps.mask
    landmarks = maps.projected[:, model.landmarks, :2]
    degrees = ((pose - views.pose) * POSE_UNITS.to(pose))[:, :3].rad2deg()
    return {
        **depth_errors(maps.depth * to_true_mm.view(-1, 1, 1, 1), views.depth, valid),
        "normals": normal_error(maps.normals, views.normals, valid),
        **dict(zip(POSE_ANGLES, degrees.unbind(1), strict=True)),
        "landmarks": point_error(landmarks, views.landmarks[..., :2]),
        "own_landmarks": point_error(landmarks, views.own_landmarks[..., :2]),
        "covered": coverage(maps.mask, views.face),
    }


def place_by_landmarks(
    points: Float[Tensor, "batch points 3"],
    pixels: Float[Tensor, "batch points 2"],
    start: Float[Tensor, "batch 6"],
    size: int,
) -> Float[Tensor, "batch 6"]:
    """The poses whose projections of the points come nearest to the pixels (least squares).

    Args:
        points: mm, model frame.
        pixels: column and row.
        start: pose units; where the search begins.
    """
    poses = []
    for own, seen, first in zip(points.double(), pixels.double(), start.double(), strict=True):

        def misses(pose: np.ndarray, own: Tensor = own, seen: Tensor = seen) -> np.ndarray:
            pose = torch.from_numpy(pose).to(own)[None]
            return (project(own[None], pose, size)[0, :, :2] - seen).flatten().cpu().numpy()

        poses.append(least_squares(misses, first.cpu().numpy(), method="lm").x)
    return torch.from_numpy(np.stack(poses)).to(start)


def mean_errors(metrics: dict[str, Tensor], chosen: Tensor) -> dict[str, float]:
    """Medians of absolute pose errors, means of the others, over the chosen views; NaN left out."""
    result = {}
    for name, values in metrics.items():
        values = values[chosen]
        values = values[~values.isnan()]
        average: Callable[[Tensor], Tensor] = torch.mean
        if name in POSE_ANGLES:
            values, average = values.abs(), torch.median
        result[name] = average(values).item() if len(values) else float("nan")
    return result


def true_yaw(views: Views) -> Float[Tensor, " views"]:
    """Degrees."""
    return (views.pose[:, 1] * POSE_UNITS[1].to(views.pose)).rad2deg()


def heads_table(results: Results, views: Views) -> str:
    """The rows of all estimates within 45 degrees of yaw, then the last iteration over the yaw."""
    yaw = true_yaw(views).abs()
    width = max(map(len, results)) + 2
    head = "".join(f"{title:>10}" for title in COLUMNS.values())
    lines = [f"{'':<{width}}{head}"]

    def line(name: str, row: dict[str, Tensor], chosen: Tensor) -> str:
        values = mean_errors(row, chosen)
        cells = "".join(
            f"{'-':>10}" if np.isnan(values[c]) else f"{values[c]:>10.2f}" for c in COLUMNS
        )
        return f"{name:<{width}}{cells}"

    lines += [line(name, row, yaw <= WITHIN) for name, row in results.items()]
    last = max((name for name in results if name.startswith("iteration")), key=_number)
    lines += ["", f"{last}, over the yaw"]
    for low, high in pairwise(YAW_BINS):
        chosen = (yaw >= low) & (yaw < high)
        if chosen.any():
            lines.append(line(f"{low}-{high} ({int(chosen.sum())})", results[last], chosen))
    return "\n".join(lines)


def _number(name: str) -> int:
    return int(name.split()[-1])


def head_metrics(network: CoarseNet, model: MorphableModel, views: Views) -> dict[str, float]:
    """What a training's history keeps: errors of the last iteration on heads (`table`)."""
    results = evaluate_views(network, model, views, baselines=False)
    last = results[max((n for n in results if n.startswith("iteration")), key=_number)]
    short = mean_errors(last, true_yaw(views).abs() <= WITHIN)
    return {
        "heads_depth_mm": short["depth"],
        "heads_yaw_deg": short["yaw"],
        "heads_pitch_deg": short["pitch"],
        "heads_landmarks_pct": short["landmarks"],
    }
