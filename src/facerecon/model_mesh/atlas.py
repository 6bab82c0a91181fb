"""One texture for the whole model: the face, and below it the eyeballs and what else there is."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.chart import Chart, islands

_STRIP = 0.2  # of the atlas's height, below the face
_GAP = 0.01  # of the atlas's side, around everything
_EYES = ("eye_left", "eye_right")


class Atlas(Chart):
    """All islands of the model's UV map in one square texture; attributes as of `Chart`.

    The face fills the square but a strip below it. There every other island has a tile: the
    model's own UV map stretched to it, but for the eyeballs. Those get a map of their own, because
    in the model's an iris has a few texels: equidistant from the point that looks straight ahead,
    which lies in the middle of the tile.

    Args:
        texels: side of the textures.

    Attributes:
        island: (texture points,), as of `chart.islands`. vertex: (texture points,), the vertex of
            each, which is what makes meshes for programs that know one index per corner.
        eyeballs, cavities: the numbers of the islands of the eyeballs and of the mouth's inside.
    """

    def __init__(self, model: MorphableModel, texels: int):
        vertex = torch.zeros(len(model.uv), dtype=torch.long)
        vertex[model.uv_triangles.cpu().flatten()] = model.triangles.cpu().flatten()
        self._vertex, self._island_of = vertex, islands(model)
        super().__init__(model, texels)
        self.register_buffer("vertex", vertex)
        self.register_buffer("island", torch.from_numpy(self._island_of))

    def texel_islands(self) -> Int[Tensor, "texels texels"]:
        """The island that every texel shows, -1 outside all of them."""
        triangle = self.triangle[0]
        found = self.island[self.triangles[triangle.clamp(min=0), 0]]
        return torch.where(triangle >= 0, found, -1)

    def _coordinates(self, model: MorphableModel) -> Float[Tensor, "points 2"]:
        uv = model.uv.cpu().double().numpy()
        corners = model.uv_triangles.cpu().numpy()
        place = np.full_like(uv, np.nan)
        count = self._island_of.max()
        mouth = (model.regions["mouth_interior"] > 0.5).cpu().numpy()[self._vertex.numpy()]
        numbers = range(1, count + 1)
        self.cavities = [i for i in numbers if mouth[self._island_of == i].mean() > 0.5]
        self.eyeballs: list[int] = []
        for name in _EYES:
            own = (model.regions[name] > 0.5).cpu().numpy()[self._vertex.numpy()]
            if own.any():  # another model may have no eyeballs, or no island of theirs
                number = self._island_of[own][0]
                if number > 0 and (own == (self._island_of == number)).all():
                    self.eyeballs.append(int(number))
        sense = np.sign(_areas(uv, corners[self._island_of[corners[:, 0]] == 0]).sum())
        for number in range(count + 1):
            inside = self._island_of == number
            part = uv[inside]
            if number in self.eyeballs:
                part = _eyeball(model.mean.cpu().numpy()[self._vertex[inside]])
            local = np.zeros_like(uv)
            local[inside] = part
            mine = corners[self._island_of[corners[:, 0]] == number]
            # All islands show the same side; one that is folded, as the mouth's, its larger one.
            if np.sign(_areas(local, mine).sum()) != sense:
                part = part * [-1, 1]
            low, extent = part.min(0), np.maximum(np.ptp(part, axis=0), 1e-9)
            part = (part - low) / extent  # 0 to 1, v upward
            if number == 0:
                left, right, bottom, top = 0.0, 1.0, _STRIP, 1.0
            else:
                left, right = (number - 1) / count, number / count
                bottom, top = 0.0, _STRIP
            size = np.array([right - left, top - bottom]) - 2 * _GAP
            place[inside] = np.array([left, bottom]) + _GAP + part * size
        place = 2 * place - 1
        place[:, 1] *= -1  # rows run downward
        return torch.from_numpy(place).to(model.uv)


def _eyeball(points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2"]:
    """Azimuthal equidistant map of a sphere's points about the direction to the viewer."""
    system = np.c_[2 * points, np.ones(len(points))]  # of the sphere through them
    center = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]
    arm = points - center
    away = np.linalg.norm(arm[:, :2], axis=1)
    angle = np.arctan2(away, arm[:, 2])
    return arm[:, :2] / np.maximum(away, 1e-9)[:, None] * angle[:, None]


def _areas(uv: Float[np.ndarray, "points 2"], corners: Int[np.ndarray, "n 3"]) -> np.ndarray:
    a, b, c = (uv[corners[:, k]] for k in range(3))
    first, second = b - a, c - a
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
