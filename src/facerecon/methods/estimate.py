"""What a compared method answers about a photograph."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Estimate(NamedTuple):
    """Depth of a face.

    depth_mm: on the photograph's pixels, larger is nearer, NaN outside the face.
    mm_per_pixel: the width that the method gives to a pixel, NaN if unknown.
    """

    depth_mm: Float[np.ndarray, "height width"]
    mm_per_pixel: float = float("nan")
