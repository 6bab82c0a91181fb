"""Triangle meshes: normals and connectivity."""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor
from torch.nn.functional import normalize

from facerecon.backend import as_array, choose_backend, over_batch
from facerecon.shapes import require_shape


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
        backend: "numba" (CPU), "torch" (any device) or "auto".

    Raises:
        ValueError: wrong shapes, or a backend that does not suit the tensors.
    """
    require_shape("vertices", vertices, None, None, 3)
    require_shape("triangles", triangles, None, 3)
    if choose_backend(backend, vertices) == "numba":
        summed = _AreaNormals.apply(vertices, triangles)
    else:
        summed = _area_normals(vertices, triangles)
    return normalize(summed, dim=-1)


def edges(triangles: Int[Tensor, "triangles 3"]) -> Int[Tensor, "edges 2"]:
    """Each undirected edge once, smaller vertex first, in ascending order.

    Raises:
        ValueError: `triangles` is not (triangles, 3).
    """
    require_shape("triangles", triangles, None, 3)
    return _directed_edges(triangles).sort(dim=1).values.unique(dim=0)


def boundary_loops(triangles: Int[Tensor, "triangles 3"]) -> list[Int[Tensor, " loop"]]:
    """The mesh's borders as vertex loops, longest first, each walked with the surface on its left.

    Raises:
        ValueError: wrong shape, or a border that touches itself in a vertex.
    """
    require_shape("triangles", triangles, None, 3)
    directed = set(map(tuple, _directed_edges(triangles).tolist()))
    following = {}
    for start, end in sorted(directed):
        if (end, start) not in directed:
            if start in following:
                raise ValueError(f"the border touches itself in vertex {start}; split that vertex")
            following[start] = end
    loops = []
    while following:
        loop = [min(following)]
        while (vertex := following.pop(loop[-1])) != loop[0]:
            loop.append(vertex)
        loops.append(torch.tensor(loop, device=triangles.device))
    return sorted(loops, key=len, reverse=True)


def _directed_edges(triangles: Tensor) -> Tensor:
    return torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def _area_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Sum over each vertex's triangles of twice their area times their normal."""
    corner0, corner1, corner2 = (vertices.index_select(1, index) for index in triangles.unbind(1))
    normals = torch.linalg.cross(corner1 - corner0, corner2 - corner0)
    summed = torch.zeros_like(vertices)
    for index in triangles.unbind(1):
        summed = summed.index_add(1, index, normals)
    return summed


class _AreaNormals(torch.autograd.Function):
    """`_area_normals` with compiled loops forward and backward."""

    @staticmethod
    def forward(ctx: Any, vertices: Tensor, triangles: Tensor) -> Tensor:
        ctx.save_for_backward(vertices, triangles)
        summed = torch.zeros(vertices.shape, dtype=vertices.dtype)
        arrays = (as_array(vertices), as_array(triangles), summed.numpy())
        over_batch(_sum_normals, len(vertices), *arrays)
        return summed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        vertices, triangles = ctx.saved_tensors
        result = torch.zeros(vertices.shape, dtype=vertices.dtype)
        arrays = (as_array(vertices), as_array(triangles), as_array(gradient), result.numpy())
        over_batch(_sum_normals_backward, len(vertices), *arrays)
        return result, None


@njit(nogil=True, cache=True)
@no_type_check
def _cross(a: tuple, b: tuple) -> tuple:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(nogil=True, cache=True)
@no_type_check
def _side(vertices: np.ndarray, start: int, end: int) -> tuple:
    return (
        vertices[end, 0] - vertices[start, 0],
        vertices[end, 1] - vertices[start, 1],
        vertices[end, 2] - vertices[start, 2],
    )


@njit(nogil=True, cache=True)
@no_type_check
def _sum_normals(
    start: int, stop: int, vertices: np.ndarray, triangles: np.ndarray, summed: np.ndarray
) -> None:
    for item in range(start, stop):
        mesh = vertices[item]
        out = summed[item]
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            normal = _cross(_side(mesh, i, j), _side(mesh, i, k))
            for axis in range(3):
                out[i, axis] += normal[axis]
                out[j, axis] += normal[axis]
                out[k, axis] += normal[axis]


@njit(nogil=True, cache=True)
@no_type_check
def _sum_normals_backward(
    start: int,
    stop: int,
    vertices: np.ndarray,
    triangles: np.ndarray,
    gradient: np.ndarray,
    result: np.ndarray,
) -> None:
    for item in range(start, stop):
        mesh = vertices[item]
        grad = gradient[item]
        out = result[item]
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            g = (
                grad[i, 0] + grad[j, 0] + grad[k, 0],
                grad[i, 1] + grad[j, 1] + grad[k, 1],
                grad[i, 2] + grad[j, 2] + grad[k, 2],
            )
            # n = a x b, so the gradient to a is b x g and the gradient to b is g x a.
            to_j = _cross(_side(mesh, i, k), g)
            to_k = _cross(g, _side(mesh, i, j))
            for axis in range(3):
                out[j, axis] += to_j[axis]
                out[k, axis] += to_k[axis]
                out[i, axis] -= to_j[axis] + to_k[axis]
