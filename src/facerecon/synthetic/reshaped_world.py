"""Synthetic faces of shapes that the morphable model does not span."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.camera import split
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.exaggeration import GAINS, Exaggeration
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.world import SyntheticFaces, SyntheticWorld

LENGTHS_MM = (50.0, 220.0)
"""Of the waves that change the whole face's shape."""

SLOPE = 0.13
"""Standard deviation of the slopes of all waves together."""

ROUNDER = (0.0026, 0.001)
"""mm per square mm by which real heads fall off more, across and along the face.

Forehead, cheeks and chin of the mean of ICT-FaceKit's scans turn away from the middle of the face
by 5 to 10 degrees more than those of the default model's mean."""

MIDDLE_MM = -25.0
"""y of the middle of the face."""

_GAIN_WAVES_MM = (80.0, 240.0)
_WAVES = 8
_ASKEW = 2  # of the waves that differ between both sides of the face
_CHUNK = 8


class ReshapedWorld(SyntheticWorld):
    """A `SyntheticWorld` whose faces are moved toward the viewer and back by long waves.

    A network that corrects a morphable model's answers must not take the model's prior for the
    truth: where all faces are the model's, it learns that prior; where they are not, it learns to
    read the shading.

    Args:
        model, config: as of `SyntheticWorld`. rounder: range of the share of `ROUNDER`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: SyntheticConfig | None = None,
        rounder: tuple[float, float] = (-0.5, 1.5),
    ):
        super().__init__(model, config)
        self.rounder = rounder
        self.exaggeration = Exaggeration(model)

    def _parts(
        self, r: Float[Tensor, "batch n"], generator: torch.Generator, color: bool
    ) -> Iterator[SyntheticFaces]:
        vertices = self.model.vertices(split(r, self.model.n_coefficients)[0])
        for part in zip(r.split(_CHUNK), vertices.split(_CHUNK), strict=True):
            nearer = self.reshaping(len(part[0]), generator)
            nearer = nearer + self.exaggeration(
                part[1][..., 2], self.gains(len(part[0]), generator)
            )
            shape = torch.cat([part[1][..., :2], part[1][..., 2:] + nearer[..., None]], dim=2)
            yield self._render(part[0], shape, generator, color)

    def reshaping(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch vertices"]:
        """Random movements toward the viewer in mm, model frame."""
        sampler = Sampler(count, generator)
        x, y = (each[None, None] for each in self.model.mean[:, :2].T)
        low, high = (math.log(length) for length in LENGTHS_MM)
        frequency = 2 * math.pi / sampler.uniform(low, high, _WAVES, 1).exp()
        angle = sampler.uniform(0, math.pi, _WAVES, 1)
        phase = sampler.uniform(0, 2 * math.pi, _WAVES, 1)
        across, along = frequency * angle.cos() * x, frequency * angle.sin() * y + phase
        side = torch.cat([across[:, :_ASKEW].sin(), across[:, _ASKEW:].cos()], dim=1)
        # The mean square of such a wave's slope is a quarter of its frequency's square.
        height = SLOPE * 2 / math.sqrt(_WAVES) / frequency * sampler.normal(_WAVES, 1)
        fall = ROUNDER[0] * x**2 + ROUNDER[1] * (y - MIDDLE_MM) ** 2
        return (height * side * along.cos()).sum(1) - sampler.uniform(*self.rounder, 1) * fall[:, 0]

    def gains(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch 3 vertices"]:
        """Random shares by which each band of the features is deepened, varying over the face."""
        sampler = Sampler(count, generator)
        x, y = self.model.mean[:, :2].T
        low, high = (torch.tensor(ends).to(x)[:, None] for ends in zip(*GAINS, strict=True))
        angle = sampler.uniform(0, 2 * math.pi, 3, 1)
        length = sampler.uniform(*_GAIN_WAVES_MM, 3, 1)
        way = 2 * math.pi / length * (angle.cos() * x + angle.sin() * y)
        wave = 0.5 + 0.5 * (way + sampler.uniform(0, 2 * math.pi, 3, 1)).sin()
        share = torch.lerp(sampler.uniform(0, 1, 3, 1), wave, sampler.uniform(0, 0.7, 1, 1))
        return low + (high - low) * share
