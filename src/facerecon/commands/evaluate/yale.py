"""The command `facerecon evaluate yale`: normals of real people, measured under many lamps."""

import argparse
import warnings

import numpy as np
import torch

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results, refined_by
from facerecon.evaluation.light import average_skin
from facerecon.evaluation.measured_normals import evaluate_people, means, table
from facerecon.evaluation.yale import YaleError, YaleWarning, list_people, read_person
from facerecon.evaluation.yale_methods import lamp_means, lamp_rows, measured_slopes, yale_methods
from facerecon.morphable_model import MorphableModel
from facerecon.pipeline import Reconstructor
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import load_finenet, load_normalnet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print what is off, by method and average albedo; the JSON file gets every photograph's."""
    folders = list_people(args.folder)
    if args.people:
        missing = sorted(set(args.people) - {folder.name for folder in folders})
        if missing:
            raise YaleError(f"{args.folder}: holds no folder {', '.join(missing)}")
        folders = [folder for folder in folders if folder.name in args.people]
    fine, normals = load_finenet(args.fine), load_normalnet(args.normals)
    networks = network, fine.to(args.device), normals.to(args.device)
    methods = yale_methods(model, *networks, args.iterations, args.size)
    coarse = Reconstructor(model, network, None, args.iterations, args.size)
    average = average_skin(SyntheticWorld(model))
    averages = {"model's": None, "average": average, "even": torch.ones_like(average)}
    rows, lamps, albedo = [], [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", YaleWarning)
        for folder in folders:
            person = read_person(folder)
            rows += evaluate_people([person], methods)
            lamps += lamp_rows([person], coarse, averages)
            albedo.append({"person": person.name, **measured_slopes(person)})
    for warning in caught:
        if issubclass(warning.category, YaleWarning):
            print(warning.message)
    found, light = means(rows), lamp_means(lamps)
    print(table(found))
    for row in light:
        print(
            f"light, {row['albedo']} albedo: {row['mean']:.1f} degrees off the lamp on average,"
            f" median {row['median']:.1f}"
        )
    names = ("right", "up", "toward", "share")
    values = {name: [row[name] for row in albedo] for name in names}
    slopes = {n: {"mean": float(np.mean(v)), "std": float(np.std(v))} for n, v in values.items()}
    content = {
        "refined_by": refined_by(args.fine, args.normals),
        "size": args.size,
        "means": found,
        "light": light,
        "albedo": slopes,
        "rows": rows,
        "lamps": lamps,
        "measured_albedo": albedo,
    }
    return Results(content, {})
