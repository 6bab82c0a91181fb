"""Clips: frames of a video file, one after the other, and a new video file from pictures."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from jaxtyping import Float, UInt8

from facerecon.files import OutputError
from facerecon.messages import OneLine, cause_of

DEFAULT_RATE = 25.0
"""Frames per second of a clip that does not tell."""

MAX_FRAME_PIXELS = 3840 * 2160
"""Frames with more pixels are refused."""

_CODECS = ("libx264", "mpeg4")  # the first that this PyAV has; every browser plays the first
_QUALITY = {"libx264": {"crf": "18", "preset": "veryfast"}, "mpeg4": {"q:v": "3"}}


class ClipError(OneLine, ValueError):
    """A video that cannot be used; the message is one line: which, why, and what to do."""


class Frame(NamedTuple):
    """One picture of a clip. number: counted from 0 in the whole file. time: in seconds."""

    number: int
    time: float
    image: Float[np.ndarray, "height width 3"]


class ClipInfo(NamedTuple):
    """What a video file says of itself. frames: how many there are, 0 if it does not tell."""

    rate: float
    frames: int


def clip_info(path: str | Path) -> ClipInfo:
    """Frames per second and number of frames.

    Raises:
        ClipError: no such file, or no video.
        ImportError: PyAV is missing.
    """
    with _opened(path) as (container, stream):
        return _info(container, stream)


def read_frames(
    path: str | Path, every: int = 1, start: float = 0.0, end: float | None = None
) -> Iterator[Frame]:
    """The frames of a clip, upright, RGB in [0, 1]; one at a time, so that long clips fit.

    Args:
        start, end: seconds; frames from the first until before the second.
        every: 2 takes every second one of these, and so on.

    Raises:
        ClipError: no such file, no video, damaged from the beginning, frames too large, or none in
            the time asked for. What is cut off or damaged later ends the clip there.
        ImportError: PyAV is missing.
    """
    av = _pyav()
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        rate = _info(container, stream).rate
        first, time, inside = None, 0.0, 0
        try:
            for number, picture in enumerate(container.decode(stream)):
                time = picture.time if picture.time is not None else number / rate
                first = time if first is None else first
                time -= first
                if end is not None and time >= end:
                    break
                if time >= start:
                    if inside % every == 0:
                        yield Frame(number, time, _upright(picture, path))
                    inside += 1
        except av.error.FFmpegError as error:
            if first is None:
                raise ClipError(
                    f"{path}: no frame can be decoded; damaged? ({_cause(error)})"
                ) from None
        if first is None:
            raise ClipError(f"{path}: holds no frame")
        if not inside:
            until = "on" if end is None else f"to {end:g}"
            raise ClipError(
                f"{path}: no frame from second {start:g} {until}; the last one read is at"
                f" {time:.1f}"
            )


def _upright(picture, path: str | Path) -> Float[np.ndarray, "height width 3"]:
    if picture.width * picture.height > MAX_FRAME_PIXELS:
        raise ClipError(
            f"{path}: frames of {picture.width} x {picture.height} pixels; scale the video down to"
            " 3840 x 2160 or less first"
        )
    image = picture.to_ndarray(format="rgb24")
    # Phones store what they film as the sensor lies, and the turn beside it.
    image = np.rot90(image, round((picture.rotation or 0) / 90) % 4)
    return image.astype(np.float32) / np.float32(255)


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple]:
    """The open container and its video stream."""
    av = _pyav()
    path = Path(path)
    if path.is_dir():
        raise ClipError(f"{path}: is a folder, not a video")
    if not path.exists():
        raise ClipError(f"{path}: no such file")
    if not path.is_file():
        raise ClipError(f"{path}: is no regular file")
    try:
        # A playlist that calls itself a video must not make us ask the network.
        options = {"protocol_whitelist": "file"}
        container = av.open(f"file:{path}", container_options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ClipError(
            f"{path}: not a video of a known format, or damaged ({_cause(error)})"
        ) from None
    with container:
        if not container.streams.video:
            raise ClipError(f"{path}: holds no video, only {_kinds(container)}")
        stream = container.streams.video[0]
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise ClipError(f"{path}: is a picture; facerecon reconstruct takes those")
        yield container, stream


def _kinds(container) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _info(container, stream) -> ClipInfo:
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if not (math.isfinite(rate) and 0 < rate <= 1000):
        rate = DEFAULT_RATE
    frames = stream.frames
    if not frames and container.duration:
        frames = round(container.duration / 1e6 * rate)
    return ClipInfo(rate, frames)


class ClipWriter:
    """Writes pictures as a video file, .mp4: whole, when the context ends well, or not at all.

        with ClipWriter("face.mp4", rate=30) as clip:
            clip.add(picture)

    Args:
        path: where it will be. rate: frames per second.

    Raises:
        ValueError: another suffix.
        OutputError: the file cannot be written.
        ImportError: PyAV is missing.
    """

    def __init__(self, path: str | Path, rate: float):
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"{self.path}: videos are written as .mp4")
        self._av, self._rate = _pyav(), Fraction(rate).limit_denominator(1001)
        self._partial = self.path.with_name(f".facerecon-{uuid4().hex}.tmp")
        self._container = self._stream = None
        self._shape: tuple[int, int] | None = None

    def add(self, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Append an RGB picture; all have the same size, a last odd row or column is cut off."""
        rows, columns = (side - side % 2 for side in picture.shape[:2])  # H.264 halves the colors
        try:
            if self._stream is None:
                self._begin(rows, columns)
            if self._shape != (rows, columns):
                raise ValueError(
                    f"pictures of a clip have one size: {self._shape}, then {rows, columns}"
                )
            picture = np.ascontiguousarray(picture[:rows, :columns])
            frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
            self._container.mux(self._stream.encode(frame))
        except (OSError, self._av.error.FFmpegError) as error:
            raise self._failed(error) from None

    def _begin(self, rows: int, columns: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = next(name for name in _CODECS if name in self._av.codecs_available)
        self._container = self._av.open(str(self._partial), "w", format="mp4")
        self._stream = self._container.add_stream(name, rate=self._rate, options=_QUALITY[name])
        self._stream.width, self._stream.height = columns, rows
        self._stream.pix_fmt = "yuv420p"
        self._shape = rows, columns

    def __enter__(self) -> "ClipWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if self._container is not None:
                if kind is None:
                    self._container.mux(self._stream.encode())
                self._container.close()
                if kind is None:
                    os.replace(self._partial, self.path)
        except (OSError, self._av.error.FFmpegError) as error:
            if kind is None:
                raise self._failed(error) from None
        finally:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({_cause(error).lower()})")


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or cause_of(error)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise ImportError('videos need PyAV: pip install "facerecon[video]"') from None
    # Its warnings about odd files would go to the terminal, between ours.
    av.logging.set_level(av.logging.PANIC)
    return av
