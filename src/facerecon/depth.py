"""Depth maps: normals, discrete Laplacian, triangulation. Frames: docs/conventions.md."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional

from facerecon.mesh import counted_edges


class DepthMesh(NamedTuple):
    """A triangulated depth map, in the camera frame.

    Attributes:
        vertices: (V, 3), mm; x right, y up, z toward the viewer; x = y = 0 in the middle of the
            image.
        triangles: (F, 3), counter-clockwise for the viewer.
        uv: (V, 2) texture coordinates of the photograph in [0, 1], v upward as in OBJ and glTF
            viewers.
    """

    vertices: Float[Tensor, "vertices 3"]
    triangles: Int[Tensor, "triangles 3"]
    uv: Float[Tensor, "vertices 2"]


def normals_from_depth(
    depth: Float[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    mask: Bool[Tensor, "batch 1 height width"] | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Unit normals of a depth map by central differences, one-sided at the border of the mask.

    Source: the n(z) of Eq. (9).

    Args:
        depth: mm, larger is nearer; values outside the mask are never used, so they may be NaN.
        mm_per_pixel: width of a pixel in mm, one per item.
        mask: where the depth is defined; everywhere if None.

    Returns:
        Normals in the camera frame (x right, y up, z to the viewer); 0 outside the mask.
    """
    mask = torch.ones_like(depth, dtype=torch.bool) if mask is None else mask
    relief = torch.where(mask, depth, 0.0) / mm_per_pixel.view(-1, 1, 1, 1)
    right = _derivative(relief, mask, dim=3)
    up = -_derivative(relief, mask, dim=2)
    direction = torch.cat([-right, -up, torch.ones_like(relief)], dim=1)
    return direction / direction.square().sum(dim=1, keepdim=True).sqrt() * mask


def _derivative(values: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Mean of the (at most two) differences to neighbors inside the mask; 0 without any."""
    count = values.shape[dim] - 1
    inside = mask.narrow(dim, 1, count) & mask.narrow(dim, 0, count)
    step = values.diff(dim=dim) * inside
    before, after = ((1, 0), (0, 1)) if dim == 3 else ((0, 0, 1, 0), (0, 0, 0, 1))
    total = functional.pad(step, before) + functional.pad(step, after)
    inside = inside.to(values.dtype)
    return total / (functional.pad(inside, before) + functional.pad(inside, after)).clamp(min=1)


def laplacian(
    depth: Float[Tensor, "batch 1 height width"],
    mask: Bool[Tensor, "batch 1 height width"] | None = None,
) -> Float[Tensor, "batch 1 height width"]:
    """Five-point discrete Laplacian: the sum of the four neighbors minus four times the pixel.

    Source: the operator of Eq. (13).

    Args:
        depth: any unit; the result has the same one (it is not divided by the squared pixel width).
        mask: where the depth is defined; everywhere if None.

    Returns:
        The Laplacian where all five pixels lie in the mask and in the image, otherwise 0.
    """
    mask = torch.ones_like(depth, dtype=torch.bool) if mask is None else mask
    padded = functional.pad(torch.where(mask, depth, 0.0), (1, 1, 1, 1))
    north, south = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    west, east = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return (north + south + west + east - 4 * padded[..., 1:-1, 1:-1]) * five_point_interior(mask)


def five_point_interior(
    mask: Bool[Tensor, "batch 1 height width"],
) -> Bool[Tensor, "batch 1 height width"]:
    """The pixels whose four neighbors lie in the mask, too: where `laplacian` is defined."""
    padded = functional.pad(mask, (1, 1, 1, 1), value=False)
    north, south = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    west, east = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return mask & north & south & west & east


def trim_rim(
    depth: Float[Tensor, "height width"],
    mask: Bool[Tensor, "height width"],
    mm_per_pixel: float,
    max_slope: float = 2.5,
    max_jump_mm: float = 10.0,
    rounding: float = 3.0,
    strip_mm: float = 16.0,
    island_share: float = 0.2,
    hole_share: float = 0.05,
) -> Bool[Tensor, "height width"]:
    """The part of a mask that makes a mesh with a clean rim.

    Along an outline the surface turns away: one pixel there spans many mm of depth, and the steps
    of the outline from row to row become teeth. Pixels steeper than `max_slope` go if they reach
    the outline or a jump over other such pixels. Strips (beside an ear) narrower than `strip_mm`
    go, what is left is rounded, and islands (of an ear, of the neck under the chin) smaller than
    `island_share` of the largest go, too; holes smaller than `hole_share` of it come back.

    Args:
        depth: mm; ignored outside the mask (NaN allowed).
        mm_per_pixel: width of a pixel in mm.
        max_slope: depth over width to a neighbor.
        max_jump_mm: a larger difference to a neighbor is an occlusion.
        rounding: standard deviation in mm of the Gaussian that rounds the outline.
    """
    known = torch.where(mask, depth, torch.nan)
    steps = depth.new_zeros(depth.shape)
    for dim in (0, 1):
        step = known.diff(dim=dim).abs().nan_to_num(0.0)
        before, after = ((0, 0, 1, 0), (0, 0, 0, 1)) if dim == 0 else ((1, 0), (0, 1))
        steps = torch.maximum(steps, functional.pad(step, before))
        steps = torch.maximum(steps, functional.pad(step, after))
    steep = (steps > max_slope * mm_per_pixel).cpu().numpy()
    outside = (~mask | (steps > max_jump_mm)).cpu().numpy()
    square = np.ones((3, 3), dtype=bool)
    # The image's own border is no outline.
    lost = ndimage.binary_propagation(
        ndimage.binary_dilation(outside, square) & (steep | outside),
        square,
        steep | outside,
    )
    kept = mask.cpu().numpy() & ~lost
    kept = _opened(kept, strip_mm / 2 / mm_per_pixel)
    share = ndimage.gaussian_filter(
        kept.astype(np.float32), rounding / mm_per_pixel, mode="nearest"
    )
    kept = kept & (share > 0.5)
    label, count = ndimage.label(kept)
    if count:
        area = ndimage.sum_labels(kept, label, np.arange(1, count + 1))
        large = np.flatnonzero(area >= island_share * area.max()) + 1
        kept = np.isin(label, large)
    # A nostril's rim or the side of a nose may be as steep; a hole there is worse than the slope.
    holes = ndimage.binary_fill_holes(kept) & mask.cpu().numpy() & ~kept
    label, count = ndimage.label(holes)
    if count:
        area = ndimage.sum_labels(holes, label, np.arange(1, count + 1))
        kept |= np.isin(label, np.flatnonzero(area < hole_share * kept.sum()) + 1)
    return torch.from_numpy(kept).to(mask.device)


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """A mask without what no disk of this radius in pixels fits into; its holes do not count.

    The picture continues beyond its border.
    """
    reach = math.ceil(radius) + 1
    filled = np.pad(ndimage.binary_fill_holes(mask), reach, mode="edge")
    core = ndimage.distance_transform_edt(filled) > radius
    if core.any():
        filled &= ndimage.distance_transform_edt(~core) <= radius
    return mask & filled[reach:-reach, reach:-reach]


def depth_to_mesh(
    depth: Float[Tensor, "height width"],
    mask: Bool[Tensor, "height width"],
    mm_per_pixel: float,
    max_jump_mm: float = 10.0,
) -> DepthMesh:
    """Triangulate the pixels of a mask; every pixel that some triangle uses becomes a vertex.

    Each square of four pixels is cut along the diagonal with the smaller depth difference; of a
    square with three pixels in the mask one triangle remains.

    Args:
        depth: mm, larger is nearer; ignored outside the mask (NaN allowed).
        mask: the pixels to keep.
        mm_per_pixel: width of a pixel in mm.
        max_jump_mm: a triangle whose corners differ by more in depth spans an occlusion and is left
            out.

    Raises:
        ValueError: mm_per_pixel or max_jump_mm is not positive.
    """
    if mm_per_pixel <= 0 or max_jump_mm <= 0:
        raise ValueError(
            f"mm_per_pixel and max_jump_mm must be positive, got {mm_per_pixel} and {max_jump_mm}"
        )
    height, width = depth.shape
    pixel = torch.arange(height * width, device=depth.device).view(height, width)
    top_left, top_right = pixel[:-1, :-1].flatten(), pixel[:-1, 1:].flatten()
    low_left, low_right = pixel[1:, :-1].flatten(), pixel[1:, 1:].flatten()

    # Outside the mask the depth is infinite: no finite jump reaches it, and its diagonals are never
    # chosen.
    height_mm = torch.where(mask, depth, torch.inf).flatten()
    falling = (height_mm[top_left] - height_mm[low_right]).abs().nan_to_num(torch.inf)
    rising = (height_mm[top_right] - height_mm[low_left]).abs().nan_to_num(torch.inf)
    cut = (falling <= rising)[:, None]
    first = torch.where(
        cut,
        torch.stack([top_left, low_left, low_right], 1),
        torch.stack([top_left, low_left, top_right], 1),
    )
    second = torch.where(
        cut,
        torch.stack([top_left, low_right, top_right], 1),
        torch.stack([top_right, low_left, low_right], 1),
    )
    triangles = torch.stack([first, second], 1).view(-1, 3)
    corners = height_mm[triangles]
    triangles = triangles[corners.amax(1) - corners.amin(1) <= max_jump_mm]

    used, triangles = torch.unique(triangles, return_inverse=True)
    row, column = (used // width).to(depth.dtype), (used % width).to(depth.dtype)
    vertices = torch.stack(
        [
            (column - (width - 1) / 2) * mm_per_pixel,
            ((height - 1) / 2 - row) * mm_per_pixel,
            depth.flatten()[used],
        ],
        dim=1,
    )
    uv = torch.stack([(column + 0.5) / width, 1 - (row + 0.5) / height], dim=1)
    return DepthMesh(vertices, triangles.view(-1, 3), uv)


def smooth_outline(
    mesh: DepthMesh,
    mask: Bool[Tensor, "height width"],
    mm_per_pixel: float,
    smoothing: float = 2.0,
    max_slope: float = 1.5,
) -> DepthMesh:
    """The mesh of a mask with its rim on a smooth curve, without the steps from row to row.

    The curve is where the mask's Gaussian mean is what it is at the last pixels of a straight
    border, so those stay. A vertex of the rim moves there by at most 0.7 pixels, along the tangent
    plane that its inner neighbors tell; no other vertex moves.

    Args:
        mesh: of `depth_to_mesh` for this mask. mm_per_pixel: width of a pixel.
        smoothing: standard deviation of the Gaussian in pixels.
        max_slope: of that plane, so that a rim that turns away grows no teeth.
    """
    height, width = mask.shape
    rim = _rim_vertices(mesh.triangles)
    if not len(rim):
        return mesh
    column = mesh.uv[rim, 0] * width - 0.5
    row = (1 - mesh.uv[rim, 1]) * height - 0.5
    at = np.stack([row.cpu().numpy(), column.cpu().numpy()])
    share = ndimage.gaussian_filter(
        mask.cpu().numpy().astype(np.float64), smoothing, mode="nearest"
    )
    slope = np.stack(np.gradient(share))
    value = ndimage.map_coordinates(share, at, order=1, mode="nearest")
    steep = np.stack([ndimage.map_coordinates(each, at, order=1, mode="nearest") for each in slope])
    squared = (steep**2).sum(0)
    on_rim = (value < 0.9) & (squared > 1e-4)  # not the cuts at jumps inside
    level = ndtr(0.5 / smoothing)
    step = np.where(on_rim, (level - value) / np.maximum(squared, 1e-4), 0.0) * steep
    step *= np.minimum(1, 0.7 / np.maximum(np.linalg.norm(step, axis=0), 1e-9))
    moved = np.clip(at + step, 0, np.array([[height - 1], [width - 1]])) - at
    moved = torch.from_numpy(moved).to(mesh.vertices)
    tilt = _tilt(mesh, rim).clamp(-max_slope, max_slope)
    offset = torch.stack([moved[1], -moved[0]], dim=1) * mm_per_pixel
    vertices, uv = mesh.vertices.clone(), mesh.uv.clone()
    vertices[rim] += torch.cat([offset, (offset * tilt).sum(1, keepdim=True)], dim=1)
    uv[rim] += torch.stack([moved[1] / width, -moved[0] / height], dim=1)
    return DepthMesh(vertices, mesh.triangles, uv)


def _rim_vertices(triangles: Int[Tensor, "triangles 3"]) -> Int[Tensor, " vertices"]:
    """Ends of the edges that only one triangle has."""
    edges, count = counted_edges(triangles)
    return torch.unique(edges[count == 1])


def _tilt(mesh: DepthMesh, chosen: Int[Tensor, " vertices"]) -> Float[Tensor, "vertices 2"]:
    """dz/dx and dz/dy of the plane through each chosen vertex, from the normals around it."""
    corners = mesh.vertices[mesh.triangles]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(mesh.vertices)
    for corner in range(3):
        total.index_add_(0, mesh.triangles[:, corner], normals)
    normal = total[chosen]
    return -normal[:, :2] / normal[:, 2:].clamp(min=1e-9)
