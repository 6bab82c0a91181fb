"""The command `facerecon evaluate heads`: CoarseNet on photographed heads of another model."""

import argparse

import numpy as np
import torch
from jaxtyping import Float

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results, about_file, refined_by
from facerecon.detection.recrop import fit
from facerecon.evaluation.heads.expressions import (
    EXPRESSION_LEGEND,
    EXPRESSIONS,
    activation,
    evaluate_expressions,
    expressions_table,
)
from facerecon.evaluation.heads.kinds import (
    KIND_LEGEND,
    evaluate_kinds,
    kinds_figure,
    kinds_table,
)
from facerecon.evaluation.heads.models import heads_file, load_heads
from facerecon.evaluation.heads.table import (
    LEGEND,
    evaluate_views,
    heads_table,
    mean_errors,
    true_yaw,
)
from facerecon.evaluation.heads.views import Heads, detected
from facerecon.evaluation.sheets import expressions_sheet, heads_sheet
from facerecon.imaging import Crop
from facerecon.morphable_model import MorphableModel
from facerecon.shape_from_normals import ShapeFromNormals
from facerecon.synthetic.texture_bank import TextureBank
from facerecon.weights import load_normalnet


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print the table of errors; the JSON file gets its means, those of every picture if asked."""
    textures = TextureBank.load(args.textures, model) if args.textures else None
    heads = Heads(load_heads(args.heads), model, textures=textures)
    if args.expressions:
        for unit in EXPRESSIONS.values():  # before the minutes that the others take
            activation(heads, unit)

    def found(grey: np.ndarray, true: Crop) -> tuple[bool, Crop]:
        """As on a photograph: detected, then moved by the fit."""
        yes, square = detected(grey, true)
        return yes, fit(network, model, grey, square, args.iterations)[1] if yes else square

    boxes = found if args.boxes == "detector" else args.boxes
    views = heads.render(args.count, args.seed, args.profiles, boxes)
    shape = ShapeFromNormals.after(network, model, load_normalnet().to(args.device))
    results = evaluate_views(network, model, views, args.iterations, shape=shape)
    print(heads_table(results, views))
    if args.boxes == "detector":
        print(f"\nfaces found by the detector: {100 * views.found.float().mean():.0f} %")
    print(f"\n{LEGEND}")
    kinds = {}
    if args.per_kind:
        kinds = evaluate_kinds(network, model, heads, args.per_kind, args.seed, args.iterations)
        print(f"\n{kinds_table(kinds)}\n\n{KIND_LEGEND}")
    expressions = {}
    if args.expressions:
        known = network, model, heads, args.expressions, args.seed, args.iterations
        expressions = evaluate_expressions(*known)
        print(f"\n{expressions_table(expressions)}\n\n{EXPRESSION_LEGEND}")
    if not args.out:
        return Results({}, {})
    yaw = true_yaw(views)
    every = {
        "views": {
            "person": views.person.tolist(),
            "perspective": views.perspective.tolist(),
            "found": views.found.tolist(),
            "pose": views.pose.tolist(),
        },
        "rows": {
            name: {metric: values.tolist() for metric, values in row.items()}
            for name, row in results.items()
        },
    }
    content = {
        "heads": about_file(heads_file(args.heads)),
        "refined_by": {"normalnet": refined_by(None, None)["normalnet"]},
        "boxes": args.boxes,
        "within_45_degrees": {n: mean_errors(row, yaw.abs() <= 45) for n, row in results.items()},
        "kinds": {
            name: found.measures
            | {"true": _degrees(found.true), "estimated": _degrees(found.estimated)}
            for name, found in kinds.items()
        },
        "expressions": {
            name: {"true": found.true, "estimated": found.estimated, "depth": found.depth}
            for name, found in expressions.items()
        },
    }
    content |= every if args.rows else {}
    last = results[f"iteration {args.iterations}"]
    captions = [
        f"{last['depth'][i]:.1f} mm  yaw {yaw[i]:.0f}: off {last['yaw'][i]:+.0f}, pitch"
        f" {last['pitch'][i]:+.0f}, lmk {last['landmarks'][i]:.1f} %"
        for i in range(len(yaw))
    ]
    sheet = heads_sheet(network, model, views, last["depth"], captions, args.iterations)
    pictures = {"heads.png": sheet} | ({"kinds.png": kinds_figure(kinds)} if kinds else {})
    if expressions:
        pictures["expressions.png"] = expressions_sheet(model, expressions)
    return Results(content, pictures)


def _degrees(angles: Float[torch.Tensor, "heads 3"]) -> list[list[float]]:
    return np.round(angles.double().numpy(), 2).tolist()
