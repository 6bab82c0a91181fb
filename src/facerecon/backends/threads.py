"""Compiled kernels on threads, and their view of tensors.

Compiled kernels take `(start, stop, *arrays)` and work through that part of the batch without the
GIL. `over_batch` distributes the parts among threads. Plain threads instead of numba's `prange`
because numba's threading layers either abort when two threads enter them at once or do not survive
a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

PARTS_PER_THREAD = 4  # of a batch: fine enough that threads finish together


def _compute_alone() -> None:
    """Threads do not survive a fork: a child that asks torch's for help hangs."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)


def over_batch(kernel: Callable[..., None], batch: int, *arrays: object) -> None:
    """Run `kernel(start, stop, *arrays)` over the batch on up to `torch.get_num_threads()` threads.

    Images differ in work, so a thread that is done with its part takes the next one.

    Safe to call from any thread, and in spawned or forked processes (a forked one computes with a
    single thread). One thread computes a batch item, in a fixed order, so results do not depend on
    the number of threads.
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
    """The triangles as kernels read them: half the memory, and no negative index to check for.

    Raises:
        ValueError: a vertex index out of range, which a compiled loop would read past the end for.
    """
    indices = triangles.detach().cpu().numpy()
    if indices.size and not (indices.min() >= 0 and indices.max() < n_vertices):
        raise ValueError(f"triangles point outside of the {n_vertices} vertices")
    return indices.astype(np.uint32)
