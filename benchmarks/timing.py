"""Timing side by side: every candidate once per round, so that a busy minute slows all of them."""

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from facerecon.files import write_file
from facerecon.repro.record import processor
from facerecon.weights import commit, shipped


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, batch: int = 1
) -> dict[str, dict[str, float]]:
    """Milliseconds per image of each step, after one run of each to compile and warm up.

    cpu_ms is the processor's time in all threads: what a busy machine hardly changes.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter(), time.process_time()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            end = time.perf_counter(), time.process_time()
            if number:
                wall, cpu = (1e3 * (b - a) / batch for a, b in zip(start, end, strict=True))
                times[name].append((wall, cpu))
    report = {}
    for name, pairs in times.items():
        wall, cpu = zip(*pairs, strict=True)
        report[name] = {
            "median_ms": round(statistics.median(wall), 4),
            "fastest_ms": round(min(wall), 4),
            "cpu_ms": round(statistics.median(cpu), 4),
            "images_per_second": round(1e3 / statistics.median(wall), 1),
        }
    return report


@contextmanager
def threads(number: int):
    """Run with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes: the best of ten."""
    megabytes = 256 if device.type == "cpu" else 4096
    source = torch.zeros(megabytes << 18, device=device)
    target = torch.empty_like(source)
    times = interleaved({"copy": lambda: target.copy_(source)}, 10)["copy"]
    return 2 * source.numel() * 4 / (times["fastest_ms"] / 1e3)


def flops(device: torch.device) -> float:
    """Floating point operations a second of a float32 matrix product: the best of ten."""
    n = 1024 if device.type == "cpu" else 8192
    a = torch.rand(n, n, device=device)
    times = interleaved({"product": lambda: a @ a}, 10)["product"]
    return 2 * n**3 / (times["fastest_ms"] / 1e3)


def machine() -> dict[str, object]:
    """What the numbers depend on, and how busy the machine was."""
    report: dict[str, object] = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if torch.cuda.is_available():
        report["gpu"] = torch.cuda.get_device_name()
    return report


def made_with(**weights: Path | None) -> dict[str, object]:
    """The commit, and the hashes of weights by the network's name; None: those that ship."""
    files = {name: Path(path or shipped(f"{name}.safetensors")) for name, path in weights.items()}
    hashes = {n: hashlib.sha256(path.read_bytes()).hexdigest() for n, path in files.items()}
    found = {name: {"file": files[name].name, "sha256": digest} for name, digest in hashes.items()}
    return {"commit": commit(), "weights": found}


def finish(report: dict[str, object], out: Path | None) -> None:
    """Print a report as JSON, and write it to `out` if given."""
    text = json.dumps(report, indent=1)
    print(text)
    if out is not None:
        write_file(out, f"{text}\n".encode())
