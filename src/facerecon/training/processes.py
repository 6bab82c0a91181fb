"""Training in several processes, one per GPU or processor core, as `torchrun` starts them.

The processes share every batch. torch's DistributedDataParallel averages their gradients and batch
normalization takes its statistics over all of them, so the run is the one that a single process
would make, up to the rounding of sums.
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
        return values if self.count == 1 else _mean(values)

    def decision(self, yes: bool, device: torch.device) -> bool:
        """What the first process decides."""
        if self.count == 1:
            return yes
        answer = torch.tensor([int(yes and self.first)], device=device)
        dist.all_reduce(answer)
        return bool(answer.item())

    def parallel(self, network: nn.Module, method: str = "forward") -> nn.Module:
        """A module whose call is `network.method`, learning from the batches of all processes.

        Alone, a plain call. Statistics of batch normalization are shared from then on.
        """
        module = network if method == "forward" else _Call(network, method)
        if self.count == 1:
            return module
        if next(network.parameters()).device.type == "cpu":
            for layer in network.modules():
                if type(layer) is nn.BatchNorm2d:
                    layer.__class__ = SharedBatchNorm2d
        else:
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(module)


class _Call(nn.Module):
    """One method of a network as a module of its own."""

    def __init__(self, network: nn.Module, method: str):
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *inputs: Tensor):
        """The method's answer."""
        return getattr(self.network, self.method)(*inputs)


class _Mean(torch.autograd.Function):
    """Mean over the processes, through which gradients flow to all of them."""

    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        return _mean(values)

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        return _mean(gradient)


def _mean(values: Tensor) -> Tensor:
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the batches of all processes: torch's SyncBatchNorm, on a CPU.

    In evaluation it is torch's BatchNorm2d. The processes' batches must be equally large.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), normalized."""
        if not self.training:
            return super().forward(x)
        count = dist.get_world_size()
        wide = x.float()
        variance, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        shared = _Mean.apply(torch.cat([mean, mean.square(), variance]))
        mean, square, within = shared.chunk(3)
        variance = within + (square - mean.square()).clamp(min=0)  # within and between processes
        with torch.no_grad():
            total = count * x[:, 0].numel()
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (total / (total - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        offset = self.bias - mean * scale
        return torch.addcmul(offset[:, None, None], wide, scale[:, None, None]).to(x.dtype)


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that `torchrun` started, if it did; leave them at the end.

    Args:
        device: as the user names it.

    Yields:
        the processes, and this one's device: of accelerators, the one with the number of the
        process on this machine, unless the user named one.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), device
        return
    device = own_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
    dist.init_process_group()  # gloo for tensors on the CPU, NCCL for those on NVIDIA GPUs
    yield Processes(dist.get_rank(), count), device
    # After an error the others still wait for this process: torchrun ends them, not we.
    dist.destroy_process_group()


def own_device(device: torch.device, local_rank: int) -> torch.device:
    """The device of a process: `local_rank` picks among accelerators, unless one is named."""
    if device.type == "cpu" or device.index is not None:
        return device
    return torch.device(device.type, local_rank)
