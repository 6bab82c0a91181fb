"""The fixed shapes around a mean face: the hair's shell, skull, neck and shoulders, strands."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from torch import Tensor
from torch.nn import functional

# The skull of the mean head: an ellipsoid that meets the forehead and the temples (mm).
CENTER = (0.0, 35.0, -82.0)
RADII = (74.0, 97.0, 94.0)
_ROWS_ABOVE, _ROWS_BELOW, _COLUMNS = 12, 16, 48
_LOWEST = -240.0  # mm, end of the longest hair

STRAND_REACH = 3.4  # rad from the pole of the hair to the border of a strand texture
STRAND_KINDS = (  # name; in texels (1.2 mm): strands' length, waves' height and length
    ("cropped", 1.5, 0.0, 1.0),
    ("straight", 18.0, 0.8, 70.0),
    ("wavy", 12.0, 2.2, 34.0),
    ("curly", 2.5, 2.5, 9.0),
)
_STRAND_TEXELS = 512
_DROP_PACE = 0.6  # hanging hair looks alike all along: its texture is stretched


def shell() -> tuple[
    Float[Tensor, "points 3"],
    Float[Tensor, " points"],
    Float[Tensor, " points"],
    Int[Tensor, "triangles 3"],
]:
    """Points on and below the skull (mm), azimuth (rad, 0: front), row (1: top to -1: lowest).

    The fourth is the triangles, counter-clockwise seen from outside.
    """
    center, radii = torch.tensor(CENTER), torch.tensor(RADII)
    up = torch.linspace(math.pi / 2 - 0.02, 0, _ROWS_ABOVE + 1)
    down = torch.linspace(0, 1, _ROWS_BELOW + 1)[1:]
    sine = torch.cat([up.sin(), torch.zeros_like(down)])
    cosine = torch.cat([up.cos(), torch.ones_like(down)])
    drop = torch.cat([torch.zeros_like(up), down]) * (_LOWEST - CENTER[1])
    row = torch.cat([torch.linspace(1, 0, _ROWS_ABOVE + 1), -down])
    azimuth = torch.linspace(-math.pi, math.pi, _COLUMNS + 1)
    ones = torch.ones_like(azimuth)
    points = torch.stack(
        [
            center[0] + radii[0] * cosine[:, None] * azimuth.sin(),
            center[1] + (radii[1] * sine + drop)[:, None] * ones,
            center[2] + radii[2] * cosine[:, None] * azimuth.cos(),
        ],
        dim=2,
    )
    return (
        points.flatten(0, 1),
        azimuth.repeat(len(row)),
        row.repeat_interleave(len(azimuth)),
        grid_triangles(len(row), len(azimuth)),
    )


def growth() -> tuple[Float[Tensor, "points 3"], Float[Tensor, " points"]]:
    """Of the points of `shell`: direction from the skull's center, and how far they hang (rad).

    Points below the skull's equator have the direction of the one above them.
    """
    points, _, row, _ = shell()
    center, radii = torch.tensor(CENTER), torch.tensor(RADII)
    offset = points - center
    hanging = (-offset[:, 1]).clamp(min=0) * (_DROP_PACE / radii[1])
    offset = torch.where((row <= 0)[:, None], offset * offset.new_tensor([1, 0, 1]), offset)
    return functional.normalize(offset / radii, dim=1), hanging


def body() -> tuple[
    Float[Tensor, "points 3"], Int[Tensor, "triangles 3"], Float[Tensor, " points"]
]:
    """Points, triangles, and which points are clothed: skull and neck as one tube, shoulders."""
    angle = torch.linspace(-math.pi, math.pi, 33)
    # height, center in depth, half width, half depth
    rings = torch.tensor(
        [
            [131.0, -82, 8, 8], [122, -82, 32, 40], [105, -82, 50, 64], [80, -82, 64, 83],
            [50, -82, 72, 92], [20, -84, 72, 92], [-10, -88, 66, 82], [-35, -90, 58, 64],
            [-60, -92, 55, 56], [-100, -98, 55, 54], [-140, -104, 58, 56], [-180, -108, 66, 60],
        ]
    )  # fmt: skip
    tube = _rings(rings, angle)
    slope = torch.tensor(
        [
            [-138.0, -106, 30, 30], [-150, -106, 75, 62], [-165, -108, 120, 76],
            [-185, -108, 165, 86], [-210, -108, 195, 92], [-260, -108, 212, 96],
            [-400, -108, 215, 98],
        ]
    )  # fmt: skip
    chest = _rings(slope, angle)
    tube_triangles = grid_triangles(len(rings), len(angle))
    chest_triangles = grid_triangles(len(slope), len(angle)) + len(tube)
    clothed = torch.cat([torch.zeros(len(tube)), torch.ones(len(chest))])
    return torch.cat([tube, chest]), torch.cat([tube_triangles, chest_triangles]), clothed


def _rings(rings: Tensor, angle: Tensor) -> Tensor:
    height, center, wide, deep = (column[:, None] for column in rings.T)
    ones = torch.ones_like(angle)
    points = [wide * angle.sin(), height * ones, center + deep * angle.cos()]
    return torch.stack(points, dim=2).flatten(0, 1)


def grid_triangles(rows: int, columns: int) -> Int[Tensor, "triangles 3"]:
    """Two triangles per cell of a grid that goes down row by row, counter-clockwise outside."""
    row, column = torch.meshgrid(torch.arange(rows - 1), torch.arange(columns - 1), indexing="ij")
    corner = (row * columns + column).flatten()
    below = corner + columns
    return torch.cat(
        [
            torch.stack([corner, below, below + 1], 1),
            torch.stack([corner, below + 1, corner + 1], 1),
        ]
    )


def strand_tables(rng: np.random.Generator) -> Float[Tensor, "n 1 texels texels"]:
    """Strand textures (n, 1, T, T) with unit spread; strands run outward from the middle.

    Azimuthal equidistant maps about the pole from which the hair grows: `STRAND_REACH` rad to each
    side. Two each of cropped, straight, wavy and curly hair (`STRAND_KINDS`).
    """
    size, middle = _STRAND_TEXELS, (_STRAND_TEXELS - 1) / 2
    row, column = np.mgrid[:size, :size] - middle
    radius, angle = np.hypot(row, column), np.arctan2(row, column)
    reach = int(radius.max()) + 2
    tables = []
    for _, along, wave, length in STRAND_KINDS:
        for _ in range(2):
            locks = ((0.5, 0.5), (1.8, 0.7), (5.0, 0.8))  # width in texels, share
            noise = sum(share * _noise(rng, size, width) for width, share in locks)
            field = _along_rays(noise, along, reach)
            bend = _noise(rng, size, max(length / 3, 4))
            swing = wave * (np.sin(2 * np.pi * radius / length + 3 * bend) + bend)
            turned = angle + swing / np.maximum(radius, 8)
            at = [radius * np.sin(turned) + middle, radius * np.cos(turned) + middle]
            field = map_coordinates(field, at, order=1, mode="grid-wrap")
            tables.append(field / field.std())
    return torch.from_numpy(np.stack(tables)[:, None].astype(np.float32))


def _noise(rng: np.random.Generator, size: int, width: float) -> np.ndarray:
    field = gaussian_filter(rng.normal(0, 1, (size, size)), width, mode="wrap")
    return field / field.std()


def _along_rays(field: np.ndarray, length: float, reach: int) -> np.ndarray:
    """Blur along the rays from the middle: strands as thick near it as far out."""
    size, middle = len(field), (len(field) - 1) / 2
    turns = 3 * size
    radius = np.arange(reach)[:, None]
    angle = 2 * np.pi * np.arange(turns) / turns
    at = [radius * np.sin(angle) + middle, radius * np.cos(angle) + middle]
    polar = map_coordinates(field, at, order=1, mode="grid-wrap")
    polar = gaussian_filter1d(polar, length, axis=0)
    row, column = np.mgrid[:size, :size] - middle
    at = [np.hypot(row, column), np.arctan2(row, column) * turns / (2 * np.pi)]
    return map_coordinates(polar, at, order=1, mode="grid-wrap")
