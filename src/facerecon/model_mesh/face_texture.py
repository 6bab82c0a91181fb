"""The photograph as a texture of the model, and its detail as a normal map of the same texture.

What the photograph shows is looked up in it; the hidden side is the mirrored one, brought to the
level of what borders on it; what both hide is the model's mean albedo, brought to that level, too.
At the sides of a face the photograph may show hair or a wall where the fit expects skin: there only
colors of this face's skin are taken.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from facerecon.appearance import vertex_appearance
from facerecon.camera import POSE_UNITS, join, to_camera
from facerecon.imaging import Crop
from facerecon.mesh import vertex_normals
from facerecon.model_mesh.atlas import Atlas
from facerecon.model_mesh.unwrap import Mirror, fill, sample, unwrap
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.reconstruction import Reconstruction
from facerecon.render import Rendering, render
from facerecon.skin_map import skin_by_color

WIDER = 1.5
"""Sides of the face's crop that the texture is taken from: with hair, ears and neck."""

MAX_PHOTO = 1024
"""Pixels of that square, at most."""

DARKEST = 0.02
"""Below it, factors between colors mean nothing."""

FEATHER = 0.02
"""Width of the seams around what the photograph shows, in sides of the texture."""

FACING = (0.3, 0.6)
"""z of a normal below which skin takes no color from the photograph, and above which it all."""

FRONT = 0.6
"""Least z of the model's and of the photographed normal in the middle of a face, where a fringe or
a beard may have any color."""

FEATURES = ("brows", "eyelids", "lips")
"""What has other colors than skin wherever the photograph shows it well."""

LIKELY = 0.7
"""Least weight of a color that counts as skin."""

MIXED_MM = 3.0
"""Width of the border of hair or background, whose colors mix with the skin's."""

TONE = (1.1, 0.9)
"""Natural logarithms below and above the skin's usual brightness at which a color counts half."""

CAVITY = 0.4
"""Light that reaches the inside of the mouth, in shares of the skin's."""

LEAST_FACING = 0.5
"""Least z of a detail's normal over the model's surface: what is steeper is an occlusion."""


class FaceTexture(NamedTuple):
    """color: RGB in [0, 1]. normals: unit, in the surface's tangent frame (`tangents`).

    shown: where color comes from the photograph itself, 0 to 1.
    """

    color: Float[np.ndarray, "texels texels 3"]
    normals: Float[np.ndarray, "texels texels 3"]
    shown: Float[np.ndarray, "texels texels"]


class _Seen(NamedTuple):
    """The photograph around the face, and which of its pixels every texel shows."""

    crop: Crop
    r: Tensor
    rendering: Rendering
    place: Tensor  # (1, 2, T, T): column, row of the crop
    known: Tensor  # (T, T)
    facing: Tensor  # (T, T): z of the normal
    trusted: Tensor  # (T, T): known, and of the face, as far as its color tells
    skin: Tensor  # (T, T): known, and of the color of skin
    values: Tensor  # (3, T, T)


def face_texture(
    face: Reconstruction, model: MorphableModel, atlas: Atlas, mirror: Mirror
) -> FaceTexture:
    """Texture and normal map of a face; model: that it was reconstructed with, on the CPU."""
    seen = _look_up(face, model, atlas)
    color, shown = _color(seen, model, atlas, mirror)
    return FaceTexture(color, _normal_map(face, seen, model, atlas), shown)


def tangents(
    points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"], atlas: Atlas
) -> Float[Tensor, "points 4"]:
    """Unit tangents along u, as glTF has them; the fourth number is the bitangent's sign.

    The bitangent is sign * cross(normal, tangent) and points upward in the texture.

    Args:
        points, normals: of the atlas's texture points, in any one frame.
    """
    corners = points[atlas.triangles]
    texel = atlas.coordinates[atlas.triangles]
    p1, p2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = ((texel[:, k] - texel[:, 0]).unbind(1) for k in (1, 2))
    area = u1 * v2 - u2 * v1
    along = (p1 * v2[:, None] - p2 * v1[:, None]) * area.sign()[:, None]
    down = (p2 * u1[:, None] - p1 * u2[:, None]) * area.sign()[:, None]
    total = points.new_zeros(2, len(points), 3)
    for corner in range(3):
        total[0].index_add_(0, atlas.triangles[:, corner], along)
        total[1].index_add_(0, atlas.triangles[:, corner], down)
    tangent = total[0] - (total[0] * normals).sum(1, keepdim=True) * normals
    tangent = torch.nn.functional.normalize(tangent, dim=1, eps=1e-12)
    bitangent = torch.linalg.cross(normals, tangent)
    sign = torch.where((bitangent * total[1]).sum(1) <= 0, 1.0, -1.0)
    return torch.cat([tangent, sign[:, None]], dim=1)


def _look_up(face: Reconstruction, model: MorphableModel, atlas: Atlas) -> _Seen:
    wide = face.crop.moved(0, 0, float(np.log(WIDER)))
    size = int(min(MAX_PHOTO, max(round(wide.side), 256)))
    wide = wide.at(size)
    pose = torch.from_numpy(face.pose).clone()[None]
    pose[:, 3:5] /= WIDER
    pose[:, 5] -= float(np.log(WIDER)) / POSE_UNITS[5].item()
    r = join(torch.from_numpy(face.coefficients)[None], pose)
    rendering = render(model, r, size)
    image = torch.from_numpy(wide.cut(face.image)).permute(2, 0, 1)[None]
    inside = torch.from_numpy(wide.inside(face.image.shape[:2]))[None, None]
    values, known = unwrap(model, atlas, image, r, rendering, inside)
    normals = vertex_normals(
        to_camera(model.vertices(r[:, : model.n_coefficients]), pose), model.triangles
    )
    maps = torch.cat([rendering.projected[..., :2], normals[..., 2:]], dim=2)
    place, facing = interpolate(maps, atlas.fragments, model.triangles).split([2, 1], dim=1)
    # What a lid or a lip hides is near it in depth, so let the pixel's own triangle decide.
    triangle = rendering.fragments.triangle
    island = atlas.island[atlas.triangles[triangle.clamp(min=0), 0]]
    island = torch.where(triangle >= 0, island, -1)[0].numpy()
    there = sample(torch.from_numpy(island).float()[None, None], place, mode="nearest")[0, 0]
    known &= there == atlas.texel_islands()
    facing = facing[0, 0]
    skin = _skin(image, rendering, model, wide.side * face.mm_per_pixel / size)
    rest = vertex_normals(model.mean[None], model.triangles)[..., 2:]
    features = torch.stack([model.regions[name] for name in FEATURES]).amax(0)
    maps = torch.cat([rest, features[None, :, None]], dim=2)
    rest, features = interpolate(maps, atlas.fragments, model.triangles)[0]
    skin = known & (sample(skin, place)[0, 0] > LIKELY)
    any_color = torch.minimum(torch.maximum(rest, features), facing) > FRONT
    any_color |= (features > 0.5) & (facing > FACING[1])
    # Without single texels, and without the border of hair, where colors mix.
    trusted, skin = (
        known & (torch.from_numpy(_blurred(each, FEATHER * len(known) / 4)) > 0.6)
        for each in (known & (skin | any_color), skin)
    )
    return _Seen(wide, r, rendering, place, known, facing, trusted, skin, values)


def _blurred(known: Bool[Tensor, "texels texels"], sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(known.float().numpy(), sigma)


def _skin(
    image: Float[Tensor, "1 3 size size"],
    rendering: Rendering,
    model: MorphableModel,
    mm_per_pixel: float,
) -> Float[Tensor, "1 1 size size"]:
    """Least weight of the colors and brightness around each pixel among those of the skin."""
    bare = vertex_appearance(model)[None, :, -1:].contiguous()
    bare = interpolate(bare, rendering.fragments, model.triangles) > 0.5
    color = skin_by_color(image, bare, mm_per_pixel)
    if not bare.any():
        return color
    level = image.clamp(min=DARKEST).log().mean(1, keepdim=True)
    away = level - level[bare].median()
    below, above = TONE
    weight = color / (1 + (torch.where(away < 0, away / below, away / above)) ** 4)
    reach = math.ceil(MIXED_MM / mm_per_pixel)
    return -torch.nn.functional.max_pool2d(-weight, 2 * reach + 1, 1, reach)


def _color(
    seen: _Seen, model: MorphableModel, atlas: Atlas, mirror: Mirror
) -> tuple[np.ndarray, np.ndarray]:
    mask, island = atlas.mask.numpy(), atlas.texel_islands().numpy()
    on_face = island == 0
    known, trusted, skin = (each.numpy() for each in (seen.known, seen.trusted, seen.skin))
    photo = np.log(seen.values.clamp(min=DARKEST).numpy()) * known
    low, high = FACING
    facing = _smoothstep((seen.facing - low) / (high - low))
    weight = _feathered(trusted, mask) * facing.numpy() * on_face
    albedo = interpolate(model.albedo_mean[None], atlas.fragments, model.triangles)[0]
    albedo = np.log(albedo.clamp(min=DARKEST).numpy())

    both = torch.from_numpy(np.concatenate([photo, weight[None], skin[None]])).float()
    *other, other_facing, other_skin = mirror(both[None])[0].numpy()
    other_weight = _feathered(mirror.known(seen.trusted).numpy(), mask) * other_facing * on_face
    completed = fill(
        np.stack(other), other_weight, on_face, albedo, level=other_weight * other_skin
    )
    photo, weight = photo.astype(np.float32), weight.astype(np.float32)
    # Skin over mirrored hair tells nothing about the level.
    level = weight * skin * (1 - other_weight * (1 - other_skin)).astype(np.float32)
    color = fill(photo, weight, on_face, completed, level=level)

    # Eyeballs and the mouth's inside: the albedo in the light of the face as a whole.
    lit = skin & on_face
    level = np.median((photo - albedo)[:, lit], axis=1) if lit.any() else np.zeros(3)
    rest = albedo + level[:, None, None]
    eyes = np.isin(island, atlas.eyeballs)
    rest = rest + np.log(CAVITY) * np.isin(island, atlas.cavities)
    around, near = _continued(photo, known & eyes, FEATHER * len(mask))
    color = np.where(on_face, color, np.where(eyes, rest + near * (around - rest), rest))
    color = np.exp(color).clip(0, 1)
    # Beyond the islands their borders go on, for what blends neighboring texels.
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    color = color[(slice(None), *nearest)]
    shown = np.where(eyes, known, weight)
    return np.moveaxis(color, 0, 2).astype(np.float32), shown.astype(np.float32)


def _continued(
    values: Float[np.ndarray, "channels texels texels"],
    known: Bool[np.ndarray, "texels texels"],
    reach: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Values that go on beyond where they are known, and their weight: 1 there, 0 at the reach.

    So no ring of another color shows where a lid opens a little further.
    """
    if not known.any():
        return values, np.zeros(known.shape)
    distance, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
    return values[(slice(None), *nearest)], _smoothstep(1 - distance / reach)


def _smoothstep(share: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """0 below 0, 1 above 1, and smooth between them."""
    share = share.clip(0, 1)
    return share**2 * (3 - 2 * share)


def _feathered(
    known: Bool[np.ndarray, "texels texels"], mask: Bool[np.ndarray, "texels texels"]
) -> Float[np.ndarray, "texels texels"]:
    """1 inside what is known, falling smoothly to 0 at its border; the islands' own is none."""
    distance = ndimage.distance_transform_edt(known | ~mask)
    return known * _smoothstep(distance / (FEATHER * len(mask)))


def _normal_map(
    face: Reconstruction, seen: _Seen, model: MorphableModel, atlas: Atlas
) -> Float[np.ndarray, "texels texels 3"]:
    """The detailed surface's normals in the tangent frame of the model's; (0, 0, 1) elsewhere."""
    vertices = to_camera(model.vertices(seen.r[:, : model.n_coefficients]), seen.r[:, -6:])
    smooth = vertex_normals(vertices, model.triangles)
    points, normals = vertices[0, atlas.vertex], smooth[0, atlas.vertex]
    frame = torch.cat([normals, tangents(points, normals, atlas)], dim=1)
    maps = interpolate(frame[None], atlas.fragments, atlas.triangles)[0]
    normal, tangent, sign = maps[:3], maps[3:6], maps[6].sign()
    normal = torch.nn.functional.normalize(normal, dim=0)
    tangent = tangent - (tangent * normal).sum(0) * normal
    tangent = torch.nn.functional.normalize(tangent, dim=0)
    bitangent = torch.linalg.cross(normal, tangent, dim=0) * sign

    fine = np.dstack([np.nan_to_num(face.normals), face.mask])
    fine = torch.from_numpy(seen.crop.cut(fine.astype(np.float32))).permute(2, 0, 1)[None]
    fine = sample(fine, seen.place)[0]
    direction = torch.nn.functional.normalize(fine[:3], dim=0)
    local = torch.stack([(axis * direction).sum(0) for axis in (tangent, bitangent, normal)])
    island = atlas.texel_islands().numpy()
    known = (seen.known & (fine[3] > 0.99) & (local[2] > LEAST_FACING)).numpy() & (island == 0)
    weight = _feathered(known, atlas.mask.numpy())
    flat = np.array([0.0, 0.0, 1.0])[:, None, None]
    mixed = flat + weight * (local.numpy() - flat)
    mixed /= np.linalg.norm(mixed, axis=0)
    return np.moveaxis(mixed, 0, 2).astype(np.float32)
