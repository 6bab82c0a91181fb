"""The training engine on a problem small enough to check by hand."""

import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from torch import nn

from facerecon.training.engine import (
    CHECKPOINT,
    HISTORY,
    Average,
    Run,
    TrainingError,
    learning_rate_factor,
    read_checkpoint,
    write_atomically,
)


@dataclasses.dataclass(frozen=True)
class Config:
    learning_rate: float = 0.05
    warmup: float = 0.1
    cooldown: float = 0.3
    weight_decay: float = 0.0
    gradient_clip: float = 10.0
    ema_decay: float = 0.9
    checkpoint_every: float = 0.0
    validation_every: int = 200
    seed: int = 0


class Line:
    """Fit y = 2 x - 1 with one linear layer."""

    name = "line"
    data_description = "points on a line"

    def __init__(self, total=800, config=None, pause=0.0, poison=None):
        self.config, self.total, self.pause, self.poison = config or Config(), total, pause, poison
        torch.manual_seed(0)
        self.networks = nn.ModuleDict({"line": nn.Linear(1, 1)})

    def parameter_groups(self):
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start):
        index = start
        while True:
            time.sleep(self.pause)
            x = torch.randn(8, 1, generator=torch.Generator().manual_seed(index))
            yield x * float("nan") if index == self.poison else x
            index += 1

    def losses(self, batch):
        error = self.networks["line"](batch) - (2 * batch - 1)
        yield {"loss": error.square().mean()}, len(batch)

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
    average = Average(network, decay=0.5)
    values = [1.0, 3.0, -2.0]
    expected = network["one"].weight.item()
    for step, value in enumerate(values, start=1):
        network["one"].weight.data.fill_(value)
        average.update(network)
        weight = 1 - min(0.5, (1 + step) / (10 + step))
        expected += weight * (value - expected)
    assert average.state["one.weight"].item() == pytest.approx(expected, rel=1e-6)


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    run(tmp_path / "whole").train()
    first = run(tmp_path / "parts")
    first.minutes = 0.0  # stops after one batch
    first.train()
    assert first.samples == 8
    run(tmp_path / "parts").train()
    whole, parts = final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_killed_run_resumes_to_the_same_weights(tmp_path):
    script = textwrap.dedent(f"""
        import sys, torch
        sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
        from test_engine import Line, Run
        from pathlib import Path
        Run(Line(pause=0.02), Path(sys.argv[1]), torch.device("cpu"), quiet=True).train()
    """)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    deadline = time.monotonic() + 60
    while not (folder / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = read_checkpoint(folder / CHECKPOINT, torch.device("cpu"))["samples"]
    assert 0 < seen < 800
    run(folder).train()
    run(tmp_path / "whole").train()
    killed, whole = final_weights(folder), final_weights(tmp_path / "whole")
    assert all(torch.equal(whole[k], killed[k]) for k in whole)


def test_failed_write_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / CHECKPOINT
    write_atomically(path, {"value": torch.ones(2)})

    def full_disk(_state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(TrainingError, match="No space left"):
        write_atomically(path, {"value": torch.zeros(2)})
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    assert torch.equal(torch.load(path, weights_only=True)["value"], torch.ones(2))


def test_corrupt_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a readable checkpoint"):
        run(tmp_path)


def test_checkpoint_of_another_seed_is_refused(tmp_path):
    run(tmp_path).checkpoint()
    with pytest.raises(TrainingError, match="another run"):
        run(tmp_path, config=Config(seed=1))


def test_nan_loss_stops_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="loss became nan after 40 samples"):
        run(tmp_path, poison=5).train()
    assert torch.isfinite(final_weights(tmp_path)["line.weight"]).all()
