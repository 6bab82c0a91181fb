"""What `facerecon evaluate yale` compares: surfaces, and lights, of one photograph at a time."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from facerecon.appearance import estimate_light_and_albedo, model_maps
from facerecon.evaluation.light import slopes_along_normals
from facerecon.evaluation.measured_normals import BOX, LIGHTS, Method, Surface, continued
from facerecon.evaluation.yale import YalePerson, direction
from facerecon.finenet import FineNet
from facerecon.imaging import to_grey
from facerecon.integration import integrate
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement, RefinedSurface
from facerecon.normalnet import NormalNet, slopes_of
from facerecon.pipeline import Reconstructor
from facerecon.rasterize import interpolate, interpolate_maps
from facerecon.reconstruction import Reconstruction
from facerecon.render import CurvedSurface
from facerecon.shading_refinement import ShadingRefinement, refine_by_shading


def yale_methods(
    model: MorphableModel,
    coarsenet: nn.Module,
    finenet: FineNet,
    normalnet: NormalNet,
    iterations: int = 4,
    size: int = 200,
) -> dict[str, Method]:
    """`coarse`, `integrated`, `sfs`, `finenet`, `normals` and `normals+sfs`, in this order.

    `integrated` shows nothing but the coarse face's own smooth normals, `sfs` what shading adds to
    them without a network.

    Args:
        iterations: of CoarseNet. size: pixels of the crop that is refined.
    """
    known = model, coarsenet
    alone = NormalRefinement(model, normalnet)
    shaded = NormalRefinement(model, normalnet, ShadingRefinement())
    return {
        "coarse": _method(Reconstructor(*known, None, iterations, size)),
        "integrated": _method(Reconstructor(*known, None, iterations, size, CoarseNormals(model))),
        "sfs": _method(
            Reconstructor(*known, None, iterations, size, CoarseNormals(model, ShadingRefinement()))
        ),
        "finenet": _method(Reconstructor(*known, finenet, iterations, size)),
        "normals": _method(Reconstructor(*known, None, iterations, size, alone)),
        "normals+sfs": _method(Reconstructor(*known, None, iterations, size, shaded)),
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
    ) -> RefinedSurface:
        """As of `NormalRefinement`; rgb is not looked at."""
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


def toward_light(
    face: Reconstruction,
    model: MorphableModel,
    albedo_mean: Float[torch.Tensor, " vertices"] | None = None,
) -> Float[np.ndarray, "3"] | None:
    """Unit vector toward the light that Eq. (11) finds with the coarse face; None without one.

    Args:
        albedo_mean: another grey average of people's skin than the model's.
    """
    device = model.mean.device
    numbers = np.concatenate([face.coefficients, face.pose])
    r = torch.from_numpy(numbers).to(device)[None]
    grey = torch.from_numpy(to_grey(face.crop.cut(face.image))).to(device)[None, None]
    maps = model_maps(model, r, face.crop.size, albedo_mean)
    linear = estimate_light_and_albedo(grey, maps).light[0, 1:4].double().cpu().numpy()
    length = np.linalg.norm(linear)
    return linear / length if length > 0 else None


def lamp_rows(
    people: Iterable[YalePerson],
    reconstructor: Reconstructor,
    averages: dict[str, Float[torch.Tensor, " vertices"] | None],
    lights: tuple[str, ...] = LIGHTS,
) -> list[dict]:
    """Angle in degrees between the light that a photograph shows and its lamp.

    Args:
        reconstructor: finds the coarse face. averages: the albedo that Eq. (11) takes for
            everybody's, by name; None: the model's mean. lights: the photographs that are shown.

    Returns:
        A row per average, person and lamp; `light` is NaN where no light was found.
    """
    rows = []
    for person in people:
        for light in lights:
            image = person.image(light)
            if image is None:
                continue
            face = reconstructor(continued(image), box=BOX)
            for name, average in averages.items():
                toward = toward_light(face, reconstructor.model, average)
                cosine = math.nan if toward is None else float(toward @ direction(light))
                angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
                about = {"albedo": name, "person": person.name, "lamp": light}
                rows.append(about | {"light": angle})
    return rows


def lamp_means(rows: list[dict]) -> list[dict]:
    """One row per average albedo: mean and median of `light` over all photographs."""
    found = []
    for name in dict.fromkeys(row["albedo"] for row in rows):
        angles = [row["light"] for row in rows if row["albedo"] == name]
        values = {"mean": float(np.nanmean(angles)), "median": float(np.nanmedian(angles))}
        found.append({"albedo": name, "photographs": len(angles), **values})
    return found


def measured_slopes(person: YalePerson) -> dict[str, float]:
    """`light.slopes_along_normals` of a person's measured albedo, on skin."""
    skin = person.skin
    level = torch.from_numpy(np.log(person.measured.albedo[skin]))
    return slopes_along_normals(level, torch.from_numpy(person.measured.normals[skin]))
