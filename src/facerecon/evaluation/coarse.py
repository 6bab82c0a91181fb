"""Measures of a reconstruction against a known truth."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.camera import POSE_UNITS, project, split
from facerecon.coarsenet import iterate


class HeldOut(NamedTuple):
    """Labelled photographs that training never sees."""

    image: Tensor  # (N, 1, S, S)
    r: Tensor  # (N, 290)


def held_out_faces(world: nn.Module, count: int, seed: int, yaw_limit: float = 45.0) -> HeldOut:
    """Photographs of `count` random faces with a yaw of at most `yaw_limit` degrees.

    Args:
        world: SyntheticWorld.
        seed: of the generator; those of training are mixed (`draws.mixed_seed`).
    """
    generator = world.generator(seed)
    images, truths, found = [], [], 0
    limit = math.radians(yaw_limit) / POSE_UNITS[1].item()
    while found < count:
        r = world.sample(32, generator)
        yaw = split(r, world.model.n_coefficients)[1][:, 1]
        r = r[yaw.abs() <= limit][: count - found]
        if len(r):
            images.append(world.draw(len(r), generator, r).image)
            truths.append(r)
            found += len(r)
    return HeldOut(torch.cat(images), torch.cat(truths))


def landmark_error(
    model: nn.Module, r: Float[Tensor, "batch n"], r_gt: Float[Tensor, "batch n"], size: int
) -> Float[Tensor, " batch"]:
    """Mean distance of the 68 projected landmarks over sqrt(width * height) of their true box."""
    points = []
    for value in (r, r_gt):
        coefficients, pose = split(value, model.n_coefficients)
        landmarks = model.vertices(coefficients)[:, model.landmarks]
        points.append(project(landmarks, pose, size)[..., :2])
    extent = points[1].amax(1) - points[1].amin(1)
    return (points[0] - points[1]).norm(dim=2).mean(1) / extent.prod(1).sqrt()


@torch.no_grad()
def coarse_metrics(
    network: nn.Module, model: nn.Module, faces: HeldOut, iterations: int = 4, batch: int = 50
) -> dict[str, float]:
    """Pose, landmark and geometry errors of CoarseNet from r_0 = 0 after every iteration.

    Returns:
        `yaw_deg`, `pitch_deg`, `roll_deg` (medians), `landmarks_pct` (mean over the face box,
        percent), `gmse_mm2` (mean, Eq. 4), each for the last iteration and, with the suffix `_1` ..
        `_n`, for every one.
    """
    model_metric = model.geometry_metric()
    errors: list[dict[str, list[Tensor]]] = [{} for _ in range(iterations)]
    units = torch.rad2deg(POSE_UNITS.to(faces.r))
    for start in range(0, len(faces.r), batch):
        image, r_gt = faces.image[start : start + batch], faces.r[start : start + batch]
        for taken, r in zip(errors, iterate(network, model, image, iterations)[1:], strict=True):
            coefficients, pose = split(r - r_gt, model.n_coefficients)
            values = {
                "pitch_deg": pose[:, 0].abs() * units[0],
                "yaw_deg": pose[:, 1].abs() * units[1],
                "roll_deg": pose[:, 2].abs() * units[2],
                "landmarks_pct": 100 * landmark_error(model, r, r_gt, image.shape[-1]),
                "gmse_mm2": torch.einsum("bi,ij,bj->b", coefficients, model_metric, coefficients),
            }
            for name, value in values.items():
                taken.setdefault(name, []).append(value)
    metrics = {}
    for number, taken in enumerate(errors, start=1):
        for name, values in taken.items():
            joined = torch.cat(values)
            value = joined.median() if name.endswith("_deg") else joined.mean()
            metrics[f"{name}_{number}"] = value.item()
    for name in errors[-1]:
        metrics[name] = metrics[f"{name}_{iterations}"]
    return metrics
