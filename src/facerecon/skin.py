"""Procedural skin: a per-vertex reflectance of a human face, drawn from a random generator.

No photograph is needed. Tone follows two pigment axes, melanin and haemoglobin, with Beer-Lambert
absorption; on top come brows, lips, eyes, beard, freckles, age, hair and glasses. The mean and the
first principal components of such draws, without hair and glasses, are the albedo model of Eq.
(10); single draws texture the synthetic photographs of 3.2.2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.mesh import edges, vertex_normals

# Display-referred absorption per unit of pigment in R, G, B, and the reflectance of skin without
# either: chosen so that melanin 0..1.7 spans the palest to the darkest skin tones (sRGB about
# 235/200/180 to 85/55/45).
_PIGMENT_FREE = (0.97, 0.84, 0.77)
_MELANIN = (0.60, 0.80, 0.93)
_HAEMOGLOBIN = (0.05, 0.42, 0.34)


def _logistic_below(value: Tensor, edge: Tensor | float, softness: float) -> Tensor:
    """1 where value is far below edge, 0 far above it, soft over about `softness` mm."""
    return torch.sigmoid((edge - value) / softness)


class Skin(nn.Module):
    """Sampler of per-vertex RGB albedo on the mean face of a morphable model.

    Args:
        model: a MorphableModel (its mean, triangles, landmarks and regions are used; its albedo is
            not).
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        mean, landmarks = model.mean, model.mean[model.landmarks]
        fixed = torch.Generator().manual_seed(
            0
        )  # the noise fields belong to the model, not to a draw
        self.register_buffer("position", mean.clone())
        for name, features, wavelength, stretch in (
            ("low", 24, 110.0, 1.0),
            ("middle", 40, 30.0, 1.0),
            ("high", 64, 7.0, 1.0),
            ("strands", 48, 7.0, 0.15),
        ):
            frequency = torch.randn(features, 3, generator=fixed) * (0.6 * 2 * math.pi / wavelength)
            frequency[:, 1] *= stretch
            phase = torch.rand(features, 1, generator=fixed) * (2 * math.pi)
            waves = torch.cos(frequency @ mean.cpu().T + phase) * math.sqrt(2 / features)
            self.register_buffer(f"noise_{name}", waves)
        for name in ("lips", "eyelids", "mouth_interior", "brows"):
            self.register_buffer(f"region_{name}", model.regions[name].clone())
        eyes = model.regions["eye_left"] + model.regions["eye_right"] > 0.5
        self.register_buffer("is_eye", eyes)
        self.register_buffer("cavity", _cavity(mean, model.triangles, eyes))
        self.eye_x = float(landmarks[42:48, 0].mean())
        self.eye_y = float(landmarks[36:48, 1].mean())
        self.mouth_y = float(landmarks[48:60, 1].mean())
        self.nose_y = float(landmarks[30:36, 1].mean())
        self.chin_y = float(landmarks[8, 1])
        brow = landmarks[22:27]  # the person's left brow, from the inside outward
        self.brow_x, self.brow_half = float(brow[:, 0].mean()), float((brow[4, 0] - brow[0, 0]) / 2)
        u = (brow[:, 0] - self.brow_x) / self.brow_half
        design = torch.stack([torch.ones_like(u), u, u * u], dim=1)
        self.brow_curve = torch.linalg.lstsq(design, brow[:, 1:2]).solution.flatten().tolist()

    def sample(
        self, count: int, generator: torch.Generator, accessories: bool = True
    ) -> Float[Tensor, "batch vertices 3"]:
        """Draw `count` faces' albedo, RGB in (0, 1].

        Args:
            count: number of faces.
            generator: random generator on this module's device.
            accessories: also draw hair on the scalp and glasses (for photographs, not for Eq.
                (10)).
        """
        device = self.position.device

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 1, generator=generator, device=device)

        def chance(probability: float) -> Tensor:
            draw = torch.rand(count, 1, generator=generator, device=device)
            return (draw < probability).float()

        def noise(name: str) -> Tensor:
            waves = getattr(self, f"noise_{name}")
            return torch.randn(count, len(waves), generator=generator, device=device) @ waves

        low, middle, high = noise("low"), noise("middle"), noise("high")
        x, y, z = self.position.unbind(1)
        side = x.abs()

        tone = 1.7 * uniform(0, 1) ** 1.3
        blush = uniform(0.1, 0.45)
        age = uniform(0, 1) ** 2

        # pigments
        melanin = tone * (1 + uniform(0, 0.10) * low + uniform(0, 0.05) * middle)
        freckles = chance(0.3) * uniform(0.05, 0.35)
        spots = torch.relu(high - uniform(0.9, 1.6))
        melanin = melanin + freckles * spots * torch.exp(-(((y - self.eye_y + 20) / 32) ** 2))
        melanin = melanin + 0.08 * age * torch.relu(middle * high - 0.8)
        eyes_around = torch.exp(
            -(((side - self.eye_x) / 19) ** 2) - ((y - self.eye_y - 1) / 11) ** 2
        )
        melanin = melanin + uniform(-0.05, 0.30) * eyes_around
        cheek = torch.exp(-(((side - 40) / 20) ** 2) - ((y - self.eye_y + 34) / 22) ** 2)
        nose = torch.exp(-((x / 13) ** 2) - ((y - self.nose_y - 4) / 15) ** 2)
        blood = blush * (
            1 + uniform(0, 0.15) * middle + uniform(0, 1.0) * cheek + uniform(0, 0.8) * nose
        )
        lip_colour = uniform(0.1, 1.5)
        blood = blood + self.region_lips * lip_colour
        melanin = melanin + self.region_lips * uniform(0.0, 0.30)

        # what light does not reach, and hair on skin
        shade = 1 - uniform(0, 0.7) * self.cavity.clamp(-0.35, 1.0)
        shade = (
            shade * (1 - self.region_eyelids * uniform(-0.05, 0.35)) * (1 + uniform(0, 0.05) * high)
        )

        hair_melanin = torch.where(chance(0.6) > 0, uniform(0.55, 1.0), uniform(0.05, 0.8))
        grey_hair = age * chance(0.6)
        hair = self._hair_colour(hair_melanin, grey_hair)

        u = (side - self.brow_x - uniform(-2, 2)) / (self.brow_half * uniform(0.9, 1.15))
        c0, c1, c2 = self.brow_curve
        height = c0 + c1 * u + c2 * u * u + uniform(-2, 2.5) + uniform(-2, 2) * u
        thickness = uniform(1.3, 4.5) * (1 - 0.35 * u)
        brow = _logistic_below((y - height).abs(), thickness, 0.7) * _logistic_below(
            u.abs(), 1.0, 0.13
        )
        brow = brow * uniform(-0.05, 0.95).clamp(min=0) * (0.85 + 0.25 * high).clamp(0, 1.1)
        brow = brow * (z > -20)

        beard_edge = uniform(self.mouth_y - 26, self.mouth_y + 22) + 0.010 * side**2 + 4 * low
        bare_centre = torch.where(chance(0.3) > 0, uniform(0, 30), torch.full_like(tone, -50.0))
        beard = _logistic_below(y, beard_edge, 3.0) * torch.sigmoid((side - bare_centre) / 4)
        beard = beard * torch.sigmoid((y - self.chin_y + 22) / 4) * (1 - self.region_lips)
        beard = beard * chance(0.35) * uniform(0.05, 0.8) * (1 + 0.35 * high)
        moustache = torch.exp(-((x / 22) ** 2) - ((y - (self.mouth_y + self.nose_y) / 2) / 6) ** 2)
        moustache = moustache * (1 - self.region_lips) * chance(0.25) * uniform(0.1, 0.85)
        on_skin = torch.maximum(torch.maximum(brow, beard), moustache).clamp(0, 1)

        free, absorb_m, absorb_h = (
            torch.tensor(c, device=device) for c in (_PIGMENT_FREE, _MELANIN, _HAEMOGLOBIN)
        )
        skin = free * torch.exp(-melanin[..., None] * absorb_m - blood[..., None] * absorb_h)
        skin = skin * shade[..., None]
        skin = skin + on_skin[..., None] * (hair[:, None] - skin)

        interior = self._mouth(uniform(0.05, 0.5), uniform(0, 1))
        skin = skin + self.region_mouth_interior[:, None] * (interior - skin)
        if accessories:
            skin = self._wear(skin, hair, low, middle, noise("strands"), uniform, chance)
        eyes = self._eyes(uniform, low)
        skin = torch.where(self.is_eye[:, None], eyes, skin)
        return skin.clamp(0.01, 1.0)

    @staticmethod
    def _hair_colour(melanin: Tensor, grey: Tensor) -> Float[Tensor, "batch 3"]:
        blond = torch.tensor([0.78, 0.62, 0.40], device=melanin.device)
        black = torch.tensor([0.07, 0.06, 0.055], device=melanin.device)
        silver = torch.tensor([0.72, 0.71, 0.70], device=melanin.device)
        colour = torch.exp(torch.lerp(blond.log(), black.log(), melanin))
        return colour + grey * (silver - colour)

    def _mouth(self, depth: Tensor, teeth: Tensor) -> Float[Tensor, "batch vertices 3"]:
        """Dark inside, with a band of teeth below the upper lip of some draws."""
        y = self.position[:, 1]
        band = torch.exp(-(((y - self.mouth_y - 2.0) / 3.0) ** 2)) * (teeth > 0.4) * teeth
        red = torch.tensor([0.45, 0.20, 0.20], device=y.device) * depth[..., None]
        white = torch.tensor([0.85, 0.82, 0.76], device=y.device)
        return red + band[..., None] * (white - red)

    def _eyes(self, uniform, low: Tensor) -> Float[Tensor, "batch vertices 3"]:
        """Sclera, iris and pupil; the gaze shifts both eyes together."""
        x, y, _ = self.position.unbind(1)
        centre = torch.where(x > 0, self.eye_x, -self.eye_x) + uniform(-4, 4)
        distance = torch.sqrt((x - centre) ** 2 + (y - self.eye_y - uniform(-2, 2)) ** 2)
        iris = _logistic_below(distance, uniform(5.2, 6.4), 0.5)[..., None]
        pupil = _logistic_below(distance, uniform(1.5, 3.0), 0.5)[..., None]
        brown = torch.tensor([0.22, 0.12, 0.07], device=x.device)
        blue = torch.tensor([0.35, 0.45, 0.55], device=x.device)
        colour = torch.lerp(brown, blue, uniform(-0.8, 1.0).clamp(min=0))[:, None]
        white = torch.tensor([0.92, 0.88, 0.86], device=x.device) * uniform(0.55, 0.95)[..., None]
        eye = white + iris * (colour * (1 - pupil) + 0.02 - white)
        lid_shadow = uniform(0, 0.6) * torch.sigmoid((y - self.eye_y - 4) / 2)
        return eye * (1 - lid_shadow[..., None])

    def _wear(self, skin, hair, low, middle, strands, uniform, chance) -> Tensor:
        """Hair on the scalp and around the face, then glasses."""
        x, y, z = self.position.unbind(1)
        side = x.abs()
        hairline = (
            uniform(self.eye_y + 22, self.eye_y + 95) + uniform(-0.012, 0.004) * side**2 + 6 * low
        )
        lowest = torch.where(chance(0.35) > 0, uniform(-150, -10), uniform(-10, 20))
        below = torch.sigmoid((y - lowest) / 3)
        top = torch.sigmoid((y - hairline) / 1.5)
        back = _logistic_below(z, uniform(-95, -45) + 6 * low, 2.0) * below
        curtain = torch.sigmoid((side - uniform(48, 75) + 3 * low) / 1.5) * below * chance(0.3)
        cover = torch.maximum(torch.maximum(top, back), curtain) * chance(0.85)
        locks = (1 + uniform(0.05, 0.3) * strands + 0.15 * middle).clamp(0.2, 2.5)
        skin = skin + cover[..., None] * (hair[:, None] * locks[..., None] - skin)

        u = ((side - uniform(self.eye_x - 3, self.eye_x + 3)) / uniform(20, 27)) ** 2
        v = ((y - self.eye_y - uniform(-6, 2)) / uniform(15, 23)) ** 2
        rim = ((u * u + v * v).sqrt().sqrt() - 1) / uniform(0.05, 0.12)
        frame = torch.exp(-(rim**2)) * chance(0.10) * uniform(0.4, 1.0) * (z > -30)
        return skin * (1 - frame[..., None])


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
