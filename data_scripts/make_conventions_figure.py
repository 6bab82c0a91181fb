"""Make docs/conventions.png: the camera frame, the pixel grid, and what a pixel sees.

python data_scripts/make_conventions_figure.py [--out docs/conventions.png]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from facerecon.camera import CROP_MM
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import rasterize
from facerecon.views.viz import mesh_normals, shaded

RED, GREEN, BLUE = "#c62828", "#2e7d32", "#1565c0"


def arrow(axis: Axes, start: tuple, end: tuple, color: str, text: str, place: tuple) -> None:
    """A labeled arrow."""
    style = {"arrowstyle": "-|>", "color": color, "lw": 2}
    axis.annotate("", end, start, arrowprops=style)
    axis.text(*place, text, color=color, ha="center", va="center", fontsize=10)


def frame(axes: list[Axes], model: MorphableModel) -> None:
    """The camera frame on a face: from the front, and from its side."""
    vertices, triangles = model.mean.numpy(), model.triangles.numpy()
    for axis, yaw in zip(axes, (0, 90), strict=True):
        axis.imshow(shaded(mesh_normals(vertices, triangles, 300, yaw)), cmap="gray", vmin=-0.6)
        axis.set(xlim=(-30, 330), ylim=(330, -30))
        axis.set_axis_off()
    front, side = axes
    arrow(front, (150, 150), (310, 150), RED, "x", (322, 150))
    arrow(front, (150, 150), (150, -10), GREEN, "y", (150, -22))
    front.plot(150, 150, "o", color=BLUE)
    front.text(165, 168, "z towards you", color=BLUE, fontsize=10)
    front.set_title("camera frame, from the viewer", fontsize=10)
    # The picture turns about the middle of the depths, which is not the origin.
    origin = 150 - (vertices[:, 2].min() + vertices[:, 2].max()) / 2 * 300 / CROP_MM
    arrow(side, (origin, 150), (310, 150), BLUE, "z", (322, 150))
    arrow(side, (origin, 150), (origin, -10), GREEN, "y", (origin, -22))
    side.text(282, 135, "nearer", color=BLUE, fontsize=10, ha="center")
    side.text(318, 190, "viewer", fontsize=10, ha="center")
    side.set_title("the same, from the side", fontsize=10)


def grid(axis: Axes) -> None:
    """The pixel grid with one triangle and the pixels that belong to it."""
    corners = torch.tensor([[[0.8, 4.4, 0.0], [6.0, 3.0, 0.0], [2.3, 0.7, 0.0]]])
    height, width = 6, 8
    fragments = rasterize(corners, torch.tensor([[0, 1, 2]]), height, width)
    axis.imshow(fragments.mask[0, 0], cmap="Blues", vmax=2.5)
    axis.set_xticks(np.arange(-0.5, width), minor=True)
    axis.set_yticks(np.arange(-0.5, height), minor=True)
    axis.grid(which="minor", color="0.75", lw=0.8)
    axis.tick_params(which="minor", length=0)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    axis.plot(column, row, ".", color="0.35", ms=3)
    axis.fill(*corners[0, :, :2].T, fill=False, ec=RED, lw=1.8)
    for (x, y, _), name, shift in zip(
        corners[0].tolist(), "012", ((-0.3, 0.15), (0.3, 0.1), (0.0, -0.35)), strict=True
    ):
        axis.text(x + shift[0], y + shift[1], name, color=RED, ha="center", va="center")
    axis.set(xticks=range(width), yticks=range(height), xlabel="column", ylabel="row")
    axis.xaxis.set_label_position("top")
    axis.xaxis.tick_top()
    axis.set_title("pixel grid: a front face, and its pixels", fontsize=10, pad=8)


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/conventions.png"))
    options = parser.parse_args()
    widths = {"width_ratios": [1, 1, 1.25]}
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", gridspec_kw=widths)
    frame(list(axes[:2]), MorphableModel.default())
    grid(axes[2])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=80, bbox_inches="tight")
    print(f"wrote {options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
