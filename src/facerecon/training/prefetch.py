"""Batches without end, prepared ahead of time by worker processes."""

from collections.abc import Iterable
from itertools import count

import numba
import torch
from torch.utils.data import DataLoader, Dataset


def _one_thread(_worker: int) -> None:
    """Keep a worker process to one core."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)


def prefetched(batches: Dataset, start: int, workers: int) -> Iterable:
    """`batches[start]`, `batches[start + 1]`, ...; with 0 workers each is made when asked for."""
    if not workers:
        return (batches[index] for index in count(start))
    return DataLoader(
        batches,
        batch_size=None,
        sampler=count(start),
        num_workers=workers,
        multiprocessing_context="spawn",
        prefetch_factor=2,
        worker_init_fn=_one_thread,
    )
