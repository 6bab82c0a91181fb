"""A refined surface between the pixels of its crop."""

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from facerecon.imaging import Crop
from facerecon.on_photo import _spline

CROP = Crop(7.3, -4.6, 111.7, 80)  # pixels of the photograph are 1.4 times as fine
ROWS, COLUMNS = slice(0, 107), slice(8, 119)


def places() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the photograph, in the crop's pixels."""
    down, across = np.mgrid[ROWS, COLUMNS]
    return (down + 0.5 - CROP.y) / CROP.step - 0.5, (across + 0.5 - CROP.x) / CROP.step - 0.5


def between(surface) -> tuple[np.ndarray, np.ndarray]:
    """What the spline says of a function of row and column, and the function itself."""
    known = torch.from_numpy(surface(*np.mgrid[:80, :80].astype(float)))
    inner = (slice(12, -12), slice(12, -12))
    return _spline(known, CROP, ROWS, COLUMNS).numpy()[inner], surface(*places())[inner]


def test_cubic_surfaces_are_exact():
    def surface(row, column):
        x, y = (column - 40) / 20, (row - 40) / 20
        return 3 + x - 2 * y + x**2 * y - 0.7 * y**3 + x * y

    np.testing.assert_allclose(*between(surface), atol=1e-9)


def test_slopes_of_a_round_surface_show_no_grid():
    """Against the sphere; torch's bicubic kernel shows the grid, as a second opinion."""

    def sphere(row, column):
        return np.sqrt(90**2 - (row - 40) ** 2 - (column - 35) ** 2)

    def off(values):
        return max(np.abs(np.diff(values - true, axis=axis)).max() for axis in (0, 1))

    found, true = between(sphere)
    row, column = (torch.from_numpy((each + 0.5) / 40 - 1) for each in places())
    known = torch.from_numpy(sphere(*np.mgrid[:80, :80].astype(float)))[None, None]
    grid = torch.stack([column, row], dim=-1)[None]
    bicubic = grid_sample(known, grid, mode="bicubic", align_corners=False)[0, 0, 12:-12, 12:-12]
    assert off(found) < 1e-5
    assert off(bicubic.numpy()) > 100 * off(found)


@pytest.mark.parametrize("place", [30, 31])
def test_a_step_reaches_three_pixels(place):
    step = torch.zeros(80, 80, dtype=torch.float64)
    step[:, place:] = 100.0
    found = _spline(step, CROP, ROWS, COLUMNS)
    column = places()[1]
    assert found[:, torch.from_numpy((column < place - 3.01)[0])].abs().max() < 1e-9
    assert (found[:, torch.from_numpy((column > place + 2.01)[0])] - 100).abs().max() < 1e-9
