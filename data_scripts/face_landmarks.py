"""The 68 iBUG landmarks as vertices of the mean face, from its geometry."""

import numpy as np
from face_regions import (
    brow_line,
    crossings,
    eye_slit,
    lip_slit,
    skin_edges,
)
from face_topology import SKIN, ModelMesh
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

MIRRORED = {
    **{i: 16 - i for i in range(8)},
    **{17 + i: 26 - i for i in range(5)},
    **{31 + i: 35 - i for i in range(2)},
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,
    48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64, 61: 63, 67: 65,
}  # fmt: skip
MIDLINE = (8, 27, 28, 29, 30, 33, 51, 57, 62, 66)


def spaced(curve: np.ndarray, n: int) -> np.ndarray:
    """(n, 3) points at equal arc length along a polyline, both ends included."""
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    at = np.linspace(0, along[-1], n)
    return np.stack([np.interp(at, along, axis) for axis in curve.T], 1)


def find_landmarks(
    mesh: ModelMesh, mean: np.ndarray, mirror: np.ndarray, masks: dict[str, np.ndarray]
) -> np.ndarray:
    """(68,) vertex indices on a mirror-symmetric mean face.

    mean: (v, 3) mm, model frame; mirror: (v,); masks: (v,) soft regions by name. The person's left
    side is measured; the right side takes its mirror images.
    """
    points = np.full((68, 3), np.nan)
    lids, corners = eye_slit(mesh, mean)
    points[8:17] = _jaw(mean, masks)
    points[22:27] = spaced(brow_line(mesh, mean, corners), 5)
    points[27:31], points[33:36] = _nose(mesh, mean, masks)
    points[[42, 43, 44, 45]] = spaced(np.r_[corners[:1], lids.upper[1:-1], corners[1:]], 4)
    points[[47, 46]] = spaced(np.r_[corners[:1], lids.lower[1:-1], corners[1:]], 4)[1:3]
    points[51:58], points[62:67] = _mouth(mesh, mean, masks)

    skin = np.flatnonzero(mesh.vertices_of(SKIN))
    middle = skin[mirror[skin] == skin]
    landmarks = np.zeros(68, int)
    for index in range(68):
        if index in MIDLINE:
            landmarks[index] = middle[cKDTree(mean[middle]).query(points[index])[1]]
        elif index not in MIRRORED:
            landmarks[index] = skin[cKDTree(mean[skin]).query(points[index])[1]]
    for right, left in MIRRORED.items():
        landmarks[right] = mirror[landmarks[left]]
    return landmarks


def _nose(
    mesh: ModelMesh, mean: np.ndarray, masks: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Bridge and tip (4, 3); base (3, 3) from the middle to the left wing."""
    middle = np.flatnonzero((masks["face"] > 0.5) & (np.abs(mean[:, 0]) < 1e-3))
    middle = middle[np.argsort(-mean[middle, 1])]
    line = mean[middle]
    tip = line[line[:, 2].argmax()]
    root = line[np.abs(line[:, 1] - mean[masks["eye_left"] > 0.5, 1].mean()) < 12]
    root = root[root[:, 2].argmin()]
    bridge = spaced(line[(line[:, 1] <= root[1]) & (line[:, 1] >= tip[1])], 4)
    lip = line[masks["lips"][middle] > 0.5][0]
    between = line[(line[:, 1] < tip[1]) & (line[:, 1] > lip[1])]
    # The base is the inner corner of the profile: farthest behind the chord from tip to lip.
    chord = (tip - lip)[[1, 2]]
    behind = (between - lip)[:, [1, 2]] @ np.array([chord[1], -chord[0]])
    base = between[behind.argmax()]
    # The wing ends where a level section just above the base turns back to the cheek.
    section = crossings(skin_edges(mesh), mean[:, 1] - base[1] - 2.5) @ mean
    section = section[(section[:, 0] > 12) & (section[:, 0] < 25) & (section[:, 2] > base[2] - 20)]
    wing = section[(section[:, 2] + 0.3 * section[:, 0]).argmax()]
    return bridge, np.stack([base, (base + wing) / 2, wing])


def _mouth(
    mesh: ModelMesh, mean: np.ndarray, masks: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Left half of the outline (7, 3) and of the inner line (5, 3), from above to below."""
    gap = lip_slit(mesh, mean)
    corner = (gap.upper[-1] + gap.lower[-1]) / 2
    edges = skin_edges(mesh)
    outline, inner = [], []
    for own, sign, line in (
        (gap.belongs_upper, 1.0, gap.upper),
        (gap.belongs_lower, -1.0, gap.lower),
    ):
        border = crossings(edges[own[edges].all(1)], masks["lips"] - 0.5) @ mean
        outer = border[sign * (border[:, 1] - np.interp(border[:, 0], line[:, 0], line[:, 1])) > 2]
        along = np.linspace(0, corner[0] - 2, 12)
        curve = [outer[np.abs(outer[:, 0] - x) < 2.0].mean(0) for x in along]
        outline.append(spaced(np.r_[curve, [corner]], 4))
        inside = line[(line[:, 0] > 0) & (line[:, 0] < corner[0] - 1.5)]
        inner.append(spaced(inside, 3))
    return (
        np.concatenate([outline[0], outline[1][2::-1]]),
        np.concatenate([inner[0], inner[1][1::-1]]),
    )


def _jaw(mean: np.ndarray, masks: dict[str, np.ndarray]) -> np.ndarray:
    """The outline of the face in a frontal view, (9, 3), from the chin to the left temple."""
    front_of_ears = np.quantile(mean[masks["ears"] > 0.5, 2], 0.95)
    face = mean[(masks["face"] > 0.5) & (mean[:, 0] > -1e-3) & (mean[:, 2] > front_of_ears)]
    eyes = mean[masks["eye_left"] > 0.5, 1].mean()
    angle = np.arctan2(face[:, 1] - eyes, face[:, 0])
    radius = np.hypot(face[:, 1] - eyes, face[:, 0])
    outline = []
    for at in np.linspace(-np.pi / 2, 0, 46):
        near = np.abs(angle - at) < np.radians(2.5)
        outline.append(face[near][radius[near].argmax()])
    outline = np.array(outline)
    smooth = gaussian_filter1d(outline, 2, axis=0, mode="nearest")
    return spaced(np.r_[outline[:1], smooth[1:]], 9)
