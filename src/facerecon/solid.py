"""A face that a 3D printer can make: the open surface closed to a solid with a flat or hollow back.

A slicer needs a volume: a closed surface, every edge between exactly two triangles, normals
outward. The reconstructed face is a sheet with a ragged border; here it becomes the front of a
solid.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from trimesh.graph import connected_component_labels, face_adjacency
from trimesh.grouping import group_rows

from facerecon.messages import OneLine

MIN_THICKNESS_MM = 0.8
"""Two lines of a common 0.4 mm nozzle: a thinner wall breaks."""


class SolidError(OneLine, ValueError):
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
    if not (np.isfinite(thickness_mm) and thickness_mm >= MIN_THICKNESS_MM):
        raise SolidError(
            f"a solid must be at least {MIN_THICKNESS_MM} mm thick to be printed, got"
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
    """The directed edges of a mesh that belong to one triangle alone."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return edges[np.sort(group_rows(np.sort(edges, axis=1), require_count=1))]


def manifold_piece(faces: Int[np.ndarray, "faces 3"]) -> Int[np.ndarray, "fewer 3"]:
    """The largest piece of a mesh whose triangles are connected by edges, without pinched vertices.

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
    return connected_component_labels(face_adjacency(faces), node_count=len(faces))


def _largest(labels: np.ndarray) -> np.ndarray:
    return labels == np.bincount(labels).argmax()


def _pinched(faces: np.ndarray) -> np.ndarray:
    """Vertices on more than one stretch of the border: a simple border leaves each vertex once."""
    start = border(faces)[:, 0]
    vertex, count = np.unique(start, return_counts=True)
    return vertex[count > 1]
