"""The training engine on a problem small enough to check by hand."""

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from facerecon.training.checkpoints import (
    CHECKPOINT,
    PREVIOUS,
    TrainingError,
    newest_checkpoint,
    read_checkpoint,
)
from facerecon.training.engine import Run, averaged_copy, learning_rate_factor
from facerecon.training.log import HISTORY, Record, read_history
from facerecon.training.presets import TrainingConfig
from facerecon.training.processes import Processes

CONFIG = TrainingConfig(
    learning_rate=0.05,
    warmup=0.1,
    cooldown=0.3,
    weight_decay=0.0,
    gradient_clip=10.0,
    ema_decay=0.9,
    checkpoint_every=0,
    validation_every=200,
)


class Line:
    """Fit y = 2 x - 1 with one linear layer."""

    name = "line"
    data_description = "points on a line"
    processes = Processes()
    effective_batch = 8
    waited = 0.0

    def __init__(self, total=800, config=None, poison=None, at=None):
        self.config, self.total, self.poison, self.at = config or CONFIG, total, poison, at
        torch.manual_seed(0)
        self.networks = nn.ModuleDict({"line": nn.Linear(1, 1)})

    def parameter_groups(self):
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start):
        index = start
        while True:
            if self.at == index:
                os.kill(os.getpid(), signal.SIGKILL)
            x = torch.randn(8, 1, generator=torch.Generator().manual_seed(index))
            if index == self.poison:
                x[3] = float("nan")
            yield x
            index += 1

    def losses(self, batch):
        error = self.networks["line"](batch) - (2 * batch - 1)
        yield {"loss": error.square().mean()}

    def validate(self, networks):
        return {"slope": networks["line"].weight.item(), "offset": networks["line"].bias.item()}

    def pictures(self, networks):
        return {"grey": torch.full((3, 4, 4), 0.5)}


def final_weights(folder):
    return read_checkpoint(folder / CHECKPOINT, torch.device("cpu"))["networks"]


def run(folder, **task):
    return Run(Line(**task), folder, torch.device("cpu"), quiet=True)


def test_learns_the_line_and_keeps_a_record(tmp_path):
    metrics = run(tmp_path).train()
    assert metrics["slope"] == pytest.approx(2, abs=0.05)
    assert metrics["offset"] == pytest.approx(-1, abs=0.05)
    records = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    losses = [r["train/loss"] for r in records if "train/loss" in r]
    assert losses and all(r["samples"] <= 800 for r in records)
    assert sum("validation/slope" in r for r in records) == 5  # every 200 samples, and the end
    assert list((tmp_path / "events").iterdir())


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1), (0.5, 1), (0.85, 0.5), (1.0, 0)]
)
def test_learning_rate_is_a_trapezoid(progress, expected):
    assert learning_rate_factor(progress, 0.1, 0.3) == pytest.approx(expected)


def test_average_follows_the_closed_form():
    network = nn.ModuleDict({"one": nn.Linear(1, 1, bias=False)})
    average = averaged_copy(network, decay=0.5)
    values = [1.0, 3.0, -2.0]
    expected = network["one"].weight.item()
    for step, value in enumerate(values, start=1):
        network["one"].weight.data.fill_(value)
        average.update_parameters(network)
        weight = 1 - min(0.5, (1 + step) / (10 + step))
        expected += weight * (value - expected)
    assert average.module["one"].weight.item() == pytest.approx(expected, rel=1e-6)


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    run(tmp_path / "whole").train()
    first = run(tmp_path / "parts")
    first.minutes = 0.0  # stops after one batch
    first.train()
    assert first.samples == 8
    run(tmp_path / "parts").train()
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def in_a_child(work):
    """Run `work` in a forked process; returns its exit code, minus the signal that killed it."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    return child.exitcode


def kill_in_write(monkeypatch, half):
    """At the second checkpoint, die in the middle of writing, or between the renamings."""
    write, replace, seen = Path.write_bytes, os.replace, []

    def dying_write(path, data):
        seen.extend([path] * data.startswith(b"PK"))  # the archive that torch.save makes
        if len(seen) == 2:
            write(path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data)

    def dying_replace(source, target):
        replace(source, target)
        if str(target).endswith(PREVIOUS):
            os.kill(os.getpid(), signal.SIGKILL)

    if half:
        monkeypatch.setattr(Path, "write_bytes", dying_write)
    else:
        monkeypatch.setattr(os, "replace", dying_replace)


@pytest.mark.parametrize("moment", ["between batches", "half a checkpoint", "between renamings"])
def test_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch, moment):
    folder = tmp_path / "killed"
    with monkeypatch.context() as patched:
        at = 37 if moment == "between batches" else None
        if at is None:
            kill_in_write(patched, half=moment == "half a checkpoint")
        assert in_a_child(lambda: run(folder, at=at).train()) == -signal.SIGKILL
    _, state = newest_checkpoint(folder, torch.device("cpu"))
    assert 0 < state["samples"] < 800
    run(folder).train()
    run(tmp_path / "whole").train()
    killed, whole = final_weights(folder), final_weights(tmp_path / "whole")
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
    seen = [line["samples"] for line in read_history(folder) if "train/loss" in line]
    assert seen == sorted(set(seen))  # nothing twice


def test_history_cut_short_by_a_kill_is_mended(tmp_path):
    first = run(tmp_path)
    first.minutes = 0.0
    first.train()
    with open(tmp_path / HISTORY, "a") as file:
        file.write(json.dumps({"samples": 700, "train/loss": 1.0}) + "\n" + '{"samples": 7')
    run(tmp_path).train()
    lines = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert 700 not in [line["samples"] for line in lines]
    assert [line["start"]["seed"] for line in lines if "start" in line] == [0, 0]


def test_settings_are_recorded(tmp_path):
    run(tmp_path).train()
    start = read_history(tmp_path)[0]["start"]
    state = read_checkpoint(tmp_path / CHECKPOINT, torch.device("cpu"))
    for record in (start, state):
        assert (record["seed"], record["effective_batch"], record["processes"]) == (0, 8, 1)
    windows = [line for line in read_history(tmp_path) if "train/loss" in line]
    assert windows[0]["train/samples_per_second"] > 0
    assert 0 <= windows[0]["train/waiting_share"] <= 1


@pytest.mark.parametrize("file", ["checkpoint", "history"])
def test_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch, file):
    first = run(tmp_path)
    first.minutes = 0.0
    first.train()
    before = final_weights(tmp_path)
    with monkeypatch.context() as patched:
        if file == "checkpoint":
            patched.setattr(Path, "write_bytes", half_written)
        else:
            patched.setattr(Record, "_append", no_space)
        with pytest.raises(TrainingError, match=r"(?i)no space left on device.*last good"):
            run(tmp_path).train()
    after = final_weights(tmp_path)
    assert all(torch.equal(before[k], after[k]) for k in before)
    names = {HISTORY, CHECKPOINT, PREVIOUS, "events"}
    assert {path.name for path in tmp_path.iterdir()} <= names
    assert run(tmp_path).train()["slope"] == pytest.approx(2, abs=0.05)


def half_written(path, data):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    no_space()


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_corrupt_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a readable checkpoint"):
        run(tmp_path)


def test_after_a_corrupt_checkpoint_the_one_before_it_goes_on(tmp_path):
    run(tmp_path / "whole").train()
    first = run(tmp_path / "bad")
    first.minutes = 0.0
    first.train()
    path = tmp_path / "bad" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"damaged.*checkpoint\.previous\.pt, at 8 samples"):
        again = run(tmp_path / "bad")
    again.train()
    whole, mended = final_weights(tmp_path / "whole"), final_weights(tmp_path / "bad")
    assert all(torch.equal(whole[k], mended[k]) for k in whole)


def test_checkpoint_of_another_seed_or_batch_is_refused(tmp_path):
    run(tmp_path).train()
    with pytest.raises(TrainingError, match="another run"):
        run(tmp_path, config=dataclasses.replace(CONFIG, seed=1))
    other = Line()
    other.effective_batch = 16
    with pytest.raises(TrainingError, match="in batches of 8, not 16"):
        Run(other, tmp_path, torch.device("cpu"))


def test_nan_in_the_data_is_located_and_the_checkpoint_kept(tmp_path):
    message = r"loss became nan after 40 samples, in batch 5 of seed 0\. Its samples \[3\] hold"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, poison=5).train()
    assert torch.isfinite(final_weights(tmp_path)["line.weight"]).all()


def test_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    task = Line()
    line = task.networks["line"]
    steep = lambda x: (line(0 * x) - line.bias).abs().sqrt().sum()  # noqa: E731
    task.losses = lambda batch: iter([{"loss": steep(batch)}])
    with pytest.raises(TrainingError, match=r"gradient's norm became nan.*weights have diverged"):
        Run(task, tmp_path, torch.device("cpu"), quiet=True).train()
    assert torch.isfinite(task.networks["line"].weight).all()


def test_trains_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(tmp_path, total=80).train()
    assert read_history(tmp_path) and not (tmp_path / "events").exists()
