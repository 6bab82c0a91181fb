"""Damaged files against every reader: a valid result, or one clear line.

    python tests/robustness/corpus.py --cases 20000 --seed 1

A case is a valid small file of some kind, damaged at random, and the reader that takes such files.
It passes if the reader returns, or raises the error that its documentation names with a message of
one line that holds the file's name; within 20 s, and with the file unchanged. A case depends on
(seed, number) alone, so a failure is repeated by `--only NUMBER`. Prints one line of JSON.
"""

import argparse
import gzip
import hashlib
import io
import json
import pickle
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from PIL import Image

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands.outputs import read_records
from facerecon.converters import flame
from facerecon.converters.pickled import PickledError, read_pickled
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.imaging import ImageError, load_image
from facerecon.morphable_model import FORMAT, ModelFileError, MorphableModel
from facerecon.scans.bosphorus import read_bnt, read_lm2
from facerecon.scans.frgc import find_frgc, read_abs, write_abs
from facerecon.scans.scan import ScanError
from facerecon.synthetic.texture_bank import TextureBank, TextureBankError, topology_digest
from facerecon.weights import ModelCard, WeightsError, load_coarsenet, load_finenet, save_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scan_fixtures import write_bnt

SECONDS = 20
GIANT = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0, 0xFFFF, 65_536, 1 << 24)
NUMBERS = (b"nan", b"1e309", b"-1", b"99999999999999999999", b"0", b"x", b"", b"\xff")


class Kind(NamedTuple):
    """A kind of file: its valid bytes, its name, and what reads it and may complain how."""

    content: bytes
    name: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    share: int = 1  # of the cases


class Failure(Exception):
    """A case that breaks the rule."""


def photographs(rng: np.random.Generator) -> dict[str, bytes]:
    """Small pictures in every format and mode that photographs come in."""
    rgb = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    base = Image.fromarray(rgb)
    sixteen = Image.fromarray(rng.integers(0, 65536, (24, 32), dtype=np.uint16))
    exif = base.getexif()
    exif[274] = 6  # lies on its side
    made = {
        "a.jpg": (base, {"exif": exif}),
        "progressive.jpg": (base, {"progressive": True}),
        "cmyk.jpg": (base.convert("CMYK"), {}),
        "a.png": (base, {}),
        "sixteen.png": (sixteen, {}),
        "palette.png": (base.quantize(16), {}),
        "transparent.png": (base.convert("RGBA"), {}),
        "one_bit.png": (base.convert("1"), {}),
        "a.tif": (base, {}),
        "lzw.tif": (base, {"compression": "tiff_lzw"}),
        "float.tif": (Image.fromarray(rng.random((24, 32), dtype=np.float32)), {}),
        "a.webp": (base, {}),
        "a.bmp": (base, {}),
        "a.gif": (base, {"save_all": True, "append_images": [base.rotate(90)]}),
        "a.ppm": (base, {}),
        "a.pgm": (base.convert("L"), {}),
    }
    files = {}
    for name, (picture, options) in made.items():
        data = io.BytesIO()
        kind = Image.registered_extensions()["." + name.split(".")[1]]
        picture.save(data, format=kind, **options)
        files[name] = data.getvalue()
    return files


def kinds(folder: Path) -> list[Kind]:
    """Every kind of file that a user may hand over."""
    rng = np.random.default_rng(0)
    found = [Kind(c, n, load_image, (ImageError,)) for n, c in photographs(rng).items()]

    card = ModelCard("coarse", "quick", "none", 0, 0, 0.0, "unknown", {}, {})
    coarse, fine = folder / "coarse.safetensors", folder / "fine.safetensors"
    save_weights(coarse, CoarseNet(5, CoarseNetConfig(width=2, points=0)).eval(), card)
    save_weights(fine, FineNet(FineNetConfig(width=2, regressor=(4, 4))).eval(), card)
    for path, read in ((coarse, load_coarsenet), (fine, load_finenet)):
        found.append(Kind(path.read_bytes(), path.name, read, (WeightsError,), share=4))

    arrays = flame_arrays(rng)
    for name, content in {
        "two.pkl": pickle.dumps(arrays, 2),
        "four.pkl": pickle.dumps(arrays, 4),
        "zero.pkl": pickle.dumps({"v_template": arrays["v_template"]}, 0),
    }.items():
        found.append(Kind(content, name, read_pickled, (PickledError,), share=2))
        found.append(Kind(content, name, flame.read, (ModelFileError,), share=2))

    face, texture, model = MorphableModel.default(), folder / "bank.npz", io.BytesIO()
    blank = np.zeros((1, 8, 8, 3), np.uint8)
    chart = topology_digest(face)
    TextureBank(blank, blank[..., 0] > 0, ("a",), "CC0", chart, "none").save(texture)
    read_bank = partial(TextureBank.load, model=face)
    found.append(Kind(texture.read_bytes(), "bank.npz", read_bank, (TextureBankError,), share=3))
    np.savez(model, format=np.array(FORMAT), provenance=np.array("{}"), mean=np.zeros((4, 3)))
    found.append(Kind(model.getvalue(), "model.npz", MorphableModel.load, (ModelFileError,), 3))

    scan = folder / "scan"
    scan.mkdir()
    row, column = np.mgrid[:12, :16].astype(float)
    points = np.stack([column, -row, -900 + 5 * np.cos(row / 4)], -1)
    points[:2] = np.nan
    write_abs(scan / "s.abs", points)
    write_abs(scan / "s.abs.gz", points)
    write_bnt(scan / "s.bnt", np.concatenate([points, points[..., :2]], -1), "s.png")
    for path in sorted(scan.iterdir()):
        read = read_bnt if path.suffix == ".bnt" else read_abs
        found.append(Kind(path.read_bytes(), path.name, read, (ScanError,), share=3))
    landmarks = b"2 landmarks:\nLabels:\nNose tip\nChin\n2D Image coordinates:\n1.5 2.5\n3 4\n"
    found.append(Kind(landmarks, "s.lm2", read_lm2, (ScanError,), share=2))
    xml = b"<Recordings><Recording recording_id='1'><URL root='x' relative='a.ppm'/></Recording>"
    xml += b"</Recordings>"
    found.append(
        Kind(xml, "list.xml", partial(read_list, (scan / "s.abs").read_bytes()), (ScanError,), 2)
    )
    record = b'{"photo": "a", "sha256": "b", "options": {}, "files": ["a.ply"], "done": true}'
    found.append(Kind(record, "a.json", lambda path: read_records(path.parent.parent), ()))
    return found


def read_list(scan: bytes, path: Path) -> object:
    """The scans of a folder that holds one scan and this list."""
    beside = path.with_name("00001d1.abs")
    beside.write_bytes(scan)
    try:
        return find_frgc(path.parent)
    finally:
        beside.unlink()


def flame_arrays(rng: np.random.Generator) -> dict[str, object]:
    """What a FLAME file holds, of ten vertices."""
    return {
        "v_template": rng.normal(size=(10, 3)),
        "shapedirs": rng.normal(size=(10, 3, 104)),
        "f": rng.integers(0, 10, (12, 3)).astype(np.uint32),
        "J_regressor": sp.csc_matrix(rng.random((5, 10))),
        "weights": rng.random((10, 5)),
        "posedirs": rng.normal(size=(10, 3, 36)),
    }


def damaged(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """The bytes, changed in one of the ways in which files come to harm."""
    data = bytearray(content)
    n = len(data)
    at = int(rng.integers(0, n))
    match int(rng.integers(0, 11)):
        case 0:
            return content
        case 1:
            for place in rng.integers(0, n, int(rng.integers(1, 40))):
                data[place] ^= 1 << int(rng.integers(0, 8))
        case 2:
            del data[at:]
        case 3:
            data += rng.bytes(int(rng.integers(1, 400)))
        case 4:
            data[at : at + 64] = rng.bytes(len(data[at : at + 64]))
        case 5:
            start = int(rng.integers(0, min(n, 96)))
            value = GIANT[int(rng.integers(0, len(GIANT)))]
            order = "little" if rng.random() < 0.5 else "big"
            data[start : start + 4] = value.to_bytes(4, order)
        case 6:
            words = content.split(b" ")
            words[int(rng.integers(0, len(words)))] = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
            return b" ".join(words)
        case 7:
            data[at:at] = data[: int(rng.integers(1, n + 1))]
        case 8:
            del data[at : at + int(rng.integers(1, 200))]
        case 9:
            return others[int(rng.integers(0, len(others)))]  # a file of another kind
        case 10:
            return (b"", b"\0", rng.bytes(300), b"\0" * 3000)[int(rng.integers(0, 4))]
    return bytes(data)


def crafted(rng: np.random.Generator) -> bytes:
    """A FLAME pickle whose arrays are well stored and make no sense."""
    arrays = flame_arrays(rng)
    name = sorted(arrays)[int(rng.integers(0, len(arrays)))]
    odd = (
        np.full((10, 3), np.nan),
        np.zeros((0, 3)),
        np.zeros((3, 3, 3)),
        np.int64(4),
        np.full((12, 3), 2**31),
        np.full((12, 3), -5),
        "text",
        None,
        [],
    )
    arrays[name] = odd[int(rng.integers(0, len(odd)))]
    if rng.random() < 0.5:
        matrix = sp.csc_matrix(rng.random((5, 10)))
        part = (matrix.indices, matrix.indptr)[int(rng.integers(0, 2))]
        part[int(rng.integers(0, len(part)))] = (2**31 - 1, -(2**31), 10**6, -1)[
            int(rng.integers(0, 4))
        ]
        arrays["J_regressor"] = matrix
    return pickle.dumps(arrays, int(rng.choice([2, 4])))


def odd_array(rng: np.random.Generator) -> object:
    """An array or tensor of some shape and type, not always a photograph."""
    shape = tuple(int(n) for n in rng.integers(0, 6, int(rng.integers(0, 5))))
    kind = ("?", "u1", "u2", "u4", "i1", "i8", "f2", "f4", "f8", "c8", "O", "U3", "M8[s]")
    dtype = np.dtype(kind[int(rng.integers(0, len(kind)))])
    if dtype.kind == "f":
        array = rng.random(shape).astype(dtype)
        if array.size and rng.random() < 0.3:
            array.flat[0] = (np.nan, np.inf, -1, 2)[int(rng.integers(0, 4))]
    else:
        array = np.zeros(shape, dtype)
    if rng.random() < 0.3 and dtype.kind in "fbui" and dtype.str not in ("<u4", "<u2"):
        return torch.from_numpy(array)
    return array[::-1] if array.ndim and rng.random() < 0.3 else array


def judge(error: Exception, errors: tuple[type[Exception], ...], name: str) -> str:
    """The outcome of a case that raised; Failure if it must not have."""
    if not isinstance(error, errors):
        raise Failure(f"{type(error).__name__}: {error}") from error
    message = str(error)
    if len(message.splitlines()) != 1:
        raise Failure(f"a message of {len(message.splitlines())} lines: {message!r}")
    if len(message) > 1000:
        raise Failure(f"a message of {len(message)} letters: {message[:200]!r}...")
    if name and name not in message and not isinstance(error, PickledError):
        raise Failure(f"the message does not name the file: {message!r}")
    return "refused"


def run_case(number: int, seed: int, known: list[Kind], folder: Path) -> tuple[str, str]:
    """One case; returns its kind and outcome."""
    rng = np.random.default_rng([seed, number])
    if number % 10 == 0:
        try:
            load_image(odd_array(rng))
        except Exception as error:
            return "array", judge(error, (ImageError,), "")
        return "array", "read"
    weights = np.array([kind.share for kind in known], float)
    kind = known[int(rng.choice(len(known), p=weights / weights.sum()))]
    content = damaged(kind.content, [other.content for other in known], rng)
    if kind.read is flame.read and rng.random() < 0.5:
        content = crafted(rng)
    if kind.name.endswith(".gz") and rng.random() < 0.5:
        content = gzip.compress(damaged(gzip.decompress(kind.content), [b"1"], rng))
    path = folder / f"{number}" / kind.name
    path.parent.mkdir()
    if kind.name == "a.json":
        path = path.parent / ".facerecon" / kind.name
        path.parent.mkdir()
    path.write_bytes(content)
    before = hashlib.sha256(content).digest()
    name = "" if kind.name == "list.xml" else kind.name
    try:
        kind.read(path)
        outcome = "read"
    except Exception as error:
        outcome = judge(error, kind.errors, name)
    if hashlib.sha256(path.read_bytes()).digest() != before:
        raise Failure("the file was changed")
    if len(list(path.parent.iterdir())) != 1:
        raise Failure("a file was left behind")
    return Path(kind.name).suffix, outcome


def _too_long(*_: object) -> None:
    raise Failure(f"took more than {SECONDS} s")


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case by its number, with its traceback")
    args = parser.parse_args(arguments)
    numbers = range(args.cases) if args.only is None else [args.only]
    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    signal.signal(signal.SIGALRM, _too_long)
    warnings.simplefilter("ignore")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        known = kinds(Path(folder))
        for number in numbers:
            print(number, file=sys.stderr, flush=True)  # the last one if the process dies
            signal.alarm(SECONDS)
            try:
                kind, outcome = run_case(number, args.seed, known, Path(folder))
                outcomes[f"{kind} {outcome}"] += 1
            except Failure as failure:
                if args.only is not None:
                    raise
                failures[number] = str(failure)[:300]
            finally:
                signal.alarm(0)
    seconds = round(time.monotonic() - start, 1)
    report = {"cases": len(numbers), "seconds": seconds, "failures": failures}
    print(json.dumps(report | {"outcomes": dict(sorted(outcomes.items()))}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
