"""The photograph as a texture of the model, and its detail as a normal map of the same texture.

What the photograph shows is looked up in it. What it hides is the model's mean albedo in the light
of the photographed skin, and how the two differ goes on from what borders on it: from the mirrored
side where the photograph shows that, else smoothly. A scalp goes on in the hair's colors.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from facerecon.camera import to_camera
from facerecon.mesh import vertex_normals
from facerecon.model_mesh.atlas import Atlas
from facerecon.model_mesh.seen import (
    DARKEST,
    FACING,
    FEATHER,
    Seen,
    look_up,
    scalp_weight,
    smoothstep,
    unit,
)
from facerecon.model_mesh.unwrap import Mirror, fill, sample
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.reconstruction import Reconstruction

CAVITY = 0.4
"""Light that reaches the inside of the mouth, in shares of the skin's."""

LEAST_FACING = 0.5
"""Least z of a detail's normal over the model's surface: what is steeper is an occlusion."""

PULL = 3e-4
"""Weight per texel of a fill's membrane that pulls it to the usual color far from the face."""

USUAL = 0.3
"""Natural logarithm by which skin differs from the lit albedo at most, to go on beside the face:
more is the shadow of hair, or strands of it."""

HAIRY = 0.1
"""Least share of the photographed scalp that is no skin, from which on the rest counts as hair."""

GREY = 0.02
"""Largest difference between the logarithms of a grey photograph's colors."""

_RIDGE = 0.01  # of the light's direction, in shares of the texels
_ROUNDS = 4  # of the robust fit
_OUTLIER = 2.0  # robust standard deviations


class FaceTexture(NamedTuple):
    """color: RGB in [0, 1]. normals: unit, in the surface's tangent frame (`tangents`).

    shown: where color comes from the photograph itself, 0 to 1.
    """

    color: Float[np.ndarray, "texels texels 3"]
    normals: Float[np.ndarray, "texels texels 3"]
    shown: Float[np.ndarray, "texels texels"]


def face_texture(
    face: Reconstruction, model: MorphableModel, atlas: Atlas, mirror: Mirror
) -> FaceTexture:
    """Texture and normal map of a face; model: that it was reconstructed with, on the CPU."""
    scalp = scalp_weight(model)[None, :, None]
    scalp = interpolate(scalp, atlas.fragments, model.triangles)[0, 0]
    seen = look_up(face, model, atlas, scalp)
    color, shown = _color(seen, scalp.numpy(), model, atlas, mirror)
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


def _color(
    seen: Seen,
    scalp: Float[np.ndarray, "texels texels"],
    model: MorphableModel,
    atlas: Atlas,
    mirror: Mirror,
) -> tuple[np.ndarray, np.ndarray]:
    mask, island = atlas.mask.numpy(), atlas.texel_islands().numpy()
    on_face = island == 0
    known, trusted, skin = (each.numpy() for each in (seen.known, seen.trusted, seen.skin))
    photo = np.log(seen.values.clamp(min=DARKEST).numpy()) * known
    weight = _feathered(trusted, mask) * seen.facing.numpy() * on_face
    albedo = interpolate(model.albedo_mean[None], atlas.fragments, model.triangles)[0]
    albedo = np.log(albedo.clamp(min=DARKEST).numpy())
    if np.ptp(photo[:, known], axis=0).max(initial=0) < GREY:
        albedo[:] = albedo.mean(0)
    lit = albedo + _light(photo - albedo, seen.normals.numpy(), weight * skin)

    # How the photograph differs from the lit albedo, as factors; the mirrored side's, too.
    own = ((photo - lit) * known).astype(np.float32)
    skin = skin & (np.abs(own).mean(0) < USUAL)
    both = torch.from_numpy(np.concatenate([own, weight[None], skin[None]])).float()
    *other, other_facing, other_skin = mirror(both[None])[0].numpy()
    other_weight = _feathered(mirror.known(seen.trusted).numpy(), mask) * other_facing * on_face
    weight = weight.astype(np.float32)

    def completed(other_kind: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """Continues what is of a kind, skin or a scalp."""
        level = other_weight * other_kind
        base = fill(np.stack(other), other_weight, on_face, 0 * own, pull=PULL, level=level)
        return fill(own, weight, on_face, base, pull=PULL, level=weight * kind)

    # Skin over mirrored hair tells nothing about the level.
    bald = completed(other_skin, skin * (1 - other_weight * (1 - other_skin)))
    hair = scalp * (1 - skin)
    if (weight * hair).sum() < HAIRY * (weight * scalp).sum():
        hair = scalp
    hairy = completed(scalp * (1 - other_skin), hair)
    color = lit + bald + scalp * (hairy - bald)

    # Eyeballs and the mouth's inside: the photograph, or the albedo in the light of all the face.
    level = np.median((lit - albedo)[:, on_face], axis=1)
    rest = albedo + level[:, None, None]
    cavities = np.isin(island, atlas.cavities)
    rest = rest + np.log(CAVITY) * cavities
    inner = cavities | np.isin(island, atlas.eyeballs)
    around, near = _continued(photo, known & inner, FEATHER * len(mask))
    color = np.where(on_face, color, np.where(inner, rest + near * (around - rest), rest))
    color = np.exp(color).clip(0, 1)
    # Beyond the islands their borders go on, for what blends neighboring texels.
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    color = color[(slice(None), *nearest)]
    shown = np.where(inner, known, weight)
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
    return values[(slice(None), *nearest)], smoothstep(1 - distance / reach)


def _light(
    shade: Float[np.ndarray, "channels texels texels"],
    normals: Float[np.ndarray, "3 texels texels"],
    weight: Float[np.ndarray, "texels texels"],
) -> Float[np.ndarray, "channels texels texels"]:
    """Logarithm of the light on all texels, by that on some: linear in the normal, robustly.

    So it is positive everywhere. What was not seen gets no more and no less light than what was.
    """
    basis = np.stack([np.ones_like(weight), *normals[:2], np.maximum(normals[2], FACING[0])])
    chosen = weight > 0.5
    if not chosen.any():
        return np.zeros_like(shade)
    rows, values = basis[:, chosen].T, shade[:, chosen].T
    ridge = np.diag([0.0, 1, 1, 1]) * _RIDGE * len(rows)
    kept = np.ones(len(rows))
    for _ in range(_ROUNDS):
        found = np.linalg.solve(rows.T * kept @ rows + ridge, rows.T * kept @ values)
        error = np.abs(values - rows @ found).mean(1)
        kept = (error < _OUTLIER * 1.48 * np.median(error) + 1e-6).astype(float)
    light = np.tensordot(found.T, basis, axes=1)
    darkest, brightest = np.quantile(rows @ found, (0.02, 0.98), axis=0)
    return light.clip(darkest[:, None, None], brightest[:, None, None])


def _feathered(
    known: Bool[np.ndarray, "texels texels"], mask: Bool[np.ndarray, "texels texels"]
) -> Float[np.ndarray, "texels texels"]:
    """1 inside what is known, falling smoothly to 0 at its border; the islands' own is none."""
    distance = ndimage.distance_transform_edt(known | ~mask)
    return known * smoothstep(distance / (FEATHER * len(mask)))


def _normal_map(
    face: Reconstruction, seen: Seen, model: MorphableModel, atlas: Atlas
) -> Float[np.ndarray, "texels texels 3"]:
    """The detailed surface's normals in the tangent frame of the model's; (0, 0, 1) elsewhere."""
    vertices = to_camera(model.vertices(seen.r[:, : model.n_coefficients]), seen.r[:, -6:])
    smooth = vertex_normals(vertices, model.triangles)
    points, normals = vertices[0, atlas.vertex], smooth[0, atlas.vertex]
    frame = torch.cat([normals, tangents(points, normals, atlas)], dim=1)
    maps = interpolate(frame[None], atlas.fragments, atlas.triangles)[0]
    normal, tangent, sign = maps[:3], maps[3:6], maps[6].sign()
    normal = unit(normal)
    tangent = tangent - (tangent * normal).sum(0) * normal
    tangent = unit(tangent)
    bitangent = torch.linalg.cross(normal, tangent, dim=0) * sign

    fine = np.dstack([np.nan_to_num(face.normals), face.mask])
    fine = torch.from_numpy(seen.crop.cut(fine.astype(np.float32))).permute(2, 0, 1)[None]
    fine = sample(fine, seen.place)[0]
    direction = unit(fine[:3])
    local = torch.stack([(axis * direction).sum(0) for axis in (tangent, bitangent, normal)])
    island = atlas.texel_islands().numpy()
    known = (seen.known & (fine[3] > 0.99) & (local[2] > LEAST_FACING)).numpy() & (island == 0)
    weight = _feathered(known, atlas.mask.numpy())
    flat = np.array([0.0, 0.0, 1.0])[:, None, None]
    mixed = flat + weight * (local.numpy() - flat)
    mixed /= np.linalg.norm(mixed, axis=0)
    return np.moveaxis(mixed, 0, 2).astype(np.float32)
