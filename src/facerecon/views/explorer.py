"""Sliders over what makes a picture of a face, and a live view that a mouse can turn.

ipywidgets and plotly come with `pip install "facerecon[notebooks]"`.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from facerecon.camera import POSE_UNITS, join, pose_parameters, split, to_camera, to_pixels
from facerecon.imaging import to_bytes
from facerecon.lighting import shade
from facerecon.mesh import cluster, cluster_means, vertex_normals
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.views.viz import MAX_VIEWER_VERTICES, live_figure

if TYPE_CHECKING:
    from ipywidgets import Box, FloatSlider
    from plotly.graph_objects import Figure

EXPRESSIONS = {
    "open the jaw": ("jawOpen",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "pucker": ("mouthPucker",),
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "brows up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
}
"""Sliders of expression and the units that each activates, for models that have them."""

POSE_LIMITS = {"pitch °": 45, "yaw °": 80, "roll °": 45, "right %": 25, "up %": 25, "larger %": 30}
"""Sliders of pose, in the order of `camera.POSE_NAMES`; % of the crop, and of the size at zero."""

START_LIGHT = {"ambient": 0.5, "right": -0.4, "above": 0.2, "front": 0.8}
"""Sliders of light, in the order of Eq. (9), and where they begin."""

MAX_STD = 2.5
MAX_LIGHT = 1.2


class Explorer:
    """A face that follows sliders for identity, expression, pose, albedo and light.

        explorer = Explorer(MorphableModel.default())
        explorer.sliders["expression"]["smile"].value = 0.8  # as a hand on the slider would
        explorer.live()  # in a notebook: the sliders beside the view

    The view is the square of a crop with the face above it, in pixels. Seen from the front it is
    the picture that the weak-perspective camera takes. A change sends a reduced mesh with the
    colors of its vertices, so that a slider can be dragged.

    Attributes:
        sliders: by group and name; identity and albedo move the model's first components.
        figure: the view, a plotly figure whose first trace is the mesh.

    Args:
        model: on the CPU.
        n_identity, n_albedo: how many components have a slider.
        size: side of the crop in pixels.
        max_vertices: of the reduced mesh.

    Raises:
        ImportError: ipywidgets or plotly is missing.
    """

    def __init__(
        self,
        model: MorphableModel,
        n_identity: int = 6,
        n_albedo: int = 3,
        size: int = 200,
        max_vertices: int = MAX_VIEWER_VERTICES,
    ) -> None:
        self.model, self.size = model, size
        n_identity, n_albedo = min(n_identity, model.n_identity), min(n_albedo, model.n_albedo)
        group, self._triangles = merge_vertices(model, max_vertices)
        self._mean = cluster_means(model.mean, group)
        self._basis = cluster_means(model.basis.unflatten(1, (-1, 3)), group)
        self._albedo_mean = cluster_means(model.albedo_mean, group)
        self._albedo_basis = cluster_means(model.albedo_basis, group)
        self.sliders = self._make_sliders(n_identity, n_albedo)
        self._start = [(s, s.value) for page in self.sliders.values() for s in page.values()]
        self.figure = self._make_figure()
        for slider, _ in self._start:
            slider.observe(self._update, "value")

    @property
    def r(self) -> Float[Tensor, "1 numbers"]:
        """Coefficients and pose as the sliders say."""
        coefficients = self.model.mean.new_zeros(1, self.model.n_coefficients)
        for i, value in enumerate(self._values("identity")):
            coefficients[0, i] = value
        for name, slider in self.sliders["expression"].items():
            for unit in EXPRESSIONS[name]:
                i = self.model.expression_index(unit)
                std = self.model.expression_std[i - self.model.n_identity]
                coefficients[0, i] = slider.value / std
        pitch, yaw, roll, right, up, larger = self._values("pose")
        angles = [math.radians(angle) for angle in (pitch, yaw, roll)]
        physical = [*angles, right / 100, up / 100, math.log1p(larger / 100)]
        pose = torch.tensor([physical], dtype=torch.float64) / POSE_UNITS
        return join(coefficients, pose.to(coefficients))

    @property
    def albedo(self) -> Float[Tensor, "1 albedo_coefficients"]:
        """Coefficients of the albedo as the sliders say."""
        values = self._values("albedo")
        values += [0.0] * (self.model.n_albedo - len(values))
        return self.model.mean.new_tensor([values])

    @property
    def light(self) -> Float[Tensor, "1 4"]:
        """The light as the sliders say."""
        return self.model.mean.new_tensor([self._values("light")])

    def surface(self) -> tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "vertices 3"]]:
        """The reduced mesh and its colors, RGB in [0, 1], as the sliders say.

        The vertices are in pixels: x right and y up from the middle of the crop, z to the viewer.
        """
        coefficients, pose = split(self.r, self.model.n_coefficients)
        vertices = self._mean + torch.tensordot(coefficients, self._basis, 1)
        turned = to_camera(vertices, pose)
        column, row, depth = to_pixels(turned, pose, self.size)[0].unbind(1)
        middle, scale = (self.size - 1) / 2, pose_parameters(pose, self.size).scale
        points = torch.stack([column - middle, middle - row, depth * scale], dim=1)
        albedo = self._albedo_mean + torch.tensordot(self.albedo, self._albedo_basis, 1)
        normals = vertex_normals(turned, self._triangles).mT[:, :, None]  # a map one pixel high
        shading = shade(torch.ones_like(normals[:, :1]), self.light, normals)[0, 0, 0]
        return points.numpy(), (albedo[0] * shading[:, None]).clamp(0, 1).numpy()

    def picture(self) -> Float[np.ndarray, "size size 3"]:
        """The picture that the camera takes of the full mesh, on white, as the sliders say."""
        maps = render(self.model, self.r, self.size)
        rgb = interpolate(self.model.albedo(self.albedo), maps.fragments, self.model.triangles)
        lit = (rgb * shade(torch.ones_like(maps.depth), self.light, maps.normals)).clamp(0, 1)
        return torch.where(maps.mask, lit, 1.0)[0].permute(1, 2, 0).numpy()

    def reset(self) -> None:
        """All sliders to where they began."""
        for slider, value in self._start:
            slider.value = value

    def live(self) -> "Box":
        """The sliders beside the view, to be shown in a notebook; needs anywidget and a kernel."""
        import ipywidgets as widgets

        self.figure = live_figure(self.figure)
        pages = [widgets.VBox(list(page.values())) for page in self.sliders.values()]
        button = widgets.Button(description="reset")
        button.on_click(lambda _: self.reset())
        tabs = widgets.Tab(pages, titles=list(self.sliders), layout={"width": "420px"})
        return widgets.HBox([widgets.VBox([tabs, button]), self.figure])

    def _values(self, group: str) -> list[float]:
        return [slider.value for slider in self.sliders[group].values()]

    def _make_sliders(self, n_identity: int, n_albedo: int) -> "dict[str, dict[str, FloatSlider]]":
        from ipywidgets import FloatSlider

        def page(limits: dict[str, tuple[float, float, float, float]]) -> dict[str, FloatSlider]:
            return {
                name: FloatSlider(value, min=low, max=top, step=step, description=name)
                for name, (value, low, top, step) in limits.items()
            }

        std, activation = (0.0, -MAX_STD, MAX_STD, 0.1), (0.0, 0.0, 1.0, 0.05)
        units = set(self.model.expression_names)
        known = [name for name in EXPRESSIONS if units.issuperset(EXPRESSIONS[name])]
        return {
            "identity": page({f"identity {i + 1}": std for i in range(n_identity)}),
            "expression": page({name: activation for name in known}),
            "pose": page({name: (0.0, -most, most, 1.0) for name, most in POSE_LIMITS.items()}),
            "albedo": page({f"albedo {i + 1}": std for i in range(n_albedo)}),
            "light": page(
                {name: (v, -MAX_LIGHT, MAX_LIGHT, 0.05) for name, v in START_LIGHT.items()}
            ),
        }

    def _make_figure(self) -> "Figure":
        import plotly.graph_objects as plotly

        points, rgb = self.surface()
        i, j, k = self._triangles.numpy().astype(np.min_scalar_type(len(points))).T
        x, y, z = points.T
        face = plotly.Mesh3d(
            x=x, y=y, z=z, i=i, j=j, k=k, vertexcolor=_hex(rgb), hoverinfo="skip",
            lighting={"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},  # already lit
        )  # fmt: skip
        half = self.size / 2
        corners = {"x": [-half, half, half, -half, -half], "y": [-half, -half, half, half, -half]}
        frame = plotly.Scatter3d(
            **corners, z=[-half] * 5, mode="lines", line={"color": "grey"}, hoverinfo="skip"
        )
        axis = {"visible": False, "range": [-0.7 * self.size, 0.7 * self.size]}
        return plotly.Figure(
            [face, frame],
            plotly.Layout(
                width=520, height=520, margin={"l": 0, "r": 0, "t": 0, "b": 0}, showlegend=False,
                scene={
                    "xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "manual",
                    "aspectratio": {"x": 2.1, "y": 2.1, "z": 2.1},
                    "camera": {
                        "up": {"x": 0, "y": 1, "z": 0}, "eye": {"x": 0, "y": 0, "z": 2},
                        "projection": {"type": "orthographic"},
                    },
                },
            ),
        )  # fmt: skip

    def _update(self, change: Any) -> None:
        points, rgb = self.surface()
        face = self.figure.data[0]
        with self.figure.batch_update():
            face.x, face.y, face.z = points.T
            face.vertexcolor = _hex(rgb)


def merge_vertices(
    model: MorphableModel, limit: int
) -> tuple[Int[Tensor, " vertices"], Int[Tensor, "fewer_triangles 3"]]:
    """Which vertices to merge so that at most `limit` are left, the same for every face.

    Neighbors merge that face the same way, and first those that matter less (`vertex_weight`).

    Returns:
        The new vertex of each old one, and the triangles that are left, of new vertices.
    """
    normals = vertex_normals(model.mean[None], model.triangles)[0]
    coarseness = torch.where(model.vertex_weight < model.vertex_weight.median() / 2, 3.0, 1.0)

    def cells(size: float) -> Tensor:
        place = (model.mean / (size * coarseness[:, None])).floor()
        return torch.cat([place, normals > 0, coarseness[:, None]], dim=1)

    return cluster(model.triangles, model.n_vertices, limit, cells, 0.5, 1.15)


def _hex(rgb: Float[np.ndarray, "vertices 3"]) -> list[str]:
    """Colors in [0, 1] as plotly takes them for vertices."""
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in to_bytes(rgb).tolist()]
