"""How far a photograph's brows, eyes, nose and mouth lie from where a fitted face has them.

A network's fit leaves features a few millimeters off, enough to smear a texture bank's brows and
lips. A patch of the rendered mean face around each feature is looked for in the photograph, near
its place, by normalized cross-correlation, and the rest of the face follows smoothly.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float

from facerecon.imaging import to_bytes

FEATURES = {
    "right brow": range(17, 22),
    "left brow": range(22, 27),
    "right eye": range(36, 42),
    "left eye": range(42, 48),
    "nose": range(31, 36),
    "mouth": range(48, 68),
}
"""Their iBUG landmarks."""

REACH = 0.045  # of the crop, as far as a feature is looked for
MARGIN = 0.03  # of the crop, around a feature's landmarks
WIDTH = 18.0  # mm over which a feature's shift fades out
SURE = 0.35  # correlation below which a match counts nothing


class Match(NamedTuple):
    """shift (V, 2): columns and rows for every vertex. scores: correlation by feature, after it."""

    shift: Float[np.ndarray, "vertices 2"]
    scores: dict[str, float]


def match_features(
    photo: Float[np.ndarray, "size size"],
    rendered: Float[np.ndarray, "size size"],
    landmarks: Float[np.ndarray, "68 2"],
    anchors: Float[np.ndarray, "68 3"],
    vertices: Float[np.ndarray, "vertices 3"],
) -> Match:
    """Where the photograph has the features of a rendered face.

    Args:
        photo, rendered: grey, of one crop.
        landmarks: (column, row) in the rendered image.
        anchors, vertices: the same landmarks and all vertices on the mean face, mm.
    """
    size = len(photo)
    reach, margin = round(REACH * size), round(MARGIN * size)
    border = reach + margin
    wide = cv2.copyMakeBorder(to_bytes(photo), *[border] * 4, cv2.BORDER_REPLICATE)
    patches = cv2.copyMakeBorder(to_bytes(rendered), *[border] * 4, cv2.BORDER_REPLICATE)
    shifts, weights, centers, scores = [], [], [], {}
    for name, points in FEATURES.items():
        group = landmarks[list(points)]
        low = np.clip(np.rint(group.min(0)) - margin, -margin, size - 1).astype(int) + border
        high = np.clip(np.rint(group.max(0)) + margin, 1, size + margin).astype(int) + border
        patch = patches[low[1] : high[1], low[0] : high[0]]
        if min(patch.shape) < 5 or patch.std() < 1:
            scores[name] = 0.0
            continue
        window = wide[low[1] - reach : high[1] + reach, low[0] - reach : high[0] + reach]
        found = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
        distance = np.hypot(*(np.indices(found.shape) - reach))
        # Of equal matches, the nearer; a whole reach away costs a tenth.
        best = np.unravel_index(np.argmax(found - 0.1 * distance / reach), found.shape)
        scores[name] = float(found[best])
        shifts.append((best[1] - reach, best[0] - reach))
        weights.append(max(scores[name] - SURE, 0.0))
        centers.append(anchors[list(points)].mean(0))
    if not sum(weights) > 0:
        return Match(np.zeros((len(vertices), 2), np.float32), scores)
    shifts, weights = np.array(shifts, float), np.array(weights)
    common = weights @ shifts / weights.sum()
    distance = np.linalg.norm(vertices[:, None] - np.array(centers)[None], axis=2)
    kernel = weights * np.exp(-((distance / WIDTH) ** 2) / 2)
    local = kernel @ (shifts - common) / (kernel.sum(1, keepdims=True) + 0.05)
    return Match((common + local).astype(np.float32), scores)
