"""How a command ends: its exit code, and one line on standard error if it failed."""

import os
import sys
from contextlib import suppress
from io import TextIOBase

OK, FAILED, USAGE = 0, 1, 2
EXIT_CODES = "exit codes: 0 all went well, 1 something failed, 2 wrong usage"


def say(text: str) -> None:
    """Print a line; a terminal that cannot encode it or a closed pipe does not end the work."""
    _print(text, sys.stdout)


def fail(error: object) -> int:
    """Say what failed; returns the exit code for it."""
    text = " ".join(str(error).split()) or type(error).__name__
    _print(f"facerecon: {text}", sys.stderr)
    return FAILED


def _print(text: str, stream: TextIOBase) -> None:
    try:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except (OSError, ValueError):  # nobody reads any more, or a full disk
        with open(os.devnull, "w") as nowhere, suppress(OSError, ValueError):
            os.dup2(nowhere.fileno(), stream.fileno())


def check_device(name: str) -> None:
    """Raise ValueError if torch cannot compute there."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"--device {name}: not available here ({cause})") from None
