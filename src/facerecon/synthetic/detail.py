"""Synthetic faces with wrinkles, to supervise FineNet with: what section 4.3 argues against."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.appearance import FaceMaps, model_maps
from facerecon.camera import join, split
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.sampling import Sampler, mixed_seed
from facerecon.synthetic.world import SyntheticWorld
from facerecon.synthetic.wrinkles import raised

MIN_NORMAL_Z = 0.3
"""Steeper surface is not compared."""


class DetailSample(NamedTuple):
    """Photographs, a coarse surface to start from, and that surface with the face's wrinkles.

    The goal is not the true surface: errors of the start over centimeters cannot be seen in small
    details, and learning to guess them would hide the wrinkles. depth, normals: of the
    goal; the normals are free of facets. valid: what both surfaces show and faces the camera, eyes
    and lips too: there, nothing is to be added.
    """

    image: Float[Tensor, "batch 1 size size"]
    start: FaceMaps
    depth: Float[Tensor, "batch 1 size size"]
    normals: Float[Tensor, "batch 3 size size"]
    valid: Bool[Tensor, "batch 1 size size"]


def detail_config(size: int, strength: tuple[float, float], bare: bool = False) -> SyntheticConfig:
    """The training world, of wrinkled people of any age seen in weak perspective, Eq. (2).

    Args:
        size: pixels of the crop. strength: range of the wrinkles' depth, as a share of the deepest.
        bare: sharp photographs of skin that nothing covers: no hair, beard, glasses or hands.
    """
    config = SyntheticConfig(size=size)
    config = replace(
        config,
        pose=replace(config.pose, p_perspective=0.0),
        detail=replace(config.detail, age_strength=strength, youth_strength=strength),
    )
    if not bare:
        return config
    return replace(
        config,
        hair=replace(config.hair, p_bald=1.0, p_hat=0.0),
        skin=replace(config.skin, p_glasses=0.0, p_beard=0.0, p_moustache=0.0),
        scene=replace(config.scene, p_occluder=0.0),
        camera=replace(config.camera, p_low_resolution=0.0, p_motion=0.0),
    )


class SyntheticDetail:
    """An endless stream of `DetailSample`, each a function of (seed, index).

    Args:
        seed: of the stream. size: pixels of the crops.
        true_start: share of the faces whose coarse surface is the true one without wrinkles; the
            others start from a wrong face near it, as CoarseNet's are.
        spread: of those, in standard deviations of the coefficients.
        pose_spread: the same, in pose units.
    """

    def __init__(
        self,
        model: MorphableModel,
        seed: int,
        size: int = 200,
        true_start: float = 0.5,
        spread: float = 0.5,
        pose_spread: float = 0.06,
    ):
        self.model, self.seed, self.size = model, seed, size
        self.true_start, self.spread, self.pose_spread = true_start, spread, pose_spread
        self.world = SyntheticWorld(model, detail_config(size, (0.2, 1.0)))
        self._last: tuple[tuple, DetailSample] | None = None

    def batch(self, index: int, count: int, stream: str = "detail") -> DetailSample:
        """The index-th batch of a named stream; the last one is kept."""
        key = (stream, index, count)
        if self._last is None or self._last[0] != key:
            self._last = key, self._render(index, count, stream)
        return self._last[1]

    @torch.no_grad()
    def _render(self, index: int, count: int, stream: str) -> DetailSample:
        generator = self.world.generator(mixed_seed(stream, self.seed, index))
        r = self.world.sample(count, generator)
        faces = self.world.render(count, generator, r)
        sampler = Sampler(count, generator)
        coefficients, pose = split(r, self.model.n_coefficients)
        near = join(
            coefficients + self.spread * sampler.normal(coefficients.shape[1]),
            pose + self.pose_spread * sampler.normal(pose.shape[1]),
        )
        exact = sampler.uniform(0, 1, 1) < self.true_start
        r = torch.where(exact, r, near)
        start = model_maps(self.model, r, self.size)
        normals = render(self.model, r, self.size).normals
        rise = faces.fine_depth - faces.rendering.depth
        goal = raised(start.depth, normals, start.mask, rise, start.mm_per_pixel)
        valid = start.mask & faces.rendering.mask & (normals[:, 2:] > MIN_NORMAL_Z)
        return DetailSample(faces.image, start, goal.depth, goal.normals, valid)
