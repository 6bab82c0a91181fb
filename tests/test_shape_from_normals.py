"""Normals of points, their derivative, and the shape that they imply."""

import pytest
import torch
from torch import nn
from torch.nn.functional import grid_sample

from facerecon import shape_from_normals
from facerecon.camera import N_POSE, pose_parameters, split
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.displacements import spread_points
from facerecon.mesh import vertex_normals
from facerecon.normal_refinement import NormalRefinement, see_normals
from facerecon.normalnet import MIN_FACING, NormalNetConfig, slopes_of
from facerecon.rasterize import interpolate_maps
from facerecon.render import curved_surface
from facerecon.shape_from_normals import (
    Rings,
    ShapeFromNormals,
    most_likely_shape,
    normals_with_derivative,
)
from facerecon.weights import load_normalnet

SIZE = 120


@pytest.fixture(scope="module")
def index(model):
    return spread_points(model, 90)


@pytest.fixture(scope="module")
def rings(model, index):
    return Rings.of(model, index)


@pytest.fixture
def shape(model):
    return 0.5 * torch.randn(model.n_coefficients, generator=torch.Generator().manual_seed(1))


class TrueNormals(nn.Module):
    """In NormalNet's place: the slopes of another face at the same pose, as sure as told."""

    config = NormalNetConfig()

    def __init__(self, model, r, log_error=-4.0):
        super().__init__()
        self.slopes = slopes_of(normals_on_pixels(model, r))
        self.log_error = log_error

    def forward(self, maps):
        own = maps[:, 2:5]
        tilt = (self.slopes - slopes_of(own)) * own[:, 2:].clamp(min=MIN_FACING)
        return tilt, torch.full_like(own[:, :1], self.log_error)


class Unchanged(nn.Module):
    config = NormalNetConfig()

    def forward(self, maps):
        return torch.zeros_like(maps[:, :2]), torch.full_like(maps[:, :1], -2.0)


def normals_on_pixels(model, r):
    surface = curved_surface(model, r, SIZE)
    known = surface.vertices, surface.normals, model.pncc, surface.fragments, model.triangles
    return interpolate_maps(*known)[1]


def representation(coefficients, yaw=0.0):
    pose = torch.zeros(N_POSE)
    pose[1] = yaw
    return torch.cat([coefficients, pose])[None]


def test_normals_are_those_of_the_mesh(model, index, rings, shape):
    expected = vertex_normals(model.vertices(shape[None]), model.triangles)[0, index]
    found, _ = normals_with_derivative(rings, shape, len(shape))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_derivative_is_the_one_that_autograd_finds(rings, shape):
    rings = Rings(*(each.double() for each in rings))
    shape = shape.double()
    expected = torch.autograd.functional.jacobian(
        lambda c: normals_with_derivative(rings, c, 1)[0], shape, vectorize=True
    )
    found = normals_with_derivative(rings, shape, len(shape))[1]
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


def test_step_solves_the_least_squares_of_normals_and_estimate(rings, shape):
    """Against a general solver of the stacked system."""
    rings = Rings(*(each.double() for each in rings))
    shape = shape.double()
    generator = torch.Generator().manual_seed(2)
    log_spread = torch.randn(len(shape), generator=generator).double() / 2
    wanted = shape + 0.3 * torch.randn(len(shape), generator=generator).double()
    normals = normals_with_derivative(rings, wanted, 1)[0]
    precision = 50 * torch.rand(len(normals), generator=generator).double()
    own, rows = normals_with_derivative(rings, shape, len(shape))
    found = most_likely_shape(shape, log_spread, normals - own, rows, precision)
    scale = precision.sqrt()[:, None]
    system = torch.cat([(rows * scale[..., None]).flatten(0, 1), (-log_spread).exp().diag()])
    right = torch.cat([((normals - own) * scale).flatten(), torch.zeros_like(shape)])
    expected = shape + torch.linalg.lstsq(system, right[:, None]).solution[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 1.0])
def test_true_normals_bring_the_surface_nearer_and_keep_the_pose(model, shape, yaw):
    shape[model.n_identity :] = 0
    truth, start = representation(shape, yaw), representation(0 * shape, yaw)
    stage = ShapeFromNormals(model, TrueNormals(model, truth), torch.zeros(290))
    found = stage(torch.rand(1, 1, SIZE, SIZE), start).r
    assert torch.equal(found[:, model.n_identity :], start[:, model.n_identity :])

    def off(r):
        cosine = (normals_on_pixels(model, r) * normals_on_pixels(model, truth)).sum(1)
        return cosine[cosine > 0].clamp(max=1).acos().mean()

    assert off(found) < 0.6 * off(start)


def test_normals_count_as_much_as_they_are_sure(model, shape):
    truth, start = representation(shape), representation(0 * shape)
    spread = torch.zeros(model.n_coefficients)
    moved = [
        (ShapeFromNormals(model, TrueNormals(model, truth, error), spread)(image, start).r - start)
        .norm()
        .item()
        for image in [torch.rand(1, 1, SIZE, SIZE)]
        for error in (-3.0, -1.0, 0.5)
    ]
    assert moved[0] > 1.2 * moved[1] > 1.4 * moved[2] > 0


def test_normals_of_the_surface_itself_change_nothing(model, shape):
    stage = ShapeFromNormals(model, Unchanged(), torch.zeros(290))
    r = representation(shape)
    found = stage(torch.rand(1, 1, SIZE, SIZE), r).r
    torch.testing.assert_close(found, r, atol=5e-3, rtol=0)


def test_a_face_outside_of_its_crop_stays_as_it_is(model, shape):
    r = representation(shape)
    r[:, -3] = 20.0  # far to the right
    truth = representation(0 * shape)
    stage = ShapeFromNormals(model, TrueNormals(model, truth), torch.zeros(290))
    assert torch.equal(stage(torch.rand(1, 1, SIZE, SIZE), r).r, r)


def test_points_lie_on_the_skin_of_the_face(model):
    stage = ShapeFromNormals(model, Unchanged(), torch.zeros(290))
    eyes = [model.region_names.index(name) for name in ("eye_left", "eye_right")]
    assert 150 < len(stage.chosen) < 256
    assert not model.region_masks[eyes].any(0)[stage.chosen].any()
    assert (model.ears_and_neck[stage.chosen] == 0).all()
    assert len(stage.edges) == len(stage.chosen)


def test_rotation_brings_normals_into_the_frame_of_the_model(model, shape):
    """Vertex normals in the camera's frame, turned back by the pose, are the model's own."""
    r = representation(shape, yaw=1.0)
    pose = split(r, model.n_coefficients)[1]
    rotation = pose_parameters(pose, SIZE).rotation[0]
    turned = curved_surface(model, r, SIZE).normals[0] @ rotation
    own = vertex_normals(model.vertices(shape[None]), model.triangles)[0]
    torch.testing.assert_close(turned, own, atol=1e-4, rtol=0)


def test_derivative_holds_at_a_fixed_pixel(model, monkeypatch):
    """Against the rendered normals of faces a little beside: points move over the pixels, too."""
    r = representation(torch.zeros(model.n_coefficients), yaw=0.3)
    known = {}

    def keep(coefficients, log_spread, missing, derivative, precision):
        known.update(derivative=derivative, used=precision > 20)
        return coefficients

    monkeypatch.setattr(shape_from_normals, "most_likely_shape", keep)
    stage = ShapeFromNormals(model, Unchanged(), torch.zeros(290))
    stage(torch.rand(1, 1, SIZE, SIZE), r)
    rotation = pose_parameters(r[:, -N_POSE:], SIZE).rotation[0]
    place = curved_surface(model, r, SIZE).projected[:, stage.chosen, :2]
    grid = place[:, None] * (2 / SIZE) + (1 / SIZE - 1)

    def at_pixels(r):
        found = grid_sample(normals_on_pixels(model, r), grid, align_corners=False)
        return found[0, :, 0].T @ rotation

    for number in (0, 3, 30):
        step = torch.zeros_like(r)
        step[0, number] = 0.2
        expected = (at_pixels(r + step) - at_pixels(r - step)) / 0.4
        miss = (known["derivative"][..., number] - expected)[known["used"]].norm(dim=1)
        size = expected[known["used"]].norm(dim=1)
        moved = size > 1e-3
        assert moved.sum() > 20
        assert (miss / size)[moved].median() < 0.15


def test_refinement_takes_the_normals_that_were_seen(model):
    torch.manual_seed(0)
    r = representation(torch.zeros(model.n_coefficients))
    image, network = torch.rand(1, 1, SIZE, SIZE), load_normalnet()
    surface, pixel = curved_surface(model, r, SIZE), torch.tensor([1.5])
    seen = see_normals(network, model, image, surface)
    expected = NormalRefinement(model, network)(image, surface, pixel).depth
    found = NormalRefinement(model, network)(image, surface, pixel, seen=seen).depth
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_no_displacements_no_shape_from_normals(model):
    network = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0))
    assert ShapeFromNormals.after(network, model, Unchanged()) is None
