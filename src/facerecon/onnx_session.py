"""ONNX Runtime in the place of torch's layers: `Reconstructor.from_pretrained(backend="onnx")`.

Only what `onnx_export` puts into a file runs there. `pip install "facerecon[onnx]"` brings it.
"""

import copy
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor, nn

from facerecon import __version__
from facerecon.coarsenet import CoarseNet
from facerecon.files import OutputError, user_cache, write_file
from facerecon.onnx_export import OPSET, identity_of, onnx_bytes

Network = TypeVar("Network", bound=nn.Module)


class Session:
    """A file's graph as a function of tensors, on the CPU, with as many threads as torch has.

    Args:
        data: content of an .onnx file.

    Raises:
        ImportError: onnxruntime is missing.
    """

    def __init__(self, data: bytes):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "onnxruntime is missing; backend='onnx' needs it: pip install \"facerecon[onnx]\""
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        # As `import facerecon` asks of OpenMP: spinning threads stall on a busy machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self._names = [entry.name for entry in self._session.get_inputs()]
        self._single = len(self._session.get_outputs()) == 1

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs, without gradients: one tensor, or a tuple of several."""
        given = [value.detach().numpy() for value in inputs]
        found = self._session.run(None, dict(zip(self._names, given, strict=True)))
        outputs = tuple(map(torch.from_numpy, found))
        return outputs[0] if self._single else outputs


def on_onnx(network: Network) -> Network:
    """A copy of a network whose layers are computed by ONNX Runtime; weights as they are now.

    Torch's exporter takes many seconds, so its file is kept in the user's cache
    (`files.user_cache`), where its name holds a hash of the weights.

    Args:
        network: as of `onnx_export.write_onnx`.

    Raises:
        ImportError: the packages of the extra `onnx` are missing.
    """
    session = Session(_kept(network))
    other = copy.copy(network)
    if isinstance(network, CoarseNet):
        several = network.config.points > 0
        other.read = session if several else lambda maps, r: (session(maps, r),)
    else:
        other.forward = session
    return other


def _kept(network: nn.Module) -> bytes:
    """The network's file from the cache, or made and put there if that can be written."""
    made_by = f"{__version__}-{torch.__version__.split('+')[0]}-opset{OPSET}"
    name = f"{type(network).__name__.lower()}-{made_by}-{identity_of(network)[:16]}.onnx"
    path = user_cache() / "onnx" / name
    if path.is_file():
        return path.read_bytes()
    data = onnx_bytes(network)
    with suppress(OutputError):  # a read-only home: made anew each time
        write_file(path, data)
    return data
