"""The networks as .onnx files, for other runtimes and languages (`facerecon export onnx`).

A file holds layers and nothing else. Rendering the feedback maps, reading the field of
displacements, the least squares that makes the next r of it, shading and integration are no
networks and stay in Python; `docs/onnx.md` says what goes in and comes out. torch's exporter needs
`pip install "facerecon[onnx]"`.
"""

import base64
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facerecon import __version__
from facerecon.coarsenet import INPUT_CHANNELS, CoarseNet
from facerecon.detection.network import STRIDE, DetectionNet, load_detector
from facerecon.files import OutputError, write_file
from facerecon.finenet import FineNet
from facerecon.normalnet import INPUT_CHANNELS as NORMAL_CHANNELS
from facerecon.normalnet import NormalNet
from facerecon.weights import digest_of, load_coarsenet, load_finenet, load_normalnet

OPSET = 18
"""Version of ONNX's operators in the files."""

NETWORKS = {
    "coarsenet": load_coarsenet,
    "normalnet": load_normalnet,
    "finenet": load_finenet,
    "detector": load_detector,
}
"""How each network that becomes a file is loaded, by the file's name."""

_COARSE_SIZE = 200  # CoarseNet's regressor averages over a grid that fits this size alone
_LONGEST = 16384  # pixels; the exporter wants a bound


class _Graph(NamedTuple):
    """What of a network is exported.

    inputs: examples by name. outputs: names. sizes: for each input, its axes that may have any
    length; an image's sides are multiples of a number.
    """

    layers: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    sizes: list[dict[int, object]]


class _Read(nn.Module):
    """CoarseNet's layers, `CoarseNet.read`, as a module."""

    def __init__(self, network: CoarseNet):
        super().__init__()
        self.network = network

    def forward(self, maps: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        return self.network.read(maps, r)


def write_onnx(network: nn.Module, path: str | Path, overwrite: bool = False) -> Path:
    """Write a network as one .onnx file, whole or not at all.

    Args:
        network: CoarseNet, NormalNet, FineNet or DetectionNet, trained, on the CPU.
        path: the file. overwrite: replace one that is there.

    Raises:
        OutputError: the file exists, or cannot be written.
        ImportError: the packages of the extra `onnx` are missing.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; remove it, or ask to overwrite it")
    return write_file(path, onnx_bytes(network))


def onnx_bytes(network: nn.Module) -> bytes:
    """The content of a network's .onnx file, checked by onnx.checker.

    Its metadata hold the version of facerecon, the network's class and configuration, a hash of
    those and the weights (`identity_of`) and, of CoarseNet, what its least squares need: `points`,
    `log_spread` and `log_repeats` (`displacements.corrected`), and its `calibration`.

    Raises:
        ImportError: the packages of the extra `onnx` are missing.
        TypeError: another kind of network.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter imports it
    except ImportError as error:
        raise ImportError(
            f'{error.name} is missing; ONNX files need it: pip install "facerecon[onnx]"'
        ) from error
    graph = _graph_of(network)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.layers.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple(graph.sizes),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    body = proto.graph
    # The exporter writes down which line of which file on this machine made each node.
    for part in (*body.node, *body.value_info, *body.initializer, *body.input, *body.output):
        del part.metadata_props[:]
    proto.producer_name, proto.producer_version = "facerecon", __version__
    onnx.helper.set_model_props(proto, _metadata(network))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def identity_of(network: nn.Module) -> str:
    """SHA-256 of a network's weights and configuration, in hexadecimal."""
    config = json.dumps(asdict(network.config), sort_keys=True)
    return hashlib.sha256(f"{digest_of(network.state_dict())} {config}".encode()).hexdigest()


def _metadata(network: nn.Module) -> dict[str, str]:
    found = {
        "facerecon": __version__,
        "network": type(network).__name__,
        "config": json.dumps(asdict(network.config)),
        "opset": str(OPSET),
        "identity": identity_of(network),
        "license": "MIT",
    }
    if isinstance(network, CoarseNet) and network.config.points:
        for name in ("points", "log_spread", "log_repeats"):
            found[name] = json.dumps(getattr(network, name).tolist())
    if isinstance(network, CoarseNet) and network.config.calibrated:
        values = network.calibration.numpy().astype("<f4")
        found["calibration"] = base64.b64encode(values.tobytes()).decode()
    return found


def _graph_of(network: nn.Module) -> _Graph:
    """Examples have sides that differ, so that no size is taken for another."""
    batch = torch.export.Dim("batch")

    def image(multiple: int) -> dict[int, object]:
        rows, columns = (
            multiple * torch.export.Dim(name, max=_LONGEST // multiple)
            for name in ("_rows", "_columns")
        )
        return {0: batch, 2: rows, 3: columns}

    if isinstance(network, CoarseNet):
        inputs = {
            "maps": torch.zeros(2, INPUT_CHANNELS, _COARSE_SIZE, _COARSE_SIZE),
            "r": torch.zeros(2, network.regressor.out_features),
        }
        outputs = ("regressed", "field") if network.config.points else ("regressed",)
        return _Graph(_Read(network), inputs, outputs, [{0: batch}, {0: batch}])
    if isinstance(network, NormalNet):
        inputs = {"maps": torch.zeros(2, NORMAL_CHANNELS, 200, 208)}
        return _Graph(network, inputs, ("tilt", "log_error"), [image(8)])
    if isinstance(network, FineNet):
        shape, of_image = (2, 1, 200, 208), image(4)
        inputs = {  # one tensor given twice would be one input
            "image": torch.zeros(shape),
            "depth": torch.zeros(shape),
            "mask": torch.ones(shape, dtype=torch.bool),
            "mm_per_pixel": torch.ones(2),
        }
        return _Graph(network, inputs, ("refined_depth",), [*3 * [of_image], {0: batch}])
    if isinstance(network, DetectionNet):
        inputs = {"image": torch.zeros(2, 1, 128, 160)}
        return _Graph(network, inputs, ("cells",), [image(STRIDE)])
    raise TypeError(f"{type(network).__name__} is no network that is exported")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are on its own parts and on packages not used here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
