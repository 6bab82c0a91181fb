"""One training engine for every network: schedule, averaging, log, checkpoints, exact resumption.

A task (`coarse`, `fine`) says what a batch is and how it is scored; the engine does the rest.
Batches are functions of (seed, index), so a run that was killed continues from its checkpoint as if
nothing had happened.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from facerecon.files import OutputError, remove_partial, sole_writer
from facerecon.training.checkpoints import TrainingError, newest_checkpoint, write_checkpoint
from facerecon.training.log import Record, Window
from facerecon.training.presets import TrainingConfig
from facerecon.training.processes import Processes


@runtime_checkable
class Task(Protocol):
    """What the engine needs to know of a training problem."""

    name: str
    data_description: str  # for the model card
    config: TrainingConfig
    networks: nn.ModuleDict  # everything that is saved; parameters with requires_grad are trained
    processes: Processes  # that share each batch
    total: int  # samples of the whole run
    effective_batch: int  # samples per optimizer step, of all processes
    waited: float  # seconds of `losses` in which the network waited for rendered maps, so far

    def parameter_groups(self) -> list[dict]:
        """Parameters for the optimizer, each group with its own peak `lr`."""
        ...

    def batches(self, start: int) -> Iterable:
        """This process's share of the batches from index `start` on.

        A function of (seed, index) alone; all shares together are the same for every number of
        processes.
        """
        ...

    def losses(self, batch) -> Iterator[dict[str, Tensor]]:
        """Yield terms per optimizer step; terms["loss"] is minimized, all are logged.

        Each is a mean over this process's share.
        """
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
    """Whether bfloat16 is computed natively; emulated it is slower than float32.

    On a processor that is held to less than AVX-512 (`ATEN_CPU_CAPABILITY=avx2`) it is not.
    """
    if device.type == "cpu":  # torch has no public question for it
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return native and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def averaged_copy(networks: nn.ModuleDict, decay: float) -> AveragedModel:
    """A copy that follows the networks by an exponential moving average; call `update_parameters`.

    Step n moves it by 1 - min(decay, (1 + n) / (10 + n)): the first steps weigh more.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], step: Tensor) -> None:
        weight = 1 - min(decay, (1 + int(step)) / (10 + int(step)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    average = AveragedModel(networks, multi_avg_fn=update, use_buffers=True)
    average.n_averaged.fill_(1)  # at 0, torch would forget the initial weights
    return average.requires_grad_(False).eval()


class Run:
    """A training run in a folder: resumes there, trains, validates, and keeps its record.

    Of several processes, the first writes the record.

    Args:
        task: the problem.
        folder: where checkpoints, history and TensorBoard events live.
        device: where to train.
        minutes: stop (with a checkpoint) after this long; None trains to the end.
        quiet: no progress bar.
        log_every: steps whose means make a line of the history.

    Raises:
        TrainingError: the folder holds another run, or damaged checkpoints only.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        device: torch.device,
        minutes: float | None = None,
        quiet: bool = False,
        log_every: int = 100,
    ):
        self.task, self.folder, self.device = task, Path(folder), device
        self.log_every = log_every
        self.minutes, self.processes = minutes, task.processes
        self.quiet = quiet or not self.processes.first
        self.networks = task.networks.to(device)
        self.optimizer = torch.optim.AdamW(
            task.parameter_groups(),
            weight_decay=task.config.weight_decay,
            betas=(0.9, 0.98),
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.average = averaged_copy(self.networks, task.config.ema_decay)
        self.record: Record | None = None
        self.index, self.samples, self.seconds = 0, 0, 0.0
        found = newest_checkpoint(self.folder, device)
        if found is not None:
            self._restore(*found)

    def settings(self) -> dict:
        """What the result depends on beside the configuration."""
        return {
            "seed": self.task.config.seed,
            "effective_batch": self.task.effective_batch,
            "processes": self.processes.count,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }

    def _restore(self, path: Path, state: dict) -> None:
        if state.get("task") != self.task.name or state["seed"] != self.task.config.seed:
            raise TrainingError(
                f"{path}: belongs to another run (task {state.get('task')!r}, seed "
                f"{state['seed']}). Choose another folder with --run."
            )
        batch = self.task.effective_batch
        if state.get("effective_batch", batch) != batch:
            raise TrainingError(
                f"{path}: was trained in batches of {state['effective_batch']}, not {batch}. "
                "Choose another folder with --run."
            )
        try:
            self.networks.load_state_dict(state["networks"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainingError(
                f"{path}: does not fit this preset's networks. Choose another folder with --run."
            ) from error
        self.index, self.samples, self.seconds = state["index"], state["samples"], state["seconds"]

    def checkpoint(self) -> None:
        """Write the state between two batches."""
        if not self.processes.first:
            return
        write_checkpoint(
            self.folder,
            {
                "task": self.task.name,
                "config": json.dumps(asdict(self.task.config)),
                "networks": self.networks.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "index": self.index,
                "samples": self.samples,
                "seconds": self.seconds,
                **self.settings(),
            },
        )

    @property
    def averaged(self) -> nn.ModuleDict:
        """The networks with their averaged weights, in eval mode."""
        return self.average.module

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Metrics of the averaged weights, appended to the record; of the first process only."""
        if self.record is None:
            return {}
        metrics = self.task.validate(self.averaged)
        named = {f"validation/{name}": value for name, value in metrics.items()}
        self.record.scalars(named, self.samples, self.seconds)
        self.record.pictures(self.task.pictures(self.averaged), self.samples)
        return metrics

    def train(self) -> dict[str, float]:
        """Train to the end of the task or of the time; returns the last validation's metrics.

        Raises:
            TrainingError: the loss or its gradient is not finite, or the folder cannot be written.
        """
        try:
            if not self.processes.first:
                return self._train()
            with sole_writer(self.folder):
                remove_partial(self.folder)
                self.record = Record(self.folder, self.samples, self.settings())
                return self._train()
        except OutputError as error:
            raise TrainingError(f"{error}; the last good checkpoint is kept") from None
        except OSError as error:
            raise TrainingError(
                f"{self.folder}: cannot be written ({error.strerror or error}); the last good "
                "checkpoint is kept. Free some space, then start the same command again."
            ) from error
        finally:
            if self.record is not None:
                self.record.close()

    def _train(self) -> dict[str, float]:
        config, task = self.task.config, self.task
        self.networks.train()
        every = config.validation_every
        began = saved = time.monotonic()
        before, window = self.seconds, Window(began)
        batches = iter(task.batches(self.index))
        with tqdm(
            total=task.total,
            initial=self.samples,
            unit="sample",
            desc=task.name,
            disable=self.quiet,
            mininterval=2.0,
        ) as bar:
            while self.samples < task.total:
                mark = self.samples // every if every else 0
                waiting, waited = self._clock(), task.waited
                batch = next(batches)
                window.waited += self._clock() - waiting
                for terms in task.losses(batch):
                    self._step(terms["loss"], batch)
                    self.samples += task.effective_batch
                    bar.update(task.effective_batch)
                    window.add(terms, task.effective_batch)
                window.waited += task.waited - waited
                self.index += 1
                now = time.monotonic()
                self.seconds = before + now - began
                if window.steps >= self.log_every:
                    bar.set_postfix(loss=f"{self._log(window):.4f}")
                    window = Window(now)
                if every and self.samples // every > mark:
                    self.validate()
                late = self.minutes is not None and self.processes.decision(
                    now - began > 60 * self.minutes, self.device
                )
                if now - saved > config.checkpoint_every or late:
                    self.checkpoint()
                    saved = time.monotonic()
                if late:
                    break
        if window.steps:
            self._log(window)
        self.checkpoint()
        return self.validate()

    def _clock(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.monotonic()

    def _step(self, loss: Tensor, batch) -> None:
        if not torch.isfinite(loss):
            raise TrainingError(self._not_finite(f"loss became {loss.item()}", batch))
        config = self.task.config
        factor = learning_rate_factor(
            self.samples / self.task.total, config.warmup, config.cooldown
        )
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
        if not torch.isfinite(norm):  # before it reaches weights and checkpoint
            raise TrainingError(self._not_finite(f"gradient's norm became {norm.item()}", batch))
        self.optimizer.step()
        self.average.update_parameters(self.networks)

    def _not_finite(self, what: str, batch) -> str:
        """The message when numbers blow up: where, in which images, and what to do."""
        where = f"after {self.samples} samples, in batch {self.index} of seed"
        where += f" {self.task.config.seed}"
        if self.processes.count > 1:
            where += f", process {self.processes.rank} of {self.processes.count}"
        rows = sorted(_not_finite_rows(batch))
        if rows:
            cause = f"Its samples {rows} hold NaN or infinity: a fault of the data"
        else:
            cause = "Its data are finite: the weights have diverged; use a lower learning rate"
        return f"the {what} {where}. {cause}. The last checkpoint in {self.folder} is intact."

    def _log(self, window: Window) -> float:
        values = {
            f"train/{key}": self.processes.mean(torch.stack(value).mean()).item()
            for key, value in window.terms.items()
        }
        seconds = time.monotonic() - window.began
        values["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        values["train/samples_per_second"] = window.samples / seconds
        values["train/waiting_share"] = window.waited / seconds
        if self.record is not None:
            self.record.scalars(values, self.samples, self.seconds)
        return values["train/loss"]


def _not_finite_rows(batch) -> set[int]:
    """Indices along the first axis of the (nested) tensors of a batch where they are not finite."""
    if isinstance(batch, Tensor):
        if not batch.is_floating_point() or not batch.ndim:
            return set()
        finite = torch.isfinite(batch.detach()).reshape(len(batch), -1).all(1)
        return set((~finite).nonzero().flatten().tolist())
    if isinstance(batch, list | tuple):
        return set().union(*map(_not_finite_rows, batch)) if batch else set()
    return set()
