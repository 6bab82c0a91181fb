"""Shapes of the benchmark's subjects: heads that a morphable model of ours cannot express.

A sample of a population that was learned from scans is one already. A sample of a morphable model
of ours is bent by smooth random fields of several wavelengths and around its landmarks. Either is
brought to a size of its own and gets hair, a neck and shoulders. Frame: x to the viewer's right,
y up, z toward the viewer, mm; the eyes lie where the default model has them.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.interpolate import PchipInterpolator
from scipy.special import expit

from facerecon.evaluation.heads.models import HeadModel
from facerecon.morphable_model import sample_activations

SKIN, EYE, MOUTH, HAIR, CLOTH = range(5)
"""Materials of triangles."""

EYES = np.array([0.0, 13.0, -2.0])  # the middle of the eyes
AXIS_Z = -90.0  # of the cylinder onto which the skin is unrolled
RADIUS = 90.0

BENT_IDENTITY_STD = 0.85  # of the identities that are bent besides
FIELDS = ((90.0, 1.6), (45.0, 1.1), (24.0, 0.5))  # wavelength and RMS displacement, mm
ASYMMETRY = 0.25  # share of a field that is not mirrored
SIZE_STD = 0.035
NEUTRAL_SHARE = 0.5

# Groups of landmarks that move together, the reach of their bump and its spread, mm.
_BUMPS = (
    ((30, 33), 13.0, 1.8),  # tip of the nose
    ((28, 29), 11.0, 1.5),  # bridge
    ((31, 35), 9.0, 1.2),  # wings
    ((8,), 20.0, 2.5),  # chin
    ((5, 11), 24.0, 2.5),  # angles of the jaw
    ((18, 25), 18.0, 1.6),  # brow ridges
    ((2, 14), 24.0, 2.2),  # cheeks
    ((48, 54), 12.0, 1.2),  # corners of the mouth
    ((51,), 9.0, 1.0),  # lips
    ((57,), 10.0, 1.0),
)


class Head(NamedTuple):
    """One subject's surface.

    vertices: mm. triangles: counter-clockwise seen from outside. material: of each triangle.
    chart: of each vertex, mm; where its skin lies on the cylinder about the axis of the mean head,
    x along its circumference, y up. landmarks: vertex indices of the 68 points.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    material: Int[np.ndarray, " triangles"]
    chart: Float[np.ndarray, "vertices 2"]
    landmarks: Int[np.ndarray, " 68"]


class Subjects:
    """Samples heads from a population.

    Args:
        source: the population; only its mean and linear modes are used. Unless it is `scanned`,
            its samples are bent.
    """

    def __init__(self, source: HeadModel) -> None:
        self._source = source
        mean = source.mean.numpy().astype(np.float64)
        self.landmarks = source.landmarks.numpy()
        self._shift = EYES - mean[self.landmarks[36:48]].mean(axis=0)
        self.mean = mean + self._shift
        self.chart = unroll(self.mean)
        self.triangles = source.triangles.numpy()
        self._material = self._materials(source.face.numpy())
        self._whole = bool(self.mean[:, 1].max() > 110)  # a head with its crown, not a face alone

    def sample(self, rng: np.random.Generator) -> Head:
        """The next subject."""
        source = self._source
        weights = rng.standard_normal(len(source.identity))
        if not source.scanned:
            weights *= BENT_IDENTITY_STD
        shape = self.mean + np.tensordot(weights, source.identity.numpy(), 1)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        activation = sample_activations(
            1, source.partner, source.group, source.frequency, generator
        )[0].numpy()
        if rng.random() < NEUTRAL_SHARE:
            activation = np.zeros_like(activation)
        strength = rng.uniform(0.3, 0.8)
        shape = shape + np.tensordot(strength * activation, source.expression.numpy(), 1)
        if not source.scanned:
            shape = shape + sum(_field(self.mean, *field, rng) for field in FIELDS)
            shape = shape + self._bumps(rng)
        extra = [] if self._whole else [_skull()]
        extra += [*_hair(self._whole, rng), _shoulders(rng)]
        if not self._whole:
            extra.append(_neck())
        extra = [part for part in extra if part is not None]
        vertices, triangles = [shape], [self.triangles]
        chart, material = [self.chart], [self._material]
        for points, faces, kind in extra:
            triangles.append(faces + sum(map(len, vertices)))
            vertices.append(points)
            chart.append(unroll(points))
            material.append(np.full(len(faces), kind))
        size = np.exp(SIZE_STD * rng.standard_normal())
        return Head(
            size * np.concatenate(vertices),
            np.concatenate(triangles),
            np.concatenate(material),
            np.concatenate(chart),
            self.landmarks,
        )

    def _materials(self, face: np.ndarray) -> np.ndarray:
        """Eyeballs and the inside of the mouth: what is not skin near the eyes and the lips."""
        points = self.mean[self.landmarks]
        other = ~face[self.triangles].any(axis=1)
        center = self.mean[self.triangles].mean(axis=1)
        material = np.full(len(self.triangles), SKIN)
        for eye in (points[36:42], points[42:48]):
            near = np.linalg.norm(center[:, :2] - eye.mean(axis=0)[:2], axis=1) < 19
            material[other & near & (center[:, 2] > EYES[2] - 30)] = EYE
        lips = points[48:60].mean(axis=0)
        across, up = ((center - lips)[:, :2] / (31, 22)).T
        material[other & (across**2 + up**2 < 1) & (center[:, 2] > lips[2] - 45)] = MOUTH
        return material

    def _bumps(self, rng: np.random.Generator) -> np.ndarray:
        """Gaussian bumps at landmarks; left and right alike but for a quarter."""
        moved = np.zeros_like(self.mean)
        for group, reach, spread in _BUMPS:
            common = spread * rng.standard_normal(3)
            if len(group) == 1 or self.mean[self.landmarks[group[0]], 0] == 0:
                common[0] *= ASYMMETRY
            for index in group:
                center = self.mean[self.landmarks[index]]
                away = np.array([np.sign(center[0]) if abs(center[0]) > 3 else 1.0, 1.0, 1.0])
                step = away * common + ASYMMETRY * spread * rng.standard_normal(3)
                weight = np.exp(-((self.mean - center) ** 2).sum(axis=1) / (2 * reach**2))
                moved += weight[:, None] * step
        return moved


def unroll(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Where points lie on the cylinder of RADIUS about the vertical line x = 0, z = AXIS_Z, mm."""
    angle = np.arctan2(points[:, 0], points[:, 2] - AXIS_Z)
    return np.stack([RADIUS * angle, points[:, 1]], axis=1)


def _field(
    points: Float[np.ndarray, "n 3"], wavelength: float, rms: float, rng: np.random.Generator
) -> Float[np.ndarray, "n 3"]:
    """A smooth random displacement: a Gaussian process by random Fourier features.

    A quarter of it is free, the rest is mirrored, as faces are nearly symmetric.
    """
    n = 48
    waves = rng.standard_normal((n, 3)) * (2 * np.pi / wavelength / np.sqrt(3))
    phase = rng.uniform(0, 2 * np.pi, n)
    weights = rng.standard_normal((n, 3)) * np.sqrt(2 / n) * rms / np.sqrt(3)
    flip = np.array([-1.0, 1.0, 1.0])

    def at(places: np.ndarray) -> np.ndarray:
        return np.cos(places @ waves.T + phase) @ weights

    here, there = at(points), at(points * flip) * flip
    return (1 - ASYMMETRY) / np.sqrt(2) * (here + there) + ASYMMETRY / np.sqrt(2) * (here - there)


Part = tuple[np.ndarray, np.ndarray, int]


def _ellipsoid(
    center: tuple[float, float, float], radii: tuple[float, float, float], rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, azimuth (0: front) and elevation of a closed ellipsoid."""
    elevation, azimuth = np.meshgrid(
        np.linspace(-np.pi / 2, np.pi / 2, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    direction = np.stack(
        [
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
            np.cos(elevation) * np.cos(azimuth),
        ],
        axis=-1,
    )
    points = np.array(center) + direction * np.array(radii)
    return points, _grid_triangles(rows, columns), azimuth, elevation


def _grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Two triangles per cell of a grid whose rows go up and whose columns go right."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    cells = [np.stack([a, b, d], axis=-1), np.stack([a, d, c], axis=-1)]
    return np.concatenate([cell.reshape(-1, 3) for cell in cells])


_SKULL = (0.0, 20.0, -86.0), (75.0, 99.0, 88.0)


def _skull() -> Part:
    """What lies behind a face that ends at the hairline."""
    points, triangles, _, _ = _ellipsoid(*_SKULL, 40, 60)
    return points.reshape(-1, 3), triangles, SKIN


def _hair(whole: bool, rng: np.random.Generator) -> list[Part]:
    """A cap above the hairline, thick or thin, and sometimes long hair behind the neck."""
    style = rng.random()
    if style < 0.08:
        return []
    center, radii = _SKULL
    grow = np.array([1.06, 1.1, 1.08] if whole else [1.0, 1.0, 1.0])
    points, triangles, azimuth, elevation = _ellipsoid(center, tuple(grow * radii), 110, 240)
    middle = np.array(center)
    out = (points - middle) / np.linalg.norm(points - middle, axis=-1, keepdims=True)
    # Height of the hairline above the eyes, from the forehead over the temples to the nape.
    front = rng.uniform(56, 80)
    at = np.deg2rad([-1, 0, 14, 27, 38, 48, 58, 70, 84, 100, 125, 180])
    fall = front * np.array([0, 0, 0.03, 0.12, 0.28, 0.48, 0.72, 0.95])
    line = [*(front - fall), 0, -4, -50, -62]
    recess = rng.uniform(0, 14) * np.exp(-(((np.abs(azimuth) - 0.5) / 0.22) ** 2))
    hairline = EYES[1] + PchipInterpolator(at, line)(np.abs(azimuth)) + recess
    waves = ((2, 9.0), (1.5, 23.0), (1.2, 47.0), (0.8, 80.0))
    ragged = sum(a * np.sin(k * azimuth + rng.uniform(0, 6)) for a, k in waves)
    above = points[..., 1] - hairline - ragged
    thick = rng.uniform(6, 22)
    lumps = 1 + 0.15 * sum(
        np.sin(k * azimuth + rng.uniform(0, 6)) * np.sin(m * elevation + rng.uniform(0, 6))
        for k, m in ((3, 4), (7, 5), (13, 9))
    )
    rise = np.tanh(np.maximum(above, 0) / 30)
    depth = np.where(above > 0, 2.0 + thick * lumps * rise, -14.0)
    points = points + depth[..., None] * out
    keep = (above.ravel()[triangles] > -6).any(axis=1)
    parts: list[Part] = [(points.reshape(-1, 3), triangles[keep], HAIR)]
    if style > 0.6:
        parts.append(_long_hair(rng))
    return parts


def _long_hair(rng: np.random.Generator) -> Part:
    """A curtain behind the ears down to the shoulders."""
    rows, columns = 40, 80
    y, angle = np.meshgrid(
        np.linspace(-rng.uniform(110, 190), 65, rows),
        np.linspace(np.deg2rad(82), np.deg2rad(278), columns),
        indexing="ij",
    )
    spread = 1 + 0.1 * np.sin(5 * angle + rng.uniform(0, 6)) + 0.0008 * (60 - y)
    spread = spread * (1 - 0.3 * expit((y - 35) / 9))  # tucked under the cap
    across, along = rng.uniform(84, 100), 78
    x = across * spread * np.sin(angle)
    z = -88 + along * spread * np.cos(angle)
    triangles = _grid_triangles(rows, columns)
    both_sides = np.concatenate([triangles, triangles[:, ::-1]])
    return np.stack([x, y, z], axis=-1).reshape(-1, 3), both_sides, HAIR


def _neck() -> Part:
    rows, columns = 30, 60
    y, angle = np.meshgrid(
        np.linspace(-240, -70, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    widen = 1 + 0.008 * np.maximum(0, -125 - y)
    points = np.stack([54 * widen * np.sin(angle), y, -68 + 50 * np.cos(angle)], axis=-1)
    return points.reshape(-1, 3), _grid_triangles(rows, columns), SKIN


def _shoulders(rng: np.random.Generator) -> Part:
    width, top = rng.uniform(200, 245), rng.uniform(-112, -92)
    points, triangles, azimuth, elevation = _ellipsoid(
        (0.0, top - 190, -95.0), (width, 190.0, 95.0), 60, 120
    )
    folds = 3 * np.sin(6 * azimuth + rng.uniform(0, 6)) * np.sin(7 * elevation + rng.uniform(0, 6))
    points[..., 2] += folds
    # The collar: the top is lower around the neck.
    around = np.hypot(points[..., 0] / 78, (points[..., 2] + 60) / 72)
    upper = expit((points[..., 1] - top + 95) / 12)
    points[..., 1] -= rng.uniform(40, 70) * np.exp(-(around**4)) * upper
    return points.reshape(-1, 3), triangles, CLOTH
