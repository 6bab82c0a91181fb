"""Render the default model: eight random people and twelve expressions, as sheets of pictures.

    python data_scripts/make_model_sheets.py [--model FILE] [--out figures/morphable_model]

People: from the front, from the side, and with skin. Expressions: of the mean face.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facerecon.camera import rotation_matrix
from facerecon.imaging import to_bytes
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate, rasterize
from facerecon.views.viz import mesh_normals, shaded

SEED = 8
PANEL, FINER = 200, 2  # pixels of a picture; rendered FINER times larger and averaged
WIDTH_MM = 225.0
COLORS = 256  # of the PNG: a palette keeps it small, dithering keeps skin smooth
PEOPLE = 8
EXPRESSIONS = (
    {"jawOpen": 0.7}, {"mouthSmile": 0.8}, {"mouthSmile": 0.9, "jawOpen": 0.35, "cheekSquint": 0.6},
    {"mouthFrown": 0.9, "browInnerUp": 0.6}, {"browDown": 0.9, "noseSneer": 0.7},
    {"eyeBlink": 1.0}, {"eyeWide": 0.8, "browInnerUp": 0.8, "jawOpen": 0.4}, {"mouthPucker": 0.9},
    {"mouthStretch": 0.8, "jawOpen": 0.3}, {"mouthUpperUp": 0.7, "mouthLowerDown": 0.6},
    {"jawLeft": 0.8}, {"cheekPuff": 0.9},
)  # fmt: skip
Picture = np.ndarray  # (PANEL, PANEL, 3) in [0, 1]


def smaller(picture: np.ndarray) -> Picture:
    """Average blocks of FINER x FINER pixels of a grey or colored picture."""
    blocks = picture.reshape(PANEL, FINER, PANEL, FINER, -1).mean(axis=(1, 3))
    return np.broadcast_to(blocks, (PANEL, PANEL, 3))


def relief(model: MorphableModel, vertices: torch.Tensor, yaw: float = 0.0) -> Picture:
    """A shaded grey surface."""
    faces = model.triangles.numpy()
    return smaller(
        shaded(mesh_normals(vertices.numpy(), faces, FINER * PANEL, yaw=yaw, width_mm=WIDTH_MM))
    )


def colored(
    model: MorphableModel, vertices: torch.Tensor, albedo: torch.Tensor, yaw: float
) -> Picture:
    """Albedo (v, 3) under the light of `shaded`."""
    size, triangles = FINER * PANEL, model.triangles
    turn = rotation_matrix(torch.deg2rad(torch.tensor([[0.0, yaw, 0.0]])))
    points = vertices[None] @ turn.transpose(1, 2)
    pixels = points * (size / WIDTH_MM) * points.new_tensor([1, -1, 1])
    pixels[..., :2] += (size - 1) / 2
    fragments = rasterize(pixels, triangles, size, size)
    both = torch.cat([vertex_normals(points, triangles), albedo[None]], 2)
    maps = interpolate(both, fragments, triangles)[0].permute(1, 2, 0).numpy()
    light = shaded(maps[..., :3])[..., None]
    seen = fragments.mask[0, 0].numpy()[..., None]
    return smaller(np.where(seen, np.clip(1.6 * maps[..., 3:] * light, 0, 1), 1.0))


def activated(model: MorphableModel, units: dict[str, float]) -> torch.Tensor:
    """(1, coefficients) of an expression on the mean face; names without side move both sides."""
    coefficients = torch.zeros(1, model.n_coefficients)
    for name, activation in units.items():
        for index, full in enumerate(model.expression_names):
            if full in (name, f"{name}Left", f"{name}Right"):
                coefficients[0, model.n_identity + index] = activation / model.expression_std[index]
    return coefficients


def write(path: Path, rows: list[list[Picture]]) -> None:
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    picture = Image.fromarray(to_bytes(sheet))
    palette = picture.quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    picture = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    picture.save(path, optimize=True)
    print(f"wrote {path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write both sheets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="model file (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("figures/morphable_model"))
    args = parser.parse_args()
    model = MorphableModel.load(args.model) if args.model else MorphableModel.default()
    args.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(SEED)

    people = model.sample(PEOPLE, generator)
    people[:, model.n_identity :] = 0
    shapes = model.vertices(people)
    skins = model.albedo(torch.randn(PEOPLE, model.n_albedo, generator=generator)).clamp(0, 1)
    write(
        args.out / "sheet_identities.png",
        [
            [relief(model, shape) for shape in shapes],
            [relief(model, shape, yaw=-50.0) for shape in shapes],
            [colored(model, *pair, yaw=25.0) for pair in zip(shapes, skins, strict=True)],
        ],
    )

    faces = [model.vertices(activated(model, units))[0] for units in EXPRESSIONS]
    half = len(faces) // 2
    pictures = [relief(model, face, yaw=-15.0) for face in faces]
    write(args.out / "sheet_expressions.png", [pictures[:half], pictures[half:]])


if __name__ == "__main__":
    main()
