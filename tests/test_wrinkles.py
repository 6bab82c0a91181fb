"""Displacement: ground truth on the pixel grid, and the bank of relief maps."""

import pytest
import torch

from facerecon.depth import normals_from_depth
from facerecon.render import render
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import DetailConfig
from facerecon.synthetic.wrinkle_kinds import KINDS
from facerecon.synthetic.wrinkles import MIN_FACING, Relief, displace

MM = 0.5


@pytest.fixture
def dome():
    """A smooth cap (1, 1, 80, 80) with exact normals, and a relief of gentle waves."""
    across = (torch.arange(80, dtype=torch.float64) - 39.5) * MM
    y, x = torch.meshgrid(-across, across, indexing="ij")
    depth = 60 - 0.01 * (x**2 + 1.5 * y**2)
    normals = torch.stack([0.02 * x, 0.03 * y, torch.ones_like(x)])
    normals = normals / normals.norm(dim=0)
    relief = 0.3 * torch.sin(x / 2) * torch.cos(y / 3)
    mask = torch.ones_like(depth, dtype=torch.bool)
    mask[:5] = False
    return depth[None, None], normals[None], mask[None, None], relief[None, None]


def test_no_relief_changes_nothing(dome):
    depth, normals, mask, relief = dome
    fine = displace(depth, normals, mask, torch.zeros_like(relief), torch.tensor([MM]))
    assert torch.equal(fine.depth, depth) and torch.equal(fine.normals, normals)


def test_fine_normals_are_those_of_the_fine_depth(dome):
    depth, normals, mask, relief = dome
    mm = torch.tensor([MM], dtype=torch.float64)
    fine = displace(depth, normals, mask, relief, mm)
    expected = normals_from_depth(fine.depth, mm, mask)
    inner = mask.clone()
    inner[..., :7, :], inner[..., -2:, :], inner[..., :2], inner[..., -2:] = (False,) * 4
    # The cap is quadratic, so central differences of it are exact.
    error = (fine.normals - expected).norm(dim=1, keepdim=True)[inner]
    assert error.max() < 1e-9
    turned = (normals - expected).norm(dim=1, keepdim=True)[inner]
    assert turned.max() > 0.1  # the waves do matter


def test_the_rise_is_the_relief_along_the_normal(dome):
    depth, normals, mask, relief = dome
    fine = displace(depth, normals, mask, relief, torch.tensor([MM]))
    rise = relief / normals[:, 2:].clamp(min=MIN_FACING)
    torch.testing.assert_close((fine.depth - depth)[mask], rise[mask])
    assert torch.equal(fine.depth[~mask], depth[~mask])


def test_perspective_pixels_are_narrower_in_front(dome):
    """At half the distance a pixel spans half the width, so slopes double."""
    depth, normals, mask, relief = dome
    flat = torch.zeros_like(normals)
    flat[:, 2] = 1
    far = displace(torch.zeros_like(depth), flat, mask, relief, torch.tensor([MM]))
    near = displace(
        torch.full_like(depth, 500.0), flat, mask, relief, torch.tensor([MM]), torch.tensor([1e3])
    )
    slope = [fine.normals[:, :2] / fine.normals[:, 2:] for fine in (far, near)]
    torch.testing.assert_close(2 * slope[0], slope[1])


@pytest.fixture(scope="module")
def bank(model):
    chart = Chart(model, 128)
    return chart, Relief(model, chart, DetailConfig(variants=2))


def test_depths_are_those_of_skin(bank):
    chart, relief = bank
    assert relief.bank.shape == (len(KINDS), 2, 128, 128)
    assert relief.bank.abs().amax() < 3.0
    for maps in relief.bank[:-1]:
        assert 0.1 < maps.abs().amax() < 3.0  # mm
    assert relief.bank[-1].abs().amax() < 0.3  # pores
    assert (relief.bank[..., ~chart.mask] == 0).all()


def test_age_and_expression_deepen_wrinkles(bank, model, generator):
    _, relief = bank
    count = 96  # ages differ in which wrinkles they have: the ratio is 1.85, spread over few faces
    rest = torch.zeros(count, model.n_coefficients)
    smiling = rest.clone()
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        index = model.expression_index(name)
        smiling[:, index] = 1 / model.expression_std[index - model.n_identity]
    young, old = torch.zeros(count, 1), torch.ones(count, 1)

    def depth(coefficients, age):
        return relief.sample(coefficients, age, generator).abs().mean()

    assert depth(rest, old) > 1.5 * depth(rest, young)
    assert depth(smiling, young) > 1.3 * depth(rest, young)


def test_same_seed_same_relief(bank, model):
    _, relief = bank
    r, age = torch.zeros(3, model.n_coefficients), torch.full((3, 1), 0.5)
    first, second = (relief.sample(r, age, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first[0], first[1])


@pytest.mark.parametrize("size", [100, 200])
def test_relief_on_a_face(bank, model, size, generator):
    """Fine maps at any size: the normals agree with the fine depth wherever the face is smooth."""
    chart, relief = bank
    r = torch.zeros(1, model.n_coefficients + 6)
    rendering = render(model, r, size)
    heights = relief.sample(r[:, :-6], torch.ones(1, 1), generator)
    mm = torch.tensor([214 / size])
    height = chart.sample(heights, chart.at(rendering.fragments))
    fine = displace(rendering.depth, rendering.normals, rendering.mask, height, mm)
    before = normals_from_depth(rendering.depth, mm, rendering.mask)
    after = normals_from_depth(fine.depth, mm, rendering.mask)
    smooth = rendering.mask & ((before - rendering.normals).norm(dim=1, keepdim=True) < 0.03)
    smooth &= rendering.normals[:, 2:] > 0.5
    assert smooth.sum() > 0.2 * rendering.mask.sum()
    error = (after - fine.normals).norm(dim=1, keepdim=True)[smooth]
    assert error.quantile(0.99) < 0.06
    assert (fine.depth != rendering.depth)[smooth].float().mean() > 0.9
