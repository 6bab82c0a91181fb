"""Normal integration against analytic surfaces, SciPy's solution and finite differences."""

import time

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import spsolve

from facerecon.integration import integrate

SIZE = 48


def hill(size: int = SIZE, dtype: torch.dtype = torch.float64):
    """A smooth surface in mm on pixels of 1 mm, and its exact slopes (x right, y up)."""
    row, column = torch.meshgrid(
        torch.arange(size, dtype=dtype), torch.arange(size, dtype=dtype), indexing="ij"
    )
    x, y = (column - size / 2) / size, (size / 2 - row) / size
    depth = 6 * torch.sin(3 * x) * torch.cos(4 * y) + 8 * x * y
    dx = (18 * torch.cos(3 * x) * torch.cos(4 * y) + 8 * y) / size
    dy = (-24 * torch.sin(3 * x) * torch.sin(4 * y) + 8 * x) / size
    return depth[None, None], torch.stack([dx, dy])[None]


def full(size: int = SIZE):
    return torch.ones(1, 1, size, size, dtype=torch.bool)


def one(dtype: torch.dtype = torch.float64):
    return torch.ones(1, dtype=dtype)


def test_a_surface_comes_back_from_its_slopes():
    depth, slopes = hill()
    flat = torch.full_like(depth, depth.mean().item())
    found = integrate(slopes, flat, full(), one(), reach_mm=1e4)
    assert (found - depth).abs().max() < 0.02  # of 14 mm: what trapezoids leave


def test_the_unit_is_the_pixel():
    """The same slopes on pixels of 2 mm make a surface twice as high."""
    depth, slopes = hill()
    found = integrate(slopes, torch.zeros_like(depth), full(), 2 * one(), reach_mm=1e4)
    found, true = found - found.mean(), 2 * (depth - depth.mean())
    assert (found - true).abs().max() < 0.04


def test_rows_count_downward():
    slopes = torch.zeros(1, 2, SIZE, SIZE, dtype=torch.float64)
    slopes[:, 1] = 0.5  # rises upward
    flat = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64)
    found = integrate(slopes, flat, full(), one(), reach_mm=1e4)
    assert found[0, 0, 0, 0] - found[0, 0, -1, 0] == pytest.approx(0.5 * (SIZE - 1), rel=1e-3)


def least_squares(slopes, coarse, mask, mm, error, reach_mm):
    """The docstring of `integrate`, written down row by row for SciPy's sparse solver."""
    p, q, z0, e = (each.numpy() for each in (slopes[0, 0], slopes[0, 1], coarse[0, 0], error[0, 0]))
    known, z0 = mask[0, 0].numpy(), coarse[0, 0].numpy() / mm
    number = np.full(known.shape, -1)
    number[known] = np.arange(known.sum())
    spread = e * np.sqrt(1 + p**2 + q**2)
    rows, sides, weights = [], [], []
    for i, j in np.argwhere(known):
        for k, l, step in ((i, j + 1, (p, 1)), (i + 1, j, (q, -1))):
            if (
                k < len(known)
                and l < len(known)
                and known[k, l]
                and abs(z0[k, l] - z0[i, j]) * mm <= 20
            ):
                values, sign = step
                rows.append({number[i, j]: -1.0, number[k, l]: 1.0})
                sides.append(sign * (values[i, j] + values[k, l]) / 2)
                weights.append(2 * 0.15 / (spread[i, j] + spread[k, l]))
        rows.append({number[i, j]: 1.0})
        sides.append(z0[i, j])
        weights.append((mm / reach_mm) ** 2)
    at = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    columns = np.concatenate([list(row) for row in rows])
    values = np.concatenate([list(row.values()) for row in rows])
    matrix = sparse.csr_array((values, (at, columns)), (len(rows), known.sum()))
    weighted = sparse.diags_array(np.array(weights)) @ matrix
    found = coarse[0, 0].numpy().copy()
    found[known] = mm * spsolve((matrix.T @ weighted).tocsc(), weighted.T @ np.array(sides))
    return torch.from_numpy(found)[None, None]


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("reach_mm", [5.0, 30.0])
def test_agrees_with_scipy(reach_mm, backend):
    depth, slopes = hill()
    generator = torch.Generator().manual_seed(0)
    slopes = slopes + 0.2 * torch.randn(slopes.shape, generator=generator, dtype=torch.float64)
    error = 0.05 + 0.4 * torch.rand(depth.shape, generator=generator, dtype=torch.float64)
    mask = full()
    mask[..., :9, :13] = False
    mask[..., 20:24, 30:40] = False
    coarse = depth + 1
    first = integrate(slopes, coarse, mask, 1.5 * one(), error, reach_mm, backend=backend)
    second = least_squares(slopes, coarse, mask, 1.5, error, reach_mm)
    assert (first - second).abs().max() < 1e-6
    assert torch.equal(first[~mask], coarse[~mask])


def test_every_item_of_a_batch_is_its_own():
    depth, slopes = hill(dtype=torch.float32)
    both = integrate(
        torch.cat([slopes, -slopes]),
        torch.cat([depth, depth.flip(3)]),
        full().expand(2, -1, -1, -1),
        torch.tensor([1.0, 2.0]),
    )
    alone = integrate(slopes, depth, full(), one(torch.float32))
    torch.testing.assert_close(both[:1], alone, atol=2e-3, rtol=0)


def test_a_jump_of_the_coarse_depth_stays():
    """Slopes that know nothing of a step of 30 mm do not smear it."""
    depth, slopes = hill()
    step = torch.zeros_like(depth)
    step[..., SIZE // 2 :] = 30
    found = integrate(slopes, depth + step, full(), one())
    assert (found - depth - step).abs().max() < 0.05
    smeared = integrate(slopes, depth + step, full(), one(), max_jump_mm=1e3)
    assert (smeared - depth - step).abs().max() > 5


def test_what_is_not_trusted_follows_the_coarse_depth_and_its_neighbors():
    """A patch of wrong slopes bends the surface, unless its expected errors say so."""
    depth, slopes = hill()
    wrong = slopes.clone()
    wrong[..., 20:28, 20:28] += 0.5
    error = torch.full_like(depth, 0.1)
    blind = integrate(wrong, depth, full(), one(), error)
    error[..., 19:29, 19:29] = 1.5
    warned = integrate(wrong, depth, full(), one(), error)
    blind, warned = ((each - depth).abs().max() for each in (blind, warned))
    assert blind > 0.5
    assert warned < 0.4 * blind


def test_a_low_frequency_error_of_the_slopes_is_held_by_the_anchor():
    depth, slopes = hill()
    tilted = slopes + 0.1
    near = integrate(tilted, depth, full(), one(), reach_mm=4.0)
    far = integrate(tilted, depth, full(), one(), reach_mm=40.0)
    middle = (..., slice(16, 32), slice(16, 32))
    assert (near - depth)[middle].abs().max() < 0.1
    assert (far - depth).abs().max() > 5 * (near - depth).abs().max()


def test_gradients_agree_with_finite_differences():
    depth, slopes = hill(7)
    generator = torch.Generator().manual_seed(1)
    slopes = (slopes + 0.1 * torch.randn(slopes.shape, generator=generator)).requires_grad_()
    error = 0.1 + 0.3 * torch.rand(depth.shape, generator=generator, dtype=torch.float64)
    mask = full(7)
    mask[..., 2, 3] = False
    assert torch.autograd.gradcheck(
        lambda s, z, e: integrate(s, z, mask, 1.5 * one(), e, reach_mm=4.0),
        (slopes, depth.requires_grad_(), error.requires_grad_()),
        atol=1e-6,
    )


def test_an_unknown_backend_is_refused():
    depth, slopes = hill()
    with pytest.raises(ValueError, match="backend must be"):
        integrate(slopes, depth, full(), one(), backend="fast")


@pytest.mark.parametrize(("size", "seconds"), [(200, 0.06), (400, 0.3)])
def test_is_fast(size, seconds):
    """The best of some runs, in processor time, since tests share their machine."""
    depth, slopes = hill(size, torch.float32)
    row = torch.arange(size) - size / 2
    face = (row[:, None] ** 2 + row**2 < (0.4 * size) ** 2)[None, None]
    mm = torch.tensor([214.0 / size])
    taken = []
    for _ in range(5):
        began = time.process_time()
        integrate(slopes, 0.8 * depth, face, mm)
        taken.append(time.process_time() - began)
    assert min(taken) < seconds
