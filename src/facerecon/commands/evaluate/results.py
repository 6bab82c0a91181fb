"""What an evaluation leaves behind: a JSON file that names its inputs, and pictures."""

import argparse
import hashlib
import json
import math
import os
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from facerecon import __version__
from facerecon.files import png, write_file
from facerecon.repro.record import processor
from facerecon.weights import commit, shipped


class Results(NamedTuple):
    """content: of the JSON file. pictures: by file name; empty where nothing is to be written."""

    content: dict
    pictures: dict[str, Image.Image]


def write_results(args: argparse.Namespace, results: Results) -> None:
    """Write `WHAT.json` and the pictures into the folder --out."""
    weights = args.coarse or shipped("coarsenet.safetensors")
    model = args.model or shipped("morphable_model.npz")
    about = {
        "seed": args.seed,
        "count": args.count,
        "iterations": args.iterations,
        "weights": about_file(weights),
        "model": about_file(model),
        "commit": commit(),
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": {
            "facerecon": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    text = json.dumps(_finite(about | results.content), indent=1, allow_nan=False)
    written = [write_file(args.out / f"{args.on}.json", text.encode())]
    for name, picture in results.pictures.items():
        written.append(write_file(args.out / name, png(np.asarray(picture))))
    for path in written:
        print(f"wrote {path}")


def refined_by(fine: Path | None, normals: Path | None) -> dict[str, dict[str, str]]:
    """Names and checksums of FineNet's and NormalNet's weights; None: those that ship."""
    files = {
        "finenet": fine or shipped("finenet.safetensors"),
        "normalnet": normals or shipped("normalnet.safetensors"),
    }
    return {name: about_file(path) for name, path in files.items()}


def about_file(path: str | Path) -> dict[str, str]:
    """Name and checksum of a file that a result rests on."""
    path = Path(path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _finite(value: object) -> object:
    """The same with null in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
