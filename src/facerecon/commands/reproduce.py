"""The command `facerecon reproduce`. Imports wait for the run."""

import argparse
from pathlib import Path

from facerecon.commands.options import positive
from facerecon.commands.outcome import EXIT_CODES, UsageError


def add_reproduce(commands: argparse._SubParsersAction) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "reproduce",
        help="run the notebooks and compare with the paper's tables and figures",
        description=(
            "Run the notebooks and compare with the paper's tables and figures. An item that"
            " fails keeps its executed notebook with the error and does not stop the others."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "items",
        nargs="*",
        metavar="ITEM",
        help="what to run: table_01, fig_01 to fig_11, or a chapter such as end_to_end (default:"
        " all)",
    )
    parser.add_argument(
        "--preset", default="quick", help="quick: minutes on a CPU; full: hours (default: quick)"
    )
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a notebook's parameter; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("figures"),
        metavar="DIR",
        help="folder of the executed notebooks and their results (default: figures)",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        help="notebooks at a time; they share the cores (default: 1)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also run what is unchanged: same notebook, parameters, weights, code and packages",
    )
    for name, what in (("frgc", "FRGC v2"), ("bosphorus", "Bosphorus")):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="DIR",
            help=f"measure on {what}, for those of the items that can (table_01, ...)",
        )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="compare the numbers with those of an earlier run; exit code 1 if one differs by more"
        " than its tolerance",
    )
    parser.set_defaults(command=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from facerecon.repro import RequestError, reproduce

    names = [name for name, _ in args.parameter]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"parameter {twice[0]}: given {names.count(twice[0])} times")
    data = {name: getattr(args, name) for name in ("frgc", "bosphorus")}
    for name, folder in data.items():
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{name} {folder}: no such folder")
    try:
        return reproduce(
            args.items,
            args.preset,
            dict(args.parameter),
            args.out,
            args.jobs,
            args.force,
            {name: str(folder.resolve()) for name, folder in data.items() if folder is not None},
            args.against,
        )
    except RequestError as error:
        raise UsageError(error) from None
