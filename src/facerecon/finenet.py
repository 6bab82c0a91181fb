"""FineNet: from a photograph and a coarse depth map to a detailed depth map (section 4.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import scipy.io
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
        require_shape("mm_per_pixel", mm_per_pixel, len(image))
        pixel = mm_per_pixel.view(-1, 1, 1, 1)
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


class VggFileError(ValueError):
    """A file does not hold the convolutions of VGG-16 in a known layout."""


VGG_FACE_MEAN, VGG_FACE_STD = (0.50661, 0.41083, 0.36704), (1 / 255,) * 3
"""Input of VGG-Face: red, green, blue in [0, 255] minus (129.1863, 104.7624, 93.5940)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Input of torchvision's VGG-16."""

CAFFE_MEAN, CAFFE_STD = (0.48235, 0.45882, 0.40784), (1 / 255,) * 3
"""Input of torchvision's VGG16_Weights.IMAGENET1K_FEATURES, which come from Caffe."""

_INDEX = dict(zip(CONVOLUTIONS, (0, 2, 5, 7, 10, 12, 14), strict=True))


class _Layout(NamedTuple):
    """How a file names VGG's convolutions, and the input they were trained with, in their order."""

    names: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _layout(state: Mapping[str, Tensor], file_mean: tuple[float, ...] | None) -> _Layout:
    """The layout of a file, by the name of its first convolution."""
    if "features.0.weight" in state:
        names = {name: f"features.{index}" for name, index in _INDEX.items()}
        # torchvision fills the unused classifier of the Caffe weights with NaN.
        last = state.get("classifier.0.bias")
        caffe = isinstance(last, Tensor) and bool(last.isnan().any())
        mean, std = (CAFFE_MEAN, CAFFE_STD) if caffe else (IMAGENET_MEAN, IMAGENET_STD)
        return _Layout(names, mean, std)
    blue_first = VGG_FACE_MEAN[::-1], VGG_FACE_STD
    if "0.weight" in state:  # the Sequential that VGG_FACE.t7 converts to
        return _Layout({name: str(index) for name, index in _INDEX.items()}, *blue_first)
    if "conv_1_1.weight" in state:  # a class around the same file
        names = {name: name.replace("conv", "conv_") for name in CONVOLUTIONS}
        return _Layout(names, *blue_first)
    names = {name: name for name in CONVOLUTIONS}
    return _Layout(names, file_mean or VGG_FACE_MEAN, VGG_FACE_STD)


def load_vgg(
    path: str | Path,
    network: FineNet,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> None:
    """Initialize the convolutions of a FineNet from a file of VGG-Face or VGG-16 weights.

    Known layouts: MatConvNet's `vgg-face.mat`, and state dicts (.safetensors, .pth, .pt) with the
    names of VGG-Face (`conv1_1.weight`), of what `VGG_FACE.t7` converts to (`0.weight` or
    `conv_1_1.weight`; its channels are blue, green, red) or of torchvision (`features.0.weight`).

    VGG reads (color - mean) / std in three channels, FineNet a grey and a depth channel. conv1_1
    becomes the sum of its three filters, with the change of mean and scale folded into it, so that
    a grey photograph gives VGG's own features (up to the padding at the border, which stands for
    another grey); depth starts with zero filters. All features are then divided by one constant,
    which changes no ReLU or pooling, so that an input of unit variance keeps that scale: the raw
    ones of VGG-Face are 64 times larger.

    Args:
        path: the file.
        network: changed in place, only if the whole file is in order.
        mean, std: what the weights were trained with, for colors in [0, 1] and in the order of the
            file's channels. By default that of the layout; a .mat file states its own mean. For
            Caffe's order under VGG-Face's names, give VGG_FACE_MEAN[::-1].

    Raises:
        FileNotFoundError: there is no such file.
        VggFileError: unreadable, unknown layout, missing layers, wrong shapes or values that are
        not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; give the path of VGG-Face or VGG-16 weights"
        )
    if path.suffix == ".mat":
        state, file_mean = _read_matconvnet(path)
    else:
        state, file_mean = _read_state_dict(path), None
    layout = _layout(state, file_mean)

    layers = {}
    channels = 3
    for name, source in layout.names.items():
        size = getattr(network, name).out_channels
        weight = _parameter(path, state, f"{source}.weight", (size, channels, 3, 3))
        layers[name] = weight, _parameter(path, state, f"{source}.bias", (size,))
        channels = size

    mean, std = torch.tensor(mean or layout.mean), torch.tensor(std or layout.std)
    weight, bias = layers["conv1_1"]
    grey = (weight * (GREY_STD / std).view(1, 3, 1, 1)).sum(1)
    bias = bias + weight.sum((2, 3)) @ ((GREY_MEAN - mean) / std)
    layers["conv1_1"] = torch.stack([grey, torch.zeros_like(grey)], 1), bias
    # ReLU and max-pooling commute with a positive factor: scale the input layer and every bias.
    gain = float(std.mean()) / GREY_STD
    with torch.no_grad():
        for name, (weight, bias) in layers.items():
            convolution = getattr(network, name)
            convolution.weight.copy_(weight * gain if name == "conv1_1" else weight)
            convolution.bias.copy_(bias * gain)


def _parameter(
    path: Path, state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]
) -> Tensor:
    value = state.get(name)
    if not isinstance(value, Tensor):
        found = ", ".join(list(map(str, state))[:4]) or "nothing"
        raise VggFileError(
            f"{path}: no {name}; it holds {found}, ... Use VGG-16 without batch normalization, "
            "with the layer names of VGG-Face (conv1_1.weight) or torchvision (features.0.weight)"
        )
    if tuple(value.shape) != shape:
        raise VggFileError(
            f"{path}: {name} has shape {tuple(value.shape)}, this FineNet needs {shape}; VGG-16 "
            "fits width 64 only"
        )
    if not value.isfinite().all():
        raise VggFileError(f"{path}: {name} holds NaN or infinite values; get the file again")
    return value.float()


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise VggFileError(
            f"{path}: not a readable file of weights ({reason}); save a plain state dict with "
            "torch.save"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping):
        raise VggFileError(f"{path}: holds no state dict; save model.state_dict(), not the model")
    return state


def _read_matconvnet(path: Path) -> tuple[Mapping[str, Tensor], tuple[float, ...] | None]:
    """Tensors by VGG-Face name, and the mean color in [0, 1] if the file states it."""
    try:
        content = scipy.io.loadmat(path, simplify_cells=True)
        state = {}
        for layer in content["layers"]:
            weights = layer.get("weights", ())
            if "filters" in layer:  # MatConvNet before beta 12
                weights = layer["filters"], layer["biases"]
            if len(weights) == 2 and np.ndim(weights[0]) == 4:
                # (height, width, in, out) in MATLAB
                filters = np.ascontiguousarray(np.transpose(weights[0], (3, 2, 0, 1)), np.float32)
                state[f"{layer['name']}.weight"] = torch.from_numpy(filters)
                bias = np.ravel(weights[1]).astype(np.float32)
                state[f"{layer['name']}.bias"] = torch.from_numpy(bias)
        normalization = content.get("meta", content).get("normalization", {})
        average = normalization.get("averageImage")
        mean = None
        if average is not None:
            mean = tuple((np.reshape(average, (-1, 3)).mean(0) / 255).tolist())
    except Exception as error:  # a damaged file can fail in any way
        raise VggFileError(
            f"{path}: not a readable MatConvNet network ({type(error).__name__}: {error}); "
            "expected vgg-face.mat, saved as MATLAB 5 (not 7.3)"
        ) from error
    return state, mean
