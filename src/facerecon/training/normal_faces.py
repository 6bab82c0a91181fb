"""Rendered faces with known normals, and coarse faces near them, to train NormalNet with."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.camera import POSE_UNITS, join, split
from facerecon.coarsenet import CoarseNet, iterate, step
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.lined_skin import LinedRelief, SpottedTexture
from facerecon.synthetic.reshaped_world import ReshapedWorld
from facerecon.synthetic.sampling import Sampler, mixed_seed
from facerecon.synthetic.studio import turned
from facerecon.synthetic.world import SyntheticWorld

COARSE_SIZE = 200  # of the crops that CoarseNet sees (3.4)
STEEPEST = 0.15
"""Least n_z that counts."""

_FINE_TEXELS_FROM = 280  # pixels of the whole crop
_STATISTICS = 96  # faces that tell how CoarseNet errs


def normals_config(texels: int, variants: int = 6) -> SyntheticConfig:
    """The world as hard as photographs: deep relief, hard light, much that covers the skin."""
    config, fine = SyntheticConfig(size=texels), texels > 256  # the size tells the texels
    return replace(
        config,
        identity_std=1.2,
        detail=replace(
            config.detail,
            variants=variants,
            age_strength=(0.2, 1.2),
            youth_strength=(0.0, 0.7),
        ),
        skin=replace(
            config.skin, p_glasses=0.25, p_sunglasses=0.08, mottling=(0.0, 0.16), p_freckles=0.4
        ),
        hair=replace(config.hair, p_hat=0.08, p_scarf=0.05, p_bald=0.08),
        light=replace(
            config.light,
            ambient=(0.06, 0.5),
            key=(0.25, 1.2),
            p_key=0.92,
            p_shadow=0.8,
            specular=(0.03, 0.4),
        ),
        scene=replace(config.scene, p_occluder=0.12),
        camera=replace(
            config.camera,
            gamma=(0.6, 1.3),
            exposure=(0.22, 0.6),
            blur=(0.5, 2.2) if fine else (0.5, 1.2),
            photon_noise=(0.0, 0.015),
        ),
    )


STROBE = {
    "ambient": (0.0, 0.08), "sky": (0.0, 0.06), "environment_std": 0.03, "second_order_std": 0.02,
    "p_key": 1.0, "key": (0.6, 1.2), "key_azimuth": (-1.4, 1.4), "key_elevation": (-0.5, 1.1),
    "p_fill": 0.15, "fill": (0.02, 0.15), "p_shadow": 1.0,
}  # fmt: skip
"""A single lamp in a dark room."""


class NormalFaces(NamedTuple):
    """Photographs with a coarse face and the true normals.

    start_normals, start_pncc, start_mask: of the coarse face, as of `render`. normals: true ones.
    valid: what both surfaces show and does not turn away.
    """

    image: Float[Tensor, "batch 1 size size"]
    start_normals: Float[Tensor, "batch 3 size size"]
    start_pncc: Float[Tensor, "batch 3 size size"]
    start_mask: Bool[Tensor, "batch 1 size size"]
    normals: Float[Tensor, "batch 3 size size"]
    valid: Bool[Tensor, "batch 1 size size"]


class RenderedFaces(NamedTuple):
    """What a group of faces keeps: its photographs, surfaces, and two starts for each face.

    r, starts: of the whole crops. window: side of the crop in pixels, and the column and row of
    the middle of the part that is shown, from the middle of the crop (x right, y up).
    """

    image: Float[Tensor, "batch 1 size size"]
    normals: Float[Tensor, "batch 3 size size"]
    mask: Bool[Tensor, "batch 1 size size"]
    starts: tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"]]
    crop: int
    middle: Float[Tensor, "batch 2"]


class NormalWorld:
    """An endless stream of groups of faces, each a function of (seed, index).

    A part of each crop is photographed at `window` pixels, so that nothing is rendered in vain:
    of crops of 200 pixels nearly the whole face, of larger ones a piece of it.

    Args:
        coarsenet: whose answers are corrected. seed: of the stream.
        window: pixels of the photographs. p_own: share of the groups that start from CoarseNet's
            answers to their own photographs; the others start from the truth with errors like
            CoarseNet's, as large or up to twice as large.
        p_strobe: share of the groups in the light of a single lamp.
        p_large: share of the crops beyond 200 pixels, up to `largest`.
        variants: maps of each kind of wrinkle.
    """

    def __init__(
        self,
        model: MorphableModel,
        coarsenet: CoarseNet,
        seed: int,
        window: int = 160,
        p_own: float = 0.3,
        p_strobe: float = 0.35,
        p_large: float = 0.45,
        largest: int = 420,
        variants: int = 6,
    ):
        self.model, self.coarsenet = model, coarsenet.eval().requires_grad_(False)
        self.seed, self.window, self.largest = seed, window, largest
        self.p_own, self.p_strobe, self.p_large = p_own, p_strobe, p_large
        self.worlds = {}
        for texels in (256, 512):
            world = ReshapedWorld(model, normals_config(texels, variants))
            more = {"variants": 2 * variants, "seed": seed}
            world.relief = LinedRelief(world.relief, model, world.chart, **more)
            world.texture = SpottedTexture(world.texture, world.relief, world.chart, **more)
            for lamp, other in (("room", turned(world)), ("strobe", turned(world, light=STROBE))):
                self.worlds[texels, lamp] = other
        self.slope, self.errors = self._coarse_errors()

    def _world(self, crop: int, strobe: bool, size: int) -> SyntheticWorld:
        texels = 512 if crop >= _FINE_TEXELS_FROM else 256
        world = self.worlds[texels, "strobe" if strobe else "room"]
        world.config = replace(world.config, size=size)
        return world

    @torch.no_grad()
    def _coarse_errors(self) -> tuple[Float[Tensor, " n"], Float[Tensor, "answers n"]]:
        """How CoarseNet's answers follow the truth (a slope for each number), and what is left."""
        generator = torch.Generator().manual_seed(mixed_seed("errors", self.seed, 0))
        truths, answers = [], []
        for number in range(_STATISTICS // 8):
            world = self._world(COARSE_SIZE, number % 3 == 0, COARSE_SIZE)
            image, r = world.photographs(8, generator)
            steps = iterate(self.coarsenet, self.model, image, 4, both_sides=False)[1:]
            answers += steps
            truths += [r] * len(steps)
        truth, answer = torch.cat(truths), torch.cat(answers)
        n = self.model.n_coefficients
        slope = (truth * answer).mean(0) / truth.square().mean(0).clamp(min=1e-6)
        slope = slope.clamp(0, 1)
        slope[n:] = 1
        return slope, answer - slope * truth

    @torch.no_grad()
    def group(self, index: int, count: int, stream: str = "normals") -> RenderedFaces:
        """The index-th group of a named stream."""
        generator = torch.Generator().manual_seed(mixed_seed(stream, self.seed, index))
        own, strobe, large, zoom = torch.rand(4, generator=generator).tolist()
        own, strobe = own < self.p_own, strobe < self.p_strobe
        crop = COARSE_SIZE
        if not own and large < self.p_large:
            crop = 4 * round(COARSE_SIZE / 4 * (self.largest / COARSE_SIZE) ** zoom)
        world = self._world(crop, strobe, COARSE_SIZE if own else self.window)
        r = world.sample(count, generator)
        middle = self._middle(r, crop, generator)
        if own:
            faces = world.render(count, generator, r)
            starts = self._answers(faces.image, r, generator)
            maps = faces.image, faces.fine_normals, faces.rendering.mask
            image, normals, mask = (self._cut(each, middle) for each in maps)
        else:
            faces = world.render(count, generator, zoomed(self.model, r, crop, self.window, middle))
            starts = self._near(r, generator), self._near(r, generator)
            image, normals, mask = faces.image, faces.fine_normals, faces.rendering.mask
        return RenderedFaces(image, normals, mask, starts, crop, middle)

    def _middle(self, r: Tensor, crop: int, generator: torch.Generator) -> Tensor:
        """Where to look: on the face, within the crop, at whole pixels."""
        sampler, limit = Sampler(len(r), generator), (crop - self.window) // 2
        pose = split(r, self.model.n_coefficients)[1] * POSE_UNITS.to(r)
        reach = 0.3 * crop * pose[:, 5:].exp() * sampler.uniform(-1, 1, 2)
        return (crop * pose[:, 3:5] + reach).clamp(-limit, limit).round()

    def _cut(self, maps: Tensor, middle: Tensor) -> Tensor:
        corner = (maps.shape[-1] - self.window) // 2
        return torch.stack(
            [
                each[
                    :, corner - y : corner - y + self.window, corner + x : corner + x + self.window
                ]
                for each, (x, y) in zip(maps, middle.int().tolist(), strict=True)
            ]
        )

    def _answers(self, image: Tensor, r: Tensor, generator: torch.Generator) -> tuple:
        """CoarseNet's answer from afar or from near the truth, and its next one."""
        sampler = Sampler(len(r), generator)
        start = self._near(r, generator)
        start = torch.where(sampler.chance(0.3, 1), torch.zeros_like(start), start)
        first = step(self.coarsenet, self.model, image, start, both_sides=False)
        return first, step(self.coarsenet, self.model, image, first, both_sides=False)

    def _near(self, r: Tensor, generator: torch.Generator) -> Tensor:
        """The truth with errors such as CoarseNet makes."""
        sampler, n = Sampler(len(r), generator), self.model.n_coefficients
        shape = self.errors[sampler.choice(len(self.errors))][:, :n] * sampler.uniform(0.8, 2.0, 1)
        pose = self.errors[sampler.choice(len(self.errors))][:, n:] * sampler.uniform(0.5, 1.5, 1)
        return self.slope * r + join(shape, pose)

    @torch.no_grad()
    def start(self, faces: RenderedFaces, which: int) -> NormalFaces:
        """A group's faces with the first (0) or the second (1) start."""
        r = faces.starts[which]
        seen = render(
            self.model, zoomed(self.model, r, faces.crop, self.window, faces.middle), self.window
        )
        facing = (faces.normals[:, 2:] > STEEPEST) & (seen.normals[:, 2:] > STEEPEST)
        valid = faces.mask & seen.mask & facing
        return NormalFaces(faces.image, seen.normals, seen.pncc, seen.mask, faces.normals, valid)


def zoomed(
    model: MorphableModel,
    r: Float[Tensor, "batch n"],
    crop: int,
    window: int,
    middle: Float[Tensor, "batch 2"],
) -> Float[Tensor, "batch n"]:
    """r of the same faces for a window of their crop.

    Args:
        crop, window: sides in pixels. middle: of the window, in pixels from the middle of the
            crop, x to the right and y up.
    """
    coefficients, pose = split(r, model.n_coefficients)
    units = POSE_UNITS.to(pose)
    physical = pose * units
    moved = (crop * physical[:, 3:5] - middle) / window
    scaled = physical[:, 5:] + math.log(crop / window)
    return join(coefficients, torch.cat([physical[:, :3], moved, scaled], dim=1) / units)


def mirrored_faces(faces: NormalFaces) -> NormalFaces:
    """The mirrored faces: the normals' x changes its sign, PNCC's x becomes 1 - x."""
    flipped = NormalFaces(*(each.flip(3) for each in faces))
    sign = flipped.normals.new_tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1)
    pncc = flipped.start_pncc.clone()
    pncc[:, :1] = torch.where(flipped.start_mask, 1 - pncc[:, :1], 0)
    return flipped._replace(
        normals=flipped.normals * sign,
        start_normals=flipped.start_normals * sign,
        start_pncc=pncc,
    )
