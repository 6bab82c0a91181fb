"""The rendering layer: from the representation r to depth, normal and PNCC maps."""

from typing import Any, NamedTuple, Protocol, no_type_check, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import njit
from torch import Tensor

from facerecon.backend import as_array, choose_backend, over_batch
from facerecon.camera import in_perspective, split, to_camera, to_pixels
from facerecon.mesh import vertex_normals
from facerecon.rasterize import Fragments, antialias, interpolate, rasterize, require_gradient

# Opposite vertex normals may cancel between the vertices; such a normal stays short.
MIN_SQUARED_LENGTH = 1e-12


@runtime_checkable
class FaceModel(Protocol):
    """What the rendering layer needs of a morphable model.

    triangles: (triangles, 3), counter-clockwise seen from outside. pncc: (vertices, 3) in [0, 1].
    """

    triangles: Tensor
    pncc: Tensor
    n_coefficients: int

    def vertices(self, coefficients: Tensor) -> Tensor:
        """(batch, n_coefficients) to (batch, vertices, 3) in mm, model frame. Source: Eq. (1)."""


class Rendering(NamedTuple):
    """Maps of one batch of faces; background: depth, normals and PNCC 0, mask False.

    depth: mm, larger is nearer. normals: unit, camera frame. pncc: [0, 1].
    projected: column, row (pixels), depth (mm) of every vertex.
    """

    depth: Float[Tensor, "batch 1 height width"]
    mask: Bool[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    pncc: Float[Tensor, "batch 3 height width"]
    fragments: Fragments
    projected: Float[Tensor, "batch vertices 3"]


def render(
    model: FaceModel,
    r: Float[Tensor, "batch numbers"],
    size: int,
    backend: str = "auto",
    gradient: str = "fixed",
    smooth: bool = False,
    distance: Float[Tensor, " batch"] | None = None,
) -> Rendering:
    """Render the faces described by r; differentiable to r through depth, normals and `projected`.

    Which triangle a pixel sees counts as fixed. With the gradient "fixed", the paper's choice, so
    do the barycentric weights: a vertex acts on the pixels through its depth and normal alone.
    With "full" it also acts through where it lies on the pixel grid.

    Args:
        r: coefficients and pose, as in `camera.join`.
        size: side of the square maps in pixels.
        backend: "numba" (CPU), "torch" (any device), "nvdiffrast" (NVIDIA GPU) or "auto".
        gradient: "fixed" or "full", as in `rasterize`.
        smooth: antialias depth, normals and PNCC, so that outlines feel a gradient, too; needs
            nvdiffrast and the gradient "full".
        distance: mm from a pinhole camera to the model's origin, as in `camera.in_perspective`;
            by default the camera is weak-perspective, Eq. (2).

    Raises:
        ValueError: `r` of the wrong shape or not finite, an unsuitable backend, an unknown gradient
            or smooth maps of a fixed one.
        ImportError: nvdiffrast is asked for and cannot be imported.

    Source: section 4.1, Eqs. (5) to (7); the feedback maps PNCC and normals: section 3.2.1.
    """
    require_gradient(gradient)
    if smooth and gradient == "fixed":
        raise ValueError("smooth maps move with the outline: they need the gradient 'full'")
    coefficients, pose = split(r, model.n_coefficients)
    camera_vertices = to_camera(model.vertices(coefficients), pose)
    seen = camera_vertices if distance is None else in_perspective(camera_vertices, distance)
    projected = to_pixels(seen, pose, size)
    triangles = model.triangles
    fragments = rasterize(projected, triangles, size, size, backend, gradient)
    normals = vertex_normals(camera_vertices, triangles, backend)
    normals = interpolate(normals, fragments, triangles, backend)
    maps = (
        interpolate(camera_vertices[..., 2:], fragments, triangles, backend),
        unit(normals, backend),
        interpolate(model.pncc[None], fragments, triangles, backend),
    )
    if smooth:
        image = antialias(torch.cat(maps, dim=1), fragments, projected, triangles, backend)
        maps = image.split([1, 3, 3], dim=1)
    depth, normals, pncc = maps
    return Rendering(depth, fragments.mask, normals, pncc, fragments, projected)


def unit(
    vectors: Float[Tensor, "batch 3 height width"], backend: str = "auto"
) -> Float[Tensor, "batch 3 height width"]:
    """Scale each pixel's vector to length 1; zero, and what is as good as zero, stays short.

    Raises:
        ValueError: an unsuitable backend.
    """
    if choose_backend(backend, vectors) == "numba":
        return _Unit.apply(vectors)
    squared = vectors.square().sum(dim=1, keepdim=True)
    return vectors * squared.clamp_min(MIN_SQUARED_LENGTH).rsqrt()


class _Unit(torch.autograd.Function):
    """Division by the length in one pass each way, where tensor operations would make nine."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(vectors)
        result = torch.empty(vectors.shape, dtype=vectors.dtype)
        over_batch(_unit_kernel, len(vectors), as_array(vectors), result.numpy())
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (vectors,) = ctx.saved_tensors
        result = torch.empty(vectors.shape, dtype=vectors.dtype)
        arrays = (as_array(vectors), as_array(gradient), result.numpy())
        over_batch(_unit_backward_kernel, len(vectors), *arrays)
        return result


@njit(nogil=True, cache=True)
@no_type_check
def _unit_kernel(start: int, stop: int, vectors: np.ndarray, result: np.ndarray) -> None:
    shortest = vectors.dtype.type(MIN_SQUARED_LENGTH)
    for item in range(start, stop):
        x, y, z = vectors[item, 0], vectors[item, 1], vectors[item, 2]
        out = result[item]
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                a, b, c = x[row, column], y[row, column], z[row, column]
                length = np.sqrt(max(a * a + b * b + c * c, shortest))
                out[0, row, column] = a / length
                out[1, row, column] = b / length
                out[2, row, column] = c / length


@njit(nogil=True, cache=True)
@no_type_check
def _unit_backward_kernel(
    start: int, stop: int, vectors: np.ndarray, gradient: np.ndarray, result: np.ndarray
) -> None:
    shortest = vectors.dtype.type(MIN_SQUARED_LENGTH)
    zero = vectors.dtype.type(0)
    for item in range(start, stop):
        x, y, z = vectors[item, 0], vectors[item, 1], vectors[item, 2]
        g, out = gradient[item], result[item]
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                a, b, c = x[row, column], y[row, column], z[row, column]
                squared = a * a + b * b + c * c
                ga, gb, gc = g[0, row, column], g[1, row, column], g[2, row, column]
                # The part of the gradient along the vector would only change its length.
                along = (a * ga + b * gb + c * gc) / squared if squared > shortest else zero
                length = np.sqrt(max(squared, shortest))
                out[0, row, column] = (ga - along * a) / length
                out[1, row, column] = (gb - along * b) / length
                out[2, row, column] = (gc - along * c) / length
