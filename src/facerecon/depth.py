"""Depth maps: normals, discrete Laplacian, triangulation. Frames: docs/conventions.md."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from facerecon.mesh import renumbered


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

    used, triangles = renumbered(triangles, height * width)
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
    return DepthMesh(vertices, triangles, uv)
