"""numba's compiler, with a cache wherever the package is installed."""

import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numba


def njit(**options: object) -> Callable[[Callable], Callable]:
    """`numba.njit(nogil=True, cache=True)` with further options.

    numba keeps what it compiled beside the source or in the user's home. Where neither can be
    written (a read-only installation, a container without a home), it goes into a private folder
    for temporary files; where there is none, everything is compiled anew in each process.
    """

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache
            folder = _temporary_cache()
        if folder is None:
            return numba.njit(nogil=True, **options)(function)
        numba.config.CACHE_DIR = str(folder)
        return numba.njit(nogil=True, cache=True, **options)(function)

    return decorate


def _temporary_cache() -> Path | None:
    """A folder that only this user can write, since a cache holds code; says so once."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder: Path | None = Path(tempfile.gettempdir()) / f"facerecon-numba-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if hasattr(os, "getuid"):
            private = found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700
            if not (stat.S_ISDIR(found.st_mode) and private):
                folder = Path(tempfile.mkdtemp(prefix="facerecon-numba-"))
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = None
    where = "nowhere: the first photograph of each process takes long" if folder is None else folder
    warnings.warn(
        "neither the installation nor the home folder can be written; compiled code is kept in"
        f" {where} (NUMBA_CACHE_DIR names another folder)",
        RuntimeWarning,
        stacklevel=4,
    )
    return folder
