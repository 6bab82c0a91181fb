"""The fixed shapes around a mean face: the hair's shell, skull, neck and shoulders, strands."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

# The skull of the mean head: an ellipsoid that meets the forehead and the temples (mm).
CENTRE = (0.0, 35.0, -82.0)
RADII = (74.0, 97.0, 94.0)
_ROWS_ABOVE, _ROWS_BELOW, _COLUMNS = 12, 16, 48
_LOWEST = -240.0  # mm, end of the longest hair


def shell() -> tuple[
    Float[Tensor, "points 3"],
    Float[Tensor, " points"],
    Float[Tensor, " points"],
    Int[Tensor, "triangles 3"],
]:
    """Points on and below the skull (mm), azimuth (rad, 0: front), row (1: top to -1: lowest).

    The fourth is the triangles, counter-clockwise seen from outside.
    """
    centre, radii = torch.tensor(CENTRE), torch.tensor(RADII)
    up = torch.linspace(math.pi / 2 - 0.02, 0, _ROWS_ABOVE + 1)
    down = torch.linspace(0, 1, _ROWS_BELOW + 1)[1:]
    sine = torch.cat([up.sin(), torch.zeros_like(down)])
    cosine = torch.cat([up.cos(), torch.ones_like(down)])
    drop = torch.cat([torch.zeros_like(up), down]) * (_LOWEST - CENTRE[1])
    row = torch.cat([torch.linspace(1, 0, _ROWS_ABOVE + 1), -down])
    azimuth = torch.linspace(-math.pi, math.pi, _COLUMNS + 1)
    ones = torch.ones_like(azimuth)
    points = torch.stack(
        [
            centre[0] + radii[0] * cosine[:, None] * azimuth.sin(),
            centre[1] + (radii[1] * sine + drop)[:, None] * ones,
            centre[2] + radii[2] * cosine[:, None] * azimuth.cos(),
        ],
        dim=2,
    )
    return (
        points.flatten(0, 1),
        azimuth.repeat(len(row)),
        row.repeat_interleave(len(azimuth)),
        grid_triangles(len(row), len(azimuth)),
    )


def body() -> tuple[
    Float[Tensor, "points 3"], Int[Tensor, "triangles 3"], Float[Tensor, " points"]
]:
    """Points, triangles, and which points are clothed: skull and neck as one tube, shoulders."""
    angle = torch.linspace(-math.pi, math.pi, 33)
    # height, centre in depth, half width, half depth
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
    height, centre, wide, deep = (column[:, None] for column in rings.T)
    ones = torch.ones_like(angle)
    points = [wide * angle.sin(), height * ones, centre + deep * angle.cos()]
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


def strand_tables(rng: np.random.Generator) -> Float[Tensor, "n 1 height width"]:
    """Strand textures (n, 1, 192, 1024), around the head by along the hair, unit spread.

    Straight, wavy, curly and cropped hair, two of each.
    """
    shape = (192, 1024)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    tables = []
    for along, wave, length in ((28, 0, 1), (22, 6, 60), (6, 9, 22), (3, 0, 1)):
        for _ in range(2):
            fine = gaussian_filter(rng.normal(0, 1, shape), (along, 0.6), mode="wrap")
            locks = gaussian_filter(rng.normal(0, 1, shape), (along * 1.5, 5), mode="wrap")
            field = fine / fine.std() + 0.5 * locks / locks.std()
            phase = gaussian_filter(rng.normal(0, 1, shape), (20, 12), mode="wrap")
            swing = wave * np.sin(2 * np.pi * rows / length + 2 * phase / phase.std())
            field = map_coordinates(field, [rows, columns + swing], order=1, mode="grid-wrap")
            tables.append(field / field.std())
    return torch.from_numpy(np.stack(tables)[:, None].astype(np.float32))
