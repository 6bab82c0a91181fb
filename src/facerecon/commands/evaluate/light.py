"""The command `facerecon evaluate light`: recovered light and shading against known ones."""

import argparse
import warnings

import torch

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results
from facerecon.evaluation.lamps import lamp_means, lamp_rows, lamp_table, measured_slopes
from facerecon.evaluation.light import (
    WORLDS,
    albedo_panels,
    albedo_rows,
    albedo_table,
    average_skin,
    light_panels,
    light_rows,
    light_table,
    lit_faces,
    world_config,
)
from facerecon.evaluation.sheets import contact_sheet
from facerecon.evaluation.yale import YaleWarning, list_people, read_person
from facerecon.morphable_model import MorphableModel
from facerecon.pipeline import Reconstructor
from facerecon.synthetic.world import SyntheticWorld

_SHOWN = 6  # faces of each world in the sheet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print a table for each world, the albedos, and how near real people's light is found."""
    folders = list_people(args.yale) if args.yale else []
    rows, panels = [], []
    for name in WORLDS:
        faces = lit_faces(SyntheticWorld(model, world_config(name)), args.count, args.seed)
        found = light_rows(name, faces)
        rows += found
        print(light_table(found), flush=True)
        panels += light_panels(faces, _SHOWN)
    captions = [
        f"{name}: photo, light, true light, albedo, true albedo"
        for name in WORLDS
        for _ in range(len(panels) // len(WORLDS))
    ]
    average = average_skin(SyntheticWorld(model, world_config("lambertian")))
    averages = {"model's": None, "average": average, "even": torch.ones_like(average)}
    reconstructor = Reconstructor(model, network, None, args.iterations)
    albedo, lamps = albedo_rows(model, average), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", YaleWarning)
        for folder in folders:
            person = read_person(folder)
            lamps += lamp_rows([person], reconstructor, averages)
            albedo.append({"albedo": person.name, **measured_slopes(person)})
    for warning in caught:
        if issubclass(warning.category, YaleWarning):
            print(warning.message)
    people = lamp_means(lamps)
    print(f"\n{albedo_table(albedo)}")
    if people:
        print(f"\n{lamp_table(people)}")
    content = {"rows": rows, "albedo": albedo, "people": people}
    parts = [row for row in albedo if "component" in row["albedo"]]
    titles = ["rendered, model's"] + [
        f"{n}: -2, +2; {100 * row['share']:.0f} % like light" for n, row in enumerate(parts, 1)
    ]
    pictures = {
        "light.png": contact_sheet(panels, captions, columns=2),
        "albedo.png": contact_sheet(albedo_panels(model, average), titles),
    }
    return Results(content, pictures)
