"""Whether a gaping mouth gapes and shut eyes are shut: heads with one strong expression each."""

import re
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.coarse import projected_landmarks
from facerecon.evaluation.heads.table import WITHIN, evaluate_views, true_yaw
from facerecon.evaluation.heads.views import Heads, Views
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel

EXPRESSIONS = {
    "neutral": None,
    "mouth open": "jawOpen",
    "lids shut": "eyeBlink",
    "cheeks puffed": "cheekPuff",
    "lips pursed": "mouthPucker",
    "duckface": "mouthFunnel",
    "smile": "mouthSmile",
}
"""Name: unit of the head model, both of its sides at full strength."""

_SIDES = "(_L|_R|Left|Right)?"  # ends of ICT-FaceKit's names, and of our model's

_PAIRS = {
    "gape": ((61, 67), (62, 66), (63, 65)),  # inner edges of the lips
    "eyes": ((37, 41), (38, 40), (43, 47), (44, 46)),  # upper and lower lids
    "width": ((48, 54),),  # corners of the mouth
}
MEASURES = tuple(_PAIRS)
_EYES = (36, 45)  # outer corners: their distance is the unit

EXPRESSION_LEGEND = (
    "Heads with one expression at full strength; photographs with a yaw within 45 degrees. gape:"
    " distance of the inner lips; eyes: of the lids; width: of the mouth's corners; each in percent"
    " of the outer eye corners' distance in the picture, true > estimated, means. The two lists of"
    " landmarks lie a little differently: compare with the neutral row. depth: mm."
)


class ExpressionError(OneLine, ValueError):
    """The head model has no such expressions; the message says which it needs."""


class Expressed(NamedTuple):
    """Heads with one expression.

    r (N, n): CoarseNet's answers. true, estimated: `MEASURES` in percent. depth: error in mm.
    """

    views: Views
    r: Tensor
    true: dict[str, float]
    estimated: dict[str, float]
    depth: float


def openings(landmarks: Float[Tensor, "views 68 2"]) -> dict[str, Float[Tensor, " views"]]:
    """`MEASURES` of each picture's landmarks, percent of the outer eye corners' distance."""

    def apart(pair: tuple[int, int]) -> Tensor:
        return (landmarks[:, pair[0]] - landmarks[:, pair[1]]).norm(dim=1)

    unit = apart(_EYES) / 100
    return {
        name: torch.stack([apart(pair) for pair in pairs]).mean(0) / unit
        for name, pairs in _PAIRS.items()
    }


def activation(heads: Heads, unit: str | None) -> Float[Tensor, " units"]:
    """1 for both sides of a unit, 0 for the others.

    Raises:
        ExpressionError: the heads have no such unit.
    """
    chosen = [unit is not None and bool(re.fullmatch(unit + _SIDES, n)) for n in heads.units]
    if unit is not None and not any(chosen):
        raise ExpressionError(
            f"the heads have no expression {unit}; leave --expressions out, or give ICT-FaceKit"
        )
    return torch.tensor(chosen).to(heads.mean)


@torch.no_grad()
def evaluate_expressions(
    network: CoarseNet,
    model: MorphableModel,
    heads: Heads,
    count: int,
    seed: int,
    iterations: int = 4,
) -> dict[str, Expressed]:
    """Each of `EXPRESSIONS` on the same people in the same poses; `count` photographs of each.

    Raises:
        ExpressionError: the heads lack a unit of these expressions.
    """
    found = {}
    for name, unit in EXPRESSIONS.items():
        views = heads.render(count, seed, activation=activation(heads, unit))
        r = torch.cat(
            [iterate(network, model, part.image, iterations)[-1] for part in views.chunks(25)]
        )
        near = true_yaw(views).abs() <= WITHIN
        own = projected_landmarks(model, r, views.image.shape[-1])
        true, estimated = (
            {key: values[near].mean().item() for key, values in openings(each).items()}
            for each in (views.own_landmarks[..., :2], own)
        )
        rows = evaluate_views(network, model, views, iterations, baselines=False)
        depth = rows[f"iteration {iterations}"]["depth"][near].nanmean().item()
        found[name] = Expressed(views, r, true, estimated, depth)
    return found


def expressions_table(found: dict[str, Expressed]) -> str:
    """A row for each expression."""
    lines = [" " * 15 + "".join(f"{name:>15}" for name in MEASURES) + f"{'depth':>9}"]
    for name, result in found.items():
        pairs = (f"{result.true[key]:.1f} > {result.estimated[key]:.1f}" for key in MEASURES)
        lines.append(f"{name:<15}" + "".join(f"{p:>15}" for p in pairs) + f"{result.depth:>9.2f}")
    return "\n".join(lines)
