"""Two public-domain portraits that come with installed packages: nothing is downloaded."""

import numpy as np
from jaxtyping import Float
from matplotlib.cbook import get_sample_data

from facerecon.imaging import load_image

CREDITS = {
    "astronaut": "Eileen Collins (NASA, in scikit-image)",
    "grace_hopper": "Grace Hopper (US Navy, in matplotlib)",
}


def portraits() -> dict[str, Float[np.ndarray, "height width 3"]]:
    """RGB photographs in [0, 1], by the names of `CREDITS`.

    Raises:
        ImportError: scikit-image is missing; it comes with `pip install "facerecon[notebooks]"`.
    """
    import skimage

    sources = {
        "astronaut": skimage.data.astronaut(),
        "grace_hopper": get_sample_data("grace_hopper.jpg", asfileobj=False),
    }
    return {name: load_image(source) for name, source in sources.items()}
