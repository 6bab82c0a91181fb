"""The command `facerecon`. Everything heavy is imported by the subcommand that needs it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facerecon import __version__
from facerecon.commands.detail_options import add_detail, add_light
from facerecon.commands.scans import add_bench, add_scans
from facerecon.converters import KINDS

if TYPE_CHECKING:
    from facerecon.pipeline import Reconstructor
    from facerecon.reconstruction import Reconstruction

MESH_FORMATS = ("ply", "obj", "stl", "glb")
SIZES = (200, 400)

OK, FAILED, USAGE = 0, 1, 2
EXIT_CODES = "exit codes: 0 all went well, 1 something failed, 2 wrong usage"


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
        return _fail("interrupted")
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        return _fail(error)


def _fail(error: object) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"facerecon: {text}", file=sys.stderr)
    return FAILED


def _parser(training: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facerecon",
        description="Detailed 3D face reconstruction from a single photograph.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"facerecon {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_reconstruct(commands)
    _add_train(commands, training)
    _add_data(commands)
    _add_evaluate(commands)
    add_bench(commands, EXIT_CODES)
    _add_reproduce(commands)
    _add_model(commands)
    info = commands.add_parser(
        "info",
        help="say which model, weights and backends are in use",
        description="Say which model, weights and backends are in use.",
        epilog=EXIT_CODES,
    )
    info.set_defaults(command=_info)
    return parser


def _add_reconstruct(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="turn photographs into meshes and depth maps",
        description=(
            "Turn photographs into meshes and depth maps. For PHOTO.jpg, the output folder gets"
            " PHOTO.ply (mesh in mm), PHOTO_depth.npy (mm on the photograph's grid, NaN outside"
            " the face), PHOTO_depth.png (16 bits; PHOTO_depth.json says how to read it) and"
            " PHOTO_preview.png. A photograph that fails does not stop the others."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="photographs, folders of them, or patterns such as 'holiday/*.jpg'",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="the face in pixels (brows to chin), instead of asking the detector",
    )
    parser.add_argument(
        "--size",
        type=int,
        choices=SIZES,
        default=200,
        help="pixels of the face crop that is refined; 400 keeps more of a sharp photograph"
        " (default: 200)",
    )
    parser.add_argument(
        "--formats",
        type=_formats,
        default=("ply",),
        metavar="LIST",
        help=f"mesh formats, separated by commas: {', '.join(MESH_FORMATS)} (default: ply)",
    )
    parser.add_argument(
        "--solid",
        type=float,
        metavar="MM",
        help="also write PHOTO_solid.stl for a 3D printer: closed, with a flat back, at least MM"
        " thick",
    )
    parser.add_argument("--all-faces", action="store_true", help="not only the largest face")
    parser.add_argument("--no-refine", action="store_true", help="coarse shape only")
    parser.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other FineNet weights")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.set_defaults(command=_reconstruct, usage_error=parser.error)


def _add_train(commands: argparse._SubParsersAction, training: bool) -> None:
    parser = commands.add_parser(
        "train",
        help="train CoarseNet, FineNet, or both end to end",
        description="Train CoarseNet, FineNet, or both end to end.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(command=_train)
    if training:  # only then, because it imports torch
        # Threads that wait for each other should sleep: training alternates between libraries.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from facerecon.commands.train import add_arguments

        add_arguments(parser)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure CoarseNet on synthetic faces, on other heads, on photographs",
        description="Measure CoarseNet where the truth is known, and where it is not.",
        epilog=EXIT_CODES,
    )
    kinds = parser.add_subparsers(title="on what", metavar="WHAT", dest="on", required=True)
    kinds.add_parser(
        "synthetic",
        parents=[_of_evaluations(200)],
        help="held-out faces of the training world",
        description="Errors on held-out faces of the training world, after every iteration.",
        epilog=EXIT_CODES,
    )
    heads = kinds.add_parser(
        "heads",
        parents=[_of_evaluations(200)],
        help="photographed heads of another model",
        description=(
            "Errors on photographed heads of a model that the network has not learned from, beside"
            " the mean face as a baseline. --out also gets heads.json (every picture's errors) and"
            " heads.png (photograph, true and predicted normals, depth error; best to worst)."
        ),
        epilog=EXIT_CODES,
    )
    heads.add_argument(
        "--heads",
        type=Path,
        required=True,
        metavar="FILE",
        help="ICT-FaceKit packed as .npz, or a morphable model in facerecon's format",
    )
    heads.add_argument(
        "--profiles",
        type=int,
        default=50,
        help="further pictures with a yaw of 60 to 90 degrees (default: 50)",
    )
    heads.add_argument(
        "--boxes",
        choices=("truth", "detector"),
        default="truth",
        help="crop by the true box, disturbed as a detector's is, or by the detector and the fit"
        " (default: truth)",
    )
    photos = kinds.add_parser(
        "photos",
        parents=[_of_evaluations(200)],
        help="photographs without a truth",
        description=(
            "On photographs nothing is known, but a good network settles (each step changes less),"
            " gives plausible faces, and the same face for the mirrored photograph. --out also gets"
            " photos.json (every photograph's values) and photos.png (overlays, worst first)."
        ),
        epilog=EXIT_CODES,
    )
    photos.add_argument("folder", type=Path, metavar="FOLDER", help="folder of photographs")
    add_detail(kinds, _of_evaluations(16), EXIT_CODES)
    add_light(kinds, _of_evaluations(100), EXIT_CODES)
    parser.set_defaults(command=_evaluate)
    add_scans(kinds, EXIT_CODES)


def _of_evaluations(count: int) -> argparse.ArgumentParser:
    """The options of all kinds; each has its own, for a parent's options are shared objects."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    shared.add_argument(
        "--model", type=Path, metavar="FILE", help="morphable model that they were trained with"
    )
    shared.add_argument("--count", type=int, default=count, help=f"pictures (default: {count})")
    shared.add_argument("--iterations", type=int, default=4, help="of CoarseNet (default: 4)")
    shared.add_argument("--seed", type=int, default=0, help="of the pictures (default: 0)")
    shared.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    shared.add_argument("--threads", type=int, help="CPU threads")
    shared.add_argument("--out", type=Path, metavar="DIR", help="folder of the results as files")
    return shared


def _add_data(commands: argparse._SubParsersAction) -> None:
    from facerecon.commands.data import add_commands

    parser = commands.add_parser(
        "data",
        help="compare synthetic photographs with real ones, or write a fixed set of them",
        description="Compare synthetic photographs with real ones, or write a fixed set of them.",
        epilog=EXIT_CODES,
    )
    add_commands(parser, EXIT_CODES)


def _add_reproduce(commands: argparse._SubParsersAction) -> None:
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
        "--jobs", type=int, default=1, help="notebooks at a time; they share the cores (default: 1)"
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
        help="compare the numbers with those of an earlier run; exit code 1 if one differs",
    )
    parser.set_defaults(command=_reproduce)


def _add_model(commands: argparse._SubParsersAction) -> None:
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


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(part.strip().lower().lstrip(".") for part in text.split(",")))
    unknown = [name for name in formats if name not in MESH_FORMATS]
    if unknown:
        known = ", ".join(MESH_FORMATS)
        raise argparse.ArgumentTypeError(
            f"unknown mesh format {unknown[0]!r} (choose from {known})"
        )
    return formats


def _reconstruct(args: argparse.Namespace) -> int:
    from facerecon.data import ImageError, list_images
    from facerecon.pipeline import Reconstructor
    from facerecon.solid import LEAST_THICKNESS_MM

    photos: list[Path] = []
    done = failures = 0
    for item in args.photos:
        try:
            photos += [path for path in list_images([item]) if path not in photos]
        except ImageError as error:
            failures += 1
            _fail(error)
    if args.box and (args.all_faces or len(photos) > 1):
        args.usage_error("--box goes with one photograph, and not with --all-faces")
    if args.solid is not None and not args.solid >= LEAST_THICKNESS_MM:
        args.usage_error(f"--solid: at least {LEAST_THICKNESS_MM} mm, got {args.solid:g}")
    if not photos:
        return FAILED
    _check_device(args.device)
    reconstructor = Reconstructor.from_pretrained(
        args.coarse, args.fine, device=args.device, size=args.size
    )
    for number, (path, stem) in enumerate(zip(photos, _stems(photos), strict=True), start=1):
        try:
            meshes = _reconstruct_one(reconstructor, path, stem, args)
        except (ValueError, OSError, MemoryError) as error:
            failures += 1
            message = str(error) or type(error).__name__
            _fail(message if str(path) in message else f"{path}: {message}")
        else:
            done += 1
            for mesh in meshes:
                print(f"[{number}/{len(photos)}] {path} -> {mesh}", flush=True)
    if failures and done + failures > 1:
        _fail(f"{failures} failed, {done} done")
    return FAILED if failures else OK


def _reconstruct_one(
    reconstructor: "Reconstructor", path: Path, stem: str, args: argparse.Namespace
) -> list[Path]:
    """Write all files of one photograph; returns the meshes (the first format's)."""
    refine = not args.no_refine
    if args.all_faces:
        faces = reconstructor(path, all_faces=True, refine=refine)
    else:
        box = tuple(args.box) if args.box else None
        faces = [reconstructor(path, box, refine=refine)]
    stems = [stem, *(f"{stem}_face{number}" for number in range(2, len(faces) + 1))]
    return [
        _write(face, args.out / name, args.formats, args.solid)
        for face, name in zip(faces, stems, strict=True)
    ]


def _write(
    face: "Reconstruction", stem: Path, formats: Sequence[str], solid_mm: float | None
) -> Path:
    from facerecon.reconstruction import write_file
    from facerecon.viz import figure_png, preview

    for name in formats:
        face.save(f"{stem}.{name}")
    if solid_mm is not None:
        face.save_solid(f"{stem}_solid.stl", solid_mm)
    face.save_depth(f"{stem}_depth.npy")
    face.save_depth(f"{stem}_depth.png")
    write_file(Path(f"{stem}_preview.png"), figure_png(preview(face)))
    return Path(f"{stem}.{formats[0]}")


def _stems(photos: Sequence[Path]) -> list[str]:
    """A name for each photograph's results; photographs of the same name get a number."""
    stems: list[str] = []
    for path in photos:
        stem, number = path.stem, 2
        while stem in stems:
            stem, number = f"{path.stem}-{number}", number + 1
        stems.append(stem)
    return stems


def _check_device(name: str) -> None:
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"--device {name}: not available here ({cause})") from None


def _train(args: argparse.Namespace) -> int:
    from facerecon.commands.train import main as train

    _check_device(args.device)
    return train(args)


def _evaluate(args: argparse.Namespace) -> int:
    from facerecon.commands.evaluate import main as evaluate

    _check_device(args.device)
    return evaluate(args)


def _reproduce(args: argparse.Namespace) -> int:
    from facerecon.repro import reproduce

    data = {name: getattr(args, name) for name in ("frgc", "bosphorus")}
    for name, folder in data.items():
        if folder is not None and not folder.is_dir():
            raise ValueError(f"--{name} {folder}: no such folder")
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


def _info(args: argparse.Namespace) -> int:
    from importlib.resources import files

    import torch

    from facerecon.backend import nvdiffrast_problem
    from facerecon.morphable_model import MorphableModel
    from facerecon.weights import WeightsError, read_card

    model = MorphableModel.default()
    print(f"facerecon        {__version__}")
    print(
        f"morphable model  {model.n_vertices} vertices, {model.n_identity} identity,"
        f" {model.n_expression} expression and {model.n_albedo} albedo coefficients"
    )
    code = OK
    for name in ("coarsenet", "finenet"):
        path = Path(str(files("facerecon") / "assets" / f"{name}.safetensors"))
        try:
            if not path.is_file():
                raise WeightsError(f"missing ({path})")
            card = read_card(path)
            text = f"{card['task']} training, preset {card['preset']}, {card['samples']:,} samples"
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
