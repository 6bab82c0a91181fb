"""A small fully convolutional network that maps where faces are centered and how large they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.detection.box import Box, averaged, distinct
from facerecon.weights import load_weights

STRIDE = 8
"""Pixels between the cells of the map."""

TYPICAL_WIDTH = 34.0
"""Pixels of a box whose predicted log width is 0."""

WIDTHS = (22.0, 52.0)
"""Pixels of the boxes that one level of the pyramid answers for; neighboring levels overlap."""

LONGEST = 1024
"""Longest side in pixels of the finest level: what is smaller there than 22 pixels is not found."""

_WINDOW = 25  # pixels over which brightness and contrast are normalized, about a face
_FAINTEST = 0.02  # standard deviation below which contrast is not raised further
_COARSEST = 48  # the pyramid ends with the first level that is not longer than this
_SHRINK = 2**0.5  # from one level to the next; every face is seen in two or three of them


@dataclass(frozen=True)
class DetectionNetConfig:
    """Heat-map face detector; small enough to search a whole photograph on a CPU."""

    widths: tuple[int, int, int] = (8, 16, 32)  # channels at strides 2, 4 and 8
    dilations: tuple[int, ...] = (1, 2, 1)  # of the residual blocks at stride 8


class DetectionNet(nn.Module):
    """From a grey image to a map at stride 8: is a face centered near here, where, how large.

    Args:
        config: DetectionNetConfig.
    """

    config_class = DetectionNetConfig
    sizes = ()

    def __init__(self, config: DetectionNetConfig | None = None):
        super().__init__()
        self.config = config = config or DetectionNetConfig()
        first, second, width = config.widths
        self.stem = nn.Sequential(
            *_convolution(1, first, 4, 2), *_convolution(first, second, 4, 2), _Block(second, 1)
        )
        self.body = nn.Sequential(
            *_convolution(second, width, 4, 2), *(_Block(width, d) for d in config.dilations)
        )
        self.head = nn.Conv2d(width, 4, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, 0.0)
        nn.init.constant_(self.head.bias[:1], -4.0)  # faces are rare

    def forward(self, image: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 4 h w"]:
        """Is a face centered near each cell, where, and how wide is its box.

        Args:
            image: from `even_out`; sides are multiples of 8.

        Returns:
            Per cell: logit; column and row of the face's center in cells from the cell's own;
            logarithm of the box's width over `TYPICAL_WIDTH`.
        """
        return self.head(self.body(self.stem(image)))


def load_detector(path: str | Path | None = None) -> DetectionNet:
    """The detector's network in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return load_weights(DetectionNet, path, "detector.safetensors")


class _Block(nn.Module):
    """Two 3x3 convolutions, the first dilated, beside a shortcut."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False), nn.BatchNorm2d(width)
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x), inplace=True)), inplace=True)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def even_out(grey: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Mean 0 and standard deviation 1 in every neighborhood, so that exposure does not matter."""
    grey = grey.astype(np.float32, copy=False)
    window = (_WINDOW, _WINDOW)
    mean = cv2.boxFilter(grey, -1, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.boxFilter(grey * grey, -1, window, borderType=cv2.BORDER_REPLICATE)
    return (grey - mean) / np.sqrt(np.maximum(square - mean * mean, 0) + _FAINTEST**2)


@torch.no_grad()
def search(
    network: DetectionNet,
    grey: Float[np.ndarray, "height width"],
    threshold: float,
    longest: int = LONGEST,
) -> list[Box]:
    """All boxes whose probability reaches the threshold, best first; the score is that number.

    A face that several levels of the pyramid see has its box where they see it on average.
    """
    found = []
    for level, step in pyramid(grey, longest):
        rows, columns = level.shape
        padded = np.pad(even_out(level), ((0, -rows % STRIDE), (0, -columns % STRIDE)))
        maps = network(torch.from_numpy(padded)[None, None])[0]
        found += [
            Box(b.x * step, b.y * step, b.width * step, b.height * step, b.score)
            for b in boxes(maps, threshold)
        ]
    return [averaged(box, found) for box in distinct(found)]


def pyramid(
    grey: Float[np.ndarray, "height width"], longest: int = LONGEST
) -> Iterator[tuple[Float[np.ndarray, "h w"], float]]:
    """The image, smaller and smaller; with each level, the photograph's pixels per pixel."""
    side = max(grey.shape)
    step = max(1.0, side / longest)
    while True:
        size = (max(1, round(grey.shape[1] / step)), max(1, round(grey.shape[0] / step)))
        grey_here = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if step > 1 else grey
        yield grey_here, step
        if side / step <= _COARSEST:
            return
        step *= _SHRINK


def boxes(maps: Float[Tensor, "4 h w"], threshold: float) -> list[Box]:
    """The peaks of a map as boxes in pixels of its image, each averaged with its neighbors."""
    probability = maps[0].sigmoid()
    peak = F.max_pool2d(probability[None], 3, 1, 1)[0]
    rows, columns = torch.nonzero((probability == peak) & (probability >= threshold), as_tuple=True)
    found = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        near = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
        weight = probability[near].square()
        weight = weight / weight.sum()
        ys, xs = torch.meshgrid(
            torch.arange(near[0].start, near[0].start + weight.shape[0]),
            torch.arange(near[1].start, near[1].start + weight.shape[1]),
            indexing="ij",
        )
        _, dx, dy, log_width = maps[(slice(None), *near)]
        x = (weight * (xs + 0.5 + dx)).sum().item() * STRIDE
        y = (weight * (ys + 0.5 + dy)).sum().item() * STRIDE
        width = TYPICAL_WIDTH * (weight * log_width).sum().exp().item()
        score = probability[row, column].item()
        found.append(Box(x - width / 2, y - width / 2, width, width, score))
    return found
