"""Diagrams drawn from what runs: the layers of a network, and the gradients through both networks.

Shapes, parameter counts and norms are read off modules and tensors, so that a drawing cannot go
stale.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor, nn

COLORS = {
    "convolution": "#9ecae1",
    "up-convolution": "#a1d99b",
    "1x1 convolution": "#fdd0a2",
    "residual block": "#6baed6",
    "linear": "#fdae6b",
    "concatenation": "#d9d9d9",
}


class Slab(NamedTuple):
    """Where a layer was drawn: its left and right end, and half its height."""

    left: float
    right: float
    half: float

    @property
    def top(self) -> tuple[float, float]:
        """The middle of its upper edge."""
        return (self.left + self.right) / 2, self.half + 0.03


class TracedLayer(NamedTuple):
    """A layer as it ran.

    name: in the network. kind: of `COLORS`. shape: of the output, without the batch.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def trace(
    network: nn.Module, run: Callable[[], object], blocks: Sequence[type] = ()
) -> list[TracedLayer]:
    """The layers of a network in the order in which a call runs them.

    Args:
        run: calls the network.
        blocks: classes of modules that are one layer, whatever is inside.
    """
    found: list[TracedLayer] = []

    def hook(name: str, module: nn.Module) -> Callable:
        def note(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            count = sum(parameter.numel() for parameter in module.parameters())
            found.append(TracedLayer(name, _kind(module, blocks), tuple(output.shape[1:]), count))

        return note

    handles, inside = [], ""
    for name, module in network.named_modules():
        if inside and name.startswith(inside):
            continue
        if isinstance(module, tuple(blocks)):
            inside = f"{name}."
        if _kind(module, blocks):
            handles.append(module.register_forward_hook(hook(name, module)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def _kind(module: nn.Module, blocks: Sequence[type]) -> str:
    """Of `COLORS`; "" for what is not drawn: normalizations, rectifiers, containers."""
    if isinstance(module, tuple(blocks)):
        return "residual block"
    if isinstance(module, nn.ConvTranspose2d):
        return "up-convolution"
    if isinstance(module, nn.Conv2d):
        return "1x1 convolution" if module.kernel_size == (1, 1) else "convolution"
    return "linear" if isinstance(module, nn.Linear) else ""


def draw_layers(
    axis: Axes, layers: Sequence[TracedLayer], left: float = 0.0, unit: float = 1.0
) -> dict[str, Slab]:
    """Draw layers from left to right as slabs: as high as the map, as thick as it has channels.

    Args:
        left: where the first one begins.
        unit: height of a map of 200 pixels.

    Returns:
        Where each is, by name.
    """
    places = {}
    for layer in layers:
        size = layer.shape[1] if len(layer.shape) == 3 else 0
        channels = layer.shape[0]
        height = unit * max(size / 200, 0.12)
        width = 0.035 * np.log2(channels + 1)
        color = COLORS[layer.kind]
        for shift in (0.024, 0.012, 0.0) if channels > 1 else (0.0,):  # a pile of maps
            corner = (left + shift, shift - height / 2)
            axis.add_patch(Rectangle(corner, width, height, fc=color, ec="0.25", lw=0.6))
        shape = f"{channels} × {size}²" if size else f"{channels}"
        text = f"{layer.name}\n{shape}"
        middle = left + width / 2
        places[layer.name] = Slab(left, left + width, height / 2)
        axis.text(middle, -height / 2 - 0.03, text, rotation=90, ha="center", va="top", fontsize=8)
        left += width + 0.085
    return places


def draw_picture(
    axis: Axes,
    picture: Float[np.ndarray, "..."],
    corner: tuple[float, float],
    side: float,
    title: str = "",
) -> None:
    """A square picture in a diagram, its left lower corner in `corner`."""
    left, low = corner
    extent = (left, left + side, low, low + side)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, zorder=2)
    axis.add_patch(Rectangle(corner, side, side, fill=False, ec="0.4", lw=0.6, zorder=3))
    axis.text(left + side / 2, low + side + 0.02, title, ha="center", va="bottom", fontsize=8)


def draw_box(
    axis: Axes,
    text: str,
    center: tuple[float, float],
    width: float,
    color: str = "white",
    height: float = 0.22,
) -> None:
    """A rounded box with text."""
    x, y = center
    style = "round,pad=0.02"
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(FancyBboxPatch(corner, width, height, style, fc=color, ec="0.25", lw=0.8))
    axis.text(x, y, text, ha="center", va="center", fontsize=9)


def draw_arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    color: str = "0.3",
    width: float = 1.0,
    bend: float = 0.0,
    above: float = 0.04,
) -> None:
    """An arrow with a text at its middle; `bend` as Matplotlib's arc3 rad."""
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle="-|>",
        mutation_scale=9 + 2 * width,
        lw=width,
        color=color,
        connectionstyle=f"arc3,rad={bend}",
        shrinkA=0,
        shrinkB=0,
        zorder=4,
    )
    axis.add_patch(arrow)
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    # An arc bows to the right of its direction by half its rad times its length.
    x += bend * (end[1] - start[1]) / 2
    y -= bend * (end[0] - start[0]) / 2
    axis.text(x, y + above, text, ha="center", va="center", fontsize=8, color=color, zorder=5)


def canvas(axis: Axes, width: float, low: float, high: float) -> None:
    """Set a diagram's limits, without ticks and frame, one unit as wide as high."""
    axis.set(xlim=(0, width), ylim=(low, high), aspect="equal")
    axis.set_axis_off()
