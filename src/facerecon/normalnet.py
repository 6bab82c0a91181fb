"""NormalNet: from a photograph and the coarse face to the normals of the real one.

Not the paper's. FineNet (4.2) learns without labels, from the shading of photographs; NormalNet
learns from rendered faces whose normals are known, and says how far off it expects to be.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facerecon.coarsenet import CONTRAST
from facerecon.resnet import convolution_block

INPUT_CHANNELS = 9  # grey, its logarithm, coarse normals, PNCC, mask
MIN_FACING = 0.12
"""n_z below which a slope no longer grows."""
DARKEST = 0.02  # intensity whose logarithm is the least
_LOG_ERROR = (-4.0, 0.5)  # 1 to 94 degrees
_START_LOG_ERROR = -1.9  # 8.6 degrees: what the coarse normals are off by


@dataclass(frozen=True)
class NormalNetConfig:
    """A U-Net of residual blocks."""

    widths: tuple[int, ...] = (24, 48, 96, 128, 128)  # channels at 1/2, 1/4, ... of the size
    pncc: bool = True  # sees where on a face each pixel lies
    logarithm: bool = True  # sees the logarithm of the grey values beside them


class NormalEstimate(NamedTuple):
    """What NormalNet says of a face.

    slopes: dz/dx (x to the right) and dz/dy (y up) of the surface. normals: unit, of these slopes.
    log_error: logarithm of the angle in rad by which the normals are expected to be wrong.
    """

    slopes: Float[Tensor, "batch 2 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    log_error: Float[Tensor, "batch 1 height width"]


def slopes_of(
    normals: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 2 height width"]:
    """dz/dx and dz/dy of a surface with these normals; bounded where it turns away."""
    return -normals[:, :2] / normals[:, 2:].clamp(min=MIN_FACING)


def normals_of(
    slopes: Float[Tensor, "batch 2 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Unit normals of a surface with these slopes."""
    return F.normalize(torch.cat([-slopes, torch.ones_like(slopes[:, :1])], dim=1), dim=1)


def normal_input(
    image: Float[Tensor, "batch 1 height width"],
    normals: Float[Tensor, "batch 3 height width"],
    pncc: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    config: NormalNetConfig | None = None,
) -> Float[Tensor, "batch 9 height width"]:
    """The network's input; on the face, grey values get mean 0 and standard deviation `CONTRAST`.

    So does their logarithm, in which a change of light is an offset and creases in the dark have
    the contrast of those in the light.

    Args:
        image: intensity in [0, 1]. normals, pncc, mask: of the coarse face, as of `render`.
    """
    config = config or NormalNetConfig()
    inside = mask.to(image)
    count = inside.sum((2, 3), keepdim=True).clamp(min=1)

    def evened(values: Tensor) -> Tensor:
        mean = (values * inside).sum((2, 3), keepdim=True) / count
        centered = (values - mean) * inside
        std = (centered.square().sum((2, 3), keepdim=True) / count).sqrt()
        return centered * (CONTRAST / std.clamp(min=0.01))

    logarithm = evened(image.clamp(min=DARKEST).log())
    return torch.cat(
        [
            evened(image),
            logarithm if config.logarithm else torch.zeros_like(logarithm),
            normals,
            pncc if config.pncc else torch.zeros_like(pncc),
            inside,
        ],
        dim=1,
    )


class _Block(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016)."""

    def __init__(self, width: int):
        super().__init__()
        self.first = convolution_block(width, width, 3)
        self.second = convolution_block(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x), inplace=True)), inplace=True)


class NormalNet(nn.Module):
    """Fully convolutional network from `normal_input` to corrections of the coarse normals.

    It works at half of the resolution, with the four pixels of each square as channels: at full
    resolution, most of the time would go into reading and writing maps.

    Args:
        config: NormalNetConfig.
    """

    config_class = NormalNetConfig
    sizes = ()

    def __init__(self, config: NormalNetConfig | None = None):
        super().__init__()
        self.config = config = config or NormalNetConfig()
        widths = config.widths
        pairs = list(pairwise(widths))
        self.enter = convolution_block(4 * INPUT_CHANNELS, widths[0], 3)
        self.first = _Block(widths[0])
        self.down = nn.ModuleList([convolution_block(a, b, 3, stride=2) for a, b in pairs])
        self.encode = nn.ModuleList([_Block(b) for _, b in pairs])
        self.lift = nn.ModuleList([convolution_block(b, a, 1) for a, b in pairs])
        self.decode = nn.ModuleList([_Block(a) for a, _ in pairs])
        self.leave = nn.Conv2d(widths[0], 4 * 3, 1)
        nn.init.zeros_(self.leave.weight)  # start with the coarse normals
        nn.init.zeros_(self.leave.bias)

    def forward(
        self, maps: Float[Tensor, "batch 9 height width"]
    ) -> tuple[Float[Tensor, "batch 2 height width"], Float[Tensor, "batch 1 height width"]]:
        """Tilts (corrections of the slopes, times the coarse n_z), and the errors' logarithms.

        Args:
            maps: of `normal_input`, of any size.
        """
        height, width = maps.shape[2:]
        even = F.pad(maps, (0, width % 2, 0, height % 2))
        squares = F.pixel_unshuffle(even, 2).contiguous(memory_format=torch.channels_last)
        levels = [self.first(F.relu(self.enter(squares), inplace=True))]
        for down, encode in zip(self.down, self.encode, strict=True):
            levels.append(encode(F.relu(down(levels[-1]), inplace=True)))
        x = levels.pop()
        for lift, decode in zip(reversed(self.lift), reversed(self.decode), strict=True):
            beside = levels.pop()
            raised = F.interpolate(lift(x), size=beside.shape[2:], mode="bilinear")
            x = decode(F.relu(raised + beside))
        answer = F.pixel_shuffle(self.leave(x), 2)[..., :height, :width]
        return answer[:, :2], (answer[:, 2:] + _START_LOG_ERROR).clamp(*_LOG_ERROR)

    def estimate(
        self,
        image: Float[Tensor, "batch 1 height width"],
        normals: Float[Tensor, "batch 3 height width"],
        pncc: Float[Tensor, "batch 3 height width"],
        mask: Bool[Tensor, "batch 1 height width"],
    ) -> NormalEstimate:
        """The corrected normals. Args as in `normal_input`; outside the mask they mean nothing."""
        maps = normal_input(image, normals, pncc, mask, self.config)
        tilt, log_error = self(maps)
        return corrected(normals, tilt.float(), log_error.float())


def corrected(
    normals: Float[Tensor, "batch 3 height width"],
    tilt: Float[Tensor, "batch 2 height width"],
    log_error: Float[Tensor, "batch 1 height width"],
) -> NormalEstimate:
    """Normals with `corrected_slopes`."""
    slopes = corrected_slopes(normals, tilt)
    return NormalEstimate(slopes, normals_of(slopes), log_error)


def corrected_slopes(
    normals: Float[Tensor, "batch 3 height width"], tilt: Float[Tensor, "batch 2 height width"]
) -> Float[Tensor, "batch 2 height width"]:
    """The slopes of normals, plus tilt / n_z."""
    return slopes_of(normals) + tilt / normals[:, 2:].clamp(min=MIN_FACING)
