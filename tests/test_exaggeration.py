"""Features made deeper and flatter, band by band."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.exaggeration import GAINS, MOST_MM, SCALES_MM, Exaggeration
from facerecon.synthetic.reshaped_world import ReshapedWorld


class Sheet(nn.Module):
    """A flat square of 120 mm, with a vertex every 2 mm."""

    def __init__(self, side: int = 61, step: float = 2.0):
        super().__init__()
        at = (torch.arange(side) - side // 2) * step
        y, x = torch.meshgrid(at, at, indexing="ij")
        self.mean = torch.stack([x.flatten(), y.flatten(), torch.zeros(side * side)], dim=1)
        corner = (torch.arange(side - 1)[:, None] * side + torch.arange(side - 1)).flatten()
        first = torch.stack([corner, corner + 1, corner + side], dim=1)
        second = torch.stack([corner + 1, corner + side + 1, corner + side], dim=1)
        self.triangles = torch.cat([first, second])


@pytest.fixture(scope="module")
def sheet():
    return Sheet()


def test_a_wave_is_damped_as_heat_flow_has_it(sheet):
    # One implicit step over s^2 / 2 leaves 1 / (1 + k^2 s^2 / 2) of a wave of frequency k.
    x, y = sheet.mean[:, 0], sheet.mean[:, 1]
    frequency = torch.pi / 30  # whole waves: no slope at the border
    wave = ((x + 60) * frequency).cos()[None]
    bands = Exaggeration(sheet).bands(wave)[0]
    left = [1.0, *(1 / (1 + (frequency * s) ** 2 / 2) for s in SCALES_MM)]
    middle = (x.abs() < 30) & (y.abs() < 30)
    for band, (before, after) in zip(bands, pairwise(left), strict=True):
        expected = (before - after) * wave[0]
        torch.testing.assert_close(band[middle], expected[middle], atol=0.01, rtol=0)


def test_what_is_flat_stays_and_a_gain_scales_its_band(sheet):
    exaggeration = Exaggeration(sheet)
    flat = torch.full((1, len(sheet.mean)), 7.0)
    gains = torch.ones(1, 3, len(sheet.mean))
    assert exaggeration(flat, gains).abs().max() < 1e-4
    bump = 0.1 * torch.exp(-sheet.mean[:, :2].square().sum(1) / 50)[None]
    only = gains.clone()
    only[:, [0, 2]] = 0
    moved = exaggeration(bump, 0.5 * only)
    torch.testing.assert_close(moved, 0.5 * exaggeration.bands(bump)[:, 1], atol=1e-4, rtol=0)
    assert exaggeration(1000 * bump, 5 * gains).abs().max() <= MOST_MM


def test_eyeballs_move_with_their_lids():
    model = MorphableModel.default()
    exaggeration = copy.deepcopy(Exaggeration(model))
    bands = exaggeration.bands(model.mean[None, :, 2])
    moved = exaggeration(model.mean[None, :, 2], torch.ones(1, 3, model.n_vertices))[0]
    balls = [ball for ball, _ in exaggeration._rides]
    assert len(balls) == 2
    for ball, lids in exaggeration._rides:
        assert bands[0, :, ball].std(1).max() < 1e-6
        assert abs(moved[ball].mean() - moved[lids].mean()) < 0.3
    left, right = (moved[ball].mean() for ball in balls)
    assert abs(left - right) < 0.05


def test_gains_of_the_world_are_within_their_ranges_and_differ_over_a_face():
    model = MorphableModel.default()
    world = ReshapedWorld(model, SyntheticConfig(size=64))
    gains = world.gains(40, torch.Generator().manual_seed(0))
    assert gains.shape == (40, 3, model.n_vertices)
    for band, (low, high) in enumerate(GAINS):
        assert low <= gains[:, band].min() and gains[:, band].max() <= high
        assert gains[:, band].min() < low + 0.2 * (high - low)
        assert gains[:, band].max() > high - 0.2 * (high - low)
    assert gains.std(2).mean() > 0.05
