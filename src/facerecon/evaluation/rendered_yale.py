"""A rendered person under many lamps, for who does not have Extended Yale B.

He has wrinkles, a nose that casts shadows and skin that shines; his true normals are known.
"""

import numpy as np
import torch
from jaxtyping import Float

from facerecon.evaluation import yale
from facerecon.synthetic.studio import NEUTRAL_CAMERA, turned
from facerecon.synthetic.world import SyntheticWorld

LAMPS = tuple(
    f"A{azimuth:+04d}E{elevation:+03d}"
    for azimuth in (-65, -35, 0, 35, 65)
    for elevation in (-20, 0, 15, 45)
)
"""Names of the twenty lamps, as Extended Yale B writes them: degrees to the side and up."""

_STROBE = {
    "ambient": (0.03, 0.03),
    "sky": (0, 0),
    "environment_std": 0,
    "second_order_std": 0,
    "p_fill": 0,
    "p_key": 1,
    "key": (1, 1),
    "p_shadow": 1,
    "p_specular": 1,
    "specular": (0.2, 0.2),
}
_PERSON = {
    "hair": {"p_bald": 1, "p_hat": 0},
    "skin": {"p_glasses": 0, "p_beard": 0, "p_moustache": 0},
    "detail": {"age_strength": (0.8, 0.8), "youth_strength": (0.8, 0.8)},
    "scene": {"p_occluder": 0},
    "pose": {"p_perspective": 0},
}


def rendered_person(
    world: SyntheticWorld, seed: int
) -> tuple[yale.YalePerson, Float[np.ndarray, "height width 3"]]:
    """Photographs of the mean face under `LAMPS`, one lamp at a time, and its true normals.

    Args:
        world: whose skin and relief the person has.
        seed: of skin and relief.
    """
    images, normals = [], None
    towards = np.stack([yale.direction(name) for name in LAMPS])
    for x, y, z in towards:
        right, above = np.arctan2(x, z), np.arcsin(y)
        place = {"key_azimuth": (right, right), "key_elevation": (above, above)}
        studio = turned(world, light=_STROBE | place, camera=NEUTRAL_CAMERA, **_PERSON)
        shot = studio.render(1, studio.generator(seed), torch.zeros(1, 290))
        before_black = (shot.image * shot.rendering.mask)[0, 0]
        images.append((255 * before_black).round().byte().numpy())
        normals = shot.fine_normals[0].permute(1, 2, 0).numpy()
    return yale.YalePerson("rendered", LAMPS, np.stack(images), towards), normals
