"""Synthetic photographs with known geometry and pose (3.2.2) and intermediate estimates (Eq. 3)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon import photography
from facerecon.camera import POSE_UNITS, join, pose_parameters, project, split
from facerecon.config import SyntheticConfig
from facerecon.lighting import LUMA, sh_basis
from facerecon.rasterize import interpolate
from facerecon.render import Rendering, render
from facerecon.skin import Skin


class SyntheticFaces(NamedTuple):
    """A batch of labelled photographs."""

    image: Tensor  # (B, 1, S, S) grey, [0, 1]
    r: Tensor  # (B, 290) ground truth, r_gt
    rendering: Rendering  # of r_gt
    albedo: Tensor  # (B, C, S, S) albedo map, zero outside the face
    light: Tensor  # (B, 9) second-order environment light, before the directional lights


def intermediate(
    r_gt: Float[Tensor, "batch n"],
    r_random: Float[Tensor, "batch n"],
    beta: Float[Tensor, "batch 1"],
) -> Float[Tensor, "batch n"]:
    """An estimate between the truth and chance, `beta * r_gt + (1 - beta) * r_random`.

    Source: Eq. (3).
    """
    return beta * r_gt + (1 - beta) * r_random


def sample_pose(
    config: SyntheticConfig, count: int, generator: torch.Generator
) -> Float[Tensor, "batch 6"]:
    """Poses in pose units; half of them near frontal, half up to the yaw limit."""
    draw = photography.Draw(count, generator)

    def normal(std: float, limit: float, mean: float = 0.0) -> Tensor:
        return (mean + std * draw.normal(1)).clamp(-limit, limit)

    wide = draw.uniform(-config.yaw_limit, config.yaw_limit, 1)
    near = normal(config.yaw_frontal_std, config.yaw_limit)
    yaw = torch.where(draw.uniform(0, 1, 1) < config.p_frontal, near, wide)
    pose = torch.cat(
        [
            normal(config.pitch_std, config.pitch_limit),
            yaw,
            normal(config.roll_std, config.roll_limit),
            normal(config.shift_std, config.shift_limit),
            normal(config.shift_std, config.shift_limit),
            normal(config.log_scale_std, config.log_scale_limit, config.log_scale_mean),
        ],
        dim=1,
    )
    return pose / POSE_UNITS.to(pose)


def sample_representation(
    model: nn.Module, config: SyntheticConfig, count: int, generator: torch.Generator
) -> Float[Tensor, "batch n"]:
    """Random geometry and pose, r_gt or r_rnd."""
    coefficients = model.sample(count, generator)
    coefficients[:, : model.n_identity] *= config.identity_std
    return join(coefficients, sample_pose(config, count, generator))


class SyntheticWorld(nn.Module):
    """Draws labelled photographs of faces of a morphable model.

    Args:
        model: MorphableModel; config: SyntheticConfig. Everything runs on the model's device.
    """

    def __init__(self, model: nn.Module, config: SyntheticConfig | None = None):
        super().__init__()
        self.model, self.config = model, config or SyntheticConfig()
        self.skin = Skin(model)

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the model's device; the same seed gives the same faces on one device."""
        return torch.Generator(device=self.model.mean.device).manual_seed(seed)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch n"]:
        """Random representations (B, 290)."""
        return sample_representation(self.model, self.config, count, generator)

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        r: Float[Tensor, "batch n"] | None = None,
        colour: bool = False,
    ) -> SyntheticFaces:
        """Photograph `count` random faces, or the given ones.

        Args:
            r: representations (B, 290) to photograph instead of random ones.
            colour: return an RGB image and albedo instead of grey ones (figures; grey is faster).
        """
        if r is None:
            r = self.sample(count, generator)
        rendering = render(self.model, r, self.config.size)
        albedo = self.skin.sample(count, generator)
        if not colour:
            albedo = albedo @ albedo.new_tensor(LUMA)[:, None]
        albedo_map = interpolate(albedo, rendering.fragments, self.model.triangles)
        light = self._environment(count, generator)
        face = self._shade(albedo_map, light, rendering, generator)
        return SyntheticFaces(
            self._photograph(face, rendering, r, generator), r, rendering, albedo_map, light
        )

    def feedback(
        self,
        r_gt: Float[Tensor, "batch n"],
        generator: torch.Generator,
        p_zero_start: float = 0.0,
    ) -> Float[Tensor, "batch n"]:
        """r_t for a batch: Eq. (3) with beta uniform in [0, 1], or the zero start of 3.4."""
        draw = photography.Draw(len(r_gt), generator)
        r_random = self.sample(len(r_gt), generator)
        r_t = intermediate(r_gt, r_random, draw.uniform(0, 1, 1))
        return torch.where(draw.uniform(0, 1, 1) < p_zero_start, torch.zeros_like(r_t), r_t)

    def _environment(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch 9"]:
        draw = photography.Draw(count, generator)
        return torch.cat(
            [draw.uniform(0.1, 0.7, 1), 0.18 * draw.normal(3), 0.09 * draw.normal(5)], dim=1
        )

    def _shade(
        self, albedo: Tensor, light: Tensor, rendering: Rendering, generator: torch.Generator
    ) -> Tensor:
        """Lambertian under an environment and one or two lamps, plus a Blinn-Phong highlight."""
        config, normals = self.config, rendering.normals
        draw = photography.Draw(len(albedo), generator)
        shading = torch.einsum("bk,bkhw->bhw", light, sh_basis(normals, order=2))[:, None]
        shading = shading.clamp(min=0.02)
        key = _direction(draw.uniform(-1.5, 1.5, 1), draw.uniform(-0.5, 1.3, 1))
        fill = _direction(draw.uniform(-2.0, 2.0, 1), draw.uniform(-1.0, 1.3, 1))
        shading = shading + draw.uniform(0, 1.1) * draw.chance(0.85) * _lambert(normals, key)
        shading = shading + draw.uniform(0, 0.5) * draw.chance(config.p_fill_light) * _lambert(
            normals, fill
        )
        half = key + key.new_tensor([0.0, 0.0, 1.0])  # the viewer is at +z
        half = half / half.norm(dim=1, keepdim=True).clamp(min=1e-6)
        gloss = _lambert(normals, half).clamp(min=1e-6) ** draw.uniform(4, 45)
        strength = draw.uniform(0, 0.28) * draw.chance(config.p_specular)
        return albedo * shading + strength * gloss * rendering.mask

    def _photograph(
        self, face: Tensor, rendering: Rendering, r: Tensor, generator: torch.Generator
    ) -> Tensor:
        config, count = self.config, len(face)
        draw = photography.Draw(count, generator)
        pose = split(r, self.model.n_coefficients)[1]
        around = torch.tensor([[0.0, 45.0, -60.0], [0.0, -110.0, -40.0]], device=r.device)
        head, shoulders = project(around.expand(count, 2, 3), pose, config.size)[..., :2].unbind(1)
        behind = photography.background(draw, config.size)
        behind = photography.person(
            draw,
            behind,
            head,
            shoulders + draw.uniform(-20, 20, 2),
            pose_parameters(pose, config.size).scale,
            config.p_hair_behind,
            config.p_clothes,
        )
        picture = torch.where(rendering.mask, face, behind)
        picture = photography.occlude(draw, picture, config.p_occluder)
        picture = photography.expose(draw, picture, rendering.mask, config.p_auto_exposure)
        if picture.shape[1] > 1:  # the camera below works on one channel
            return picture.clamp(0, 1)
        picture = photography.blur(draw, picture, config.p_blur)
        picture = photography.lower_resolution(draw, picture, config.p_low_resolution)
        picture = photography.add_noise(draw, picture, config.p_noise)
        return photography.jpeg(draw, picture.clamp(0, 1), config.p_jpeg).clamp(0, 1)


def _direction(azimuth: Tensor, elevation: Tensor) -> Float[Tensor, "batch 3"]:
    """Unit vector in the camera frame; azimuth 0 comes from the viewer, elevation is upward."""
    cos = torch.cos(elevation)
    return torch.cat(
        [torch.sin(azimuth) * cos, torch.sin(elevation), torch.cos(azimuth) * cos], dim=1
    )


def _lambert(normals: Tensor, direction: Tensor) -> Tensor:
    return torch.einsum("bchw,bc->bhw", normals, direction)[:, None].clamp(min=0)
