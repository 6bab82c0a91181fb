"""[36]: a known person; errors fall with the number of photographs."""

import numpy as np
import pytest
import torch

from facerecon.mesh import edges, vertex_normals
from facerecon.methods.roth2016 import (
    photometric_stereo,
    shared_identity,
    surface_from_normals,
)

SIZE = 41


def person():
    """A dome as template and the same with waves of 10 units on it: vertices, edges, normals."""
    row, column = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    dome = -0.008 * (row**2 + column**2)
    waves = 0.6 * np.sin(row / 1.6) * np.cos(column / 2.0) * np.exp(-(row**2 + column**2) / 150)
    template, true = (
        np.stack([column.ravel(), -row.ravel(), z.ravel()], axis=1).astype(float)
        for z in (dome, dome + waves)
    )
    index = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = np.concatenate(
        [np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)]
    )
    triangles = torch.from_numpy(triangles)
    directions, normals = (
        vertex_normals(torch.from_numpy(v)[None], triangles)[0].numpy() for v in (template, true)
    )
    return template, true, directions, normals, edges(triangles).numpy()


def photographs(normals, count, rng, noise=0.02):
    albedo = 0.5 + 0.15 * np.sin(np.arange(len(normals)) / 7)
    lights = np.column_stack([rng.uniform(0.2, 0.5, count), rng.normal(0, 0.35, (count, 2))])
    lights = np.column_stack([lights, rng.uniform(0.3, 0.7, count)])
    shading = lights[:, :1] + lights[:, 1:] @ normals.T
    image = albedo * shading
    visible = (shading > 0.02) * (rng.random(image.shape) < 0.8)
    return image + noise * rng.standard_normal(image.shape), visible.astype(float), albedo


def angle(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(1), -1, 1))).mean()


def test_error_falls_with_the_number_of_photographs(rng):
    template, true, directions, normals, lines = person()
    normal_errors, depth_errors = [], []
    inside = (np.abs(template[:, :2]) < 14).all(axis=1)
    for count in (4, 12, 40, 100):
        image, visible, albedo = photographs(normals, count, rng)
        found = photometric_stereo(image, visible, directions, np.full(len(normals), 0.5))
        normal_errors.append(angle(found.normals, normals))
        surface = surface_from_normals(template, directions, found.normals, lines, 0.0)
        depth = ((surface - true) * directions).sum(1)[inside]
        depth_errors.append(np.abs(depth - np.median(depth)).mean())
    assert normal_errors[0] > normal_errors[1] > normal_errors[2] > normal_errors[3]
    assert normal_errors[-1] < 0.35 * angle(directions, normals)
    before = np.abs(((template - true) * directions).sum(1)[inside]).mean()
    assert depth_errors[-1] < 0.5 * before and depth_errors[-1] < depth_errors[0]
    assert np.corrcoef(found.albedo, albedo)[0, 1] > 0.95


def test_a_photograph_of_something_else_has_little_say(rng):
    """A tenth of the photographs with a dark half: occluded or shadowed."""
    _, _, directions, normals, _ = person()
    image, visible, _ = photographs(normals, 40, rng)
    clean = photometric_stereo(image, visible, directions, np.full(len(normals), 0.5))
    image[::10, : len(normals) // 3] *= 0.3
    found = photometric_stereo(image, visible, directions, np.full(len(normals), 0.5))
    assert angle(found.normals, normals) < 1.5 * angle(clean.normals, normals)


def test_without_evidence_the_template_stays(rng):
    _, _, directions, normals, _ = person()
    image, visible, _ = photographs(normals, 10, rng)
    unseen = slice(0, 50)
    visible[:, unseen] = 0
    found = photometric_stereo(image, visible, directions, np.full(len(normals), 0.5))
    np.testing.assert_allclose(found.normals[unseen], directions[unseen], atol=1e-9)
    np.testing.assert_allclose(found.albedo[unseen], 0.5, atol=1e-9)
    with pytest.raises(ValueError, match="sees no face"):
        photometric_stereo(image, np.zeros_like(visible), directions, np.full(len(normals), 0.5))


def test_surface_of_its_own_normals_is_itself():
    """The true normals bring the template to the truth."""
    template, true, directions, _, lines = person()
    row = np.gradient(true[:, 2].reshape(SIZE, SIZE), axis=0)
    column = np.gradient(true[:, 2].reshape(SIZE, SIZE), axis=1)
    normals = np.stack([-column.ravel(), row.ravel(), np.ones(row.size)], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = surface_from_normals(template, directions, normals, lines, 0.0, 1e-6)
    inside = (np.abs(template[:, :2]) < 14).all(axis=1)
    off = ((found - true) * directions).sum(1)[inside]
    away = ((template - true) * directions).sum(1)[inside]
    assert np.std(off) < 0.3 * np.std(away)


def test_shared_identity_is_the_stacked_least_squares(rng):
    truth = rng.standard_normal(6)
    designs = [rng.standard_normal((8, 6)) for _ in range(5)]
    values = [a @ truth + 0.1 * rng.standard_normal(8) for a in designs]
    found = shared_identity(values, designs, 0.1)
    stacked = np.concatenate([*[a / 0.1 for a in designs], np.eye(6)])
    target = np.concatenate([*[b / 0.1 for b in values], np.zeros(6)])
    np.testing.assert_allclose(found, np.linalg.lstsq(stacked, target, rcond=None)[0])
    np.testing.assert_allclose(found, truth, atol=0.15)
