"""The command `facerecon evaluate photos`: CoarseNet on photographs without a truth."""

import argparse

import numpy as np

from facerecon.coarsenet import CoarseNet
from facerecon.commands.evaluate.results import Results
from facerecon.detection.recrop import fit
from facerecon.evaluation.photos import evaluate_photos, load_photos, photo_summary, photo_table
from facerecon.evaluation.sheets import photos_sheet
from facerecon.imaging import Crop, list_images
from facerecon.morphable_model import MorphableModel


def evaluate(args: argparse.Namespace, network: CoarseNet, model: MorphableModel) -> Results:
    """Print how the fits settle; the JSON file gets the values of every photograph."""
    paths = list_images([args.folder])
    shuffled = np.random.default_rng(args.seed).permutation(len(paths))[: args.count]

    def follow(photo: np.ndarray, square: Crop) -> Crop:
        return fit(network, model, photo, square, args.iterations)[1]

    photos = load_photos([paths[i] for i in sorted(shuffled)], follow=follow)
    measures = evaluate_photos(network, model, photos, args.iterations)
    print(photo_table(measures))
    print(f"\nfaces found: {len(photos.names)} of {len(shuffled)} photographs")
    if not args.out:
        return Results({}, {})
    values = {name: measures[name].tolist() for name in measures}
    content = {
        "summary": photo_summary(measures),
        "failed": photos.failed,
        "photos": {
            name: {key: values[key][i] for key in values} for i, name in enumerate(photos.names)
        },
    }
    return Results(
        content, {"photos.png": photos_sheet(model, photos.image, measures, photos.names)}
    )
