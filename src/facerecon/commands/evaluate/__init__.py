"""The command `facerecon evaluate`: its kinds, a module each. Heavy imports wait for the run."""

import argparse
from pathlib import Path

from facerecon.commands.evaluate.scans import add_scans
from facerecon.commands.options import natural, positive
from facerecon.commands.outcome import EXIT_CODES


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """The command, its kinds and their options."""
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
            " the mean face as a baseline. --out gets heads.json (mean errors; every picture's with"
            " --rows) and heads.png (photograph, true and predicted normals, depth error; best to"
            " worst)."
        ),
        epilog=EXIT_CODES,
    )
    heads.add_argument(
        "--heads",
        default="ict",
        metavar="FILE",
        help="heads packed as .npz, or a morphable model in facerecon's format (default: ict, which"
        " is ICT-FaceKit's heads, which ship)",
    )
    heads.add_argument(
        "--profiles",
        type=natural,
        default=50,
        help="further pictures with a yaw of 60 to 90 degrees (default: 50)",
    )
    heads.add_argument(
        "--per-kind",
        type=natural,
        default=0,
        metavar="N",
        help="also N pictures of each kind of head: bald, cut out, before even backdrops; slopes of"
        " estimated over true yaw and pitch, and kinds.png (default: 0)",
    )
    heads.add_argument(
        "--expressions",
        type=natural,
        default=0,
        metavar="N",
        help="also N pictures of each of seven strong expressions: how far mouth and lids are open,"
        " true and estimated, and expressions.png (default: 0)",
    )
    heads.add_argument(
        "--textures",
        type=Path,
        metavar="FILE",
        help="texture bank that data_scripts/make_texture_bank.py made: adds the kind of heads that"
        " wear photographed skin",
    )
    heads.add_argument(
        "--boxes",
        choices=("truth", "detector"),
        default="truth",
        help="crop by the true box, disturbed as a detector's is, or by the detector and the fit"
        " (default: truth)",
    )
    heads.add_argument(
        "--rows",
        action="store_true",
        help="write the pose and the errors of every picture, too (a megabyte)",
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
    _add_detail(kinds)
    light = kinds.add_parser(
        "light",
        parents=[_of_evaluations(100)],
        help="recovered light and shading on faces under a known light",
        description=(
            "Angle of the recovered light and relative error of the recovered shading, Eqs. (11)"
            " and (12), in a Lambertian world and in the full one, first and second order, and"
            " where the ambiguity matters most: flat light, dark skin, beards. Eq. (11) is given"
            " each face's own albedo, the average of the world's people, or the model's. --out gets"
            " light.json, light.png and albedo.png (average and components, and how much of each"
            " looks like light)."
        ),
        epilog=EXIT_CODES,
    )
    light.add_argument(
        "--yale",
        type=Path,
        metavar="DIR",
        help="CroppedYale: adds real people, by how much the light is off their lamps",
    )
    _add_people(kinds)
    _add_yale(kinds)
    parser.set_defaults(command=_evaluate)
    add_scans(kinds, EXIT_CODES)


def _of_evaluations(count: int) -> argparse.ArgumentParser:
    """The options of all kinds; each has its own, for a parent's options are shared objects."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--coarse", type=Path, metavar="FILE", help="other CoarseNet weights")
    shared.add_argument(
        "--model", type=Path, metavar="FILE", help="morphable model that they were trained with"
    )
    shared.add_argument(
        "--count", type=positive, default=count, help=f"pictures (default: {count})"
    )
    shared.add_argument("--iterations", type=positive, default=4, help="of CoarseNet (default: 4)")
    shared.add_argument("--seed", type=natural, default=0, help="of the pictures (default: 0)")
    shared.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    shared.add_argument("--threads", type=positive, help="CPU threads")
    shared.add_argument("--out", type=Path, metavar="DIR", help="folder of the results as files")
    return shared


def _add_detail(kinds: argparse._SubParsersAction) -> None:
    parser = kinds.add_parser(
        "detail",
        parents=[_of_evaluations(16)],
        help="FineNet on wrinkled faces with a known surface",
        description=(
            "Depth error (mm), normal error (degrees) and correlation of the high-pass depth with"
            " the truth, on synthetic faces (and on other --heads) with displacement wrinkles, for"
            " the coarse surface, FineNet, the per-image minimum of Eq. (14) (sfs), NormalNet"
            " without and with shading, and other FineNets. Two coarse surfaces: the true one"
            " without wrinkles, and CoarseNet's. --out gets detail.json"
            " and a picture of each kind of face."
            " docs/evaluation.md defines the measures."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other FineNet weights")
    parser.add_argument("--normals", type=Path, metavar="FILE", help="other NormalNet weights")
    parser.add_argument(
        "--other",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="FineNet weights to measure beside it, named by their file; may be repeated",
    )
    parser.add_argument(
        "--heads", metavar="FILE", help="'ict' for ICT-FaceKit's heads, which ship, or a file"
    )
    parser.add_argument(
        "--sfs-steps",
        type=natural,
        default=150,
        metavar="N",
        help="of the per-image minimization; 0 leaves it out (default: 150)",
    )


def _add_people(kinds: argparse._SubParsersAction) -> None:
    """The kind `people`."""
    parser = kinds.add_parser(
        "people",
        parents=[_of_evaluations(200)],
        help="real people with two photographs each (London Set)",
        description=(
            "For each smiling photograph the neutral ones are ranked by the distance of the"
            " identity's shapes: rank-1, AUC, mean distance within a person and between two. Where"
            " the folder has points189.json, also how far eye corners, mouth corners, nose and jaw"
            " lie from the points that people set. --out gets people.json."
            " The photographs: Face Research Lab London Set, doi 10.6084/m9.figshare.5047666."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="001_neutral.jpg, 001_smiling.jpg, ..."
    )


def _add_yale(kinds: argparse._SubParsersAction) -> None:
    """The kind `yale`."""
    parser = kinds.add_parser(
        "yale",
        parents=[_of_evaluations(200)],
        help="real people with measured normals (Extended Yale B)",
        description=(
            "Photometric stereo gives the true normals of people that were photographed under 64"
            " lamps; each method sees one photograph. Rows: the coarse face, FineNet, NormalNet,"
            " NormalNet with shading. Columns: mean angle to the true normals (degrees),"
            " correlation of the relief finer than 5 mm, correlation and gain of what a method"
            " adds to the coarse relief. --out gets yale.json. The photographs (CroppedYale) are"
            " free for research: vision.ucsd.edu/extyaleb."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="CroppedYale: yaleB01, ...")
    parser.add_argument("--fine", type=Path, metavar="FILE", help="other FineNet weights")
    parser.add_argument("--normals", type=Path, metavar="FILE", help="other NormalNet weights")
    parser.add_argument(
        "--people", nargs="+", metavar="NAME", help="only these (default: all that are there)"
    )
    parser.add_argument(
        "--size", type=int, choices=(200, 400), default=200, help="of the crop (default: 200)"
    )


def _evaluate(args: argparse.Namespace) -> int:
    import torch

    from facerecon.backends.devices import find_device
    from facerecon.commands.evaluate import (
        detail,
        heads,
        light,
        people,
        photos,
        synthetic,
        yale,
    )
    from facerecon.commands.evaluate.results import write_results
    from facerecon.files import require_writable
    from facerecon.morphable_model import MorphableModel
    from facerecon.weights import load_coarsenet

    args.device = find_device(args.device)
    if args.out:
        require_writable(args.out)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    network = load_coarsenet(args.coarse).to(args.device)
    kinds = {
        "synthetic": synthetic,
        "heads": heads,
        "photos": photos,
        "detail": detail,
        "light": light,
        "people": people,
        "yale": yale,
    }
    results = kinds[args.on].evaluate(args, network, model.to(args.device))
    if args.out:
        write_results(args, results)
    return 0
