"""Errors that are planted must come back."""

import math

import pytest
import torch

from facerecon.evaluation.metrics import (
    MIN_PIXELS,
    coverage,
    depth_errors,
    normal_error,
    point_error,
)

SIZE = 40


@pytest.fixture
def relief(generator):
    return 20 * torch.rand(1, 1, SIZE, SIZE, generator=generator)


@pytest.fixture
def everywhere():
    return torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool)


def checkerboard() -> torch.Tensor:
    index = torch.arange(SIZE)
    return ((index[:, None] + index) % 2 * 2.0 - 1)[None, None]


def test_a_shift_along_z_does_not_count(relief, everywhere):
    errors = depth_errors(relief + 7, relief, everywhere)
    for name in ("depth", "depth_p90", "scaled", "untilted"):
        assert errors[name].item() == pytest.approx(0, abs=1e-5)


def test_a_planted_error_comes_back(relief, everywhere):
    errors = depth_errors(relief + 5 + 1.5 * checkerboard(), relief, everywhere)
    assert errors["depth"].item() == pytest.approx(1.5, rel=0.01)  # the median is one of the two
    assert errors["depth_p90"].item() == pytest.approx(3.0, rel=0.01)


def test_a_planted_scale_comes_back(relief, everywhere):
    errors = depth_errors(0.8 * relief + 3, relief, everywhere)
    assert errors["z_scale"].item() == pytest.approx(1 / 0.8, rel=1e-5)
    assert errors["scaled"].item() == pytest.approx(0, abs=1e-4)
    assert errors["depth"].item() > 0.5


def test_a_planted_tilt_is_taken_off(relief, everywhere):
    ramp = torch.arange(SIZE, dtype=torch.float32)
    tilt = 0.2 * ramp + 0.1 * ramp[:, None]
    errors = depth_errors(relief + tilt, relief, everywhere)
    assert errors["untilted"].item() == pytest.approx(0, abs=1e-4)
    assert errors["depth"].item() > 1


def test_only_valid_pixels_count(relief, everywhere):
    estimate = relief.clone()
    valid = everywhere.clone()
    valid[..., :10] = False
    estimate[..., :10] = torch.nan
    assert depth_errors(estimate, relief, valid)["depth"].item() == pytest.approx(0, abs=1e-5)
    up = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    broken = up.clone()
    broken[..., :10] = torch.nan
    assert normal_error(broken, up, valid).item() == 0


def test_too_few_pixels_give_nan(relief, everywhere):
    few = torch.zeros_like(everywhere)
    few.view(-1)[: MIN_PIXELS - 1] = True
    assert all(value.isnan().all() for value in depth_errors(relief, relief, few).values())
    normals = torch.rand(1, 3, SIZE, SIZE)
    assert normal_error(normals, normals, few).isnan().all()
    assert coverage(few, torch.zeros_like(few)).isnan().all()


@pytest.mark.parametrize("degrees", [0.01, 10.0, 120.0])
def test_a_tilt_of_known_angle(degrees, everywhere):
    angle = math.radians(degrees)
    normals = torch.tensor([[0.0, 0, 1], [math.sin(angle), 0, math.cos(angle)]])
    normals = normals[..., None, None].expand(-1, -1, SIZE, SIZE)
    error = normal_error(normals[:1], normals[1:], everywhere)
    assert error.item() == pytest.approx(degrees, rel=1e-4)


def test_point_error_is_relative_to_the_box():
    truth = torch.tensor([[[0.0, 0.0], [30.0, 0.0], [0.0, 40.0]]])
    moved = truth + torch.tensor([3.0, 4.0])
    assert point_error(moved, truth).item() == pytest.approx(100 * 5 / math.sqrt(1200))


def test_coverage(everywhere):
    half = everywhere.clone()
    half[..., : SIZE // 2] = False
    assert coverage(half, everywhere).item() == 50
    assert coverage(everywhere, half).item() == 100
