"""The rendering layer: from the representation r to depth, normal and PNCC maps."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from facerecon.camera import in_perspective, split, to_camera, to_pixels
from facerecon.mesh import vertex_normals
from facerecon.rasterize import (
    Fragments,
    antialias,
    interpolate,
    interpolate_maps,
    rasterize,
    require_gradient,
)

MIN_FACING = 0.25
"""n_z below which a lift along the normal no longer grows on the pixel grid."""


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
        ImportError: nvdiffrast is requested and cannot be imported.

    Source: section 4.1, Eqs. (5) to (7); the feedback maps PNCC and normals: section 3.2.1.
    """
    require_gradient(gradient)
    if smooth and gradient == "fixed":
        raise ValueError("smooth maps move with the outline: they need the gradient 'full'")
    camera_vertices, projected = place(model, r, size, distance)
    triangles = model.triangles
    fragments = rasterize(projected, triangles, size, size, backend, gradient)
    normals = vertex_normals(camera_vertices, triangles, backend)
    maps = interpolate_maps(camera_vertices, normals, model.pncc, fragments, triangles, backend)
    if smooth:
        image = antialias(torch.cat(maps, dim=1), fragments, projected, triangles, backend)
        maps = image.split([1, 3, 3], dim=1)
    depth, normals, pncc = maps
    return Rendering(depth, fragments.mask, normals, pncc, fragments, projected)


class CurvedSurface(NamedTuple):
    """The curved surface of one batch of faces. depth: mm, as of `curved_depth`.

    vertices, normals: of the mesh, camera frame (mm, unit). projected: as of `Rendering`.
    """

    depth: Float[Tensor, "batch 1 height width"]
    fragments: Fragments
    vertices: Float[Tensor, "batch vertices 3"]
    normals: Float[Tensor, "batch vertices 3"]
    projected: Float[Tensor, "batch vertices 3"]


def curved_surface(model: FaceModel, r: Float[Tensor, "batch numbers"], size: int) -> CurvedSurface:
    """What FineNet starts from: `curved_depth` of the faces that r describes, as `render` does."""
    vertices, projected = place(model, r, size)
    fragments = rasterize(projected, model.triangles, size, size)
    normals = vertex_normals(vertices, model.triangles)
    depth = curved_depth(vertices, normals, fragments, model.triangles)
    return CurvedSurface(depth, fragments, vertices, normals, projected)


def curved_depth(
    vertices: Float[Tensor, "batch vertices 3"],
    normals: Float[Tensor, "batch vertices 3"],
    fragments: Fragments,
    triangles: Int[Tensor, "triangles 3"],
) -> Float[Tensor, "batch 1 height width"]:
    """Depth of the curved surface that a mesh stands for: without its facets.

    Eq. (5) interpolates depth, so the depth map is flat over each triangle, and its normals jump by
    degrees from one to the next: as much as wrinkles turn them. Here each pixel is lifted half of
    the way to where the tangent planes of its triangle's corners would have it. Half makes that
    exact for surfaces of second order.

    Args:
        vertices: mm; x to the right, y up, z to the viewer; the origin does not matter.
        normals: of the vertices, unit. fragments, triangles: the rasterized mesh.

    Returns:
        mm; 0 in the background.

    Source: the projections of Phong tessellation, Boubekeur and Alexa, SIGGRAPH Asia 2008.
    """
    level = (vertices * normals).sum(dim=2, keepdim=True)
    maps = interpolate(torch.cat([vertices, normals, level], dim=2), fragments, triangles)
    point, normal, level = maps.split([3, 3, 1], dim=1)
    lift = 0.5 * (level - (point * normal).sum(dim=1, keepdim=True))
    facing = normal[:, 2:] / normal.square().sum(dim=1, keepdim=True).clamp(min=1e-12).sqrt()
    return point[:, 2:] + lift / facing.clamp(min=MIN_FACING)


def place(
    model: FaceModel,
    r: Float[Tensor, "batch numbers"],
    size: int,
    distance: Float[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch vertices 3"], Float[Tensor, "batch vertices 3"]]:
    """The vertices of the faces that r describes, in the camera frame (mm) and on the pixel grid.

    Args and errors as in `render`. Source: Eqs. (1), (2) and (5).
    """
    coefficients, pose = split(r, model.n_coefficients)
    camera_vertices = to_camera(model.vertices(coefficients), pose)
    seen = camera_vertices if distance is None else in_perspective(camera_vertices, distance)
    return camera_vertices, to_pixels(seen, pose, size)
