"""The command `facerecon evaluate yale`: normals of real people, measured under many lamps."""

import argparse
from pathlib import Path


def add_yale(
    kinds: argparse._SubParsersAction, shared: argparse.ArgumentParser, epilog: str
) -> None:
    """The kind `yale` of `facerecon evaluate`. Imports wait for the run."""
    parser = kinds.add_parser(
        "yale",
        parents=[shared],
        help="real people with measured normals (Extended Yale B)",
        description=(
            "Photometric stereo gives the true normals of people that were photographed under 64"
            " lamps; each method sees one photograph. Rows: the coarse face, FineNet, NormalNet,"
            " NormalNet with shading. Columns: mean angle to the true normals (degrees),"
            " correlation of the relief finer than 5 mm, correlation and gain of what a method"
            " adds to the coarse relief, and the angle of the estimated light (Eq. 11). --out"
            " gets yale.json. The photographs (CroppedYale) are free for research:"
            " vision.ucsd.edu/extyaleb."
        ),
        epilog=epilog,
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
    parser.set_defaults(on="yale", command=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    import json
    import warnings

    import torch

    from facerecon.commands.outcome import check_device
    from facerecon.evaluation.measured_normals import evaluate_people, means, table
    from facerecon.evaluation.yale import YaleError, YaleWarning, list_people, read_person
    from facerecon.evaluation.yale_methods import yale_methods
    from facerecon.files import write_file
    from facerecon.morphable_model import MorphableModel
    from facerecon.weights import load_coarsenet, load_finenet, load_normalnet

    check_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    folders = list_people(args.folder)
    if args.people:
        missing = sorted(set(args.people) - {folder.name for folder in folders})
        if missing:
            raise YaleError(f"{args.folder}: holds no folder {', '.join(missing)}")
        folders = [folder for folder in folders if folder.name in args.people]
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    networks = (
        load_coarsenet(args.coarse), load_finenet(args.fine), load_normalnet(args.normals)
    )  # fmt: skip
    networks = (network.to(args.device) for network in networks)
    methods = yale_methods(model.to(args.device), *networks, args.iterations, args.size)
    rows = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", YaleWarning)
        for folder in folders:
            rows += evaluate_people([read_person(folder)], methods)
    for warning in caught:
        if issubclass(warning.category, YaleWarning):
            print(warning.message)
    found = means(rows)
    print(table(found))
    if args.out:
        content = {"size": args.size, "means": found, "rows": rows}
        write_file(args.out / "yale.json", json.dumps(content, indent=1).encode())
    return 0
