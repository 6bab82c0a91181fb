"""VGG-Face and VGG-16 weights as the start of FineNet's convolutions (section 4.2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import scipy.io
import torch
from torch import Tensor

from facerecon.finenet import CONVOLUTIONS, GREY_MEAN, GREY_STD, FineNet
from facerecon.messages import OneLine


class VggFileError(OneLine, ValueError):
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
