"""A face that a 3D printer can make: the open surface closed to a solid with a flat or hollow back.

A slicer needs a volume: a closed surface, every edge between exactly two triangles, normals
outward. The reconstructed face is a sheet with a ragged border; here it becomes the front of a
solid.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

LEAST_THICKNESS_MM = 0.8
"""Two strokes of a common 0.4 mm nozzle: a thinner wall does not hold."""


class SolidError(ValueError):
    """The surface cannot be closed; the message says why."""


class Solid(NamedTuple):
    """A closed, oriented 2-manifold; triangles counter-clockwise seen from outside."""

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]


def close_surface(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    thickness_mm: float,
    hollow: bool = False,
) -> Solid:
    """Close a depth-map mesh to a solid: its largest piece, a back, and walls along every border.

    The back repeats the front's triangles, turned over: at a constant depth `thickness_mm` behind
    the deepest point of the front (a relief that lies flat on the printer's bed), or, hollow, by
    `thickness_mm` behind every point along z (a mask; walls that the viewer sees at an angle are
    thinner across). As no two front vertices share x and y, front and back never cross.

    Args:
        vertices: mm, camera frame; a graph over the image plane, as of `depth.depth_to_mesh`.
        faces: counter-clockwise for the viewer.
        thickness_mm: at least 0.8.
        hollow: a mask of even depth instead of a flat back.

    Raises:
        SolidError: thickness_mm is too small or not finite, or there is no surface.
    """
    if not (np.isfinite(thickness_mm) and thickness_mm >= LEAST_THICKNESS_MM):
        raise SolidError(
            f"a solid must be at least {LEAST_THICKNESS_MM} mm thick to be printed, got"
            f" {thickness_mm}"
        )
    faces = manifold_piece(faces)
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    front = np.asarray(vertices, dtype=np.float64)[used]
    back = front.copy()
    back[:, 2] = (front[:, 2] if hollow else front[:, 2].min()) - thickness_mm
    n = len(front)
    start, end = border(faces).T
    # Seen from outside, a wall below the border edge start -> end runs back along the front.
    walls = np.concatenate(
        [np.stack([start, start + n, end + n], 1), np.stack([start, end + n, end], 1)]
    )
    return Solid(np.concatenate([front, back]), np.concatenate([faces, faces[:, ::-1] + n, walls]))


def border(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "edges 2"]:
    """The directed edges of a mesh that no other triangle runs along the other way."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    n = faces.max() + 1
    alone = ~np.isin(edges[:, 0] * n + edges[:, 1], edges[:, 1] * n + edges[:, 0])
    return edges[alone]


def manifold_piece(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "fewer 3"]:
    """The largest piece of a mesh whose triangles hang together by edges, without pinched vertices.

    At a pinched vertex two fans of triangles touch in a point; a wall through it would give an
    edge four triangles. Such a vertex keeps its larger fan, until there are none.

    Raises:
        SolidError: nothing is left.
    """
    while len(faces):
        faces = faces[_largest(_edge_components(faces))]
        pinched = _pinched(faces)
        if not len(pinched):
            return faces
        drop = np.zeros(len(faces), dtype=bool)
        for vertex in pinched:
            around = np.flatnonzero((faces == vertex).any(axis=1))
            fan = _edge_components(faces[around])
            drop[around[~_largest(fan)]] = True
        faces = faces[~drop]
    raise SolidError("the face has no surface that could be closed")


def _edge_components(faces: np.ndarray) -> np.ndarray:
    """For each triangle the number of its piece; pieces share edges."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    triangle = np.tile(np.arange(len(faces)), 3)
    edge = np.unique(edges, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(edge, kind="stable")
    edge, triangle = edge[order], triangle[order]
    same = edge[1:] == edge[:-1]
    links = triangle[:-1][same], triangle[1:][same]
    graph = coo_matrix((np.ones(same.sum()), links), shape=(len(faces),) * 2)
    return connected_components(graph, directed=False)[1]


def _largest(labels: np.ndarray) -> np.ndarray:
    return labels == np.bincount(labels).argmax()


def _pinched(faces: np.ndarray) -> np.ndarray:
    """Vertices on more than one stretch of the border: a simple border leaves each vertex once."""
    start = border(faces)[:, 0]
    vertex, count = np.unique(start, return_counts=True)
    return vertex[count > 1]
