"""Plan, speed and memory of a run, which `facerecon train` prints when given `--dry-run`."""

import sys
import time
from pathlib import Path

import torch

from facerecon.training.checkpoints import newest_checkpoint
from facerecon.training.engine import Task

MEASURED_BATCHES = 4  # after one that warms up


def describe(task: Task, folder: Path, device: torch.device, export: Path | None = None) -> str:
    """The plan of a run: network, data, schedule, files, and time and memory from a few steps.

    Trains the task's networks for those steps and writes nothing.
    """
    config, processes = task.config, task.processes
    found = newest_checkpoint(folder, device)
    samples = found[1]["samples"] if found else 0
    lines = [f"{task.name}: {task.total:,} samples on {device}, seed {config.seed}"]
    for name, network in task.networks.items():
        count = sum(p.numel() for p in network.parameters())
        lines.append(f"  network    {name}, {count:,} parameters, {network.config}")
    lines += [
        f"  data       {task.data_description}",
        f"  batch      {task.effective_batch} samples a step, shared by {processes.count} "
        f"process(es); {torch.get_num_threads()} thread(s) each",
        f"  schedule   learning rate {config.learning_rate:g}, rising over {config.warmup:.0%}, "
        f"falling over the last {config.cooldown:.0%} of the samples",
    ]
    every = config.validation_every
    lines.append(
        f"  validated  {f'every {every:,} samples and ' if every else ''}at the end; checkpoint "
        f"every {config.checkpoint_every} s"
    )
    place = f"goes on there after {samples:,} samples" if found else "a new run"
    lines.append(f"  writes     {folder} ({place})" + (f"; {export}" if export else ""))
    cost = measured_cost(task, device)
    left = max(0, task.total - samples) / cost["samples_per_second"]
    lines += [
        f"  speed      {cost['samples_per_second']:.1f} samples/s, measured on "
        f"{cost['samples']} samples: {cost['waiting']:.0%} of the time spent on images or waiting "
        "for maps",
        f"  time       {duration(left)}{' left' if found else ''}, without validation",
        f"  memory     {cost['megabytes']:,.0f} MB at most, of this process"
        + (", on the accelerator" if device.type != "cpu" else ""),
    ]
    return "\n".join(lines)


def measured_cost(task: Task, device: torch.device) -> dict[str, float]:
    """Samples a second over a few batches, the share of waiting, and the peak of memory."""
    task.networks.train()
    optimizer = torch.optim.AdamW(task.parameter_groups())
    batches = iter(task.batches(0))
    samples = waiting = 0.0
    for number in range(1 + MEASURED_BATCHES):
        if number == 1:
            began, samples, waiting, task.waited = _clock(device), 0, 0.0, 0.0
        start = _clock(device)
        batch = next(batches)
        waiting += _clock(device) - start
        for terms in task.losses(batch):
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            optimizer.step()
            samples += task.effective_batch
    seconds = _clock(device) - began
    return {
        "samples": samples,
        "samples_per_second": samples / seconds,
        "waiting": (waiting + task.waited) / seconds,
        "megabytes": _peak_memory(device) / 2**20,
    }


def duration(seconds: float) -> str:
    """Readable: 90 s, 45 min, 7.5 h or 3.1 days."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"


def _clock(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.monotonic()


def _peak_memory(device: torch.device) -> float:
    """Bytes: allocated on an accelerator, resident of this process on a CPU."""
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
