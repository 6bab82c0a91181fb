"""[20]: a known Lambertian surface, dense normal equations, and the operators one by one."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_laplace

from facerecon.methods.kemelmacher2011 import (
    ANCHOR,
    LaplacianOfGaussian,
    Reference,
    forward_differences,
    mold,
)

LIGHT = np.array([0.3, 0.25, 0.15, 0.5])


def normals_of(depth):
    """Unit normals by the forward differences that the method uses, one row and column short."""
    p = np.diff(depth, axis=1)[1:, :]
    q = -np.diff(depth, axis=0)[:, :-1]
    n = np.stack([-p, -q, np.ones_like(p)], axis=-1)
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


def scene(size=64, bump=0.15):
    """A dome as reference, and the same with low waves on it, which the light shows."""
    row, column = np.mgrid[: size + 1, : size + 1] - size / 2
    dome = 0.004 * -(row**2 + column**2)
    waves = bump * np.sin(row / 2.6) * np.cos(column / 3.1) * np.exp(-(row**2 + column**2) / 300)
    albedo = 0.5 + 0.1 * (column[1:, :-1] > 0)
    truth = dome + waves
    image = albedo * (LIGHT[0] + normals_of(truth) @ LIGHT[1:])
    mask = np.ones((size, size), bool)
    mask[:3] = mask[:, -5:] = False
    ref = Reference(dome[1:, :-1], normals_of(dome), albedo, mask)
    return image, ref, truth[1:, :-1]


def test_known_surface_is_recovered():
    image, reference, truth = scene()
    found = mold(image, reference, LIGHT, sigma=3.0, depth_weight=1e-4)
    mask = reference.mask

    def error(depth):
        difference = (depth - truth)[mask]
        return np.sqrt(np.mean((difference - difference.mean()) ** 2))

    # One light says nothing about slopes across its direction, hence not better than half.
    assert error(found.depth) < 0.55 * error(reference.depth)
    away = found.depth - reference.depth
    assert np.corrcoef(away[mask], (truth - reference.depth)[mask])[0, 1] > 0.8
    assert np.abs(found.albedo - reference.albedo)[mask].max() < 0.02
    assert np.isnan(found.depth[~mask]).all()


def test_the_reference_explains_its_own_image():
    image, reference, truth = scene(bump=0.0)
    found = mold(image, reference, LIGHT)
    mask = reference.mask
    np.testing.assert_allclose(found.depth[mask], truth[mask], atol=1e-6)
    np.testing.assert_allclose(found.albedo[mask], reference.albedo[mask], atol=1e-6)


def test_dense_normal_equations(rng):
    """The whole depth problem on 9 x 11 pixels, built entry by entry and solved by lstsq."""
    mask = np.ones((9, 11), bool)
    mask[0, :4] = mask[3, 5] = mask[6:, 9:] = False
    depth, albedo = rng.normal(size=mask.shape), rng.uniform(0.3, 0.7, mask.shape)
    normals = rng.uniform(-0.4, 0.4, (*mask.shape, 3)) + np.array([0, 0, 1])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    image = rng.uniform(0, 1, mask.shape)
    weight = 0.05
    found = mold(image, Reference(depth, normals, albedo, mask), LIGHT, 1.0, weight)

    where = {tuple(place): k for k, place in enumerate(np.argwhere(mask))}
    n, rows, values = len(where), [], []
    laplacian = np.zeros((n, n))
    for (r, c), k in where.items():
        for place in ((r, c + 1), (r, c - 1), (r + 1, c), (r - 1, c)):
            if place in where:
                laplacian[k, where[place]] += 1
                laplacian[k, k] -= 1
        if (r, c + 1) in where and (r - 1, c) in where:
            row, factor = np.zeros(n), albedo[r, c] * normals[r, c, 2]
            row[where[r, c + 1]] += -LIGHT[1] * factor
            row[where[r - 1, c]] += -LIGHT[2] * factor
            row[k] += (LIGHT[1] + LIGHT[2]) * factor
            rows.append(row)
            values.append(image[r, c] - albedo[r, c] * LIGHT[0] - factor * LIGHT[3])
    blur = np.linalg.matrix_power(np.eye(n) + 0.2 * laplacian, 2)  # variance 2 * 0.2 * 2
    log = np.sqrt(weight) * blur @ laplacian
    design, target = np.array(rows), np.array(values)
    z_ref = depth[mask]
    moved = np.linalg.lstsq(
        np.concatenate([design, log, np.sqrt(ANCHOR) * np.eye(n)]),
        np.concatenate([target - design @ z_ref, np.zeros(2 * n)]),
        rcond=None,
    )[0]
    np.testing.assert_allclose(
        found.depth[mask], z_ref + moved - moved.mean(), atol=1e-3 * np.abs(moved).max()
    )


def test_laplacian_of_gaussian_is_scipys_inside(rng):
    values = np.zeros((61, 61))
    values[30, 30], values[26, 33] = 1, -0.5
    mask = np.ones_like(values, bool)
    ours = LaplacianOfGaussian(mask, 3.0)(values.ravel()).reshape(values.shape)
    theirs = gaussian_laplace(values, 3.0)
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()
    holes = rng.random((20, 30)) < 0.7
    assert np.abs(LaplacianOfGaussian(holes, 2.0)(np.ones(holes.sum()))).max() < 1e-9


def test_differences_point_right_and_up():
    row, column = np.mgrid[:5, :6]
    mask = np.ones((5, 6), bool)
    across, up = forward_differences(mask)
    values = (2.0 * column - 3.0 * row)[mask]
    assert (across @ values).reshape(5, 6)[:, :-1] == pytest.approx(2.0)
    assert (up @ values).reshape(5, 6)[1:] == pytest.approx(3.0)
    assert not (across @ values).reshape(5, 6)[:, -1].any()
