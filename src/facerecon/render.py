"""The rendering layer: from the representation r to depth, normal and PNCC maps."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.camera import split, to_camera, to_pixels
from facerecon.mesh import vertex_normals
from facerecon.rasterize import Fragments, interpolate, rasterize

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
    model: FaceModel, r: Float[Tensor, "batch numbers"], size: int, backend: str = "auto"
) -> Rendering:
    """Render the faces described by r; differentiable to r through depth, normals and `projected`.

    Visibility and barycentric weights count as fixed: nothing flows through where a vertex lies on
    the pixel grid, only through its depth and normal.

    Args:
        r: coefficients and pose, as in `camera.join`.
        size: side of the square maps in pixels.
        backend: "numba" (CPU), "torch" (any device) or "auto".

    Raises:
        ValueError: `r` of the wrong shape or not finite, or an unsuitable backend.

    Source: section 4.1, Eqs. (5) to (7); the feedback maps PNCC and normals: section 3.2.1.
    """
    coefficients, pose = split(r, model.n_coefficients)
    camera_vertices = to_camera(model.vertices(coefficients), pose)
    projected = to_pixels(camera_vertices, pose, size)
    fragments = rasterize(projected, model.triangles, size, size, backend)
    normals = vertex_normals(camera_vertices, model.triangles, backend)
    normals = interpolate(normals, fragments, model.triangles, backend)
    squared = torch.where(fragments.mask, normals.square().sum(dim=1, keepdim=True), 1.0)
    return Rendering(
        depth=interpolate(camera_vertices[..., 2:], fragments, model.triangles, backend),
        mask=fragments.mask,
        normals=normals * squared.clamp_min(MIN_SQUARED_LENGTH).rsqrt(),
        pncc=interpolate(model.pncc[None], fragments, model.triangles, backend),
        fragments=fragments,
        projected=projected,
    )
