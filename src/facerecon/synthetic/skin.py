"""Procedural skin: a per-vertex reflectance of a human face, sampled from a random generator.

No photograph is needed. Tone follows two pigment axes, melanin and hemoglobin, with Beer-Lambert
absorption; on top come brows, lips, eyes, beard, freckles and age. In the synthetic photographs of
3.2.2 the skin is per vertex, but eyes, teeth and single hairs are rendered per pixel. The albedo
model of Eq. (10) is another one: it was learned from portraits (`MorphableModel.provenance`).
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.mesh import edges, vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.config import SkinConfig
from facerecon.synthetic.sampling import Sampler

# Display-referred absorption per unit of pigment in R, G, B, and the reflectance of skin without
# either: chosen so that melanin 0..1.7 spans the palest to the darkest skin tones (sRGB about
# 235/200/180 to 85/55/45).
PIGMENT_FREE = (0.97, 0.84, 0.77)
MELANIN = (0.66, 0.80, 0.91)
HEMOGLOBIN = (0.08, 0.38, 0.32)


def _logistic_below(value: Tensor, edge: Tensor | float, softness: float) -> Tensor:
    """1 where value is far below edge, 0 far above it, soft over about `softness` mm."""
    return torch.sigmoid((edge - value) / softness)


class Complexion(NamedTuple):
    """Reflectance of a batch of faces, in layers."""

    skin: Float[Tensor, "batch vertices 3"]  # RGB, without hair
    hair: Float[Tensor, "batch vertices"]  # cover of brows, beard, moustache and lashes, [0, 1]
    hair_color: Float[Tensor, "batch 3"]  # of the hair on the face
    scalp_color: Float[Tensor, "batch 3"]  # of that on the head, a little lighter
    age: Float[Tensor, "batch 1"]  # [0, 1]


class Skin(nn.Module):
    """Sampler of per-vertex RGB albedo on the mean face of a morphable model.

    Args:
        model: a MorphableModel. Its mean, triangles, landmarks and regions are used; its albedo
            only where the config says `linear`.
        config: SkinConfig.
    """

    def __init__(self, model: MorphableModel, config: SkinConfig | None = None):
        super().__init__()
        self.config = config or SkinConfig()
        mean, landmarks = model.mean, model.mean[model.landmarks]
        fixed = torch.Generator().manual_seed(0)  # the fields belong to the model, not to a face
        self.register_buffer("position", mean.clone())
        self.register_buffer("albedo_mean", model.albedo_mean.clone())
        self.register_buffer("albedo_basis", model.albedo_basis.clone())
        for name, features, wavelength in (
            ("low", 24, 110.0),
            ("middle", 40, 30.0),
            ("high", 64, 7.0),
        ):
            frequency = torch.randn(features, 3, generator=fixed) * (0.6 * 2 * math.pi / wavelength)
            phase = torch.rand(features, 1, generator=fixed) * (2 * math.pi)
            waves = torch.cos(frequency @ mean.cpu().T + phase) * math.sqrt(2 / features)
            self.register_buffer(f"noise_{name}", waves)
        for name in ("lips", "eyelids", "mouth_interior", "brows"):
            self.register_buffer(f"region_{name}", model.regions[name].clone())
        eyes = model.regions["eye_left"] + model.regions["eye_right"] > 0.5
        self.register_buffer("is_eye", eyes)
        self.register_buffer("cavity", _cavity(mean, model.triangles, eyes))
        self.register_buffer("lashes", _lash_line(mean, landmarks) * ~eyes)
        self.eye_x = float(landmarks[42:48, 0].mean())
        self.eye_y = float(landmarks[36:48, 1].mean())
        self.mouth_y = float(landmarks[48:60, 1].mean())
        self.nose_y = float(landmarks[30:36, 1].mean())
        self.chin_y = float(landmarks[8, 1])
        brow = landmarks[22:27]  # the person's left brow, from the inside outward
        self.brow_x, self.brow_half = float(brow[:, 0].mean()), float((brow[4, 0] - brow[0, 0]) / 2)
        u = (brow[:, 0] - self.brow_x) / self.brow_half
        design = torch.stack([torch.ones_like(u), u, u * u], dim=1)
        # LAPACK's last digits depend on where in memory its arguments lie. Rounded, equal seeds
        # give equal photographs.
        curve = torch.linalg.lstsq(design.double(), brow[:, 1:2].double()).solution.flatten()
        self.brow_curve = [round(value, 6) for value in curve.tolist()]

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch vertices 3"]:
        """Sample `count` whole faces' albedo, RGB in (0, 1], as the linear model learns it."""
        face = self.sample_complexion(count, generator)
        sampler = Sampler(count, generator)
        albedo = face.skin + face.hair[..., None] * (face.hair_color[:, None] - face.skin)
        interior = self._mouth(sampler.uniform(0.05, 0.5, 1), sampler.uniform(0, 1, 1))
        albedo = albedo + self.region_mouth_interior[:, None] * (interior - albedo)
        albedo = torch.where(self.is_eye[:, None], self._eyes(sampler), albedo)
        return albedo.clamp(0.01, 1.0)

    def sample_complexion(self, count: int, generator: torch.Generator) -> Complexion:
        """Sample `count` faces' skin and facial hair; eyes and mouth are left as skin.

        Args:
            count: number of faces. generator: on this module's device.
        """
        config, sampler = self.config, Sampler(count, generator)
        device = self.position.device
        if config.linear:
            return self._linear(sampler)

        def uniform(low: float, high: float) -> Tensor:
            return sampler.uniform(low, high, 1)

        def chance(probability: float) -> Tensor:
            return sampler.chance(probability, 1)

        low, middle, high = (
            sampler.normal(len(waves)) @ waves
            for waves in (self.noise_low, self.noise_middle, self.noise_high)
        )
        x, y, z = self.position.unbind(1)
        side = x.abs()

        tone = config.tone * uniform(0, 1) ** config.tone_power
        age = uniform(0, 1) ** 2

        # pigments
        melanin = tone * (1 + uniform(*config.mottling) * low + uniform(0, 0.05) * middle)
        freckles = chance(config.p_freckles) * uniform(*config.freckles)
        spots = torch.relu(high - uniform(0.9, 1.6))
        melanin = melanin + freckles * spots * torch.exp(-(((y - self.eye_y + 20) / 32) ** 2))
        melanin = melanin + 0.08 * age * torch.relu(middle * high - 0.8)
        eyes_around = torch.exp(
            -(((side - self.eye_x) / 19) ** 2) - ((y - self.eye_y - 1) / 11) ** 2
        )
        melanin = melanin + uniform(*config.around_eyes) * eyes_around
        cheek = torch.exp(-(((side - 40) / 20) ** 2) - ((y - self.eye_y + 34) / 22) ** 2)
        nose = torch.exp(-((x / 13) ** 2) - ((y - self.nose_y - 4) / 15) ** 2)
        flush = uniform(*config.cheek_blush) * cheek + uniform(*config.nose_blush) * nose
        blood = uniform(*config.blush) * (1 + uniform(0, 0.15) * middle + flush)
        blood = blood + self.region_lips * uniform(*config.lip_blood)
        melanin = melanin + self.region_lips * uniform(*config.lip_melanin)

        # what light does not reach
        shade = 1 - uniform(*config.cavity) * self.cavity.clamp(-0.35, 1.0)
        shade = shade * (1 - self.region_eyelids * uniform(*config.eyelid_shade))
        shade = shade * (1 + uniform(0, 0.05) * high)

        dark = chance(config.dark_hair)
        hair_melanin = torch.where(dark, uniform(0.6, 1.0), uniform(0.05, 0.8))
        hair_melanin = hair_melanin.maximum((tone - 0.5).clamp(0, 0.9))  # dark skin, dark hair
        greying = (2 * age - 0.5).clamp(0, 1) * chance(config.p_grey)
        hair_color = self._hair_color(hair_melanin, greying)

        shade_of_brows = uniform(*config.brow_shade)
        u = (side - self.brow_x - uniform(-2, 2)) / (self.brow_half * uniform(0.9, 1.15))
        c0, c1, c2 = self.brow_curve
        height = c0 + c1 * u + c2 * u * u + uniform(-2, 2.5) + uniform(-2, 2) * u
        thickness = uniform(*config.brow_thickness) * (1 - 0.35 * u)
        brow = _logistic_below((y - height).abs(), thickness, 0.7) * _logistic_below(
            u.abs(), 1.0, 0.13
        )
        brow = brow * uniform(*config.brow_strength)
        brow = brow * (0.85 + 0.25 * high).clamp(0, 1.1) * (z > -20)

        beard_edge = uniform(self.mouth_y - 26, self.mouth_y + 22) + 0.010 * side**2 + 4 * low
        bare_center = torch.where(chance(0.3), uniform(0, 30), torch.full_like(tone, -50.0))
        beard = _logistic_below(y, beard_edge, 5.0) * torch.sigmoid((side - bare_center) / 4)
        beard = beard * (1 - self.region_lips) * _logistic_below(side, 74.0, 3.0)
        beard = beard * chance(config.p_beard) * uniform(*config.beard_strength)
        beard = beard * (1 + 0.1 * high)
        moustache = torch.exp(-((x / 22) ** 2) - ((y - (self.mouth_y + self.nose_y) / 2) / 6) ** 2)
        moustache = moustache * (1 - self.region_lips) * chance(config.p_moustache)
        moustache = moustache * uniform(*config.moustache_strength)
        lashes = self.lashes * uniform(*config.lash_strength)
        hair = torch.stack(torch.broadcast_tensors(brow, beard, moustache, lashes)).amax(0)

        free, absorb_m, absorb_h = (
            torch.tensor(c, device=device) for c in (PIGMENT_FREE, MELANIN, HEMOGLOBIN)
        )
        skin = free * torch.exp(-melanin[..., None] * absorb_m - blood[..., None] * absorb_h)
        skin = (skin * shade[..., None]).clamp(0.01, 1.0)
        return Complexion(skin, hair.clamp(0, 1), hair_color * shade_of_brows, hair_color, age)

    def _linear(self, sampler: Sampler) -> Complexion:
        """Faces of the linear albedo model, Eq. (10); facial hair is not a separate layer."""
        n = len(self.albedo_basis)
        skin = self.albedo_mean + torch.tensordot(sampler.normal(n), self.albedo_basis, 1)
        color = self._hair_color(sampler.uniform(0, 1, 1), sampler.uniform(0, 0.2, 1))
        bare = skin.new_zeros(()).expand(skin.shape[:2])
        return Complexion(skin.clamp(0.01, 1), bare, color, color, sampler.uniform(0, 1, 1) ** 2)

    @staticmethod
    def _hair_color(melanin: Tensor, grey: Tensor) -> Float[Tensor, "batch 3"]:
        blond = torch.tensor([0.66, 0.49, 0.29], device=melanin.device)
        black = torch.tensor([0.065, 0.048, 0.04], device=melanin.device)
        silver = torch.tensor([0.58, 0.57, 0.56], device=melanin.device)
        color = torch.exp(torch.lerp(blond.log(), black.log(), melanin))
        return color + grey * (silver - color)

    def _mouth(self, depth: Tensor, teeth: Tensor) -> Float[Tensor, "batch vertices 3"]:
        """Dark inside, with a band of teeth below the upper lip of some faces."""
        y = self.position[:, 1]
        band = torch.exp(-(((y - self.mouth_y - 2.0) / 3.0) ** 2)) * (teeth > 0.4) * teeth
        red = torch.tensor([0.45, 0.20, 0.20], device=y.device) * depth[..., None]
        white = torch.tensor([0.85, 0.82, 0.76], device=y.device)
        return red + band[..., None] * (white - red)

    def _eyes(self, sampler: Sampler) -> Float[Tensor, "batch vertices 3"]:
        """Sclera, iris and pupil; the gaze shifts both eyes together."""
        config = self.config
        x, y, _ = self.position.unbind(1)
        center = torch.where(x > 0, self.eye_x, -self.eye_x) + sampler.uniform(*config.gaze, 1)
        distance = torch.hypot(x - center, y - self.eye_y - sampler.uniform(-1.2, 1.2, 1))
        iris = _logistic_below(distance, sampler.uniform(*config.iris_radius, 1), 0.5)[..., None]
        pupil = _logistic_below(distance, sampler.uniform(*config.pupil_radius, 1), 0.5)[..., None]
        brown = torch.tensor([0.22, 0.12, 0.07], device=x.device)
        blue = torch.tensor([0.35, 0.45, 0.55], device=x.device)
        color = torch.lerp(brown, blue, sampler.uniform(-0.8, 1.0, 1).clamp(min=0))[:, None]
        white = torch.tensor([0.98, 0.94, 0.92], device=x.device)
        white = white * sampler.uniform(*config.sclera, 1)[..., None]
        eye = white + iris * (color * (1 - pupil) + 0.02 - white)
        lid_shadow = sampler.uniform(0, 0.6, 1) * torch.sigmoid((y - self.eye_y - 4) / 2)
        return eye * (1 - lid_shadow[..., None])


def oiliness(model: MorphableModel) -> Float[Tensor, " vertices"]:
    """Where skin is oily: forehead, nose, chin and the tops of the cheeks."""
    x, y, _ = model.mean.unbind(1)
    landmarks = model.mean[model.landmarks]
    brow, nose, lip, chin = (float(landmarks[i, 1]) for i in (19, 30, 57, 8))
    middle = torch.exp(-((x / 28) ** 2) - ((y - brow - 25) / 22) ** 2)
    ridge = torch.exp(-((x / 11) ** 2) - ((y - nose - 14) / 28) ** 2)
    point = torch.exp(-((x / 14) ** 2) - ((y - (lip + chin) / 2) / 12) ** 2)
    cheek = torch.exp(-(((x.abs() - 38) / 14) ** 2) - ((y - nose - 12) / 12) ** 2)
    return torch.stack([middle, ridge, 0.7 * point, 0.6 * cheek]).amax(0)


def _lash_line(mean: Tensor, landmarks: Tensor) -> Float[Tensor, " vertices"]:
    """Nearness to the upper lid's edge (and, weaker, the lower one's), 1 on it."""
    left = torch.stack([mean[:, 0].abs(), mean[:, 1], mean[:, 2]], 1)
    cover = torch.zeros(len(mean), device=mean.device)
    for points, strength in (
        (landmarks[[42, 43, 44, 45]], 1.0),
        (landmarks[[45, 46, 47, 42]], 0.4),
    ):
        steps = torch.linspace(0, 1, 8, device=mean.device)[:, None]
        curve = torch.cat([torch.lerp(a, b, steps) for a, b in pairwise(points)])
        distance = torch.cdist(left, curve).amin(1)
        cover = cover.maximum(strength * torch.exp(-((distance / 1.1) ** 2)))
    return cover


def _cavity(mean: Tensor, triangles: Tensor, excluded: Tensor) -> Float[Tensor, " vertices"]:
    """How far a vertex lies below its smoothed surroundings, in 1.5 mm, clamped to [-1, 1.5].

    Stands for ambient occlusion in folds: the surface is relaxed by 12 steps of the umbrella
    Laplacian.
    """
    pairs = edges(triangles)
    both = torch.cat([pairs, pairs.flip(1)])
    degree = torch.zeros(len(mean), device=mean.device).index_add_(
        0, both[:, 0], torch.ones(len(both), device=mean.device)
    )

    def average(values: Tensor) -> Tensor:
        total = torch.zeros_like(values).index_add_(0, both[:, 0], values[both[:, 1]])
        return total / degree.clamp(min=1).view(-1, *[1] * (values.dim() - 1))

    smooth = mean
    for _ in range(12):
        smooth = average(smooth)
    normals = vertex_normals(mean[None], triangles)[0]
    below = ((smooth - mean) * normals).sum(1)
    below = average(average(below))
    below[excluded] = 0
    return (below / 1.5).clamp(-1.0, 1.5)
