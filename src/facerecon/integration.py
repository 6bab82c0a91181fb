"""Depth from normals: screened least squares, anchored to a coarse depth and cut at its jumps.

The depth whose steps from pixel to pixel are those of the slopes, as nearly as each can be
trusted, and which stays near a coarse depth where nothing else is known. Survey: Queau, Durou and
Aujol, "Normal Integration: A Survey", Journal of Mathematical Imaging and Vision 2018.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from facerecon.backends import conjugate_gradients_numba
from facerecon.backends.choose import choose_backend

REACH_MM = 40.0
"""Over how much of the face the slopes overrule the coarse depth."""

MAX_JUMP_MM = 20.0
"""Steps of the coarse depth beyond which one surface hides another.

Lids, lips and nostrils of the mesh make smaller ones, which are no jumps of the face."""

MIN_ERROR = 0.03
"""rad; no normal is trusted more."""

_TOLERANCE = 3e-4  # of the residual, relative to that of the coarse depth
_MAX_STEPS = 1000
_DEFAULT_ERROR = 0.15  # rad, where no expected errors are given


def integrate(
    slopes: Float[Tensor, "batch 2 height width"],
    coarse: Float[Tensor, "batch 1 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    mm_per_pixel: Float[Tensor, " batch"],
    error: Float[Tensor, "batch 1 height width"] | None = None,
    reach_mm: float = REACH_MM,
    max_jump_mm: float = MAX_JUMP_MM,
    backend: str = "auto",
) -> Float[Tensor, "batch 1 height width"]:
    """The depth with these slopes, near a coarse depth; differentiable to slopes, depth and errors.

    Minimizes, over the pixels of the mask, sum_edges w (z_j - z_i - slope)^2 +
    (mm_per_pixel / reach_mm)^2 sum_pixels (z - coarse)^2, with depths in pixel widths. The weight
    of an edge is n_z over the expected error: less than the variances of independent errors would
    have it, for the errors of the coarse depth grow where those of the slopes do. On real faces
    this is nearer to the true normals.

    Args:
        slopes: dz/dx (x to the right) and dz/dy (y up), without unit.
        coarse: mm. mm_per_pixel: width of a pixel.
        error: expected angle in rad between the slopes' normals and the true ones; alike everywhere
            if None.
        reach_mm: the depth follows the slopes over distances below it, the coarse depth beyond.
        max_jump_mm: a larger step of the coarse depth is a jump, and is kept.
        backend: of the conjugate gradients: "numba" (CPU), "torch" (any device) or "auto".

    Returns:
        mm; the coarse depth outside the mask.

    Raises:
        ValueError: an unknown backend, or one that does not run where the maps lie.
    """
    start = torch.where(mask, coarse, 0.0) / mm_per_pixel.view(-1, 1, 1, 1)
    facing = (1 + slopes.square().sum(1, keepdim=True)).rsqrt()
    angle = torch.full_like(start, _DEFAULT_ERROR) if error is None else error
    trust = _DEFAULT_ERROR * facing / angle.clamp(min=MIN_ERROR)
    jump = max_jump_mm / mm_per_pixel.view(-1, 1, 1, 1)
    steps, weights = [], []
    for axis, sign in ((3, 1.0), (2, -1.0)):
        channel = slopes[:, 3 - axis : 4 - axis]
        steps.append(sign * _between(channel, axis))
        near, far = _ends(mask, axis)
        whole = near & far & (start.detach().diff(dim=axis).abs() <= jump)
        first, second = _ends(trust, axis)
        weights.append(2 * first * second / (first + second) * whole)
    anchor = (mm_per_pixel / reach_mm).square().view(-1, 1, 1, 1).expand_as(start)
    anchor = torch.where(mask, anchor, 1.0)  # outside, nothing but the start
    found = _ScreenedLeastSquares.apply(*steps, *weights, anchor, start, backend)
    return torch.where(mask, found * mm_per_pixel.view(-1, 1, 1, 1), coarse)


def _ends(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    count = values.shape[axis] - 1
    return values.narrow(axis, 0, count), values.narrow(axis, 1, count)


def _between(values: Tensor, axis: int) -> Tensor:
    first, second = _ends(values, axis)
    return (first + second) / 2


def divergence(
    right: Float[Tensor, "batch 1 height width_1"], down: Float[Tensor, "batch 1 height_1 width"]
) -> Float[Tensor, "batch 1 height width"]:
    """The adjoint of the differences along columns and rows."""
    across = functional.pad(right, (1, 0)) - functional.pad(right, (0, 1))
    return across + functional.pad(down, (0, 0, 1, 0)) - functional.pad(down, (0, 0, 0, 1))


def _apply(z: Tensor, right: Tensor, down: Tensor, anchor: Tensor) -> Tensor:
    """The normal equations' matrix, times a depth map."""
    return divergence(right * z.diff(dim=3), down * z.diff(dim=2)) + anchor * z


def conjugate_gradients(
    moment: Float[Tensor, "batch 1 height width"],
    right: Float[Tensor, "batch 1 height width_1"],
    down: Float[Tensor, "batch 1 height_1 width"],
    anchor: Float[Tensor, "batch 1 height width"],
    tolerance: float,
    backend: str = "auto",
) -> Float[Tensor, "batch 1 height width"]:
    """Solve (L + anchor) z = moment from zero, each item of the batch on its own.

    L is the Laplacian of the pixels' grid, with a weight for each edge to the right and downward;
    tolerance: of the residual, relative to that of zero.
    """
    maps = moment, right, down, anchor
    if choose_backend(backend, *maps) == "numba":
        return conjugate_gradients_numba.conjugate_gradients(*maps, tolerance, _MAX_STEPS)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    diagonal = anchor + functional.pad(right, (1, 0)) + functional.pad(right, (0, 1))
    diagonal = diagonal + functional.pad(down, (0, 0, 1, 0)) + functional.pad(down, (0, 0, 0, 1))
    z, residual = torch.zeros_like(moment), moment.clone()
    scaled = residual / diagonal
    direction, size = scaled, dot(residual, scaled)
    enough = tolerance**2 * size
    tiny = torch.finfo(moment.dtype).tiny
    for number in range(_MAX_STEPS):
        # Looking at the residual waits for an accelerator: now and then is enough.
        if number % 8 == 0 and bool((size <= enough).all()):
            break
        changed = _apply(direction, right, down, anchor)
        length = size / dot(direction, changed).clamp(min=tiny)
        z = z + length * direction
        residual = residual - length * changed
        scaled = residual / diagonal
        new = dot(residual, scaled)
        direction = scaled + new / size.clamp(min=tiny) * direction
        size = new
    return z


class _ScreenedLeastSquares(torch.autograd.Function):
    """The depth that solves the normal equations, with the implicit gradient.

    With A z = b, a change of A and b moves z by A^-1 (db - dA z): one more solution of the same
    system gives the gradient to everything, and no step of the solver is kept.
    """

    @staticmethod
    def forward(ctx, step_right, step_down, right, down, anchor, start, backend):
        tolerance = _TOLERANCE if start.dtype == torch.float32 else 1e-10
        lacking = step_right - start.diff(dim=3), step_down - start.diff(dim=2)
        moment = divergence(right * lacking[0], down * lacking[1])
        z = start + conjugate_gradients(moment, right, down, anchor, tolerance, backend)
        ctx.tolerance, ctx.backend = tolerance, backend
        ctx.save_for_backward(step_right, step_down, right, down, anchor, start, z)
        return z

    @staticmethod
    def backward(ctx, gradient):
        step_right, step_down, right, down, anchor, start, z = ctx.saved_tensors
        back = conjugate_gradients(gradient, right, down, anchor, ctx.tolerance, ctx.backend)
        back_right, back_down = back.diff(dim=3), back.diff(dim=2)
        return (
            right * back_right,
            down * back_down,
            (step_right - z.diff(dim=3)) * back_right,
            (step_down - z.diff(dim=2)) * back_down,
            (start - z) * back,
            anchor * back,
            None,
        )
