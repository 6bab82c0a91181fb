"""Where mesh operations run: "numba" (CPU), "torch" (any device) or "nvdiffrast" (NVIDIA GPUs).

Compiled kernels take `(start, stop, *arrays)` and work through that part of the batch without the
GIL. `over_batch` deals the parts out to threads. Plain threads instead of numba's `prange` because
numba's threading layers either abort when two threads enter them at once or do not survive a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BACKENDS = ("auto", "numba", "torch", "nvdiffrast")
PARTS_PER_THREAD = 4  # of a batch: fine enough that threads finish together


def choose_backend(backend: str, *tensors: Tensor) -> str:
    """The backend that runs on these tensors; "auto" takes the fastest that can.

    On the CPU that is numba, on an NVIDIA GPU nvdiffrast where it is installed, else torch.

    Raises:
        ValueError: unknown name, or tensors that the named backend cannot take.
        ImportError: nvdiffrast is asked for and cannot be imported; says why and what to do.
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
        return f"installed, but its import fails ({' '.join(str(error).split())[:200]})"
    return None


def over_batch(kernel: Callable[..., None], batch: int, *arrays: object) -> None:
    """Run `kernel(start, stop, *arrays)` over the batch on up to `torch.get_num_threads()` threads.

    Images differ in work, so a thread that is done with its part takes the next one.

    Safe to call from any thread, and in spawned or forked DataLoader workers (a process forked by
    other means must call `torch.set_num_threads(1)` first, for torch's own sake). One thread
    computes a batch item, in a fixed order, so results do not depend on the number of threads.
    """
    workers = min(batch, torch.get_num_threads())
    if workers <= 1:
        kernel(0, batch, *arrays)
        return
    count = min(batch, workers * PARTS_PER_THREAD)
    bounds = [batch * part // count for part in range(count + 1)]
    parts = iter(list(pairwise(bounds)))  # shared: `next` of a list's iterator is atomic

    def work() -> None:
        for start, stop in parts:
            kernel(start, stop, *arrays)

    helpers = [_pool(os.getpid(), workers - 1).submit(work) for _ in range(workers - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # it had begun
            helper.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work; by process, because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"facerecon-{process}")


def as_array(tensor: Tensor) -> np.ndarray:
    """A contiguous numpy view (or copy) of a CPU tensor, so that each kernel compiles once."""
    return tensor.detach().contiguous().numpy()


def as_indices(triangles: Tensor, n_vertices: int) -> np.ndarray:
    """The triangles as kernels read them: half the memory, and no negative index to look out for.

    Raises:
        ValueError: a vertex index out of range, which a compiled loop would read past the end for.
    """
    indices = triangles.detach().cpu().numpy()
    if indices.size and not (indices.min() >= 0 and indices.max() < n_vertices):
        raise ValueError(f"triangles point outside of the {n_vertices} vertices")
    return indices.astype(np.uint32)
