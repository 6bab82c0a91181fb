"""Sheets of the package photographs: coarse and fine surface at 200 and 400 pixels.

python data_scripts/make_detail_sheets.py                       # figures/detail/NAME.png
python data_scripts/make_detail_sheets.py --photos FOLDER --list names.txt --out runs/sheets
"""

import argparse
from pathlib import Path

import matplotlib.cbook
import numpy as np
import skimage.data
import torch
from PIL import Image

from facerecon.depth import normals_from_depth
from facerecon.detection.detect import NoFaceError
from facerecon.evaluation.sheets import clay
from facerecon.imaging import load_image, to_bytes
from facerecon.pipeline import ReconstructionError, Reconstructor
from facerecon.reconstruction import Reconstruction

PANEL = 400


def package_photographs() -> dict[str, np.ndarray]:
    """The two photographs that come with our dependencies."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.array(Image.open(file).convert("RGB"))
    return {"astronaut": skimage.data.astronaut(), "grace_hopper": hopper}


def surface(face: Reconstruction, depth: np.ndarray) -> np.ndarray:
    """The crop of a depth map on the photograph's pixels as clay, PANEL wide."""
    known = np.isfinite(depth)
    maps = torch.from_numpy(np.where(known, depth, 0.0).astype(np.float32))[None, None]
    mask = torch.from_numpy(known)[None, None]
    normals = normals_from_depth(maps, torch.tensor([face.mm_per_pixel]), mask)
    picture = clay(normals, mask)[0, 0].numpy()
    return face.crop.at(PANEL).cut(np.repeat(picture[..., None], 3, axis=2))


def sheet(photo: np.ndarray, by_size: dict[int, Reconstructor]) -> Image.Image:
    """Photograph, coarse surface, fine surface of each size (blank where the face is too small)."""
    panels = []
    for reconstructor in by_size.values():
        try:
            face = reconstructor(photo)
        except ReconstructionError:
            panels.append(np.ones((PANEL, PANEL, 3)))
            continue
        if not panels:
            crop = face.crop.at(PANEL).cut(face.image)
            panels = [crop, surface(face, face.coarse_depth_mm)]
        panels.append(surface(face, face.depth_mm))
    row = np.concatenate(panels, axis=1)
    return Image.fromarray(to_bytes(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures") / "detail")
    parser.add_argument("--photos", type=Path, help="folder, instead of the package photographs")
    parser.add_argument("--list", type=Path, help="names in that folder, one a line")
    parser.add_argument("--fine", type=Path, help="other FineNet weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 400])
    arguments = parser.parse_args()
    photographs = package_photographs()
    if arguments.photos:
        names = arguments.list.read_text().split()
        photographs = {Path(name).stem: load_image(arguments.photos / name) for name in names}
    by_size = {
        size: Reconstructor.from_pretrained(fine=arguments.fine, size=size)
        for size in arguments.sizes
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, photo in photographs.items():
        try:
            sheet(photo, by_size).save(arguments.out / f"{name}.png")
        except NoFaceError as error:
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
