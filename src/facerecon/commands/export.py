"""The command `facerecon export`. Heavy imports wait for the run."""

import argparse
from pathlib import Path

from facerecon.commands.outcome import EXIT_CODES, OK, say

NETWORKS = ("coarsenet", "normalnet", "finenet", "detector")


def add_export(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "export",
        help="write the networks in a format of other runtimes",
        description="Write the networks in a format of other runtimes.",
        epilog=EXIT_CODES,
    )
    formats = parser.add_subparsers(title="formats", metavar="FORMAT", required=True)
    onnx = formats.add_parser(
        "onnx",
        help="ONNX files, for ONNX Runtime and others",
        description=(
            "Write coarsenet.onnx, normalnet.onnx, finenet.onnx and detector.onnx, each checked."
            " docs/onnx.md says what goes in and comes out."
        ),
        epilog=EXIT_CODES,
    )
    onnx.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    for name in NETWORKS:
        onnx.add_argument(f"--{name}", type=Path, metavar="FILE", help="other weights")
    onnx.add_argument("--overwrite", action="store_true", help="replace files that are there")
    onnx.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> int:
    from facerecon.files import OutputError, require_writable
    from facerecon.onnx_export import NETWORKS, OPSET, write_onnx

    require_writable(args.out)
    targets = {name: args.out / f"{name}.onnx" for name in NETWORKS}
    if not args.overwrite and (there := [path for path in targets.values() if path.exists()]):
        raise OutputError(f"{there[0]}: exists already; --overwrite replaces it")
    networks = {name: load(getattr(args, name)) for name, load in NETWORKS.items()}
    for name, network in networks.items():
        path = write_onnx(network, targets[name], args.overwrite)
        say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opset {OPSET}")
    return OK
