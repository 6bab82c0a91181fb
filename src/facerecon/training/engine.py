"""One training engine for every network: schedule, averaging, log, checkpoints, exact resumption.

A task (`coarse`, `fine`) says what a batch is and how it is scored; the engine
does the rest. Batches are functions of (seed, index), so a run that was killed continues from its
checkpoint as if nothing had happened.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from tqdm import tqdm

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


@runtime_checkable
class Task(Protocol):
    """What the engine needs to know of a training problem."""

    name: str
    data_description: str  # for the model card
    config: object  # a frozen dataclass with learning_rate, warmup, cooldown, ...
    networks: nn.ModuleDict  # everything that is saved; parameters with requires_grad are trained
    total: int  # samples of the whole run

    def parameter_groups(self) -> list[dict]:
        """Parameters for the optimiser, each group with its own peak `lr`."""
        ...

    def batches(self, start: int) -> Iterable:
        """Batches from index `start` on, each a function of (seed, index) alone."""
        ...

    def losses(self, batch) -> Iterator[tuple[dict[str, Tensor], int]]:
        """Yield (terms, samples) per optimiser step; terms["loss"] is minimised, all are logged."""
        ...

    def validate(self, networks: nn.ModuleDict) -> dict[str, float]:
        """Metrics of the averaged networks; empty where there is nothing to measure."""
        ...

    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Image sheets (3, H, W) in [0, 1] for TensorBoard."""
        ...


def learning_rate_factor(progress: float, warmup: float, cooldown: float) -> float:
    """Trapezoid over the share of samples seen: linear warm-up, constant, linear cool-down to zero.

    A constant middle lets a run be stopped or prolonged at any time; only the cool-down is bound to
    the total.
    """
    rise = progress / warmup if warmup > 0 else 1.0
    fall = (1 - progress) / cooldown if cooldown > 0 else 1.0
    return max(0.0, min(1.0, rise, fall))


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed natively; emulated it is slower than float32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


class Average:
    """Exponential moving average of parameters and floating-point buffers."""

    def __init__(self, networks: nn.ModuleDict, decay: float):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone() for k, v in networks.state_dict().items()}

    @torch.no_grad()
    def update(self, networks: nn.ModuleDict) -> None:
        """Move the average toward the networks; its first steps weigh more."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in networks.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, weight)
            else:
                self.state[key].copy_(value)


def write_atomically(path: Path, state: dict) -> None:
    """torch.save that never leaves a half-written file under the final name."""
    temporary = path.with_name(path.name + ".partial")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise TrainingError(
            f"{path}: the checkpoint could not be written ({error.strerror or error}); the "
            "last good one is kept. "
            "Free some space or choose another folder with --run, then start the same command "
            "again."
        ) from error


def read_checkpoint(path: Path, device: torch.device) -> dict:
    """Load a checkpoint written by this engine, or say clearly that it is damaged."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). Delete it to start "
            "afresh, or restore a copy."
        ) from error


class Run:
    """A training run in a folder: resumes there, trains, validates, and keeps its record.

    Args:
        task: the problem.
        folder: where checkpoint, history and TensorBoard events live.
        device: where to train.
        minutes: stop (with a checkpoint) after this long; None trains to the end.
        quiet: no progress bar.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        device: torch.device,
        minutes: float | None = None,
        quiet: bool = False,
    ):
        self.task, self.folder, self.device = task, Path(folder), device
        self.minutes, self.quiet = minutes, quiet
        self.folder.mkdir(parents=True, exist_ok=True)
        self.networks = task.networks.to(device)
        self.optimizer = torch.optim.AdamW(
            task.parameter_groups(),
            weight_decay=task.config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.average = Average(self.networks, task.config.ema_decay)
        self.index, self.samples, self.seconds = 0, 0, 0.0
        if (self.folder / CHECKPOINT).exists():
            self._restore()

    def _restore(self) -> None:
        state = read_checkpoint(self.folder / CHECKPOINT, self.device)
        if state.get("task") != self.task.name or state["seed"] != self.task.config.seed:
            raise TrainingError(
                f"{self.folder / CHECKPOINT}: belongs to another run (task "
                f"{state.get('task')!r}, seed {state['seed']}). "
                "Choose another folder with --run."
            )
        try:
            self.networks.load_state_dict(state["networks"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainingError(
                f"{self.folder / CHECKPOINT}: does not fit this preset's networks. Choose "
                "another folder with --run."
            ) from error
        self.average.state, self.average.steps = state["average"], state["average_steps"]
        self.index, self.samples, self.seconds = state["index"], state["samples"], state["seconds"]

    def checkpoint(self) -> None:
        """Write the state between two batches."""
        write_atomically(
            self.folder / CHECKPOINT,
            {
                "task": self.task.name,
                "seed": self.task.config.seed,
                "config": json.dumps(asdict(self.task.config)),
                "networks": self.networks.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state,
                "average_steps": self.average.steps,
                "index": self.index,
                "samples": self.samples,
                "seconds": self.seconds,
            },
        )

    def averaged(self) -> nn.ModuleDict:
        """The networks with their averaged weights, in eval mode; call `live()` afterwards."""
        self._live_state = {k: v.detach().clone() for k, v in self.networks.state_dict().items()}
        self.networks.load_state_dict(self.average.state)
        return self.networks.eval()

    def live(self) -> None:
        """Back to the weights in training."""
        self.networks.load_state_dict(self._live_state)
        del self._live_state
        self.networks.train()

    def validate(self) -> dict[str, float]:
        """Metrics of the averaged weights, appended to the history."""
        networks = self.averaged()
        with torch.no_grad():
            metrics = self.task.validate(networks)
            pictures = self.task.pictures(networks)
        self.live()
        self._record({f"validation/{name}": value for name, value in metrics.items()})
        for name, picture in pictures.items():
            self.events.add_image(name, picture, self.samples)
        return metrics

    def train(self) -> dict[str, float]:
        """Train to the end of the task or of the time; returns the last validation's metrics."""
        from torch.utils.tensorboard import SummaryWriter

        config, task = self.task.config, self.task
        self.events = SummaryWriter(self.folder / "events", purge_step=self.samples)
        self.networks.train()
        every = getattr(config, "validation_every", 0)
        began = saved = time.monotonic()
        before, window = self.seconds, []
        bar = tqdm(
            total=task.total,
            initial=self.samples,
            unit="sample",
            desc=task.name,
            disable=self.quiet,
            mininterval=2.0,
        )
        batches = iter(task.batches(self.index))
        try:
            while self.samples < task.total:
                mark = self.samples // every if every else 0
                for terms, count in task.losses(next(batches)):
                    self._step(terms["loss"])
                    self.samples += count
                    bar.update(count)
                    window.append({k: v.detach() for k, v in terms.items()})
                self.index += 1
                now = time.monotonic()
                self.seconds = before + now - began
                if len(window) >= 100:
                    bar.set_postfix(loss=f"{self._log(window):.4f}")
                    window = []
                late = self.minutes is not None and now - began > 60 * self.minutes
                if now - saved > config.checkpoint_every or late:
                    self.checkpoint()
                    saved = now
                if every and self.samples // every > mark:
                    self.validate()
                if late:
                    break
            if window:
                self._log(window)
            self.checkpoint()
            return self.validate()
        finally:
            bar.close()
            self.events.close()

    def _step(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} after {self.samples} samples; the last "
                f"checkpoint in {self.folder} is intact. "
                "Start again with a lower learning rate."
            )
        config = self.task.config
        factor = learning_rate_factor(
            self.samples / self.task.total, config.warmup, config.cooldown
        )
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
        self.optimizer.step()
        self.average.update(self.networks)

    def _log(self, window: list[dict[str, Tensor]]) -> float:
        values: dict[str, list[Tensor]] = {}
        for terms in window:
            for key, value in terms.items():
                values.setdefault(f"train/{key}", []).append(value)
        means = {key: torch.stack(value).mean().item() for key, value in values.items()}
        means["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self._record(means)
        return means["train/loss"]

    def _record(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.events.add_scalar(name, value, self.samples)
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        line = json.dumps({"samples": self.samples, "seconds": round(self.seconds), **finite})
        with open(self.folder / HISTORY, "a") as file:
            file.write(line + "\n")
