"""Triangle meshes: normals, connectivity, similarity transforms and simplification."""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from facerecon.backends.choose import choose_backend
from facerecon.backends.compiled import njit
from facerecon.backends.threads import as_array, as_indices, over_batch
from facerecon.shapes import require_shape

MIN_LENGTH = 1e-12  # sums of area normals below this length stay shorter than one


def vertex_normals(
    vertices: Float[Tensor, "batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> Float[Tensor, "batch vertices 3"]:
    """Unit vertex normals: the area-weighted mean of the adjoining triangles' normals.

    A vertex without any triangle of positive area gets a zero normal. Differentiable.

    Args:
        vertices: any unit and any right-handed frame; the normals come in the same frame.
        triangles: counter-clockwise seen from outside.
        backend: "numba" (CPU), "torch" (any device; also runs for "nvdiffrast") or "auto".

    Raises:
        ValueError: wrong shapes, or a backend that does not suit the tensors.
    """
    require_shape("vertices", vertices, None, None, 3)
    require_shape("triangles", triangles, None, 3)
    if choose_backend(backend, vertices) == "numba":
        return _VertexNormals.apply(vertices, triangles)
    return normalize(_area_normals(vertices, triangles), dim=-1, eps=MIN_LENGTH)


def edges(triangles: Int[Tensor, "triangles 3"]) -> Int[Tensor, "edges 2"]:
    """Each undirected edge once, smaller vertex first, in ascending order.

    Raises:
        ValueError: `triangles` is not (triangles, 3).
    """
    return counted_edges(triangles)[0]


def counted_edges(
    triangles: Int[Tensor, "triangles 3"],
) -> tuple[Int[Tensor, "edges 2"], Int[Tensor, " edges"]]:
    """`edges`, and how many triangles have each: one at a border, two inside.

    Raises:
        ValueError: `triangles` is not (triangles, 3).
    """
    number, count, base = _edge_numbers(triangles)
    return torch.stack([number // base, number % base], dim=1).to(triangles.dtype), count


def border_edges(triangles: Int[Tensor, "triangles 3"]) -> Int[Tensor, "edges 2"]:
    """The `edges` that a single triangle has.

    Raises:
        ValueError: `triangles` is not (triangles, 3).
    """
    number, count, base = _edge_numbers(triangles)
    number = number[count == 1]
    return torch.stack([number // base, number % base], dim=1).to(triangles.dtype)


def renumbered(
    triangles: Int[Tensor, "triangles 3"], n_vertices: int
) -> tuple[Int[Tensor, " used"], Int[Tensor, "triangles 3"]]:
    """The vertices that some triangle has, in ascending order, and the triangles of those alone."""
    used = torch.zeros(n_vertices, dtype=torch.bool, device=triangles.device)
    used[triangles.flatten()] = True
    number = used.cumsum(0) - 1
    return used.nonzero()[:, 0], number[triangles]


def similarity(
    points: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weight: Float[np.ndarray, " n"] | None = None,
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Scale, rotation and shift that bring points nearest to target in the least-squares sense.

    Source: S. Umeyama, PAMI 1991. (`trimesh.registration.procrustes` takes the ratio of the spreads
    for the scale, which is another one.)
    """
    weight = np.ones(len(points)) if weight is None else weight
    weight = (weight / weight.sum())[:, None]
    middle, goal = (weight * points).sum(0), (weight * target).sum(0)
    left, strength, right = np.linalg.svd((weight * (target - goal)).T @ (points - middle))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ np.diag(sign) @ right
    scale = float((strength * sign).sum() / (weight * (points - middle) ** 2).sum())
    return scale, rotation, goal - scale * rotation @ middle


def cluster(
    triangles: Int[Tensor, "triangles 3"],
    n_vertices: int,
    limit: int,
    cells: Callable[[float], Tensor],
    size: float,
    growth: float,
) -> tuple[Int[Tensor, " vertices"], Int[Tensor, "fewer_triangles 3"]]:
    """Merge the vertices that share a cell, in larger and larger cells, until `limit` are left.

    Args:
        cells: the cell of every vertex, as a row of numbers, for a size of the cells.
        size, growth: the cells' size before the first step, and its factor from step to step.

    Returns:
        The new vertex of each old one, and the triangles that are left, of new vertices.
    """
    group = torch.arange(n_vertices)
    while group.max() >= limit:
        size *= growth
        group = cells(size).unique(dim=0, return_inverse=True)[1]
    merged = group[triangles]
    a, b, c = merged.unbind(1)
    return group, merged[(a != b) & (b != c) & (c != a)]


def cluster_means(
    values: Float[Tensor, "*more vertices channels"], group: Int[Tensor, " vertices"]
) -> Float[Tensor, "*more fewer channels"]:
    """Means over the vertices that `cluster` merged."""
    count = torch.bincount(group)[:, None]
    total = values.new_zeros(*values.shape[:-2], len(count), values.shape[-1])
    return total.index_add(-2, group, values) / count


def _edge_numbers(triangles: Tensor) -> tuple[Tensor, Tensor, int]:
    """Each edge as one number, low * base + high, ascending; how often it occurs; the base."""
    require_shape("triangles", triangles, None, 3)
    start = triangles.long()
    end = start.roll(-1, dims=1)
    base = int(start.max()) + 1 if len(start) else 1
    number = torch.minimum(start, end) * base + torch.maximum(start, end)
    # NumPy sorts numbers several times as fast as torch.
    number, count = np.unique(number.cpu().numpy(), return_counts=True)
    return torch.from_numpy(number).to(start), torch.from_numpy(count).to(start), base


def _area_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Sum over each vertex's triangles of twice their area times their normal."""
    corner0, corner1, corner2 = (vertices.index_select(1, index) for index in triangles.unbind(1))
    normals = torch.linalg.cross(corner1 - corner0, corner2 - corner0)
    summed = torch.zeros_like(vertices)
    for index in triangles.unbind(1):
        summed = summed.index_add(1, index, normals)
    return summed


class _VertexNormals(torch.autograd.Function):
    """Normalized `_area_normals` with compiled loops forward and backward."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, triangles: Tensor) -> Tensor:
        normals = torch.zeros(vertices.shape, dtype=vertices.dtype)
        lengths = torch.empty(vertices.shape[:2], dtype=vertices.dtype)
        indices = as_indices(triangles, vertices.shape[1])
        arrays = (indices, as_array(vertices), normals.numpy(), lengths.numpy())
        over_batch(_normals_kernel, len(vertices), *arrays)
        ctx.save_for_backward(vertices, triangles, normals, lengths)
        return normals

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vertices, triangles, normals, lengths = ctx.saved_tensors
        result = torch.zeros(vertices.shape, dtype=vertices.dtype)
        indices = as_indices(triangles, vertices.shape[1])
        arrays = map(as_array, (vertices, normals, lengths, gradient))
        over_batch(_normals_backward_kernel, len(vertices), indices, *arrays, result.numpy())
        return result, None


@njit()
@no_type_check
def _cross(a: tuple, b: tuple) -> tuple:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit()
@no_type_check
def _side(vertices: np.ndarray, start: int, end: int) -> tuple:
    return (
        vertices[end, 0] - vertices[start, 0],
        vertices[end, 1] - vertices[start, 1],
        vertices[end, 2] - vertices[start, 2],
    )


@njit()
@no_type_check
def _normals_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    lengths: np.ndarray,
) -> None:
    shortest = vertices.dtype.type(MIN_LENGTH)
    for item in range(start, stop):
        mesh, out = vertices[item], normals[item]
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            normal = _cross(_side(mesh, i, j), _side(mesh, i, k))
            for axis in range(3):
                out[i, axis] += normal[axis]
                out[j, axis] += normal[axis]
                out[k, axis] += normal[axis]
        for v in range(len(out)):
            squared = out[v, 0] * out[v, 0] + out[v, 1] * out[v, 1] + out[v, 2] * out[v, 2]
            lengths[item, v] = max(np.sqrt(squared), shortest)
            for axis in range(3):
                out[v, axis] /= lengths[item, v]


@njit()
@no_type_check
def _normals_backward_kernel(
    start: int,
    stop: int,
    triangles: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    lengths: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
) -> None:
    shortest = vertices.dtype.type(MIN_LENGTH)
    summed = np.empty(vertices.shape[1:], vertices.dtype)  # gradient to the sums of area normals
    for item in range(start, stop):
        mesh, out, n, g = vertices[item], result[item], normals[item], gradient[item]
        for v in range(len(mesh)):
            length = lengths[item, v]
            along = n[v, 0] * g[v, 0] + n[v, 1] * g[v, 1] + n[v, 2] * g[v, 2]
            if length == shortest:  # not of unit length, but proportional to the sum
                along *= 0
            for axis in range(3):
                summed[v, axis] = (g[v, axis] - along * n[v, axis]) / length
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            at = (
                summed[i, 0] + summed[j, 0] + summed[k, 0],
                summed[i, 1] + summed[j, 1] + summed[k, 1],
                summed[i, 2] + summed[j, 2] + summed[k, 2],
            )
            # n = a x b, so the gradient to a is b x g and the gradient to b is g x a.
            to_j = _cross(_side(mesh, i, k), at)
            to_k = _cross(at, _side(mesh, i, j))
            for axis in range(3):
                out[j, axis] += to_j[axis]
                out[k, axis] += to_k[axis]
                out[i, axis] -= to_j[axis] + to_k[axis]
