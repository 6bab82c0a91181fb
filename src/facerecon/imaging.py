"""Photographs: files of every kind decoded into one form, and square crops of them."""

import contextlib
import glob
import io
import math
import os
import stat
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from io import IOBase
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Real, Shaped, UInt8
from PIL import Image, ImageOps, features
from torch import Tensor

from facerecon.lighting import LUMA
from facerecon.messages import OneLine, cause_of
from facerecon.shapes import require_whole

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".heic",
    ".heif", ".avif",
)  # fmt: skip
MAX_PIXELS = 80_000_000
"""Photographs with more pixels are refused: in float32 RGB, this many already take 1 GB."""

GREY_WEIGHTS = np.array(LUMA, dtype=np.float32)

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")
"""What is opened, whatever the name of the file: raster formats that Pillow itself decodes."""

_CONTAINERS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}

ImageSource = str | Path | bytes | IOBase | np.ndarray | Tensor | Image.Image


class ImageError(OneLine, ValueError):
    """An image that cannot be used; the message is one line: which, why, and what to do."""


def load_image(source: ImageSource) -> Float[np.ndarray, "height width 3"]:
    """Read a photograph as float32 RGB in [0, 1], upright.

    Args:
        source: a file (`FORMATS`; HEIC and AVIF where Pillow or pillow-heif can), its
            bytes or an open file, a Pillow image, or an array or tensor (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4): bool, uint8, uint16, or floating point in [0, 1].

    The EXIF orientation is applied. Transparent pixels are laid over white. Grey becomes three
    equal channels, CMYK and palettes become RGB. Of an animation, the first frame counts. A Pillow
    image of 32-bit integers counts as 8-bit if no value is above 255. Color profiles are ignored.

    Raises:
        ImageError: the file is missing, empty, truncated, not an image, or larger than MAX_PIXELS;
            the array has another shape or type, or holds values outside [0, 1].
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, "array")
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, Image.Image):
        return _from_pillow(source, "image")
    if isinstance(source, bytes | bytearray):
        return _decode(io.BytesIO(source), "bytes")
    if hasattr(source, "read"):
        return _decode(_seekable(source), str(getattr(source, "name", "open file")))
    if not isinstance(source, str | os.PathLike):
        raise ImageError(
            f"cannot read a photograph from {type(source).__name__}: pass a file's path, its bytes,"
            " an open file, a Pillow image, an array or a tensor"
        )
    name = os.fspath(source)
    if "://" in str(name):
        raise ImageError(f"{name}: is an address; download the photograph and pass the file")
    path = Path(name)
    try:
        if stat.S_ISFIFO(path.stat().st_mode):  # opening it would wait for a writer
            raise ImageError(f"{path}: is a pipe, not an image file")
        with open(path, "rb") as stream:
            return _decode(stream, str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not an image") from None
    except PermissionError:
        raise ImageError(f"{path}: may not be read (permission denied)") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be opened ({cause_of(error)})") from None


def _decode(stream: IOBase, name: str) -> Float[np.ndarray, "height width 3"]:
    """Read a photograph from an open file that can be searched."""
    head = stream.read(12)
    stream.seek(0)
    if not head:
        raise ImageError(f"{name}: the file is empty")
    formats = FORMATS
    if head[4:8] == b"ftyp" and head[8:12] in _CONTAINERS:
        formats = _phone_formats(head[8:12], name)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images (checked below) and of odd metadata (harmless).
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=formats) as image:
                return _from_pillow(image, name)
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name)) from None
    except Image.UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise ImageError(f"{name}: not an image of a known format ({known}), or damaged") from None
    except ImageError:
        raise
    except Exception as error:  # plugins raise SyntaxError, struct.error, zlib.error...
        raise ImageError(f"{name}: cannot be opened ({cause_of(error)})") from None


def _phone_formats(brand: bytes, name: str) -> tuple[str, ...]:
    """What reads a HEIC or AVIF photograph: newer versions of Pillow, or pillow-heif."""
    if brand in (b"avif", b"avis") and features.check("avif"):
        return ("AVIF",)
    try:
        pillow_heif = import_module("pillow_heif")
    except ImportError:
        raise ImageError(
            f"{name}: is a HEIC or AVIF photograph; save it as JPEG or PNG, or install the package"
            " that reads it: pip install pillow-heif"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _seekable(stream: IOBase) -> IOBase:
    try:
        content = stream.read()
    except (OSError, ValueError) as error:  # closed, or open for writing
        raise ImageError(f"the open file cannot be read ({cause_of(error)})") from None
    if not isinstance(content, bytes):
        raise ImageError("the open file yields text: open it in binary mode, open(path, 'rb')")
    return io.BytesIO(content)


def list_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files that files, folders and patterns (`photos/*.jpg`) stand for, in their order.

    A folder stands for the images directly in it, sorted by name. A file is taken as it is,
    whatever its name, and a missing one too: `load_image` says what is wrong with it.

    Raises:
        ImageError: a folder holds no image, or a pattern matches nothing.
    """
    found: list[Path] = []
    for name in paths:
        if not str(name):
            raise ImageError("an empty file name")
        if "://" in str(name):
            raise ImageError(f"{name}: is an address; download the photograph and pass the file")
        item = Path(name)
        if item.is_dir():
            matches = sorted(p for p in item.iterdir() if p.suffix.lower() in SUFFIXES)
            if not matches:
                raise ImageError(f"{item}: the folder holds no image ({', '.join(SUFFIXES)})")
        elif not item.exists() and glob.has_magic(str(item)):
            matches = [Path(p) for p in sorted(glob.glob(str(item), recursive=True))]
            matches = [p for p in matches if p.is_file()]
            if not matches:
                raise ImageError(f"{item}: no file matches the pattern")
        else:
            matches = [item]
        found.extend(matches)
    return list(dict.fromkeys(found))


def to_grey(rgb: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """Luma 0.299 R + 0.587 G + 0.114 B of the photograph as stored, float32 in [0, 1]."""
    return np.clip(rgb @ GREY_WEIGHTS, 0.0, 1.0).astype(np.float32, copy=False)


def to_bytes(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Intensities in [0, 1] as 0 to 255, rounded; what lies outside is clipped."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Crop:
    """A square of an image, resampled to size x size pixels.

    Args:
        x, y: the square's left and top edge, in pixels of the image counted from the image's left
            and top edge (the center of its first pixel lies at 0.5).
        side: of the square, in pixels of the image.
        size: of the crop, in pixels.
    """

    x: float
    y: float
    side: float
    size: int

    @property
    def step(self) -> float:
        """Width of one crop pixel in pixels of the image."""
        return self.side / self.size

    def to_image(self, points: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Crop (column, row) -> image (column, row); the first pixel's center is (0, 0) in both."""
        return (points + 0.5) * self.step + (self.x - 0.5, self.y - 0.5)

    def to_crop(self, points: Real[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Image (column, row) -> crop (column, row): the inverse of `to_image`."""
        return (points - (self.x - 0.5, self.y - 0.5)) / self.step - 0.5

    def moved(self, right: float, up: float, log_scale: float) -> "Crop":
        """The crop moved by shares of its side, and enlarged by a factor about its center."""
        side = self.side * math.exp(log_scale)
        column, row = self.x + self.side * (0.5 + right), self.y + self.side * (0.5 - up)
        return Crop(column - side / 2, row - side / 2, side, self.size)

    def inside(self, shape: tuple[int, int]) -> Bool[np.ndarray, "size size"]:
        """The crop's pixels whose center lies in an image of (rows, columns)."""
        center = (np.arange(self.size) + 0.5) * self.step
        row, column = self.y + center, self.x + center
        return np.outer((row > 0) & (row < shape[0]), (column > 0) & (column < shape[1]))

    def at(self, size: int) -> "Crop":
        """The same square at another number of pixels."""
        return Crop(self.x, self.y, self.side, size)

    def cut(
        self, image: Shaped[np.ndarray, "height width *channels"]
    ) -> Float[np.ndarray, "size size *channels"]:
        """The crop's pixels, float32.

        A pixel is the mean of the image over its footprint (exact areas), or bilinear where the
        crop is finer than the image; beyond the image its border is repeated.
        """
        r, rows = _sampling(image.shape[0], self.y, self.step, self.size)
        c, columns = _sampling(image.shape[1], self.x, self.step, self.size)
        part = np.array(image[r, c], dtype=np.float32, order="C")
        # By torch, whose products heed the number of threads that `backends.threads` sets.
        rows, part, columns = map(torch.from_numpy, (rows, part, columns))
        part = torch.tensordot(rows, part, dims=([1], [0]))
        return torch.tensordot(columns, part, dims=([1], [1])).movedim(0, 1).contiguous().numpy()


def crop(
    image: Float[np.ndarray, "height width *channels"],
    box: tuple[float, float, float, float],
    size: int,
) -> tuple[Float[np.ndarray, "size size *channels"], Crop]:
    """Cut the square box (x, y, width, height) out of an image at size x size pixels.

    Args:
        image: (H, W) or (H, W, C).
        box: left, top, width and height in pixels, from the image's left top corner; width equals
            height. It may leave the image, whose border is then repeated.

    Returns:
        The crop and the exact map between its pixels and the image's.

    Raises:
        ValueError: a box that is not square, not finite, or wholly outside the image; a size that
            is no whole number.
    """
    square = square_crop(box, image.shape[:2], size)
    return square.cut(image), square


def square_crop(box: tuple[float, float, float, float], shape: tuple[int, int], size: int) -> Crop:
    """The crop of a square box (x, y, width, height) of an image of (rows, columns).

    Raises:
        ValueError: as of `crop`.
    """
    x, y, width, height = map(float, box)
    rows, columns = shape
    size = require_whole("size", size)
    if not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
        raise ValueError(f"box {_numbers(box)}: needs finite x, y and a positive width and height")
    if abs(width - height) > 1e-6 * width:
        raise ValueError(f"box {_numbers(box)}: a crop is square, but the width is not the height")
    if x >= columns or y >= rows or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"box {_numbers(box)}: lies outside the image of {columns} x {rows} pixels"
        )
    return Crop(x, y, width, size)


def _sampling(
    n: int, start: float, step: float, size: int
) -> tuple[slice, Float[np.ndarray, "size used"]]:
    """Which of n pixels `size` footprints touch, and the share of each that each of them covers.

    A footprint is one step wide but at least one pixel: then the share is the weight of linear
    interpolation.
    """
    center = start + (np.arange(size)[:, None] + 0.5) * step
    half = max(step, 1.0) / 2
    first = min(max(math.floor(center[0, 0] - half), 0), n - 1)
    last = min(max(math.ceil(center[-1, 0] + half), first + 1), n)
    left = np.arange(first, last, dtype=np.float64)
    right = left + 1
    left[0], right[-1] = -np.inf, np.inf  # the border is repeated
    share = np.minimum(center + half, right) - np.maximum(center - half, left)
    return slice(first, last), (np.maximum(share, 0.0) / (2 * half)).astype(np.float32)


def _from_pillow(image: Image.Image, name: str) -> Float[np.ndarray, "height width 3"]:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{width} x {height}"))
    try:
        image.load()
        mode, kind = image.mode, image.format
        with contextlib.suppress(Exception):  # damaged metadata must not cost the photograph
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16-bit grey, which some formats hand over as 32-bit
            array = np.asarray(image)
            if array.min() < 0 or array.max() > 65535:
                raise ImageError(f"{name}: 32-bit pixels; save it with 8 or 16 bits per channel")
            # `convert("I")` keeps the values of 8-bit grey, and nothing says that they are.
            eight_bit = mode == "I" and kind not in ("PNG", "PPM") and array.max() <= 255
            return _from_array(array.astype(np.uint8 if eight_bit else np.uint16), name)
        if image.mode == "F":
            return _from_array(np.asarray(image), name)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return _from_array(np.asarray(image.convert(mode)), name)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(_too_large(name, f"{width} x {height}")) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error...
        cause = cause_of(error)
        raise ImageError(f"{name}: cannot be decoded; truncated or damaged? ({cause})") from None


def _from_tensor(tensor: Tensor) -> Float[np.ndarray, "height width 3"]:
    try:
        values = tensor.detach().cpu()
        array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    except (TypeError, RuntimeError) as error:
        raise ImageError(f"tensor: cannot be read as an array ({cause_of(error)})") from None
    return _from_array(array, "tensor")


def _from_array(array: np.ndarray, name: str) -> Float[np.ndarray, "height width 3"]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"{name}: has shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{array.shape[1]} x {array.shape[0]}"))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype in (np.uint8, np.uint16):
        image = array / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype == bool:
        image = array.astype(np.float32)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ImageError(f"{name}: holds NaN or infinite values")
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise ImageError(
                f"{name}: floating-point values from {array.min():g} to {array.max():g};"
                " expected 0 to 1 (divide 8-bit values by 255)"
            )
        image = np.clip(array, 0, 1).astype(np.float32)
    else:
        raise ImageError(
            f"{name}: has type {array.dtype}; expected bool, uint8, uint16 or floats in [0, 1]"
        )
    if image.shape[2] == 4:
        alpha = image[:, :, 3:]
        image = image[:, :, :3] * alpha + (1 - alpha)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)), dtype=np.float32)


def _too_large(name: str, size: str = "") -> str:
    what = f"{size} is" if size else "the image has"
    return f"{name}: {what} more than {MAX_PIXELS // 10**6} million pixels; scale it down first"


def _numbers(box: Iterable[float]) -> str:
    return "(" + ", ".join(f"{float(value):g}" for value in box) + ")"
