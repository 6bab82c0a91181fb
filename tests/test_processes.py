"""Several processes train what one would: weights, statistics and record; torchrun's, too."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from facerecon.coarsenet import CoarseNetConfig
from facerecon.synthetic.config import DetailConfig, HairConfig, SyntheticConfig
from facerecon.training.checkpoints import CHECKPOINT, read_checkpoint
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.log import read_history
from facerecon.training.presets import CoarseTraining
from facerecon.training.processes import Processes, SharedBatchNorm2d, joined, own_device
from facerecon.weights import read_card

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
    passes=2,
    learning_rate=1e-4,  # at larger ones rounding grows: Adam divides by tiny gradients at first
    bfloat16=False,
    validation_faces=2,
    validation_every=1000,
)


def in_processes(count, work, *arguments):
    """Call `work(*arguments)` in `count` forked processes that find each other as torchrun's do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def start(rank):
        os.environ.update(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
        )
        work(*arguments)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=start, args=(rank,)) for rank in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(240)
    assert [child.exitcode for child in children] == [0] * count


def normalized(folder, x, upstream):
    """This process's half through shared batch normalization, forward and backward."""
    with joined(CPU) as (processes, _):
        half = processes.share(len(x), "rows")
        layer = nn.BatchNorm2d(x.shape[1])
        nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(1))
        layer.__class__ = SharedBatchNorm2d
        mine = x[half].clone().requires_grad_()
        y = layer(mine)
        y.backward(upstream[half])
        state = {
            "y": y.detach(),
            "x.grad": mine.grad,
            "weight.grad": layer.weight.grad,
            "bias.grad": layer.bias.grad,
            "running_mean": layer.running_mean,
            "running_var": layer.running_var,
            "eval": layer.eval()(mine).detach(),
        }
        torch.save(state, folder / f"{processes.rank}.pt")


def test_shared_batch_normalization_is_that_of_the_whole_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, 5, 4, generator=generator) * 2 + 3
    x[3:] += 1  # the halves differ
    upstream = torch.randn(6, 3, 5, 4, generator=generator)
    in_processes(2, normalized, tmp_path, x, upstream)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    layer = nn.BatchNorm2d(3)
    nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(1))
    whole = x.clone().requires_grad_()
    layer(whole).backward(upstream)
    close = {"rtol": 1e-4, "atol": 1e-5}
    joint = {name: torch.cat([part[name] for part in parts]) for name in ("y", "x.grad", "eval")}
    torch.testing.assert_close(joint["x.grad"], whole.grad, **close)
    torch.testing.assert_close(parts[0]["weight.grad"] + parts[1]["weight.grad"], layer.weight.grad)
    torch.testing.assert_close(parts[0]["bias.grad"] + parts[1]["bias.grad"], layer.bias.grad)
    for part in parts:
        torch.testing.assert_close(part["running_mean"], layer.running_mean)
        torch.testing.assert_close(part["running_var"], layer.running_var)
    torch.testing.assert_close(joint["eval"], layer.eval()(x), **close)
    layer.train()
    torch.testing.assert_close(joint["y"], layer(x), **close)


def train(model, folder, config, minutes):
    """One run, alone or together; each process leaves its weights behind."""
    with joined(CPU) as (processes, device):
        task = CoarseTask(model, config, device, workers=0, processes=processes)
        run = Run(task, folder, device, minutes=minutes, quiet=True, log_every=1)
        run.train()
        torch.save(task.networks.state_dict(), folder / f"weights{processes.rank}.pt")


def losses(folder):
    return torch.tensor(
        [line["train/loss"] for line in read_history(folder) if "train/loss" in line]
    )


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(model, folder, TINY, None)
    return folder


@pytest.fixture(scope="module")
def together(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    in_processes(2, train, model, folder, TINY, None)
    return folder


def test_two_processes_train_what_one_does(model, alone, together):
    weights = [torch.load(together / f"weights{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    one = torch.load(alone / "weights0.pt", weights_only=True)
    fresh = CoarseTask(model, TINY, CPU, workers=0).networks.state_dict()
    for key, value in one.items():
        if value.is_floating_point():
            moved = (value - fresh[key]).norm()
            assert (weights[0][key] - value).norm() <= 0.01 * moved + 1e-5, key
    assert len(losses(alone)) == 2  # batches, each of two steps for two halves of a pair
    torch.testing.assert_close(losses(together), losses(alone), rtol=1e-5, atol=0)
    state = read_checkpoint(together / CHECKPOINT, CPU)
    assert (state["samples"], state["effective_batch"], state["processes"]) == (64, 8, 2)


def test_stopped_and_resumed_in_two_processes_equals_uninterrupted(model, together, tmp_path):
    in_processes(2, train, model, tmp_path, TINY, 0.0)
    assert read_checkpoint(tmp_path / CHECKPOINT, CPU)["samples"] == 32
    in_processes(2, train, model, tmp_path, TINY, None)
    whole, parts = (read_checkpoint(f / CHECKPOINT, CPU)["networks"] for f in (together, tmp_path))
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_shares_make_the_batch_of_one_process(model):
    def batch(processes):
        return next(iter(CoarseTask(model, TINY, CPU, workers=0, processes=processes).pairs))

    class Two(Processes):
        def parallel(self, network, method="forward"):
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
    ("device", "expected"),
    [("cpu", "cpu"), ("cuda", "cuda:1"), ("cuda:3", "cuda:3"), ("xpu", "xpu:1")],
)
def test_each_process_takes_its_own_accelerator(device, expected):
    assert own_device(torch.device(device), local_rank=1) == torch.device(expected)


@pytest.mark.slow
def test_torchrun_trains_from_the_command_line(tmp_path):
    weights = tmp_path / "coarsenet.safetensors"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "facerecon", "train", "coarse", "--preset", "quick", "--samples", "32"),
        *("--folder", str(tmp_path / "run"), "--export", str(weights)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("coarse: ") == 1  # one process talks
    card = read_card(weights)
    assert card["effective_batch"] == 8 and card["processes"] == 2
    start = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[0])["start"]
    assert start["processes"] == 2
