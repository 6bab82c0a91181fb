"""Fine reflectance of skin and hair at pixel scale: procedural textures in the model's chart."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor, nn

from facerecon.lighting import LUMA
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import DetailConfig
from facerecon.synthetic.sampling import Sampler

_MELANIN = np.array([0.66, 0.80, 0.91], np.float32)  # absorption per unit, as in `skin`
_HEMOGLOBIN = np.array([0.08, 0.38, 0.32], np.float32)
_RADIUS = 85.0  # mm, of the cylinder that a face roughly is


class SkinTexture(nn.Module):
    """A bank of reflectance deviations: a pixel's albedo is that of the mesh times (1 + deviation).

    Args:
        chart: where the textures live. config: DetailConfig.
    """

    def __init__(self, chart: Chart, config: DetailConfig):
        super().__init__()
        self.config = config
        rng = np.random.default_rng(config.seed + 1)
        mask = chart.mask.cpu().numpy()
        textures = [_deviation(mask, rng) for _ in range(config.n_textures)]
        textures = torch.from_numpy(np.stack(textures))
        self.register_buffer("bank", textures.to(chart.mask.device, torch.float32))
        self.register_buffer(
            "grey", (self.bank * self.bank.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        )

    def sample(
        self, count: int, generator: torch.Generator, color: bool
    ) -> Float[Tensor, "batch channels texels texels"]:
        """Mixtures of two textures of the bank at random strength; one channel unless `color`."""
        bank = self.bank if color else self.grey
        sampler = Sampler(count, generator)
        first, second = sampler.choice(len(bank)), sampler.choice(len(bank))
        share = sampler.uniform(0, 1, 1)
        strength = sampler.uniform(*self.config.texture_strength, 1)
        weights = torch.zeros(count, len(bank), device=bank.device)
        weights = weights.scatter_add(1, first[:, None], strength * share.sqrt())
        weights = weights.scatter_add(1, second[:, None], strength * (1 - share).sqrt())
        return (weights @ bank.flatten(1)).view(count, *bank.shape[1:])


def _deviation(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One texture (3, T, T): blotches of both pigments, pores, small spots and grain."""
    size = mask.shape[0]

    def noise(texels: float) -> np.ndarray:
        field = gaussian_filter(rng.normal(0, 1, mask.shape), texels * size / 256, mode="wrap")
        return field / field.std()

    blood = 0.05 * rng.uniform(0.4, 1) * noise(6) + 0.05 * rng.uniform(0.3, 1) * noise(2.5)
    melanin = 0.03 * rng.uniform(0.3, 1) * noise(9) + 0.03 * rng.uniform(0.3, 1) * noise(1.2)
    melanin = melanin + rng.uniform(0.0, 0.35) * np.maximum(noise(0.8) - rng.uniform(2.2, 3.2), 0)
    blood = blood + rng.uniform(0.0, 0.2) * np.maximum(noise(1.6) - rng.uniform(2.8, 3.6), 0)
    pores = -0.05 * rng.uniform(0.3, 1.2) * np.maximum(noise(0.55) - 0.6, 0)
    grain = 0.02 * rng.uniform(0.3, 1) * noise(0.5) + pores
    pigments = melanin * _MELANIN[:, None, None] + blood * _HEMOGLOBIN[:, None, None]
    return (((1 + grain) * np.exp(-pigments) - 1) * mask).astype(np.float32)


class Strands(nn.Module):
    """Hairs of brows, beard and stubble: a noise with unit spread, stretched along their growth.

    Brows grow outward and up, beards downward, both fanned out from the middle of the face.
    """

    def __init__(
        self, model: MorphableModel, chart: Chart, config: DetailConfig, variants: int = 6
    ):
        super().__init__()
        rng = np.random.default_rng(config.seed + 2)
        landmarks = model.mean[model.landmarks].cpu().numpy()
        x, y, z = np.moveaxis(chart.position.cpu().numpy(), 2, 0)
        # Around the head instead of across it: cheeks turn away from the viewer.
        side, outward = _RADIUS * np.arctan2(np.abs(x), z + _RADIUS), np.sign(x)
        brow = landmarks[22:27]
        u = (side - brow[0, 0]) / (brow[4, 0] - brow[0, 0])
        angle_brow = np.where(u < 0.15, 1.2, 0.75 - 0.9 * u)  # upright inside, flat outside
        angle_beard = -np.pi / 2 + 0.5 * np.tanh(side / 40)
        is_brow = y > landmarks[36:48, 1].mean()
        angle = np.where(is_brow, angle_brow, angle_beard)
        along = np.cos(angle) * side + np.sin(angle) * y
        across = np.cos(angle) * y - np.sin(angle) * side
        mask = chart.mask.cpu().numpy()
        maps = []
        for _ in range(variants):
            table = gaussian_filter(rng.normal(0, 1, (256, 64)), (0.6, 0.5), mode="wrap")
            bend = gaussian_filter(rng.normal(0, 1, mask.shape), 8)
            bend = bend / bend.std()
            at = np.stack([(across + 0.3 * bend) / 0.6 + 97 * (outward > 0), along / 4.5])
            field = map_coordinates(table, at, order=1, mode="grid-wrap")
            maps.append(np.where(mask, field / table.std(), 0))
        bank = torch.from_numpy(np.stack(maps)[:, None].astype(np.float32))
        self.register_buffer("bank", bank.to(model.mean.device))

    def sample(
        self, count: int, generator: torch.Generator
    ) -> Float[Tensor, "batch 1 texels texels"]:
        """One map of the bank for every face."""
        return self.bank[Sampler(count, generator).choice(len(self.bank))]
