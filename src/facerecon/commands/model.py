"""The commands `facerecon model convert` and `model info`. Imports wait for the run."""

import argparse
from pathlib import Path

from facerecon.commands.outcome import EXIT_CODES, OK
from facerecon.converters import KINDS


def add_model(commands: argparse._SubParsersAction) -> None:
    """The commands and their options."""
    parser = commands.add_parser(
        "model",
        help="convert another morphable model, or describe a model file",
        description="Convert another morphable model, or describe a model file.",
        epilog=EXIT_CODES,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    convert = actions.add_parser(
        "convert",
        help="turn BFM, FLAME, GNM Head or ICT-FaceKit into a model file",
        description=(
            "Turn the Basel Face Model (2009, 2017, 2019), FLAME (2020, 2023), GNM Head v3 or"
            " ICT-FaceKit into a model file. docs/models.md says where each is to be had."
        ),
        epilog=EXIT_CODES,
    )
    convert.add_argument("source", type=Path, metavar="SOURCE", help="the model's file or folder")
    convert.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    convert.add_argument("--kind", choices=KINDS, help="family of models (default: by the content)")
    convert.add_argument(
        "--fetch",
        action="store_true",
        help="first download ICT-FaceKit (about 390 MB, at a fixed commit, checked) into SOURCE",
    )
    convert.set_defaults(command=_convert, usage_error=convert.error)
    info = actions.add_parser(
        "info", help="describe a model file", description="Describe a model file."
    )
    info.add_argument("file", type=Path, metavar="FILE", help="in facerecon's format")
    info.set_defaults(command=_model_info)


def _convert(args: argparse.Namespace) -> int:
    from facerecon.converters import convert

    if args.fetch:
        from facerecon.converters.fetch import fetch_ict

        if args.kind not in (None, "ict"):
            args.usage_error("--fetch is for ICT-FaceKit alone; see docs/models.md for the others")
        fetch_ict(args.source)
        args.kind = "ict"
    print(convert(args.source, args.out, args.kind))
    return OK


def _model_info(args: argparse.Namespace) -> int:
    from facerecon.morphable_model import MorphableModel

    model = MorphableModel.load(args.file)
    print(
        f"{model.n_vertices} vertices, {model.n_identity} identity, {model.n_expression} expression"
        f" and {model.n_albedo} albedo coefficients"
    )
    for name, value in model.provenance.items():
        if isinstance(value, list):
            value = "; ".join(map(str, value))
        print(f"{name}: {value}")
    return OK
