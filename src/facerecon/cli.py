"""The command `facerecon`. Everything heavy is imported by the subcommand that needs it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from facerecon import __version__
from facerecon.commands.bench import add_bench
from facerecon.commands.demo import add_demo
from facerecon.commands.evaluate import add_evaluate
from facerecon.commands.export import add_export
from facerecon.commands.model import add_model
from facerecon.commands.outcome import EXIT_CODES, FAILED, OK, fail
from facerecon.commands.reconstruct import add_reconstruct
from facerecon.commands.reproduce import add_reproduce
from facerecon.commands.video import add_video
from facerecon.commands.view import add_view


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: arguments without the program's name; those of the process if None.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(training="train" in argv).parse_args(argv)
    try:
        return args.command(args)
    except KeyboardInterrupt:
        return fail("interrupted")
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        return fail(error)


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names: `--over` must not mean `--overwrite`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})


def _parser(training: bool) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="facerecon",
        description="Detailed 3D face reconstruction from a single photograph.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"facerecon {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_reconstruct(commands)
    add_view(commands)
    add_video(commands)
    add_demo(commands)
    _add_train(commands, training)
    _add_data(commands)
    add_evaluate(commands)
    add_bench(commands, EXIT_CODES)
    add_reproduce(commands)
    add_model(commands)
    add_export(commands)
    info = commands.add_parser(
        "info",
        help="say which model, weights and backends are in use",
        description="Say which model, weights and backends are in use.",
        epilog=EXIT_CODES,
    )
    info.set_defaults(command=_info)
    return parser


def _add_train(commands: argparse._SubParsersAction, training: bool) -> None:
    parser = commands.add_parser(
        "train",
        help="train CoarseNet, FineNet, or both end to end",
        description="Train CoarseNet, FineNet, or both end to end.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(command=_train)
    if training:  # only then, because it imports torch
        from facerecon.commands.train import add_arguments

        add_arguments(parser)


def _add_data(commands: argparse._SubParsersAction) -> None:
    from facerecon.commands.data import add_commands

    parser = commands.add_parser(
        "data",
        help="compare synthetic photographs with real ones, or write a fixed set of them",
        description="Compare synthetic photographs with real ones, or write a fixed set of them.",
        epilog=EXIT_CODES,
    )
    add_commands(parser, EXIT_CODES)


def _train(args: argparse.Namespace) -> int:
    from facerecon.commands.train import main as train

    return train(args)


def _info(args: argparse.Namespace) -> int:
    from importlib.resources import files

    import torch

    from facerecon.backends.choose import nvdiffrast_problem
    from facerecon.morphable_model import MorphableModel
    from facerecon.weights import WeightsError, read_card

    model = MorphableModel.default()
    print(f"facerecon        {__version__}")
    print(
        f"morphable model  {model.n_vertices} vertices, {model.n_identity} identity,"
        f" {model.n_expression} expression and {model.n_albedo} albedo coefficients"
    )
    code = OK
    for name in ("coarsenet", "finenet", "normalnet", "detector", "alignednet"):
        path = Path(str(files("facerecon") / "assets" / f"{name}.safetensors"))
        try:
            if not path.is_file():
                raise WeightsError(f"missing ({path})")
            card = read_card(path)
            preset = f", preset {card['preset']}" if card["preset"] else ""
            text = f"{card['task']} training{preset}, {card['samples']:,} samples"
        except WeightsError as error:
            text, code = str(error), FAILED
        print(f"{name:<16} {text}")
    print(f"torch            {torch.__version__}, {torch.get_num_threads()} threads")
    accelerator = torch.accelerator.current_accelerator()
    print(f"accelerator      {accelerator or 'none: everything runs on the CPU'}")
    problem = nvdiffrast_problem()
    on_gpu = f"torch (nvdiffrast is {problem})" if problem else "nvdiffrast"
    print(f"rendering        on CPUs numba, on NVIDIA GPUs {on_gpu}")
    return code
