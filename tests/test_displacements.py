"""Places of points, their derivatives, and the most likely r."""

import math

import pytest
import torch

from facerecon.camera import CROP_MM, project, split
from facerecon.displacements import (
    DISPLACEMENT_MM,
    Points,
    jacobian,
    most_likely,
    place_points,
    read_field,
    seen,
    spread_points,
    start_spread,
)
from facerecon.render import render

COUNT = 120


@pytest.fixture(scope="module")
def index(model):
    return spread_points(model, COUNT)


@pytest.fixture(scope="module")
def points(model, index):
    return Points.of(model, index)


@pytest.fixture
def r():
    return 0.5 * torch.randn(3, 290, generator=torch.Generator().manual_seed(1))


def test_points_are_the_landmarks_and_spread_over_the_face(model, index):
    assert index[:68].tolist() == model.landmarks.tolist()
    assert len(set(index[68:].tolist())) == COUNT - 68
    others = model.mean[index[68:]]
    assert torch.pdist(others).min() > 5  # mm
    face = model.vertex_weight > model.vertex_weight.mean()
    assert torch.cdist(model.mean[face], model.mean[index]).amin(1).max() < 40
    assert (model.vertex_weight[index[68:]] >= 0.5 * model.vertex_weight.mean()).all()
    with pytest.raises(ValueError, match="68 landmarks"):
        spread_points(model, 60)


def test_places_are_the_projected_vertices_in_millimetres(model, index, points, r):
    coefficients, pose = split(r)
    size = 200
    pixels = project(model.vertices(coefficients)[:, index], pose, size)
    centered = (pixels[..., :2] - (size - 1) / 2) * (CROP_MM / size)
    expected = torch.cat([centered, pixels[..., 2:]], 2)
    torch.testing.assert_close(place_points(points, r), expected, atol=1e-3, rtol=1e-5)


def test_jacobian_is_the_derivative_that_autograd_finds(points, r):
    points = Points(*(value.double() for value in points))
    found = jacobian(points, r.double())
    expected = torch.autograd.functional.jacobian(
        lambda x: place_points(points, x).sum(0), r.double()
    )
    torch.testing.assert_close(found, expected.permute(2, 3, 0, 1), atol=1e-8, rtol=1e-8)


def test_points_that_count_are_seen_by_the_renderer(model, index, points):
    """Against the rasterizer: a vertex on the near side lies on the rendered surface."""
    r = torch.zeros(2, 290)
    r[:, 285] = torch.tensor([0.0, 1.2])  # yaw
    depth = render(model, r, 200)
    places = place_points(points, r)
    field = torch.where(depth.mask, depth.depth, torch.nan)
    surface = read_field(field, places)[..., 0]
    on_surface = (surface - places[..., 2]).abs() < 6  # mm; lips and nostrils are steep
    counted = seen(points, r, places)[..., 0] > 0
    assert counted[0].sum() > counted[1].sum() > 0.3 * COUNT
    assert on_surface[counted].float().mean() > 0.9


def test_a_field_is_read_where_the_points_lie(points, r):
    """A map that holds each place's own x and y gives the places back."""
    size = 50
    axis = ((torch.arange(size) + 0.5) / size - 0.5) * CROP_MM
    field = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None].expand(3, -1, -1, -1)
    places = place_points(points, r)
    read, places = read_field(field, places), places[..., :2]
    inside = places.abs().amax(2) < 0.48 * CROP_MM
    torch.testing.assert_close(read[inside], places[inside], atol=1e-3, rtol=0)


def answer(points, r_t, estimate, displacement, spread=0.0, error=-2.0):
    places = place_points(points, r_t)
    trust = seen(points, r_t, places).expand_as(displacement) * math.exp(-2 * error)
    target = places + DISPLACEMENT_MM * displacement
    return most_likely(points, estimate, torch.full((290,), spread), target, trust)


def test_true_displacements_bring_the_points_to_the_truth(points, r):
    r_t, r_gt = 0.9 * r, r
    truth = (place_points(points, r_gt) - place_points(points, r_t)) / DISPLACEMENT_MM
    found = answer(points, r_t, r_t, truth, error=-4.0)
    visible = seen(points, r_t, place_points(points, r_t))
    before, after = (
        ((place_points(points, x) - place_points(points, r_gt)) * visible).norm(dim=2).mean()
        for x in (r_t, found)
    )
    assert after < 0.1 * before


def test_without_trust_in_the_displacements_the_estimate_stays(points, r):
    noise = torch.randn(3, COUNT, 3, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(answer(points, 0 * r, r, noise, error=20.0), r, atol=1e-4, rtol=1e-4)


def test_the_answer_minimizes_the_energy(points, r):
    """Against a general solver on the stacked, whitened system."""
    r_t = 0.5 * r
    generator = torch.Generator().manual_seed(5)
    target = place_points(points, r_t) + 3 * torch.randn(3, COUNT, 3, generator=generator)
    precision = torch.rand(3, COUNT, 3, generator=generator).exp()
    precision[:, ::3] = 0  # a third is not seen
    log_spread = start_spread(284)
    found = most_likely(points, r, log_spread, target, precision)
    scale, missing = precision.sqrt(), (target - place_points(points, r)) / DISPLACEMENT_MM
    rows = jacobian(points, r) * scale[:, None] / DISPLACEMENT_MM
    for i in range(3):
        system = torch.cat([rows[i].flatten(1).T, (-log_spread).exp().diag()]).double()
        right = (scale * missing)[i].flatten().double()
        right = torch.cat([right, torch.zeros(290)])
        change = torch.linalg.lstsq(system, right[:, None]).solution[:, 0]
        torch.testing.assert_close(found[i] - r[i], change.float(), atol=2e-3, rtol=1e-2)
    with torch.no_grad():  # takes the short way
        torch.testing.assert_close(most_likely(points, r, log_spread, target, precision), found)


def test_gradient_is_that_of_finite_differences(points):
    """Of all that is learned, with the jacobian held: at an estimate that does not move."""
    points = Points(*(value.double() for value in points))
    r_t = torch.zeros(1, 290, dtype=torch.float64)
    generator = torch.Generator().manual_seed(6)
    places = place_points(points, r_t)
    start = [
        start_spread(284).double(),
        places + 2 * torch.randn(1, COUNT, 3, generator=generator).double(),
        torch.full((1, COUNT, 3), 2.0).double(),
    ]
    way = torch.randn(290, generator=generator).double()

    def value(*inputs):
        return (most_likely(points, r_t, *inputs) @ way).sum()

    inputs = [x.clone().requires_grad_() for x in start]
    value(*inputs).backward()
    for number, x in enumerate(inputs):
        direction = torch.randn(x.shape, generator=generator).double()
        step = 1e-5
        ahead, behind = (
            value(*(y + s * direction if i == number else y for i, y in enumerate(start)))
            for s in (step, -step)
        )
        expected = (ahead - behind) / (2 * step)
        torch.testing.assert_close((x.grad * direction).sum(), expected, rtol=1e-5, atol=1e-9)
