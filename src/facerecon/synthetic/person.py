"""What surrounds the face of a morphable model: skull, neck, shoulders, hair and hats.

The model ends at the forehead, behind the ears and at the throat; photographs do not. A `Person`
adds two coarse surfaces that follow the pose and proportions of each face: the body (skull, neck,
shoulders, and the inner side of long hair behind them), and a shell of hair or a hat around the
skull, whose edge is cut out per pixel along a hairline and frayed into strands.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from facerecon.camera import POSE_UNITS, in_perspective, rotation_matrix, to_pixels
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate, rasterize
from facerecon.synthetic import person_shapes as shapes
from facerecon.synthetic.config import HairConfig
from facerecon.synthetic.hair_style import N_WAVES, Style, sample_style

_JOINT = (0.0, -60.0, -85.0)  # head and body turn against each other here
_TOLERANCE = 14.0  # mm that hair may lie behind the forehead's skin and still cover it
_ARC = 80.0  # mm, radius of the head along the hairline


class Layer(NamedTuple):
    """A rendered surface. shade-less: `albedo` and `normals` still have to be lit."""

    alpha: Float[Tensor, "batch 1 size size"]
    albedo: Float[Tensor, "batch channels size size"]
    normals: Float[Tensor, "batch 3 size size"]
    gloss: Float[Tensor, "batch 1 size size"]


class Person(nn.Module):
    """Skull, neck, shoulders and hair around a model's face.

    Args:
        model: its landmarks say how large a face is. config: of the hair.
    """

    def __init__(self, model: MorphableModel, config: HairConfig):
        super().__init__()
        self.config = config
        self.register_buffer("landmarks", model.landmarks.clone())
        self.register_buffer("mean_landmarks", model.mean[model.landmarks])
        self.eyes = float(self.mean_landmarks[36:48, 1].mean())  # height
        points, azimuth, row, grid = shapes.shell()
        body, body_triangles, clothed = shapes.body()
        self.register_buffer("shell", points)
        self.register_buffer("azimuth", azimuth)
        self.register_buffer("row", row)
        self.columns = int((row == 1).sum())
        growth, hanging = shapes.growth()
        self.register_buffer("growth", growth)
        self.register_buffer("hanging", hanging)
        self.register_buffer("shell_triangles", grid)
        self.register_buffer("body", body)
        self.register_buffer("clothed", clothed)
        inner = grid.flip(1) + len(body)
        self.register_buffer("body_triangles", torch.cat([body_triangles, inner]))
        fixed = torch.Generator().manual_seed(0)
        turns = torch.randint(-4, 5, (N_WAVES, 1), generator=fixed)
        pace = 4 * torch.randn(N_WAVES, 1, generator=fixed)
        phase = 2 * math.pi * torch.rand(N_WAVES, 1, generator=fixed)
        waves = torch.cos(turns * azimuth + pace * row + phase) * math.sqrt(2 / N_WAVES)
        self.register_buffer("waves", waves)
        self.register_buffer("strands", shapes.strand_tables(np.random.default_rng(0)))
        self.to(model.mean.device)

    def style(
        self, hair_color: Float[Tensor, "batch channels"], generator: torch.Generator
    ) -> Style:
        """Sample a style for every face; hair_color is that of the brows."""
        return sample_style(self.config, self.eyes, hair_color, generator)

    def place(
        self,
        points: Float[Tensor, "batch points 3"],
        vertices: Float[Tensor, "batch vertices 3"],
    ) -> Float[Tensor, "batch points 3"]:
        """Move points of the mean head to where they are on these faces (model frame, mm)."""
        found, mean = vertices[:, self.landmarks], self.mean_landmarks
        width = (found[:, 16, 0] - found[:, 0, 0]) / (mean[16, 0] - mean[0, 0])
        brow, chin = found[:, 17:27, 1].mean(1), found[:, 8, 1]
        height = (found[:, 27, 1] - chin) / (mean[27, 1] - mean[8, 1])
        height = 0.5 + 0.5 * height.clamp(0.7, 1.3)  # half: an open mouth also lowers the chin
        origin = torch.stack(
            [
                (found[:, 0, 0] + found[:, 16, 0]) / 2,
                brow - mean[17:27, 1].mean(),
                found[:, 27, 2] - mean[27, 2],
            ],
            dim=1,
        )
        scale = torch.stack([width, height, (width + height) / 2], dim=1)
        return points * scale[:, None] + origin[:, None]

    def render(
        self,
        style: Style,
        vertices: Float[Tensor, "batch vertices 3"],
        pose: Float[Tensor, "batch 6"],
        distance: Float[Tensor, " batch"],
        size: int,
        skin: Float[Tensor, "batch channels"],
        cloth: Float[Tensor, "batch channels"],
        nearest: Float[Tensor, "batch 1 size size"],
        body_turn: Float[Tensor, "batch 1"],
    ) -> tuple[Layer, Layer]:
        """The body (opaque, behind the face) and the hair (partly transparent, in front of it).

        Args:
            vertices: of the faces, model frame, mm. pose: in pose units.
            distance: of the camera, mm.
            skin, cloth: colors of neck and shoulders.
            nearest: depth of the face in mm, -inf where there is none.
            body_turn: share of the head's angles that the shoulders follow.
        """
        count = len(pose)
        above = self._above(style)
        shell = self._shape(style, above)
        angles = pose[:, :3] * POSE_UNITS[:3].to(pose)
        rotation = rotation_matrix(angles)
        hair = self.place(shell, vertices) @ rotation.mT
        body = self.place(self.body.expand(count, -1, -1), vertices)
        joint = self.place(self.body.new_tensor(_JOINT).expand(count, 1, 3), vertices)
        turned = rotation_matrix(angles * body_turn)
        stays = torch.sigmoid((self.body[:, 1:2] + 105) / 14)  # 1: goes with the head
        body = (
            joint @ rotation.mT
            + (body - joint) @ rotation.mT * stays
            + ((body - joint) @ turned.mT) * (1 - stays)
        )
        behind = torch.cat([body, hair], 1)
        fields = self._body_fields(style)
        back = self._layer(behind, self.body_triangles, pose, distance, size, fields)
        fields = torch.cat([self._hair_fields(style, above), hair[..., 2:]], dim=2)
        front = self._layer(hair, self.shell_triangles, pose, distance, size, fields)
        return self._dress(back, style, skin, cloth), self._cut(front, style, nearest)

    def _above(self, style: Style) -> Float[Tensor, "batch points"]:
        """Distance of the shell's points from the line where hair ends; < 0: no hair."""
        azimuth = self.azimuth[: self.columns]
        angle = azimuth.abs()
        line = style.front + style.recess * torch.sin(2.4 * angle.clamp(max=1.3))
        line = line + style.part * torch.sin(azimuth)
        # Down the temple, then to the sideburn in front of the ear, or at once with long hair.
        temple = torch.maximum(style.side, 0.4 * style.front + 0.6 * self.eyes)
        line = torch.lerp(line, temple.expand_as(line), _rise(angle, style.temple - 0.5, 0.5))
        width = torch.where(style.side < -60, 0.15, (1.45 - style.temple).clamp(min=0.15))
        line = torch.lerp(line, style.side.expand_as(line), _rise(angle, style.temple, width))
        # Short hair leaves the ears free.
        ear = torch.exp(-(((angle - 1.62) / 0.26) ** 2)) * ((style.side > -60) & (style.side < 30))
        backward = ((angle - 1.75) / 0.3).clamp(0, 1)
        line = torch.lerp(line, style.back.expand_as(line), backward) + 38 * ear
        line = line + 2.5 * style.lumps @ self.waves[:, : self.columns]
        slope = functional.pad(line[:, 2:] - line[:, :-2], (1, 1), mode="replicate")
        slope = slope / (2 * _ARC * 2 * math.pi / (self.columns - 1))
        above = self.shell[:, 1].view(-1, self.columns) - line[:, None]
        return (above * (1 + slope.square()).rsqrt()[:, None]).flatten(1)

    def _shape(self, style: Style, above: Tensor) -> Float[Tensor, "batch points 3"]:
        """The hair's shell in the mean head's frame."""
        lumps = style.lumps @ self.waves
        forward = torch.cos(self.azimuth).clamp(min=0)
        outside = style.thickness * (1 - 0.6 * forward * (self.row > 0.2)) * (1 + 0.22 * lumps)
        below = (-self.row).clamp(min=0)  # 0 at the equator of the skull and above, 1 at the end
        fading = torch.exp(-7 * below)
        outside = outside * torch.lerp(fading, torch.ones_like(fading), style.hang.clamp(max=1))
        # Hair lies against the skin where it begins; a fringe hangs free.
        rising = (above / 28).clamp(0.12, 1).sqrt()
        rising = rising.maximum(style.hang * (below > 0))
        outside = outside * torch.where(style.fringe & (self.azimuth.abs() < 0.9), 1.0, rising)
        # Hair that falls beside the face lies against the cheeks.
        beside = torch.sigmoid((1.45 - self.azimuth.abs()) / 0.15) * (3 * below).clamp(max=1)
        outside = outside * (1 - 0.7 * beside)
        narrow = (1 - 0.13 * beside) * torch.lerp(
            1 - 0.45 * (2.5 * below).clamp(max=1), 1 + 0.15 * below, style.hang
        )
        center = self.shell.new_tensor(shapes.CENTER)
        radii = self.shell.new_tensor(shapes.RADII)
        offset = self.shell - center
        level = offset[:, 1].clamp(min=0) / radii[1]  # sine of the elevation
        flat = torch.stack([offset[:, 0], offset[:, 2]], 1)
        radius = flat.norm(dim=1).clamp(min=1e-3)
        # Long hair lies outside the ears, which stand out from the skull by 15 mm.
        ears = (
            14 * style.hang * torch.exp(-(((self.azimuth.abs() - 1.6) / 0.45) ** 2)) * (below > 0)
        )
        spread = narrow + (outside * (1 - level**2).clamp(min=0).sqrt() + ears) / radius
        up = offset[:, 1] + outside * level
        return (
            torch.stack([flat[:, 0] * spread, up.expand_as(spread), flat[:, 1] * spread], dim=2)
            + center
        )

    def _layer(self, points, triangles, pose, distance, size, fields) -> tuple[Tensor, Tensor]:
        """Triangle ids, and normals and further fields as maps."""
        projected = to_pixels(in_perspective(points, distance), pose, size)
        fragments = rasterize(projected, triangles, size, size)
        normals = vertex_normals(points, triangles)
        attributes = torch.cat([normals, fields], dim=2)
        return fragments.triangle, interpolate(attributes, fragments, triangles)

    def _hair_fields(self, style: Style, above: Tensor) -> Tensor:
        """Place in the strand textures, two coordinates, and distance from where hair ends."""
        pole = style.pole
        side = functional.normalize(pole.roll(1, 1).cross(pole, dim=1), dim=1)
        frame = torch.stack([side, torch.cross(pole, side, dim=1), pole], 1)
        x, y, z = (self.growth @ frame.mT).unbind(2)
        sine = torch.hypot(x, y).clamp(min=1e-3)
        far = (torch.atan2(sine, z) + self.hanging) / (sine * shapes.STRAND_REACH)
        return torch.stack([x * far, y * far, above], dim=2)

    def _body_fields(self, style: Style) -> Tensor:
        """Height, and 0 skin, 1 cloth, 2 the side of the hair, 3 its back."""
        height = torch.cat([self.body[:, 1], self.shell[:, 1]])
        behind = 2.0 + (self.azimuth.abs() > 1.8)
        kind = torch.cat([self.clothed, behind])
        return torch.stack([height, kind], dim=1).expand(len(style.front), -1, -1)

    def _dress(self, found: tuple[Tensor, Tensor], style: Style, skin: Tensor, cloth: Tensor):
        triangle, maps = found
        normals, height, kind = maps[:, :3], maps[:, 3:4], maps[:, 4:5]
        seen = triangle[:, None] >= 0
        hair = seen & (kind > 1.5)
        # Under the chin little light arrives.
        shade = 1 - 0.5 * torch.exp(-(((height + 95) / 35) ** 2))
        neck = torch.sigmoid((kind - 0.5) * 12)
        albedo = torch.lerp(_spread(skin) * shade, _spread(cloth), neck)
        albedo = torch.where(hair, _spread(style.color) * 0.5, albedo)
        lowest = _spread(torch.where(style.covered & (style.hang > 0.5), style.back, 1e3))
        ends = torch.sigmoid((height - lowest) / 6) * (kind > 2.5)
        rim = (normals[:, 2:] * 8).clamp(0, 1)  # smooth outlines
        alpha = torch.where(hair, ends, seen * rim)
        return Layer(alpha, albedo, normals, torch.zeros_like(alpha))

    def _cut(self, found: tuple[Tensor, Tensor], style: Style, nearest: Tensor) -> Layer:
        triangle, maps = found
        normals, place, above, depth = maps.split([3, 2, 1, 1], dim=1)
        # The tables lie below each other in one texture.
        n = len(self.strands)
        x, y = place.clamp(-0.99, 0.99).unbind(1)
        y = (style.table.view(-1, 1, 1) + (y + 1) / 2) * (2 / n) - 1
        atlas = self.strands.view(1, 1, -1, self.strands.shape[-1]).expand(len(y), -1, -1, -1)
        strand = functional.grid_sample(atlas, torch.stack([x, y], 3), align_corners=False)
        edge = (above + _spread(style.fray) * strand) / _spread(style.softness) * 2.5
        rim = (normals[:, 2:] - 0.05 + 0.06 * strand) * 25  # the outline dissolves into strands
        alpha = torch.sigmoid(torch.minimum(edge, rim)) * _spread(style.density)
        shown = (triangle[:, None] >= 0) & (depth > nearest - _TOLERANCE)
        alpha = alpha * (shown & _spread(style.covered))
        light = 1 + _spread(style.contrast) * strand
        # Deeper strands and the roots get less light.
        light = light * (0.65 + 0.35 * torch.sigmoid((above - 8) / 6))
        albedo = _spread(style.color) * light.clamp(0.15, 2.2)
        bent = normals + functional.pad(0.2 * strand, (0, 0, 0, 0, 0, 2))
        return Layer(alpha, albedo, bent, _spread(style.gloss) * (1 + strand).clamp(0, 2))


def _rise(value: Tensor, start: Tensor, width: Tensor | float) -> Tensor:
    """0 below start, rising smoothly to 1 at start + width."""
    share = ((value - start) / width).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _spread(values: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1)."""
    return values[:, :, None, None]
