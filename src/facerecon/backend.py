"""Where mesh operations run: compiled loops ("numba", CPU) or tensors ("torch", any device).

Compiled kernels take `(start, stop, *arrays)` and work through that part of the batch without the
GIL. `over_batch` gives each thread one part. Plain threads instead of numba's `prange` because
numba's threading layers either abort when two threads enter them at once or do not survive a fork.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BACKENDS = ("auto", "numba", "torch")


def choose_backend(backend: str, *tensors: Tensor) -> str:
    """Resolve "auto" to "numba" for float32 and float64 on the CPU and to "torch" otherwise.

    Raises:
        ValueError: unknown name, or "numba" asked for tensors its kernels cannot take.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch":
        return "torch"
    suits = all(
        tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
        for tensor in tensors
    )
    if backend == "numba" and not suits:
        kinds = ", ".join(f"{tensor.dtype} on {tensor.device}" for tensor in tensors)
        raise ValueError(f"backend 'numba' needs float32 or float64 on the CPU, got {kinds}")
    return "numba" if suits else "torch"


def over_batch(kernel: Callable[..., None], batch: int, *arrays: np.ndarray) -> None:
    """Run `kernel(start, stop, *arrays)` over the batch on up to `torch.get_num_threads()` threads.

    Safe to call from any thread, and in spawned or forked DataLoader workers (a process forked by
    other means must call `torch.set_num_threads(1)` first, for torch's own sake). One thread
    computes a batch item, in a fixed order, so results do not depend on the number of threads.
    """
    workers = min(batch, torch.get_num_threads())
    if workers <= 1:
        kernel(0, batch, *arrays)
        return
    bounds = [batch * share // workers for share in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(kernel, start, stop, *arrays) for start, stop in pairwise(bounds)]
    for part in parts:
        part.result()


def as_array(tensor: Tensor) -> np.ndarray:
    """A contiguous numpy view (or copy) of a CPU tensor, so that each kernel compiles once."""
    return tensor.detach().contiguous().numpy()
