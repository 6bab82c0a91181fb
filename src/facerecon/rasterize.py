"""The z-buffer and the interpolation of vertex attributes over the visible triangles.

One interface to three backends. "numba" and "torch" evaluate the same expressions in the same order
and precision and therefore agree on every pixel. Coverage has no tolerance: the edge functions of
two triangles that share an edge differ in sign alone, so a pixel center on that edge is covered by
at least one of them. "nvdiffrast" rounds corners to 1/16 of a pixel and may differ along edges.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from facerecon.backends import (
    interpolate_numba,
    rasterize_numba,
    rasterize_nvdiffrast,
    rasterize_torch,
)
from facerecon.backends.choose import choose_backend
from facerecon.shapes import require_shape

GRADIENTS = ("fixed", "full")
MIN_LENGTH = 1e-6  # a mean of unit vectors below this length is not normalized
_RASTERIZE = {
    "numba": rasterize_numba.rasterize,
    "torch": rasterize_torch.rasterize,
    "nvdiffrast": rasterize_nvdiffrast.rasterize,
}
_INTERPOLATE = {
    "numba": interpolate_numba.interpolate,
    "torch": rasterize_torch.interpolate,
    "nvdiffrast": rasterize_nvdiffrast.interpolate,
}


class Fragments(NamedTuple):
    """What a pixel sees: the id of its triangle (-1: none) and the barycentric weights there."""

    triangle: Int[Tensor, "batch height width"]
    barycentric: Float[Tensor, "batch height width 3"]

    @property
    def mask(self) -> Bool[Tensor, "batch 1 height width"]:
        """True where a triangle is visible."""
        return (self.triangle >= 0).unsqueeze(1)


def rasterize(
    projected: Float[Tensor, "batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    height: int,
    width: int,
    backend: str = "auto",
    gradient: str = "fixed",
) -> Fragments:
    """Find the visible triangle of each pixel, and the pixel's barycentric weights there.

    Only front faces are rendered. A pixel belongs to the triangle that covers its center, of
    several to the nearest (depths compared in float32), of equally near ones to the lowest id.

    Args:
        projected: column, row (pixels) and depth (mm, larger is nearer).
        triangles: counter-clockwise seen from outside.
        height, width: of the image in pixels.
        backend: "numba" (CPU), "torch" (any device), "nvdiffrast" (NVIDIA GPU) or "auto".
        gradient: "fixed": the weights are constants, as in Eq. (7). "full": they depend on where
            the three corners lie on the pixel grid. Which triangle is seen is fixed in any case.

    Raises:
        ValueError: wrong shapes, an empty image, a backend that does not suit the tensors, an
            unknown gradient, or a mesh with NaN or infinite coordinates.
        ImportError: nvdiffrast is requested and cannot be imported.

    Source: section 4.1.
    """
    require_shape("projected", projected, None, None, 3)
    require_shape("triangles", triangles, None, 3)
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be positive, got {height} x {width}")
    require_gradient(gradient)
    _require_finite(projected.detach())
    if gradient == "fixed":
        projected = projected.detach()
    find = _RASTERIZE[choose_backend(backend, projected)]
    return Fragments(*find(projected, triangles, height, width))


def interpolate(
    attributes: Float[Tensor, "attribute_batch vertices channels"],
    fragments: Fragments,
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> Float[Tensor, "batch channels height width"]:
    """Interpolate vertex attributes over the visible triangles; 0 in the background.

    Differentiable in the attributes, and in the weights where `rasterize` made them so. Hidden
    vertices get no gradient.

    Args:
        attributes: any unit; a batch of one is shared by all images.
        fragments: from `rasterize` with the same triangles.
        backend: "numba" (CPU), "torch" (any device), "nvdiffrast" (NVIDIA GPU) or "auto".

    Raises:
        ValueError: wrong shapes, batch sizes that do not fit, or an unsuitable backend.
        ImportError: nvdiffrast is requested and cannot be imported.

    Source: Eqs. (6) and (7).
    """
    require_shape("attributes", attributes, None, None, None)
    parts = _checked(attributes, fragments, triangles)
    return _INTERPOLATE[choose_backend(backend, attributes)](*parts)


def interpolate_unit(
    vectors: Float[Tensor, "vector_batch vertices 3"],
    fragments: Fragments,
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> Float[Tensor, "batch 3 height width"]:
    """Interpolate directions: as `interpolate`, and each pixel's vector scaled to length 1.

    Opposite directions may cancel between the vertices; what is as good as zero stays short.

    Raises:
        ValueError: wrong shapes, batch sizes that do not fit, or an unsuitable backend.
        ImportError: nvdiffrast is requested and cannot be imported.
    """
    require_shape("vectors", vectors, None, None, 3)
    image = interpolate(vectors, fragments, triangles, backend)
    squared = image.square().sum(dim=1, keepdim=True)
    return image * squared.clamp_min(MIN_LENGTH**2).rsqrt()


def interpolate_maps(
    vertices: Float[Tensor, "batch vertices 3"],
    normals: Float[Tensor, "batch vertices 3"],
    pncc: Float[Tensor, "vertices 3"],
    fragments: Fragments,
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> tuple[
    Float[Tensor, "batch 1 height width"],
    Float[Tensor, "batch 3 height width"],
    Float[Tensor, "batch 3 height width"],
]:
    """The maps of a face: `interpolate` of z and of PNCC, `interpolate_unit` of the normals.

    In one pass where the backend has it. The PNCC of the vertices is a constant.

    Raises:
        ValueError: wrong shapes, batch sizes that do not fit, or an unsuitable backend.
        ImportError: nvdiffrast is requested and cannot be imported.
    """
    if choose_backend(backend, vertices, normals, pncc) == "numba":
        batch, n_vertices = len(fragments.triangle), len(pncc)
        require_shape("vertices", vertices, batch, n_vertices, 3)
        require_shape("normals", normals, batch, n_vertices, 3)
        _, *parts = _checked(normals, fragments, triangles)
        return interpolate_numba.interpolate_maps(vertices, normals, pncc, *parts, MIN_LENGTH)
    return (
        interpolate(vertices[..., 2:], fragments, triangles, backend),
        interpolate_unit(normals, fragments, triangles, backend),
        interpolate(pncc[None], fragments, triangles, backend),
    )


def antialias(
    image: Float[Tensor, "batch channels height width"],
    fragments: Fragments,
    projected: Float[Tensor, "batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    backend: str = "auto",
) -> Float[Tensor, "batch channels height width"]:
    """Blend pixels on both sides of an outline by how the outline cuts them; nvdiffrast only.

    Differentiable in the image and in x and y of `projected`: so an outline feels a gradient, which
    no interpolation over visible triangles can give.

    Args:
        image: of these fragments, in any unit.
        fragments: from `rasterize` of the same mesh.
        projected: column, row (pixels) and depth (mm, larger is nearer).
        backend: "nvdiffrast", or "auto", which must find it.

    Raises:
        ValueError: wrong shapes, or another backend than nvdiffrast.
        ImportError: nvdiffrast is requested and cannot be imported.
    """
    batch, height, width = fragments.triangle.shape
    require_shape("image", image, batch, None, height, width)
    require_shape("projected", projected, batch, None, 3)
    require_shape("triangles", triangles, None, 3)
    chosen = choose_backend(backend, image, projected)
    if chosen != "nvdiffrast":
        raise ValueError(f"antialiasing needs the backend nvdiffrast, and {chosen} was chosen")
    return rasterize_nvdiffrast.antialias(image, *fragments, projected, triangles)


def require_gradient(gradient: str) -> None:
    """Raise unless this is one of `GRADIENTS`.

    Raises:
        ValueError: naming the choices.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, got {gradient!r}")


def _checked(
    attributes: Tensor, fragments: Fragments, triangles: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the modules interpolate from: attributes, triangle ids, weights, triangles."""
    require_shape("triangles", triangles, None, 3)
    batch = len(fragments.triangle)
    if len(attributes) not in (1, batch):
        raise ValueError(f"attributes must have batch size 1 or {batch}, got {len(attributes)}")
    weights = fragments.barycentric.to(attributes.dtype)
    return attributes, fragments.triangle, weights, triangles


def _require_finite(projected: Tensor) -> None:
    # A sum with NaN or infinity in it is never finite: one cheap pass tells all good meshes.
    if projected.sum(dim=(1, 2)).isfinite().all():
        return
    finite = projected.isfinite().flatten(1).all(dim=1)
    if not finite.all():
        items = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"projected vertices hold NaN or infinity in batch items {items}")
