"""Samples a second of CoarseNet's training on this machine, by processes and threads.

    python benchmarks/processes.py [--out benchmarks/results/processes.json]

Trains the preset `cpu` from random weights for a few steps, rendering included, each in processes
of their own that torchrun starts. For a machine with two processor cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import finish, machine

WAYS = {
    "one process, one thread": (1, 1),
    "one process, two threads": (1, 2),
    "two processes, one thread each": (2, 1),
}


def speed(processes: int, threads: int) -> float:
    """Samples a second of the steps that `--dry-run` measures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "facerecon"]
        if processes > 1:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(processes), "-m", "facerecon"]
        command += ["train", "coarse", "--preset", "cpu", "--dry-run", "--run", folder]
        command += ["--threads", str(threads)]
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "NUMBA_NUM_THREADS": str(threads)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    (line,) = (line for line in done.stdout.splitlines() if line.strip().startswith("speed"))
    return float(line.split()[1])


def main() -> None:
    """Measure each way, and print or write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", choices=WAYS, help="only this one; joins what --out holds")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    speeds = {}
    if args.way and args.out and args.out.exists():
        speeds = json.loads(args.out.read_text())["samples_per_second"]
    for name, (processes, threads) in WAYS.items():
        if args.way in (None, name):
            speeds[name] = round(speed(processes, threads), 1)
    report = {
        "settings": {"device": "cpu"},
        "machine": machine(),
        "samples_per_second": {name: speeds[name] for name in WAYS if name in speeds},
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
