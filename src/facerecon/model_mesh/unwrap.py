"""From a photograph of a known surface to a texture in the model's chart.

The texels that a photograph shows are looked up where they project to; hidden ones are taken from
the mirrored side of the face, and what both hide is filled in smoothly.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve
from torch import Tensor, nn
from torch.nn import functional

from facerecon.camera import split, to_camera
from facerecon.mesh import vertex_normals
from facerecon.rasterize import interpolate
from facerecon.render import Rendering
from facerecon.synthetic.chart import Chart

FACING = 0.3
"""Least z of a normal: skin that turns away further is smeared over few pixels."""

DEPTH_STEP = 6.0
"""mm of depth between neighboring pixels at which one surface ends before another."""

HIDDEN_BY = 3.0
"""mm that another part of the face must lie in front to hide a texel."""


class Unwrapped(NamedTuple):
    """A texture (C, T, T) and where it is known (T, T)."""

    values: Float[Tensor, "channels texels texels"]
    known: Bool[Tensor, "texels texels"]


def unwrap(
    model: nn.Module,
    chart: Chart,
    image: Float[Tensor, "1 channels size size"],
    r: Float[Tensor, "1 numbers"],
    rendering: Rendering,
    inside: Bool[Tensor, "1 1 size size"] | None = None,
    shift: Float[Tensor, "vertices 2"] | None = None,
) -> Unwrapped:
    """Look every visible texel up in a photograph, bilinearly.

    Args:
        model, chart: the morphable model and its chart.
        image: any map on the crop's pixel grid.
        r, rendering: the face's representation and its maps at the size of the image.
        inside: pixels of the crop that the photograph covers; all by default.
        shift: (columns, rows) by which the photograph shows a vertex beside its projection.
    """
    coefficients, pose = split(r, model.n_coefficients)
    normals = vertex_normals(to_camera(model.vertices(coefficients), pose), model.triangles)
    projected = rendering.projected
    shown = projected[..., :2] if shift is None else projected[..., :2] + shift
    maps = torch.cat([projected, normals[..., 2:], shown], dim=2)
    maps = interpolate(maps, chart.fragments, model.triangles)
    place, depth, facing, shown = maps.split([2, 1, 1, 2], dim=1)

    nearest = torch.where(rendering.mask, rendering.depth, -torch.inf)
    farthest = -functional.max_pool2d(-nearest, 3, 1, 1)
    smooth = functional.max_pool2d(nearest, 3, 1, 1) - farthest < DEPTH_STEP
    usable = smooth if inside is None else smooth & inside
    seen = torch.cat([torch.where(rendering.mask, rendering.depth, 1e4), usable.float()], dim=1)
    seen = sample(seen, place, mode="nearest")
    known = chart.mask & (facing[0, 0] > FACING) & (seen[0, 1] > 0.5)
    known &= depth[0, 0] > seen[0, 0] - HIDDEN_BY
    return Unwrapped(sample(image, shown)[0] * known, known)


def sample(
    maps: Float[Tensor, "batch channels height width"],
    pixels: Float[Tensor, "batch 2 rows columns"],
    mode: str = "bilinear",
) -> Float[Tensor, "batch channels rows columns"]:
    """Values of maps at (column, row); beyond the border the border's."""
    height, width = maps.shape[2:]
    size = pixels.new_tensor([width, height])
    grid = (2 * pixels.permute(0, 2, 3, 1) + 1) / size - 1
    return functional.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=False)


class Mirror(nn.Module):
    """Reflects textures about the face's symmetry plane.

    Args:
        model: MorphableModel (its `mirror`). chart: of that model.
    """

    def __init__(self, model: nn.Module, chart: Chart):
        super().__init__()
        place = vertex_places(model, chart)
        place = interpolate(place[model.mirror][None], chart.fragments, model.triangles)
        self.register_buffer("place", place)
        self.register_buffer("mask", chart.mask.clone())

    def __call__(
        self, textures: Float[Tensor, "batch channels texels texels"]
    ) -> Float[Tensor, "batch channels texels texels"]:
        """The mirrored textures, 0 outside the chart."""
        place = self.place.expand(len(textures), -1, -1, -1)
        return Chart.sample(textures, place) * self.mask

    def known(self, known: Bool[Tensor, "texels texels"]) -> Bool[Tensor, "texels texels"]:
        """Where the mirrored texture is known with all the texels that it mixes."""
        return self(known[None, None].float())[0, 0] > 0.999


def vertex_places(model: nn.Module, chart: Chart) -> Float[Tensor, "vertices 2"]:
    """Chart coordinates of every vertex (of one side of a seam); beyond 1 outside the chart."""
    place = chart.coordinates.new_full((model.n_vertices, 2), 4.0)
    place[model.triangles.flatten()] = chart.coordinates[chart.triangles.flatten()]
    return place


def membrane(
    values: Float[np.ndarray, "channels texels texels"],
    weight: Float[np.ndarray, "texels texels"],
    mask: Bool[np.ndarray, "texels texels"],
    stiffness: float = 0.02,
    pull: float = 0.0,
) -> Float[np.ndarray, "channels texels texels"]:
    """The smooth surface through weighted values, 0 far from them.

    Minimizes sum weight (x - values)^2 + stiffness |gradient x|^2 + pull x^2 over the mask (Poisson
    blending of `values` and a constant). Without any weight the result is 0.
    """
    if not (weight[mask] > 0).any():
        return np.zeros_like(values)
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(mask.sum())
    pairs = np.concatenate(
        [
            np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
            np.stack([index[:-1].ravel(), index[1:].ravel()], 1),
        ]
    )
    pairs = pairs[(pairs >= 0).all(1)]
    n = int(mask.sum())
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    links = (links + links.T).tocsr()
    # The least pull lets an island without data come out as 0.
    own = weight[mask].astype(np.float64) + max(pull, 1e-9)
    system = diags_array(own + stiffness * links.sum(1)) - stiffness * links
    wanted = (weight * values)[:, mask].T.astype(np.float64)
    found = np.zeros_like(values)
    found[:, mask] = spsolve(system.tocsc(), wanted).reshape(n, -1).T
    return found


def fill(
    texture: Float[np.ndarray, "channels texels texels"],
    weight: Float[np.ndarray, "texels texels"],
    mask: Bool[np.ndarray, "texels texels"],
    reference: Float[np.ndarray, "channels texels texels"],
    coarse: int = 96,
    pull: float = 1e-3,
    level: Float[np.ndarray, "texels texels"] | None = None,
) -> Float[np.ndarray, "channels texels texels"]:
    """Complete a texture by a reference that is brought to its level, without a seam.

    Where `weight` is 1 the texture stays; where it is 0 the reference is shifted by a membrane
    through the differences (Poisson blending with the reference's gradients, solved at about
    `coarse` texels); in between the two are mixed. `pull` holds the membrane at the median
    difference, so that a dark chin does not make a dark neck. `level`: weight of the differences,
    `weight` by default; less where texture and reference show other things, as hair and skin. Give
    logarithms for shifts that are factors.
    """
    texels = mask.shape[0]
    step = max(1, texels // coarse)
    side = -(-texels // step)
    pad = side * step - texels

    def shrink(maps: np.ndarray) -> np.ndarray:
        maps = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(0, pad), (0, pad)])
        return maps.reshape(*maps.shape[:-2], side, step, side, step).mean((-3, -1))

    level = weight if level is None else level
    share = shrink(level)
    difference = shrink(level * (texture - reference)) / np.maximum(share, 1e-6)
    # The whole square: where the coarse mask ends, its neighbors carry the values on.
    sure = share > 0.5
    middle = np.median(difference[:, sure], axis=1) if sure.any() else np.zeros(len(difference))
    middle = middle[:, None, None].astype(difference.dtype)
    shift = middle + membrane(
        difference - middle, share, np.ones(share.shape, bool), pull=pull
    ).astype(difference.dtype)
    shift = functional.interpolate(
        torch.from_numpy(shift)[None], scale_factor=step, mode="bilinear", align_corners=False
    )[0, :, :texels, :texels]
    completed = reference + shift.numpy().astype(reference.dtype)
    return np.where(mask, completed + weight * (texture - completed), 0)
