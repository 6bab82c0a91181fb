"""Output files, written completely or not at all; arrays of .npz files, read without pickles."""

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from facerecon.imaging import to_bytes
from facerecon.messages import OneLine, cause_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class OutputError(OneLine, OSError):
    """A result could not be written; the message is one line that names the file and the cause."""


def user_cache() -> Path:
    """Folder of what can be made again: $FACERECON_CACHE, else `facerecon` in the user's cache."""
    given = os.environ.get("FACERECON_CACHE")
    return Path(given).resolve() if given else Path.home() / ".cache" / "facerecon"


def write_file(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all: under another name first, then renamed.

    Raises:
        OutputError: with one line that names the file and the cause.
    """
    partial = path.with_name(f".facerecon-{path.name[:40]}-{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        cause = error.strerror or type(error).__name__
        raise OutputError(f"{path}: cannot be written ({cause.lower()})") from None
    return path


def require_writable(folder: Path) -> None:
    """Raise, before any work, if files could not be written into a folder that may not exist yet.

    Raises:
        OutputError: with one line that names the folder and the cause.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    probe = there / f".facerecon-{uuid4().hex}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise OutputError(f"{folder}: cannot be written ({cause.lower()})") from None


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for the same out of a folder, which is made if need be.

    The lock is the system's own, on the folder: it ends with the process, however that dies, and
    leaves no file. Where the system has none (Windows, some network drives), nothing is kept out.

    Raises:
        OutputError: another process is at work there, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cause = error.strerror or type(error).__name__
        raise OutputError(f"{folder}: cannot be written ({cause.lower()})") from None
    if fcntl is None:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"{folder}: another process is at work there; wait for it, or name another folder"
            ) from None
        except OSError:  # no locks on this file system
            pass
        yield
    finally:
        os.close(place)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; pickled objects are refused.

    Raises:
        ValueError: not such a file, or damaged; the message is a short cause without the path.
        FileNotFoundError: there is no such file.
    """
    try:
        with open(path, "rb") as stream:  # np.load leaves a path open when the archive is broken
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError("it holds a single array")
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # of zip, zlib, NumPy's header or the disk
        raise ValueError(cause_of(error)) from error


def remove_partial(folder: Path) -> None:
    """Delete what killed writers left in a folder; files younger than a minute may be in use."""
    for path in folder.glob(".facerecon-*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > 60:
                path.unlink()


def png(image: np.ndarray) -> bytes:
    """An image as a PNG file: float in [0, 1], uint8 or uint16; (H, W) or (H, W, 3)."""
    if np.issubdtype(image.dtype, np.floating):
        image = to_bytes(image)
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="PNG")
    return data.getvalue()


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """An image as a JPEG file: float in [0, 1] or uint8; (H, W) or (H, W, 3)."""
    if np.issubdtype(image.dtype, np.floating):
        image = to_bytes(image)
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=quality, optimize=True)
    return data.getvalue()
