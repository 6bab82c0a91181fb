"""The compared methods side by side: figures/methods/compared.png, and seconds per photograph.

    python data_scripts/make_methods_figure.py BENCH [--scans 90001d1,90003d1] [--methods LIST]

BENCH is what `facerecon bench write` made. Every depth map is shaded by the same lamp; the numbers
are mean errors in mm on the pixels that all methods and the scan share.
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

from facerecon.depth import normals_from_depth
from facerecon.methods.registry import MethodSettings, build_method, method_names
from facerecon.scans.frgc import find_frgc, read_frgc
from facerecon.scans.protocol import score
from facerecon.scans.scan import mm_per_pixel

LAMP = np.array([0.35, 0.4, 0.85])


def shaded(depth: np.ndarray, mm: float) -> np.ndarray:
    """A depth map under one lamp, white where there is none."""
    mask = np.isfinite(depth)
    maps = torch.from_numpy(np.where(mask, depth, 0)).float()[None, None]
    normals = normals_from_depth(maps, torch.tensor([mm]), torch.from_numpy(mask)[None, None])
    light = np.tensordot(LAMP / np.linalg.norm(LAMP), normals[0].numpy(), 1).clip(0, 1)
    return np.where(mask, 0.12 + 0.8 * light, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", type=Path)
    parser.add_argument("--scans", default="90001d1,90002d1,90004d1")
    parser.add_argument("--methods", default=",".join(method_names()))
    parser.add_argument("--out", type=Path, default=Path("figures/methods/compared.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    names, wanted = args.methods.split(","), args.scans.split(",")
    scans = [read_frgc(f) for f in find_frgc(args.bench) if f.name in wanted]
    size = (len(names) + 2, len(scans))
    fig, axes = plt.subplots(*size[::-1], figsize=(1.55 * size[0], 2.1 * size[1]), squeeze=False)
    seconds = {name: [] for name in names}
    for row, scan in zip(axes, scans, strict=True):
        estimates = {}
        for name in names:
            method, began = build_method(name, MethodSettings()), time.process_time()
            estimates[name] = method(scan.image)
            seconds[name].append(time.process_time() - began)
        scores = score(scan, estimates)
        face = np.any([np.isfinite(e.depth_mm) for e in estimates.values()], axis=0)
        rows, columns = np.nonzero(face)
        part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        pictures = [
            scan.image[part],
            shaded(scan.depth_mm[part], mm_per_pixel(scan.points, scan.mask)),
        ]
        titles = ["photograph", "scan"]
        for name, estimate in estimates.items():
            pictures.append(shaded(estimate.depth_mm[part], estimate.mm_per_pixel))
            titles.append(f"{name}\n{scores[name].mean:.2f}")
        for axis, picture, title in zip(row, pictures, titles, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, fontsize=6)
            axis.axis("off")
    fig.tight_layout(pad=0.3)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(args.out, dpi=90)
    for name, values in seconds.items():
        print(f"{name}: {np.median(values):.2f} s of processor time")


if __name__ == "__main__":
    main()
