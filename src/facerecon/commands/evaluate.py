"""The command `facerecon evaluate`: CoarseNet on synthetic faces, other heads and photographs."""

import argparse
import hashlib
import io
import json
import math
import platform
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facerecon import __version__
from facerecon.commands.detail import evaluate_detail, evaluate_light
from facerecon.detection.recrop import fit
from facerecon.evaluation.coarse import coarse_metrics, held_out_faces
from facerecon.evaluation.fit_sheets import heads_sheet, photos_sheet
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.table import LEGEND, evaluate_views, summary, table, true_yaw
from facerecon.evaluation.heads.views import Heads, detected
from facerecon.evaluation.photos import evaluate_photos, load_photos, photo_summary, photo_table
from facerecon.files import write_file
from facerecon.imaging import Crop, list_images
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import load_coarsenet


def main(args: argparse.Namespace) -> int:
    """Evaluate as the arguments say; prints a table, writes files, returns the exit code."""
    if args.threads:
        torch.set_num_threads(args.threads)
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    model = model.to(args.device)
    network = load_coarsenet(args.coarse).to(args.device)
    kinds = {
        "synthetic": _synthetic,
        "heads": _heads,
        "photos": _photos,
        "detail": _detail,
        "light": _light,
    }
    kinds[args.on](args, network, model)
    return 0


def _synthetic(args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel) -> None:
    faces = held_out_faces(SyntheticWorld(model), args.count, args.seed)
    metrics = coarse_metrics(network, model, faces, args.iterations)
    names = [name for name in metrics if f"{name}_{args.iterations}" in metrics]
    print(f"{'':<14}" + "".join(f"{name:>15}" for name in names))
    for number in range(1, args.iterations + 1):
        values = (metrics.get(f"{name}_{number}") for name in names)
        cells = "".join(" " * 15 if v is None else f"{v:>15.2f}" for v in values)
        print(f"iteration {number:<4}{cells}")
    _write_json(args, "synthetic.json", {"metrics": metrics})


def _heads(args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel) -> None:
    heads = Heads(load_heads(args.heads), model)

    def found(grey: np.ndarray, true: Crop) -> tuple[bool, Crop]:
        """As on a photograph: detected, then moved by the fit."""
        yes, square = detected(grey, true)
        return yes, fit(network, model, grey, square, args.iterations)[1] if yes else square

    boxes = found if args.boxes == "detector" else args.boxes
    views = heads.render(args.count, args.seed, args.profiles, boxes)
    results = evaluate_views(network, model, views, args.iterations)
    print(table(results, views))
    if args.boxes == "detector":
        print(f"\nfaces found by the detector: {100 * views.found.float().mean():.0f} %")
    print(f"\n{LEGEND}")
    if not args.out:
        return
    yaw = true_yaw(views)
    _write_json(
        args,
        "heads.json",
        {
            "heads": {"file": str(args.heads), "sha256": _sha256(args.heads)},
            "boxes": args.boxes,
            "within_45_degrees": {n: summary(row, yaw.abs() <= 45) for n, row in results.items()},
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
        },
    )
    last = results[f"iteration {args.iterations}"]
    captions = [
        f"{last['depth'][i]:.1f} mm  yaw {yaw[i]:.0f}: off {last['yaw'][i]:+.0f}, pitch"
        f" {last['pitch'][i]:+.0f}, lmk {last['landmarks'][i]:.1f} %"
        for i in range(len(yaw))
    ]
    sheet = heads_sheet(network, model, views, last["depth"], captions, args.iterations)
    _write_picture(args, "heads.png", sheet)


def _photos(args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel) -> None:
    paths = list_images([args.folder])
    shuffled = np.random.default_rng(args.seed).permutation(len(paths))[: args.count]

    def follow(photo: np.ndarray, square: Crop) -> Crop:
        return fit(network, model, photo, square, args.iterations)[1]

    photos = load_photos([paths[i] for i in sorted(shuffled)], follow=follow)
    measures = evaluate_photos(network, model, photos, args.iterations)
    print(photo_table(measures))
    print(f"\nfaces found: {len(photos.names)} of {len(shuffled)} photographs")
    if not args.out:
        return
    values = {name: measures[name].tolist() for name in measures}
    content = {
        "summary": photo_summary(measures),
        "failed": photos.failed,
        "photos": {
            name: {key: values[key][i] for key in values} for i, name in enumerate(photos.names)
        },
    }
    _write_json(args, "photos.json", content)
    _write_picture(args, "photos.png", photos_sheet(model, photos.image, measures, photos.names))


def _detail(args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel) -> None:
    content, sheets = evaluate_detail(args, network, model)
    _write_json(args, "detail.json", content)
    _write_pictures(args, sheets)


def _light(args: argparse.Namespace, network: torch.nn.Module, model: MorphableModel) -> None:
    content, sheets = evaluate_light(args, model)
    _write_json(args, "light.json", content)
    _write_pictures(args, sheets)


def _write_pictures(args: argparse.Namespace, sheets: dict[str, Image.Image]) -> None:
    if args.out:
        for name, sheet in sheets.items():
            _write_picture(args, name, sheet)


def _write_json(args: argparse.Namespace, name: str, content: dict) -> None:
    if not args.out:
        return
    weights = args.coarse or Path(str(files("facerecon") / "assets" / "coarsenet.safetensors"))
    model = args.model or Path(str(files("facerecon") / "assets" / "morphable_model.npz"))
    about = {
        "seed": args.seed,
        "count": args.count,
        "iterations": args.iterations,
        "weights": {"file": Path(weights).name, "sha256": _sha256(weights)},
        "model": {"file": Path(model).name, "sha256": _sha256(model)},
        "versions": {
            "facerecon": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(_finite(about | content), indent=1, allow_nan=False)
    write_file(args.out / name, text.encode())
    print(f"wrote {args.out / name}")


def _write_picture(args: argparse.Namespace, name: str, picture: Image.Image) -> None:
    data = io.BytesIO()
    picture.save(data, format="PNG")
    write_file(args.out / name, data.getvalue())
    print(f"wrote {args.out / name}")


def _finite(value: object) -> object:
    """The same with null in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
