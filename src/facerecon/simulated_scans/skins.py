"""Skin of the benchmark's subjects, painted on the unrolled head: reflectance, relief and gloss.

Nothing here is shared with the training world's skin: it is painted per pixel of a chart instead of
per vertex, in linear light, and its wrinkles are relief, which the sensor measures, too.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from scipy.special import expit

STEP_MM = 0.4
HALF_WIDTH, BOTTOM, TOP = 150.0, -150.0, 120.0  # mm of the chart
SHAPE = (int((TOP - BOTTOM) / STEP_MM), int(2 * HALF_WIDTH / STEP_MM))

# Reflectance in linear light from the palest to the darkest skin, and how blood changes it.
_TONES = np.array([[0.66, 0.44, 0.35], [0.50, 0.31, 0.22], [0.33, 0.19, 0.12], [0.11, 0.06, 0.04]])
_BLOOD = np.array([0.03, -0.35, -0.25])
_HAIR = np.array(
    [[0.012, 0.01, 0.009], [0.05, 0.027, 0.015], [0.14, 0.075, 0.035], [0.32, 0.21, 0.1],
     [0.34, 0.33, 0.32]]
)  # fmt: skip
_IRIS = np.array([[0.06, 0.03, 0.015], [0.12, 0.08, 0.035], [0.1, 0.14, 0.17]])


class Skins(NamedTuple):
    """Charts of one subject; row 0 is the top.

    albedo: linear light. relief: mm along the normal. gloss: factor of the highlights. eye: albedo
    of the eyeballs. hair: color of the hair; cloth: of the clothes. hairy: share of the laser that
    brows and beard absorb.
    """

    albedo: Float[np.ndarray, "rows columns 3"]
    relief: Float[np.ndarray, "rows columns"]
    gloss: Float[np.ndarray, "rows columns"]
    eye: Float[np.ndarray, "rows columns 3"]
    hairy: Float[np.ndarray, "rows columns"]
    hair: Float[np.ndarray, " 3"]
    cloth: Float[np.ndarray, " 3"]


def chart_pixels(chart: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Column and row of places on the unrolled head (mm)."""
    return np.stack([chart[..., 0] + HALF_WIDTH, TOP - chart[..., 1]], axis=-1) / STEP_MM - 0.5


def paint(points: Float[np.ndarray, "68 2"], rng: np.random.Generator) -> Skins:
    """The skin of one subject.

    Args:
        points: the 68 landmarks on the unrolled head, mm.
    """
    age = rng.beta(1.1, 1.6)
    pixels = chart_pixels(points)
    tone = rng.beta(0.8, 1.3) * (len(_TONES) - 1)
    low = min(int(tone), len(_TONES) - 2)
    base = np.exp((1 - tone + low) * np.log(_TONES[low]) + (tone - low) * np.log(_TONES[low + 1]))
    hair = _between(_HAIR, rng.random() ** 1.6 if age < 0.7 else rng.uniform(0.5, 1))
    hair = hair if tone < 1.6 else hair.clip(max=0.03)

    blood = 0.35 * _noise(60, rng) + 0.25 * _noise(12, rng)
    blood += 0.7 * _spots(pixels, (1, 15, 30), (22, 22, 9)) * rng.uniform(0.2, 1.2)
    blotches = 0.05 * _noise(25, rng) + 0.035 * _noise(4, rng) + 0.03 * _noise(1.2, rng)
    freckles = np.clip(_noise(1.6, rng) - rng.uniform(1.9, 3.5), 0, 1) * 0.35
    moles = _moles(rng)
    albedo = base * np.exp(0.3 * blood[..., None] * _BLOOD + (blotches - freckles)[..., None])
    albedo = albedo * (1 - moles[..., None] * np.array([0.55, 0.7, 0.75]))
    albedo = albedo * (1 - rng.uniform(0, 0.25) * _under_eyes(pixels)[..., None] * [0.6, 0.9, 0.8])

    hairy = np.zeros(SHAPE, np.float32)
    beard = _beard(pixels, rng) if rng.random() < 0.4 else np.zeros(SHAPE, np.float32)
    full = rng.random() < 0.35
    beard *= rng.uniform(0.6, 0.9) if full else rng.uniform(0.1, 0.4)
    albedo = _over(albedo, hair * 1.3, beard * (0.75 + 0.25 * _noise(0.6, rng)).clip(0, 1))
    hairy = np.maximum(hairy, beard if full else 0)

    lips = _blurred(_polygon(pixels[48:60]), 1.5)
    lips_color = base * np.exp(rng.normal([0.0, -0.35, -0.2], [0.1, 0.15, 0.1]))
    albedo = _over(albedo, lips_color * (1 + 0.08 * _noise(1.5, rng))[..., None], 0.85 * lips)
    parting = pixels[[48, 60, 61, 62, 63, 64, 54]]
    albedo = albedo * (1 - 0.65 * _blurred(_stroke([parting], 1.4), 1.0))[..., None]

    brows = _brows(pixels, rng)
    albedo = _over(albedo, hair, brows)
    hairy = np.maximum(hairy, 0.5 * brows)
    lashes = [pixels[[36, 37, 38, 39]], pixels[[42, 43, 44, 45]]]
    albedo = _over(albedo, hair * 0.7, rng.uniform(0.3, 0.8) * _blurred(_stroke(lashes, 1.1), 0.8))

    relief = _wrinkles(pixels, age, rng)
    smooth = 1 - np.maximum(lips, _blurred(_stroke(lashes, 3.0), 1.5))
    relief += (0.06 * _noise(6, rng) + 0.035 * _noise(1.8, rng) + 0.02 * _noise(0.8, rng)) * smooth
    gloss = 0.9 + 0.25 * _noise(14, rng) + 0.9 * _spots(pixels, (30, 27), (10, 12)) + 0.6 * lips
    gloss = gloss * (1 - 0.7 * np.maximum(brows, beard))
    return Skins(
        albedo.clip(0.004, 0.9).astype(np.float32),
        relief.astype(np.float32),
        gloss.clip(0.1, 3).astype(np.float32),
        _eyes(pixels, rng),
        hairy.astype(np.float32),
        hair.astype(np.float32),
        (np.exp(rng.uniform(np.log(0.02), np.log(0.5))) * rng.uniform(0.7, 1.3, 3)).astype("f4"),
    )


def _noise(size_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of unit variance with features of the given size."""
    coarse = max(1.0, size_mm / STEP_MM / 4)
    rows, columns = (int(np.ceil(n / coarse)) + 4 for n in SHAPE)
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    values = cv2.GaussianBlur(values, (0, 0), max(size_mm / STEP_MM / 2 / coarse, 0.3))
    values = cv2.resize(values, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    return values / values.std()


def _blurred(image: np.ndarray, sigma_mm: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma_mm / STEP_MM)


def _polygon(pixels: np.ndarray) -> np.ndarray:
    image = np.zeros(SHAPE, np.float32)
    cv2.fillPoly(image, [np.rint(pixels * 16).astype(np.int32)], 1.0, shift=4)
    return image


def _stroke(lines: list[np.ndarray], width_mm: float) -> np.ndarray:
    image = np.zeros(SHAPE, np.uint8)
    shifted = [np.rint(line * 16).astype(np.int32) for line in lines]
    width = max(1, round(width_mm / STEP_MM))
    cv2.polylines(image, shifted, False, 255, width, cv2.LINE_AA, shift=4)
    return image.astype(np.float32) / 255


def _spots(pixels: np.ndarray, indices: tuple[int, ...], radii: tuple[int, ...]) -> np.ndarray:
    """Soft discs at landmarks; 1 and 15 stand for the cheeks, half way to the nose."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    total = np.zeros(SHAPE)
    for index, radius in zip(indices, radii, strict=True):
        center = pixels[index] if index not in (1, 15) else (pixels[index] + pixels[30]) / 2
        squared = (column - center[0]) ** 2 + (row - center[1]) ** 2
        total += np.exp(-squared / (2 * (radius / STEP_MM) ** 2))
    return total


def _moles(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros(SHAPE, np.float32)
    for _ in range(rng.poisson(5)):
        center = rng.uniform([0.2, 0.2], [0.8, 0.8]) * SHAPE[::-1]
        radius = max(1, round(rng.uniform(0.4, 1.4) / STEP_MM))
        cv2.circle(image, tuple(int(c) for c in center), radius, rng.uniform(0.3, 0.9), -1)
    return _blurred(image, 0.4)


def _under_eyes(pixels: np.ndarray) -> np.ndarray:
    lower = [pixels[[36, 41, 40, 39]], pixels[[42, 47, 46, 45]]]
    return _blurred(_stroke([line + np.array([0, 5 / STEP_MM]) for line in lower], 5), 2.5)


def _beard(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    jaw = pixels[3:14]
    upper = pixels[[13, 54, 35, 33, 31, 48, 3]]
    area = _polygon(np.concatenate([jaw + np.array([0, 25 / STEP_MM]), upper]))
    area *= 1 - _blurred(_polygon(pixels[48:60]), 1.0)
    return _blurred(area, 4) * (0.8 + 0.2 * _noise(5, rng)).clip(0, 1)


def _brows(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Single hairs, thick or thin, along the two lines of landmarks."""
    image = np.zeros(SHAPE, np.float32)
    thick, count = rng.uniform(3.5, 8.0), int(rng.uniform(160, 420))
    for line, outward in ((pixels[17:22][::-1], -1.0), (pixels[22:27], 1.0)):
        at = rng.random(count) ** 0.9 * (len(line) - 1)
        low = np.minimum(at.astype(int), len(line) - 2)
        root = line[low] + (at - low)[:, None] * (line[low + 1] - line[low])
        taper = 1 - 0.6 * at / (len(line) - 1)
        root[:, 1] += taper * thick * rng.uniform(-0.5, 0.5, count) / STEP_MM
        lean = np.deg2rad(70 - 55 * at / (len(line) - 1) + 12 * rng.standard_normal(count))
        tip = root + (rng.uniform(4, 8, count) / STEP_MM)[:, None] * np.stack(
            [outward * np.cos(lean), -np.sin(lean)], axis=1
        )
        hairs = np.stack([root, tip], axis=1)
        image = np.maximum(image, _stroke(list(hairs), 0.4))
        image = np.maximum(image, 0.35 * _blurred(_stroke([line], 0.7 * thick), 1.2))
    return rng.uniform(0.65, 0.95) * _blurred(image, 0.35).clip(0, 1)


def _wrinkles(pixels: np.ndarray, age: float, rng: np.random.Generator) -> np.ndarray:
    """Creases with raised lips: forehead, frown, crow's feet, smile lines, under the eyes."""
    relief = np.zeros(SHAPE, np.float32)
    brow_y = pixels[17:27, 1].mean()
    left, right = pixels[36], pixels[45]
    span = right[0] - left[0]
    lines: list[tuple[np.ndarray, float, float]] = []
    t = np.linspace(0, 1, 24)
    for number in range(rng.integers(2, 6)):
        start, end = rng.uniform(-0.05, 0.15), rng.uniform(0.85, 1.05)
        x = left[0] + span * (start + (end - start) * t)
        y = brow_y - (17 + 9 * number) / STEP_MM + 3 / STEP_MM * (2 * t - 1) ** 2
        y = y + np.cumsum(rng.standard_normal(24)) * 0.5
        lines.append((np.stack([x, y], axis=1), rng.uniform(0.1, 0.5), rng.uniform(1.0, 1.8)))
    for side in (-1, 1):
        root = pixels[21 if side < 0 else 22] + [-side * 4 / STEP_MM, 0]
        frown = root + np.outer(t, [0.0, -14 / STEP_MM]) + rng.normal(0, 1, (24, 2)).cumsum(0) * 0.2
        lines.append((frown, rng.uniform(0, 0.5), 1.3))
        corner = left if side < 0 else right
        for angle in np.deg2rad(rng.uniform(-35, 40, 4)):
            ray = corner + np.outer((5 + 17 * t) / STEP_MM, [side * np.cos(angle), np.sin(angle)])
            lines.append((ray, rng.uniform(0.05, 0.35), 1.0))
        wing, mouth = (pixels[31], pixels[48]) if side < 0 else (pixels[35], pixels[54])
        bow = np.sin(np.pi * t)[:, None] * [side * 4 / STEP_MM, 0]
        start = wing + np.array([side * 5, -4]) / STEP_MM
        end = mouth + np.array([side * 7, 3]) / STEP_MM
        path = start + t[:, None] * (end - start) + bow
        lines.append((path, rng.uniform(0.2, 0.9), 2.4))
        lower = pixels[[36, 41, 40, 39]] if side < 0 else pixels[[45, 46, 47, 42]]
        bag = lower + np.array([0, rng.uniform(5, 9) / STEP_MM])
        lines.append((bag, rng.uniform(0.05, 0.45), 1.6))
    for line, depth, width in lines:
        mark = _stroke([line], 0.8)
        fade = _blurred(mark, width)
        groove = fade / max(fade.max(), 1e-6) - 0.55 * (
            (wide := _blurred(mark, 2.2 * width)) / max(wide.max(), 1e-6)
        )
        relief -= np.float32((0.35 + age) * depth) * groove
    return relief


def _eyes(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White, iris and pupil, both eyes looking the same way."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    eye = np.empty((*SHAPE, 3), np.float32)
    eye[:] = rng.uniform(0.35, 0.6) * np.array([1.0, 0.9, 0.86])
    gaze = rng.normal(0, [1.2, 0.6], 2)
    color, radius = _between(_IRIS, rng.random()), rng.uniform(5.4, 6.2)
    pupil = rng.uniform(1.3, 2.4)
    reach = round(24 / STEP_MM)
    for corners in (pixels[36:42], pixels[42:48]):
        center = corners.mean(axis=0) + (gaze - np.array([0, 0.8])) / STEP_MM
        window = tuple(slice(max(0, int(c) - reach), int(c) + reach) for c in center[::-1])
        part, y, x = eye[window], row[window], column[window]
        across = np.hypot(x - center[0], y - center[1]) * STEP_MM
        ring = expit((radius - across) / 0.25)
        hole = expit((pupil - across) / 0.2)
        dark = 1 - 0.6 * np.exp(-(((across - radius) / 0.7) ** 2))
        inner = color * dark[..., None] * (1 - hole[..., None]) + 0.003
        part += ring[..., None] * (inner - part)
        lid = corners[1:3, 1].mean()
        part *= 1 - 0.6 * expit(1.5 - (y - lid) * STEP_MM)[..., None]
    return eye


def _between(colors: np.ndarray, at: float) -> np.ndarray:
    place = at * (len(colors) - 1)
    low = min(int(place), len(colors) - 2)
    return colors[low] + (place - low) * (colors[low + 1] - colors[low])


def _over(below: np.ndarray, above: np.ndarray, cover: np.ndarray) -> np.ndarray:
    return below + cover[..., None] * (above - below)
