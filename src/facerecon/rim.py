"""The rim of a face's mesh: which part of a depth map is kept, and where the mesh is cut.

A mesh that ends between pixels shows their steps, and where the surface turns away a step of one
pixel is many mm deep: from the side such a rim is torn. So the mesh is cut along a level line of a
function that is smooth along the surface, not in the image.
"""

import math

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.special import ndtr
from torch import Tensor
from torch.nn import functional

from facerecon.depth import DepthMesh, normals_from_depth
from facerecon.integration import conjugate_gradients, divergence
from facerecon.mesh import border_edges, edges, renumbered

LEAST_FACING = 0.42
"""z of the normals, as their mean over `FACING_MM`, where the face ends."""

FACING_MM = 20.0
"""Standard deviation of that mean along the surface: the sides of a head are nearly flat, so that
less would follow every hollow of them."""

ROUNDING_MM = 6.0
"""Standard deviation of the mean along the surface that rounds the rim."""

ISLAND_SHARE = 0.2
"""Share of the largest part of a face below which another part is left out."""

MAX_JUMP_MM = 10.0
"""A larger difference between neighboring pixels is an occlusion: one surface hides another."""

_SOFTNESS = 0.15  # of the facing: how far from its limit it counts as far
_MAX_SLOPE = 3.0  # of what is kept; where the facing ends a face, it is 2.2
_BORDERS = ((2.0, 0.5), (6.0, 0.9))
"""Standard deviations of what rounds the mask, and by how much its rim is cut off, in pixels. The
first follows the mask closely, the second irons out the steps of what is nearly along a row."""

_RIM_STEPS = 20  # means over about three pixels
_WALL_MM = 6.0  # from pixel to pixel: a nose before the cheek that it hides; less at lids and lips
_WALL_RINGS = 1  # of vertices about a wall that are smoothed with it
_WALL_STEPS = 20
_STEEPEST = 8.0  # area of a pixel's surface, in squares of its width


def rim_level(
    depth: Float[Tensor, "height width"],
    mask: Bool[Tensor, "height width"],
    beside: Float[Tensor, "height width"],
    mm_per_pixel: float,
) -> Float[Tensor, "height width"]:
    """A function of the pixels that is above 0 on the part of a face that makes a good mesh.

    Its level line 0 is the rim: smooth along the surface, and inside of the mask wherever that ends
    within the image. Left out are what turns away, what `trim_rim` trims, and what lies beside the
    face.

    Args:
        depth: mm; ignored outside the mask (NaN allowed).
        mask: where there is depth.
        beside: 0 on the face to 1 on what is none of it (ears and neck), smooth between the two.
        mm_per_pixel: width of a pixel in mm.

    Returns:
        In [-1, 1]; -1 outside the mask.
    """
    if not mask.any():
        return torch.full_like(depth, -1.0)
    z = torch.where(mask, depth, 0.0)
    facing = normals_from_depth(z[None, None], depth.new_tensor([mm_per_pixel]), mask[None, None])[
        0, 2
    ]
    surface = _Surface(z, mask, mm_per_pixel)
    facing = surface.mean(facing, FACING_MM)
    trimmed = trim_rim(depth, mask & (beside < 0.5), mm_per_pixel)
    level = torch.minimum(
        (facing - LEAST_FACING) / _SOFTNESS,
        2 * _blurred(trimmed, ROUNDING_MM / 2 / mm_per_pixel) - 1,
    )
    level = surface.mean(torch.minimum(level, 1 - 2 * beside).clamp(-1, 1), ROUNDING_MM)
    # That mean may pass beyond what was trimmed, and an edge to its neighbor may be a cliff.
    # The picture ends a face as any outline does: else the rim would jump where the two meet.
    for sigma, inset in _BORDERS:
        share = _blurred(trimmed, sigma, mode="constant")
        level = torch.minimum(level, 2 * (share - ndtr(inset / sigma)))
    level = torch.where(mask, level, -1.0).clamp(-1, 1)
    inside = level > 0
    kept = torch.from_numpy(_large(inside.cpu().numpy())).to(mask)
    return torch.where(inside & ~kept, -level, level)


def _blurred(
    mask: Bool[Tensor, "height width"], sigma: float, mode: str = "nearest"
) -> Float[Tensor, "height width"]:
    share = ndimage.gaussian_filter(mask.cpu().numpy().astype(np.float32), sigma, mode=mode)
    return torch.from_numpy(share).to(mask.device)


def cut_mesh(mesh: DepthMesh, level: Float[Tensor, "height width"]) -> DepthMesh:
    """The part of a depth map's mesh where a function of its pixels is above 0.

    Triangles that the level line 0 crosses are cut along it; new vertices lie on their edges, where
    the function, linear along them, is 0. The depth of the new rim is smoothed along it, for a
    pixel next to a cliff tells where between them the cliff is, but not how deep.

    Args:
        mesh: of `depth.depth_to_mesh`. level: on the same pixels.
    """
    height, width = level.shape
    column = (mesh.uv[:, 0] * width - 0.5).round().long()
    row = ((1 - mesh.uv[:, 1]) * height - 0.5).round().long()
    value = level[row, column]
    above = value > 0
    corners = mesh.triangles
    count = above[corners].sum(1)
    # The corner that differs from the two others comes first; the order around stays.
    tip = _turned(corners[count == 1], above[corners[count == 1]])
    trunk = _turned(corners[count == 2], ~above[corners[count == 2]])
    inner = torch.cat([tip[:, [0, 0]], trunk[:, [1, 2]]])
    outer = torch.cat([tip[:, [1, 2]], trunk[:, [0, 0]]])
    base = len(mesh.vertices)
    crossed, crossing = torch.unique(inner * base + outer, return_inverse=True)
    a, b, n, crossing = crossed // base, crossed % base, len(tip), crossing + base
    share = (value[a] / (value[a] - value[b]))[:, None]
    points = torch.cat([mesh.vertices, mesh.uv], dim=1)
    points = torch.cat([points, points[a] + share * (points[b] - points[a])])
    of_tip, of_trunk = crossing[:n], crossing[n:]
    triangles = torch.cat(
        [
            corners[count == 3],
            torch.cat([tip[:, :1], of_tip], dim=1),
            torch.cat([of_trunk[:, :1], trunk[:, 1:]], dim=1),
            torch.stack([of_trunk[:, 0], trunk[:, 2], of_trunk[:, 1]], dim=1),
        ]
    )
    used, triangles = renumbered(triangles, len(points))
    vertices, uv = points[used].split([3, 2], dim=1)
    vertices = vertices.contiguous()
    vertices[:, 2] = _smooth_along_rim(vertices[:, 2], triangles)
    vertices[:, 2] = _smooth_walls(vertices, triangles)
    return DepthMesh(vertices, triangles, uv.contiguous())


def _smooth_along_rim(
    values: Float[Tensor, " vertices"], triangles: Int[Tensor, "triangles 3"]
) -> Float[Tensor, " vertices"]:
    """Values of vertices, those of the rim averaged with their neighbors on it, again and again."""
    rim, ends = torch.unique(border_edges(triangles), return_inverse=True)
    here, there = ends.flatten(), ends.flip(1).flatten()
    neighbors = torch.bincount(here, minlength=len(rim))
    course = values[rim]
    for _ in range(_RIM_STEPS):
        total = torch.zeros_like(course).index_add(0, here, course[there])
        course = (course + total / neighbors) / 2
    return values.index_copy(0, rim, course)


def _smooth_walls(
    vertices: Float[Tensor, "vertices 3"], triangles: Int[Tensor, "triangles 3"]
) -> Float[Tensor, " vertices"]:
    """Depths of vertices, those at walls averaged with their neighbors, again and again."""
    depth = vertices[:, 2]

    def around(chosen: Tensor) -> Tensor:
        near = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
        near[chosen] = True
        for _ in range(_WALL_RINGS):
            near[triangles[near[triangles].any(1)]] = True
        return near

    border = around(border_edges(triangles))
    corners = depth[triangles]
    steep = corners.amax(1) - corners.amin(1) > _WALL_MM
    near = around(triangles[steep & ~border[triangles].any(1)]) & ~border
    ends = edges(triangles[near[triangles].any(1)])
    here, there = torch.cat([ends, ends.flip(1)]).T
    neighbors = torch.bincount(here, minlength=len(vertices)).clamp(min=1)
    for _ in range(_WALL_STEPS):
        mean = torch.zeros_like(depth).index_add(0, here, depth[there]) / neighbors
        depth = torch.where(near, (depth + mean) / 2, depth)
    return depth


def _turned(corners: Tensor, odd: Tensor) -> Tensor:
    """Triangles whose one odd corner comes first."""
    first = odd.int().argmax(1, keepdim=True)
    return corners.gather(1, (first + torch.arange(3, device=corners.device)) % 3)


class _Surface:
    """Means along the surface of a depth map: an implicit step of the heat equation on it."""

    def __init__(
        self,
        depth: Float[Tensor, "height width"],
        mask: Bool[Tensor, "height width"],
        mm_per_pixel: float,
    ):
        steps = [depth.diff(dim=dim).abs() / mm_per_pixel for dim in (0, 1)]
        most = MAX_JUMP_MM / mm_per_pixel
        down = mask[1:] & mask[:-1] & (steps[0] < most)
        right = mask[:, 1:] & mask[:, :-1] & (steps[1] < most)
        below, beside = steps[0] * down, steps[1] * right
        slopes = (
            torch.maximum(functional.pad(below, (0, 0, 1, 0)), functional.pad(below, (0, 0, 0, 1))),
            torch.maximum(functional.pad(beside, (1, 0)), functional.pad(beside, (0, 1))),
        )
        area = (1 + slopes[0] ** 2 + slopes[1] ** 2).sqrt().clamp(max=_STEEPEST)
        # Of an edge: the width of the strip that it stands for, over its length on the surface.
        self.down = down * (area[1:] + area[:-1]) / 2 / (1 + below**2)
        self.right = right * (area[:, 1:] + area[:, :-1]) / 2 / (1 + beside**2)
        self.area, self.mm_per_pixel = area, mm_per_pixel

    def mean(
        self, values: Float[Tensor, "height width"], sigma: float
    ) -> Float[Tensor, "height width"]:
        """Means of a map's values in the mask; sigma: standard deviation in mm."""
        time = (sigma / self.mm_per_pixel) ** 2 / 2
        right, down = time * self.right[None, None], time * self.down[None, None]
        rough = divergence(right * values[None, None].diff(dim=3), down * values.diff(dim=0))
        return values - conjugate_gradients(rough, right, down, self.area[None, None], 1e-3)[0, 0]


def trim_rim(
    depth: Float[Tensor, "height width"],
    mask: Bool[Tensor, "height width"],
    mm_per_pixel: float,
    max_slope: float = _MAX_SLOPE,
    max_jump_mm: float = MAX_JUMP_MM,
    rounding: float = 3.0,
    strip_mm: float = 16.0,
    flap_mm: float = 32.0,
    island_share: float = ISLAND_SHARE,
    hole_share: float = 0.05,
) -> Bool[Tensor, "height width"]:
    """The part of a mask that makes a mesh with a clean rim.

    Along an outline the surface turns away: one pixel there spans many mm of depth, and the steps
    of the outline from row to row become teeth. Pixels steeper than `max_slope` go if they reach
    the outline or a jump over other such pixels. Strips (beside an ear, or of a cheek behind the
    nose) narrower than `strip_mm` go, and flaps behind a jump narrower than `flap_mm` (an eye
    behind the nose that hangs at its brow alone). What is left is rounded, and islands (of an ear,
    of the neck under the chin) smaller than `island_share` of the largest go, too; holes smaller
    than `hole_share` of it come back.

    Args:
        depth: mm; ignored outside the mask (NaN allowed).
        mm_per_pixel: width of a pixel in mm.
        max_slope: depth over width to a neighbor.
        max_jump_mm: a larger difference to a neighbor is an occlusion.
        rounding: standard deviation in mm of the Gaussian that rounds the outline.
    """
    steps = _steps(depth, mask)
    steep = (steps > max_slope * mm_per_pixel).cpu().numpy()
    outside = (~mask | (steps > max_jump_mm)).cpu().numpy()
    square = np.ones((3, 3), dtype=bool)
    # The image's own border is no outline.
    label, count = ndimage.label(steep | outside, square)
    lost = np.zeros(count + 1, dtype=bool)
    lost[label[ndimage.binary_dilation(outside, square)]] = True
    lost[0] = False
    lost = lost[label]
    kept = mask.cpu().numpy() & ~lost
    radius = strip_mm / 2 / mm_per_pixel
    cliffs, behind = _cliffs(depth, mask, max_jump_mm)
    kept = _opened(kept, radius)
    kept &= ~behind | _opened(kept, radius, cliffs)
    kept &= ~_flaps(kept, behind, cliffs, flap_mm / 2 / mm_per_pixel)
    share = ndimage.gaussian_filter(
        kept.astype(np.float32), rounding / mm_per_pixel, mode="nearest"
    )
    kept = kept & (share > 0.5)
    kept = _large(kept, island_share)
    # A nostril's rim or the side of a nose may be as steep; a hole there is worse than the slope.
    label, area = _labeled(_filled(kept) & mask.cpu().numpy() & ~kept)
    small = area < hole_share * kept.sum()
    small[0] = False
    kept |= small[label]
    return torch.from_numpy(kept).to(mask.device)


def _cliffs(
    depth: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"], max_jump_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """The pixels on both sides of an occlusion, and those whose nearest one is on its far side."""
    z = torch.where(mask, depth, 0.0).cpu().numpy()
    known = mask.cpu().numpy()
    cross = ndimage.generate_binary_structure(2, 1)
    nearest = ndimage.maximum_filter(np.where(known, z, -np.inf), footprint=cross)
    farthest = ndimage.minimum_filter(np.where(known, z, np.inf), footprint=cross)
    far = known & (nearest - z > max_jump_mm)
    cliffs = far | (known & (z - farthest > max_jump_mm))
    if not far.any():
        return cliffs, far
    place = ndimage.distance_transform_edt(~cliffs, return_distances=False, return_indices=True)
    return cliffs, far[tuple(place)]


def _flaps(mask: np.ndarray, behind: np.ndarray, cliffs: np.ndarray, radius: float) -> np.ndarray:
    """What lies behind a cliff, is narrower than a disk of this radius, and hangs at one side."""
    square = np.ones((3, 3), dtype=bool)
    narrow = mask & behind & ~_opened(mask, radius, cliffs)
    others = mask & ~narrow & ~ndimage.binary_dilation(cliffs, square, iterations=2)
    label, count = ndimage.label(narrow)
    flaps = np.zeros_like(mask)
    for part in (label == number for number in range(1, count + 1)):
        held = ndimage.binary_dilation(part, square, iterations=2) & others
        if ndimage.label(held, square)[1] < 2:
            flaps |= part
    return flaps


def _opened(mask: np.ndarray, radius: float, cliffs: np.ndarray | None = None) -> np.ndarray:
    """A mask without what no disk of this radius in pixels fits into.

    Its holes do not count, but cliffs do. The picture continues beyond its border.
    """
    reach = math.ceil(radius) + 1
    filled = _filled(mask)
    if cliffs is not None:
        filled &= ~cliffs
    filled = np.pad(filled, reach, mode="edge")
    core = _depth_in(filled) > radius
    if core.any():
        filled &= _depth_in(~core) <= radius
    return mask & filled[reach:-reach, reach:-reach]


def _depth_in(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels of each pixel of a mask to the nearest one outside of it; 0 there."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _filled(mask: np.ndarray) -> np.ndarray:
    """A mask without its holes."""
    label, count = ndimage.label(~mask)
    outer = np.zeros(count + 1, dtype=bool)
    for side in (label[0], label[-1], label[:, 0], label[:, -1]):
        outer[side] = True
    outer[0] = False
    return ~outer[label]


def _labeled(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected part that each pixel belongs to, from 1, 0 outside; the area of every part."""
    label, count = ndimage.label(mask)
    return label, np.bincount(label.ravel(), minlength=count + 1)


def _steps(
    depth: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """The largest difference of a pixel's depth to one of its four neighbors in the mask."""
    known = torch.where(mask, depth, torch.nan)
    steps = depth.new_zeros(depth.shape)
    for dim in (0, 1):
        step = known.diff(dim=dim).abs().nan_to_num(0.0)
        before, after = ((0, 0, 1, 0), (0, 0, 0, 1)) if dim == 0 else ((1, 0), (0, 1))
        steps = torch.maximum(steps, functional.pad(step, before))
        steps = torch.maximum(steps, functional.pad(step, after))
    return steps


def _large(mask: np.ndarray, share: float = ISLAND_SHARE) -> np.ndarray:
    """A mask without islands smaller than this share of its largest one."""
    label, area = _labeled(mask)
    area[0] = 0
    return (area >= max(share * area.max(), 1))[label]
