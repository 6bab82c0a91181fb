"""The command `facerecon evaluate light`: recovered light and shading against known ones."""

import argparse

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results
from facerecon.evaluation.light import (
    WORLDS,
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
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld

_SHOWN = 6  # faces of each world in the sheet


def evaluate(args: argparse.Namespace, _network: CoarseNet, model: MorphableModel) -> Results:
    """Print a table for each world."""
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
    albedo = albedo_rows(model, average_skin(SyntheticWorld(model, world_config("lambertian"))))
    print(f"\n{albedo_table(albedo)}")
    content = {"rows": rows, "albedo": albedo}
    return Results(content, {"light.png": contact_sheet(panels, captions, columns=2)})
