"""What a run leaves beside its checkpoints: history.jsonl and TensorBoard events."""

import json
import math
from pathlib import Path

from torch import Tensor

from facerecon.files import write_file

HISTORY = "history.jsonl"


class Record:
    """Appends to the history and the events of a run.

    Args:
        folder: of the run.
        samples: seen when the run goes on. What an interrupted run recorded after its checkpoint is
            dropped, since it comes again.
        settings: of this start, for the history.
    """

    def __init__(self, folder: Path, samples: int, settings: dict):
        self.history = folder / HISTORY
        if self.history.exists():
            kept = [line for line in read_history(folder) if line["samples"] <= samples]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_file(self.history, text.encode())
        self.events = _event_writer(folder, samples)
        self._append({"samples": samples, "start": settings})

    def scalars(self, values: dict[str, float], samples: int, seconds: float) -> None:
        """Numbers, after so many samples and seconds of the run."""
        if self.events is not None:
            for name, value in values.items():
                self.events.add_scalar(name, value, samples)
        finite = {k: v for k, v in values.items() if math.isfinite(v)}
        self._append({"samples": samples, "seconds": round(seconds), **finite})

    def pictures(self, pictures: dict[str, Tensor], samples: int) -> None:
        """Image sheets (3, H, W) in [0, 1]."""
        if self.events is not None:
            for name, picture in pictures.items():
                self.events.add_image(name, picture, samples)

    def close(self) -> None:
        """Write what is still in memory."""
        if self.events is not None:
            self.events.close()

    def _append(self, line: dict) -> None:
        with open(self.history, "a") as file:
            file.write(json.dumps(line) + "\n")


def _event_writer(folder: Path, samples: int):
    """TensorBoard's writer; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder / "events", purge_step=samples)


class Window:
    """The steps between two lines of the history."""

    def __init__(self, began: float):
        self.began, self.waited = began, 0.0
        self.steps = self.samples = 0
        self.terms: dict[str, list[Tensor]] = {}

    def add(self, terms: dict[str, Tensor], samples: int) -> None:
        """One step's terms."""
        self.steps += 1
        self.samples += samples
        for key, value in terms.items():
            self.terms.setdefault(key, []).append(value.detach())


def read_history(folder: Path) -> list[dict]:
    """The lines of a run's history; the last one, if a kill cut it short, is left out."""
    lines = []
    for text in (folder / HISTORY).read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
