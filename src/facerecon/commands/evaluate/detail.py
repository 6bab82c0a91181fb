"""The command `facerecon evaluate detail`: FineNet on wrinkled faces with a known surface."""

import argparse

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results, refined_by
from facerecon.evaluation.detail import (
    COARSE_SIZE,
    HIGH_PASS,
    STARTS,
    ShapeFromShading,
    halved,
    synthetic_faces,
)
from facerecon.evaluation.detail_heads import head_faces
from facerecon.evaluation.detail_report import STRENGTH, Refiners, detail_table, measure_detail
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.views import Heads
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.shading_refinement import ShadingRefinement
from facerecon.synthetic.detail import detail_config
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import FINE_PRESETS
from facerecon.weights import load_finenet, load_normalnet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print the table; the JSON file gets the values of every face."""
    networks = {"fine": load_finenet(args.fine).to(args.device)}
    for path in args.other:
        if path.stem in {"coarse", "sfs", "normals", "normals+sfs", *networks}:
            raise ValueError(f"--other {path}: another method has this name; rename the file")
        networks[path.stem] = load_finenet(path).to(args.device)
    large = 2 * COARSE_SIZE
    world = SyntheticWorld(model, detail_config(large, STRENGTH, bare=True))
    sets = {"synthetic": synthetic_faces(world, args.count, args.seed)}
    if args.heads:
        heads = Heads(load_heads(args.heads), model, size=large)
        sets["heads"] = head_faces(heads, args.count, args.seed, large, STRENGTH)
    sfs = None
    if args.sfs_steps:
        energy = FINE_PRESETS["cpu"]
        sfs = ShapeFromShading(
            energy.detail_bounds, energy.criterion_weights, energy.light_order, args.sfs_steps
        )
    normalnet = load_normalnet(args.normals).to(args.device)
    shadings = {"normals": None, "normals+sfs": ShadingRefinement()}
    ours = {name: NormalRefinement(model, normalnet, each) for name, each in shadings.items()}
    refiners = Refiners(networks, sfs, ours)
    rows, sheets = [], {}
    for name, most in sets.items():
        for faces in (halved(most), most):
            for start in STARTS:
                coarsenet = network if start == "CoarseNet" else None
                found, sheet = measure_detail(faces, model, refiners, coarsenet, args.iterations)
                size = faces.image.shape[-1]
                rows += [{"faces": name, "size": size, "start": start, **row} for row in found]
                print(f"{name}, {size} pixels, from the {start} surface", flush=True)
                sheets[f"detail_{name}_{size}_{start.split()[0].lower()}.png"] = sheet
    print(detail_table(rows))
    about = {
        "high_pass_crop_widths": HIGH_PASS,
        "wrinkle_strength": STRENGTH,
        "sfs_steps": args.sfs_steps,
        "fine_weights": [str(args.fine or "shipped"), *map(str, args.other)],
        "normals_weights": str(args.normals or "shipped"),
        "refined_by": refined_by(args.fine, args.normals),
        "rows": rows,
    }
    return Results(about, sheets)
