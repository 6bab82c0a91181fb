"""Errors of an estimated face against a known one, per image; NaN with nothing to compare."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_PIXELS = 200
"""With fewer shared pixels the errors are NaN."""


def depth_errors(
    depth: Float[Tensor, "batch 1 height width"],
    truth: Float[Tensor, "batch 1 height width"],
    valid: Bool[Tensor, "batch 1 height width"],
) -> dict[str, Float[Tensor, " batch"]]:
    """Mean and 90 % absolute depth error, in the depths' unit, over the valid pixels.

    Returns:
        `depth`, `depth_p90`: after a shift along z by the median difference. `scaled`,
        `scaled_p90`: after the depth was also scaled by `z_scale`, the least-squares factor.
        `untilted`: mean after the best plane of column and row was taken off the difference.
    """
    rows, columns = torch.meshgrid(
        *(
            torch.arange(n, device=depth.device, dtype=torch.float64) - n // 2
            for n in depth.shape[2:]
        ),
        indexing="ij",
    )
    results = []
    for estimate, true, inside in zip(depth[:, 0], truth[:, 0], valid[:, 0], strict=True):
        if inside.sum() < MIN_PIXELS:
            results.append(depth.new_full((6,), torch.nan, dtype=torch.float64))
            continue
        z, goal = estimate[inside].double(), true[inside].double()
        centered = z - z.mean()
        scale = (centered * goal).sum() / centered.square().sum().clamp(min=1e-12)
        shifted, scaled = _about_median(z - goal), _about_median(scale * z - goal)
        design = torch.stack([torch.ones_like(z), rows[inside], columns[inside]], 1)
        plane = design @ torch.linalg.lstsq(design, (z - goal)[:, None]).solution
        results.append(
            torch.stack(
                [
                    shifted.mean(),
                    shifted.quantile(0.9),
                    scaled.mean(),
                    scaled.quantile(0.9),
                    scale,
                    (z - goal - plane[:, 0]).abs().mean(),
                ]
            )
        )
    names = ("depth", "depth_p90", "scaled", "scaled_p90", "z_scale", "untilted")
    return dict(zip(names, torch.stack(results).to(depth).unbind(1), strict=True))


def normal_error(
    normals: Float[Tensor, "batch 3 height width"],
    truth: Float[Tensor, "batch 3 height width"],
    valid: Bool[Tensor, "batch 1 height width"],
) -> Float[Tensor, " batch"]:
    """Mean angle in degrees between unit normals over the valid pixels."""
    # Of atan2 and acos, only the former is exact for small angles.
    sine = torch.linalg.cross(normals, truth, dim=1).norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, (normals * truth).sum(1, keepdim=True)).rad2deg()
    count = valid.sum((1, 2, 3))
    mean = torch.where(valid, angle, 0.0).sum((1, 2, 3)) / count.clamp(min=1)
    return torch.where(count >= MIN_PIXELS, mean, torch.nan)


def point_error(
    points: Float[Tensor, "batch points 2"], truth: Float[Tensor, "batch points 2"]
) -> Float[Tensor, " batch"]:
    """Mean distance over sqrt(width * height) of the box around the true points, in percent."""
    extent = truth.amax(1) - truth.amin(1)
    return 100 * (points - truth).norm(dim=2).mean(1) / extent.prod(1).sqrt()


def coverage(
    mask: Bool[Tensor, "batch 1 height width"], truth: Bool[Tensor, "batch 1 height width"]
) -> Float[Tensor, " batch"]:
    """Share of the true pixels that the mask covers, in percent; NaN without a true pixel."""
    return 100 * (mask & truth).sum((1, 2, 3)) / truth.sum((1, 2, 3))


def _about_median(difference: Tensor) -> Tensor:
    return (difference - difference.median()).abs()
