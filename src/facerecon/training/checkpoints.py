"""Checkpoints that survive a kill at any moment, a full disk, and damage of the newest file."""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import torch

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


def write_checkpoint(folder: Path, state: dict) -> None:
    """Write the newest checkpoint of a run; the one before it is kept as `PREVIOUS`.

    The file is complete and on the disk before it gets its name, so that one that can be read is
    there at every moment: killed between the two renamings, the run goes on from `PREVIOUS`.

    Raises:
        TrainingError: no space, or the folder cannot be written.
    """
    path = folder / CHECKPOINT
    temporary = path.with_name(path.name + ".partial")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, folder / PREVIOUS)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink()
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"{path}: the checkpoint could not be written ({reason}); the last good one is kept. "
            "Free some space or choose another folder with --run, then start the same command "
            "again."
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

    Where that is the one before the newest, because a kill or damage took the newest, a warning
    says so; exact resumption makes up for the lost steps.

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
