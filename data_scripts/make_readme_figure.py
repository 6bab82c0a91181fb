"""Make figures/readme.jpg: photograph, coarse, detailed and textured face of two portraits.

    python data_scripts/make_readme_figure.py [--out figures/readme.jpg]

The portraits come with installed packages and are in the public domain: astronaut Eileen Collins
(NASA, in scikit-image) and Rear Admiral Grace Hopper (US Navy, in matplotlib).
"""

import argparse
from pathlib import Path

import numpy as np
import skimage
from matplotlib.cbook import get_sample_data

from facerecon import Reconstructor, detect_faces, load_image
from facerecon.files import jpeg, write_file
from facerecon.pipeline import COARSE_SIZE, FINE_SIZES
from facerecon.views.viz import aside_from, halved, mesh_normals, shaded, textured

PANEL = 280
"""Pixels of each of the eight pictures."""


def panels(photo: np.ndarray) -> list[np.ndarray]:
    """Crop, coarse, detailed, and textured surface of the largest face, turned; RGB in [0, 1]."""
    sharp = detect_faces(photo)[0].crop_box()[2] > COARSE_SIZE
    face = Reconstructor.from_pretrained(size=max(FINE_SIZES) if sharp else COARSE_SIZE)(photo)
    meshes = [(face.coarse_vertices, face.coarse_faces), (face.vertices, face.faces)]
    # As large as in the photograph; rendered at twice the size and averaged, for smooth outlines.
    width_mm = face.crop.side * face.mm_per_pixel
    views = [mesh_normals(*mesh, size=2 * PANEL, width_mm=width_mm) for mesh in meshes]
    clay = [np.repeat(halved(shaded(view))[..., None], 3, axis=2) for view in views]
    crop = np.clip(face.crop.at(PANEL).cut(face.image), 0, 1)
    return [crop, *clay, textured(face, PANEL, yaw=aside_from(face))]


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures/readme.jpg"))
    args = parser.parse_args()
    portraits = [
        skimage.data.astronaut(),
        get_sample_data("grace_hopper.jpg", asfileobj=False),
    ]
    rows = [np.concatenate(panels(load_image(each)), axis=1) for each in portraits]
    write_file(args.out, jpeg(np.concatenate(rows)))
    print(f"wrote {args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
