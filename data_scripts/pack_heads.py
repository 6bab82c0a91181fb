"""Pack ICT-FaceKit's heads for the benchmark: `pack_heads.py ict_facekit.npz`.

Writes src/facerecon/assets/ict_heads.npz. Displacements become 8-bit numbers, each unit with a
scale of its own; prints how far they are off at most. Expressions that `load_heads` leaves out are
left out.
"""

import argparse
import io
from pathlib import Path

import numpy as np

from facerecon.evaluation.heads.models import LEFT_OUT
from facerecon.files import write_file
from facerecon.weights import shipped

KEPT = (
    "mean",
    "faces",
    "landmarks68",
    "face_vertices",
    "narrow_face_vertices",
)


def quantized(units: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(n, v, 3) displacements as int8, their scales (n,) in mm, and the largest error in mm."""
    units = units.astype(np.float32)
    scale = np.abs(units).max(axis=(1, 2)) / 127
    packed = np.round(units / scale[:, None, None]).astype(np.int8)
    return packed, scale, float(np.abs(packed * scale[:, None, None] - units).max())


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path, help="ICT-FaceKit packed as .npz")
    parser.add_argument("--out", type=Path, default=shipped("ict_heads.npz"))
    args = parser.parse_args()
    with np.load(args.heads, allow_pickle=False) as file:
        arrays = {name: file[name] for name in KEPT}
        names = file["expression_names"]
        used = [i for i, name in enumerate(names) if not str(name).startswith(LEFT_OUT)]
        arrays["expression_names"] = names[used]
        units = {"identity": file["identity"], "expression": file["expression"][used]}
        for name, values in units.items():
            arrays[name], arrays[f"{name}_scale"], error = quantized(values)
            print(f"{name}: off by at most {error:.3f} mm")
    arrays["faces"] = arrays["faces"].astype(np.uint16)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_file(args.out, data.getvalue())
    print(f"{args.out}: {len(data.getvalue()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
