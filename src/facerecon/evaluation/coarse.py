"""Measures of a reconstruction against a known truth."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import POSE_UNITS, project, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.evaluation.metrics import point_error
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld


class HeldOut(NamedTuple):
    """Labeled photographs that training never sees."""

    image: Tensor  # (N, 1, S, S)
    r: Tensor  # (N, 290)


def held_out_faces(
    world: SyntheticWorld, count: int, seed: int, yaw_limit: float = 45.0
) -> HeldOut:
    """Photographs of `count` random faces with a yaw of at most `yaw_limit` degrees.

    Args:
        seed: of the generator; those of training are mixed (`sampling.mixed_seed`).
    """
    generator = world.generator(seed)
    images, truths, found = [], [], 0
    limit = math.radians(yaw_limit) / POSE_UNITS[1].item()
    while found < count:
        r = world.sample(32, generator)
        yaw = split(r, world.model.n_coefficients)[1][:, 1]
        r = r[yaw.abs() <= limit][: count - found]
        if len(r):
            images.append(world.photographs(len(r), generator, r)[0])
            truths.append(r)
            found += len(r)
    return HeldOut(torch.cat(images), torch.cat(truths))


def landmark_error(
    model: MorphableModel, r: Float[Tensor, "batch n"], r_gt: Float[Tensor, "batch n"], size: int
) -> Float[Tensor, " batch"]:
    """`point_error` of the 68 projected landmarks, in percent of the face box."""
    return point_error(*(projected_landmarks(model, each, size) for each in (r, r_gt)))


def projected_landmarks(
    model: MorphableModel, r: Float[Tensor, "batch n"], size: int
) -> Float[Tensor, "batch 68 2"]:
    """Column and row of the 68 landmarks in a crop of `size` pixels."""
    coefficients, pose = split(r, model.n_coefficients)
    return project(model.vertices(coefficients)[:, model.landmarks], pose, size)[..., :2]


@torch.no_grad()
def coarse_metrics(
    network: CoarseNet, model: MorphableModel, faces: HeldOut, iterations: int = 4, batch: int = 50
) -> dict[str, float]:
    """Pose, landmark and geometry errors of CoarseNet from r_0 = 0 after every iteration.

    Returns:
        `yaw_deg`, `pitch_deg`, `roll_deg`: medians.
        `landmarks_pct`: mean over the face box, percent.
        `gmse_mm2`: mean, Eq. (4).
        `identity_pct`, `expression_pct`: share of the variance of these faces that is explained,
            see `explained`.
        `closer_pct`: share of the faces whose landmarks this iteration brought closer.
        `contraction`: mean distance that this iteration moves the landmarks, over that of the one
            before; the iteration converges where it stays below 1. From the second on.
        Each is given for the last iteration and, with the suffix `_1` .. `_n`, for every one.
    """
    size = faces.image.shape[-1]
    estimates: list[list[Tensor]] = [[] for _ in range(iterations + 1)]
    for image in faces.image.split(batch):
        for taken, r in zip(estimates, iterate(network, model, image, iterations), strict=True):
            taken.append(r)
    steps = [torch.cat(taken) for taken in estimates]
    metric = model.geometry_metric()
    units = torch.rad2deg(POSE_UNITS.to(faces.r))
    truth = projected_landmarks(model, faces.r, size)
    points = [projected_landmarks(model, r, size) for r in steps]
    metrics, moves, before = {}, [], point_error(points[0], truth)
    for number, r in enumerate(steps[1:], start=1):
        coefficients, pose = split(r - faces.r, model.n_coefficients)
        angles = pose[:, :3].abs().median(0).values * units[:3]
        after = point_error(points[number], truth)
        moves.append(point_error(points[number - 1], points[number]).mean())
        values = {
            "pitch_deg": angles[0],
            "yaw_deg": angles[1],
            "roll_deg": angles[2],
            "landmarks_pct": after.mean(),
            "gmse_mm2": torch.einsum("bi,ij,bj->b", coefficients, metric, coefficients).mean(),
            "identity_pct": 100 * explained(r, faces.r, metric, slice(model.n_identity)),
            "expression_pct": 100
            * explained(r, faces.r, metric, slice(model.n_identity, model.n_coefficients)),
            "closer_pct": 100 * (after < before).float().mean(),
        }
        if number > 1:
            values["contraction"] = moves[-1] / moves[-2].clamp(min=1e-9)
        metrics |= {f"{name}_{number}": value.item() for name, value in values.items()}
        before = after
    return metrics | {name: metrics[f"{name}_{iterations}"] for name in values}


def explained(
    r: Float[Tensor, "batch n"],
    r_gt: Float[Tensor, "batch n"],
    metric: Float[Tensor, "coefficients coefficients"],
    part: slice,
) -> Float[Tensor, ""]:
    """Share of the variance of true shapes that estimates explain: 1 - SSE / SST.

    Both sums run over vertices, weighted as in Eq. (4), and faces; SST is about the mean of the
    true shapes. 1 is perfect, 0 no better than their mean for everyone, which is also the best that
    an estimate without information can do.

    Args:
        metric: `MorphableModel.geometry_metric()`.
        part: coefficients that count, for example the identity's.
    """
    metric = metric[part, part]
    error, spread = (r - r_gt)[:, part], r_gt[:, part] - r_gt[:, part].mean(0)
    squares = [torch.einsum("bi,ij,bj->", d, metric, d) for d in (error, spread)]
    return 1 - squares[0] / squares[1].clamp(min=1e-12)
