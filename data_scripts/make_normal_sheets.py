"""Sheets of photographs: coarse face, NormalNet, NormalNet and shading, as clay.

python data_scripts/make_normal_sheets.py --out figures/normals   # of the package photographs
python data_scripts/make_normal_sheets.py --photos a.jpg b.jpg --sizes 400 --out runs/sheets
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facerecon.camera import pose_parameters, split
from facerecon.coarsenet import CoarseNet
from facerecon.depth import normals_from_depth
from facerecon.detection.detect import NoFaceError, detect_faces
from facerecon.detection.recrop import fit
from facerecon.evaluation.sheets import clay
from facerecon.imaging import load_image, square_crop, to_bytes, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.normalnet import NormalNet
from facerecon.pipeline import COARSE_SIZE
from facerecon.render import curved_surface
from facerecon.shading_refinement import ShadingRefinement
from facerecon.views.portraits import portraits
from facerecon.weights import load_coarsenet, load_normalnet

PANEL = 400


def clay_of(depth: torch.Tensor, mask: torch.Tensor, mm_per_pixel: torch.Tensor) -> np.ndarray:
    """A depth map as grey clay, PANEL wide."""
    picture = clay(normals_from_depth(depth, mm_per_pixel, mask), mask)[0, 0].numpy()
    shown = Image.fromarray(to_bytes(picture))
    return np.asarray(shown.resize((PANEL, PANEL), Image.Resampling.BILINEAR).convert("RGB"))


@torch.no_grad()
def row(
    photo: np.ndarray,
    model: MorphableModel,
    coarsenet: CoarseNet,
    network: NormalNet,
    sizes: list[int],
) -> np.ndarray:
    """Photograph, coarse surface; for each size what the network and the shading make of it."""
    box = detect_faces(photo)[0]
    square = square_crop(box.crop_box(), photo.shape[:2], COARSE_SIZE)
    steps, square = fit(coarsenet, model, photo, square)
    panels = [to_bytes(square.at(PANEL).cut(photo))]
    for size in sizes:
        rgb = square.at(size).cut(photo)
        grey = torch.from_numpy(to_grey(rgb))[None, None]
        color = torch.from_numpy(rgb).permute(2, 0, 1)[None]
        surface = curved_surface(model, steps[-1], size)
        pose = split(steps[-1], model.n_coefficients)[1]
        mm, mask = 1 / pose_parameters(pose, size).scale, surface.fragments.mask
        if size == sizes[0]:
            panels.append(clay_of(surface.depth, mask, mm))
        for shading in (None, ShadingRefinement()):
            found = NormalRefinement(model, network, shading)(grey, surface, mm, color)
            panels.append(clay_of(found.depth, mask, mm))
    return np.concatenate(panels, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, nargs="+", help="instead of the package photograph")
    parser.add_argument("--normals", type=Path, help="other NormalNet weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--out", type=Path, default=Path("figures") / "normals")
    arguments = parser.parse_args()
    photographs = portraits()
    if arguments.photos:
        photographs = {path.stem: load_image(path) for path in arguments.photos}
    known = MorphableModel.default(), load_coarsenet(), load_normalnet(arguments.normals)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, photo in photographs.items():
        try:
            sheet = Image.fromarray(row(photo, *known, arguments.sizes))
        except NoFaceError as error:
            print(f"{name}: {error}")
            continue
        sheet.save(arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
