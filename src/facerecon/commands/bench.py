"""The command `facerecon bench`. Heavy imports wait for the run."""

import argparse
import sys
from pathlib import Path

from facerecon.commands.options import natural, positive


def add_bench(commands: argparse._SubParsersAction, epilog: str) -> None:
    """The command `facerecon bench`."""
    parser = commands.add_parser(
        "bench",
        help="write a benchmark of scanned faces with known geometry",
        description="Write a benchmark of scanned faces with known geometry.",
        epilog=epilog,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    write = actions.add_parser(
        "write",
        help="make photographs and range images in FRGC's format",
        description=(
            "Make photographs and range images in FRGC's format; the same options give the same"
            " files. The faces are not those of the training world. truth/ keeps the geometry"
            " before the sensor's noise and holes."
        ),
        epilog=epilog,
    )
    write.add_argument("folder", type=Path, metavar="DIR", help="folder to write")
    write.add_argument("--subjects", type=positive, default=100, help="how many (default: 100)")
    write.add_argument("--seed", type=natural, default=0, help="default: 0")
    write.add_argument(
        "--heads",
        type=Path,
        metavar="FILE",
        help="population: 'ict' for ICT-FaceKit's heads, which ship, or a file of others (default:"
        " the morphable model that ships, its samples bent)",
    )
    write.add_argument(
        "--resume",
        action="store_true",
        help="keep what an unfinished or smaller one of the same seed and population holds",
    )
    write.add_argument("--jobs", type=positive, default=1, help="processes (default: 1)")
    write.set_defaults(command=_write_bench)


def _write_bench(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from facerecon.simulated_scans.subjects import write_bench

    names = write_bench(args.folder, args.subjects, args.seed, args.heads, args.resume, args.jobs)
    written = sum(
        1 for _ in tqdm(names, total=args.subjects, unit="scan", disable=not sys.stderr.isatty())
    )
    print(f"{args.folder}: {written} scans")
    return 0
