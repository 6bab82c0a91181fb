"""Pools of processes that end with the one that started them."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

_LOOK_EVERY = 1.0  # seconds


def fresh_pool(
    jobs: int, prepare: Callable[..., object] | None = None, *arguments: object
) -> ProcessPoolExecutor:
    """A pool of fresh interpreters: a fork would inherit torch's threads.

    Where the starting process is killed, its workers end within a second or two instead of
    finishing what they have begun.

    Args:
        jobs: processes. prepare, arguments: what each calls first.
    """
    start = os.getpid(), prepare, arguments
    return ProcessPoolExecutor(jobs, get_context("spawn"), _begin, start)


def _begin(parent: int, prepare: Callable[..., object] | None, arguments: tuple) -> None:
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
