"""Figures of a data report: histograms and power spectra."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from facerecon.realism.statistics import OCTAVES, power_spectrum

PHOTOGRAPHS, SYNTHETIC = "#3b6fb6", "#d1701f"


def histograms(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Up to six statistics: their values in photographs and in synthetic images, overlaid."""
    figure = Figure(figsize=(12, 6.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3, squeeze=False).ravel()
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    for axis, (name, (real, synthetic)) in zip(axes, pairs.items(), strict=False):
        # Rare extremes would squeeze everything else into one bar; they count in the outer bars.
        low, high = np.quantile(np.concatenate([real, synthetic]), [0.005, 0.995])
        edges = np.linspace(low, high if high > low else low + 1, 41)
        for values, color, label in (
            (real, PHOTOGRAPHS, "photographs"),
            (synthetic, SYNTHETIC, "synthetic"),
        ):
            weights = np.full(len(values), 1 / len(values))
            clipped = values.clip(edges[0], edges[-1])
            axis.hist(clipped, edges, weights=weights, color=color, alpha=0.55, label=label)
        axis.set(title=name, ylabel="share of images")
    axes[0].legend()
    return figure


def spectra(
    real: Float[np.ndarray, "photos size size"], synthetic: Float[np.ndarray, "faces size size"]
) -> Figure:
    """Radially averaged power spectra of whole crops: median image and middle 80 %."""
    figure = Figure(figsize=(7, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    edges = np.geomspace(2 / real.shape[1], OCTAVES[-1], 20)  # no narrower than a Fourier cell
    for images, color, label in (
        (real, PHOTOGRAPHS, "photographs"),
        (synthetic, SYNTHETIC, "synthetic"),
    ):
        curves = np.array([_radial(image, edges) for image in images])
        low, median, high = np.nanquantile(curves, [0.1, 0.5, 0.9], axis=0)
        middle = np.sqrt(edges[1:] * edges[:-1])
        axis.fill_between(middle, low, high, color=color, alpha=0.2, linewidth=0)
        axis.plot(middle, median, color=color, label=label)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="spatial frequency, cycles per pixel",
        ylabel="power (white noise: its variance)",
        title="Power spectra: median and middle 80 % of the images",
    )
    axis.legend()
    return figure


def _radial(
    image: Float[np.ndarray, "size size"], edges: Float[np.ndarray, " edges"]
) -> Float[np.ndarray, " bins"]:
    frequency, power = power_spectrum(image.astype(np.float64))
    place = np.digitize(frequency, edges) - 1
    used = (place >= 0) & (place < len(edges) - 1)
    count = np.bincount(place[used], minlength=len(edges) - 1)
    total = np.bincount(place[used], power[used], len(edges) - 1)
    return total[count > 0] / count[count > 0]
