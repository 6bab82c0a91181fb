"""Many synthetic photographs of one person: other expressions, poses and lights (Figure 8)."""

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.studio import turned
from facerecon.synthetic.world import SyntheticFaces, SyntheticWorld

EXPRESSION_SHARE = 0.5
"""Strength of the expressions beside those of strangers: photographs that people keep are mild."""

WELL_EXPOSED = {"p_auto_exposure": 1.0, "exposure": (0.45, 0.45), "adaptation": (1.0, 1.0)}
"""What the camera does: the mean of the face is the middle of `CameraConfig.exposure`."""


def photograph_collection(
    world: SyntheticWorld,
    identity: Float[Tensor, " identity"],
    count: int,
    seed: int = 0,
    color: bool = False,
) -> list[SyntheticFaces]:
    """Photographs of one person, whose skin and hair stay as they are.

    The first one is frontal and without expression; of the others each has an expression, a pose
    and a lamp of its own. The camera exposes for the face: the seed of the looks would choose one
    exposure for all of them, which may leave the whole collection in the dark.

    Args:
        identity: coefficients in standard deviations.
        count: of photographs.
        seed: of the person's looks and of the photographs.
    """
    n_identity = len(identity)
    photographs = []
    for index in range(count):
        numbers = torch.Generator().manual_seed(mixed_seed("collection", seed, index))
        r = world.sample(1, numbers)
        r[:, :n_identity] = identity
        r[:, n_identity : world.model.n_coefficients] *= EXPRESSION_SHARE
        if index == 0:
            r[:, n_identity:] = 0
        azimuth = float(torch.rand((), generator=numbers)) * 2.4 - 1.2
        elevation = float(torch.rand((), generator=numbers)) * 1.0 - 0.1
        strength = 0.4 + 0.6 * float(torch.rand((), generator=numbers))
        lamp = {
            "p_key": 1.0,
            "key": (strength, strength),
            "key_azimuth": (azimuth, azimuth),
            "key_elevation": (elevation, elevation),
        }
        plain = {"skin": {"p_glasses": 0.0}, "scene": {"p_occluder": 0.0}}
        lit = turned(world, light=lamp, camera=WELL_EXPOSED, **plain)
        photographs.append(lit.render(1, world.generator(seed), r, color))
    return photographs
