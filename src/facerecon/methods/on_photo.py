"""A fitted face on the pixels of its photograph, as the protocol of Table 1 wants it."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from facerecon.camera import pose_parameters, project, split
from facerecon.imaging import Crop
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments, interpolate, rasterize


def on_face(model: MorphableModel, fragments: Fragments) -> Bool[Tensor, "batch height width"]:
    """The pixels that show the face; without ears and neck."""
    face = ~(model.beside > 0.5)[model.triangles].any(dim=1)
    return face[fragments.triangle.clamp(min=0)] & (fragments.triangle >= 0)


def model_on_photo(
    model: MorphableModel, r: Float[Tensor, "1 n"], crop: Crop, shape: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Depth of the morphable model in mm on the photograph's pixels, NaN outside the face.

    Args:
        r: coefficients and pose in the crop. shape: rows and columns of the photograph.
    """
    coefficients, pose = split(r, model.n_coefficients)
    return mesh_on_photo(model, project(model.vertices(coefficients), pose, crop.size), crop, shape)


def mesh_on_photo(
    model: MorphableModel,
    projected: Float[Tensor, "1 vertices 3"],
    crop: Crop,
    shape: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """The same of vertices that are projected already; projected: column and row in the crop."""
    placed = projected.clone()
    placed[..., :2] = (projected[..., :2] + 0.5) * crop.step
    placed[..., :2] += projected.new_tensor([crop.x - 0.5, crop.y - 0.5])
    fragments = rasterize(placed, model.triangles, *shape)
    depth = interpolate(placed[..., 2:], fragments, model.triangles)[0, 0]
    return depth.where(on_face(model, fragments)[0], torch.nan).cpu().numpy()


def detail_on_photo(
    detail: Float[Tensor, "1 1 size size"],
    mask: Bool[Tensor, "1 1 size size"],
    crop: Crop,
    shape: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """A map of the crop, bilinear on the photograph's pixels; NaN where no pixel of the mask is.

    Args:
        detail: what a refinement adds to the depth, mm.
    """
    column = (torch.arange(shape[1]) + 0.5 - crop.x) / crop.side * 2 - 1
    row = (torch.arange(shape[0]) + 0.5 - crop.y) / crop.side * 2 - 1
    grid = torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1)[None].to(detail)
    known = mask.to(detail)
    maps = torch.cat([torch.where(mask, detail, 0.0), known], dim=1)
    value, weight = functional.grid_sample(maps, grid, align_corners=False)[0]
    return (value / weight).where(weight > 0.25, torch.nan).cpu().numpy()


def mm_per_pixel(r: Float[Tensor, "1 n"], crop: Crop) -> float:
    """Width in mm that a pose in a crop gives to one pixel of the photograph."""
    scale = pose_parameters(r[:, -6:], crop.size).scale.item()
    return 1 / (scale * crop.step)
