"""Checkpoints that survive a kill at any moment, a full disk, and damage of the newest file."""

import io
import os
import warnings
from pathlib import Path

import torch

from facerecon.files import OutputError, write_file
from facerecon.messages import OneLine

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
_FRESH = "checkpoint.fresh.pt"


class TrainingError(OneLine, RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


def write_checkpoint(folder: Path, state: dict) -> None:
    """Write the newest checkpoint of a run; the one before it is kept as `PREVIOUS`.

    The file is complete before it gets its name, so that one that can be read is there at every
    moment: killed between the two renamings, the run goes on from `PREVIOUS`.

    Raises:
        TrainingError: no space, or the folder cannot be written.
    """
    path, data = folder / CHECKPOINT, io.BytesIO()
    torch.save(state, data)
    try:
        fresh = write_file(folder / _FRESH, data.getvalue())
        if path.exists():
            os.replace(path, folder / PREVIOUS)
        os.replace(fresh, path)
    except OSError as error:
        cause = str(error) if isinstance(error, OutputError) else f"{path}: {error.strerror}"
        raise TrainingError(
            f"{cause}; the last good checkpoint is kept. Free some space or choose another folder "
            "with --run, then start the same command again."
        ) from error


def read_checkpoint(path: Path, device: torch.device) -> dict:
    """Load a checkpoint written by this engine.

    Raises:
        TrainingError: it is damaged, or no checkpoint.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). Delete it to start "
            "afresh, or restore a copy."
        ) from error


def newest_checkpoint(folder: Path, device: torch.device) -> tuple[Path, dict] | None:
    """The newest checkpoint of a run that can be read; None for a new run.

    Where the newest is damaged, the one before it is used, and a warning says so; the run repeats
    the lost steps exactly.

    Raises:
        TrainingError: there are checkpoints, but all of them are damaged.
    """
    path, previous = folder / CHECKPOINT, folder / PREVIOUS
    try:
        if path.exists():
            return path, read_checkpoint(path, device)
    except TrainingError as error:
        if not previous.exists():
            raise
        state = read_checkpoint(previous, device)
        warnings.warn(
            f"{path}: damaged ({type(error.__cause__).__name__}); going on from the checkpoint "
            f"before it, {previous}, at {state['samples']} samples",
            stacklevel=2,
        )
        return previous, state
    return (previous, read_checkpoint(previous, device)) if previous.exists() else None
