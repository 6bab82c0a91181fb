"""Training on several GPUs, one process each, as `torchrun` starts them.

The processes share every batch. torch averages their gradients (DistributedDataParallel) and takes
the statistics of batch normalization over all of them (SyncBatchNorm), so the run is the one that a
single process would make, up to the rounding of sums.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and talks to the user."""
        return self.rank == 0

    def share(self, total: int, what: str) -> slice:
        """This process's part of `total` things in order.

        Raises:
            ValueError: the processes cannot share them evenly.
        """
        if total % self.count:
            raise ValueError(
                f"{self.count} processes cannot share {total} {what} evenly: start a number of "
                "processes that divides it"
            )
        each = total // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def decision(self, yes: bool, device: torch.device) -> bool:
        """What the first process decides."""
        if self.count == 1:
            return yes
        answer = torch.tensor([int(yes and self.first)], device=device)
        dist.all_reduce(answer)
        return bool(answer.item())

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network itself, or with several processes one that learns from all their batches."""
        if self.count == 1:
            return network
        return DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(network))


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    Args:
        device: as the user names it.

    Yields:
        the processes, and this one's device: the accelerator with the number of the process on this
        machine, unless the user named one.

    Raises:
        ValueError: several processes on a CPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), device
        return
    if device.type == "cpu":
        raise ValueError(
            "several processes train on GPUs only (--device cuda); on a CPU threads are faster: "
            "start without torchrun, with --threads N"
        )
    device = own_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    torch.accelerator.set_device_index(device.index)
    dist.init_process_group()
    yield Processes(dist.get_rank(), count), device
    # After an error the others still wait for this process: torchrun ends them, not we.
    dist.destroy_process_group()


def own_device(device: torch.device, local_rank: int) -> torch.device:
    """The accelerator of a process: the `local_rank`-th, unless one is named."""
    return device if device.index is not None else torch.device(device.type, local_rank)
