"""The model's texture chart: from UV coordinates to texels, and from texels to the mean face."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.nn import functional

from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import Fragments, interpolate, rasterize

_NOSE_TIP = 30  # iBUG landmark; lies on the part of the texture that shows the face
_MARGIN = 0.01  # of the chart's side, around the face
_OUTSIDE = 4.0  # coordinate of everything else


class Chart(nn.Module):
    """The part of the model's UV map that shows the face, as a square texture.

    A UV map has many islands, and the face may fill a tenth of it. The chart is the bounding box of
    the island with the nose, each axis stretched to [-1, 1] on its own (u to the right, v up, texel
    centers as in `grid_sample(align_corners=False)`). Eyeballs and the inside of the mouth
    lie outside, where every texture counts as 0.

    Args:
        texels: side of the textures.

    Attributes:
        coordinates: (texture points, 2) in [-1, 1], indexed by `model.uv_triangles`.
        fragments: triangle and barycentric weights of every texel, a batch of one, T x T.
        position: (T, T, 3) mean face in mm at every texel, 0 outside the mask. mask: (T, T).
    """

    def __init__(self, model: MorphableModel, texels: int):
        super().__init__()
        self.texels = texels
        self.register_buffer("coordinates", self._coordinates(model))
        self.register_buffer("triangles", model.uv_triangles.clone())
        triangle, barycentric = self._rasterize()
        self.register_buffer("triangle", triangle)
        self.register_buffer("barycentric", barycentric)
        position = interpolate(model.mean[None], self.fragments, model.triangles)
        self.register_buffer("position", position[0].permute(1, 2, 0))
        self.register_buffer("mask", triangle[0] >= 0)

    @property
    def fragments(self) -> Fragments:
        """What every texel shows; interpolates values per vertex with `model.triangles`."""
        return Fragments(self.triangle, self.barycentric)

    def at(self, fragments: Fragments) -> Float[Tensor, "batch 2 height width"]:
        """Chart coordinates of every pixel; outside the chart in the background."""
        found = interpolate(self.coordinates[None], fragments, self.triangles)
        return torch.where(fragments.mask, found, found.new_tensor(_OUTSIDE))

    @staticmethod
    def sample(
        textures: Float[Tensor, "batch channels texels texels"],
        coordinates: Float[Tensor, "batch 2 height width"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Bilinear samples of textures at chart coordinates; 0 outside."""
        return functional.grid_sample(
            textures, coordinates.permute(0, 2, 3, 1), mode="bilinear", align_corners=False
        )

    def _coordinates(self, model: MorphableModel) -> Float[Tensor, "points 2"]:
        inside = _island(model)
        uv = model.uv
        low, high = uv[inside].amin(0), uv[inside].amax(0)
        middle, half = (low + high) / 2, (high - low) / 2 * (1 + 2 * _MARGIN)
        scaled = (uv - middle) / half * uv.new_tensor([1.0, -1.0])
        return torch.where(inside[:, None], scaled, torch.full_like(scaled, _OUTSIDE))

    def _rasterize(self) -> Fragments:
        half = self.texels / 2
        texel = (self.coordinates + 1) * half - 0.5
        corners = texel[self.triangles]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        mirrored = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).median() > 0
        if mirrored:  # only front faces are rendered, so look at the map from behind
            texel = texel * texel.new_tensor([-1.0, 1.0]) + texel.new_tensor([self.texels - 1.0, 0])
        flat = torch.cat([texel, torch.zeros_like(texel[:, :1])], dim=1)
        found = rasterize(flat[None], self.triangles, self.texels, self.texels)
        return Fragments(*(part.flip(2) for part in found)) if mirrored else found


def islands(model: MorphableModel) -> Int[np.ndarray, " points"]:
    """The number of the island of every texture point; 0 is the one with the tip of the nose."""
    corners = model.uv_triangles.cpu().numpy()
    n = len(model.uv)
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    nose = (model.triangles == model.landmarks[_NOSE_TIP]).cpu().numpy()
    face = labels[corners[nose][0]]
    return np.where(labels == face, 0, labels + (labels < face)).astype(np.int64)


def _island(model: MorphableModel) -> Bool[Tensor, " points"]:
    """The texture points that hang together with the tip of the nose."""
    return torch.from_numpy(islands(model) == 0).to(model.uv.device)
