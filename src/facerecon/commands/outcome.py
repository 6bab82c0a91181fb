"""How a command ends: its exit code, and one line on standard error if it failed."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOBase
from pathlib import Path

from facerecon.messages import OneLine, one_line

OK, FAILED, USAGE = 0, 1, 2
EXIT_CODES = "exit codes: 0 all went well, 1 something failed, 2 wrong usage"


class UsageError(OneLine, ValueError):
    """The command asks for what does not exist or does not go together."""


def say(text: str) -> None:
    """Print a line; a terminal that cannot encode it or a closed pipe does not end the work."""
    _print(text, sys.stdout)


def fail(error: object) -> int:
    """Say what failed; returns the exit code for it."""
    text = " ".join(line.strip() for line in str(error).splitlines()) or type(error).__name__
    _print(f"facerecon: {text}", sys.stderr)
    return USAGE if isinstance(error, UsageError) else FAILED


@contextmanager
def small_faces_named(path: Path) -> Iterator[None]:
    """Inside, a photograph's `SmallFaceWarning`s become lines on standard error."""
    from facerecon.pipeline import SmallFaceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SmallFaceWarning)
        yield
    for warning in caught:
        fail(f"{path}: {warning.message}")


def _print(text: str, stream: TextIOBase) -> None:
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        shown = one_line(text).encode(encoding, "backslashreplace").decode(encoding)
        print(shown, file=stream, flush=True)
    except (OSError, ValueError):  # nobody reads any more, or a full disk
        with open(os.devnull, "w") as nowhere, suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), stream.fileno())
