"""The residual network (He et al. 2016) that reads CoarseNet's maps: stem, stages and regressor."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ResNetConfig:
    """Depth and width of the ResNet of 3.3, which the paper does not state."""

    width: int = 32  # channels of the first stage, doubled at each of the next three
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)  # residual blocks per stage
    stem: str = "patch"  # "patch": 6x6 stride-4, fast on a CPU; "resnet": 7x7 stride-2 and max-pool
    squeeze: int = 48  # channels kept in place (not pooled) for the regressor; pose needs position
    grid: int = 5  # side of the pooled grid that the regressor reads


class ResNetRegressor(nn.Module):
    """Numbers from a stack of maps.

    The last feature map is averaged over the image, for what is seen, and also read on a coarse
    grid, for where it is.

    Args:
        channels: of the input. outputs: how many numbers are predicted.
    """

    def __init__(self, channels: int, outputs: int, config: ResNetConfig):
        super().__init__()
        self.config = config
        self.stem = stem(channels, config)
        self.body, features = residual_blocks(config.width, config.blocks)
        self.squeeze = nn.Sequential(
            convolution_block(features, config.squeeze, 1), nn.ReLU(inplace=True)
        )
        self.regressor = nn.Linear(config.squeeze * config.grid**2 + features, outputs)
        nn.init.normal_(self.regressor.weight, std=0.002)  # start near 0, the mean face
        nn.init.zeros_(self.regressor.bias)

    def stages(self, maps: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Features at the end of each stage, at 1/4, 1/8, 1/16 and 1/32 of the resolution."""
        found, features = [], self.stem(maps)
        ends = set(accumulate(self.config.blocks))
        for number, block in enumerate(self.body, start=1):
            features = block(features)
            if number in ends:
                found.append(features)
        return found

    def regress(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch outputs"]:
        """The numbers, from the features of the last stage; float32."""
        placed = F.adaptive_avg_pool2d(self.squeeze(features), self.config.grid)
        pooled = features.mean((2, 3))
        return self.regressor(torch.cat([placed.flatten(1), pooled], dim=1)).float()


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    The shortcut of a block that halves the resolution takes every second pixel and then a 1x1
    convolution: the function of a 1x1 convolution of stride 2. That one itself is avoided: of fewer
    than 16 channels, channels last, the backward pass of torch 2.13's oneDNN writes outside of its
    memory.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = convolution_block(inputs, outputs, 3, stride)
        self.second = convolution_block(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.stride = stride
        self.shortcut = nn.Identity() if same else convolution_block(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(F.relu(self.first(x), inplace=True))
        kept = x[..., :: self.stride, :: self.stride]
        return F.relu(residual + self.shortcut(kept), inplace=True)


def convolution_block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, then batch normalization."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def stem(channels: int, config: ResNetConfig) -> nn.Sequential:
    """The first layers, down to a quarter of the resolution.

    Raises:
        ValueError: an unknown kind.
    """
    if config.stem == "resnet":
        return nn.Sequential(
            convolution_block(channels, config.width, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
    if config.stem == "patch":
        return nn.Sequential(
            nn.Conv2d(channels, config.width, 6, 4, 1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(inplace=True),
        )
    raise ValueError(f"unknown stem {config.stem!r}: use 'patch' or 'resnet'")


def residual_blocks(width: int, counts: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Stages of residual blocks, each but the first at half the resolution and twice the channels.

    Returns:
        The blocks, and the channels of their output.
    """
    blocks, inputs = [], width
    for stage, count in enumerate(counts):
        outputs = width * 2**stage
        for index in range(count):
            blocks.append(_BasicBlock(inputs, outputs, 2 if stage and not index else 1))
            inputs = outputs
    return nn.Sequential(*blocks), inputs
