"""Skin for NormalNet's world: more and deeper relief, and more that is no relief at all.

The lines of `wrinkle_kinds` lie where every face has them. Real faces have others, too: bundles of
fine lines on cheeks, neck and temples, folds of sagging skin, and a shape that no morphable model
spans. Moles, spots, scars and make-up look like relief and are none. A network learns to tell them
apart only where a world has both.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from facerecon.synthetic.chart import Chart
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.texture import SkinTexture
from facerecon.synthetic.wrinkle_kinds import Canvas, Sheet
from facerecon.synthetic.wrinkles import Relief

BUMP_SIZES_MM = (3.0, 5.0, 8.0, 12.0)  # standard deviations of the filters
BUMP_SLOPE = 0.06  # standard deviation of the slopes of each size at strength 1
_DARKENED_MM = 0.6  # of depth below the surroundings: 1/e of the light is left
_AROUND_MM = 2.5  # standard deviation of the Gaussian that tells the surroundings


class LinedRelief(nn.Module):
    """The relief of `Relief`, with bundles of lines, folds and bumps anywhere on the face.

    Args:
        relief: of the world. model: MorphableModel. chart: of the world.
        lines: range of the depth of lines and folds of the oldest, as a share of the deepest; the
            youngest have a third of it. bumps: the same of the bumps, at any age.
        fold_shade: range of how far the depth of a fold darkens it. Its own shadow does that in
            any light, and a world that shades by normals alone has no such shadow.
    """

    def __init__(
        self,
        relief: Relief,
        model: nn.Module,
        chart: Chart,
        lines: tuple[float, float] = (0.0, 0.9),
        bumps: tuple[float, float] = (0.0, 1.0),
        fold_shade: tuple[float, float] = (0.0, 1.0),
        variants: int = 10,
        seed: int = 0,
    ):
        super().__init__()
        self.relief, self.config = relief, relief.config
        self.lines, self.bumps, self.fold_shade = lines, bumps, fold_shade
        rng = np.random.default_rng(seed)
        sheet = Sheet(model, chart)
        self.texel_mm = sheet.texel_mm
        shape = (variants, chart.texels, chart.texels)
        bundles, folds, bumpy = (np.zeros(shape, np.float32) for _ in range(3))
        for number in range(variants):
            _bundles(Canvas(sheet, bundles[number], rng))
            _folds(Canvas(sheet, folds[number], rng))
            bumpy[number] = _bumps(sheet, rng)
        bank = torch.from_numpy(np.stack([bundles, folds, bumpy])).flatten(0, 1)
        self.register_buffer("bank", bank.to(model.mean.device))
        self.darkness: Tensor | None = None  # of the folds of the faces sampled last

    def sample(
        self,
        coefficients: Float[Tensor, "batch coefficients"],
        age: Float[Tensor, "batch 1"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch 1 texels texels"]:
        """Relief in mm, for faces with these coefficients and ages in [0, 1]."""
        relief = self.relief.sample(coefficients, age, generator)
        sampler, variants = Sampler(len(age), generator), len(self.bank) // 3
        chosen = [sampler.choice(variants) + kind * variants for kind in range(3)]
        strength = [sampler.uniform(*self.lines, 1) * (0.3 + age) for _ in range(2)]
        # Most faces are near the model's: the square makes strong bumps rare.
        strength.append(sampler.uniform(0, 1, 1) * sampler.uniform(*self.bumps, 1))
        weights = torch.zeros(len(age), len(self.bank), device=age.device)
        weights = weights.scatter(1, torch.stack(chosen, 1), torch.cat(strength, 1))
        lines, bumps = weights.split([2 * variants, variants], dim=1)
        relief = relief + self._mixed(lines, self.bank[: 2 * variants])
        self.darkness = sampler.uniform(*self.fold_shade) * self._below(relief) / _DARKENED_MM
        return relief + self._mixed(bumps, self.bank[2 * variants :])

    @staticmethod
    def _mixed(weights: Tensor, bank: Tensor) -> Tensor:
        return (weights @ bank.flatten(1)).view(len(weights), 1, *bank.shape[1:])

    def _below(self, relief: Tensor) -> Tensor:
        """How far each texel lies below its surroundings, in mm, at least 0."""
        half = round(_AROUND_MM * 6**0.5 / self.texel_mm / 2)  # two boxes are nearly a Gaussian
        around = relief
        for _ in range(2):
            for box in ((1, 2 * half + 1), (2 * half + 1, 1)):
                edge = (box[0] // 2, box[1] // 2)
                around = avg_pool2d(around, box, 1, edge, count_include_pad=False)
        return (around - relief).clamp(min=0)


class SpottedTexture(nn.Module):
    """The reflectance of `SkinTexture`, with spots and patches that are no relief, and dark folds.

    Args:
        texture: of the world. relief: of the world, which samples a face's relief before its
            texture. chart: of the world. spots: range of their strength.
    """

    def __init__(
        self,
        texture: SkinTexture,
        relief: LinedRelief,
        chart: Chart,
        spots: tuple[float, float] = (0.0, 1.0),
        variants: int = 16,
        seed: int = 0,
    ):
        super().__init__()
        self.texture, self.config, self.spots = texture, texture.config, spots
        self.relief = relief
        rng = np.random.default_rng(seed)
        spotted = [_spots(chart, relief.texel_mm, rng) for _ in range(variants)]
        self.register_buffer("bank", torch.from_numpy(np.stack(spotted)).to(chart.mask.device))

    def sample(
        self, count: int, generator: torch.Generator, color: bool
    ) -> Float[Tensor, "batch channels texels texels"]:
        """Deviations from the mesh's albedo, as of `SkinTexture`."""
        deviation = self.texture.sample(count, generator, color)
        sampler = Sampler(count, generator)
        first, second = (self.bank[sampler.choice(len(self.bank))][:, None] for _ in range(2))
        clear = sampler.uniform(0, 1)  # most faces have few
        absorbed = clear * (
            sampler.uniform(*self.spots) * first + sampler.uniform(*self.spots) * second
        )
        if self.relief.darkness is not None:
            absorbed = absorbed + self.relief.darkness
        return (1 + deviation) * torch.exp(-absorbed) - 1


def _bundles(c: Canvas) -> None:
    """Some bundles of nearly parallel fine lines."""
    front = c.sheet.points[c.sheet.points[:, 2] > np.quantile(c.sheet.points[:, 2], 0.3)]
    for _ in range(int(c.rng.integers(5, 12))):
        middle = front[c.rng.integers(len(front)), :2]
        angle, gap = c.uniform(0, np.pi), c.uniform(2.0, 6.0)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        bend, half = c.uniform(-0.15, 0.15), c.uniform(5, 18)
        width, depth = c.uniform(0.5, 1.3), c.uniform(0.15, 0.7)
        steps = np.linspace(-half, half, 5)[:, None]
        for number in range(int(c.rng.integers(2, 7))):
            start = middle + number * gap * across + c.rng.normal(0, 0.7, 2)
            points = start + steps * along + bend * steps**2 / half * across
            c.line(points, depth * c.uniform(0.5, 1.2), width)


def _folds(c: Canvas) -> None:
    """Some wide folds and the pads of skin beside them."""
    front = c.sheet.points[c.sheet.points[:, 2] > np.quantile(c.sheet.points[:, 2], 0.3)]
    for _ in range(int(c.rng.integers(3, 8))):
        middle = front[c.rng.integers(len(front)), :2]
        angle, half = c.uniform(0, np.pi), c.uniform(8, 25)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        steps = np.linspace(-half, half, 5)[:, None]
        points = middle + steps * along + c.uniform(-0.3, 0.3) * steps**2 / half * across
        width = c.uniform(1.5, 3.5)
        c.line(points, c.uniform(0.3, 1.2), width)
        c.line(points + across * c.uniform(1.5, 2.5) * width, -c.uniform(0.2, 0.9), 1.5 * width)


def _bumps(sheet: Sheet, rng: np.random.Generator) -> Float[np.ndarray, "texels texels"]:
    """A smooth random height of several sizes, in mm."""
    total = np.zeros(sheet.mask.shape, np.float32)
    for size in BUMP_SIZES_MM:
        field = gaussian_filter(rng.normal(0, 1, sheet.mask.shape), size / sheet.texel_mm)
        # The slopes of such noise spread by its own spread over sqrt(2) times the filter's width.
        total += (BUMP_SLOPE * 2**0.5 * size / field.std() * field).astype(np.float32)
    return total * sheet.mask


def _spots(chart: Chart, texel_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Absorption of moles, spots, scars and patches; some reflect more than the skin around."""
    size = chart.texels
    absorbed = np.zeros((size, size), np.float32)
    row, column = np.mgrid[:size, :size]
    places = np.argwhere(chart.mask.cpu().numpy())
    for _ in range(int(rng.integers(0, 40))):
        y, x = places[rng.integers(len(places))]
        radius = np.exp(rng.uniform(np.log(0.5), np.log(6.0))) / texel_mm
        slim, angle = rng.uniform(0.15, 1.0), rng.uniform(0, np.pi)
        reach = int(2 * radius + 3)
        part = np.s_[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        dx, dy = column[part] - x, row[part] - y
        u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
        v = (np.cos(angle) * dy - np.sin(angle) * dx) / (radius * slim)
        edge = rng.uniform(1.0, 1.0 + radius * slim * texel_mm * 4)
        shape = 1 / (1 + np.exp(np.clip(4 * edge * (np.hypot(u, v) - 1), -30, 30)))
        absorbed[part] += rng.choice([1.0, 1.0, 1.0, -0.5]) * rng.uniform(0.1, 1.2) * shape
    for millimeters in (4.0, 10.0):
        field = gaussian_filter(rng.normal(0, 1, (size, size)), millimeters / texel_mm)
        absorbed += (rng.uniform(0, 0.12) * field / field.std()).astype(np.float32)
    return absorbed * chart.mask.cpu().numpy()
