"""How far running notebooks are, on one line of the terminal; nothing where there is none.

The process that runs a notebook writes its draft after each cell, and a long step inside of a cell
counts in a small file (`count`). `Watch` reads both, so it serves any number of processes.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from io import TextIOBase
from pathlib import Path
from typing import TypeVar

Thing = TypeVar("Thing")

VARIABLE = "FACERECON_PROGRESS"
"""The environment variable that names the file in which a notebook counts its steps."""
DRAFT, STEPS = ".facerecon-running.ipynb", ".facerecon-steps.json"
"""What lies in an item's folder while its notebook runs: the notebook so far, and the count."""


def count(things: Iterable[Thing], total: int, unit: str) -> Iterator[Thing]:
    """Pass things on and count them for `facerecon reproduce`, as "14 of 30 scans".

    Args:
        total: how many there will be.
        unit: what they are, in the plural.
    """
    counter = counter_of(unit)
    counter(0, total)
    for done, thing in enumerate(things, start=1):
        counter(done, total)
        yield thing


def counter_of(unit: str) -> Callable[[int, int], None]:
    """A function of (done, total) that tells `facerecon reproduce`; it does nothing without it."""
    place, start = os.environ.get(VARIABLE), time.time()

    def tell(done: int, total: int) -> None:
        if place:
            Path(place).write_text(
                json.dumps({"done": done, "total": total, "unit": unit, "start": start})
            )

    return tell


class Watch:
    """Shows on one line of a terminal how far notebooks are, while the `with` block runs.

    Args:
        folders: where each item's notebook runs.
        stream: by default stderr; if it is no terminal, nothing is written.
        every: seconds between two looks.
    """

    def __init__(
        self, folders: Mapping[str, Path], stream: TextIOBase | None = None, every: float = 1.0
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.folders, self.every = folders, every
        self.before = {item: _durations(folder) for item, folder in folders.items()}
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        if self.stream.isatty():
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join()
            self._show("")

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Take the line away while something else is printed."""
        with self.lock:
            self._show("")
            yield

    def _look(self) -> None:
        while not self.ended.wait(self.every):
            states = [state_of(i, f, self.before[i]) for i, f in self.folders.items()]
            with self.lock:
                self._show(" | ".join(filter(None, states)))

    def _show(self, line: str) -> None:
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns
            self.stream.write(f"\r{line[: width - 1]}\x1b[K")  # the last erases what is behind it
            self.stream.flush()


def state_of(item: str, folder: Path, before: list[float]) -> str:
    """How far one notebook is: cells done of all, the count inside of the cell, the time left.

    Args:
        before: seconds of each code cell in an earlier run; empty if there was none.

    Returns:
        One line; empty if it does not run.
    """
    cells = _code_cells(folder / DRAFT)
    if not cells:
        return ""
    done = [_seconds(cell) for cell in cells if cell.get("status") == "completed"]
    parts = [f"{item}: cell {min(len(done) + 1, len(cells))} of {len(cells)}"]
    left = None
    if len(before) == len(cells):  # at the speed of this run, once it has taken a while
        usual = sum(before[: len(done)])
        left = sum(before[len(done) :]) * (sum(done) / usual if usual > 5 else 1.0)
        left -= _running_for(cells)
    steps = _read(folder / STEPS)
    if steps.get("total") and steps["done"] < steps["total"]:
        parts.append(f"{steps['done']} of {steps['total']} {steps['unit']}")
        if left is None and steps["done"]:
            spent = time.time() - steps["start"]
            left = spent / steps["done"] * (steps["total"] - steps["done"])
    if left is not None:
        parts.append(_duration(left))
    return ", ".join(parts)


def _code_cells(notebook: Path) -> list[dict]:
    """papermill's account of each code cell."""
    cells = _read(notebook).get("cells", [])
    return [c["metadata"].get("papermill", {}) for c in cells if c["cell_type"] == "code"]


def _durations(folder: Path) -> list[float]:
    """Seconds of each code cell of the run that lies in a folder."""
    cells = _code_cells(folder / "notebook.ipynb")
    if not cells or any(cell.get("status") != "completed" for cell in cells):
        return []
    return [_seconds(cell) for cell in cells]


def _seconds(cell: dict) -> float:
    return float(cell.get("duration") or 0.0)


def _running_for(cells: list[dict]) -> float:
    """Seconds since the cell that runs began."""
    for cell in cells:
        if cell.get("status") == "running" and cell.get("start_time"):
            start = datetime.fromisoformat(cell["start_time"])
            now = datetime.now(start.tzinfo)
            return (now - start).total_seconds()
    return 0.0


def _duration(seconds: float) -> str:
    if seconds < 0:
        return "longer than last time"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"


def _read(path: Path) -> dict:
    """A JSON file that another process rewrites: empty while it is not whole."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
