"""Skin of photographed people on synthetic faces: a bank's textures in any skin tone."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from facerecon.lighting import LUMA
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import DetailConfig
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.skin_zones import skin_weight, zones
from facerecon.synthetic.texture_bank import TextureBank

DARKEST_ALBEDO = 0.02
_LOG_RANGE = 3.0  # of the deviations that are kept, to either side


class PhotographedSkin(nn.Module):
    """Paints the skin, brows and beards of a bank's photographs over procedural ones.

    A texture is kept as its log deviation from the bare skin's color, so that it takes the tone of
    whatever face it is laid on; its contrast and hue vary from face to face.

    Args:
        model: of the bank's chart.
    """

    def __init__(self, model: MorphableModel, bank: TextureBank, config: DetailConfig):
        super().__init__()
        self.config = config
        chart = Chart(model, bank.albedo.shape[1])
        core = torch.from_numpy(zones(model, chart).core)
        nearest = nearest_inside(chart.mask.cpu().numpy())
        deviations = []
        for albedo in bank.albedo:
            rows = albedo[nearest].transpose(2, 0, 1)
            texture = torch.from_numpy(rows.astype(np.float32) / 255)
            log = texture.clamp(DARKEST_ALBEDO).log()
            bare = log[:, core].median(dim=1).values
            deviation = (log - bare[:, None, None]).clamp(-_LOG_RANGE, _LOG_RANGE)
            deviations.append((deviation * (127 / _LOG_RANGE)).round().to(torch.int8))
        device = model.mean.device
        self.register_buffer("bank", torch.stack(deviations).to(device))
        weight = skin_weight(model)
        self.register_buffer("skin_weight", weight / weight.sum())
        outside = (chart.coordinates.abs() > 1).any(1)
        # Of each triangle: 1 in the chart, 0 in the eyes and the mouth.
        self.register_buffer("painted", (~outside[chart.triangles].any(1)).float())

    def paint(
        self,
        albedo: Float[Tensor, "batch channels height width"],
        hair: Float[Tensor, "batch 1 height width"],
        skin: Float[Tensor, "batch vertices 3"],
        fragments: Fragments,
        coordinates: Float[Tensor, "batch 2 height width"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "batch channels height width"], Float[Tensor, "batch 1 height width"]]:
        """Albedo and cover of facial hair, with a share of the faces photographed.

        Args:
            albedo: grey or RGB. hair: cover of procedural brows and beard, which photographed skin
                has of its own. skin: the procedural skin, whose average tone stays.
            fragments: of the pixels. coordinates: where in the chart they lie.
        """
        config, sampler = self.config, Sampler(len(albedo), generator)
        chosen = sampler.chance(config.p_photographed)
        picks = self.bank[sampler.choice(len(self.bank))].float() * (_LOG_RANGE / 127)
        deviation = Chart.sample(picks, coordinates) * sampler.uniform(
            *config.photographed_contrast
        )
        hue = config.photographed_hue * sampler.normal(3)
        tone = torch.einsum("v,bvc->bc", self.skin_weight, skin).clamp(min=DARKEST_ALBEDO)
        tone = tone * (hue - hue.mean(1, keepdim=True)).exp()
        painted = tone[:, :, None, None] * deviation.exp()
        if albedo.shape[1] == 1:
            painted = (painted * painted.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        inside = self.painted[fragments.triangle.clamp(min=0)] * (fragments.triangle >= 0)
        cover = inside[:, None] * chosen
        return torch.lerp(albedo, painted, cover), hair * (1 - cover)


def skin_on_vertices(
    model: MorphableModel, bank: TextureBank
) -> tuple[Float[Tensor, "skins vertices 3"], Bool[Tensor, " vertices"]]:
    """A bank's skins per vertex of the model, and which vertices they reach: not eyes and mouth."""
    chart = Chart(model, bank.albedo.shape[1])
    nearest = nearest_inside(chart.mask.cpu().numpy())
    place = torch.empty(len(model.mean), 2, device=model.mean.device)
    place[model.triangles] = chart.coordinates[chart.triangles]  # on a seam, of either side
    reached = (place.abs() <= 1).all(1)
    grid = place.T[None, :, None]
    skins = []
    for albedo in bank.albedo:
        texture = torch.from_numpy(albedo[nearest].transpose(2, 0, 1) / np.float32(255))
        skins.append(Chart.sample(texture[None].to(grid), grid)[0, :, 0].T)
    return torch.stack(skins), reached


def nearest_inside(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the masked texel nearest to each texel."""
    return tuple(distance_transform_edt(~mask, return_distances=False, return_indices=True))
