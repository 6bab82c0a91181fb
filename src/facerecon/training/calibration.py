"""A linear correction of CoarseNet's last answer, found in closed form (beyond the paper).

A criterion that sums several errors has no reason to end at the answer whose squared error is
least: some directions of the shape come out too small, others too large, and what is known of the
identity says something of the expression. Ridge regression from estimates to truths finds the best
linear correction in a moment, from a few thousand rendered faces.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.coarse import HeldOut
from facerecon.mirror import mirrored
from facerecon.morphable_model import MorphableModel

RIDGE = 1000.0
"""Faces of no effect that are added for each standardized number: what keeps few faces from being
learned by heart. A factor of three either way changes little."""


def linear_correction(
    estimate: Float[Tensor, "faces inputs"],
    missing: Float[Tensor, "faces outputs"],
    ridge: float = RIDGE,
) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, " outputs"]]:
    """Slope and offset of the ridge regression of what estimates miss on the estimates.

    Double precision; each input is brought to standard deviation 1 for the ridge.
    """
    mean, spread = estimate.mean(0), estimate.std(0).clamp(min=1e-9)
    standard = (estimate - mean) / spread
    system = standard.T @ standard
    system.diagonal().add_(ridge)
    slope = torch.linalg.solve(system, standard.T @ (missing - missing.mean(0))).T / spread
    return slope, missing.mean(0) - slope @ mean


def fit_calibration(
    model: MorphableModel,
    estimate: Float[Tensor, "faces n"],
    truth: Float[Tensor, "faces n"],
    ridge: float = RIDGE,
) -> Float[Tensor, "coefficients coefficients_and_1"]:
    """`CoarseNet.calibration` from last answers, not calibrated, and the true r.

    The identity is corrected by the identity alone: how real people smile is not how rendered ones
    do, and what an expression says of the identity does not carry over. The expression is
    corrected by both. Everyone counts twice, as seen and mirrored.
    """
    both = [torch.cat([r, mirrored(model, r)]).double() for r in (estimate, truth)]
    found, right = (split(r, model.n_coefficients)[0] for r in both)
    n = model.n_identity
    calibration = found.new_zeros(model.n_coefficients, model.n_coefficients + 1)
    for rows, columns in ((slice(n), slice(n)), (slice(n, None), slice(model.n_coefficients))):
        slope, offset = linear_correction(found[:, columns], (right - found)[:, rows], ridge)
        calibration[rows, columns], calibration[rows, -1] = slope, offset
    return calibration.float()


def with_calibration(
    network: CoarseNet, calibration: Float[Tensor, "coefficients coefficients_and_1"] | None
) -> CoarseNet:
    """The network with this calibration in the place of its own; None: without one."""
    config = replace(network.config, calibrated=calibration is not None)
    other = CoarseNet(network.n_coefficients, config)
    state = network.state_dict()
    state.pop("calibration", None)
    if calibration is not None:
        state["calibration"] = calibration
    other.load_state_dict(state)
    return other.to(memory_format=torch.channels_last).eval().requires_grad_(False)


@torch.no_grad()
def last_answers(
    network: CoarseNet, model: MorphableModel, faces: HeldOut, batch: int = 50
) -> Float[Tensor, "faces n"]:
    """r after four iterations."""
    return torch.cat([iterate(network, model, part)[-1] for part in faces.image.split(batch)])
