"""One synthetic photograph rendered again while single settings are changed.

ipywidgets comes with `pip install "facerecon[notebooks]"`.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from facerecon.files import png
from facerecon.imaging import to_bytes
from facerecon.synthetic.world import SyntheticWorld

if TYPE_CHECKING:
    from ipywidgets import Box, FloatSlider

BANKS = frozenset({"variants", "n_textures", "seed", "wrinkles", "texture"})
"""Knobs of `DetailConfig` that a world's banks were made with."""

NEUTRAL_CAMERA = {
    "p_auto_exposure": 0.0, "gamma": (1.0, 1.0), "contrast": (1.0, 1.0), "brightness": (0.0, 0.0),
    "saturation": (1.0, 1.0), "p_vignette": 0.0, "p_blur": 0.0, "p_motion": 0.0,
    "p_low_resolution": 0.0, "p_sharpen": 0.0, "p_noise": 0.0, "p_jpeg": 0.0,
}  # fmt: skip
"""Knobs of a `CameraConfig` that shows the scene as it is, but for the lens and the shoulder."""

WRINKLES = ("age_strength", "youth_strength", "expression_strength", "pores")
"""Knobs of `DetailConfig` that the slider moves together."""

EXPOSURE = 0.45
"""Mean intensity of the face that the studio's camera aims at."""

SLIDERS = {
    "lamp right °": (-40.0, -90.0, 90.0, 5.0),
    "lamp above °": (25.0, -40.0, 80.0, 5.0),
    "lamp strength": (0.8, 0.0, 1.5, 0.05),
    "shadow": (1.0, 0.0, 1.0, 1.0),
    "wrinkles": (0.5, 0.0, 1.0, 0.05),
    "nearness 1/m": (1.0, 0.0, 3.2, 0.1),
    "noise": (0.0, 0.0, 0.1, 0.005),
}
"""Value, least, most and step of every slider; what perspective changes grows with nearness."""


def turned(world: SyntheticWorld, **knobs: Mapping[str, object]) -> SyntheticWorld:
    """A world like another one but for some settings; it shares the other's banks of maps.

        turned(world, light={"p_shadow": 1.0}, camera={"p_noise": 0.0})

    How many random numbers a photograph takes does not depend on ranges and probabilities. So
    generators of the same seed photograph the same people in both worlds, and what differs is what
    was turned.

    Args:
        knobs: by group of `SyntheticConfig`, then by name.

    Raises:
        ValueError: a group is unknown, or a knob shapes the banks: make a new `SyntheticWorld`.
        TypeError: a group has no such knob.
    """
    groups = {}
    for group, values in knobs.items():
        if not is_dataclass(getattr(world.config, group, None)):
            raise ValueError(f"{group!r} is no group of knobs of a SyntheticConfig")
        if group == "detail" and BANKS & values.keys():
            fixed = ", ".join(sorted(BANKS & values.keys()))
            raise ValueError(f"{fixed}: the banks are made with it; make a new SyntheticWorld")
        groups[group] = replace(getattr(world.config, group), **values)
    config = replace(world.config, **groups)
    other = deepcopy(world, {id(shared): shared for shared in world.buffers()})
    other.config = config
    other.skin.config = other.features.config = config.skin
    other.person.config = config.hair
    for bank in (other.relief, other.texture):
        if bank is not None:
            bank.config = config.detail
    return other


class Studio:
    """One person before a camera, with sliders for the light, the skin's wrinkles and the camera.

        studio = Studio(world, r)
        studio.sliders["lamp right °"].value = 60  # as a hand on the slider would
        studio.live()  # in a notebook: the sliders beside the photograph

    Attributes:
        sliders: by name. image: the widget that shows the photograph.

    Args:
        world: with banks of wrinkles. r: whom to photograph, and the pose.
        seed: of everything else: skin, hair, background.

    Raises:
        ImportError: ipywidgets is missing.
    """

    def __init__(self, world: SyntheticWorld, r: Float[Tensor, "1 numbers"], seed: int = 0) -> None:
        import ipywidgets as widgets

        self.world, self.r, self.seed = world, r, seed
        self.sliders: dict[str, FloatSlider] = {
            name: widgets.FloatSlider(
                value, min=low, max=high, step=step, description=name, continuous_update=False,
                style={"description_width": "110px"},
            )
            for name, (value, low, high, step) in SLIDERS.items()
        }  # fmt: skip
        self.image = widgets.Image(format="png", width=400, height=400)

    @torch.no_grad()
    def picture(self) -> UInt8[np.ndarray, "size size 3"]:
        """The photograph that the sliders describe, 8-bit RGB."""
        right, above, strength, shadow, wrinkles, nearness, noise = (
            slider.value for slider in self.sliders.values()
        )
        world = turned(
            self.world,
            light={
                "p_key": 1.0,
                "key": (strength, strength),
                "key_azimuth": (math.radians(right),) * 2,
                "key_elevation": (math.radians(above),) * 2,
                "p_fill": 0.0,
                "p_shadow": shadow,
            },
            detail={name: (wrinkles, wrinkles) for name in WRINKLES},
            pose={"p_perspective": 1.0, "distance": (1000 / max(nearness, 1e-3),) * 2},
            skin={"p_glasses": 0.0},
            scene={"p_occluder": 0.0},
            camera=NEUTRAL_CAMERA
            | {"p_auto_exposure": 1.0, "exposure": (EXPOSURE,) * 2, "adaptation": (0.6, 0.6)}
            | {"p_noise": 1.0, "photon_noise": (noise, noise)},
        )
        faces = world.render(1, world.generator(self.seed), self.r, color=True)
        return to_bytes(faces.image[0].permute(1, 2, 0).cpu().numpy())

    def reset(self) -> None:
        """All sliders to where they began."""
        for name, slider in self.sliders.items():
            slider.value = SLIDERS[name][0]

    def live(self) -> "Box":
        """The sliders beside the photograph, to be shown in a notebook; needs a kernel."""
        import ipywidgets as widgets

        button = widgets.Button(description="reset")
        button.on_click(lambda _: self.reset())
        self._update(None)
        for slider in self.sliders.values():
            slider.observe(self._update, "value")
        return widgets.HBox([widgets.VBox([*self.sliders.values(), button]), self.image])

    def _update(self, change: Any) -> None:
        self.image.value = png(self.picture())
