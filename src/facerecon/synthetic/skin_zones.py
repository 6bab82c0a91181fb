"""Where a face shows bare skin, at the model's vertices and in its texture chart."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.synthetic.chart import Chart


def skin_weight(model: MorphableModel) -> Float[Tensor, " vertices"]:
    """1 on smooth skin of the face; 0 on eyes, brows, lips, mouth, ears and neck."""
    regions = model.regions
    other = sum(
        regions[name]
        for name in ("lips", "eyelids", "brows", "mouth_interior", "ears", "eye_left", "eye_right")
    )
    return (regions["face"] * (1 - other)).clamp(0, 1)


class Zones(NamedTuple):
    """Masks (T, T) over a chart.

    core: bare skin of everybody. shown: where a photograph is used; not eyelids, where a fit a
    millimeter off shows the eye, nor ears and neck. tested: where hair may hang. bearded: where
    it may grow, and a fit may reach beyond the outline of the face.
    """

    core: Bool[np.ndarray, "texels texels"]
    shown: Bool[np.ndarray, "texels texels"]
    tested: Bool[np.ndarray, "texels texels"]
    bearded: Bool[np.ndarray, "texels texels"]


def zones(model: MorphableModel, chart: Chart) -> Zones:
    """Where skin is bare, and where only skin is wanted: forehead, temples, ears and neck."""
    skin = interpolate(skin_weight(model)[None, :, None], chart.fragments, model.triangles)
    skin = skin[0, 0].cpu().numpy() > 0.5
    x, y, _ = np.moveaxis(chart.position.cpu().numpy(), 2, 0)
    landmarks = model.mean[model.landmarks].cpu().numpy()
    brow, lip, chin = landmarks[17:27, 1].max(), landmarks[48:60, 1].mean(), landmarks[8, 1]
    mask = chart.mask.cpu().numpy()
    core = mask & skin & (np.abs(x) < 42) & (y > lip + 8) & (y < brow + 18)
    names = ("eyelids", "ears", "neck")
    other = torch.stack([model.regions[name] for name in names], 1)
    other = interpolate(other[None], chart.fragments, model.triangles)[0].cpu().numpy()
    shown = mask & (other < 0.3).all(0)
    tested = mask & ((y > brow + 4) | (np.abs(x) > 50) | (y < chin - 4))
    bearded = mask & skin & ~tested & (y < lip + 8)
    return Zones(core, shown, tested, bearded)
