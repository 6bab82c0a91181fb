"""The command `facerecon evaluate scans`: Table 1. Heavy imports wait for the run."""

import argparse
import sys
import warnings
from pathlib import Path

from facerecon.commands.options import measure, natural, positive
from facerecon.commands.outcome import UsageError

LAYOUTS = ("frgc", "bosphorus")
METHODS = "ours,ours (finenet),ours (coarse),mean face"


def add_scans(kinds: argparse._SubParsersAction, epilog: str) -> None:
    """The kind `scans` of `facerecon evaluate`."""
    parser = kinds.add_parser(
        "scans",
        help="methods compared on scanned faces: Table 1",
        description=(
            "Depth errors of several methods on the pixels that all of them and the scan hold"
            " valid. DIR is FRGC v2, Bosphorus, or what `facerecon bench write` made. --out gets"
            " table.json, table.csv, scan_list.csv and what a second run need not compute again."
            " docs/evaluation.md describes the protocol."
        ),
        epilog=epilog,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the scans")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="frgc", help="kind of the scans (default: frgc)"
    )
    parser.add_argument(
        "--methods",
        default=METHODS,
        metavar="LIST",
        help="separated by commas; a name or module:callable; the others are compared with the"
        f" first (default: {METHODS})",
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="only the scans of this CSV")
    parser.add_argument("--jobs", type=positive, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--scheduler", metavar="ADDR", help="dask scheduler, such as tcp://host:8786"
    )
    parser.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other FineNet weights")
    parser.add_argument("--normals", type=Path, metavar="FILE", help="other NormalNet weights")
    parser.add_argument("--size", type=int, choices=(200, 400), default=200, help="of the crop")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--translation",
        choices=("median", "mean", "none"),
        default="median",
        help="what is made zero along z (default: median)",
    )
    protocol.add_argument(
        "--scale",
        choices=("none", "size", "fit"),
        default="none",
        help="of the relief: none; size, the true width of a pixel over the assumed one; fit, least"
        " squares (default: none)",
    )
    protocol.add_argument("--rigid", action="store_true", help="align by ICP first")
    protocol.add_argument("--crop", type=measure, metavar="MM", help="only this near to the nose")
    protocol.add_argument(
        "--register",
        action="store_true",
        help="move photographs that do not lie on their geometry",
    )
    protocol.add_argument("--seed", type=natural, default=0, help="of the bootstrap (default: 0)")
    parser.set_defaults(command=_evaluate_scans)


def _evaluate_scans(args: argparse.Namespace) -> int:
    from facerecon.backends.devices import find_device
    from facerecon.methods.registry import MethodSettings, check_methods
    from facerecon.scans.protocol import ProtocolConfig
    from facerecon.scans.run import evaluate_scans
    from facerecon.scans.scan import SkippedScanWarning

    find_device(args.device)
    methods = [name.strip() for name in args.methods.split(",")]
    try:
        check_methods(methods)
    except ValueError as error:
        raise UsageError(f"--methods: {error}") from None
    settings = MethodSettings(
        str(args.coarse) if args.coarse else None,
        str(args.fine) if args.fine else None,
        args.size,
        args.device,
        str(args.normals) if args.normals else None,
    )
    config = ProtocolConfig(
        translation=args.translation,
        scale=args.scale,
        rigid=args.rigid,
        crop_mm=args.crop,
        registration="correct" if args.register else "report",
        seed=args.seed,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SkippedScanWarning)
        result = evaluate_scans(
            args.folder,
            args.out,
            args.layout,
            methods,
            config,
            settings,
            args.list,
            args.jobs,
            args.scheduler,
            progress=sys.stderr.isatty(),
        )
    for warning in caught:
        print(f"facerecon: {warning.message}", file=sys.stderr)
    print(f"{'':<18}{'mean [mm]':>22}{'90 % [mm]':>24}{'behind the first':>24}")
    for row in result.rows:
        cells = "".join(
            f"{v.value:>10.2f} ({v.low:.2f} to {v.high:.2f})"
            for v in (row.mean, row.high, row.behind)
        )
        print(f"{row.method:<18}{cells}")
    scans = result.report["scans"]
    faults = "".join(f", {n} {kind}" for kind, n in scans["left_out"].items())
    print(f"{scans['used']} of {scans['found']} scans{faults}")
    for name, failed in result.report["failures"].items():
        if failed:
            print(f"{name}: failed on {len(failed)} scans")
    offset = result.report["offset_pixels"]
    print(
        f"photograph off its geometry by {offset['median']:.1f} pixels (median), at most"
        f" {offset['largest']:.1f}; moved: {offset['moved']}"
    )
    print(f"{args.out / 'table.json'}")
    return 0
