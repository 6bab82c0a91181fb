"""Faces without their usual surroundings: cut out, before even backdrops, in skin that slipped.

Where every face has hair, ears, a neck and shoulders that turn with it, a network reads the pose
from them, and is wrong on heads that lack them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments
from facerecon.synthetic.config import SurroundingsConfig
from facerecon.synthetic.sampling import Sampler

_SLIP = 0.05  # of half the chart's width (some 6 mm): standard deviation of a skin's shift
_BLINDING = 3.0  # intensity of a white backdrop: it clips
_CHIN = (-18.0, 6.0)  # mm from the chin at which the lowest cut runs
_CHIN_SLOPE = (-0.6, 0.3)  # of that cut, along the depth
_FOREHEAD = (25.0, 75.0)  # mm above the eyes of the highest cut
_BACK = (-85.0, -25.0)  # mm: depth of a cut across the sides, from the eyes' plane
_OVAL = ((52.0, 88.0), (80.0, 120.0))  # mm: half axes of a cut around the face
_CORNER = (25.0, 75.0)  # mm from the middle of the face at which a corner is cut off
_P_CUT = {"ears": 0.55, "neck": 0.6, "chin": 0.5, "forehead": 0.5, "back": 0.4, "oval": 0.3}
_P_CORNER = 0.12


class Surroundings(NamedTuple):
    """What is missing or unusual about a batch of faces; (B, 1, 1, 1) unless said otherwise."""

    alone: Bool[Tensor, "batch 1 1 1"]  # no body and no hair
    cuts: Float[Tensor, "batch cuts"]  # uniform in [0, 1): which cuts, and where
    cast: Bool[Tensor, "batch 1 1 1"]  # everything of one albedo
    slip: Float[Tensor, "batch 2 1 1"]  # shift of the skin's textures in the chart
    replaced: Bool[Tensor, "batch 1 1 1"]  # the background by an even backdrop
    backdrop: Float[Tensor, "batch 1 1 1"]  # its intensity
    grain: Float[Tensor, "batch 1 1 1"]  # spread of its noise
    seed: int  # of that noise
    body_turn: Float[Tensor, "batch 1"]  # share of the head's angles that the shoulders follow


def sample_surroundings(
    config: SurroundingsConfig, count: int, generator: torch.Generator
) -> Surroundings:
    """What is unusual about `count` faces; with the default settings nothing."""
    sampler = Sampler(count, generator)
    alone, cast = sampler.chance(config.p_alone), sampler.chance(config.p_cast)
    slips, replaced = sampler.chance(config.p_slipped), sampler.chance(config.p_backdrop)
    kind, level = sampler.uniform(0, 1), sampler.uniform(0.05, 0.9)
    # A third black, a third white, the rest grey.
    level = torch.where(kind < 0.33, 0.0, torch.where(kind < 0.66, _BLINDING, level))
    noisy = sampler.chance(0.2)
    return Surroundings(
        alone=alone,
        cuts=sampler.uniform(0, 1, 16),
        cast=cast,
        slip=_SLIP * sampler.normal(2, 1, 1) * slips,
        replaced=replaced,
        backdrop=level,
        grain=sampler.uniform(0.05, 0.5) * noisy,
        seed=sampler.integer(0, 2**31),
        body_turn=sampler.uniform(*config.body_turn, 1),
    )


def put_backdrop(
    behind: Float[Tensor, "batch channels size size"], chosen: Surroundings
) -> Float[Tensor, "batch channels size size"]:
    """Backgrounds, some of them replaced by an even or noisy grey."""
    if not chosen.replaced.any():
        return behind
    noise = torch.Generator(device=behind.device).manual_seed(chosen.seed)
    grain = torch.randn(behind[:, :1].shape, generator=noise, device=behind.device)
    even = (chosen.backdrop + chosen.grain * grain).clamp(min=0)
    return torch.where(chosen.replaced, even, behind)


class Scissors(nn.Module):
    """Cuts faces out along lines of the mean head.

    Args:
        model: whose regions are ears and neck, and whose landmarks say where chin and eyes are.
    """

    def __init__(self, model: MorphableModel):
        super().__init__()
        for name in ("ears", "neck"):
            inside = (model.regions[name] > 0.5)[model.triangles].any(1)
            self.register_buffer(name, inside)
        low, high = model.mean.amin(0), model.mean.amax(0)
        self.register_buffer("low", low)
        self.register_buffer("extent", high - low)
        points = model.mean[model.landmarks]
        self.chin = points[8].tolist()
        self.eyes = points[36:48].mean(0).tolist()

    def keep(
        self,
        chosen: Surroundings,
        fragments: Fragments,
        pncc: Float[Tensor, "batch 3 size size"],
    ) -> Bool[Tensor, "batch 1 size size"]:
        """The pixels of the faces that are left; all of those that are not alone."""
        rows = chosen.alone.flatten().nonzero().squeeze(1)
        kept = torch.ones_like(pncc[:, :1], dtype=torch.bool)
        if not len(rows):
            return kept
        x, y, z = (pncc[rows] * self.extent.view(3, 1, 1) + self.low.view(3, 1, 1)).unbind(1)
        triangle = fragments.triangle[rows].clamp(min=0)
        draw = iter(chosen.cuts[rows].T[..., None, None])
        cut = {name: next(draw) < chance for name, chance in _P_CUT.items()}

        def between(low: float, high: float) -> Tensor:
            return low + (high - low) * next(draw)

        chin = self.chin[1] + between(*_CHIN) + between(*_CHIN_SLOPE) * (z - self.chin[2])
        wide, high = (between(*axis) for axis in _OVAL)
        middle = (self.chin[1] + self.eyes[1]) / 2
        lost = cut["ears"] & self.ears[triangle]
        lost |= cut["neck"] & self.neck[triangle]
        lost |= cut["chin"] & (y < chin)
        lost |= cut["forehead"] & (y > self.eyes[1] + between(*_FOREHEAD))
        lost |= cut["back"] & (z < self.eyes[2] + between(*_BACK))
        lost |= cut["oval"] & ((x / wide) ** 2 + ((y - middle) / high) ** 2 > 1)
        corner, angle = next(draw) < _P_CORNER, between(0, 2 * torch.pi)
        lost |= corner & (x * angle.cos() + (y - middle) * angle.sin() > between(*_CORNER))
        return kept.index_copy(0, rows, ~lost[:, None])
