"""What a photograph shows of the face's texture, and which of it is the face.

Before the face there may be a hand or flowers, and beside it, where the fit expects skin, hair or a
wall. So colors are taken as far as they can be the face's own: at its sides those of its skin
alone, above the brows also those of hair, in the middle of the face, where glasses or a fringe may
have any color, all but those of things that reach into it from outside.
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
from facerecon.model_mesh.unwrap import HIDDEN_BY, sample, unwrap
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.reconstruction import Reconstruction
from facerecon.render import Rendering, render
from facerecon.skin_map import hair_by_color, skin_by_color

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

INNER_MM = (8.0, 20.0)
"""Distance in the photograph from the face's outline below which that holds. From the second on, as
at the sides of a nose that looks at the camera, all is taken that was looked up."""

FRONT = 0.6
"""Cosine of the angle about a head's vertical axis up to which a face counts as its middle, where
a fringe, a beard or glasses may have any color."""

WELL = 0.9
"""Least weight of what is photographed well enough for that."""

FEATURES = ("brows", "eyelids", "lips")
"""What has other colors than skin wherever the photograph shows it well."""

BELOW_NOSE = 33
"""Landmark below which a beard may grow: the skin's usual color is read above it."""

LIKELY = 0.7
"""Least weight of a color that counts as skin."""

MAX_SPREAD = 0.1
"""Largest spread of the skin's colors, in logarithms of their ratios."""

MIXED_MM = 3.0
"""Width of the border of hair or background, whose colors mix with the skin's."""

TONE = (1.1, 0.9)
"""Natural logarithms below and above the skin's usual brightness at which a color counts half."""

DARK_HAIR = 0.7
"""Natural logarithm below the skin's brightness from which on a scalp has any color."""

IN_FRONT = 0.15
"""Largest share of the face of what can be in front of it; what is larger is colored light."""

HAIRLINE_MM = 10.0
"""Above the brows' highest landmark; at a head's sides the hairline sinks, to the ears' height."""

SINKS = 0.5
"""By how much, over the distance behind the brows' ends."""

SOFT_MM = 14.0
"""Width of that line."""


class Seen(NamedTuple):
    """The photograph around the face, and which of its pixels every texel shows.

    Attributes:
        crop, r, rendering: of the photograph, the face and its maps there.
        place: (column, row) of the crop.
        known: the texel is not hidden. trusted: known, and of the face. skin: known, and of the
            color of skin. facing: weight of its color, which falls where the surface turns away.
        normals: camera frame. values: RGB, 0 where unknown.
    """

    crop: Crop
    r: Float[Tensor, "1 numbers"]
    rendering: Rendering
    place: Float[Tensor, "1 2 texels texels"]
    known: Bool[Tensor, "texels texels"]
    trusted: Bool[Tensor, "texels texels"]
    skin: Bool[Tensor, "texels texels"]
    facing: Float[Tensor, "texels texels"]
    normals: Float[Tensor, "3 texels texels"]
    values: Float[Tensor, "3 texels texels"]


def look_up(face: Reconstruction, model: MorphableModel, atlas: Atlas, scalp: Tensor) -> Seen:
    """What the photograph of a face shows of its texture; scalp: of `scalp_weight`, per texel."""
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
    maps = [rendering.projected, normals, _middle(model)[None, :, None]]
    features = torch.stack([model.regions[name] for name in FEATURES]).amax(0)
    maps = [*maps, features[None, :, None], model.regions["ears"][None, :, None]]
    maps = torch.cat(maps, dim=2)
    maps = interpolate(maps, atlas.fragments, model.triangles)
    place, depth, normals, middle, features, ears = maps.split([2, 1, 3, 1, 1, 1], dim=1)
    normals = unit(normals[0])
    # What a lid or a lip hides is near it in depth, so let the pixel's own triangle decide.
    triangle = rendering.fragments.triangle
    island = atlas.island[atlas.triangles[triangle.clamp(min=0), 0]]
    island = torch.where(triangle >= 0, island, -1)[0].numpy()
    there = sample(torch.from_numpy(island).float()[None, None], place, mode="nearest")[0, 0]
    shows = there == atlas.texel_islands()
    known &= shows
    # The mouth's inside is steep, but little of it is seen, and never from far aside.
    cavity = torch.isin(atlas.texel_islands(), torch.tensor(atlas.cavities)) & shows
    cavity &= depth[0, 0] > sample(rendering.depth, place, mode="nearest")[0, 0] - HIDDEN_BY
    values = torch.where(cavity, sample(image, place)[0], values)
    known |= cavity

    mm_per_pixel = wide.side * face.mm_per_pixel / size
    maps = torch.cat(list(_kinds(image, rendering, model, mm_per_pixel)), dim=1)
    skin, hair, free = sample(maps, place)[0] > LIKELY
    outline = ndimage.distance_transform_edt(rendering.mask[0, 0].numpy()) * mm_per_pixel
    outline = sample(torch.from_numpy(outline).float()[None, None], place)[0, 0]
    inner = smoothstep((outline - INNER_MM[0]) / (INNER_MM[1] - INNER_MM[0]))
    facing = smoothstep((normals[2] - FACING[0]) / (FACING[1] - FACING[0]))
    facing = torch.maximum(facing * (1 - ears[0, 0]), inner)  # beside a misplaced ear is a wall
    any_color = ((middle[0, 0] > FRONT) & free) | (features[0, 0] > 0.5)
    ours = skin | (any_color & (facing > WELL)) | (hair & (scalp > 0.5))
    # Without single texels, and without the border of hair, where colors mix.
    trusted, skin = (
        known & (torch.from_numpy(_blurred(known & each, FEATHER * len(known) / 4)) > 0.6)
        for each in (ours, skin)
    )
    return Seen(wide, r, rendering, place, known, trusted, skin, facing, normals, values)


def scalp_weight(model: MorphableModel) -> Float[Tensor, " vertices"]:
    """1 where hair grows on a head, 0 on its face and ears, and smooth between the two."""
    brows = model.mean[model.landmarks[17:27]]
    _, y, z = model.mean.unbind(1)
    behind = (brows[[0, -1], 2].mean() - z).clamp(min=0)
    above = y - (brows[:, 1].max() + HAIRLINE_MM - SINKS * behind)
    return smoothstep(above / SOFT_MM + 0.5) * (1 - model.regions["ears"])


def _middle(model: MorphableModel) -> Float[Tensor, " vertices"]:
    """Cosine of the angle about the axis of a head between a vertex and the front; neck: 0."""
    x, _, z = model.mean.unbind(1)
    before = z - z[model.regions["face"] > 0.5].min()  # the face ends at the ears
    return before / torch.hypot(x, before).clamp(min=1e-6) * (1 - model.regions["neck"])


def smoothstep(share: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """0 below 0, 1 above 1, and smooth between them."""
    share = share.clip(0, 1)
    return share**2 * (3 - 2 * share)


def unit(maps: Float[Tensor, "3 texels texels"]) -> Float[Tensor, "3 texels texels"]:
    """Vectors of length 1; torch's own function takes many times longer along this axis."""
    return maps / maps.square().sum(0).sqrt().clamp(min=1e-12)


def _blurred(known: Bool[Tensor, "texels texels"], sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(known.float().numpy(), sigma)


def _kinds(
    image: Float[Tensor, "1 3 size size"],
    rendering: Rendering,
    model: MorphableModel,
    mm_per_pixel: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every pixel: weights of skin and of hair; 1 but for what is in front of the face."""
    bare = vertex_appearance(model)[:, -1]
    bare = bare * (model.mean[:, 1] > model.mean[model.landmarks[BELOW_NOSE], 1])  # no beard
    bare = interpolate(bare[None, :, None], rendering.fragments, model.triangles) > 0.5
    likely, skin = skin_colors(image, bare, mm_per_pixel)
    hair = hair_by_color(image, bare, mm_per_pixel)
    beside = ~rendering.mask[0, 0].numpy()
    foreign = (torch.maximum(likely, hair) < LIKELY)[0, 0].numpy() | beside
    foreign = ndimage.binary_propagation(beside, mask=foreign) & ~beside
    if foreign.sum() > IN_FRONT * (~beside).sum():
        foreign[:] = False
    foreign = ndimage.binary_dilation(foreign, iterations=math.ceil(MIXED_MM / mm_per_pixel))
    if bare.any():
        dark = -_brighter(image, bare) > DARK_HAIR
        hair = torch.maximum(hair, dark.float())
    free = 1 - torch.from_numpy(foreign).float()[None, None]
    return skin, hair, free


def skin_colors(
    image: Float[Tensor, "1 3 size size"], bare: Bool[Tensor, "1 1 size size"], mm_per_pixel: float
) -> tuple[Float[Tensor, "1 1 size size"], Float[Tensor, "1 1 size size"]]:
    """Weight of each pixel's color and brightness among the skin's; the least around it, too."""
    weight = skin_by_color(image, bare, mm_per_pixel, MAX_SPREAD)
    if bare.any():
        away = _brighter(image, bare)
        below, above = TONE
        weight = weight / (1 + (torch.where(away < 0, away / below, away / above)) ** 4)
    reach = math.ceil(MIXED_MM / mm_per_pixel)
    return weight, -torch.nn.functional.max_pool2d(-weight, 2 * reach + 1, 1, reach)


def _brighter(
    image: Float[Tensor, "1 3 size size"], bare: Bool[Tensor, "1 1 size size"]
) -> Float[Tensor, "1 1 size size"]:
    """Natural logarithm of the brightness over the skin's usual one."""
    level = image.clamp(min=DARKEST).log().mean(1, keepdim=True)
    return level - level[bare].median()
