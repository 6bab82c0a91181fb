"""A photographed face under another light, moved by sliders.

ipywidgets comes with `pip install "facerecon[notebooks]"`.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from facerecon.files import png
from facerecon.lighting import shade
from facerecon.sfs import Shading

if TYPE_CHECKING:
    from ipywidgets import Box, FloatSlider

LIMITS = {
    "right °": (-90.0, 90.0, 5.0),
    "above °": (-90.0, 90.0, 5.0),
    "strength": (0.0, 2.5, 0.05),
    "ambient": (0.0, 2.5, 0.05),
}
"""Least, most and step of every slider."""

VIEWS = ("photograph", "albedo × light", "light alone")

DARKEST_SHADING = 0.2
"""Of the old light and of the new: dividing by less would show noise and stray hairs in glaring
white, and multiplying by less would leave black holes."""

RIM = 0.06
"""Width of the border of the face, as a share of the picture's side, where light is held back."""

FADE = 0.15
"""How far beyond the face its new light fades out, as a share of the picture's side."""

BALL = 0.22
"""Side of the small ball that shows the light, as a share of the picture's."""

BALL_ALBEDO = 0.6

MAX_RATIO_BEYOND = 1.5
"""By how much the new light may brighten what is not the face."""


class Relighter:
    """The face of a photograph under a light that sliders set; they begin at its own.

        relighter = Relighter(photo, normals, mask, found)  # of `sfs.estimate_shading`
        relighter.sliders["right °"].value = 60  # as a hand on the slider would
        relighter.live()  # in a notebook: the sliders beside the picture

    Three views: the photograph times the ratio of new to old light (Riklin-Raviv and Shashua's
    quotient), which keeps every hair and pore and fades out in the hair around the face; the
    recovered albedo under the new light, Eq. (8); and the light on its own, a white face. A small
    ball shows the same light.

    Attributes:
        sliders: by name. view: chooses the view. image: the widget that shows the picture.

    Args:
        photo: the crop, RGB in [0, 1].
        normals: unit, camera frame, of the coarse or the fine surface.
        mask: the face.
        found: light and albedo of the photograph, first order.

    Raises:
        ImportError: ipywidgets is missing.
        ValueError: the light is not of first order.
    """

    def __init__(
        self,
        photo: Float[np.ndarray, "height width 3"],
        normals: Float[Tensor, "1 3 height width"],
        mask: Bool[Tensor, "1 1 height width"],
        found: Shading,
    ) -> None:
        import ipywidgets as widgets

        if found.light.shape[1] != 4:
            raise ValueError("the sliders are those of a first-order light: use order=1")
        self.photo, self.normals, self.mask, self.found = photo, normals, mask, found
        self._start = dict(zip(LIMITS, describe_light(found.light[0]), strict=True))
        self.sliders: dict[str, FloatSlider] = {
            name: widgets.FloatSlider(
                min(max(self._start[name], low), high), min=low, max=high, step=step,
                description=name, readout_format=".2f",
            )
            for name, (low, high, step) in LIMITS.items()
        }  # fmt: skip
        self.view = widgets.Dropdown(options=VIEWS, description="view")
        self.image = widgets.Image(format="png", width=400, height=400)

    @property
    def light(self) -> Float[Tensor, "1 4"]:
        """The light as the sliders say, in the order of Eq. (9)."""
        right, above, strength, ambient = (slider.value for slider in self.sliders.values())
        right, above = math.radians(right), math.radians(above)
        toward = (
            math.sin(right) * math.cos(above),
            math.sin(above),
            math.cos(right) * math.cos(above),
        )
        return self.normals.new_tensor([[ambient, *(strength * part for part in toward)]])

    def picture(self) -> Float[np.ndarray, "height width 3"]:
        """The face under the sliders' light, in [0, 1], with the ball in its lower right corner."""
        new = shade(torch.ones_like(self.found.albedo), self.light, self.normals).clamp(min=0)
        if self.view.value == "photograph":
            old = shade(torch.ones_like(self.found.albedo), self.found.light, self.normals)
            ratio = new.clamp(min=DARKEST_SHADING) / old.clamp(min=DARKEST_SHADING)
            lit = self.photo * faded(ratio[0, 0].numpy(), self.mask[0, 0].numpy())[..., None]
        else:
            grey = new if self.view.value == "light alone" else self.found.albedo * new
            grey = torch.where(self.mask, grey, 1.0)[0, 0].numpy()
            lit = np.repeat(grey[..., None], 3, axis=2)
        lit = np.clip(lit, 0, 1)
        ball, inside = self._ball(round(BALL * len(lit)))
        lit[-len(ball) :, -len(ball) :][inside] = ball[inside][:, None]
        return lit

    def reset(self) -> None:
        """All sliders to where they began: the light of the photograph."""
        for name, slider in self.sliders.items():
            slider.value = self._start[name]

    def live(self) -> "Box":
        """The sliders beside the picture, to be shown in a notebook; needs a kernel."""
        import ipywidgets as widgets

        button = widgets.Button(description="as photographed")
        button.on_click(lambda _: self.reset())
        self._update(None)
        for control in (*self.sliders.values(), self.view):
            control.observe(self._update, "value")
        return widgets.HBox([widgets.VBox([*self.sliders.values(), self.view, button]), self.image])

    def _ball(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A pale ball under the same light, (size, size), and where it is."""
        normals, inside = ball_normals(size)
        pale = torch.full((1, 1, size, size), BALL_ALBEDO)
        grey = shade(pale, self.light.float(), normals).clamp(0, 1)
        return grey[0, 0].numpy(), inside[0, 0].numpy()

    def _update(self, change: Any) -> None:
        self.image.value = png(self.picture())


def faded(
    ratio: Float[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, "height width"]:
    """A ratio of lights that goes on beyond the face, ever weaker, so that it has no edge.

    Inside of the mask it is kept, but for a border of `RIM` where it comes down to at most
    `MAX_RATIO_BEYOND` toward the outline. Outside it begins with that of the nearest pixel of the
    face, smoothed along the outline, and has become 1 at `FADE` of the picture's side.

    Args:
        ratio: above 0.
        mask: the face.
    """
    reach = FADE * len(mask)
    away, nearest = ndimage.distance_transform_edt(~mask, return_indices=True)
    inward = np.clip(ndimage.distance_transform_edt(mask) / (RIM * len(mask)), 0, 1)
    excess = np.log(np.maximum(ratio / MAX_RATIO_BEYOND, 1))
    inside = ratio * np.exp(-(0.5 + 0.5 * np.cos(np.pi * inward)) * excess)
    continued = np.log(np.minimum(ratio, MAX_RATIO_BEYOND))[tuple(nearest)]
    smooth = ndimage.gaussian_filter(continued, reach / 3)
    aside = np.clip(away / (0.3 * reach), 0, 1)  # the outline itself must not be smoothed away
    fade = 0.5 + 0.5 * np.cos(np.pi * np.clip(away / reach, 0, 1))
    outside = np.exp(fade * ((1 - aside) * continued + aside * smooth))
    return np.where(mask, inside, outside)


def describe_light(light: Float[Tensor, "4"]) -> tuple[float, float, float, float]:
    """Angle to the right and upward in degrees, strength, and ambient part of a first-order light.

    The direction (0, 0, 1), toward the viewer, has both angles 0.
    """
    ambient, x, y, z = light.tolist()
    strength = math.sqrt(x * x + y * y + z * z)
    above = math.degrees(math.asin(y / strength)) if strength else 0.0
    return math.degrees(math.atan2(x, z)), above, strength, ambient


def ball_normals(
    size: int,
) -> tuple[Float[Tensor, "1 3 size size"], Bool[Tensor, "1 1 size size"]]:
    """Normals of a ball that fills a square picture, camera frame, and the pixels that it covers.

    The normals are 0 in the background.
    """
    across = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-across, across, indexing="ij")
    height = 1 - x**2 - y**2
    inside = (height > 0)[None, None]
    normals = torch.stack([x, y, height.clamp(min=0).sqrt()])[None]
    return normals * inside, inside
