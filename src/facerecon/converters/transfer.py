"""Carries what belongs to the default model's vertices over to another mesh."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from facerecon.converters.fitting import RegisteredModel, normals_of
from facerecon.morphable_model import MorphableModel

SAME_SIDE = 0.5  # least cosine between the normals of places that correspond
CANDIDATES = 30  # nearest vertices among which one on the same side is looked for


def nearest_vertices(
    points: Float[np.ndarray, "points 3"],
    normals: Float[np.ndarray, "points 3"],
    vertices: Float[np.ndarray, "vertices 3"],
    outward: Float[np.ndarray, "vertices 3"],
) -> Int[np.ndarray, " points"]:
    """For each point the nearest vertex that faces the same way, or just the nearest one.

    normals: of the points. outward: normals of the vertices.
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    k = min(CANDIDATES, len(vertices))
    distance, found = (a.reshape(len(points), k) for a in cKDTree(vertices).query(points, k))
    facing = np.einsum("pkc,pc->pk", outward[found], normals) > SAME_SIDE
    distance = np.where(facing, distance, distance + np.ptp(vertices))
    return found[np.arange(len(points)), distance.argmin(1)]


def transfer_landmarks(
    model: MorphableModel,
    registered: RegisteredModel,
    vertices: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
) -> Int[np.ndarray, "68"]:
    """The 68 landmarks of the default model as vertices of the mesh that it was fitted to.

    Their order and side are right; their place along smooth parts (jaw, brows) is approximate.
    """
    skin = np.unique(triangles)
    outward = normals_of(vertices, triangles)[skin]
    at = model.landmarks.numpy()
    found = nearest_vertices(
        registered.vertices[at], registered.normals[at], vertices[skin], outward
    )
    return skin[found]


def surface_weights(
    model: MorphableModel,
    registered: RegisteredModel,
    vertices: Float[np.ndarray, "vertices 3"],
    outward: Float[np.ndarray, "vertices 3"],
    parts: Sequence[tuple[Bool[np.ndarray, " vertices"], Bool[np.ndarray, " default_vertices"]]],
) -> sp.csr_array:
    """(vertices, default vertices) weights: where each vertex lies on the default model's surface.

    Every row sums to one. A vertex belongs to the triangle at its nearest vertex that comes
    closest; beyond the edge of the default model, to the edge.

    outward: normals of the vertices. parts: masks of vertices here and there that correspond, such
    as the eyeballs; together they cover all vertices.
    """
    nearest = np.zeros(len(vertices), np.int64)
    for here, there in parts:
        chosen = np.flatnonzero(there)
        nearest[here] = chosen[
            nearest_vertices(
                vertices[here],
                outward[here],
                registered.vertices[chosen],
                registered.normals[chosen],
            )
        ]
    triangles = model.triangles.numpy()
    corners = _triangles_around(triangles, len(registered.vertices))[nearest]
    best = np.full(len(vertices), np.inf)
    columns = np.repeat(nearest[:, None], 3, axis=1)
    weights = np.tile([1.0, 0.0, 0.0], (len(vertices), 1))
    for corner in range(corners.shape[1]):
        triangle = triangles[corners[:, corner]]
        share = _barycentric(vertices, registered.vertices[triangle])
        place = np.einsum("vk,vkc->vc", share, registered.vertices[triangle])
        distance = np.where(corners[:, corner] < 0, np.inf, ((vertices - place) ** 2).sum(1))
        better = distance < best
        best[better] = distance[better]
        columns[better], weights[better] = triangle[better], share[better]
    rows = np.repeat(np.arange(len(vertices)), 3)
    shape = (len(vertices), len(registered.vertices))
    return sp.coo_array((weights.ravel(), (rows, columns.ravel())), shape).tocsr()


def _triangles_around(triangles: np.ndarray, n: int) -> Int[np.ndarray, "n most"]:
    """Indices of the triangles at each vertex, filled up with -1."""
    corner = triangles.ravel()
    order = np.argsort(corner, kind="stable")
    count = np.bincount(corner, minlength=n)
    start = np.cumsum(count) - count
    table = np.full((n, count.max()), -1)
    column = np.arange(len(corner)) - np.repeat(start, count)
    table[corner[order], column] = order // 3
    return table


def _barycentric(points: np.ndarray, corners: np.ndarray) -> Float[np.ndarray, "points 3"]:
    """Weights of the corners (points, 3, 3) at the points' nearest places in the triangles."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = points - corners[:, 0]
    aa, ab, bb = (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)
    pa, pb = (p * a).sum(1), (p * b).sum(1)
    area = np.maximum(aa * bb - ab * ab, 1e-12)
    u, v = (bb * pa - ab * pb) / area, (aa * pb - ab * pa) / area
    share = np.clip(np.stack([1 - u - v, u, v], 1), 0, 1)
    return share / share.sum(1, keepdims=True)
