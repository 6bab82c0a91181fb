"""FineNet: from a photograph and a coarse depth map to a detailed depth map (section 4.2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from facerecon.shapes import require_shape

GREY_MEAN, GREY_STD = 0.5, 0.25
"""The photograph enters as (image - GREY_MEAN) / GREY_STD: roughly zero mean, unit variance."""

DEPTH_STD = 20.0
"""Pixel widths of depth that enter as one: the spread of a face's depth in a 200 px crop."""

SLOPE_GAIN = 20.0
"""Factor of the first filters of depth, which start without their mean.

Shading depends on slopes: a 200th of the spread of depth from pixel to pixel, beside which filters
that let the level pass would see little else. So the filters start as derivatives, scaled to give
slopes about unit variance; from plain random ones, learning starts slower.
"""

CONVOLUTIONS = {
    "conv1_1": 1,
    "conv1_2": 1,
    "conv2_1": 2,
    "conv2_2": 2,
    "conv3_1": 4,
    "conv3_2": 4,
    "conv3_3": 4,
}
"""The convolutions of VGG-16 before its third pooling, and their channels per unit of width."""


@dataclass(frozen=True)
class FineNetConfig:
    """Hypercolumn network of 4.2: VGG-16 up to conv3_3."""

    width: int = 64  # channels of the first block; 64 is VGG-Face's
    regressor: tuple[int, int] = (128, 64)  # widths of the hidden 1x1 convolutions


class FineNet(nn.Module):
    """VGG-16 up to conv3_3, the hypercolumn of its three scales and a 1x1 regressor.

    The hypercolumn of a pixel holds grey and depth (2 channels), conv1_2 (64), conv2_2 after one
    2-strided 2x2 up-convolution (128) and conv3_3 after two (256): 450 channels.

    Where the paper is silent, this implementation reads it so: the regressor has ReLUs between its
    layers (without them they would be one layer); it predicts the difference to the coarse depth;
    depth enters and leaves in pixel widths, so that a photograph and its enlargement pose the same
    problem (shading depends on slopes only); and the last layer starts at zero, so that an
    untrained network returns the coarse depth exactly.

    Source: section 4.2 and Figure 3.

    Args:
        config: channels of the first block and of the hidden 1x1 convolutions; by default the
            paper's.
        folded: never form the hypercolumn. Its first 1x1 convolution and the up-convolutions are
            linear, so their product is applied to each scale instead: the same function of the same
            parameters with less arithmetic and a fraction of the memory, in training too. May be
            changed at any time.
    """

    config_class = FineNetConfig
    sizes = ()

    def __init__(self, config: FineNetConfig | None = None, folded: bool = True) -> None:
        super().__init__()
        self.config = FineNetConfig() if config is None else config
        self.folded = folded
        width, (wide, narrow) = self.config.width, self.config.regressor
        channels = 2
        for name, multiple in CONVOLUTIONS.items():
            setattr(self, name, nn.Conv2d(channels, multiple * width, 3, padding=1))
            channels = multiple * width
        # No biases: after the last up-convolution they would repeat that of regress1, and after the
        # first of two they would be a checkerboard.
        self.up2 = nn.ConvTranspose2d(2 * width, 2 * width, 2, stride=2, bias=False)
        self.up3_1 = nn.ConvTranspose2d(4 * width, 4 * width, 2, stride=2, bias=False)
        self.up3_2 = nn.ConvTranspose2d(4 * width, 4 * width, 2, stride=2, bias=False)
        self.regress1 = nn.Conv2d(2 + 7 * width, wide, 1)
        self.regress2 = nn.Conv2d(wide, narrow, 1)
        self.regress3 = nn.Conv2d(narrow, 1, 1)
        self._initialize()
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def _initialize(self) -> None:
        for layer in self.children():
            if isinstance(layer, nn.ConvTranspose2d):
                # Nearest-neighbor interpolation: learning starts without a checkerboard.
                layer.weight.copy_(torch.eye(layer.in_channels)[:, :, None, None])
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        of_depth = self.conv1_1.weight[:, 1]
        of_depth.copy_(SLOPE_GAIN * (of_depth - of_depth.mean((1, 2), keepdim=True)))
        nn.init.zeros_(self.regress3.weight)

    def forward(
        self,
        image: Float[Tensor, "batch 1 height width"],
        depth: Float[Tensor, "batch 1 height width"],
        mask: Bool[Tensor, "batch 1 height width"],
        mm_per_pixel: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch 1 height width"]:
        """Refine a depth map inside its mask.

        Args:
            image: intensity in [0, 1]; any size.
            depth: coarse depth, mm, larger is nearer.
            mask: where the coarse depth is defined; elsewhere it is ignored and returned
                unchanged.
            mm_per_pixel: width of a pixel in mm, one per item.

        Returns:
            Refined depth, mm.

        Raises:
            ValueError: the maps differ in shape.
        """
        require_shape("image", image, None, 1, None, None)
        require_shape("depth", depth, *image.shape)
        require_shape("mask", mask, *image.shape)
        require_shape("mm_per_pixel", mm_per_pixel, image.shape[0])
        pixel = mm_per_pixel[:, None, None, None]
        area = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        level = torch.where(mask, depth, 0.0).sum(dim=(2, 3), keepdim=True) / area
        relief = torch.where(mask, (depth - level) / (DEPTH_STD * pixel), 0.0)
        inputs = torch.cat([(image - GREY_MEAN) / GREY_STD, relief], dim=1)

        height, width = image.shape[2:]
        # The two poolings need multiples of 4; replicated pixels add no edge.
        inputs = functional.pad(inputs, (0, -width % 4, 0, -height % 4), mode="replicate")
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        hidden = (
            self._folded_first(inputs) if self.folded else self.regress1(self.hypercolumn(inputs))
        )
        hidden = torch.relu_(self.regress2(torch.relu_(hidden)))
        residual = self.regress3(hidden)[..., :height, :width]
        return torch.where(mask, depth + residual * pixel, depth)

    def hypercolumn(
        self, inputs: Float[Tensor, "batch 2 height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The 450 channels per pixel, from normalized grey and depth; sides are multiples of 4."""
        fine, middle, coarse = self._scales(inputs)
        return torch.cat([inputs, fine, self.up2(middle), self.up3_2(self.up3_1(coarse))], dim=1)

    def _scales(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """conv1_2, conv2_2 and conv3_3 after their ReLUs, at full, half and quarter resolution."""
        fine = torch.relu_(self.conv1_2(torch.relu_(self.conv1_1(inputs))))
        middle = torch.relu_(self.conv2_1(functional.max_pool2d(fine, 2)))
        middle = torch.relu_(self.conv2_2(middle))
        coarse = torch.relu_(self.conv3_1(functional.max_pool2d(middle, 2)))
        coarse = torch.relu_(self.conv3_3(torch.relu_(self.conv3_2(coarse))))
        return fine, middle, coarse

    def _folded_first(self, inputs: Tensor) -> Tensor:
        """regress1(hypercolumn(inputs)) as a sum of one linear map per scale."""
        width = self.config.width
        per_scale = self.regress1.weight.split([2 + width, 2 * width, 4 * width], dim=1)
        at_half, at_quarter = (weight[:, :, 0, 0] for weight in per_scale[1:])
        up2 = torch.einsum("iokl,po->ipkl", self.up2.weight, at_half)
        last = torch.einsum("iokl,po->ipkl", self.up3_2.weight, at_quarter)
        # Row 2k + m of a 4x4 block: row k of up3_1's block, then row m of up3_2's; columns alike.
        up4 = torch.einsum("ijkl,jpmn->ipkmln", self.up3_1.weight, last)
        up4 = up4.flatten(4, 5).flatten(2, 3)

        fine, middle, coarse = self._scales(inputs)
        # In place: at 400 px each of these maps takes 80 MB, and fresh memory is slow.
        total = functional.conv2d(
            torch.cat([inputs, fine], dim=1), per_scale[0], self.regress1.bias
        )
        total += functional.conv_transpose2d(middle, up2, stride=2)
        total += functional.conv_transpose2d(coarse, up4, stride=4)
        return total
