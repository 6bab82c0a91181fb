"""Where mesh operations run: "numba" (CPU), "torch" (any device) or "nvdiffrast" (NVIDIA GPUs)."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from facerecon.messages import cause_of

BACKENDS = ("auto", "numba", "torch", "nvdiffrast")


def choose_backend(backend: str, *tensors: Tensor) -> str:
    """The backend that runs on these tensors; "auto" takes the fastest that can.

    On the CPU that is numba, on an NVIDIA GPU nvdiffrast where it is installed, else torch.

    Raises:
        ValueError: unknown name, or tensors that the named backend cannot take.
        ImportError: nvdiffrast is requested and cannot be imported; with cause and cure.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "auto":
        fast = _suits("nvdiffrast", tensors) and nvdiffrast_problem() is None
        return "numba" if _suits("numba", tensors) else "nvdiffrast" if fast else "torch"
    if not _suits(backend, tensors):
        wanted = "float32 or float64 on the CPU" if backend == "numba" else "float32 on NVIDIA GPUs"
        kinds = ", ".join(f"{tensor.dtype} on {tensor.device}" for tensor in tensors)
        raise ValueError(f"backend {backend!r} needs {wanted}, got {kinds}")
    if backend == "nvdiffrast" and (problem := nvdiffrast_problem()):
        raise ImportError(f"backend 'nvdiffrast': {problem}; docs/gpu.md says how to install it")
    return backend


def _suits(backend: str, tensors: tuple[Tensor, ...]) -> bool:
    if backend == "numba":
        types = (torch.float32, torch.float64)
        return all(tensor.device.type == "cpu" and tensor.dtype in types for tensor in tensors)
    if backend == "nvdiffrast":
        return all(tensor.is_cuda and tensor.dtype == torch.float32 for tensor in tensors)
    return True


@cache
def nvdiffrast_problem() -> str | None:
    """Why nvdiffrast cannot be used here, in a few words; None if it can."""
    if find_spec("nvdiffrast") is None:
        return "not installed"
    try:
        import_module("nvdiffrast.torch")
    except (ImportError, OSError, RuntimeError) as error:  # built for another torch or CUDA
        return f"installed, but its import fails ({cause_of(error)})"
    return None
