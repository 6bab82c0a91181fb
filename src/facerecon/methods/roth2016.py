"""Many photographs of one person, as in [36]: a fitted template, then photometric stereo.

J. Roth, Y. Tong, X. Liu, Adaptive 3D face reconstruction from unconstrained photo collections, CVPR
2016. From the publication: a morphable model fitted to the landmarks of all photographs, with one
identity, is the template; every photograph has its own light of first-order harmonics; normals and
albedo of each vertex are least squares over the photographs that see it, held near the template
more where the photographs determine them less; a surface with these normals is solved for; all
this is repeated. Our reading, where we know of no more: photographs that a vertex does not fit
(another expression, a shadow, hair) are down-weighted by Cauchy's function instead of local
similarity; the surface moves along the template's normals, so that its edges become perpendicular
to the normals found, which is one sparse linear system; one mesh, without subdivision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, diags, identity
from scipy.sparse.linalg import cg

TEMPLATE_WEIGHT = 0.02
"""Of the template's normal and albedo, in squared intensity, beside one photograph's residual."""

RESIDUAL = 0.05
"""Intensity at which a photograph counts half for a vertex."""

SMOOTHNESS, ANCHOR = 0.3, 1e-4
"""Weights of the squared Laplacian and of the displacement itself, beside squared slopes."""

ROUNDS = 4


class Stereo(NamedTuple):
    """Normals (unit, model frame) and albedo of each vertex; light of each photograph."""

    normals: Float[np.ndarray, "vertices 3"]
    albedo: Float[np.ndarray, " vertices"]
    lights: Float[np.ndarray, "photos 4"]


def photometric_stereo(
    intensity: Float[np.ndarray, "photos vertices"],
    visible: Float[np.ndarray, "photos vertices"],
    normals: Float[np.ndarray, "vertices 3"],
    albedo: Float[np.ndarray, " vertices"],
    template_weight: float = TEMPLATE_WEIGHT,
    rounds: int = ROUNDS,
) -> Stereo:
    """Normals and albedo that explain the photographs, near a template's.

    In turns: each photograph's light by least squares, then for every vertex the product m of
    albedo and (1, n) that minimizes sum_i w_i (I_i - <l_i, m>)^2 + template_weight |m - m_t|^2,
    where m_t is the template's; w_i falls with the last residual.

    Args:
        intensity: grey of each vertex in each photograph; ignored where `visible` is 0.
        visible: weight in [0, 1].
        normals, albedo: the template's. A photograph's light is found in the frame of the normals:
            a turned head is a turned light.

    Raises:
        ValueError: a photograph sees fewer than four vertices.
    """
    if (np.count_nonzero(visible, axis=1) < 4).any():
        raise ValueError("a photograph sees no face: leave it out")
    intensity = np.where(visible > 0, intensity, 0.0)
    template = albedo[:, None] * np.concatenate([np.ones((len(normals), 1)), normals], axis=1)
    found, weight = template, visible.astype(np.float64)
    for _ in range(rounds):
        gram = np.einsum("iv,va,vb->iab", weight, found, found, optimize=True)
        moment = np.einsum("iv,iv,va->ia", weight, intensity, found, optimize=True)
        lights = np.linalg.solve(gram + 1e-6 * np.eye(4), moment[..., None])[..., 0]
        residual = intensity - lights @ found.T
        weight = visible / (1 + (residual / RESIDUAL) ** 2)
        gram = np.einsum("iv,ia,ib->vab", weight, lights, lights, optimize=True)
        moment = (weight * intensity).T @ lights + template_weight * template
        found = np.linalg.solve(gram + template_weight * np.eye(4), moment[..., None])[..., 0]
    length = np.linalg.norm(found[:, 1:], axis=1)
    return Stereo(found[:, 1:] / np.maximum(length, 1e-9)[:, None], length, lights)


def surface_from_normals(
    vertices: Float[np.ndarray, "vertices 3"],
    directions: Float[np.ndarray, "vertices 3"],
    normals: Float[np.ndarray, "vertices 3"],
    edges: Int[np.ndarray, "edges 2"],
    smoothness: float = SMOOTHNESS,
    anchor: float = ANCHOR,
) -> Float[np.ndarray, "vertices 3"]:
    """Move vertices along given directions until the edges lie across the normals.

    Minimizes sum over edges of (<n_e, x_j - x_k> / |x_j - x_k|)^2, with n_e the mean normal of the
    two ends, plus smoothness |L d|^2 + anchor |d|^2 of the displacements d in mm, L the mean
    difference from the neighbors.

    Args:
        vertices: the template, mm. directions: unit, its normals. normals: the wanted ones.
        edges: each once.
    """
    j, k = edges.T
    middle = normals[j] + normals[k]
    middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-9)
    span = vertices[j] - vertices[k]
    length = np.linalg.norm(span, axis=1)
    row, n = np.arange(len(edges)), len(vertices)
    along_j, along_k = ((middle * directions[i]).sum(1) / length for i in (j, k))
    slopes = coo_matrix(
        (np.concatenate([along_j, -along_k]), (np.tile(row, 2), np.concatenate([j, k]))),
        shape=(len(edges), n),
    ).tocsr()
    one = np.ones(len(edges))
    near = coo_matrix((np.tile(one, 2), (np.concatenate([j, k]), np.concatenate([k, j]))), (n, n))
    degree = np.maximum(np.asarray(near.sum(axis=1)).ravel(), 1)
    laplacian = (diags(1 / degree) @ near.tocsr()) - identity(n)
    gram = slopes.T @ slopes + smoothness * (laplacian.T @ laplacian) + anchor * identity(n)
    target = -slopes.T @ ((middle * span).sum(1) / length)
    scale = diags(1 / gram.diagonal())
    moved = cg(gram.tocsr(), target, rtol=1e-6, maxiter=3000, M=scale)[0]
    return vertices + moved[:, None] * directions


def shared_identity(
    displacements: Sequence[Float[np.ndarray, " values"]],
    designs: Sequence[Float[np.ndarray, "values identity"]],
    spread: float,
) -> Float[np.ndarray, " identity"]:
    """One identity for all photographs: argmin sum_i |A_i alpha - b_i|^2 / spread^2 + |alpha|^2.

    Args:
        displacements: what the landmarks of each photograph leave for the identity to explain,
            pixels. designs: how the identity moves those landmarks. spread: of landmarks, pixels.
    """
    gram = sum(a.T @ a for a in designs) / spread**2 + np.eye(designs[0].shape[1])
    moment = sum(a.T @ b for a, b in zip(designs, displacements, strict=True)) / spread**2
    return np.linalg.solve(gram, moment)
