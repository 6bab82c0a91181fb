"""Features of a face made deeper or flatter, band by band, as caricatures do.

A morphable model of few coefficients smooths what people differ by: brow ridges, lids, nostrils
and lips of one person are deep where those of another are flat.
"""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor, nn

SCALES_MM = (3.0, 8.0, 20.0)
"""Widths of the Gaussians, along the mesh, that divide the bands."""

GAINS = ((-0.7, 1.2), (-0.5, 0.9), (-0.3, 0.5))
"""Ranges of what is added to each band, finest first, as a share of it.

Wider upward: photographs of real people show deeper features than the model has."""

MOST_MM = 6.0
"""No vertex moves farther."""

_LIDS = 60  # vertices of the skin around an eyeball, which it moves with


class Exaggeration(nn.Module):
    """Bands of a mesh's depth between Gaussian means of growing width.

    Args:
        model: MorphableModel, whose mean tells distances along the mesh.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        mean = model.mean.double().cpu().numpy()
        stiffness, mass = _stiffness(mean, model.triangles.cpu().numpy())
        self._mass = mass
        # One implicit step of heat flow for half the square of the width.
        self._means = [splu(csc_matrix(diags(mass) + s * s / 2 * stiffness)) for s in SCALES_MM]
        self._rides = _eyeballs(mean, stiffness)

    def __deepcopy__(self, memo: dict) -> "Exaggeration":
        return self  # nothing in it changes, and SciPy's factorizations cannot be copied

    def bands(self, height: Float[Tensor, "batch vertices"]) -> Float[Tensor, "batch 3 vertices"]:
        """What each mean smooths away of the one before it; finest first, unit of the height."""
        values = height.double().cpu().numpy().T
        levels = [values, *(each.solve(self._mass[:, None] * values) for each in self._means)]
        found = np.stack([a - b for a, b in pairwise(levels)])
        for ball, lids in self._rides:
            found[:, ball] = found[:, lids].mean(1, keepdims=True)
        return torch.from_numpy(found).permute(2, 0, 1).to(height)

    def forward(
        self,
        height: Float[Tensor, "batch vertices"],
        gains: Float[Tensor, "batch 3 vertices"],
    ) -> Float[Tensor, "batch vertices"]:
        """How far each vertex moves toward the viewer, for gains of its bands."""
        moved = (gains * self.bands(height)).sum(1)
        return MOST_MM * torch.tanh(moved / MOST_MM)


def _stiffness(
    vertices: Float[np.ndarray, "vertices 3"], triangles: np.ndarray
) -> tuple[csc_matrix, Float[np.ndarray, " vertices"]]:
    """Cotangent stiffness matrix and the area of each vertex (Pinkall and Polthier 1993)."""
    n = len(vertices)
    corners = vertices[triangles]
    sides = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(*sides), axis=1)
    area = np.maximum(area, 1e-9)  # twice the triangle's
    rows, columns, values = [], [], []
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        cosine = ((corners[:, b] - corners[:, a]) * (corners[:, c] - corners[:, a])).sum(1)
        weight = np.maximum(0.5 * cosine / area, 1e-3)  # obtuse angles would repel
        rows += [triangles[:, b], triangles[:, c]]
        columns += [triangles[:, c], triangles[:, b]]
        values += [weight, weight]
    joined = [np.concatenate(each) for each in (values, rows, columns)]
    weights = coo_matrix((joined[0], (joined[1], joined[2])), shape=(n, n)).tocsc()
    mass = np.bincount(triangles.ravel(), np.repeat(area / 6, 3), n)
    return csc_matrix(diags(np.asarray(weights.sum(1)).ravel()) - weights), np.maximum(mass, 1e-6)


def _eyeballs(
    vertices: Float[np.ndarray, "vertices 3"], edges: csc_matrix
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices of each separate part of the mesh, and those of the skin around it."""
    count, label = connected_components(edges, directed=False)
    skin = np.flatnonzero(label == np.bincount(label).argmax())
    tree, found = cKDTree(vertices[skin]), []
    for number in range(count):
        part = np.flatnonzero(label == number)
        if part[0] in skin:
            continue
        front = part[vertices[part, 2] > np.median(vertices[part, 2])]
        around = np.unique(tree.query(vertices[front], k=3)[1])[:_LIDS]
        found.append((part, skin[around]))
    return found
