"""Training of the face detector: canvases cut from scenes of known boxes, and their loss."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from facerecon.detection.network import STRIDE, TYPICAL_WIDTH, WIDTHS, even_out
from facerecon.imaging import to_bytes


@dataclass(frozen=True)
class CanvasConfig:
    """What a training image is made of. A pair is a range; p_* are probabilities."""

    size: int = 72  # pixels; a multiple of the stride
    p_photograph: float = 0.5  # a photograph, where there are any, else a synthetic scene
    p_right_size: float = 0.6  # the face has a size that the network shall answer for
    too_large: tuple[float, float] = (76.0, 500.0)  # eyes, mouths and chins are no faces
    too_small: tuple[float, float] = (4.0, 15.0)
    margin: float = 0.06  # natural logarithm beyond WIDTHS in which faces still count
    ignored: float = 0.35  # the same, in which they neither count nor are forbidden
    least_inside: float = 0.22  # box widths from its middle to the border, else left open
    turn: float = 0.25  # rad, standard deviation of the additional roll
    stretch: float = 0.06  # the same, of the logarithm of the aspect
    p_clutter: float = 0.15  # shapes and noise instead of a scene: not all that is round is a face
    p_second: float = 0.5  # another scene beside the first
    p_flip: float = 0.5
    p_cover: float = 0.2  # a plain rectangle over part of the canvas
    gain: tuple[float, float] = (0.15, 1.6)
    gamma: tuple[float, float] = (0.6, 1.6)
    p_washed_out: float = 0.08
    blur: tuple[float, float] = (0.0, 1.2)
    noise: tuple[float, float] = (0.0, 0.05)
    core: float = 0.16  # box widths around the center in which a cell shall fire
    halo: float = 0.36  # the same, in which it may


class Scene(NamedTuple):
    """A grey image (H, W) uint8 and the boxes in it: column and row of the center, width (n, 3).

    Boxes whose `sure` is False may be faces or not: nothing is learned there.
    """

    image: UInt8[np.ndarray, "height width"]
    boxes: Float[np.ndarray, "n 3"]
    sure: np.ndarray


class Canvas(NamedTuple):
    """A training image, evened out, with target per cell.

    image (S, S). label (s, s): 1 face, 0 none, -1 unknown. place (3, s, s): what the network shall
    say of center and size where the label is 1.
    """

    image: Float[np.ndarray, "size size"]
    label: Float[np.ndarray, "cells cells"]
    place: Float[np.ndarray, "3 cells cells"]


class CanvasMaker:
    """Samples canvases from scenes.

    Args:
        scenes: synthetic ones. photographs: real ones; may be empty.
    """

    def __init__(
        self,
        scenes: list[Scene],
        photographs: list[Scene],
        config: CanvasConfig | None = None,
        seed: int = 0,
    ):
        self.scenes, self.photographs = scenes, photographs
        self.config = config or CanvasConfig()
        self.random = np.random.default_rng(seed)

    def batch(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 1, S, S), labels (B, 1, s, s), places (B, 3, s, s)."""
        canvases = [self.canvas() for _ in range(count)]
        image, label, place = (
            torch.from_numpy(np.stack(part)) for part in zip(*canvases, strict=False)
        )
        return image[:, None], label[:, None], place

    def canvas(self) -> Canvas:
        """One canvas."""
        config, random = self.config, self.random
        image, boxes, sure, inside = self.warped()
        if random.random() < config.p_clutter:
            image, boxes, sure = clutter(random, config.size), boxes[:0], sure[:0]
        else:
            image = np.where(inside, image, random.uniform(0, 1))
            if random.random() < config.p_second:
                image, boxes, sure = self._beside(image, boxes, sure, inside)
        image = self._cover(image)
        image = self._expose(image)
        label, place = self.targets(boxes, sure)
        return Canvas(even_out(image), label, place)

    def _scene(self) -> Scene:
        real = self.photographs and self.random.random() < self.config.p_photograph
        pool = self.photographs if real else self.scenes
        return pool[self.random.integers(len(pool))]

    def warped(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """A scene turned, scaled and moved onto the canvas; where the canvas shows it."""
        config, random = self.config, self.random
        scene = self._scene()
        chosen = scene.boxes[random.integers(len(scene.boxes))]
        kind = random.random()
        if kind < config.p_right_size:
            low, high = WIDTHS
        else:
            low, high = config.too_large if random.random() < 0.75 else config.too_small
        width = np.exp(random.uniform(np.log(low), np.log(high)))
        scale, angle = width / chosen[2], config.turn * random.standard_normal()
        aspect = np.exp(config.stretch * random.standard_normal() / 2)
        flip = -1.0 if random.random() < config.p_flip else 1.0
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag([flip * scale * aspect, scale / aspect])
        # A large face is shown by any of its parts.
        reach = 0.5 * max(0.0, width - config.size / 2)
        low, high = min(8.0, -reach), max(config.size - 8.0, config.size + reach)
        target = random.uniform(low, high, 2)
        if kind < config.p_right_size:
            target = random.uniform(0, config.size, 2)
        shift = target - matrix @ chosen[:2]
        image = scene.image
        shrink = 1 / scale
        if shrink > 1.5:  # the footprint of a pixel, as INTER_AREA has it
            image = cv2.GaussianBlur(image, (0, 0), 0.35 * shrink)
        # OpenCV counts from the middle of the first pixel, boxes from its edge.
        offset = matrix @ [0.5, 0.5] + shift - 0.5
        affine = np.column_stack([matrix, offset])
        size = (config.size, config.size)
        interpolation = cv2.INTER_LINEAR
        full = cv2.warpAffine(
            image, affine, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE
        )
        inside = cv2.warpAffine(np.ones(image.shape, np.uint8), affine, size) > 0
        if random.random() < 0.4:  # the scene's border goes on
            inside[:] = True
        boxes = scene.boxes.copy()
        boxes[:, :2] = boxes[:, :2] @ matrix.T + shift
        boxes[:, 2] *= scale
        return full / np.float32(255), boxes, scene.sure, inside

    def _beside(self, image, boxes, sure, inside):
        """Fill what the first scene leaves with another one, which may show a face there."""
        other, more, known, _ = self.warped()
        column, row = np.floor(more[:, :2]).astype(int).T
        within = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < self.config.size)
        known = known.copy()
        for index in range(len(more)):
            x, y, width = more[index]
            left, right = (
                int(np.clip(v, 0, self.config.size)) for v in (x - width / 2, x + width / 2)
            )
            top, bottom = (
                int(np.clip(v, 0, self.config.size)) for v in (y - width / 2, y + width / 2)
            )
            hidden = inside[top:bottom, left:right].mean() if right > left and bottom > top else 0
            if hidden > 0.9 and within[index]:
                more[index, 2] = 0  # gone
            elif hidden > 0.15:
                known[index] = False
        keep = more[:, 2] > 0
        boxes = np.concatenate([boxes, more[keep]])
        sure = np.concatenate([sure, known[keep]])
        return np.where(inside, image, other), boxes, sure

    def _cover(self, image: np.ndarray) -> np.ndarray:
        if self.random.random() >= self.config.p_cover:
            return image
        size = self.config.size
        width, height = self.random.uniform(0.05, 0.3, 2) * size
        x, y = self.random.uniform(0, size, 2)
        image = image.copy()
        image[int(y) : int(y + height), int(x) : int(x + width)] = self.random.random()
        return image

    def _expose(self, image: np.ndarray) -> np.ndarray:
        config, random = self.config, self.random
        image = np.clip(image, 0, 1).astype(np.float32)
        image = image ** np.float32(random.uniform(*config.gamma))
        image = np.clip(image * random.uniform(*config.gain), 0, 1)
        if random.random() < config.p_washed_out:
            image = 0.3 + 0.4 * image
        blur = random.uniform(*config.blur)
        if blur > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        strength = random.uniform(*config.noise) * image.mean()
        image = image + strength * random.standard_normal(image.shape)
        return to_bytes(image) / np.float32(255)

    def targets(self, boxes: np.ndarray, sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`Canvas.label` and `Canvas.place` of boxes on the canvas, as in `Scene`."""
        config = self.config
        cells = config.size // STRIDE
        middle = (np.arange(cells) + 0.5) * STRIDE
        label = np.zeros((cells, cells), np.float32)
        place = np.zeros((3, cells, cells), np.float32)
        low, high = (np.log(w) for w in WIDTHS)
        # the nearest face last, so that it wins its cells
        for (x, y, width), known in sorted(
            zip(boxes.tolist(), sure, strict=False), key=lambda pair: pair[0][2]
        ):
            beyond = max(np.log(width) - high, low - np.log(width), 0.0)
            if beyond > config.margin + config.ignored:
                continue
            dx, dy = (x - middle)[None, :], (y - middle)[:, None]
            distance = np.hypot(dx, dy)
            halo = distance < max(config.halo * width, STRIDE)
            label[halo & (label == 0)] = -1
            inside = min(x, y, config.size - x, config.size - y) / width
            if beyond > config.margin or not known or inside < config.least_inside:
                label[halo] = -1
                continue
            core = distance < max(config.core * width, 0.71 * STRIDE)
            label[core] = 1
            place[0][core] = np.broadcast_to(dx / STRIDE, core.shape)[core]
            place[1][core] = np.broadcast_to(dy / STRIDE, core.shape)[core]
            place[2][core] = np.log(width / TYPICAL_WIDTH)
        return label, place


def clutter(random: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """A grey picture of no face in [0, 1]: noise of all sizes, rows of strokes, balls and boxes."""
    wide = 2 * size  # made twice as large, then shrunk
    image = np.zeros((wide, wide), np.float32)
    roughness = random.uniform(0.3, 1.5)
    for cells in (2, 4, 8, 16, 32, 64, wide):
        grid = random.standard_normal((cells, cells)).astype(np.float32)
        grid = cv2.resize(grid, (wide, wide), interpolation=cv2.INTER_CUBIC)
        image += cells**-roughness * grid
    image = 0.5 + random.uniform(0.05, 0.3) * image / image.std()
    if random.random() < 0.4:  # a pavement of many
        count, largest = int(random.integers(20, 80)), random.uniform(0.05, 0.2)
    else:
        count, largest = int(random.integers(0, 8)), random.uniform(0.2, 0.6)
    row, column = np.mgrid[:wide, :wide].astype(np.float32)
    for _ in range(count):
        x, y = random.uniform(0, wide, 2)
        a, b = wide * largest * random.uniform(0.3, 1, 2)
        turn, power = random.uniform(0, np.pi), random.choice([1.0, 2.0, 8.0])
        u = ((column - x) * np.cos(turn) + (row - y) * np.sin(turn)) / a
        v = ((row - y) * np.cos(turn) - (column - x) * np.sin(turn)) / b
        inside = np.abs(u) ** (2 * power) + np.abs(v) ** (2 * power)
        light = random.uniform(-0.4, 0.4, 3)  # shaded as a ball is, seen from the front
        shade = random.uniform(0.1, 0.9) + light[0] * u + light[1] * v
        shade += light[2] * np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        cover = np.clip((1 - inside) * random.uniform(2, 20), 0, 1)
        image = image + cover * (shade - image)
    if random.random() < 0.3:  # rows of strokes, as in text, hair, fences
        angle, period = random.uniform(0, np.pi), random.uniform(3, 20)
        wave = np.cos(2 * np.pi / period * (column * np.cos(angle) + row * np.sin(angle)))
        image += random.uniform(0.05, 0.4) * wave
    return cv2.resize(np.clip(image, 0, 1), (size, size), interpolation=cv2.INTER_AREA)


def detection_loss(
    maps: Float[Tensor, "batch 4 h w"],
    label: Float[Tensor, "batch 1 h w"],
    place: Float[Tensor, "batch 3 h w"],
    focus: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Focal cross-entropy of faces, and smooth L1 of centers and sizes where there are some.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """
    logit, face = maps[:, :1], label == 1
    count = face.sum().clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logit, face.to(logit), reduction="none")
    weight = (1 - (-entropy).exp()) ** focus * (label >= 0)
    scale = place.new_tensor([1.0, 1.0, 8.0]).view(1, 3, 1, 1)
    error = F.smooth_l1_loss(maps[:, 1:] * scale, place * scale, reduction="none", beta=0.5)
    return (weight * entropy).sum() / count, (error * face).sum() / count
