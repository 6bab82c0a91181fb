"""Samples a second of CoarseNet's training on this machine, by processes and threads.

    python benchmarks/processes.py [--out benchmarks/results/processes.json]

Trains the preset `cpu` from random weights for a few steps, images drawn as it goes by one worker
beside each process. For a machine with two processor cores; nothing else should run.
"""

import argparse
import json
import multiprocessing
import os
import socket
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numba
import torch
from timing import finish, machine

from facerecon.morphable_model import MorphableModel
from facerecon.training import plan
from facerecon.training.coarse import CoarseTask
from facerecon.training.presets import COARSE_PRESETS
from facerecon.training.processes import joined

CPU = torch.device("cpu")
WAYS = {
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes, one thread each": (2, 1),
}


def work(rank: int, count: int, threads: int, batches: int, port: int, answer: Connection) -> None:
    """One of the processes; the first one answers."""
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(count)
    with joined(CPU) as (processes, device):
        config = replace(COARSE_PRESETS["cpu"], validation_faces=1)
        task = CoarseTask(MorphableModel.default(), config, device, processes=processes)
        plan.MEASURED_BATCHES = batches
        cost = plan.measure(task, device)
    if rank == 0:
        answer.send((cost["samples_per_second"], cost["samples"]))


def speed(count: int, threads: int, batches: int) -> tuple[float, float]:
    """Samples a second of so many processes with so many threads each, and how many samples."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    arguments = [(rank, count, threads, batches, port, sender) for rank in range(count)]
    children = [context.Process(target=work, args=each) for each in arguments]
    for child in children:
        child.start()
    result = receiver.recv()
    for child in children:
        child.join()
    return result


def main() -> None:
    """Measure each way, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=4, help="measured, of 256 samples")
    parser.add_argument("--way", choices=WAYS, help="only this one; joins what --out holds")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    speeds = {}
    if args.way and args.out and args.out.exists():
        speeds = json.loads(args.out.read_text())["samples_per_second"]
    for name in [args.way] if args.way else WAYS:
        per_second, samples = speed(*WAYS[name], args.batches)
        speeds[name] = round(per_second, 1)
        print(name, speeds[name], flush=True)
    finish(
        {
            "settings": {"device": "cpu"},
            "machine": machine(),
            "samples": samples,
            "samples_per_second": {name: speeds[name] for name in WAYS if name in speeds},
        },
        args.out,
    )


if __name__ == "__main__":
    main()
