"""Drawings that open the chapters: what the chapter is about, in boxes and arrows."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Polygon

from facerecon.views.diagrams import canvas, draw_arrow, draw_box, draw_picture

BLUE, ORANGE, GREEN, RED = "#cfe2f3", "#fce0b8", "#d5ead0", "#c03000"


class Drawing(Figure):
    """A figure that a notebook shows as vectors."""

    def _repr_svg_(self) -> str:
        data = io.StringIO()
        self.savefig(data, format="svg")
        return data.getvalue()


def _drawing(width: float, low: float, high: float) -> tuple[Drawing, object]:
    """A drawing of one axis that is `width` units wide, 8 inches on the page."""
    figure = Drawing(figsize=(8, 8 * (high - low) / width), dpi=100)
    FigureCanvasAgg(figure)
    axis = figure.add_axes([0, 0, 1, 1])
    canvas(axis, width, low, high)
    return figure, axis


def setup() -> Drawing:
    """Chapter 0: what a cell needs before it can run."""
    figure, axis = _drawing(6.4, -0.75, 0.45)
    boxes = {0.75: "this notebook", 2.4: "kernel: a Python", 4.05: "its packages", 5.65: "files"}
    for x, text in boxes.items():
        draw_box(axis, text, (x, 0.1), 1.15, BLUE if x < 1 else "white")
    for left, right, text in ((1.35, 1.8, "cells"), (3.0, 3.45, "import"), (4.65, 5.05, "load")):
        draw_arrow(axis, (left, 0.1), (right, 0.1), text, above=0.1)
    notes = {
        0.75: "text, code, pictures",
        2.4: "the menu “Kernel” chooses it;\na wrong one lacks packages",
        4.05: "facerecon, PyTorch,\nMatplotlib, ...",
        5.65: "morphable model,\nweights, a portrait",
    }
    for x, text in notes.items():
        axis.text(x, -0.14, text, ha="center", va="top", fontsize=9, color="0.3")
    return figure


def face_equation(pictures: Sequence[Float[np.ndarray, "..."]]) -> Drawing:
    """Chapter 1: average, identity, expression, their sum, and its picture from a turned camera.

    Args:
        pictures: of the average, of the average with the identity, with the expression, with
            both, and of both turned.
    """
    figure, axis = _drawing(8.2, -0.42, 1.5)
    titles = ["average face", "identity", "expression", "this person,\nsmiling", "in the picture"]
    below = [r"$\mu_S$", r"200 numbers $\alpha_{id}$", r"84 numbers $\alpha_{exp}$", "$S$", "$p$"]
    left = [0.05, 1.62, 3.19, 4.86, 7.0]
    for x, picture, title, text in zip(left, pictures, titles, below, strict=True):
        draw_picture(axis, picture, (x, 0.0), 1.15, title)
        axis.text(x + 0.57, -0.08, text, ha="center", va="top", fontsize=10)
    for x, sign in ((1.41, "+"), (2.98, "+"), (4.6, "=")):
        axis.text(x, 0.57, sign, ha="center", va="center", fontsize=18)
    draw_arrow(axis, (6.12, 0.57), (6.9, 0.57), "pose:\n6 numbers", above=0.24)
    axis.text(6.5, 0.42, "Eq. (2)", ha="center", va="top", fontsize=9, color="0.3")
    axis.text(3.2, -0.27, "Eq. (1)", ha="center", va="top", fontsize=9, color="0.3")
    return figure


def synthetic_photograph() -> Drawing:
    """Chapter 2: what is sampled, what becomes the label, and what the network sees."""
    figure, axis = _drawing(7.0, -1.05, 1.0)
    draw_box(axis, "random numbers\n(one seed)", (0.72, 0.0), 1.15, height=0.34)
    rows = {0.62: "identity, expression, pose", 0.2: "wrinkles", -0.2: "skin, hair, background"}
    rows[-0.62] = "light and camera"
    for y, text in rows.items():
        draw_box(axis, text, (2.75, y), 1.75, GREEN if y > 0.5 else BLUE)
        draw_arrow(axis, (1.35, 0.25 * y), (1.8, y))
        draw_arrow(axis, (3.7, y), (4.35, 0.12 * y))
    draw_box(axis, "renderer", (4.85, 0.0), 0.9, ORANGE)
    draw_arrow(axis, (5.35, 0.0), (5.75, 0.0))
    draw_box(axis, "photograph", (6.3, 0.0), 1.0, "white")
    draw_arrow(axis, (3.7, 0.7), (5.75, 0.7), "known by construction", above=0.1)
    draw_box(axis, r"label $r_{gt}$", (6.3, 0.7), 1.0, GREEN)
    axis.text(6.3, -0.2, "what the\nnetwork sees", ha="center", va="top", fontsize=9, color="0.3")
    return figure


def feedback_loop() -> Drawing:
    """Chapter 3: CoarseNet is applied to the photograph and to a picture of its last answer."""
    figure, axis = _drawing(6.8, -1.0, 0.75)
    draw_box(axis, "photograph", (0.72, 0.4), 1.1, BLUE)
    draw_box(axis, "PNCC, normals", (0.72, -0.15), 1.1, BLUE)
    draw_arrow(axis, (1.32, 0.4), (2.0, 0.2), "1 channel", above=0.13)
    draw_arrow(axis, (1.32, -0.15), (2.0, 0.06), "6 channels", above=-0.19)
    draw_box(axis, "network", (2.5, 0.13), 0.95, ORANGE)
    draw_arrow(axis, (3.02, 0.13), (3.7, 0.13), "answer", above=0.09)
    draw_box(axis, "new state $r_{t+1}$\n290 numbers", (4.45, 0.13), 1.4, GREEN, 0.34)
    draw_arrow(axis, (5.2, 0.13), (5.7, 0.13))
    axis.text(5.78, 0.13, "after the last\nstep: the face", va="center", fontsize=9)
    axis.plot([4.45, 4.45], [-0.07, -0.72], color="0.3")
    axis.plot([4.45, 3.4], [-0.72, -0.72], color="0.3")
    draw_box(axis, "renderer", (2.85, -0.72), 1.0, "white")
    axis.plot([2.3, 0.72], [-0.72, -0.72], color="0.3")
    draw_arrow(axis, (0.72, -0.73), (0.72, -0.29))
    axis.text(4.52, -0.5, "again, as the next $r_t$", va="center", fontsize=9, color="0.3")
    return figure


def forward_and_backward() -> Drawing:
    """Chapter 4: from the numbers to a pixel's depth, and the gradient's way back."""
    figure, axis = _drawing(7.4, -0.75, 0.85)
    boxes = {0.8: "290 numbers $r$", 2.75: "vertices $p_i$", 6.6: "criterion $E$"}
    for x, text in boxes.items():
        draw_box(axis, text, (x, 0.0), 1.25, GREEN if x < 1 else BLUE if x < 3 else ORANGE)
    corners, pixel = np.array([[4.25, -0.34], [5.25, -0.2], [4.6, 0.42]]), (4.68, -0.03)
    axis.add_patch(Polygon(corners, fc="#eef3f8", ec="0.4"))
    for i, (x, y) in enumerate(corners):
        axis.plot([x, pixel[0]], [y, pixel[1]], ":", color="0.5", lw=1)
        place = (x + (0.13 if i == 1 else -0.12), y)
        axis.text(*place, f"$z_{i}$", ha="center", va="center", fontsize=10)
    axis.plot(*pixel, "s", color="0.2", ms=7)
    axis.text(pixel[0] + 0.12, pixel[1] + 0.1, r"$\tilde z$", fontsize=11)
    ways = ((1.5, 2.05, "Eq. (5)"), (3.45, 4.05, "Eq. (6)"), (5.3, 5.9, "depth map"))
    for (left, right, text), back in zip(ways, ("by basis\nand $R$", "Eq. (7)", ""), strict=True):
        draw_arrow(axis, (left, 0.06), (right, 0.06), text, above=0.15)
        draw_arrow(axis, (right, -0.08), (left, -0.08), back, RED, above=-0.17)
    axis.text(3.7, 0.68, "forward: numbers become a depth map", ha="center", fontsize=10)
    text = "backward: each pixel says how its depth should change"
    axis.text(3.7, -0.68, text, ha="center", fontsize=10, color=RED)
    return figure


def light_times_albedo(
    albedo: Float[np.ndarray, "rows columns"],
    light: Float[np.ndarray, "rows columns"],
    other: Float[np.ndarray, "rows columns"],
) -> Drawing:
    """Chapter 5: one picture as two products, and the angle that makes the light.

    Args:
        albedo, light: of a face, white around it; their product is the picture.
        other: an albedo that gives the same picture under even light.
    """
    figure, axis = _drawing(8.2, -0.5, 3.15)
    rows = {1.75: (albedo, light), 0.1: (other, np.where(light < 1, 0.6, 1.0))}
    for low, (first, second) in rows.items():
        image = np.where(light < 1, albedo * light, 1.0)
        draw_picture(axis, first, (0.1, low), 1.15, "albedo")
        draw_picture(axis, second, (1.75, low), 1.15, "light")
        draw_picture(axis, image, (3.4, low), 1.15, "photograph")
        for x, sign in ((1.5, "×"), (3.15, "=")):
            axis.text(x, low + 0.55, sign, ha="center", va="center", fontsize=18)
    axis.text(2.3, -0.12, "the camera saw the same: which is it?", ha="center", va="top")
    turn, foot = np.deg2rad(np.array([110, 65, 30])), np.array([6.4, 0.75])
    slope = np.array([np.cos(turn[0] - np.pi / 2), np.sin(turn[0] - np.pi / 2)])
    axis.plot(*np.stack([foot - 1.2 * slope, foot + 1.2 * slope]).T, color="0.3", lw=3)
    names = ("normal $n$", "to the light $l$", "to the camera")
    for angle, name, color in zip(turn, names, ("0.2", RED, "0.5"), strict=True):
        end = foot + 1.3 * np.array([np.cos(angle), np.sin(angle)])
        draw_arrow(axis, tuple(foot), tuple(end), color=color, width=1.5)
        axis.text(end[0], end[1] + 0.12, name, ha="center", fontsize=10, color=color)
    axis.add_patch(Arc(foot, 1.1, 1.1, theta1=65, theta2=110, color=RED))
    axis.text(6.4, 1.42, r"$\theta$", color=RED, fontsize=11, ha="center")
    text = "a matt patch of skin: brightness is\nalbedo times " + r"$\cos\theta$, from any side"
    axis.text(6.4, 0.1, text, ha="center", va="top", fontsize=10)
    return figure


def two_detail_stages() -> Drawing:
    """Chapter 6: the paper's way from a coarse face to a detailed one, and ours."""
    figure, axis = _drawing(8.2, -1.75, 1.05)
    for y, name in ((0.55, "the paper"), (-0.75, "ours")):
        axis.text(0.05, y + 0.36, name, fontsize=11, weight="bold")
    draw_box(axis, "photograph,\ncoarse depth", (0.75, 0.55), 1.1, BLUE, 0.36)
    draw_arrow(axis, (1.35, 0.55), (1.85, 0.55))
    draw_box(axis, "FineNet", (2.35, 0.55), 0.9, ORANGE, 0.3)
    draw_arrow(axis, (2.85, 0.55), (5.95, 0.55))
    draw_box(axis, r"detailed depth $\hat z$", (6.75, 0.55), 1.5, GREEN, 0.3)
    draw_box(axis, "criterion, Eq. (14):\nlight, albedo", (4.4, -0.05), 1.6, "white", 0.36)
    draw_arrow(axis, (6.2, 0.36), (5.28, 0.05), color=RED)
    draw_arrow(axis, (3.52, 0.05), (2.6, 0.36), color=RED)
    axis.text(6.15, 0.0, "only in training:\nno true surface is needed", fontsize=9, va="center")
    draw_box(axis, "photograph,\ncoarse normals", (0.75, -0.75), 1.1, BLUE, 0.36)
    draw_arrow(axis, (1.35, -0.75), (1.85, -0.75))
    draw_box(axis, "NormalNet", (2.35, -0.75), 0.9, ORANGE, 0.3)
    draw_arrow(axis, (2.85, -0.75), (3.25, -0.75))
    draw_box(axis, "slopes,\ntheir error", (3.8, -0.75), 0.95, "white", 0.36)
    draw_arrow(axis, (4.32, -0.75), (4.7, -0.75))
    draw_box(axis, "shading step,\nintegration", (5.25, -0.75), 1.0, "white", 0.36)
    draw_arrow(axis, (5.8, -0.75), (5.95, -0.75))
    draw_box(axis, r"detailed depth $\hat z$", (6.75, -0.75), 1.5, GREEN, 0.3)
    draw_box(axis, "rendered faces:\ntrue normals", (3.8, -1.4), 1.3, "white", 0.36)
    draw_arrow(axis, (3.1, -1.35), (2.5, -0.94), color=RED)
    axis.text(4.6, -1.4, "only in training: each true normal is known", fontsize=9, va="center")
    return figure


def pipeline() -> Drawing:
    """Chapter 7: from the photograph to the mesh, and the gradients' way back."""
    figure, axis = _drawing(8.4, -0.95, 0.95)
    boxes = {
        0.6: ("photograph", 0.95, BLUE),
        1.85: ("crop,\n200 × 200", 0.9, BLUE),
        3.3: ("CoarseNet,\nfour times", 1.05, ORANGE),
        4.8: ("renderer:\ncoarse depth", 1.05, "white"),
        6.25: ("detail\nstage", 0.85, ORANGE),
        7.65: ("depth map,\nmesh", 1.0, GREEN),
    }
    for x, (text, width, color) in boxes.items():
        draw_box(axis, text, (x, 0.0), width, color, 0.36)
    ways = ((1.1, 1.35, ""), (2.33, 2.72, ""), (3.87, 4.22, "$r$"), (5.37, 5.77, "$z_0$"))
    for left, right, text in (*ways, (6.72, 7.1, r"$\hat z$")):
        draw_arrow(axis, (left, 0.0), (right, 0.0), text, above=0.12)
    draw_arrow(axis, (4.8, 0.2), (3.35, 0.2), bend=0.45, color="0.3")
    axis.text(4.05, 0.68, "PNCC and normals of the last answer", ha="center", fontsize=9)
    draw_arrow(axis, (1.85, -0.2), (6.2, -0.2), bend=0.16, color="0.6")
    axis.text(2.0, -0.55, "grey values", ha="center", fontsize=9, color="0.4")
    for start, end in (((7.6, -0.2), (6.35, -0.2)), ((6.2, -0.25), (3.3, -0.25))):
        draw_arrow(axis, start, end, bend=-0.22, color=RED)
    text = "in training: gradients of Eq. (14), through the renderer to both networks"
    axis.text(5.5, -0.85, text, ha="center", fontsize=9, color=RED)
    return figure


def depth_error(x: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> Drawing:
    """Chapter 8: a profile of a face, an estimate of it, and the three steps to an error.

    Args:
        x, truth: across the face and depth of a row of a scan, mm.
    """
    figure = Drawing(figsize=(8, 2.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, sharex=True)
    estimate = truth + 18 + 0.12 * (x - x.mean()) + 2.5 * np.cos(x / 9)
    common = (x > np.quantile(x, 0.12)) & (x < np.quantile(x, 0.85))
    seen = np.where(common, estimate, np.nan)
    shifted = seen - np.nanmedian(seen - truth)
    error = np.abs(shifted - truth)
    for axis, line, title in ((axes[0], estimate, "1 as delivered"), (axes[1], shifted, "")):
        axis.plot(x, truth, color="0.3", label="scan")
        axis.plot(x, line, color=RED, label="estimate")
        axis.set(title=title or "2 common pixels, median removed", ylabel="depth, mm")
    axes[2].fill_between(x, error, color="#fce0b8")
    for value, name in ((np.nanmean(error), "mean"), (np.nanquantile(error, 0.9), "90 %")):
        axes[2].axhline(value, color="0.3", ls="--", lw=1)
        axes[2].text(x[0], value, f" {name}", va="bottom", fontsize=9)
    axes[2].set(title="3 absolute error", ylabel="mm", ylim=(0, None))
    axes[0].legend(fontsize=9, loc="lower center")
    for axis in axes:
        axis.set(xlabel="across the face, mm")
        axis.title.set_fontsize(10)
    return figure
