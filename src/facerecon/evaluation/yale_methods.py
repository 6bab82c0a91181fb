"""The methods that `facerecon evaluate yale` compares, as functions of one photograph."""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from facerecon.appearance import model_maps
from facerecon.evaluation.measured_normals import Method, Surface
from facerecon.finenet import FineNet
from facerecon.imaging import to_grey
from facerecon.lighting import estimate_light
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.normalnet import NormalNet
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction
from facerecon.shading_refinement import ShadingRefinement


def yale_methods(
    model: MorphableModel,
    coarsenet: nn.Module,
    finenet: FineNet,
    normalnet: NormalNet,
    iterations: int = 4,
    size: int = 200,
) -> dict[str, Method]:
    """`coarse`, `finenet`, `normals` and `normals+sfs`, in this order.

    Args:
        iterations: of CoarseNet. size: pixels of the crop that is refined.
    """
    known = model, coarsenet
    alone = NormalRefinement(model, normalnet)
    shaded = NormalRefinement(model, normalnet, ShadingRefinement())
    return {
        "coarse": _method(Reconstructor(*known, None, iterations, size), light=True),
        "finenet": _method(Reconstructor(*known, finenet, iterations, size)),
        "normals": _method(Reconstructor(*known, None, iterations, size, alone)),
        "normals+sfs": _method(Reconstructor(*known, None, iterations, size, shaded)),
    }


def _method(reconstructor: Reconstructor, light: bool = False) -> Method:
    def surface(photo: np.ndarray, box: tuple[float, float, float, float]) -> Surface:
        face = reconstructor(photo, box=box)
        toward = toward_light(face, reconstructor.model) if light else None
        return Surface(face.normals, face.mm_per_pixel, toward)

    return surface


def toward_light(face: Reconstruction, model: MorphableModel) -> Float[np.ndarray, "3"] | None:
    """Unit vector toward the light that Eq. (11) finds with the coarse face; None without one."""
    device = model.mean.device
    numbers = np.concatenate([face.coefficients, face.pose])
    r = torch.from_numpy(numbers).to(device)[None]
    grey = torch.from_numpy(to_grey(face.crop.cut(face.image))).to(device)[None, None]
    maps = model_maps(model, r, face.crop.size)
    known = grey, maps.albedo_mean, maps.normals, maps.mask
    linear = estimate_light(*known, weight=maps.skin)[0, 1:4].double().cpu().numpy()
    length = np.linalg.norm(linear)
    return linear / length if length > 0 else None
