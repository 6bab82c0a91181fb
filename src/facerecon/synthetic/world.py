"""Synthetic photographs with known geometry and pose (3.2.2) and intermediate estimates (Eq. 3)."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.functional import interpolate as interpolate_image

from facerecon.batch import joined
from facerecon.camera import POSE_UNITS, join, pose_parameters, split
from facerecon.lighting import LUMA
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import Rendering, render
from facerecon.synthetic import photography, scenery
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.features import Features
from facerecon.synthetic.illumination import (
    Light,
    ambient_occlusion,
    highlight,
    irradiance,
    sample_light,
    simple_irradiance,
    visibility,
)
from facerecon.synthetic.person import Layer, Person
from facerecon.synthetic.photographed_skin import PhotographedSkin
from facerecon.synthetic.sampling import Sampler, apart
from facerecon.synthetic.skin import Skin, oiliness
from facerecon.synthetic.surroundings import (
    Scissors,
    Surroundings,
    put_backdrop,
    sample_surroundings,
)
from facerecon.synthetic.texture import SkinTexture, Strands
from facerecon.synthetic.texture_bank import TextureBank
from facerecon.synthetic.wrinkles import FineSurface, Relief, displace


class SyntheticFaces(NamedTuple):
    """A batch of labeled photographs; C is 1 (grey) or 3 (color)."""

    image: Tensor  # (B, C, S, S), [0, 1]
    r: Tensor  # (B, 290) ground truth, r_gt
    rendering: Rendering  # of r_gt as the camera saw it: smooth depth and normals
    albedo: Tensor  # (B, C, S, S) albedo map with all texture, zero outside the face
    light: Tensor  # (B, 9) second-order environment light, before the directional lights
    fine_depth: Tensor  # (B, 1, S, S) mm, with wrinkles
    fine_normals: Tensor  # (B, 3, S, S) unit, with wrinkles
    shading: Tensor  # (B, C, S, S) light that the face receives, without highlights
    shadow: Tensor  # (B, 1, S, S) of the key lamp: 1 lit, 0 in cast shadow
    distance: Tensor  # (B,) of the camera in mm; weak-perspective ones are at WEAK_PERSPECTIVE


WEAK_PERSPECTIVE = 1e7
"""mm: so far away, a pinhole camera and Eq. (2) agree to about a thousandth of a pixel."""

_TYPICAL_FACE = 0.4
"""Mean intensity of a face that rooms are as bright beside."""

_CHUNK = 8  # images rendered at a time on a CPU


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
    config, sampler = config.pose, Sampler(count, generator)

    def normal(std: float, limit: float, mean: float = 0.0) -> Tensor:
        return (mean + std * sampler.normal(1)).clamp(-limit, limit)

    wide = sampler.uniform(-config.yaw_limit, config.yaw_limit, 1)
    near = normal(config.yaw_frontal_std, config.yaw_limit)
    yaw = torch.where(sampler.uniform(0, 1, 1) < config.p_frontal, near, wide)
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
    model: MorphableModel, config: SyntheticConfig, count: int, generator: torch.Generator
) -> Float[Tensor, "batch n"]:
    """Random geometry and pose, r_gt or r_rnd."""
    coefficients = model.sample(count, generator)
    coefficients[:, : model.n_identity] *= config.identity_std
    coefficients[:, model.n_identity :] *= config.expression_scale
    if config.p_strong > 0:
        strong = _strong_expressions(model, config, count, apart(generator, "expression"))
        expression = coefficients[:, model.n_identity :]
        expression.copy_(torch.where(strong > 0, strong, expression))
    return join(coefficients, sample_pose(config, count, generator))


_STRENGTH = (0.7, 1.1)  # of strong expressions; 1 is what the model's makers call full


def _strong_expressions(
    model: MorphableModel, config: SyntheticConfig, count: int, generator: torch.Generator
) -> Float[Tensor, "batch expression"]:
    """Coefficients of one strong expression, both sides, in a share of the faces; 0 elsewhere.

    Eyes that are wholly shut and mouths wide open are rare among random expressions, and an
    estimate of what is rare is drawn to what is common. A model without these units has none.
    """
    sides = [(name, name + "Left", name + "Right") for name in config.strong]
    member = [[n in names for n in model.expression_names] for names in sides]
    member = torch.tensor(member, device=generator.device)
    member = member[member.any(1)].float()
    if not len(member):
        return model.mean.new_zeros(count, len(model.expression_names))
    sampler = Sampler(count, generator)
    strength = sampler.uniform(*_STRENGTH, 1) * sampler.chance(config.p_strong, 1)
    activation = (member[sampler.choice(len(member))] * strength).to(model.mean.device)
    return activation / model.expression_std


class SyntheticWorld(nn.Module):
    """Renders labeled photographs of faces of a morphable model.

    Args:
        model, config: what the faces are. Everything runs on the model's device.
        textures: skin of photographed people, in the model's chart, that a share of the faces
            (`DetailConfig.p_photographed`) wears instead of procedural skin.
    """

    def __init__(
        self,
        model: MorphableModel,
        config: SyntheticConfig | None = None,
        textures: TextureBank | None = None,
    ):
        super().__init__()
        self.model, self.config = model, config or SyntheticConfig()
        detail = self.config.detail
        self.skin = Skin(model, self.config.skin)
        self.features = Features(model, self.config.skin)
        self.person = Person(model, self.config.hair)
        self.scissors = Scissors(model)
        self.chart = Chart(model, detail.texels(self.config.size))
        self.strands = Strands(model, self.chart, detail)
        self.relief = Relief(model, self.chart, detail) if detail.wrinkles else None
        self.texture = SkinTexture(self.chart, detail) if detail.texture else None
        self.photographed = PhotographedSkin(model, textures, detail) if textures else None
        self.register_buffer("occlusion", ambient_occlusion(model.mean, model.triangles))
        self.register_buffer("oil", oiliness(model))

    def generator(self, seed: int) -> torch.Generator:
        """A generator on the model's device; the same seed gives the same faces on one device."""
        return torch.Generator(device=self.model.mean.device).manual_seed(seed)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch n"]:
        """Random representations (B, 290)."""
        return sample_representation(self.model, self.config, count, generator)

    def render(
        self,
        count: int,
        generator: torch.Generator,
        r: Float[Tensor, "batch n"] | None = None,
        color: bool = False,
    ) -> SyntheticFaces:
        """Photograph `count` random faces, or the given ones.

        Args:
            r: representations (B, 290) to photograph instead of random ones.
            color: return an RGB image and albedo instead of grey ones (figures; grey is faster).
        """
        if r is None:
            r = self.sample(count, generator)
        return joined(list(self._parts(r, generator, color)))

    def photographs(
        self,
        count: int,
        generator: torch.Generator,
        r: Float[Tensor, "batch n"] | None = None,
    ) -> tuple[Float[Tensor, "batch 1 size size"], Float[Tensor, "batch n"]]:
        """The grey images and r of `render` alone, sooner: what CoarseNet trains on."""
        if r is None:
            r = self.sample(count, generator)
        return torch.cat([faces.image for faces in self._parts(r, generator, False)]), r

    def _parts(
        self, r: Float[Tensor, "batch n"], generator: torch.Generator, color: bool
    ) -> Iterator[SyntheticFaces]:
        # Few images at a time stay in a processor's cache, which nearly doubles the speed.
        chunk = _CHUNK if r.device.type == "cpu" else max(len(r), 1)
        # The large basis, though, is better read once.
        vertices = self.model.vertices(split(r, self.model.n_coefficients)[0])
        for part in zip(r.split(chunk), vertices.split(chunk), strict=True):
            yield self._render(*part, generator, color)

    def _render(
        self,
        r: Float[Tensor, "batch n"],
        vertices: Float[Tensor, "batch vertices 3"],
        generator: torch.Generator,
        color: bool,
    ) -> SyntheticFaces:
        config, model, count = self.config, self.model, len(r)
        around = sample_surroundings(config.surroundings, count, apart(generator, "surroundings"))
        sampler = Sampler(count, generator)
        low, high = (math.log(value) for value in config.pose.distance)
        near = sampler.uniform(low, high, 1).exp()
        far = torch.full_like(near, WEAK_PERSPECTIVE)
        distance = torch.where(sampler.chance(config.pose.p_perspective, 1), near, far)[:, 0]
        coefficients, pose = split(r, model.n_coefficients)
        camera = pose_parameters(pose, config.size)
        rendering = render(_Known(model, vertices), r, config.size, distance=distance)
        light = sample_light(config.light, count, 3 if color else 1, generator)

        # surface
        plain = config.skin.linear and self.relief is self.texture is self.photographed is None
        coordinates = None if plain else self.chart.at(rendering.fragments)
        face = self.skin.sample_complexion(count, generator)
        fine = FineSurface(rendering.depth, rendering.normals)
        if self.relief is not None:
            relief = self.relief.sample(coefficients, face.age, generator)
            relief = self.chart.sample(relief, coordinates)
            fine = displace(*fine, rendering.mask, relief, 1 / camera.scale, distance)
        if coordinates is not None:
            coordinates = coordinates + around.slip

        # reflectance
        weights = face.skin.new_tensor(LUMA)[:, None]
        skin, hair_color, scalp_color = face.skin, face.hair_color, face.scalp_color
        if not color:
            skin, hair_color = skin @ weights, hair_color @ weights
            scalp_color = scalp_color @ weights
        constant = torch.stack([self.occlusion, self.oil], 1).expand(count, -1, -1)
        maps = interpolate(
            torch.cat([skin, face.hair[..., None], constant], 2),
            rendering.fragments,
            model.triangles,
        )
        albedo, hair, occlusion, oil = maps.split([skin.shape[2], 1, 1, 1], dim=1)
        if self.texture is not None:
            texture = self.texture.sample(count, generator, color)
            albedo = albedo * (1 + self.chart.sample(texture, coordinates))
        if self.photographed is not None:
            albedo, hair = self.photographed.paint(
                albedo, hair, face.skin, rendering.fragments, coordinates, generator
            )
        cover, glint = torch.zeros_like(hair), torch.zeros_like(hair)
        if not config.skin.linear:
            strand = self.chart.sample(self.strands.sample(count, generator), coordinates)
            contrast = sampler.uniform(*config.skin.strand_contrast)
            cover = (hair * (1 + contrast * strand)).clamp(0, 1)
            albedo = torch.lerp(albedo, _spread(hair_color) * rendering.mask, cover)
            albedo, glint = self.features.paint(
                albedo,
                rendering.fragments,
                rendering.pncc,
                vertices,
                camera.rotation,
                light,
                generator,
            )
        albedo = albedo.clamp(0, 1)
        if around.cast.any():
            area = rendering.mask.sum((2, 3), keepdim=True).clamp(min=1)
            even = albedo.sum((2, 3), keepdim=True) / area * rendering.mask
            albedo = torch.where(around.cast, even, albedo)

        # light
        scene = _Scene(vertices, pose, distance, rendering, light, around)
        shadow = self._shadow(scene, generator)
        openness = (1 - sampler.uniform(*config.light.occlusion) * (1 - occlusion)).clamp(min=0.05)
        # Lamps have an extent: folds that the sky hardly reaches see only part of them, too.
        lit = shadow * openness.sqrt()
        shading = irradiance(light, fine.normals, openness, lit) * rendering.mask
        gloss = 1 + sampler.uniform(*config.light.t_zone) * oil
        gloss = _spread(light.specular) * gloss * (1 - cover) * highlight(light, fine.normals)
        gloss = (gloss * shadow * openness * rendering.mask + 0.8 * glint) * _spread(light.key)
        picture = albedo * shading + gloss

        picture = self._surround(picture, scene, skin, scalp_color, generator)
        picture = scenery.occlude(sampler, picture, config.scene)
        image = photography.photograph(sampler, picture, rendering.mask, config.camera)
        return SyntheticFaces(
            image, r, rendering, albedo, light.environment, *fine, shading, shadow, distance
        )

    def _shadow(
        self, scene: "_Scene", generator: torch.Generator
    ) -> Float[Tensor, "batch 1 size size"]:
        """The key lamp's cast shadows on the face, in a share of the images."""
        config, size = self.config.light, self.config.size
        light, rendering = scene.light, scene.rendering
        camera = pose_parameters(scene.pose, size)
        shadow = torch.ones_like(rendering.depth)
        sampler = Sampler(len(shadow), generator)
        softness = sampler.uniform(*config.shadow_softness, 1)
        chosen = sampler.chance(config.p_shadow, 1)[:, 0] & (light.key.sum(1) > 0)
        chosen = chosen.nonzero().squeeze(1)
        if not len(chosen):
            return shadow
        column, row = scenery.pixel_grid(size, shadow.device)
        depth = rendering.depth[chosen]
        shrink = 1 - depth / scene.distance[chosen, None, None, None]
        center, scale = (size - 1) / 2, camera.scale[chosen, None, None, None]
        move = camera.translation[chosen, :, None, None]
        x = (column - center - move[:, :1]) / scale * shrink
        y = (center - row - move[:, 1:]) / scale * shrink
        points = torch.cat(torch.broadcast_tensors(x, y, depth), 1).flatten(2).mT
        points = points + config.shadow_offset * rendering.normals[chosen].flatten(2).mT
        seen = visibility(
            scene.vertices[chosen] @ camera.rotation[chosen].mT,
            self.model.triangles,
            points,
            light.key_direction[chosen],
            config.shadow_texels,
            config.shadow_bias,
            softness[chosen],
        )
        seen = torch.where(rendering.mask[chosen], seen.view_as(depth), 1.0)
        seen = avg_pool2d(seen, 3, 1, 1, count_include_pad=False)  # hides the map's texels
        return shadow.index_copy(0, chosen, seen)

    def _surround(
        self,
        face: Float[Tensor, "batch channels size size"],
        scene: "_Scene",
        skin: Float[Tensor, "batch vertices channels"],
        hair_color: Float[Tensor, "batch channels"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch channels size size"]:
        """Put the face into its place between background, body and hair."""
        config, (count, channels) = self.config, face.shape[:2]
        light, rendering, around = scene.light, scene.rendering, scene.around
        sampler = Sampler(count, generator)
        behind = scenery.background(sampler, config.size, channels, config.scene)
        region = self.model.regions["neck"]
        neck = (skin * region[:, None]).sum(1) / region.sum()
        kept = self.scissors.keep(around, rendering.fragments, rendering.pncc)
        # Cameras expose for the person: behind a dark face the room is not brighter than behind a
        # pale one. Some light of its own remains.
        area = channels * rendering.mask.sum((1, 2, 3), keepdim=True).clamp(min=1)
        level = (face * rendering.mask).sum((1, 2, 3), keepdim=True) / area
        behind = behind * (0.2 + 0.8 * (level / _TYPICAL_FACE).clamp(max=2))
        behind = put_backdrop(behind, around)
        if not config.hair.surround:
            return torch.where(rendering.mask & kept, face, behind)
        style = self.person.style(hair_color, generator)
        cloth = sampler.uniform(0.02, 0.9, 1) * sampler.uniform(0.6, 1.0, channels)
        cloth = torch.where(sampler.chance(config.hair.p_clothes, 1), cloth, neck)
        nearest = torch.where(rendering.mask, rendering.depth, -torch.inf)
        body, hair = self.person.render(
            style,
            scene.vertices,
            scene.pose,
            scene.distance,
            config.size,
            neck,
            cloth,
            nearest,
            around.body_turn,
        )
        body, hair = (each._replace(alpha=each.alpha * ~around.alone) for each in (body, hair))
        # Hair dims the skin that it touches.
        contact = avg_pool2d(hair.alpha, 8, ceil_mode=True)
        contact = interpolate_image(contact, size=face.shape[2:], mode="bilinear")
        contact = 1 - 0.55 * contact
        picture = torch.lerp(behind, self._lit(body, light, wrap=0.0) * contact, body.alpha)
        mask = (rendering.mask & kept).float()
        mask = mask * avg_pool2d(mask, 3, 1, 1, count_include_pad=False)  # smooth outlines
        picture = torch.lerp(picture, face * contact, mask)
        return torch.lerp(picture, self._lit(hair, light, wrap=0.2), hair.alpha)

    @staticmethod
    def _lit(layer: Layer, light: Light, wrap: float) -> Tensor:
        received = simple_irradiance(light, layer.normals, wrap)
        facing = layer.normals[:, 1:2].clamp(min=0) * layer.normals[:, 2:].clamp(min=0)
        return layer.albedo * received + layer.gloss * facing * received

    def feedback(
        self,
        r_gt: Float[Tensor, "batch n"],
        generator: torch.Generator,
        p_zero_start: float = 0.0,
        beta: tuple[float, float] = (0.0, 1.0),
    ) -> Float[Tensor, "batch n"]:
        """r_t for a batch: Eq. (3) with beta uniform in a range, or the zero start of 3.4."""
        sampler = Sampler(len(r_gt), generator)
        r_random = self.sample(len(r_gt), generator)
        r_t = intermediate(r_gt, r_random, sampler.uniform(*beta, 1))
        return torch.where(sampler.uniform(0, 1, 1) < p_zero_start, torch.zeros_like(r_t), r_t)


class _Scene(NamedTuple):
    """Faces before the camera. vertices: mm, model frame. distance: mm, of the camera."""

    vertices: Float[Tensor, "batch vertices 3"]
    pose: Float[Tensor, "batch 6"]
    distance: Float[Tensor, " batch"]
    rendering: Rendering
    light: Light
    around: Surroundings


class _Known:
    """The model with its vertices already computed, for `render`."""

    def __init__(self, model: MorphableModel, vertices: Tensor):
        self.triangles, self.pncc = model.triangles, model.pncc
        self.n_coefficients, self._vertices = model.n_coefficients, vertices

    def vertices(self, _coefficients: Tensor) -> Tensor:
        """(batch, vertices, 3) in mm, model frame."""
        return self._vertices


def _spread(values: Tensor) -> Tensor:
    return values[:, :, None, None]
