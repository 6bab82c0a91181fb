"""Batches without end, prepared ahead of time by worker processes."""

from collections.abc import Iterable, Iterator

from torch.utils.data import DataLoader, Dataset, Sampler


class _From(Sampler):
    """start, start + 1, ... without end."""

    def __init__(self, start: int):
        self.start = start

    def __iter__(self) -> Iterator[int]:
        index = self.start
        while True:
            yield index
            index += 1


def _one_thread(_worker: int) -> None:
    """Keep a worker process to one core."""
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)


def prefetched(batches: Dataset, start: int, workers: int) -> Iterable:
    """`batches[start]`, `batches[start + 1]`, ...; with 0 workers each is made when asked for."""
    if not workers:
        return (batches[index] for index in _From(start))
    return DataLoader(
        batches,
        batch_size=None,
        sampler=_From(start),
        num_workers=workers,
        multiprocessing_context="spawn",
        prefetch_factor=2,
        worker_init_fn=_one_thread,
    )
