"""[47]: poses of exact points, the minimum by another optimizer, landmarks that march."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from facerecon.camera import POSE_UNITS, project, split
from facerecon.methods.contour import Contour
from facerecon.methods.zhu2015 import fit_landmarks, fit_pose, landmark_energy
from facerecon.rasterize import rasterize

POSES = [
    [0.0, 0, 0, 0, 0, 0],
    [0.5, 1.2, -0.8, 0.5, -1, 0.7],
    [-0.8, -1.6, 1.5, -2, 1, -1],
    [0.2, 2.0, 0.3, 0, 0, 0],
]
SIZE = 300


@pytest.fixture(scope="module")
def contour(model):
    return Contour(model)


def seen(model, contour, coefficients, pose):
    """Column and row of the landmarks of a face in a crop of SIZE pixels."""
    vertices = model.vertices(coefficients)
    index = contour.march(vertices, pose)[0]
    return project(vertices, pose, SIZE)[0, index, :2].double().numpy(), index


@pytest.mark.parametrize("pose", POSES)
def test_pose_of_exact_points(pose):
    points = torch.randn(9, 3, dtype=torch.float64) * 40
    pose = torch.tensor([pose], dtype=torch.float64)
    target = project(points[None], pose, SIZE)[0, :, :2]
    torch.testing.assert_close(fit_pose(points, target, SIZE), pose)


@pytest.mark.parametrize("pose", POSES)
def test_mean_face_is_recovered_exactly(model, contour, pose):
    pose = torch.tensor([pose])
    landmarks, _ = seen(model, contour, torch.zeros(1, model.n_coefficients), pose)
    fit = fit_landmarks(model, contour, landmarks)
    coefficients, found = split(fit.r, model.n_coefficients)
    assert coefficients.abs().max() < 1e-3
    torch.testing.assert_close(found[:, :3], pose[:, :3], atol=1e-3, rtol=0)
    scale = torch.exp(found[0, 5] * POSE_UNITS[5]) * fit.crop.side / SIZE
    assert scale * SIZE / fit.crop.size == pytest.approx(
        torch.exp(pose[0, 5] * POSE_UNITS[5]).item() * SIZE / fit.crop.size, rel=1e-3
    )


@pytest.mark.parametrize("pose", POSES[:3])
def test_exact_landmarks_of_another_face_are_met(model, contour, pose, generator):
    coefficients = 0.7 * model.sample(1, generator)
    landmarks, _ = seen(model, contour, coefficients, torch.tensor([pose]))
    fit = fit_landmarks(model, contour, landmarks, error_mm=0.05)
    own, place = split(fit.r, model.n_coefficients)
    vertices = model.vertices(own)
    index = contour.march(vertices, place)[0]
    found = fit.crop.to_image(project(vertices, place, fit.crop.size)[0, index, :2].numpy())
    off = np.linalg.norm(found - landmarks, axis=1)  # pixels of 0.7 mm
    assert np.median(off) < 0.2 and off.mean() < 0.5


def test_minimum_agrees_with_another_optimizer(model, contour, generator, rng):
    """The same energy in all unknowns, by scipy's trust region from another start."""
    pose = torch.tensor([POSES[1]])
    landmarks, _ = seen(model, contour, 0.7 * model.sample(1, generator), pose)
    landmarks = landmarks + rng.normal(0, 1.5, landmarks.shape)
    n, error_mm = model.n_coefficients, 3.0
    fit = fit_landmarks(model, contour, landmarks, error_mm)
    coefficients, place = split(fit.r, n)
    index = contour.march(model.vertices(coefficients), place)[0]
    mean = model.mean[index].double()
    basis = model.basis.unflatten(1, (-1, 3))[:, index].double()
    target = torch.from_numpy(fit.crop.to_crop(landmarks))
    first = fit_pose(model.mean[model.landmarks].double(), target, fit.crop.size)
    size = fit.crop.size
    spread = error_mm * size / 214 * float(torch.exp(first[0, 5] * POSE_UNITS[5]))

    def residuals(r):
        own, place = (torch.from_numpy(part)[None] for part in (r[:n], r[n:]))
        points = mean + torch.einsum("bc,cvk->bvk", own, basis)
        off = (project(points, place, size)[0, :, :2] - target) / spread
        return np.concatenate([off.flatten().numpy(), r[:n]])

    start = np.concatenate([np.zeros(n), first[0].numpy()])
    other = least_squares(residuals, start, method="trf", x_scale="jac", ftol=1e-10)
    ours = landmark_energy(fit.r.double(), mean, basis, target, size, spread)
    assert ours == pytest.approx(2 * other.cost, rel=1e-4)
    np.testing.assert_allclose(fit.r[0].numpy(), other.x, atol=2e-2)


def test_marched_landmarks_lie_on_the_outline(model, contour, generator):
    """At 35 degrees the far side's jaw points are silhouette: no face beyond them in their row."""
    pose = torch.tensor([[0.0, 1.2, 0, 0, 0, 0]])  # nose to the viewer's right
    coefficients = torch.zeros(1, model.n_coefficients)
    vertices = model.vertices(coefficients)
    projected = project(vertices, pose, SIZE)
    marched = projected[0, contour.march(vertices, pose)[0], :2]
    fixed = projected[0, model.landmarks, :2]
    mask = rasterize(projected, model.triangles, SIZE, SIZE).mask[0, 0]
    for number in range(11, 15):
        column, row = marched[number].round().long().tolist()
        last = mask[row].nonzero().max().item()
        assert last - column < 5
        assert marched[number, 0] > fixed[number, 0] + 2
    torch.testing.assert_close(marched[17:], fixed[17:])


def test_lines_are_mirror_images(model, contour):
    assert (contour.lines[8] == model.landmarks[8]).all()
    for number in range(8):
        left, right = (model.mean[contour.lines[k], :2] for k in (number, 16 - number))
        torch.testing.assert_close(left[:, 1], right[:, 1], atol=4.0, rtol=0)
        torch.testing.assert_close(left[:, 0], -right[:, 0], atol=4.0, rtol=0)


def test_impossible_landmarks():
    from facerecon.morphable_model import MorphableModel

    model = MorphableModel.default()
    for landmarks in (np.full((68, 2), np.nan), np.full((68, 2), 7.0)):
        with pytest.raises(ValueError, match="landmarks"):
            fit_landmarks(model, Contour(model), landmarks)
