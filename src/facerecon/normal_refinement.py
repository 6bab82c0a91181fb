"""From the coarse face to a detailed one through normals: NormalNet, shading, integration."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import avg_pool2d, max_pool2d

from facerecon.appearance import vertex_appearance
from facerecon.integration import MAX_JUMP_MM, integrate
from facerecon.morphable_model import MorphableModel
from facerecon.normalnet import (
    MIN_FACING,
    NormalNet,
    corrected_slopes,
    normal_input,
    slopes_of,
)
from facerecon.rasterize import interpolate, interpolate_maps
from facerecon.render import CurvedSurface
from facerecon.sfs import gaussian_blur
from facerecon.shading_refinement import ShadingRefinement, refine_by_shading
from facerecon.skin_map import skin_by_color

FULLY_CORRECTED = 0.35
"""Coarse n_z from which on NormalNet's corrections count in full; at the rim, none does."""


UNSURE = (0.2, 0.4)
"""rad of NormalNet's expected error between which the depth is smoothed more and more.

Most of a face is below. Above are lids, nostrils and lips, where the mesh has steps that the
slopes do not take away."""

SMOOTHED_MM = 1.5
"""Standard deviation of that smoothing: wider than such a step, narrower than a lid."""


EYE_RELIEF = 0.5
"""Share of the relief of the coarse face's eyes that replaces NormalNet's.

What NormalNet says of an eye's opening is blurred: the eye looks shut. All of the coarse relief
would look best, but its lids lie beside the real ones, which measured people show: a half is the
compromise."""

EYE_RELIEF_MM = 3.0
"""Standard deviation of the Gaussian that is taken off, to get that relief."""


class SeenNormals(NamedTuple):
    """What NormalNet sees of a face, starting from a coarse surface.

    slopes: as of `normalnet.corrected_slopes`. error: expected angle in rad between their normals
    and the true ones. mask: where the surface was. normals: its own, camera frame.
    """

    slopes: Float[Tensor, "1 2 height width"]
    error: Float[Tensor, "1 1 height width"]
    mask: Bool[Tensor, "1 1 height width"]
    normals: Float[Tensor, "1 3 height width"]


def see_normals(
    network: nn.Module,
    model: MorphableModel,
    image: Float[Tensor, "1 1 size size"],
    surface: CurvedSurface,
) -> SeenNormals:
    """Ask a NormalNet. image: grey crop in [0, 1]. surface: of the model, on its pixels."""
    fragments = surface.fragments
    maps = surface.vertices, surface.normals, model.pncc, fragments, model.triangles
    _, normals, pncc = interpolate_maps(*maps)
    mask = fragments.mask
    tilt, log_error = network(normal_input(image, normals, pncc, mask, network.config))
    return SeenNormals(corrected_slopes(normals, tilt), log_error.exp(), mask, normals)


class RefinedSurface(NamedTuple):
    """A detailed surface on the pixels of the coarse one.

    depth: mm. error: expected angle in rad between its normals and the true ones. light: that the
    shading was explained with, of first order (`lighting.sh_basis`); None without shading.
    """

    depth: Float[Tensor, "1 1 height width"]
    error: Float[Tensor, "1 1 height width"]
    light: Float[Tensor, "1 4"] | None


class NormalRefinement(nn.Module):
    """The whole stage as one function of the grey crop and the coarse surface.

    Args:
        model: MorphableModel. network: trained. shading: settings of the linear steps after the
            network; None leaves them out.
    """

    def __init__(
        self,
        model: MorphableModel,
        network: NormalNet,
        shading: ShadingRefinement | None = None,
    ):
        super().__init__()
        self.model, self.network, self.shading = model, network.eval(), shading
        skin = vertex_appearance(model)[None, :, -2:].contiguous()  # and bare skin
        self.register_buffer("skin", skin, persistent=False)
        eyes = [model.region_names.index(name) for name in ("eye_left", "eye_right")]
        eyes = model.region_masks[eyes].any(0).to(skin)[None, :, None]
        self.register_buffer("eyes", eyes, persistent=False)

    @torch.no_grad()
    def forward(
        self,
        image: Float[Tensor, "1 1 size size"],
        surface: CurvedSurface,
        mm_per_pixel: Float[Tensor, "1"],
        rgb: Float[Tensor, "1 3 size size"] | None = None,
        seen: SeenNormals | None = None,
    ) -> RefinedSurface:
        """Refine one face.

        Args:
            image: grey crop in [0, 1]. surface: of the morphable model, on the crop's pixels.
            mm_per_pixel: width of a pixel. rgb: the crop in color, if there is one: it tells hair
                and hats from skin.
            seen: the normals, where they were seen before (`shape_from_normals`).
        """
        fragments, triangles = surface.fragments, self.model.triangles
        if seen is None:
            seen = see_normals(self.network, self.model, image, surface)
            normals = seen.normals
        else:
            normals = F.normalize(interpolate(surface.normals, fragments, triangles), dim=1)
        mask, error, light = fragments.mask, seen.error, None
        whole = FULLY_CORRECTED - MIN_FACING
        share = ((normals[:, 2:] - MIN_FACING) / whole).clamp(0, 1) * seen.mask
        own = slopes_of(normals)
        slopes = own + share * (seen.slopes - own)
        if self.shading is not None:
            skin, bare = interpolate(self.skin, fragments, triangles).split(1, dim=1)
            skin = skin * share
            if rgb is not None:
                skin = skin * skin_by_color(rgb, bare > 0.5, mm_per_pixel.item())
            known = image, slopes, surface.depth, mask, mm_per_pixel.item(), skin, error
            shaded = refine_by_shading(*known, self.shading)
            slopes, light = shaded.slopes, shaded.light
        depth = integrate(slopes, surface.depth, mask, mm_per_pixel, error)
        depth = smoothed_where_unsure(depth, error, mask, mm_per_pixel.item())
        eyes = interpolate(self.eyes, fragments, triangles) > 0.5
        depth = with_relief(depth, surface.depth, eyes, mask, mm_per_pixel.item())
        return RefinedSurface(depth, error, light)


def with_relief(
    depth: Float[Tensor, "1 1 height width"],
    coarse: Float[Tensor, "1 1 height width"],
    where: Bool[Tensor, "1 1 height width"],
    mask: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
) -> Float[Tensor, "1 1 height width"]:
    """The depth with a share of the coarse relief in some places, its own large shape below it.

    Args:
        depth, coarse: mm. where: the places; they fade over a mm. mm_per_pixel: width of a pixel.
    """
    sigma = EYE_RELIEF_MM / mm_per_pixel
    area = gaussian_blur(mask.to(depth), sigma).clamp(min=1e-6)
    difference = torch.where(mask, coarse - depth, 0.0)
    relief = difference - gaussian_blur(difference, sigma) / area
    share = EYE_RELIEF * gaussian_blur(where.to(depth), 1 / mm_per_pixel)
    return torch.where(mask, depth + share * relief, depth)


def smoothed_where_unsure(
    depth: Float[Tensor, "1 1 height width"],
    error: Float[Tensor, "1 1 height width"],
    mask: Bool[Tensor, "1 1 height width"],
    mm_per_pixel: float,
) -> Float[Tensor, "1 1 height width"]:
    """The depth, smoothed where its normals are expected to be wrong; not near outlines and jumps.

    Args:
        depth: mm. error: rad. mm_per_pixel: width of a pixel.
    """
    sigma = SMOOTHED_MM / mm_per_pixel
    known = torch.where(mask, depth, 0.0)
    jump = max_pool2d(known, 3, 1, 1) + max_pool2d(-known, 3, 1, 1) > MAX_JUMP_MM
    reach = math.ceil(3 * sigma)
    near = (~mask | jump).to(depth)
    for axes in ((1, 0), (0, 1)):  # a square, one side after the other
        window, padding = ([1 + 2 * reach * axis for axis in axes], [reach * axis for axis in axes])
        near = max_pool2d(near, window, 1, padding)
    near = near > 0
    least, most = UNSURE
    share = ((error - least) / (most - least)).clamp(0, 1)
    share = torch.where(near, 0.0, avg_pool2d(share, 3, 1, 1))
    return torch.lerp(depth, gaussian_blur(known, sigma), share)
