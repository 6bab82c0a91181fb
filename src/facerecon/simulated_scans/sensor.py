"""The benchmark's camera and range sensor: a perspective photograph, and a noisy scan with holes.

Own shading, in linear light: soft lamps with cast shadows and GGX highlights, sky from all sides
with occlusion, light scattered below the skin, a film curve. Frame: the camera's, x right, y up, z
toward the viewer; the camera sits at the origin, so that depths are negative.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from facerecon.mesh import vertex_normals
from facerecon.rasterize import interpolate, rasterize
from facerecon.simulated_scans.shapes import CLOTH, EYE, EYES, HAIR, MOUTH, SKIN, Head
from facerecon.simulated_scans.skins import Skins, chart_pixels

HEIGHT, WIDTH = 480, 640
SUPERSAMPLING = 2

# From a supersampled pixel to the grid of the shadows, which has every second pixel of the image.
_SHADOW_TO_FINE = np.array([[0.25, 0, -0.125], [0, 0.25, -0.125]])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...k,...k->...", a, b)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(np.maximum(_dot(vectors, vectors), 1e-12))[..., None]


class Camera(NamedTuple):
    """A pinhole without distortion. focal, center: pixels; the principal point is (column, row)."""

    focal: float
    center: tuple[float, float]

    def pixels(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Column, row and z (mm) of points in the camera's frame."""
        x, y, z = np.moveaxis(points, -1, 0)
        column = self.center[0] + self.focal * x / -z
        return np.stack([column, self.center[1] - self.focal * y / -z, z], axis=-1)

    def rays(self, height: int, width: int) -> Float[np.ndarray, "height width 3"]:
        """Points of the pixels' lines of sight at z = -1."""
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        x, y = (column - self.center[0]) / self.focal, (self.center[1] - row) / self.focal
        return np.stack([x, y, -np.ones_like(x)], axis=-1)

    def finer(self, factor: int) -> "Camera":
        """The same camera with more pixels."""
        column, row = ((c + 0.5) * factor - 0.5 for c in self.center)
        return Camera(self.focal * factor, (column, row))


class Surface(NamedTuple):
    """What a camera sees at each pixel; the background has material -1 and NaN.

    points: mm, camera frame. normals: unit. chart: column and row of the skin's charts.
    """

    points: Float[np.ndarray, "height width 3"]
    normals: Float[np.ndarray, "height width 3"]
    material: Int[np.ndarray, "height width"]
    chart: Float[np.ndarray, "height width 2"]
    relief: Float[np.ndarray, "height width"]


class Shot(NamedTuple):
    """A subject as recorded, and the truth.

    image: RGB. scan: mm as the sensor gives it, NaN in its holes. points: mm, without noise and
    holes. material: of each pixel. landmarks: column and row of the 68 points. camera: the one.
    """

    image: Float[np.ndarray, "height width 3"]
    scan: Float[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "height width 3"]
    material: Int[np.ndarray, "height width"]
    landmarks: Float[np.ndarray, "68 2"]
    camera: Camera


def shoot(head: Head, skins: Skins, rng: np.random.Generator, yaw: float | None = None) -> Shot:
    """Seat a subject, light it, photograph and scan it.

    Args:
        yaw: degrees by which the head is turned, as in `camera.POSE_NAMES`; all else is sampled.
            By default the angle is sampled, too: nearly frontal.
    """
    distance = rng.uniform(900, 1500)
    camera = Camera(
        distance / rng.uniform(0.78, 1.0),
        ((WIDTH - 1) / 2 + rng.normal(0, 12), (HEIGHT - 1) / 2 + rng.normal(0, 8)),
    )
    angles = np.deg2rad(rng.normal([0, 0, 0], [5, 6, 2.5]).clip(-15, 15))
    if yaw is not None:
        angles[1] = np.deg2rad(yaw)
    turn = Rotation.from_euler("yxz", angles[[1, 0, 2]]).as_matrix()
    place = np.array([rng.normal(0, 25), rng.normal(15, 15), -distance])
    vertices = (head.vertices - EYES) @ turn.T + place
    seen = _surface(head, skins, vertices, camera, HEIGHT, WIDTH)
    fine = _surface(
        head,
        skins,
        vertices,
        camera.finer(SUPERSAMPLING),
        HEIGHT * SUPERSAMPLING,
        WIDTH * SUPERSAMPLING,
    )
    lamps = _lamps(rng)
    shadows = np.stack([_shadow(seen, camera, lamp.direction) for lamp in lamps])
    linear = _shade(fine, skins, lamps, shadows, rng)
    image = _develop(linear, seen, rng)
    scan = _scan(seen, skins, camera, image, rng)
    landmarks = camera.pixels(vertices[head.landmarks])[:, :2]
    return Shot(image, scan, seen.points, seen.material, landmarks, camera)


def _surface(
    head: Head,
    skins: Skins,
    vertices: Float[np.ndarray, "vertices 3"],
    camera: Camera,
    height: int,
    width: int,
) -> Surface:
    """Rasterize, then raise the skin by its relief and bend the normals with it."""
    triangles = torch.from_numpy(head.triangles)
    projected = torch.from_numpy(camera.pixels(vertices)[None].astype(np.float32))
    fragments = rasterize(projected, triangles, height, width)
    mask = fragments.mask[0, 0].numpy()
    camera_frame = torch.from_numpy(vertices[None].astype(np.float32))
    values = torch.cat(
        [
            camera_frame,
            vertex_normals(camera_frame, triangles),
            torch.from_numpy(chart_pixels(head.chart)[None].astype(np.float32)),
        ],
        dim=2,
    )
    maps = interpolate(values, fragments, triangles)[0].permute(1, 2, 0).numpy()
    material = np.where(mask, head.material[fragments.triangle[0].numpy().clip(0)], -1)
    normals = _unit(maps[..., 3:6])
    # The depth of a flat triangle is exact along its pixel's line of sight.
    z = maps[..., 2]
    chart = np.ascontiguousarray(maps[..., 6:8])
    relief = cv2.remap(skins.relief, chart, None, cv2.INTER_LINEAR)
    relief = np.where(material == SKIN, relief, 0).astype(np.float32)
    facing = np.maximum(normals[..., 2], 0.35)
    normals = _bent(normals, relief, float(-z.mean(where=mask)) / camera.focal)
    points = camera.rays(height, width) * -(z + relief * facing)[..., None]
    points[~mask] = normals[~mask] = np.nan
    return Surface(points, normals, material, chart, relief)


def _bent(
    normals: Float[np.ndarray, "height width 3"],
    relief: Float[np.ndarray, "height width"],
    mm: float,
) -> Float[np.ndarray, "height width 3"]:
    """Normals of a surface after it was raised along them (J. Blinn, SIGGRAPH 1978)."""
    nx, ny, nz = np.moveaxis(normals, -1, 0)
    nz = np.maximum(nz, 0.2)
    right = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / (8 * mm))
    up = -cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=1 / (8 * mm))
    # Tangents of one mm to the right and up in the image, and their cross products with n.
    zero, one = np.zeros_like(nx), np.ones_like(nx)
    east = np.stack([one, zero, -nx / nz], axis=-1)
    north = np.stack([zero, one, -ny / nz], axis=-1)
    area = np.sqrt(1 + (nx / nz) ** 2 + (ny / nz) ** 2)[..., None]
    bent = (
        normals
        + (right[..., None] * np.cross(normals, north) - up[..., None] * np.cross(normals, east))
        / area
    )
    return _unit(bent)


class _Lamp(NamedTuple):
    direction: np.ndarray
    color: np.ndarray


def _lamps(rng: np.random.Generator) -> list[_Lamp]:
    """Two soft boxes as in a studio, or a window on one side; sometimes a ceiling light."""
    if rng.random() < 0.6:
        sides = [(-rng.uniform(20, 50), rng.uniform(5, 35)), (rng.uniform(20, 50), 20.0)]
        powers = np.array([1.0, rng.uniform(0.35, 1.0)])
    else:
        sides = [(rng.choice([-1, 1]) * rng.uniform(25, 65), rng.uniform(0, 35))]
        powers = np.array([1.2])
    if rng.random() < 0.35:
        sides.append((rng.uniform(-20, 20), rng.uniform(55, 75)))
        powers = np.append(powers, rng.uniform(0.3, 0.7))
    lamps = []
    for (azimuth, elevation), power in zip(sides, powers, strict=True):
        warm = rng.uniform(-0.12, 0.15)
        color = power * np.array([1 + warm, 1.0, 1 - warm])
        # A lamp has a width: three directions share its power and soften the shadow's edge.
        for step in ((-7, 0), (5, 6), (5, -6)):
            a, e = np.deg2rad([azimuth + step[0], elevation + step[1]])
            direction = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
            lamps.append(_Lamp(direction, color / 3))
    return lamps


def _shadow(
    seen: Surface, camera: Camera, direction: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "half_height half_width"]:
    """Share of a lamp that reaches every second pixel: 0 where a visible surface is in between."""
    # Every second pixel is enough for an edge that is soft anyway.
    camera = Camera(camera.focal / 2, (camera.center[0] / 2, camera.center[1] / 2))
    every = np.s_[::2, ::2]
    depth = np.where(seen.material[every] >= 0, seen.points[every][..., 2], -1e9)
    depth = depth.astype(np.float32)
    points = seen.points[every] + 2.0 * seen.normals[every]
    points = np.nan_to_num(points, nan=-1e6).astype(np.float32)
    direction = direction.astype(np.float32)
    light = np.ones(depth.shape, dtype=np.float32)
    for step in np.geomspace(4, 90, 14):
        place = camera.pixels(points + np.float32(step) * direction)
        z = place[..., 2]
        front = cv2.remap(
            depth,
            place[..., :2].astype(np.float32),
            None,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=-1e9,
        )
        ahead = front - z
        light[(ahead > 1.0 + 0.03 * step) & (ahead < 90)] = 0
    return cv2.GaussianBlur(light, (0, 0), 0.8)


def _shade(
    fine: Surface,
    skins: Skins,
    lamps: list[_Lamp],
    shadows: Float[np.ndarray, "lamps half_height half_width"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "height width 3"]:
    """Linear light of the supersampled image, in front of a wall."""
    height, width = fine.material.shape
    rows, columns = np.nonzero(fine.material >= 0)
    window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    material = fine.material[window]
    normals = np.nan_to_num(fine.normals[window]).astype(np.float32)
    points = np.nan_to_num(fine.points[window], nan=-1e4).astype(np.float32)
    view = _unit(-points)
    mask = material >= 0
    skin = material == SKIN

    albedo, gloss, roughness = _reflectance(fine, skins, window, material, normals, rng)
    size = (width, height)
    diffuse = np.zeros((*material.shape, 3), np.float32)
    shine = np.zeros_like(diffuse)
    for lamp, shadow in zip(lamps, shadows, strict=True):
        reach = cv2.warpAffine(
            shadow,
            _SHADOW_TO_FINE,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )[window]
        cosine = normals @ lamp.direction.astype(np.float32)
        diffuse += (np.maximum((cosine + 0.08) / 1.08, 0) * reach)[..., None] * lamp.color
        highlight = _ggx(normals, view, lamp.direction, roughness) * np.maximum(cosine, 0)
        shine += (highlight * gloss * reach)[..., None] * lamp.color
    sky = rng.uniform(0.2, 0.45) * np.array([1.0, 1.0, 1.0])
    lit = 0.75 + 0.25 * normals[..., 1:2]
    diffuse += lit * sky * _occlusion(points[..., 2], mask)[..., None]
    diffuse = _scattered(diffuse.astype(np.float32), skin, fine.points, window)
    color = albedo * diffuse + shine
    image = cv2.resize(_wall(height // 2, width // 2, rng), size, interpolation=cv2.INTER_LINEAR)
    image[window][mask] = color[mask]
    return image.astype(np.float32)


def _reflectance(
    fine: Surface,
    skins: Skins,
    window: tuple[slice, slice],
    material: np.ndarray,
    normals: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo, strength and roughness of the highlights of each pixel."""
    chart = fine.chart[window]
    albedo = cv2.remap(skins.albedo, chart, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    eye = cv2.remap(skins.eye, chart, None, cv2.INTER_LINEAR)
    gloss = 0.028 * cv2.remap(skins.gloss, chart, None, cv2.INTER_LINEAR)
    roughness = np.full(material.shape, rng.uniform(0.36, 0.52), np.float32)
    albedo[material == EYE] = eye[material == EYE]
    gloss[material == EYE], roughness[material == EYE] = 0.03, 0.12
    albedo[material == MOUTH] = np.array([0.09, 0.03, 0.03])
    # Strands: streaks down the chart that bend the reflection, too.
    column, row = chart[..., 0], chart[..., 1]
    strand = rng.standard_normal((24, 1500)).astype(np.float32)
    strand = cv2.GaussianBlur(strand, (0, 0), sigmaX=0.7, sigmaY=1.5)
    wave = column * 1.6 + 12 * np.sin(row / 60) + 400
    streak = cv2.remap(strand, wave, row / 40 % 24, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    hair = material == HAIR
    tint = skins.hair * np.exp(0.75 * streak / strand.std())[..., None]
    albedo[hair] = tint[hair].clip(0.003, 0.6)
    gloss[hair] = 0.02 * np.exp(streak / strand.std())[hair]
    roughness[hair] = 0.45
    cloth = material == CLOTH
    weave = 1 + 0.06 * rng.standard_normal(material.shape).astype(np.float32)
    albedo[cloth] = (skins.cloth * weave[..., None])[cloth].clip(0.01, 0.8)
    gloss[cloth] = 0.002
    return albedo, gloss, roughness


def _ggx(
    normals: np.ndarray, view: np.ndarray, direction: np.ndarray, roughness: np.ndarray
) -> np.ndarray:
    """Microfacet distribution over 4 cos, without Fresnel's rise (B. Walter et al., 2007)."""
    half = _unit(view + direction.astype(np.float32))
    cosine = np.maximum(_dot(normals, half), 0)
    a2 = roughness**4
    distribution = a2 / (np.pi * (cosine**2 * (a2 - 1) + 1) ** 2)
    grazing = np.maximum(_dot(normals, view), 0.15)
    return np.pi * distribution / (4 * grazing)


def _occlusion(z: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sky that a point sees: less where its surroundings are nearer to the camera."""
    size = mask.shape[::-1]
    coarse = (size[0] // 4, size[1] // 4)
    known = cv2.resize(mask.astype(np.float32), coarse, interpolation=cv2.INTER_AREA)
    z = np.where(mask, z, 0).astype(np.float32)
    low = cv2.resize(z, coarse, interpolation=cv2.INTER_AREA)
    light = np.ones_like(z)
    for sigma in (5.0, 14.0, 36.0):
        mean = cv2.GaussianBlur(low, (0, 0), sigma / 4) / np.maximum(
            cv2.GaussianBlur(known, (0, 0), sigma / 4), 1e-3
        )
        mean = cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR)
        light -= 0.22 * np.clip((mean - z) / (0.5 * sigma), -0.3, 1.2)
    return light.clip(0.15, 1.2)


def _scattered(
    diffuse: np.ndarray, skin: np.ndarray, points: np.ndarray, window: tuple[slice, slice]
) -> np.ndarray:
    """Light that enters skin leaves it some mm away, red light farthest."""
    known = skin.astype(np.float32)
    mm = float(np.nanmean(np.abs(np.diff(points[window][..., 0], axis=1))))
    out = diffuse.copy()
    for channel, width in enumerate((1.6, 0.8, 0.5)):
        sigma = max(width / mm, 0.3)
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        spread = cv2.GaussianBlur(diffuse[..., channel] * known, (0, 0), sigma)
        spread /= np.maximum(weight, 1e-3)
        out[skin, channel] = (0.4 * diffuse[..., channel] + 0.6 * spread)[skin]
    return out


def _wall(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A wall out of focus, lit unevenly, sometimes with a door or a shelf."""
    row, column = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    wall = np.full((height, width), np.exp(rng.uniform(np.log(0.08), np.log(0.55))))
    slope = rng.normal(0, 0.4, 2)
    wall = wall * np.exp(slope[0] * (row - 0.5) + slope[1] * (column - 0.5))
    for _ in range(rng.integers(0, 4) if rng.random() < 0.5 else 0):
        a, b = np.sort(rng.uniform(-0.2, 1.2, 2))
        top = rng.uniform(-0.3, 0.6)
        inside = (column > a) & (column < b) & (row > top)
        wall = np.where(inside, wall * np.exp(rng.normal(0, 0.5)), wall)
    wall = cv2.GaussianBlur(wall.astype(np.float32), (0, 0), rng.uniform(1.5, 4.5))
    return wall[..., None] * (1 + rng.normal(0, 0.06, 3))


def _develop(
    linear: Float[np.ndarray, "fine_height fine_width 3"], seen: Surface, rng: np.random.Generator
) -> Float[np.ndarray, "height width 3"]:
    """From light to the file: lens, exposure, film curve, sRGB, noise, sharpening."""
    linear = cv2.GaussianBlur(linear, (0, 0), rng.uniform(0.6, 1.1))
    small = cv2.resize(linear, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    face = seen.material == SKIN
    key = np.median(small[face].mean(axis=-1))
    exposed = small * (np.exp(rng.normal(np.log(0.24), 0.2)) * (key / 0.2) ** 0.45 / key)
    exposed = exposed * (1 + rng.normal(0, 0.03, 3))
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    away = ((row - HEIGHT / 2) ** 2 + (column - WIDTH / 2) ** 2) / (WIDTH / 2) ** 2
    exposed = exposed * (1 - rng.uniform(0, 0.15) * away)[..., None]
    noise = rng.uniform(0.002, 0.008)
    exposed = exposed + noise * np.sqrt(np.maximum(exposed, 0)[..., :]) * rng.standard_normal(
        exposed.shape
    )
    exposed = np.maximum(exposed, 0)
    curved = exposed * (1 + exposed / 2.2**2) / (1 + 0.55 * exposed)
    display = np.where(
        curved <= 0.0031308, 12.92 * curved, 1.055 * np.maximum(curved, 1e-9) ** (1 / 2.4) - 0.055
    ).astype(np.float32)
    sharp = display + rng.uniform(0, 0.5) * (display - cv2.GaussianBlur(display, (0, 0), 1.2))
    return sharp.clip(0, 1)


def _scan(
    seen: Surface,
    skins: Skins,
    camera: Camera,
    image: Float[np.ndarray, "height width 3"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "height width 3"]:
    """A laser stripe scanner: noise along the line of sight, and holes where no light comes back.

    Missing: the background, most of the hair, parts of brows, beard and pupils, highlights, and
    surfaces seen at a grazing angle.
    """
    shape = seen.material.shape
    mask = seen.material >= 0
    points = seen.points
    rays = camera.rays(*shape)
    facing = np.nan_to_num(_dot(seen.normals, _unit(-rays))).clip(0.05, 1)
    smooth = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 1.0) * 3.5
    stripe = rng.standard_normal((shape[0], 1))
    noise = 0.07 * smooth + 0.04 * stripe + 0.04 * rng.standard_normal(shape)
    noise = noise / facing**0.7

    lost = ~mask | (facing < rng.uniform(0.16, 0.26))
    dropout = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 2.5)
    dropout = 0.5 + dropout / dropout.std() / 4
    hairy = cv2.remap(skins.hairy, seen.chart, None, cv2.INTER_LINEAR)
    hairy = np.where(seen.material == HAIR, rng.uniform(0.7, 1.1), np.where(mask, hairy, 0))
    lost |= (hairy > 0.1) & (dropout < hairy * rng.uniform(0.6, 1.0))
    lost |= image.min(axis=-1) > 0.97
    dark = image.max(axis=-1) < 0.12
    lost |= dark & (dropout < 0.6) & (seen.material != CLOTH)
    lost |= (seen.material == MOUTH) & (dropout < 0.7)
    # No measurement across an edge of depth.
    depth = np.where(mask, points[..., 2], -1e5).astype(np.float32)
    step = cv2.dilate(depth, np.ones((3, 3))) - cv2.erode(depth, np.ones((3, 3)))
    lost |= step > 18
    spikes = (rng.random(shape) < 4e-4) * rng.normal(0, 6, shape)
    z = points[..., 2] + noise + spikes
    scanned = rays * -z[..., None]
    scanned[lost] = np.nan
    return scanned


def face_mask(shot: Shot) -> Bool[np.ndarray, "height width"]:
    """The pixels of the truth that show the head's skin and eyes."""
    return np.isin(shot.material, (SKIN, EYE))
