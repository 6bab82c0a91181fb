"""The face's shape once more, from normals that are seen in the photograph (beyond the paper).

CoarseNet says where points of the surface lie; how the surface is turned there says more of the
shape, and NormalNet sees that. The most likely shape under both is again a regularized
least-squares solution (`displacements.most_likely`), with normals in the place of points.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from facerecon.camera import pose_parameters, split
from facerecon.coarsenet import CoarseNet
from facerecon.displacements import spread_points
from facerecon.morphable_model import MorphableModel
from facerecon.normalnet import NormalNet, corrected_slopes, normal_input, normals_of
from facerecon.rasterize import interpolate_maps
from facerecon.render import CurvedSurface, curved_surface

POINTS = 256
"""Of the surface, whose normals count: so far apart that their errors are taken for independent."""

LEAST_ERROR = 0.1
"""rad that a normal is off by at least: wrinkles, which no face of the model has."""

FACING = 0.35
"""n_z from which on a point's normal counts; near the outline NormalNet's are not believed."""

HIDDEN_MM = 1.5
"""How far behind the seen surface a point is taken for hidden."""


class Rings(NamedTuple):
    """The triangles around some points of a morphable model, each as two edges (mm).

    edges: (N, D, 2, 3), of the mean face, counter-clockwise. basis: (N, D, 2, 3, coefficients).
    A point with fewer than D triangles has empty ones.
    """

    edges: Tensor
    basis: Tensor

    @classmethod
    def of(cls, model: MorphableModel, index: Int[Tensor, " points"]) -> "Rings":
        """The rings of triangles around these vertices of a model."""
        around = [model.triangles[(model.triangles == point).any(1)] for point in index]
        corners = pad_sequence(around, batch_first=True)  # vertex 0 three times: no area
        basis = model.basis.view(model.n_coefficients, -1, 3).permute(1, 2, 0)
        mean, basis = model.mean[corners], basis[corners]
        return cls(mean[:, :, 1:] - mean[:, :, :1], basis[:, :, 1:] - basis[:, :, :1])


def normals_with_derivative(
    rings: Rings, coefficients: Float[Tensor, " coefficients"]
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3 coefficients"]]:
    """Unit normals of the points, model frame, and their derivative to each coefficient.

    A point's normal is the sum of its triangles' cross products, as in `mesh.vertex_normals`.
    """
    along, across = (rings.edges + rings.basis @ coefficients).unbind(2)
    whole = torch.linalg.cross(along, across).sum(1)
    # d(a x b) = da x b + a x db: a matrix for each edge, all of a point's side by side.
    matrices = torch.stack([_crossed_with(-across), _crossed_with(along)], 2)
    change = matrices.permute(0, 3, 1, 2, 4).flatten(2) @ rings.basis.flatten(1, 3)
    length = whole.norm(dim=1)[:, None]
    unit = whole / length
    change = change / length[..., None]
    return unit, change - unit[:, :, None] * (unit[:, None] @ change)


def _crossed_with(vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """The matrix whose product with any vector is the cross product of `vector` with it."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return rows.unflatten(-1, (3, 3))


def most_likely_shape(
    rings: Rings,
    coefficients: Float[Tensor, " coefficients"],
    log_spread: Float[Tensor, " coefficients"],
    normals: Float[Tensor, "points 3"],
    precision: Float[Tensor, " points"],
) -> Float[Tensor, " coefficients"]:
    """The shape that best agrees with an estimate of it and with normals of its points.

    One Gauss-Newton step, as `displacements.most_likely`.

    Args:
        log_spread: logarithm of the estimate's standard deviation. normals: unit, model frame.
        precision: one over the variance of each normal, rad^-2; 0 for one that is unknown.
    """
    found, rows = normals_with_derivative(rings, coefficients)
    rows = rows * precision.sqrt()[:, None, None]
    missing = (normals - found) * precision.sqrt()[:, None]
    rows = rows.flatten(0, 1)
    system = rows.T @ rows
    system.diagonal().add_((-2 * log_spread).exp())
    factor = torch.linalg.cholesky(system)
    change = torch.cholesky_solve(rows.T @ missing.flatten()[:, None], factor)
    return coefficients + change[:, 0]


class ShapeFromNormals(nn.Module):
    """The shape of one face from its photograph, CoarseNet's answer and NormalNet's normals.

    Args:
        model: MorphableModel. network: trained NormalNet. log_spread: CoarseNet's, of how far its
            answers are off.
    """

    def __init__(self, model: MorphableModel, network: NormalNet, log_spread: Tensor):
        super().__init__()
        self.model, self.network = model, network.eval()
        chosen = spread_points(model, POINTS)
        eyes = [model.region_names.index(name) for name in ("eye_left", "eye_right")]
        left_out = model.region_masks[eyes].any(0) | (model.ears_and_neck > 0)
        chosen = chosen[~left_out[chosen]]
        edges, basis = Rings.of(model, chosen)
        spread = log_spread.detach()[: model.n_coefficients].clone()
        kept = {"chosen": chosen, "edges": edges, "basis": basis, "log_spread": spread}
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def after(
        cls, coarsenet: CoarseNet, model: MorphableModel, network: NormalNet
    ) -> "ShapeFromNormals | None":
        """For this CoarseNet's answers; None if it has no displacements, and so no `log_spread`."""
        return cls(model, network, coarsenet.log_spread) if coarsenet.config.points else None

    @property
    def rings(self) -> Rings:
        """Of the points whose normals count."""
        return Rings(self.edges, self.basis)

    @torch.no_grad()
    def forward(
        self, image: Float[Tensor, "1 1 size size"], r: Float[Tensor, "1 n"]
    ) -> Float[Tensor, "1 n"]:
        """r with the most likely shape; the pose stays.

        Args:
            image: grey crop in [0, 1]. r: CoarseNet's answer for this crop.
        """
        size = image.shape[-1]
        surface = curved_surface(self.model, r, size)
        coefficients, pose = split(r, self.model.n_coefficients)
        place = surface.projected[:, self.chosen]
        grid = place[:, None, :, :2] * (2 / size) + (1 / size - 1)
        maps = torch.cat(self._seen(image, surface), dim=1)
        found = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        missing, error, depth, mask = found[0, :, 0].T.split([3, 1, 1, 1], dim=1)
        own = surface.normals[0, self.chosen]
        seen = (mask > 0.99) & (own[:, 2:] > FACING)
        seen &= (depth - place[0, :, 2:]).abs() < HIDDEN_MM
        precision = seen / (error.square() + LEAST_ERROR**2)
        rotation = pose_parameters(pose, size).rotation[0]
        normals = F.normalize(own + missing, dim=1) @ rotation  # in the model's frame
        known = self.log_spread, normals, precision[:, 0]
        shape = most_likely_shape(self.rings, coefficients[0], *known)
        return torch.cat([shape[None], pose], dim=1)

    def _seen(self, image: Tensor, surface: CurvedSurface) -> tuple[Tensor, ...]:
        """NormalNet's normals less the surface's own, their error in rad, depth and mask."""
        fragments, triangles = surface.fragments, self.model.triangles
        maps = surface.vertices, surface.normals, self.model.pncc, fragments, triangles
        _, normals, pncc = interpolate_maps(*maps)
        known = normal_input(image, normals, pncc, fragments.mask, self.network.config)
        tilt, log_error = self.network(known)
        seen = normals_of(corrected_slopes(normals, tilt.float()))
        return seen - normals, log_error.float().exp(), surface.depth, fragments.mask.to(image)
