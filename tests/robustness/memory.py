"""How much memory reconstructions take.

    python tests/robustness/memory.py many --count 200
    python tests/robustness/memory.py large

many: one process reconstructs photographs of different sizes and saves each face; the growth of its
memory after the first ten. large: a photograph of 77 megapixels; the process's peak. Prints a line
of JSON.
"""

import argparse
import io
import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data as photographs

from facerecon import Reconstructor
from facerecon.cli import main

WARM_UP = 10
LARGE = (11_000, 7_000)  # columns and rows


def resident_mb() -> float:
    """What the process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_gb() -> float:
    """The most that the process has held."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, else kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def many(count: int) -> dict[str, float]:
    """Reconstruct astronauts of different sizes, cut differently; save what comes out."""
    reconstructor = Reconstructor.from_pretrained()
    photo = Image.fromarray(photographs.astronaut())
    levels = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            side = 300 + 37 * (number % 11)
            face = reconstructor(photo.resize((side, side)))
            face.save(Path(folder) / f"face{('.ply', '.glb', '.obj')[number % 3]}")
            levels.append(resident_mb())
    after = levels[WARM_UP:]
    return {
        "reconstructions": count,
        "after_ten_mb": round(levels[WARM_UP - 1]),
        "last_mb": round(levels[-1]),
        "growth_mb": round(max(after) - levels[WARM_UP - 1]),
    }


def large() -> dict[str, float]:
    """The command on a photograph of 77 megapixels that a face fills."""
    data = io.BytesIO()
    photo = Image.fromarray(np.ascontiguousarray(photographs.astronaut()[:326, :512]))
    photo.resize(LARGE).save(data, format="JPEG", quality=90)
    del photo
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        path.write_bytes(data.getvalue())
        del data
        code = main(["reconstruct", str(path), "--out", folder])
    return {
        "exit_code": code,
        "megapixels": LARGE[0] * LARGE[1] / 1e6,
        "peak_gb": round(peak_gb(), 2),
    }


def measure() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("many", "large"))
    parser.add_argument("--count", type=int, default=200, help="reconstructions (default: 200)")
    args = parser.parse_args()
    found = many(args.count) if args.what == "many" else large()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    measure()
