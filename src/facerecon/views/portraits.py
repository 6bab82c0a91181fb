"""Portraits that are there without a download: of installed packages, and some that ship."""

import numpy as np
from jaxtyping import Float
from matplotlib.cbook import get_sample_data

from facerecon.imaging import load_image
from facerecon.weights import shipped

CREDITS = {
    "astronaut": "Eileen Collins (NASA, in scikit-image)",
    "grace_hopper": "Grace Hopper (US Navy, in matplotlib)",
}

LONDON = "Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0)"
"""Credit of `people`."""


def portraits() -> dict[str, Float[np.ndarray, "height width 3"]]:
    """RGB photographs in [0, 1], in the public domain, by the names of `CREDITS`.

    Raises:
        ImportError: scikit-image is missing; it comes with `pip install "facerecon[notebooks]"`.
    """
    import skimage

    sources = {
        "astronaut": skimage.data.astronaut(),
        "grace_hopper": get_sample_data("grace_hopper.jpg", asfileobj=False),
    }
    return {name: load_image(source) for name, source in sources.items()}


def people(*expressions: str) -> dict[str, Float[np.ndarray, "side side 3"]]:
    """Three persons of the London set, RGB in [0, 1]; the names are "NUMBER EXPRESSION".

    No network was trained on them.

    Args:
        expressions: "neutral", "smiling"; both if none is given.

    Raises:
        ValueError: another expression.
    """
    known = ("neutral", "smiling")
    if unknown := set(expressions) - set(known):
        raise ValueError(f"expressions must be among {known}, got {sorted(unknown)}")
    chosen = expressions or known
    files = sorted(shipped("london").glob("*.jpg"))
    return {
        path.stem.replace("_", " "): load_image(path)
        for path in files
        if path.stem.endswith(chosen)
    }
