"""Kinds of values that options take; argparse makes of an error here a message and exit code 2."""

import argparse
import math
from pathlib import Path

_OF_FILES = (
    ".csv", ".glb", ".gltf", ".htm", ".html", ".jpeg", ".jpg", ".json", ".mp4", ".npy", ".npz",
    ".obj", ".png", ".ply", ".stl", ".txt", ".webm",
)  # fmt: skip


def results_folder(text: str) -> Path:
    """A folder for results, which may not exist yet; a name that promises a file is refused."""
    path = Path(text)
    if path.suffix.lower() in _OF_FILES and not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is a file's name; name a folder, which may be new, such as {path.stem}"
        )
    return path


def natural(text: str) -> int:
    """A whole number of at least 0, such as a seed."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """A whole number of at least 1, such as a count."""
    return _at_least(1, text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _finite(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a share is a number from 0 to 1")
    return value


def measure(text: str) -> float:
    """A finite number above 0, such as minutes or millimeters."""
    value = _finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def coordinate(text: str) -> float:
    """A finite number, such as a place in a photograph."""
    return _finite(text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value
