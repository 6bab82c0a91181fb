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

DIGITS = 6
"""Significant digits of a number in a result: more than any measurement here is worth."""

LINE = 120
"""Characters of JSON that stay on one line."""


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
    text = compact_json(about | results.content)
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


def compact_json(value: object) -> str:
    """JSON whose numbers have as many digits as a measurement has, a table's row on a line.

    NaN, which JSON does not know, becomes null.
    """
    return _lines(_rounded(value)) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def _lines(value: object, depth: int = 0) -> str:
    """On one line what fits, rows and arrays; else an entry a line, indented by its depth."""
    line = json.dumps(value, allow_nan=False)
    if len(line) <= LINE or _flat(value):
        return line
    if isinstance(value, list):
        parts = [_lines(entry, depth + 1) for entry in value]
    else:
        parts = [f"{json.dumps(k)}: {_lines(entry, depth + 1)}" for k, entry in value.items()]
    left, right = ("[", "]") if isinstance(value, list) else ("{", "}")
    space = "\n" + " " * (depth + 1)
    return left + space + f",{space}".join(parts) + "\n" + " " * depth + right


def _flat(value: object) -> bool:
    """Whether it is a number or text, an array of any dimension, or a row of these."""
    if isinstance(value, list):
        return all(not isinstance(entry, dict) and _flat(entry) for entry in value)
    entries = value.values() if isinstance(value, dict) else ()
    return not any(isinstance(entry, dict | list) for entry in entries)
