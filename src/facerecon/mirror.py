"""A face seen twice: as it is and mirrored (beyond the paper).

A network that is applied to the mirrored photograph, too, answers for the same face again; the
mean of both answers is more accurate than one.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import join, split
from facerecon.morphable_model import MorphableModel

_MIRRORED_POSE = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0)  # yaw, roll and t_x change their sign


def mirrored_input(
    maps: Float[Tensor, "batch 7 size size"],
) -> Float[Tensor, "batch 7 size size"]:
    """`coarse_input` of the mirrored image and face: PNCC's x is 1 - x, the normals' is -x."""
    maps = maps.flip(3)
    painted = maps[:, 1:4].sum(1) > 0
    maps[:, 1] = torch.where(painted, 1 - maps[:, 1], 0)
    maps[:, 4] = -maps[:, 4]
    return maps


def mirrored(model: MorphableModel, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """The representation of the mirrored faces in the mirrored images."""
    coefficients, pose = split(r, model.n_coefficients)
    return join(model.mirrored(coefficients), pose * pose.new_tensor(_MIRRORED_POSE))
