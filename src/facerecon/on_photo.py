"""Faces that were fitted in a crop, on the pixels of the photograph that it was cut from.

Maps of the photograph hold NaN outside the face.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d, pad

from facerecon.camera import pose_parameters, project, split
from facerecon.imaging import Crop
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments, interpolate, rasterize
from facerecon.render import CurvedSurface, curved_depth

_STRIP_PIXELS = 1 << 22


def pixel_width(r: Float[Tensor, "1 n"], crop: Crop) -> float:
    """Width in mm of one pixel of the photograph, by the scale of a pose in the crop."""
    return 1 / (pose_parameters(r[:, -6:], crop.size).scale.item() * crop.step)


def on_face(model: MorphableModel, fragments: Fragments) -> Bool[Tensor, "batch height width"]:
    """The pixels that show the face; without ears and neck."""
    face = ~(model.ears_and_neck > 0.5)[model.triangles].any(dim=1)
    return face[fragments.triangle.clamp(min=0)] & (fragments.triangle >= 0)


def model_on_photo(
    model: MorphableModel, r: Float[Tensor, "1 n"], crop: Crop, shape: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """Depth of the morphable model's face in mm, without ears and neck.

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
    """`model_on_photo` of vertices that are projected already; projected: column, row, depth."""
    placed = _from_crop(projected, crop)
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
    value, weight = _sampled(detail, mask, crop, slice(0, shape[0]), slice(0, shape[1]))
    return (value / weight).where(weight > 0.25, torch.nan).cpu().numpy()


def surface_on_photo(
    model: MorphableModel,
    surface: CurvedSurface,
    detail: Float[Tensor, "1 1 size size"],
    crop: Crop,
    shape: tuple[int, int],
    max_jump_mm: float | None = None,
) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    """Depth in mm of a surface with detail, and of the surface alone.

    The mesh is rasterized on the photograph's pixels, so that its outline and depth are exact at
    any resolution; the detail alone, smooth by comparison, is interpolated from the crop.

    Args:
        surface: of the crop. detail: mm, added to its depth.
        max_jump_mm: None for detail that is smooth. Otherwise it has steps where the surface has
            some, so that their sum alone is smooth; then that is interpolated, but near outlines
            and larger jumps than these.
    """
    whole = surface.depth + detail
    inner = None if max_jump_mm is None else _inner(whole, surface.fragments.mask, max_jump_mm)
    detailed, plain = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    placed = _from_crop(surface.projected, crop)
    for rows, columns in _strips(crop, shape):
        local = placed - placed.new_tensor([columns.start, rows.start, 0])
        height, width = rows.stop - rows.start, columns.stop - columns.start
        fragments = rasterize(local, model.triangles, height, width)
        depth = curved_depth(surface.vertices, surface.normals, fragments, model.triangles)[0, 0]
        value, weight = _sampled(detail, surface.fragments.mask, crop, rows, columns)
        refined = depth + value / weight.clamp(min=1e-6)
        if inner is not None:
            grid = _grid(crop, rows, columns).to(whole)
            share = grid_sample(inner, grid, align_corners=False)[0, 0]
            smooth = _spline(whole[0, 0], crop, rows, columns)
            refined = torch.lerp(refined, smooth, share)
        seen = fragments.mask[0, 0]
        plain[rows, columns] = depth.where(seen, torch.nan).cpu().numpy()
        detailed[rows, columns] = refined.where(seen, torch.nan).cpu().numpy()
    return detailed, plain


def _inner(
    depth: Float[Tensor, "1 1 size size"], mask: Bool[Tensor, "1 1 size size"], max_jump_mm: float
) -> Float[Tensor, "1 1 size size"]:
    """1 inside one surface, falling to 0 over some pixels before its outline and its jumps."""

    def greatest(values: Tensor) -> Tensor:
        return max_pool2d(values, 3, 1, 1)

    jump = greatest(depth) + greatest(-depth) > max_jump_mm
    inside = 1 - greatest(greatest((~mask | jump).to(depth)))
    return avg_pool2d(inside, 3, 1, 1) * inside


def _grid(crop: Crop, rows: slice, columns: slice) -> Float[Tensor, "1 height width 2"]:
    """The photograph's pixels as `grid_sample` counts: -1 and 1 are the crop's edges."""
    row = (torch.arange(rows.start, rows.stop) + 0.5 - crop.y) / crop.side * 2 - 1
    column = (torch.arange(columns.start, columns.stop) + 0.5 - crop.x) / crop.side * 2 - 1
    return torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1)[None]


def _spline(
    values: Float[Tensor, "size size"], crop: Crop, rows: slice, columns: slice
) -> Float[Tensor, "height width"]:
    """Values of the crop at the photograph's pixels by a cubic B-spline.

    Its second derivatives are continuous, so that normals show no grid of the crop's pixels, which
    those of a bicubic kernel do. Its coefficients come from each pixel's neighbors alone
    (quasi-interpolation, exact for cubic surfaces), so that nothing rings beyond them.
    """
    padded = pad(values[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    for axis in (0, 1):
        count = padded.shape[axis] - 2
        before, at, after = (padded.narrow(axis, start, count) for start in (0, 1, 2))
        padded = (8 * at - before - after) / 6
    place = [
        (torch.arange(pixels.start, pixels.stop).to(values) + 0.5 - edge) / crop.step - 0.5
        for pixels, edge in ((rows, crop.y), (columns, crop.x))
    ]
    down, across = (_spline_weights(each, len(values)) for each in place)
    return down @ padded @ across.mT


def _spline_weights(place: Float[Tensor, " count"], size: int) -> Float[Tensor, "count size"]:
    """Weights of `size` coefficients at places between them, cubic B-spline; ends are repeated."""
    first = place.floor()
    t = place - first
    taps = [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * (t + t**2 - t**3), t**3]
    index = first.long()[:, None] + torch.arange(-1, 3, device=place.device)
    weights = place.new_zeros(len(place), size)
    return weights.scatter_add_(1, index.clamp(0, size - 1), torch.stack(taps, dim=1) / 6)


def _from_crop(projected: Float[Tensor, "1 vertices 3"], crop: Crop) -> Tensor:
    """Column, row, depth of a crop's vertices on the photograph's pixels, as `Crop.to_image`."""
    placed = projected.clone()
    offset = projected.new_tensor([crop.x - 0.5, crop.y - 0.5]) + 0.5 * crop.step
    placed[..., :2] = projected[..., :2] * crop.step + offset
    return placed


def _sampled(
    values: Float[Tensor, "1 1 size size"],
    mask: Bool[Tensor, "1 1 size size"],
    crop: Crop,
    rows: slice,
    columns: slice,
) -> Float[Tensor, "2 height width"]:
    """A map of the crop times its mask at pixels of the photograph, and the mask there."""
    grid = _grid(crop, rows, columns).to(values)
    maps = torch.cat([torch.where(mask, values, 0.0), mask.to(values)], dim=1)
    return grid_sample(maps, grid, align_corners=False)[0]


def _strips(crop: Crop, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The photograph's pixels with their center in the crop, in pieces that bound the memory."""
    spans = []
    for start, length in zip((crop.y, crop.x), shape, strict=True):
        first, last = int(np.ceil(start - 0.5)), int(np.floor(start + crop.side - 0.5))
        spans.append((max(first, 0), min(last + 1, length)))
    (top, bottom), (left, right) = spans
    if bottom > top and right > left:
        height = max(1, _STRIP_PIXELS // (right - left))
        for row in range(top, bottom, height):
            yield slice(row, min(row + height, bottom)), slice(left, right)
