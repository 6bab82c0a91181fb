"""How far CoarseNet turns heads of several kinds: whole, bald, cut out, before even backdrops.

A network that leans on hair, ears and neck turns a head too little where they are missing. So each
kind shows the same people in the same poses, and what counts is the slope of the estimated over the
true angle.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from facerecon.camera import POSE_UNITS, rotation_angles, rotation_matrix, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.heads.table import WITHIN, evaluate_views, mean_errors, true_yaw
from facerecon.evaluation.heads.views import WHOLE, Heads, Kind, Views
from facerecon.mesh import similarity
from facerecon.morphable_model import MorphableModel

KINDS = {
    "whole": WHOLE,
    "without hair": Kind(hair=False),
    "ears, no neck": Kind(cut="ears", hair=False),
    "face alone": Kind(cut="face", hair=False),
    "without hair, black": Kind(hair=False, backdrop=0.0),
    "without hair, white": Kind(hair=False, backdrop=1.0),
    "face alone, black": Kind(cut="face", hair=False, backdrop=0.0),
    "face alone, grey": Kind(cut="face", hair=False, backdrop=0.5),
    "face alone, white": Kind(cut="face", hair=False, backdrop=1.0),
    "photographed skin": Kind(hair=False, photographed=True),
}

SHORTFALL_AT = 30.0
"""Degrees of yaw, either side, at which the shortfall is measured."""

_AROUND = 5.0  # degrees on either side of it

KIND_LEGEND = (
    "Heads of each kind: the same people, poses, skin and light. slope: of the line through"
    " estimated over true angles, by least squares, photographs with a yaw within 45 degrees. An"
    " estimated angle is the true one after the rotation that brings the true points of the skin"
    " nearest to the estimated ones.\n"
    "short: degrees by which a yaw of 25 to 35 degrees is estimated too small, mean. yaw, pitch:"
    " degrees, medians of the absolute errors. depth: mm, normals: degrees, as above."
)
_COLUMNS = {
    "yaw_slope": "yaw slope",
    "yaw_short": "short",
    "pitch_slope": "pitch slope",
    "yaw": "yaw",
    "pitch": "pitch",
    "depth": "depth",
    "normals": "normals",
}


class Turned(NamedTuple):
    """How heads of one kind are turned: degrees; pitch, yaw and roll."""

    true: Float[Tensor, "views 3"]
    estimated: Float[Tensor, "views 3"]
    measures: dict[str, float]


def estimated_angles(
    model: MorphableModel, r: Float[Tensor, "views n"], views: Views
) -> Float[Tensor, "views 3"]:
    """Degrees by which the estimated heads are turned: pitch, yaw and roll.

    Two models need not agree on what turned by 0 is. So the true rotation is followed by the one
    that brings the true points of the skin nearest to the estimated ones, both in mm before the
    camera.
    """
    coefficients, pose = split(r, model.n_coefficients)
    angles = POSE_UNITS[:3].to(pose)
    turn, true = (rotation_matrix(each[:, :3] * angles) for each in (pose, views.pose))
    shape = model.vertices(coefficients)
    shape = shape.gather(1, views.matched[..., None].expand(-1, -1, 3)) @ turn.mT
    pairs = zip(views.points.double().cpu().numpy(), shape.double().cpu().numpy(), strict=True)
    between = np.stack([similarity(*pair)[1] for pair in pairs])
    return rotation_angles(torch.from_numpy(between).to(true) @ true).rad2deg()


def slope(estimated: Float[Tensor, " views"], true: Float[Tensor, " views"]) -> float:
    """Of the line through estimated over true angles, by least squares; NaN for fewer than two."""
    spread = true - true.mean()
    if len(true) < 2:
        return float("nan")
    return ((spread * estimated).sum() / spread.square().sum()).item()


def turn_measures(
    estimated: Float[Tensor, "views 3"], true: Float[Tensor, "views 3"]
) -> dict[str, float]:
    """Slopes of yaw and pitch within `WITHIN` degrees of yaw, and the mean shortfall at 30."""
    yaw = true[:, 1]
    near = yaw.abs() <= WITHIN
    there = (yaw.abs() - SHORTFALL_AT).abs() <= _AROUND
    short = yaw.sign() * (yaw - estimated[:, 1])
    return {
        "yaw_slope": slope(estimated[near, 1], yaw[near]),
        "yaw_short": short[there].mean().item(),  # NaN where there is no such view
        "pitch_slope": slope(estimated[near, 0], true[near, 0]),
    }


@torch.no_grad()
def turned(
    network: CoarseNet, model: MorphableModel, views: Views, iterations: int = 4, batch: int = 25
) -> Turned:
    """True and estimated angles of heads of one kind, and their measures."""
    estimated = torch.cat(
        [
            estimated_angles(model, iterate(network, model, part.image, iterations)[-1], part)
            for part in views.chunks(batch)
        ]
    )
    true = (views.pose * POSE_UNITS.to(views.pose))[:, :3].rad2deg()
    return Turned(true, estimated, turn_measures(estimated, true))


def evaluate_kinds(
    network: CoarseNet,
    model: MorphableModel,
    heads: Heads,
    count: int,
    seed: int,
    iterations: int = 4,
) -> dict[str, Turned]:
    """`turned` for each of `KINDS`, with errors of `heads_table`; `count` photographs of each.

    Photographed skin is left out where the heads have no textures.
    """
    found = {}
    for name, kind in KINDS.items():
        if kind.photographed and heads.photographed is None:
            continue
        views = heads.render(count, seed, kind=kind)
        result = turned(network, model, views, iterations)
        rows = evaluate_views(network, model, views, iterations, baselines=False)
        errors = mean_errors(rows[f"iteration {iterations}"], true_yaw(views).abs() <= WITHIN)
        kept = {each: errors[each] for each in ("yaw", "pitch", "depth", "normals")}
        found[name] = result._replace(measures=result.measures | kept)
    return found


def kinds_table(found: dict[str, Turned]) -> str:
    """A row for each kind."""
    width = max(map(len, found)) + 2
    lines = [" " * width + "".join(f"{title:>13}" for title in _COLUMNS.values())]
    for name, result in found.items():
        cells = "".join(f"{result.measures[column]:>13.3f}" for column in _COLUMNS)
        lines.append(f"{name:<{width}}{cells}")
    return "\n".join(lines)


def kinds_figure(found: dict[str, Turned]) -> Image.Image:
    """Estimated over true yaw, a panel for each kind, with the fitted slope and the diagonal."""
    columns = min(3, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(3 * columns, 3 * lines), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for axis, (name, result) in zip(axes.flat, found.items(), strict=False):
        true, estimated = result.true[:, 1].cpu(), result.estimated[:, 1].cpu()
        axis.plot([-60, 60], [-60, 60], color="0.7", linewidth=1)
        axis.scatter(true, estimated, s=6)
        axis.set_title(f"{name}: slope {result.measures['yaw_slope']:.2f}", fontsize=9)
        axis.set_aspect("equal")
    figure.supxlabel("true yaw, degrees", fontsize=9)
    figure.supylabel("estimated yaw, degrees", fontsize=9)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
