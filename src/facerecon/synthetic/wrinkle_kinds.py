"""The kinds of wrinkles, as curves relative to a face's landmarks, painted into relief maps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.chart import Chart


class Sheet:
    """Where things are on the mean face, for painting in its chart."""

    def __init__(self, model: MorphableModel, chart: Chart):
        self.mask = chart.mask.cpu().numpy()
        self.position = chart.position.cpu().numpy()
        self.where = np.argwhere(self.mask)
        self.points = self.position[self.mask]
        front = self.points[self.points[:, 2] > -75]  # not the ears
        self.surface, self.height = cKDTree(front[:, :2]), front[:, 2]
        self.texels = cKDTree(self.points)
        self.landmarks = model.mean[model.landmarks].double().cpu().numpy()
        steps = np.linalg.norm(np.diff(self.position, axis=0), axis=2)
        self.texel_mm = float(np.median(steps[self.mask[1:] & self.mask[:-1]]))


class Canvas:
    """One relief map in the making. Lengths in mm on the mean face, points as (x, y)."""

    def __init__(self, sheet: Sheet, relief: np.ndarray, rng: np.random.Generator):
        self.sheet, self.relief, self.rng = sheet, relief, rng
        self.landmarks = sheet.landmarks

    def uniform(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return float(self.rng.uniform(low, high))

    def both_sides(
        self, points: np.ndarray, depth: float, width: float, wobble: float = 1.0
    ) -> None:
        """A line given on the person's left side, and its mirror image a little different."""
        for side in (1.0, -1.0):
            moved = points + self.rng.normal(0, 0.7 * wobble, (1, 2))
            scale = self.uniform(0.75, 1.15)
            self.line(moved * (side, 1.0), depth * scale, width * self.uniform(0.9, 1.1), wobble)

    def line(self, points: np.ndarray, depth: float, width: float, wobble: float = 1.0) -> None:
        """A groove (depth > 0) or ridge (depth < 0) along a curve, tapered toward its ends.

        points: a few (x, y) that a smooth curve goes through. width: standard deviation of the
        profile, at least most of a texel. wobble: of the curve.
        """
        width = max(width, 0.7 * self.sheet.texel_mm)
        curve = _smooth(points)
        normal = np.gradient(curve, axis=0)[:, ::-1] * (1, -1)
        normal = normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-6)
        noise = gaussian_filter(self.rng.normal(0, 1, len(curve)), 8, mode="nearest")
        curve = curve + normal * (1.6 * wobble * noise)[:, None]
        _, nearest = self.sheet.surface.query(curve, k=4)
        height = gaussian_filter(self.sheet.height[nearest].mean(1), 4, mode="nearest")
        curve = np.concatenate([curve, height[:, None]], 1)
        tree = cKDTree(curve)
        reach = 3.5 * width
        found = self.sheet.texels.query_ball_point(curve[::2], reach + 1)
        close = np.unique(np.concatenate([np.asarray(each, int) for each in found]))
        distance, at = tree.query(self.sheet.points[close])
        along = at / max(len(curve) - 1, 1)
        taper = np.sin(np.pi * along.clip(0.02, 0.98)) ** 0.6
        strength = taper * (1 + 0.35 * gaussian_filter(self.rng.normal(0, 6, len(curve)), 10)[at])
        profile = np.exp(-((distance / width) ** 2)) - 0.3 * np.exp(
            -(((distance - 2 * width) / (1.1 * width)) ** 2)
        )
        rows, columns = self.sheet.where[close].T
        np.add.at(self.relief, (rows, columns), -depth * strength * profile)


def _smooth(points: np.ndarray) -> np.ndarray:
    """Points 0.5 mm apart on a quadratic (or straight) curve through a few points, (n, 2)."""
    t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    n = max(int(t[-1] / 0.5), 4)
    degree = min(len(points) - 1, 3)
    at = np.linspace(0, 1, n)
    return np.stack([np.polyval(np.polyfit(t / t[-1], p, degree), at) for p in points.T], axis=1)


def _forehead(c: Canvas) -> None:
    brow = c.landmarks[[19, 24], 1].mean()
    height = brow + c.uniform(11, 16)
    arch = c.uniform(-5, 4)
    while height < brow + 48:
        left, right = c.uniform(-48, -18), c.uniform(18, 48)
        x = np.linspace(left, right, 5)
        y = height + arch * np.cos(x / 22) + c.rng.normal(0, 1.0, 5)
        c.line(np.stack([x, y], 1), c.uniform(0.25, 0.9), c.uniform(0.7, 1.5))
        height += c.uniform(6, 12)


def _glabella(c: Canvas) -> None:
    top, bottom = c.landmarks[[21, 22], 1].mean() + 12, c.landmarks[27, 1] + 4
    for side in (-1, 1):
        x = c.uniform(3, 8)
        lean = c.uniform(-1, 3)
        points = np.array([[x, bottom + c.uniform(0, 5)], [x, (top + bottom) / 2], [x + lean, top]])
        c.line(points * (side, 1), c.uniform(0.3, 1.1), c.uniform(0.8, 1.4), 0.5)
    y = c.landmarks[27, 1] + c.uniform(-3, 4)
    c.line(np.array([[-9, y + 1.5], [0, y], [9, y + 1.5]]), c.uniform(0.1, 0.7), 0.9, 0.5)


def _crows_feet(c: Canvas) -> None:
    corner = c.landmarks[45, :2] + np.array([5.5, 0.0])
    for angle in np.linspace(-0.75, 0.6, int(c.rng.integers(3, 6))) + c.rng.normal(0, 0.06):
        start = corner + 2 * np.array([np.cos(angle), np.sin(angle)])
        reach, bend = c.uniform(8, 19), c.uniform(-0.25, 0.1)
        t = np.linspace(0, reach, 4)[:, None]
        turn = angle + bend * t[:, 0] / reach
        points = start + t * np.stack([np.cos(turn), np.sin(turn)], 1)
        c.both_sides(points, c.uniform(0.2, 0.7), c.uniform(0.6, 1.0), 0.5)


def _under_eyes(c: Canvas) -> None:
    inner, outer = c.landmarks[42, :2], c.landmarks[45, :2]
    for drop in (c.uniform(5, 8), c.uniform(11, 16)):
        x = np.linspace(inner[0] - 1, outer[0] - c.uniform(0, 10), 5)
        u = (x - x[0]) / (x[-1] - x[0])
        y = inner[1] - 2 - drop * np.sin(np.pi * (0.12 + 0.7 * u))
        c.both_sides(np.stack([x, y], 1), c.uniform(0.15, 0.6), c.uniform(0.8, 1.5), 0.6)
    x = np.linspace(inner[0] + 3, outer[0] - 2, 5)
    bag = np.stack([x, inner[1] - c.uniform(6, 8) - 2 * np.sin(np.linspace(0, np.pi, 5))], 1)
    c.both_sides(bag, -c.uniform(0.2, 0.9), c.uniform(2.5, 3.5), 0.5)


def _nasolabial(c: Canvas) -> None:
    wing, corner = c.landmarks[35, :2], c.landmarks[54, :2]
    anchors = np.stack([wing, wing, (wing + corner) / 2, corner])
    points = anchors + np.array(
        [[3.5, 8], [9.5, 0], [9, c.uniform(-2, 2)], [c.uniform(5, 10), c.uniform(-4, 3)]]
    )
    c.both_sides(points, c.uniform(0.6, 1.3), c.uniform(1.6, 2.8), 0.8)
    cheek = points + np.array([c.uniform(5, 7), 1.0])
    c.both_sides(cheek, -c.uniform(0.1, 0.5), 3.0, 0.8)


def _mouth_and_chin(c: Canvas) -> None:
    corner, lip, chin = c.landmarks[54, :2], c.landmarks[57, :2], c.landmarks[8, :2]
    down = corner + np.array([[2, -2], [4, -12], [4, -c.uniform(16, 26)]])
    c.both_sides(down, c.uniform(0.2, 0.9), c.uniform(1.0, 2.0), 0.8)
    y = lip[1] * 0.6 + chin[1] * 0.4 + c.uniform(-1, 3)
    crease = np.array([[-15, y - 4], [-7, y], [0, y + 1], [7, y], [15, y - 4]])
    c.line(crease, c.uniform(0.2, 1.0), c.uniform(1.5, 2.5), 0.8)
    for _ in range(int(c.rng.integers(0, 4))):  # dimples of a tense chin
        spot = np.array([c.uniform(-11, 11), c.uniform(chin[1] + 8, y - 5)])
        c.line(spot + c.rng.normal(0, 1.5, (3, 2)), c.uniform(0.1, 0.4), c.uniform(1, 1.6), 0.3)
    dimple = corner + np.array([c.uniform(7, 10), c.uniform(-3, 2)])
    points = dimple + np.array([[-0.5, 5], [1.5, 0], [-0.5, -5]])
    c.both_sides(points, c.uniform(0.1, 0.7), c.uniform(1.0, 1.8), 0.5)


def _neck(c: Canvas) -> None:
    y = c.landmarks[8, 1] - c.uniform(2, 8)
    while y > c.sheet.points[:, 1].min():
        half = c.uniform(25, 50)
        points = np.array([[-half, y + 5], [0, y], [half, y + 5]])
        c.line(points, c.uniform(0.2, 0.7), c.uniform(1.0, 2.0))
        y -= c.uniform(8, 14)


def _lips(c: Canvas) -> None:
    top, bottom, corner = c.landmarks[51, 1], c.landmarks[57, 1], c.landmarks[54]
    middle = corner[1]
    for x in np.arange(-corner[0] + 3, corner[0] - 3, 1.6):
        x = x + c.uniform(-0.5, 0.5)
        shrink = 1 - (x / corner[0]) ** 2
        for edge in (top, bottom):
            end = middle + (edge - middle) * shrink * c.uniform(0.6, 0.95)
            points = np.array([[x, middle + 0.12 * (end - middle)], [x * 1.06, end]])
            c.line(points, c.uniform(0.03, 0.22), 0.5, 0.3)


def _nose_wings(c: Canvas) -> None:
    wing = c.landmarks[35, :2]
    points = wing + np.array([[0.5, 11.0], [4.5, 7.0], [6.0, 1.5], [3.5, -2.0]])
    c.both_sides(points, c.uniform(0.2, 0.7), c.uniform(0.8, 1.3), 0.3)


def _pores(c: Canvas) -> None:
    x, y, _ = np.moveaxis(c.sheet.position, 2, 0)
    noise = c.rng.normal(0, 1, x.shape)
    fine = noise - gaussian_filter(noise, 1.5)
    nose = np.exp(-((x / 14) ** 2) - ((y - c.landmarks[30, 1]) / 18) ** 2)
    cheek = np.exp(-(((np.abs(x) - 32) / 20) ** 2) - ((y - c.landmarks[30, 1] + 2) / 22) ** 2)
    amount = 0.25 + 0.6 * np.maximum(nose, cheek)
    c.relief += (0.05 * amount * np.minimum(fine, 0.7) * c.sheet.mask).astype(np.float32)


class Kind(NamedTuple):
    """A kind of wrinkle: how to paint one map of it, and what makes it deeper.

    age: weight of the face's age. units: expression units that fold it (those that a model lacks
    count as 0).
    """

    paint: Callable[["Canvas"], None]
    age: float
    units: tuple[str, ...]


_BROWS_UP = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
_BROWS_DOWN = ("browDownLeft", "browDownRight", "noseSneerLeft", "noseSneerRight")
_SQUINT = ("eyeSquintLeft", "eyeSquintRight", "cheekSquintLeft", "cheekSquintRight")
_SMILE = ("mouthSmileLeft", "mouthSmileRight")

KINDS = (
    Kind(_forehead, 0.8, _BROWS_UP),
    Kind(_glabella, 0.7, _BROWS_DOWN),
    Kind(_crows_feet, 0.8, (*_SQUINT, *_SMILE)),
    Kind(_under_eyes, 0.8, _SQUINT),
    Kind(_nasolabial, 0.9, (*_SMILE, "noseSneerLeft", "noseSneerRight")),
    Kind(_mouth_and_chin, 0.8, ("mouthShrugLower", "mouthDimpleLeft", "mouthDimpleRight")),
    Kind(_neck, 0.8, ("neck-platysma",)),
    Kind(_lips, 1.0, ("mouthPucker", "mouth-pursing")),
    Kind(_nose_wings, 1.0, ("noseSneerLeft", "noseSneerRight")),
    Kind(_pores, 1.0, ()),
)
"""All kinds, pores last."""
