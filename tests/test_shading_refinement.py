"""Shape from shading on top of given slopes: SciPy's solution, known surfaces, planted albedo."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

from facerecon.backends import shading_refinement_numba as kernels
from facerecon.losses import LinearWeights, linear_finenet_loss
from facerecon.shading_refinement import ShadingRefinement, linear_shading, refine_by_shading

SIZE = 96
LIGHT = np.array([0.25, 0.35, 0.3, 0.45])  # of first order: 1, x, y, z


def slopes_of(depth: np.ndarray) -> np.ndarray:
    """dz/dx to the right, dz/dy up, by central differences; pixels of 1 mm."""
    down, right = np.gradient(depth)
    return np.stack([right, -down])


def shaded(slopes: np.ndarray, albedo: np.ndarray | float = 0.8) -> np.ndarray:
    normal = np.stack([-slopes[0], -slopes[1], np.ones(slopes.shape[1:])])
    normal = normal / np.linalg.norm(normal, axis=0)
    return albedo * (LIGHT[0] + np.tensordot(LIGHT[1:], normal, 1)).clip(0.02)


def face() -> tuple[np.ndarray, np.ndarray]:
    """A smooth surface in mm, and folds on it of up to 0.7 mm."""
    row, column = np.mgrid[:SIZE, :SIZE]
    x, y = (column - 47.5) / 48, (47.5 - row) / 48
    smooth = 30 * np.sqrt(2.2 - x**2 - 0.6 * y**2)
    folds = gaussian_filter(np.random.default_rng(0).normal(0, 1, (SIZE, SIZE)), 3)
    return smooth, 0.35 * folds / folds.std()


def refined(image, start, skin=None, error=None, **settings):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[4:-4, 4:-4] = True
    maps = [torch.from_numpy(np.asarray(each, np.float32))[None, None] for each in (image, start)]
    slopes = torch.from_numpy(slopes_of(start).astype(np.float32))[None]
    skin = np.ones((SIZE, SIZE)) if skin is None else skin
    skin = torch.from_numpy(skin.astype(np.float32))[None, None]
    error = None if error is None else torch.full_like(skin, error)
    known = torch.from_numpy(mask)[None, None], 1.0, skin, error
    found = refine_by_shading(maps[0], slopes, maps[1], *known, ShadingRefinement(**settings))
    return found, (slice(12, -12), slice(12, -12))


def test_folds_come_back_from_their_shading():
    smooth, folds = face()
    found, inner = refined(shaded(slopes_of(smooth + folds)), smooth)
    wanted, added = slopes_of(folds), found.slopes[0].numpy() - slopes_of(smooth)
    wanted, added = (each[(slice(None), *inner)].ravel() for each in (wanted, added))
    assert np.corrcoef(wanted, added)[0, 1] > 0.75
    assert 0.4 < wanted @ added / (wanted @ wanted) < 1.1
    # What was added belongs to a surface.
    rise = slopes_of(found.rise[0, 0].numpy())[(slice(None), *inner)].ravel()
    np.testing.assert_allclose(rise, added, atol=1e-4)


def test_the_light_is_found():
    smooth, folds = face()
    found, _ = refined(shaded(slopes_of(smooth + folds)), smooth)
    light = found.light[0, 1:].numpy()
    cosine = light @ LIGHT[1:] / np.linalg.norm(light) / np.linalg.norm(LIGHT[1:])
    assert np.degrees(np.arccos(cosine)) < 8


def test_a_surface_that_explains_the_photograph_stays():
    smooth, _ = face()
    found, inner = refined(shaded(slopes_of(smooth)), smooth)
    _, folds = face()
    assert found.rise[0, 0][inner].abs().max() < 0.15 * np.abs(folds).max()


def test_finenets_linear_criterion_has_its_minimum_at_the_direct_solution():
    """Two implementations of one convex energy: conjugate gradients here, autograd there."""
    smooth, folds = face()
    image = shaded(slopes_of(smooth + folds))
    found, _ = refined(image, smooth, iterations=1)
    maps = [torch.from_numpy(each.astype(np.float32))[None, None] for each in (image, smooth)]
    slopes = torch.from_numpy(slopes_of(smooth).astype(np.float32))[None]
    mask = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    mask[..., 4:-4, 4:-4] = True
    skin = torch.ones(1, 1, SIZE, SIZE)
    linear = linear_shading(maps[0], slopes, maps[1], mask, 1.0, skin)
    settings = ShadingRefinement()
    weights = LinearWeights(settings.smoothness, settings.fidelity, settings.anchor)

    def energy(rise):
        depth = maps[1] + rise
        return linear_finenet_loss(depth, maps[1], linear, mask, torch.ones(1), weights).total

    gradients = []
    for share in (0.0, 1.0):
        rise = (share * found.rise).requires_grad_()
        gradient = torch.autograd.grad(energy(rise), rise)[0]
        gradients.append(gradient[..., 10:-10, 10:-10].norm())  # rims count otherwise
    assert gradients[1] < 0.1 * gradients[0]  # the solver stops at 3 percent
    energies = [energy(share * found.rise) for share in (0.0, 0.5, 1.0, 1.5)]
    assert energies[2] < energies[1] < energies[0]
    assert energies[2] < energies[3]


def test_no_iterations_change_nothing():
    smooth, folds = face()
    found, _ = refined(shaded(slopes_of(smooth + folds)), smooth, iterations=0)
    assert not found.rise.any()
    torch.testing.assert_close(found.slopes[0], torch.from_numpy(slopes_of(smooth)).float())


def test_spots_are_not_carved():
    """Dark and pale patches with sharp edges: brows, frames, moles, teeth."""
    smooth, folds = face()
    albedo = np.full((SIZE, SIZE), 0.8)
    albedo[30:36, 20:44] = 0.25
    albedo[60:66, 55:61] = 0.3
    albedo[:, 70:72] = 0.1
    found, inner = refined(shaded(slopes_of(smooth), albedo), smooth)
    carved = (found.slopes[0].numpy() - slopes_of(smooth))[(slice(None), *inner)]
    real, _ = refined(shaded(slopes_of(smooth + folds)), smooth)
    folded = (real.slopes[0].numpy() - slopes_of(smooth))[(slice(None), *inner)]
    assert carved.std() < 0.25 * folded.std()


@pytest.mark.parametrize("untrusted", ["skin", "error"])
def test_what_is_not_trusted_is_left_alone(untrusted):
    smooth, folds = face()
    image = shaded(slopes_of(smooth + folds))
    free, inner = refined(image, smooth)
    if untrusted == "skin":
        held, _ = refined(image, smooth, skin=np.full((SIZE, SIZE), 1e-4))
    else:
        held, _ = refined(image, smooth, error=20.0)
    assert held.rise[0, 0][inner].std() < 0.05 * free.rise[0, 0][inner].std()


def test_sure_slopes_change_less():
    smooth, folds = face()
    image = shaded(slopes_of(smooth + folds))
    sure, inner = refined(image, smooth, error=0.05)
    unsure, _ = refined(image, smooth, error=0.3)
    assert sure.rise[0, 0][inner].std() < unsure.rise[0, 0][inner].std()


def test_black_photographs_change_nothing():
    smooth, _ = face()
    found, _ = refined(np.zeros((SIZE, SIZE)), smooth)
    assert torch.isfinite(found.slopes).all()
    assert found.rise.abs().max() < 1e-6


def test_the_linear_system_agrees_with_scipy():
    """The docstring of `solve`, with matrices."""
    n, rng = 14, np.random.default_rng(3)
    across, along, wanted = rng.normal(0, 1, (3, n, n))
    right, down = rng.uniform(0.1, 1, (2, n, n))
    right[:, -1] = down[-1] = 0
    anchor, inside = rng.uniform(0.01, 0.1, (n, n)), np.zeros((n, n))
    inside[2:-2, 2:-2] = 1
    index = np.pad(np.arange(n * n).reshape(n, n), 1, constant_values=-1)

    def shifted(i: int, j: int) -> sparse.csr_array:
        """z of the neighbor, 0 beyond the border."""
        at = index[1 + i : n + 1 + i, 1 + j : n + 1 + j].ravel()
        rows = np.flatnonzero(at >= 0)
        return sparse.csr_array((np.ones(len(rows)), (rows, at[rows])), (n * n, n * n))

    here = shifted(0, 0)

    def diagonal(values: np.ndarray) -> sparse.dia_array:
        return sparse.diags_array(values.ravel())

    shading = diagonal(across) @ (shifted(0, 1) - shifted(0, -1))
    shading = shading + diagonal(along) @ (shifted(-1, 0) - shifted(1, 0))
    bend = shifted(0, 1) + shifted(0, -1) + shifted(1, 0) + shifted(-1, 0) - 4 * here
    bend = diagonal(inside) @ bend
    to_right, to_below = here - shifted(0, 1), here - shifted(1, 0)
    matrix = shading.T @ shading + to_right.T @ diagonal(right) @ to_right
    matrix = matrix + to_below.T @ diagonal(down) @ to_below
    matrix = matrix + 0.3 * bend.T @ bend + diagonal(anchor)
    expected = spsolve(sparse.csc_array(matrix), shading.T @ wanted.ravel()).reshape(n, n)

    found = np.zeros((n + 2, n + 2))
    maps = [np.pad(each, 1) for each in (across, along, wanted, inside, right, down, anchor)]
    kernels.solve(found, *maps, 0.3, 1e-10, 2000)
    np.testing.assert_allclose(found[1:-1, 1:-1], expected, atol=1e-6)


def test_the_local_mean_keeps_edges_and_leaves_out_what_is_not_trusted():
    rng = np.random.default_rng(0)
    values = np.where(np.arange(60) < 30, 0.0, 2.0) * np.ones((60, 1))
    noisy = values + rng.normal(0, 0.05, values.shape)
    trust = np.ones_like(values)
    found = kernels.local_mean(noisy, trust, 4.0, 0.25)
    assert np.abs(found - values).max() < 0.12
    assert np.abs(found - values).std() < 0.5 * 0.05
    noisy[20:23, 10:13], trust[20:23, 10:13] = 0.4, 0.0
    found = kernels.local_mean(noisy, trust, 4.0, 0.25)
    assert np.abs(found[20:23, 10:13]).max() < 0.1
    alone = kernels.local_mean(noisy, np.zeros_like(values), 4.0, 0.25)
    np.testing.assert_array_equal(alone, noisy)
