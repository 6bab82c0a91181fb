"""The commands `facerecon evaluate detail` and `facerecon evaluate light`, behind their options."""

import argparse

import torch
from PIL import Image

from facerecon.evaluation.detail import COARSE_SIZE, HIGH_PASS, STARTS, halved, synthetic_faces
from facerecon.evaluation.detail_heads import head_faces
from facerecon.evaluation.detail_report import STRENGTH, measure, table
from facerecon.evaluation.fit_sheets import contact_sheet
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.views import Heads
from facerecon.evaluation.light import (
    WORLDS,
    light_panels,
    light_rows,
    light_table,
    lit_faces,
    world_config,
)
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.detail import detail_config
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import FINE_PRESETS
from facerecon.weights import load_finenet

_SHOWN = 6  # faces of each world in the sheet of lights


def evaluate_detail(
    args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel
) -> tuple[dict, dict[str, Image.Image]]:
    """Measure as the arguments say; returns the content of detail.json, and sheets by file name."""
    networks = {"fine": load_finenet(args.fine).to(args.device)}
    for path in args.other:
        if path.stem in {"coarse", "sfs", *networks}:
            raise ValueError(f"--other {path}: another method has this name; rename the file")
        networks[path.stem] = load_finenet(path).to(args.device)
    large = 2 * COARSE_SIZE
    world = SyntheticWorld(model, detail_config(large, STRENGTH, bare=True))
    sets = {"synthetic": synthetic_faces(world, args.count, args.seed)}
    if args.heads:
        heads = Heads(load_heads(args.heads), model, size=large)
        sets["heads"] = head_faces(heads, args.count, args.seed, large, STRENGTH)
    settings = FINE_PRESETS["cpu"]
    rows, sheets = [], {}
    for name, most in sets.items():
        for faces in (halved(most), most):
            for start in STARTS:
                known = faces, start, network, model, networks, settings
                found, sheet = measure(*known, args.sfs_steps, args.iterations)
                size = faces.image.shape[-1]
                rows += [{"faces": name, "size": size, "start": start, **row} for row in found]
                print(f"{name}, {size} pixels, from the {start} surface", flush=True)
                sheets[f"detail_{name}_{size}_{start.split()[0].lower()}.png"] = sheet
    print(table(rows))
    about = {
        "high_pass_crop_widths": HIGH_PASS,
        "wrinkle_strength": STRENGTH,
        "sfs_steps": args.sfs_steps,
        "fine_weights": [str(args.fine or "shipped"), *map(str, args.other)],
        "rows": rows,
    }
    return about, sheets


def evaluate_light(
    args: argparse.Namespace, model: MorphableModel
) -> tuple[dict, dict[str, Image.Image]]:
    """Measure as the arguments say; returns the content of light.json and its sheet."""
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
    sheet = contact_sheet(panels, captions, columns=2)
    return {"rows": rows}, {"light.png": sheet}
