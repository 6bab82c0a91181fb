"""Fits the default model's face to another head, to carry landmarks and regions over.

The default model is itself morphable: a similarity first, then its identity components bend it
onto the other surface. What the default model knows about its vertices then holds for the nearest
places of the other mesh.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from facerecon.mesh import similarity, vertex_normals
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel

POINTS = 1500  # of the default model's face that take part in the fit
RIGID_STEPS, BENDING_STEPS = 25, 15
KEPT = 0.85  # share of the nearest pairs that count: the others may have no counterpart
SAME_SIDE = 0.5  # least cosine between the normals of a pair
SLIDING = 0.1  # weight of the distance along the surface, relative to the one across it
STIFFNESS = 5.0  # mm^2: weight of the squared coefficients
# A face in the right unit and frame comes out within these.
SCALES, MAX_TURN, MAX_DISTANCE = (0.7, 1.4), 0.5, 1.5  # factor, radians, mm


class NotAHeadError(OneLine, ValueError):
    """A mesh on which no face was found."""


class RegisteredModel(NamedTuple):
    """The default model, fitted to another head.

    vertices, normals: of the default model, in mm and the frame of the other head.
    turn: rotation and scale that a displacement of the default model takes on the way.
    distance: root mean square distance in mm of the face to the other surface.
    """

    vertices: Float[np.ndarray, "default_vertices 3"]
    normals: Float[np.ndarray, "default_vertices 3"]
    turn: Float[np.ndarray, "3 3"]
    distance: float


def normals_of(
    vertices: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """Unit vertex normals, pointing outward."""
    positions = torch.from_numpy(vertices.astype(np.float64))[None]
    return vertex_normals(positions, torch.from_numpy(triangles.astype(np.int64)))[0].numpy()


def register_model(
    model: MorphableModel,
    vertices: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
) -> RegisteredModel:
    """Fit the default model to a head.

    Args:
        model: the default model.
        vertices: mm, x to the viewer's right, y up, z to the viewer; any origin.
        triangles: counter-clockwise seen from outside; skin alone, without eyeballs or teeth.

    Raises:
        NotAHeadError: registration failed.
    """
    mean = model.mean.numpy().astype(np.float64)
    basis = model.basis[: model.n_identity].numpy().astype(np.float64)
    basis = basis.reshape(model.n_identity, -1, 3)
    own_triangles = model.triangles.numpy()
    skin = model.skin(without=("mouth_interior",)).numpy()
    used = np.flatnonzero(skin > 0.5)
    used = used[:: max(1, len(used) // POINTS)]
    on_mesh = np.unique(triangles)
    target, outward = vertices[on_mesh], normals_of(vertices, triangles)[on_mesh]
    tree = cKDTree(target)

    scale, rotation = 1.0, np.eye(3)
    # The tip of the nose is the foremost point of both.
    shift = target[target[:, 2].argmax()] - mean[skin > 0.5][mean[skin > 0.5, 2].argmax()]
    coefficients = np.zeros(model.n_identity)
    for step in range(RIGID_STEPS + BENDING_STEPS):
        bent = mean + np.tensordot(coefficients, basis, 1)
        placed = scale * bent @ rotation.T + shift
        normals = normals_of(placed, own_triangles)[used]
        distance, nearest = tree.query(placed[used])
        facing = (normals * outward[nearest]).sum(1) > SAME_SIDE
        if facing.sum() < len(used) / 4:
            raise NotAHeadError("no face was found on the mesh")
        limit = np.quantile(distance[facing], KEPT)
        pair = np.flatnonzero(facing & (distance <= limit))
        goal, across = target[nearest[pair]], outward[nearest[pair]]
        if step >= RIGID_STEPS:
            directions = scale * basis[:, used[pair]] @ rotation.T
            coefficients += _bend(directions, goal - placed[used[pair]], across, coefficients)
            bent = mean + np.tensordot(coefficients, basis, 1)
        # Move across the surface, so that the similarity can slide along it.
        placed = scale * bent[used[pair]] @ rotation.T + shift
        gap = ((goal - placed) * across).sum(1, keepdims=True) * across
        gap = (1 - SLIDING) * gap + SLIDING * (goal - placed)
        scale, rotation, shift = similarity(bent[used[pair]], placed + gap)
    placed = scale * (mean + np.tensordot(coefficients, basis, 1)) @ rotation.T + shift
    distance = float(np.sqrt(np.mean(((goal - placed[used[pair]]) * across).sum(1) ** 2)))
    turned = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    if distance > MAX_DISTANCE or turned > MAX_TURN or not SCALES[0] < scale < SCALES[1]:
        raise NotAHeadError(
            f"no face was found on the mesh: the default model comes within {distance:.1f} mm of it"
            f" when turned by {np.degrees(turned):.0f} degrees and {scale:.2g} times as large"
        )
    return RegisteredModel(placed, normals_of(placed, own_triangles), scale * rotation, distance)


def _bend(
    directions: np.ndarray, gap: np.ndarray, across: np.ndarray, coefficients: np.ndarray
) -> np.ndarray:
    """Change of the coefficients that closes the gap, mostly across the surface."""
    rows = np.concatenate(
        [(directions * across).sum(2), SLIDING * directions.reshape(len(directions), -1)], axis=1
    )
    aims = np.concatenate([(gap * across).sum(1), SLIDING * gap.ravel()])
    share = 1 / len(gap)
    matrix = share * rows @ rows.T
    matrix[np.diag_indices_from(matrix)] += STIFFNESS / len(matrix)
    return np.linalg.solve(matrix, share * rows @ aims - STIFFNESS / len(matrix) * coefficients)
