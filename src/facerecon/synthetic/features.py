"""Details finer than the mesh, painted per pixel: eyes, teeth and glasses.

Eyes and glasses are painted where a pixel lies on the mean face, teeth where it lies in the head:
teeth do not stretch when the mouth opens.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments
from facerecon.synthetic.config import SkinConfig
from facerecon.synthetic.illumination import Light
from facerecon.synthetic.sampling import Sampler

_BROWN, _HAZEL, _BLUE = (0.20, 0.11, 0.06), (0.36, 0.28, 0.14), (0.36, 0.47, 0.58)
_TOOTH = 7.5  # mm, width


class _Pixels(NamedTuple):
    """Some pixels of a batch of maps, as a list."""

    index: Int[Tensor, " n"]  # into batch x height x width
    item: Int[Tensor, " n"]  # of the batch
    shape: tuple[int, int, int]

    @classmethod
    def where(cls, chosen: Tensor) -> "_Pixels":
        """The pixels at which a map (B, H, W) is True."""
        index = chosen.flatten().nonzero().squeeze(1)
        return cls(index, index // (chosen.shape[1] * chosen.shape[2]), tuple(chosen.shape))

    def take(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (N, C)."""
        return torch.stack([channel.reshape(-1)[self.index] for channel in maps.unbind(1)], 1)

    def put(self, maps: Tensor, values: Tensor) -> Tensor:
        """Maps with (N, C) values at these pixels."""
        flat = maps.permute(1, 0, 2, 3).flatten(1).index_copy(1, self.index, values.T)
        return flat.view(maps.shape[1], *self.shape).transpose(0, 1)


class Features(nn.Module):
    """Eyes, teeth and glasses of a model's faces.

    Args:
        model: MorphableModel (regions, landmarks). config: SkinConfig.
    """

    def __init__(self, model: MorphableModel, config: SkinConfig):
        super().__init__()
        self.config = config
        regions = model.regions
        eye = (regions["eye_left"] + regions["eye_right"] > 0.5).to(torch.uint8)
        mouth = (regions["mouth_interior"] > 0.5).to(torch.uint8)
        corners = model.triangles
        part = eye[corners].amin(1) + 2 * mouth[corners].amin(1)
        self.register_buffer("part", part)  # of each triangle: 0 skin, 1 eye, 2 mouth
        self.register_buffer("triangles", corners.clone())
        low, high = model.mean.amin(0), model.mean.amax(0)
        self.register_buffer("low", low)
        self.register_buffer("extent", high - low)
        landmarks = model.mean[model.landmarks]
        self.register_buffer("eye", landmarks[42:48].mean(0))  # the left one; x mirrored: the other
        self.lip_line = float(landmarks[[61, 62, 63, 65, 66, 67], 1].mean())
        self.register_buffer("landmarks", model.landmarks.clone())
        self.chin_y = float(landmarks[8, 1])

    def paint(
        self,
        albedo: Float[Tensor, "batch channels height width"],
        fragments: Fragments,
        pncc: Float[Tensor, "batch 3 height width"],
        vertices: Float[Tensor, "batch vertices 3"],
        rotation: Float[Tensor, "batch 3 3"],
        light: Light,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Albedo with eyes, teeth and glasses in it, and the highlights on the eyes (one channel).

        Args:
            vertices: of the faces, model frame. rotation: model to camera frame.
        """
        sampler, config = Sampler(len(albedo), generator), self.config
        part = torch.where(fragments.triangle >= 0, self.part[fragments.triangle.clamp(min=0)], 0)
        eyes = self._sample_eyes(sampler)
        teeth = (
            sampler.uniform(*config.teeth, 1),
            sampler.uniform(0.1, 0.5, 1),
            sampler.uniform(-2, 4, 1),
        )
        glasses = self._sample_glasses(sampler)
        albedo, glint = self._eyes(albedo, _Pixels.where(part == 1), pncc, eyes, rotation, light)
        albedo = self._mouth(albedo, _Pixels.where(part == 2), fragments, vertices, teeth)
        return self._glasses(albedo, pncc, fragments.mask, glasses), glint

    def _color(self, like: Tensor, *rgb: float) -> Tensor:
        color = like.new_tensor(rgb)
        return (
            color if like.shape[1] == 3 else (color @ color.new_tensor([0.299, 0.587, 0.114]))[None]
        )

    def _sample_eyes(self, sampler: Sampler) -> Tensor:
        """(B, 10): gaze x, y, radii of iris and pupil, sclera, brown to blue, and so on."""
        c = self.config
        return torch.cat(
            [
                sampler.uniform(*c.gaze, 1), sampler.uniform(-1.2, 1.2, 1),
                sampler.uniform(*c.iris_radius, 1), sampler.uniform(*c.pupil_radius, 1),
                sampler.uniform(*c.sclera, 1), sampler.uniform(-0.9, 1.0, 1).clamp(min=0),
                sampler.uniform(0.5, 1.0, 1), sampler.uniform(0.25, 0.6, 1),
                sampler.uniform(0, 7, 1), sampler.uniform(0.3, 1.0, 1),
            ],
            dim=1,
        )  # fmt: skip

    def _eyes(self, albedo, pixels, pncc, eyes, rotation, light) -> tuple[Tensor, Tensor]:
        glint = torch.zeros_like(albedo[:, :1])
        if not len(pixels.index):
            return albedo, glint
        gaze_x, gaze_y, radius, pupil_radius, sclera, blue, bright, lid, seed, shine = eyes[
            pixels.item
        ].unbind(1)
        x, y, _ = (pixels.take(pncc) * self.extent + self.low).unbind(1)
        dx = x - torch.where(x > 0, self.eye[0], -self.eye[0]) - gaze_x
        dy = y - self.eye[1] - gaze_y
        distance = torch.hypot(dx, dy)
        angle = torch.atan2(dy, dx)
        iris = torch.sigmoid((radius - distance) / 0.25)
        pupil = torch.sigmoid((pupil_radius - distance) / 0.2)
        fibres = torch.sin(17 * angle + seed) * torch.sin(29 * angle + 2 * seed)
        rim = torch.exp(-(((distance - radius) / 0.9) ** 2))
        brown, hazel, pale = (self._color(albedo, *c) for c in (_BROWN, _HAZEL, _BLUE))
        mix = blue[:, None]
        color = torch.where(
            mix < 0.5, torch.lerp(brown, hazel, 2 * mix), torch.lerp(hazel, pale, 2 * mix - 1)
        )
        ring = (0.75 + 0.35 * (1 - distance / radius) + 0.15 * fibres) * (1 - 0.55 * rim)
        color = color * (ring * bright)[:, None] * (1 - pupil[:, None]) + 0.015 * pupil[:, None]
        # Redder toward the corners, darker under the upper lid and at the sides of the ball.
        corner = ((x.abs() - self.eye[0]).abs() / 13).clamp(max=1) ** 3
        white = self._color(albedo, 1.0, 0.95, 0.92) * sclera[:, None]
        white = torch.lerp(white, self._color(albedo, 0.72, 0.42, 0.38), 0.6 * corner[:, None])
        eye = torch.lerp(white, color, iris[:, None])
        shade = 1 - lid * torch.sigmoid((y - self.eye[1] - 2.2) / 0.9)
        shade = shade * (1 - 0.35 * corner)
        albedo = pixels.put(albedo, eye * shade[:, None])
        # The cornea is a small sphere of its own; it mirrors the key lamp near its middle.
        bump = torch.stack([dx, dy], 1) / 9.0
        facing = (1 - bump.square().sum(1)).clamp(min=0.05).sqrt()
        normal = torch.einsum(
            "nij,nj->ni", rotation[pixels.item], torch.cat([bump, facing[:, None]], 1)
        )
        half = light.key_direction + light.key_direction.new_tensor([0.0, 0.0, 1.0])
        half = functional.normalize(half, dim=1, eps=1e-6)[pixels.item]
        away = (1 - (functional.normalize(normal, dim=1) * half).sum(1)).clamp(min=0)
        spot = torch.sigmoid((0.012 - away) * 600) * shine * (light.key.mean(1) > 0)[pixels.item]
        return albedo, pixels.put(glint, spot[:, None])

    def _mouth(self, albedo, pixels, fragments, vertices, teeth) -> Tensor:
        if not len(pixels.index):
            return albedo
        white, dark, edge = (value[pixels.item, 0] for value in teeth)
        corner = self.triangles[fragments.triangle.flatten()[pixels.index]]
        weight = fragments.barycentric.flatten(0, 2)[pixels.index]
        flat = vertices.flatten(0, 1)
        first = (pixels.item * vertices.shape[1])[:, None] + corner
        x, y, _ = (flat[first] * weight[..., None]).sum(1).unbind(1)
        drop = (self.chin_y - vertices[:, self.landmarks[8], 1]).clamp(min=0)[pixels.item]
        middle = vertices[:, self.landmarks[[48, 54]], 0].mean(1)[pixels.item]
        x = x - middle
        arch = 0.004 * x.square()
        upper = torch.sigmoid((y - (self.lip_line - 4.5 + edge + arch)) / 0.5)
        lower = torch.sigmoid((self.lip_line - 5.5 - drop - 0.5 * arch - y) / 0.5)
        gap = torch.cos(2 * torch.pi * x / _TOOTH)
        tooth = white * (1 - 0.35 * torch.sigmoid((gap - 0.93) * 40)) * (1 - (x.abs() / 42) ** 2)
        tooth = self._color(albedo, 1.0, 0.96, 0.88) * tooth.clamp(min=0)[:, None]
        # Dark toward the throat, the tongue below.
        tongue = torch.sigmoid((self.lip_line - 8 - 0.6 * drop - y) / 3)[:, None]
        inside = self._color(albedo, 0.30, 0.10, 0.09) * dark[:, None]
        inside = torch.lerp(inside, self._color(albedo, 0.55, 0.25, 0.24), 0.7 * tongue)
        color = torch.lerp(inside, tooth, torch.maximum(upper, 0.8 * lower)[:, None])
        return pixels.put(albedo, color.clamp(0.01, 1))

    def _sample_glasses(self, sampler: Sampler) -> Tensor:
        """(B, 9): wears them, half axes, center, roundness, width and darkness of frame, lens."""
        c = self.config
        sun = sampler.chance(c.p_sunglasses, 1)
        tint = torch.where(sun, sampler.uniform(0.75, 0.95, 1), sampler.uniform(*c.lens_tint, 1))
        return torch.cat(
            [
                sampler.chance(c.p_glasses, 1).float(), sampler.uniform(20, 27, 1),
                sampler.uniform(15, 22, 1), sampler.uniform(-2, 3, 1), sampler.uniform(-5, 1, 1),
                sampler.uniform(2, 5, 1), sampler.uniform(*c.frame_width, 1),
                sampler.uniform(0.02, 0.5, 1), tint,
            ],
            dim=1,
        )  # fmt: skip

    def _glasses(self, albedo, pncc, mask, glasses) -> Tensor:
        worn = (glasses[:, 0] > 0).nonzero().squeeze(1)
        if not len(worn):
            return albedo
        _, wide, high, shift, lift, power, rim, dark, tint = glasses[worn, :, None, None].unbind(1)
        position = pncc[worn] * self.extent[:, None, None] + self.low[:, None, None]
        x, y, z = position.unbind(1)
        side = x.abs()
        u = (side - self.eye[0] - shift).abs() / wide
        v = (y - self.eye[1] - lift).abs() / high
        radius = (u.clamp(min=1e-3) ** power + v.clamp(min=1e-3) ** power) ** (1 / power)
        distance = (radius - 1) * (wide + high) / 2
        front = z > -35
        frame = torch.sigmoid((rim - distance.abs()) / 0.35) * front
        bridge = ((y - self.eye[1] - lift - 4).abs() - rim).maximum(side - 12)
        frame = torch.maximum(frame, torch.sigmoid(-bridge / 0.35) * front)
        arm = ((y - self.eye[1] - lift - 5).abs() - 1.2 * rim).maximum(
            self.eye[0] + shift + wide - side
        )
        frame = torch.maximum(frame, torch.sigmoid(-arm / 0.35) * (z > -85))
        lens = torch.sigmoid(-distance / 0.35) * front * tint
        seen = mask[worn]
        lens, frame = lens[:, None] * seen, frame[:, None] * seen
        painted = torch.lerp(
            albedo[worn] * (1 - lens), dark[:, None].expand_as(albedo[worn]), frame
        )
        return albedo.index_copy(0, worn, painted)
