"""Make figures/synthetic/{photos,grey,layers,sparse}.png: random faces of the synthetic world.

python data_scripts/make_synthetic_sheet.py [--seed 11] [--out figures/synthetic]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facerecon.imaging import to_bytes
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticFaces, SyntheticWorld
from facerecon.training.presets import SPARSE_WORLD, SyntheticConfig

COLUMNS, ROWS = 8, 4
PANEL = 144
"""Pixels of a photograph on the sheets."""

COLORS = 256
"""Of the PNG's palette, which with dithering keeps it small and the skin smooth."""


def tiles(images: Tensor, columns: int) -> np.ndarray:
    """(N, C, S, S) in [0, 1] as one picture, row by row, uint8."""
    n, channels, size = images.shape[:3]
    grid = images.expand(-1, 3, -1, -1) if channels == 1 else images
    grid = grid.reshape(n // columns, columns, 3, size, size).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(n // columns * size, columns * size, 3)
    return to_bytes(grid.numpy())


def layers(faces: SyntheticFaces) -> Tensor:
    """Per face: albedo, shading, cast shadow, coarse and fine normals, fine depth, photograph."""
    mask = faces.rendering.mask
    depth = faces.fine_depth
    near = torch.where(mask, depth, -torch.inf).amax((2, 3), keepdim=True)
    far = torch.where(mask, depth, torch.inf).amin((2, 3), keepdim=True)
    colors = [(n + 1) / 2 * mask for n in (faces.rendering.normals, faces.fine_normals)]
    panels = [
        faces.albedo,
        faces.shading * 0.6,
        faces.shadow * mask,
        *colors,
        (depth - far) / (near - far) * mask,
        faces.image,
    ]
    return torch.stack([panel.expand(-1, 3, -1, -1) for panel in panels], 1).flatten(0, 1)


def shrunk(images: Tensor) -> Tensor:
    """Photographs in the size of the sheets."""
    return torch.nn.functional.interpolate(
        images, size=(PANEL, PANEL), mode="bilinear", antialias=True
    )


def save(picture: np.ndarray, path: Path) -> None:
    """Write a PNG with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    palette = image.quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"wrote {path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write the four sheets; the last is of the world that CoarseNet's preset cpu trains in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("figures/synthetic"))
    args = parser.parse_args()
    model = MorphableModel.default()
    with torch.no_grad():
        world = SyntheticWorld(model, SyntheticConfig(size=200))
        for name, color in (("photos", True), ("grey", False)):
            faces = world.render(COLUMNS * ROWS, world.generator(args.seed), color=color)
            save(tiles(shrunk(faces.image), COLUMNS), args.out / f"{name}.png")
        faces = world.render(4, world.generator(args.seed + 1), color=True)
        save(tiles(layers(faces), 7), args.out / "layers.png")
        world = SyntheticWorld(model, SPARSE_WORLD)
        faces = world.render(COLUMNS * ROWS, world.generator(args.seed))
        save(tiles(shrunk(faces.image), COLUMNS), args.out / "sparse.png")


if __name__ == "__main__":
    main()
