"""The identity's shape once more, from normals seen in the photograph (beyond the paper).

CoarseNet says where points of the surface lie; how the surface is turned there says more of the
shape, and NormalNet sees that. The most likely identity under both is again a regularized
least-squares solution (`displacements.most_likely`), with normals in the place of points. The
expression stays CoarseNet's: it moves points, and normals within an open mouth are of teeth.
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
from facerecon.normal_refinement import SeenNormals, see_normals
from facerecon.normalnet import normals_of
from facerecon.render import CurvedSurface, curved_surface

POINTS = 256
"""Of the surface, whose normals count: so far apart that their errors are taken for independent."""

LEAST_ERROR = 0.1
"""rad that a normal is off by at least: wrinkles, which no face of the model has."""

FACING = 0.35
"""n_z from which on a point's normal counts; near the outline NormalNet's are not believed."""

MISPLACED_MM = 1.5
"""How far a point may be off: where the surface bends much, its normal is less sure."""

BESIDE = 2.0
"""Pixels to each side that show how the surface bends, and whether an outline is near."""

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
    rings: Rings, coefficients: Float[Tensor, " coefficients"], count: int
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3 count"]]:
    """Unit normals of the points, model frame, and their derivative to the first coefficients.

    A point's normal is the sum of its triangles' cross products, as in `mesh.vertex_normals`.
    """
    along, across = (rings.edges + rings.basis @ coefficients).unbind(2)
    whole = torch.linalg.cross(along, across).sum(1)
    # d(a x b) = da x b + a x db: a matrix for each edge, all of a point's side by side.
    matrices = torch.stack([_crossed_with(-across), _crossed_with(along)], 2)
    change = matrices.permute(0, 3, 1, 2, 4).flatten(2) @ rings.basis.flatten(1, 3)[..., :count]
    length = whole.norm(dim=1)[:, None].clamp(min=1e-9)
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
    coefficients: Float[Tensor, " coefficients"],
    log_spread: Float[Tensor, " coefficients"],
    missing: Float[Tensor, "points 3"],
    derivative: Float[Tensor, "points 3 coefficients"],
    precision: Float[Tensor, " points"],
) -> Float[Tensor, " coefficients"]:
    """The coefficients that best agree with an estimate of them and with normals.

    One Gauss-Newton step, as `displacements.most_likely`.

    Args:
        log_spread: logarithm of the estimate's standard deviation.
        missing: normals less the estimate's. derivative: of the estimate's to each coefficient.
        precision: one over the variance of each normal, rad^-2; 0 for one that is unknown.
    """
    weight = precision.sqrt()[:, None]
    rows = (derivative * weight[..., None]).flatten(0, 1)
    system = rows.T @ rows
    system.diagonal().add_((-2 * log_spread).exp())
    moment = rows.T @ (missing * weight).flatten()[:, None]
    factor = torch.linalg.cholesky_ex(system).L  # NaN for NaN, which is no face
    change = torch.cholesky_solve(moment, factor)
    return coefficients + change[:, 0]


class ShapedFace(NamedTuple):
    """r: with the identity that normals say. seen: these normals."""

    r: Float[Tensor, "1 n"]
    seen: SeenNormals


class ShapeFromNormals(nn.Module):
    """The identity of one face from its photograph, CoarseNet's answer and NormalNet's normals.

    Args:
        model: MorphableModel. network: trained NormalNet. log_spread: CoarseNet's, how far its
            least squares take its regression to be off; its answer, with displacements, is less.
    """

    def __init__(self, model: MorphableModel, network: nn.Module, log_spread: Tensor):
        super().__init__()
        self.model, self.network = model, network.eval()
        chosen = spread_points(model, POINTS)
        eyes = [model.region_names.index(name) for name in ("eye_left", "eye_right")]
        left_out = model.region_masks[eyes].any(0) | (model.ears_and_neck > 0)
        chosen = chosen[~left_out[chosen]]
        edges, basis = Rings.of(model, chosen)
        spread = log_spread.detach()[: model.n_identity].clone()
        points = model.basis[: model.n_identity].view(model.n_identity, -1, 3)[:, chosen]
        kept = {"chosen": chosen, "edges": edges, "basis": basis, "log_spread": spread}
        kept["points"] = points.permute(1, 2, 0).contiguous()
        steps = [(0, 0), (1, 0), (-1, 0), (0, -1), (0, 1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
        kept["around"] = BESIDE * torch.tensor(steps, dtype=torch.float32, device=chosen.device)
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def after(
        cls, coarsenet: CoarseNet, model: MorphableModel, network: nn.Module
    ) -> "ShapeFromNormals | None":
        """For this CoarseNet's answers; None if it has no displacements, and so no `log_spread`."""
        return cls(model, network, coarsenet.log_spread) if coarsenet.config.points else None

    @property
    def rings(self) -> Rings:
        """Of the points whose normals count."""
        return Rings(self.edges, self.basis)

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "1 1 size size"], r: Float[Tensor, "1 n"]) -> ShapedFace:
        """r with the most likely identity; expression and pose stay.

        Args:
            image: grey crop in [0, 1]. r: CoarseNet's answer for this crop.
        """
        surface = curved_surface(self.model, r, image.shape[-1])
        seen = see_normals(self.network, self.model, image, surface)
        n = self.model.n_identity
        coefficients, pose = split(r, self.model.n_coefficients)
        rotation, scale, _ = (each[0] for each in pose_parameters(pose, image.shape[-1]))
        at = self._at_points(surface, seen)
        by_place = (MISPLACED_MM * scale * at.bend).square().sum((1, 2))[:, None]
        variance = at.error.square() + LEAST_ERROR**2 + by_place
        # A pixel's normal changes with the surface, and with which part of it lies there.
        _, turned = normals_with_derivative(self.rings, coefficients[0], n)
        moved = scale * (rotation[:2] @ self.points)
        identity = most_likely_shape(
            coefficients[0, :n],
            self.log_spread,
            at.missing @ rotation,
            turned - rotation.T @ at.bend @ moved,
            (at.known / variance)[:, 0],
        )
        return ShapedFace(torch.cat([identity[None], r[:, n:]], dim=1), seen)

    def _at_points(self, surface: CurvedSurface, seen: SeenNormals) -> "_AtPoints":
        size = seen.error.shape[-1]
        place = surface.projected[0, self.chosen]
        mask = seen.mask.to(seen.normals)
        missing = normals_of(seen.slopes) - seen.normals
        maps = torch.cat([seen.normals, mask, missing, seen.error, surface.depth], dim=1)
        around = self.around[:, None] + place[:, :2]
        grid = (around * (2 / size) + (1 / size - 1))[None]
        found = F.grid_sample(maps, grid, align_corners=False)  # 0 outside: no mask
        found = found[0].permute(1, 2, 0)
        own, inside = found[:, :, :3], found[:, :, 3].amin(0)[:, None] > 0.999
        missing, error, depth = found[0, :, 4:].split([3, 1, 1], dim=1)
        bend = torch.stack([own[1] - own[2], own[3] - own[4]], 2) / (2 * BESIDE)
        known = inside & (own[0, :, 2:] > FACING)
        known &= (depth - place[:, 2:]).abs() < HIDDEN_MM
        return _AtPoints(missing, bend, error, known)


class _AtPoints(NamedTuple):
    """What is known at each of the points.

    missing: (N, 3) the seen normal less the surface's own. bend: (N, 3, 2) how the latter changes
    from a pixel to the next to the right and up. error: (N, 1) rad.
    known: (N, 1) whether it counts.
    """

    missing: Tensor
    bend: Tensor
    error: Tensor
    known: Tensor
