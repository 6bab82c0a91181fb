"""The command `facerecon evaluate yale`: normals of real people, measured under many lamps."""

import argparse
import warnings

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results, refined_by
from facerecon.evaluation.measured_normals import evaluate_people, means, table
from facerecon.evaluation.yale import YaleError, YaleWarning, list_people, read_person
from facerecon.evaluation.yale_methods import yale_methods
from facerecon.morphable_model import MorphableModel
from facerecon.weights import load_finenet, load_normalnet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print a row per method; the JSON file gets the values of every photograph."""
    folders = list_people(args.folder)
    if args.people:
        missing = sorted(set(args.people) - {folder.name for folder in folders})
        if missing:
            raise YaleError(f"{args.folder}: holds no folder {', '.join(missing)}")
        folders = [folder for folder in folders if folder.name in args.people]
    fine, normals = load_finenet(args.fine), load_normalnet(args.normals)
    networks = network, fine.to(args.device), normals.to(args.device)
    methods = yale_methods(model, *networks, args.iterations, args.size)
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
    refined = refined_by(args.fine, args.normals)
    return Results({"refined_by": refined, "size": args.size, "means": found, "rows": rows}, {})
