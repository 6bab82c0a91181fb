"""Several processes train what one would: their shares of a batch, gradients and record."""

import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from facerecon.cli import main
from facerecon.coarsenet import CoarseNetConfig
from facerecon.synthetic.config import DetailConfig, HairConfig, SyntheticConfig
from facerecon.training.checkpoints import CHECKPOINT, read_checkpoint
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.log import read_history
from facerecon.training.presets import CoarseTraining, TrainingConfig
from facerecon.training.processes import Processes, own_device

CPU = torch.device("cpu")
TINY = CoarseTraining(
    network=CoarseNetConfig(width=4, squeeze=8),
    data=SyntheticConfig(
        size=64,
        detail=DetailConfig(wrinkles=False, texture=False),
        hair=HairConfig(surround=False),
    ),
    samples=64,
    images_per_batch=8,
    parts=2,
)


class Cubic:
    """Fit a cubic with a small network; the processes share batches of eight points.

    Without batch normalization, whose SyncBatchNorm needs GPUs, it also runs on CPUs.
    """

    name = "cubic"
    data_description = "points on a cubic"
    config = TrainingConfig(weight_decay=0.0, checkpoint_every=0)
    total, effective_batch, waited = 160, 8, 0.0

    def __init__(self, processes):
        self.processes = processes
        torch.manual_seed(0)
        self.networks = nn.ModuleDict(
            {"net": nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))}
        )
        self.trained = processes.parallel(self.networks["net"])

    def parameter_groups(self):
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start):
        share = self.processes.share(8, "points")
        for index in range(start, self.total // 8):
            x = torch.randn(8, 1, generator=torch.Generator().manual_seed(index))
            yield x[share]

    def losses(self, batch):
        yield {"loss": (self.trained(batch) - batch**3).square().mean()}

    def validate(self, networks):
        return {"at_one": networks["net"](torch.ones(1, 1)).item()}

    def pictures(self, networks):
        return {}


def train(folder, processes, minutes=None):
    """One run, alone or together; each process leaves its weights behind."""
    run = Run(Cubic(processes), folder, CPU, minutes=minutes, quiet=True, log_every=1)
    run.train()
    torch.save(run.networks.state_dict(), folder / f"weights{processes.rank}.pt")


def train_in_two(folder, minutes=None):
    """The same in two forked processes that find each other as torchrun's do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def start(rank):
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
        )
        train(folder, Processes(rank, 2), minutes)
        dist.destroy_process_group()

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=start, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]


def losses(folder):
    return [line["train/loss"] for line in read_history(folder) if "train/loss" in line]


def test_two_processes_train_what_one_does(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    train(alone, Processes())
    train_in_two(together)
    first, second = (torch.load(together / f"weights{rank}.pt") for rank in (0, 1))
    one = torch.load(alone / "weights0.pt")
    assert all(torch.equal(first[k], second[k]) for k in first)
    torch.testing.assert_close(first, one, rtol=1e-4, atol=1e-6)
    assert len(losses(alone)) == 20
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
    state = read_checkpoint(together / CHECKPOINT, CPU)
    assert (state["samples"], state["effective_batch"], state["processes"]) == (160, 8, 2)


def test_stopped_and_resumed_in_two_processes_equals_uninterrupted(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train_in_two(whole)
    train_in_two(parts, minutes=0.0)
    assert read_checkpoint(parts / CHECKPOINT, CPU)["samples"] == 8
    train_in_two(parts)
    ends = [read_checkpoint(folder / CHECKPOINT, CPU)["networks"] for folder in (whole, parts)]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


@pytest.mark.slow
def test_shares_make_the_batch_of_one_process(model):
    def batch(processes):
        return next(iter(CoarseTask(model, TINY, CPU, workers=0, processes=processes).pairs))

    class Two(Processes):
        def parallel(self, network):
            return network

    whole, first, second = batch(Processes()), batch(Two(0, 2)), batch(Two(1, 2))
    for all_, one, two in zip(whole, first, second, strict=True):
        for together, a, b in zip(all_, one, two, strict=True):
            assert len(a) == len(b) == 4
            torch.testing.assert_close(torch.cat([a, b]), together)


def test_uneven_shares_are_refused():
    with pytest.raises(ValueError, match="3 processes cannot share 4 parts of a batch evenly"):
        Processes(0, 3).share(4, "parts of a batch")


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "cuda:1"), ("cuda:3", "cuda:3"), ("xpu", "xpu:1")]
)
def test_each_process_takes_its_own_accelerator(device, expected):
    assert own_device(torch.device(device), local_rank=1) == torch.device(expected)


def test_batch_normalization_is_shared_on_several_gpus(monkeypatch):
    monkeypatch.setattr("facerecon.training.processes.DistributedDataParallel", lambda net: net)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    weights = dict(network.named_parameters())
    shared = Processes(0, 2).parallel(network)
    assert isinstance(shared[1], nn.SyncBatchNorm)
    assert all(value is weights[name] for name, value in shared.named_parameters())


def test_several_processes_on_a_cpu_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "coarse", "--preset", "quick"]) == 1
    error = capsys.readouterr().err
    assert "on a CPU threads are faster" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
