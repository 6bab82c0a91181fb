"""Run what computes under several environments and say where it fails: the portability of numbers.

    python tools/portability.py            everything; much longer
    python tools/portability.py --short    some minutes, for continuous integration

Each row of the table is one process of its own: tests of numbers, or the chapters that train, with
other vector instructions, numbers of threads, and freed memory overwritten. Exit code 1 if one
fails.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
NUMERICAL = [
    "bfloat16", "camera", "coarse_training", "coarsenet", "depth", "detail",
    "detection_network", "displacements", "engine", "fine_training", "finenet", "illumination",
    "light_evaluation", "lighting", "losses", "mesh", "metrics", "morphable_model", "pipeline",
    "processes", "rasterize", "reconstruction", "recrop", "relighter", "render", "richardson2016",
    "sfs", "shipped_weights", "skin", "solid", "strided_convolutions", "synthetic", "training",
    "weights", "wrinkles",
]  # fmt: skip
"""Tests of numbers: tests/test_<name>.py."""

KERNELS = ["coarsenet", "illumination", "mesh", "rasterize", "render"]
"""Of these, tests of kernels that numba compiles."""

NETWORKS = ["coarse_training", "coarsenet", "finenet", "strided_convolutions"]
"""And tests of networks and their training."""

CHAPTERS = ["coarsenet", "finenet"]
"""Items of `facerecon reproduce` that train."""

DAMAGE = {"MALLOC_PERTURB_": "165"}  # glibc overwrites what is freed: stray reads and writes show


class Row(NamedTuple):
    """A name, what else is in the environment, and the arguments of Python."""

    name: str
    environment: dict[str, str]
    command: list[str]


def tests(names: list[str], *options: str) -> list[str]:
    """Arguments of Python that run tests."""
    files = [f"tests/test_{name}.py" for name in names]
    return ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *options, *files]


def rows(short: bool, folder: Path) -> list[Row]:
    """What to run; folder: for what it writes."""
    # Compiled anew, with checks: apart from the kernels in the package's own cache.
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder / "numba")}
    lowest = {"ATEN_CPU_CAPABILITY": "default"}
    two = {"OMP_NUM_THREADS": "2"}
    if short:
        return [
            Row("networks, no vector kernels", DAMAGE | lowest | two, tests(NETWORKS)),
            Row("kernels, bounds checked", checked, tests(KERNELS, "-m", "not slow")),
        ]
    capabilities = {
        "": {},
        ", avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
        ", no vector kernels": lowest,
    }
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        del capabilities[", avx2"]  # it is what the first row runs
    result = [
        Row(
            f"tests, {threads} thread{name}", DAMAGE | extra | {"OMP_NUM_THREADS": threads}, command
        )
        for threads in ("1", "2")
        for name, extra in capabilities.items()
        for command in [tests(NUMERICAL)]
    ]
    result.append(Row("kernels, bounds checked", checked, tests(KERNELS)))
    for threads in ("1", "2"):
        command = ["-m", "facerecon", "reproduce", *CHAPTERS, "--out", str(folder / threads)]
        environment = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
        result.append(Row(f"chapters 3 and 6, {threads} thread", DAMAGE | environment, command))
    return result


def run(row: Row) -> tuple[bool, str]:
    """Run a row; returns whether it went well, and the outcome in words."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, *row.command],
        cwd=ROOT,
        env=os.environ | row.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, flush=True)
    outcome = "passed"
    if done.returncode < 0:
        outcome = f"crashed: {signal.Signals(-done.returncode).name}"
    elif done.returncode:
        outcome = "FAILED"
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", done.stdout.strip()[-200:])
    said = f"{outcome} ({', '.join(counts)})" if counts else outcome
    return done.returncode == 0, f"{said}, {time.monotonic() - start:.0f} s"


def processor() -> str:
    """The processor's name, the vector instructions that torch uses, and is bfloat16 among them."""
    from facerecon.training.engine import computes_bfloat16

    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    found = re.search(r"model name\s*: (.*)", text)
    name = found[1].strip() if found else "unknown processor"
    native = "with" if computes_bfloat16(torch.device("cpu")) else "without"
    capability = torch.backends.cpu.get_cpu_capability()
    what = f"{name}, {os.cpu_count()} cores, {capability}, {native} bfloat16"
    return f"{what}; torch {torch.__version__}"


def main(arguments: list[str] | None = None) -> int:
    """Run all rows and print the table; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="what CI runs")
    args = parser.parse_args(arguments)
    print(processor(), flush=True)
    good, table = True, []
    with TemporaryDirectory() as folder:
        for row in rows(args.short, Path(folder)):
            well, outcome = run(row)
            good &= well
            setting = " ".join(f"{name}={value}" for name, value in row.environment.items())
            table.append(f"| {row.name} | {setting.replace(folder, '...')} | {outcome} |")
            print(table[-1], flush=True)
    print("\n| what | environment | outcome |\n|---|---|---|", *table, sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
