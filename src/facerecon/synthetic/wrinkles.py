"""Wrinkles, folds and pores as displacement: relief maps in the texture chart, with ground truth.

A relief is a height in mm by which the skin lies above (+) or below (-) the model's smooth surface.
`Relief` holds a bank of procedural maps, several per kind of wrinkle, and mixes them per face:
old faces have more and deeper lines, and a fold deepens when the expression that makes it is on.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facerecon.depth import normals_from_depth
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import DetailConfig
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.wrinkle_kinds import KINDS, Canvas, Sheet

MIN_FACING = 0.3
"""n_z below which a displacement along the normal no longer grows on the pixel grid."""


class FineSurface(NamedTuple):
    """A surface with its wrinkles; equals the coarse one where there is no relief.

    depth: mm, larger is nearer, 0 outside the face. normals: unit, camera frame, 0 outside.
    """

    depth: Float[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]


def displace(
    depth: Float[Tensor, "batch 1 height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    relief: Float[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    distance: Float[Tensor, " batch"] | None = None,
) -> FineSurface:
    """Move a surface along its normals and turn the normals with it, on the pixel grid.

    The depth rises by relief / max(n_z, MIN_FACING), the normals turn as in `raised`. The sideways
    part of the movement, under a fraction of a pixel, is neglected.

    Args:
        relief: mm, along the normal. The others: as in `raised`.
    """
    rise = torch.where(mask, relief / normals[:, 2:].clamp(min=MIN_FACING), 0.0)
    return raised(depth, normals, mask, rise, mm_per_pixel, distance)


def raised(
    depth: Float[Tensor, "batch 1 height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    rise: Float[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    distance: Float[Tensor, " batch"] | None = None,
) -> FineSurface:
    """Add to a depth map and turn the normals with it.

    The slopes of the normals grow by the central differences of the rise
    (`depth.normals_from_depth`), so that the fine normals are to the fine depth what the coarse
    normals are to the coarse depth.

    Args:
        depth, normals, mask: of the coarse surface. rise: mm of depth.
        mm_per_pixel: width of a pixel in mm.
        distance: of a perspective camera in mm; its pixels are narrower in front of the model's
            origin, by 1 - depth / distance.
    """
    tilted = normals_from_depth(rise, mm_per_pixel, mask)
    slopes = tilted[:, :2] / tilted[:, 2:].clamp(min=1e-6)  # minus the derivatives of the rise
    if distance is not None:
        slopes = slopes / (1 - depth / distance[:, None, None, None])
    bent = torch.cat([normals[:, :2] + normals[:, 2:] * slopes, normals[:, 2:]], dim=1)
    length = bent.square().sum(1, keepdim=True).sqrt()
    flat = (slopes == 0).all(1, keepdim=True)  # exactly the coarse normal, without rounding
    fine = torch.where(flat, normals, bent / length.clamp(min=1e-6))
    return FineSurface(depth + rise, fine)


class Relief(nn.Module):
    """A bank of relief maps in a model's chart.

    Args:
        model: MorphableModel (its landmarks place the lines, its expression units fold them).
        chart: where the maps live. config: DetailConfig.
    """

    def __init__(self, model: MorphableModel, chart: Chart, config: DetailConfig):
        super().__init__()
        self.config = config
        rng = np.random.default_rng(config.seed)
        bank = np.zeros((len(KINDS), config.variants, chart.texels, chart.texels), np.float32)
        sheet = Sheet(model, chart)
        for kind, maps in zip(KINDS, bank, strict=True):
            for relief in maps:
                kind.paint(Canvas(sheet, relief, rng))
        self.register_buffer("bank", torch.from_numpy(bank).to(model.mean.device))
        folds = torch.zeros(model.n_coefficients, len(KINDS))
        for number, kind in enumerate(KINDS):
            for unit in kind.units:
                if unit in model.expression_names:
                    index = model.expression_index(unit)
                    std = model.expression_std[index - model.n_identity]
                    folds[index, number] = float(std) / len(kind.units)
        self.register_buffer("folds", folds.to(model.mean.device))
        age = torch.tensor([kind.age for kind in KINDS])
        self.register_buffer("age", age.to(model.mean.device))

    def sample(
        self,
        coefficients: Float[Tensor, "batch coefficients"],
        age: Float[Tensor, "batch 1"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch 1 texels texels"]:
        """Relief in mm, for faces with these coefficients and ages in [0, 1]."""
        config, count, kinds = self.config, len(age), len(self.bank)
        sampler = Sampler(count, generator)
        old = sampler.uniform(*config.age_strength, kinds)
        young = sampler.uniform(*config.youth_strength, kinds)
        folded = (coefficients @ self.folds).clamp(0, 1)
        folded = folded * sampler.uniform(*config.expression_strength, kinds)
        strength = (self.age * torch.lerp(young, old, age) + folded).clamp(max=1.2)
        strength[:, -1:] = sampler.uniform(*config.pores, 1)  # the last kind, at any age
        # One matrix product mixes the bank: far faster than gathering the chosen maps.
        variants = self.bank.shape[1]
        chosen = sampler.uniform(0, 1, kinds, variants).argmax(2, keepdim=True)
        weights = torch.zeros(count, kinds, variants, device=chosen.device)
        weights = weights.scatter(2, chosen, strength[..., None]).flatten(1)
        return (weights @ self.bank.flatten(0, 1).flatten(1)).view(count, 1, *self.bank.shape[2:])
