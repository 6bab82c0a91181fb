"""Numbers that describe a face crop: its grey levels, edges, noise, spectrum and light.

Every statistic is one number per image. Those of scale (variances, energies) are decadic
logarithms, so that distances between their distributions are not ruled by a few extreme images.
"""

import numpy as np
from jaxtyping import Bool, Float

ELLIPSE = (0.28, 0.38)
"""Half width and half height, in crop widths, of the ellipse that shows little but a face.

60 by 81 mm of a mean head, centered 17 mm below the middle of the eyes (docs/conventions.md).
"""

OCTAVES = tuple(2.0**-k for k in range(7, 0, -1))
"""Edges of the bands of spatial frequency, cycles per pixel; 1/2 is the finest there is."""

_EYES = ((-0.15, -0.08), (0.15, -0.08), (0.09, 0.045))  # two centers, half sizes; crop widths
_CHEEKS = ((-0.15, 0.08), (0.15, 0.08), (0.06, 0.05))
_DARKEST, _BRIGHTEST = 1.5 / 255, 253.5 / 255  # outside of these, 8 bits have run out
_FLOOR = 1e-8  # of energies: a hundredth of an 8-bit image's quantization noise
_FEW = 1e-3  # of shares: fewer pixels are not seen
_SMALLER = 0.5149  # mean of the smaller three quarters of |N(0, 1)|; the larger ones are edges


def image_statistics(
    images: Float[np.ndarray, "images size size"],
) -> dict[str, Float[np.ndarray, " images"]]:
    """All statistics by name, those of the face's ellipse (`face_`) and of the crop (`crop_`).

    Args:
        images: grey face crops in [0, 1].
    """
    rows = [_one(image.astype(np.float64)) for image in images]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def face_ellipse(size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels of a crop that show little but a face."""
    x, y = _crop_widths(size)
    return (x / ELLIPSE[0]) ** 2 + (y / ELLIPSE[1]) ** 2 <= 1


def power_spectrum(
    image: Float[np.ndarray, "height width"],
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """Frequency (cycles per pixel) and power of every Fourier cell but the mean's.

    A Hann window keeps the borders, which do not fit together, from looking like edges. White
    noise has its variance as the power at all frequencies, whatever the size.
    """
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in image.shape))
    level = (image * window).sum() / window.sum()
    power = np.abs(np.fft.fft2((image - level) * window)) ** 2 / (window**2).sum()
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, image.shape), indexing="ij"))
    return frequency.ravel()[1:], power.ravel()[1:]


def band_power(image: Float[np.ndarray, "height width"]) -> Float[np.ndarray, " bands"]:
    """Mean power in each of the `OCTAVES`."""
    frequency, power = power_spectrum(image)
    band = np.digitize(frequency, OCTAVES) - 1
    used = (band >= 0) & (band < len(OCTAVES) - 1)
    count = np.bincount(band[used], minlength=len(OCTAVES) - 1)
    return np.bincount(band[used], power[used], len(OCTAVES) - 1) / np.maximum(count, 1)


def _one(image: Float[np.ndarray, "size size"]) -> dict[str, float]:
    size = image.shape[0]
    face, everything = face_ellipse(size), np.ones_like(image, dtype=bool)
    half = [round(part * size) for part in ELLIPSE]
    middle = size // 2
    box = image[middle - half[1] : middle + half[1], middle - half[0] : middle + half[0]]
    row = {f"face_{name}": value for name, value in _region(image, face, box).items()}
    row |= {f"crop_{name}": value for name, value in _region(image, everything, image).items()}
    return row | _layout(image, face)


def _region(image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> dict[str, float]:
    """Statistics of the pixels in `mask`; the spectrum is that of the rectangle `box`."""
    values = image[mask]
    inner = mask[1:-1, 1:-1]
    right = (image[1:-1, 2:] - image[1:-1, :-2])[inner] / 2
    down = (image[2:, 1:-1] - image[:-2, 1:-1])[inner] / 2
    both = np.concatenate([right, down])
    # Differences across both axes at once: what edges leave least of, and noise most.
    crossed = image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]
    crossed = np.sort(np.abs(crossed[mask[1:, 1:]]))
    around = image[1:-1, 2:] + image[1:-1, :-2] + image[2:, 1:-1] + image[:-2, 1:-1]
    laplacian = (around - 4 * image[1:-1, 1:-1])[inner]
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    spread = both.var()
    row = {
        "mean": values.mean(),
        "std": values.std(),
        "level_05": low,
        "level_50": median,
        "level_95": high,
        "share_black": np.log10((values < _DARKEST).mean() + _FEW),
        "share_white": np.log10((values > _BRIGHTEST).mean() + _FEW),
        "gradient": np.hypot(right, down).mean(),
        "gradient_kurtosis": np.log10(
            ((both - both.mean()) ** 4).mean() / spread**2 if spread > _FLOOR**2 else 3.0
        ),
        "gradient_across": _log((right**2).mean()) - _log((down**2).mean()),
        "laplacian": _log((laplacian**2).mean()),
        # The difference of four values has twice their deviation.
        "noise": _log((crossed[: crossed.size * 3 // 4].mean() / _SMALLER / 2) ** 2) / 2,
    }
    bands = band_power(box)
    total = bands.sum()
    for name, power in zip(_BAND_NAMES, bands, strict=True):
        row[f"spectrum_{name}"] = _log(power) - _log(total)
    return row


_BAND_NAMES = tuple(f"1/{round(1 / high)}" for high in OCTAVES[1:])


def _layout(image: np.ndarray, face: np.ndarray) -> dict[str, float]:
    """How parts of the crop compare: two halves, eyes and cheeks, face and background."""
    x, y = _crop_widths(image.shape[0])
    x, y = np.broadcast_arrays(x, y)
    mean = max(image[face].mean(), 1 / 255)
    left, right = image[face & (x < 0)].mean(), image[face & (x > 0)].mean()
    top, bottom = image[face & (y < 0)].mean(), image[face & (y > 0)].mean()
    eyes, cheeks = (_boxes(x, y, *place) for place in (_EYES, _CHEEKS))
    outside = (x / ELLIPSE[0]) ** 2 + (y / ELLIPSE[1]) ** 2 > 1.35**2
    beside = (np.abs(x) > 0.42) & (np.abs(y) < 0.25)
    mirrored = np.abs(image - image[:, ::-1])[face].mean()
    return {
        "left_right": abs(left - right) / mean,
        "mirror_difference": mirrored / mean,
        "top_bottom": (top - bottom) / mean,
        "eyes_below_cheeks": (image[cheeks].mean() - image[eyes].mean()) / mean,
        "eyes_contrast": _log(image[eyes].var()) / 2 - _log(image[cheeks].var()) / 2,
        "cheeks_std": image[cheeks].std() / mean,
        "above_minus_face": image[y < -0.42].mean() - image[face].mean(),
        "beside_minus_face": image[beside].mean() - image[face].mean(),
        "below_minus_face": image[y > 0.42].mean() - image[face].mean(),
        "background_std": image[outside].std(),
    }


def _boxes(x: np.ndarray, y: np.ndarray, left, right, half) -> np.ndarray:
    return np.logical_or(
        *((np.abs(x - c) <= half[0]) & (np.abs(y - r) <= half[1]) for c, r in (left, right))
    )


def _crop_widths(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (1, S) and rows (S, 1) from the crop's middle, in crop widths, row downward."""
    center = (np.arange(size) + 0.5) / size - 0.5
    return center[None, :], center[:, None]


def _log(energy: float) -> float:
    return float(np.log10(energy + _FLOOR))
