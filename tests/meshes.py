"""Small meshes and a tiny linear face model for tests and benchmarks."""

import numpy as np
import torch
from torch import Tensor


def grid_triangles(n_rows: int, n_columns: int) -> Tensor:
    """Two triangles per cell of a vertex grid whose rows go up and whose columns go right."""
    index = torch.arange(n_rows * n_columns).view(n_rows, n_columns)
    a, b = index[:-1, :-1].flatten(), index[:-1, 1:].flatten()
    c, d = index[1:, :-1].flatten(), index[1:, 1:].flatten()
    return torch.cat([torch.stack([a, b, d], 1), torch.stack([a, d, c], 1)])


def head(n_rows: int = 100, n_columns: int = 100) -> tuple[Tensor, Tensor]:
    """The front of a head in mm, model frame: an ellipsoid with a nose, about 170 x 200 mm."""
    latitude, longitude = np.meshgrid(
        np.linspace(-1.25, 1.25, n_rows), np.linspace(-1.9, 1.9, n_columns), indexing="ij"
    )
    nose = np.exp(-((longitude / 0.14) ** 2) - ((latitude + 0.05) / 0.22) ** 2)
    radius = 1 + 0.28 * nose + 0.02 * np.cos(5 * longitude) * np.cos(4 * latitude)
    x = 78 * radius * np.sin(longitude) * np.cos(latitude)
    y = 105 * radius * np.sin(latitude)
    z = 85 * radius * np.cos(longitude) * np.cos(latitude)
    vertices = np.stack([x, y, z], axis=-1).reshape(1, -1, 3).astype(np.float32)
    return torch.from_numpy(vertices), grid_triangles(n_rows, n_columns)


def sphere(radius: float, n_rows: int, n_columns: int) -> tuple[Tensor, Tensor]:
    """The front half of a sphere around the origin, float64."""
    latitude = torch.linspace(-1.5, 1.5, n_rows, dtype=torch.float64)[:, None]
    longitude = torch.linspace(-1.5, 1.5, n_columns, dtype=torch.float64)[None]
    x = longitude.sin() * latitude.cos()
    y = latitude.sin().expand_as(x)
    z = longitude.cos() * latitude.cos()
    vertices = radius * torch.stack([x, y, z], dim=-1).view(1, -1, 3)
    return vertices, grid_triangles(n_rows, n_columns)


class TinyModel:
    """A linear model with the interface the rendering layer needs."""

    def __init__(
        self,
        mean: Tensor,
        triangles: Tensor,
        n_coefficients: int,
        generator: torch.Generator,
        deviation_mm: float = 1.0,
    ) -> None:
        self.mean = mean.view(-1, 3)
        self.triangles = triangles
        self.n_coefficients = n_coefficients
        numbers = torch.randn(n_coefficients, self.mean.numel(), generator=generator)
        self.basis = deviation_mm * numbers.to(mean.dtype)
        low, high = self.mean.amin(0), self.mean.amax(0)
        self.pncc = (self.mean - low) / (high - low)

    def vertices(self, coefficients: Tensor) -> Tensor:
        return torch.addmm(self.mean.flatten(), coefficients, self.basis).unflatten(1, (-1, 3))


def boundary_loops(triangles: torch.Tensor) -> list[torch.Tensor]:
    """The borders as vertex loops, longest first, each walked with the surface on its left."""
    edges = [triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]
    directed = set(map(tuple, torch.cat(edges).tolist()))
    following = dict(edge for edge in sorted(directed) if edge[::-1] not in directed)
    loops = []
    while following:
        loop = [min(following)]
        while (vertex := following.pop(loop[-1])) != loop[0]:
            loop.append(vertex)
        loops.append(torch.tensor(loop))
    return sorted(loops, key=len, reverse=True)
