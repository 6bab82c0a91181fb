"""Keeps the eyeballs behind the lids of every identity."""

import numpy as np

NEAR_LID = 3.0  # mm from the eyeball's surface, within which skin counts as lid
SIZE_PRIOR = 0.3  # weight of not changing the eyeball's size, relative to the lids' fit


def sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Center (3,) and radius of the sphere through points (n, 3), by least squares."""
    system = np.c_[2 * points, np.ones(len(points))]
    x = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    return x[:3], float(np.sqrt(x[3] + x[:3] @ x[:3]))


def seat_eyeball(basis: np.ndarray, mean: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """(k, n, 3) mm: displacements of an eyeball's n vertices that follow those of its lids.

    The eyeball moves and grows as a whole, so that the distance of the lids from its surface stays
    as it is in the mean, by least squares. MakeHuman moves lids and eyeballs by different controls,
    whose sum may push one through the other.

    basis: (k, v, 3) mm; mean: (v, 3) mm; eye: (v,) bool, the eyeball.
    """
    center, radius = sphere(mean[eye])
    arm = mean - center
    distance = np.linalg.norm(arm, axis=1)
    lid = ~eye & (np.abs(distance - radius) < NEAR_LID) & (arm[:, 2] > 0)
    outward = arm[lid] / distance[lid, None]
    lifted = (basis[:, lid] * outward).sum(2)
    system = np.c_[outward, np.ones(len(outward))]
    prior = np.zeros((1, 4))
    prior[0, 3] = np.sqrt(SIZE_PRIOR * len(outward))
    move = np.linalg.lstsq(
        np.concatenate([system, prior]), np.c_[lifted, np.zeros(len(basis))].T, rcond=None
    )[0]
    return move[:3].T[:, None] + move[3][:, None, None] * arm[eye] / radius
