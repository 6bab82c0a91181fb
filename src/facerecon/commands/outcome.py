"""How a command ends: its exit code, and one line on standard error if it failed."""

import sys

OK, FAILED, USAGE = 0, 1, 2
EXIT_CODES = "exit codes: 0 all went well, 1 something failed, 2 wrong usage"


def fail(error: object) -> int:
    """Say what failed; returns the exit code for it."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"facerecon: {text}", file=sys.stderr)
    return FAILED


def check_device(name: str) -> None:
    """Raise ValueError if torch cannot compute there."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = str(error).strip().splitlines()[0]
        raise ValueError(f"--device {name}: not available here ({cause})") from None
