"""Work on threads: compiled kernels over a batch, whole functions side by side; tensors as arrays.

Compiled kernels take `(start, stop, *arrays)` and work through that part of the batch without the
GIL. `over_batch` distributes the parts among threads. Plain threads instead of numba's `prange`
because numba's threading layers either abort when two threads enter them at once or do not survive
a fork.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

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


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> list[Result]:
    """`[function(item) for item in items]` on `torch.get_num_threads()` threads.

    Each of them computes with a single thread, which wastes less than all of them on one item
    after another: there they wait for each other at every operation. For an accelerator, the
    calling thread does it all. Any thread may call it; but a thread that asks torch for the first
    time while it runs keeps a single one, for torch has one number for all that begin.

    Args:
        function: sets torch's modes itself (`torch.no_grad`), which are each thread's own.
        device: that the function computes on.

    Raises:
        Whatever the function raises; of several errors that of the first item.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(items)) if device.type == "cpu" else 1
    if workers <= 1:
        return [function(item) for item in items]
    torch.set_num_threads(1)  # for threads that begin now, and for the matrix products of all
    try:
        with ThreadPoolExecutor(workers, f"facerecon-{os.getpid()}") as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)


def balanced_parts(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """As few parts of at most `most` items as keep all threads of `side_by_side` equally busy."""
    workers = torch.get_num_threads()
    rounds = -(-len(items) // (most * workers))
    count = min(len(items), rounds * workers)
    bounds = [len(items) * part // count for part in range(count + 1)] if count else []
    return [items[start:stop] for start, stop in pairwise(bounds)]


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
