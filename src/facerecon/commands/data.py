"""The commands `facerecon data`: report, write and verify. Imports wait for the one that runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon.commands.options import natural, positive
from facerecon.commands.outcome import UsageError

if TYPE_CHECKING:
    from facerecon.synthetic.world import SyntheticWorld


def add_commands(parser: argparse.ArgumentParser, epilog: str) -> None:
    """The actions of `facerecon data`; each sets `command` to its function."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    report = actions.add_parser(
        "report",
        help="compare synthetic photographs with a folder of real ones",
        description=(
            "Compare synthetic photographs with a folder of real ones. The output folder gets"
            " report.md and report.json (grey levels, gradients, noise, spectra and light, each"
            " with a two-sample test, and a classifier on all of them), sample sheets of both,"
            " histograms of the six worst statistics and power spectra."
        ),
        epilog=epilog,
    )
    report.add_argument(
        "--photos", type=Path, required=True, metavar="DIR", help="real photographs of faces"
    )
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    report.add_argument(
        "--count", type=positive, default=512, help="synthetic photographs (default: 512)"
    )
    report.add_argument(
        "--limit",
        type=positive,
        default=300,
        help="photographs at most, a random choice (default: 300)",
    )
    report.add_argument(
        "--coarse",
        type=Path,
        metavar="FILE",
        help="CoarseNet weights that find the photographs' poses (default: those that ship)",
    )
    _add_world(report)
    report.set_defaults(command=_report)

    write = actions.add_parser(
        "write",
        help="write a fixed set of synthetic faces",
        description=(
            "Write a fixed set of synthetic faces for `facerecon train coarse --data DIR`. The same"
            " options give the same bytes; a call that was interrupted is finished by giving it"
            " again, and damaged shards are written again."
        ),
        epilog=epilog,
    )
    write.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    write.add_argument("--count", type=positive, required=True, help="faces")
    write.add_argument(
        "--shards", type=positive, required=True, help="files; one is held in memory at a time"
    )
    _add_world(write)
    write.add_argument("--size", type=positive, help="pixels of the crops (default: the preset's)")
    write.set_defaults(command=_write)

    verify = actions.add_parser(
        "verify",
        help="check the shards of a data set",
        description="Check that every shard of a data set is there and has its checksum.",
        epilog=epilog,
    )
    verify.add_argument("folder", type=Path, metavar="DIR", help="that `facerecon data write` made")
    verify.set_defaults(command=_verify)


def _add_world(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=natural, default=0, help="(default: 0)")
    parser.add_argument(
        "--preset", default="cpu", help="CoarseNet preset whose faces are rendered (default: cpu)"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="morphable model (default: the one that ships)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _world(args: argparse.Namespace, size: int | None = None) -> "SyntheticWorld":
    from dataclasses import replace

    from facerecon.morphable_model import MorphableModel
    from facerecon.synthetic.world import SyntheticWorld
    from facerecon.training.presets import COARSE_PRESETS

    if args.preset not in COARSE_PRESETS:
        known = ", ".join(COARSE_PRESETS)
        raise UsageError(f"--preset {args.preset}: unknown, choose from {known}")
    config = COARSE_PRESETS[args.preset].data
    if size is not None:
        config = replace(config, size=size)
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    return SyntheticWorld(model, config)


def _report(args: argparse.Namespace) -> int:
    from facerecon.realism.report import write_report

    found = write_report(
        args.out,
        args.photos,
        _world(args),
        args.count,
        args.limit,
        args.seed,
        args.coarse,
        args.quiet,
    )
    print(f"AUC {found.auc:.3f} (halves of the photographs: {found.null_auc:.3f}); most different:")
    for name, difference in list(found.differences.items())[:6]:
        print(f"  {name:<22} KS {difference.ks:.2f}, shift {difference.shift:+.2f}")
    print(f"wrote {args.out / 'report.md'}")
    return 0


def _write(args: argparse.Namespace) -> int:
    from facerecon.synthetic.shards import write_shards

    world = _world(args, args.size)
    write_shards(args.out, world, args.count, args.shards, args.seed, args.quiet)
    print(f"{args.out}: {args.count} faces in {args.shards} shards, complete")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from facerecon.synthetic.shards import DatasetError, verify_shards

    faults = verify_shards(args.folder)
    if faults:
        raise DatasetError(
            "; ".join(faults) + "; give the same `facerecon data write` again to mend that"
        )
    print(f"{args.folder}: every shard is there and has its checksum")
    return 0
