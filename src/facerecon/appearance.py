"""Surface, albedo and light of a photographed face before its detail is known (4.3.1)."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.camera import pose_parameters, split
from facerecon.depth import normals_from_depth
from facerecon.lighting import LUMA
from facerecon.losses import ShadedImage
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments, interpolate
from facerecon.render import curved_surface
from facerecon.sfs import DetailBounds, Shading, detail_target, robust_shading

BARE_FOREHEAD_MM = 8.0
"""Above the brows; higher up, hair and hats would pass for shading."""


class FaceMaps(NamedTuple):
    """A coarse surface with the albedo and regions of the morphable model, on one pixel grid.

    Attributes:
        depth: mm, larger is nearer. normals: of this depth map. mask: where there is a surface.
        mm_per_pixel: width of a pixel.
        albedo_mean, albedo_basis: grey reflectance, Eq. (10).
        skin: weight in [0, 1]; 0 on eyes, in the mouth and off the face.
        bare: skin that hair seldom covers; the light is read from it.
    """

    depth: Float[Tensor, "batch 1 height width"]
    normals: Float[Tensor, "batch 3 height width"]
    mask: Bool[Tensor, "batch 1 height width"]
    mm_per_pixel: Float[Tensor, " batch"]
    albedo_mean: Float[Tensor, "batch 1 height width"]
    albedo_basis: Float[Tensor, "batch coefficients height width"]
    skin: Float[Tensor, "batch 1 height width"]
    bare: Bool[Tensor, "batch 1 height width"]


def vertex_appearance(model: MorphableModel) -> Float[Tensor, "vertices channels"]:
    """Per vertex: grey mean albedo, its basis, weight of skin, weight of bare skin."""
    grey = model.albedo_mean.new_tensor(LUMA)
    skin = model.skin()
    forehead = model.mean[model.landmarks[17:27], 1].max() + BARE_FOREHEAD_MM
    bare = skin * (model.mean[:, 1] < forehead)
    columns = [model.albedo_mean @ grey, *(model.albedo_basis @ grey), skin, bare]
    return torch.stack(columns, dim=1)


def face_maps(
    depth: Float[Tensor, "batch 1 height width"],
    fragments: Fragments,
    triangles: Tensor,
    appearance: Float[Tensor, "vertices channels"],
    mm_per_pixel: Float[Tensor, " batch"],
) -> FaceMaps:
    """Maps of a rasterized mesh.

    Args:
        depth: mm. fragments, triangles: the mesh. appearance: of its vertices, as of
            `vertex_appearance`.
    """
    maps = interpolate(appearance[None].contiguous(), fragments, triangles)
    normals = normals_from_depth(depth, mm_per_pixel, fragments.mask)
    skin, bare = maps[:, -2:-1], maps[:, -1:] > 0.5
    return FaceMaps(
        depth, normals, fragments.mask, mm_per_pixel, maps[:, :1], maps[:, 1:-2], skin, bare
    )


def model_maps(
    model: MorphableModel,
    r: Float[Tensor, "batch numbers"],
    size: int,
    albedo_mean: Float[Tensor, " vertices"] | None = None,
) -> FaceMaps:
    """Maps of the faces that r describes, on `size` x `size` pixels; their depth is curved.

    Args:
        albedo_mean: another grey average of people's skin than the model's.
    """
    surface = curved_surface(model, r, size)
    pose = split(r, model.n_coefficients)[1]
    mm_per_pixel = 1 / pose_parameters(pose, size).scale
    appearance = vertex_appearance(model)
    if albedo_mean is not None:
        appearance = torch.cat([albedo_mean[:, None], appearance[:, 1:]], dim=1)
    return face_maps(surface.depth, surface.fragments, model.triangles, appearance, mm_per_pixel)


def estimate_light_and_albedo(
    image: Float[Tensor, "batch 1 height width"], maps: FaceMaps, order: int = 1
) -> Shading:
    """Light and albedo of a photograph: Eqs. (11) and (12), robustly, from its bare skin.

    The albedo of the result covers the whole mask, its coefficients come from the bare skin.
    """
    found = robust_shading(
        image, maps.albedo_mean, maps.albedo_basis, maps.normals, maps.bare, order=order
    )
    return found._replace(albedo=albedo_of(maps, found.albedo_coefficients))


def albedo_of(
    maps: FaceMaps, coefficients: Float[Tensor, "batch coefficients"]
) -> Float[Tensor, "batch 1 height width"]:
    """Grey reflectance in [0, 1] on the mask. Source: Eq. (10)."""
    change = torch.einsum("bk,bkhw->bhw", coefficients, maps.albedo_basis)[:, None]
    return (maps.albedo_mean + change).clamp(0, 1) * maps.mask


def shading_target(
    image: Float[Tensor, "batch 1 height width"],
    maps: FaceMaps,
    albedo: Float[Tensor, "batch 1 height width"],
    light: Float[Tensor, "batch terms"],
    bounds: DetailBounds,
    trust: Float[Tensor, "batch 1 height width"] | float = 1.0,
) -> ShadedImage:
    """What Eq. (8) compares the refined surface with, by `sfs.detail_target`.

    Args:
        albedo, light: from `estimate_light_and_albedo`.
        trust: additional weight of each pixel in [0, 1].
    """
    shaded = ShadedImage(image, albedo, light, maps.mask, maps.mm_per_pixel)
    return detail_target(shaded, maps.normals, maps.skin * trust, bounds)
