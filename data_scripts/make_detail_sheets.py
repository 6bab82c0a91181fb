"""Sheets of photographs: coarse face, FineNet's and NormalNet's, as the meshes that are exported.

python data_scripts/make_detail_sheets.py                           # figures/detail/NAME.png
python data_scripts/make_detail_sheets.py --photos FOLDER/*.jpg --sizes 200 --out runs/sheets
python data_scripts/make_detail_sheets.py --portraits DATA          # figures/detail/portraits.jpg
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facerecon.detection.detect import NoFaceError
from facerecon.evaluation.sheets import clay
from facerecon.imaging import load_image, to_bytes
from facerecon.pipeline import ReconstructionError, Reconstructor, SmallFaceWarning
from facerecon.rasterize import interpolate, rasterize
from facerecon.reconstruction import Reconstruction
from facerecon.views.portraits import portraits

PORTRAITS = {
    "old": [
        f"photos/{name}.jpg" for name in ("0054", "0072", "0086", "0093", "0099", "0106", "0127")
    ]
    + ["portraits/interfaces/062.jpg"],
    "dark skin": [
        f"portraits/interfaces/{name}.jpg" for name in ("006", "025", "051", "057", "071", "073")
    ]
    + ["photos/1233.jpg", "photos/1261.jpg"],
    "glasses": [f"portraits/interfaces/{name}.jpg" for name in ("050", "067", "082")]
    + ["photos/0121.jpg"],
    "turned": [f"portraits/interfaces/{name}.jpg" for name in ("018", "054", "063")]
    + ["photos/0136.jpg"],
}
"""Chosen by the photographs alone: SFHQ's people (MIT), who do not exist, and inter-faces (CC0)."""

ROWS_BESIDE = 2  # portraits in a row of their sheet


def mesh_picture(face: Reconstruction, panel: int) -> np.ndarray:
    """The exported mesh as clay, on the crop's pixels."""
    mesh = face.mesh(textured=False)
    column, row = face.uv[:, 0] * panel - 0.5, (1 - face.uv[:, 1]) * panel - 0.5
    depth = face.vertices[:, 2] * panel / (face.crop.side * face.mm_per_pixel)
    placed = torch.from_numpy(np.stack([column, row, depth], axis=1).astype(np.float32))[None]
    triangles = torch.from_numpy(np.asarray(face.faces))
    fragments = rasterize(placed, triangles, panel, panel)
    normals = torch.from_numpy(np.array(mesh.vertex_normals, dtype=np.float32))[None]
    shown = torch.nn.functional.normalize(interpolate(normals, fragments, triangles), dim=1)
    picture = clay(shown, fragments.mask)[0, 0].numpy()
    return np.repeat(picture[..., None], 3, axis=2)


def row(photo: np.ndarray, reconstructors: list[Reconstructor], panel: int) -> np.ndarray:
    """Photograph and meshes side by side; blank where a face cannot be reconstructed."""
    panels, crop = [], np.ones((panel, panel, 3))
    for reconstructor in reconstructors:
        try:
            face = reconstructor(photo)
        except (NoFaceError, ReconstructionError) as error:
            print(error)
            panels.append(np.ones((panel, panel, 3)))
            continue
        crop = face.crop.at(panel).cut(face.image)
        panels.append(mesh_picture(face, panel))
    return np.concatenate([crop, *panels], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures") / "detail")
    parser.add_argument("--photos", type=Path, nargs="+", help="instead of the package photographs")
    parser.add_argument(
        "--portraits", type=Path, help="folder with photos/ and portraits/: one sheet"
    )
    parser.add_argument("--normals", type=Path, help="other NormalNet weights")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--panel", type=int, default=400, help="pixels")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SmallFaceWarning)
    reconstructors = [Reconstructor.from_pretrained(refine=None)]
    for size in arguments.sizes:
        reconstructors.append(Reconstructor.from_pretrained(size=size, refine="finenet"))
        reconstructors.append(
            Reconstructor.from_pretrained(fine=arguments.normals, size=size, refine="normals")
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.portraits:
        paths = [arguments.portraits / name for kind in PORTRAITS.values() for name in kind]
        rows = [row(load_image(path), reconstructors, arguments.panel) for path in paths]
        lines = [
            np.concatenate(rows[at : at + ROWS_BESIDE], axis=1)
            for at in range(0, len(rows), ROWS_BESIDE)
        ]
        sheet = Image.fromarray(to_bytes(np.concatenate(lines)))
        sheet.save(arguments.out / "portraits.jpg", quality=85)
        return
    photographs = portraits()
    if arguments.photos:
        photographs = {path.stem: load_image(path) for path in arguments.photos}
    for name, photo in photographs.items():
        sheet = Image.fromarray(to_bytes(row(photo, reconstructors, arguments.panel)))
        sheet.save(arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
