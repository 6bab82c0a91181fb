"""Make figures/readme.png: photograph, coarse and detailed face of two portraits, side by side.

    python data_scripts/make_readme_figure.py [--out figures/readme.png]

The portraits come with installed packages and are in the public domain: astronaut Eileen Collins
(NASA, in scikit-image) and Rear Admiral Grace Hopper (US Navy, in matplotlib).
"""

import argparse
from pathlib import Path

import numpy as np
import skimage
from matplotlib.cbook import get_sample_data
from PIL import Image

from facerecon import Reconstructor, detect_faces, load_image
from facerecon.imaging import to_bytes
from facerecon.pipeline import COARSE_SIZE, FINE_SIZES
from facerecon.views.viz import mesh_normals, shaded

PANEL = 280
"""Pixels of each of the six pictures."""

COLORS = 256
"""Of the PNG: a palette keeps it small, and grey surfaces need no more."""


def panels(photo: np.ndarray) -> list[np.ndarray]:
    """Crop, coarse and detailed surface of the largest face, (PANEL, PANEL, 3) each in [0, 1]."""
    sharp = detect_faces(photo)[0].crop_box()[2] > COARSE_SIZE
    face = Reconstructor.from_pretrained(size=max(FINE_SIZES) if sharp else COARSE_SIZE)(photo)
    meshes = [(face.coarse_vertices, face.coarse_faces), (face.vertices, face.faces)]
    # As large as in the photograph; rendered at twice the size and averaged, for smooth outlines.
    width_mm = face.crop.side * face.mm_per_pixel
    surfaces = [shaded(mesh_normals(*mesh, size=2 * PANEL, width_mm=width_mm)) for mesh in meshes]
    means = [s.reshape(PANEL, 2, PANEL, 2).mean(axis=(1, 3)) for s in surfaces]
    crop = np.clip(face.crop.at(PANEL).cut(face.image), 0, 1)
    return [crop, *(np.repeat(mean[..., None], 3, axis=2) for mean in means)]


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures/readme.png"))
    args = parser.parse_args()
    portraits = [
        skimage.data.astronaut(),
        get_sample_data("grace_hopper.jpg", asfileobj=False),
    ]
    row = np.concatenate([p for each in portraits for p in panels(load_image(each))], axis=1)
    picture = Image.fromarray(to_bytes(row)).quantize(COLORS)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.out, optimize=True)
    print(f"wrote {args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
