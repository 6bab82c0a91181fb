"""The methods that `facerecon evaluate yale` compares, as functions of one photograph."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from facerecon.evaluation.measured_normals import Method, Surface
from facerecon.finenet import FineNet
from facerecon.integration import integrate
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement, RefinedSurface, SeenNormals
from facerecon.normalnet import NormalNet, slopes_of
from facerecon.pipeline import Reconstructor
from facerecon.rasterize import interpolate, interpolate_maps
from facerecon.render import CurvedSurface
from facerecon.shading_refinement import ShadingRefinement, refine_by_shading
from facerecon.shape_from_normals import ShapeFromNormals


def yale_methods(
    model: MorphableModel,
    coarsenet: nn.Module,
    finenet: FineNet,
    normalnet: NormalNet,
    iterations: int = 4,
    size: int = 200,
) -> dict[str, Method]:
    """`coarse`, `shape`, `integrated`, `sfs`, `finenet`, `normals`, `normals+sfs`, in this order.

    `shape` is the coarse face after `shape_from_normals`, from which the last two start.
    `integrated` shows nothing but the coarse face's own smooth normals, `sfs` what shading adds to
    them without a network.

    Args:
        iterations: of CoarseNet. size: pixels of the crop that is refined.
    """
    known = model, coarsenet
    alone = NormalRefinement(model, normalnet)
    shaded = NormalRefinement(model, normalnet, ShadingRefinement())
    shape = ShapeFromNormals.after(coarsenet, model, normalnet)
    return {
        "coarse": _method(Reconstructor(*known, None, iterations, size)),
        "shape": _method(Reconstructor(*known, None, iterations, size, shape=shape)),
        "integrated": _method(Reconstructor(*known, None, iterations, size, CoarseNormals(model))),
        "sfs": _method(
            Reconstructor(*known, None, iterations, size, CoarseNormals(model, ShadingRefinement()))
        ),
        "finenet": _method(Reconstructor(*known, finenet, iterations, size)),
        "normals": _method(Reconstructor(*known, None, iterations, size, alone, shape=shape)),
        "normals+sfs": _method(Reconstructor(*known, None, iterations, size, shaded, shape=shape)),
    }


class CoarseNormals(nn.Module):
    """`NormalRefinement` without a network: the coarse face's own normals, integrated to a depth.

    The depth map of the coarse mesh has steps at lids, lips and nostrils, and facets, which the
    interpolated normals of its vertices do not show.

    Args:
        shading: settings of the shape from shading that changes these normals first; None: none.
    """

    def __init__(self, model: MorphableModel, shading: ShadingRefinement | None = None):
        super().__init__()
        self.model, self.shading = model, shading

    @torch.no_grad()
    def forward(
        self,
        image: Float[torch.Tensor, "1 1 size size"],
        surface: CurvedSurface,
        mm_per_pixel: Float[torch.Tensor, "1"],
        rgb: Float[torch.Tensor, "1 3 size size"] | None = None,
        seen: SeenNormals | None = None,
    ) -> RefinedSurface:
        """As of `NormalRefinement`; rgb and seen are not looked at."""
        fragments, triangles = surface.fragments, self.model.triangles
        maps = surface.vertices, surface.normals, self.model.pncc, fragments, triangles
        slopes, light = slopes_of(interpolate_maps(*maps)[1]), None
        error = torch.full_like(surface.depth, math.nan)
        if self.shading is not None:
            skin = self.model.skin()[None, :, None].contiguous()
            skin = interpolate(skin, fragments, triangles)
            known = image, slopes, surface.depth, fragments.mask, mm_per_pixel.item(), skin
            shaded = refine_by_shading(*known, settings=self.shading)
            slopes, light = shaded.slopes, shaded.light
        depth = integrate(slopes, surface.depth, fragments.mask, mm_per_pixel)
        return RefinedSurface(depth, error, light)


def _method(reconstructor: Reconstructor) -> Method:
    def surface(photo: np.ndarray, box: tuple[float, float, float, float]) -> Surface:
        face = reconstructor(photo, box=box)
        return Surface(face.normals, face.mm_per_pixel)

    return surface
