"""What facerecon-bench tells apart, by its population and by the protocol.

    python benchmarks/populations.py [--subjects 30] [--jobs 2] [--out FILE]

The default population is our morphable model, bent at random; the other is ICT-FaceKit's heads,
whose identities were learned from scans. The coarse face is compared with the mean face in the same
pose and with a landmark-fitted model, as in Table 1, with the true size, and after the best rigid
motion besides. `benchmarks/tables.py` writes the table of docs/evaluation.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timing import finish, machine, made_with

from facerecon.repro import cache_folder
from facerecon.scans.protocol import ProtocolConfig
from facerecon.scans.run import evaluate_scans
from facerecon.simulated_scans.cache import bench_folder, cached_bench

METHODS = ("ours (coarse)", "mean face", "zhu2015")
POPULATIONS = {"morphable model, bent": None, "ICT-FaceKit": "ict"}
PROTOCOLS = {
    "as in Table 1": {},
    "true size": {"scale": "size"},
    "true size, rigid": {"scale": "size", "rigid": True},
}


def measure(
    heads: str | None, subjects: int, jobs: int, methods: Sequence[str] = METHODS
) -> dict[str, dict]:
    """Mean errors in mm and how far methods are behind the first, by protocol and method."""
    cache = cache_folder()
    list(cached_bench(cache, subjects, 0, heads, jobs))
    folder = bench_folder(cache, 0, heads)
    found = {}
    for title, changes in PROTOCOLS.items():
        table = evaluate_scans(
            folder,
            cache / "populations" / folder.name,
            methods=methods,
            config=ProtocolConfig(**changes),
            jobs=jobs,
            limit=subjects,
        )
        found[title] = {
            row.method: {"mean_mm": row.mean.value, "behind_mm": list(row.behind)}
            for row in table.rows
        }
    return found


def main() -> None:
    """Read the arguments, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "populations.json"
    )
    args = parser.parse_args()
    report = {
        "machine": machine(),
        **made_with(coarsenet=None),
        "subjects": args.subjects,
        "seed": 0,
        "populations": {
            name: measure(heads, args.subjects, args.jobs) for name, heads in POPULATIONS.items()
        },
    }
    finish(report, args.out)


if __name__ == "__main__":
    main()
