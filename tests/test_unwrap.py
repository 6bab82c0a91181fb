"""From photographs to textures: known textures under known light come back; what is hidden."""

import numpy as np
import pytest
import torch
from delight import (
    balance,
    bare_skin,
    dim_highlights,
    estimate_shading,
    even_out,
    explain_color,
    typical_skin,
)
from feature_matching import match_features

from facerecon.lighting import LUMA, shade
from facerecon.model_mesh.unwrap import Mirror, fill, membrane, unwrap
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.skin_zones import zones

SIZE, TEXELS = 240, 128
LIGHT = torch.tensor([[0.55, 0.12, 0.10, 0.35, 0.03, -0.05, 0.02, 0.04, 0.03]])


@pytest.fixture(scope="module")
def chart(model):
    return Chart(model, TEXELS)


@pytest.fixture(scope="module")
def mirror(model, chart):
    return Mirror(model, chart)


def face(model, yaw=0.0):
    r = torch.zeros(1, model.n_coefficients + 6)
    r[0, model.n_coefficients + 1] = yaw / 0.5
    return r, render(model, r, SIZE)


def pattern(position):
    """A smooth color of places on the mean face, (..., 3) mm to (..., 3)."""
    x, y, z = position.unbind(-1)
    waves = torch.stack([torch.sin(x / 11), torch.cos(y / 9), torch.sin((x + y + z) / 14)], -1)
    return 0.5 + 0.2 * waves


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_a_known_texture_under_known_light_comes_back(model, chart, yaw):
    r, rendering = face(model, yaw)
    place = interpolate(model.mean[None], rendering.fragments, model.triangles)
    shading = shade(torch.ones_like(rendering.depth), LIGHT, rendering.normals)
    image = pattern(place.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * shading * rendering.mask
    found = unwrap(model, chart, image, r, rendering)
    light = unwrap(model, chart, shading, r, rendering)
    texture = (found.values / light.values.clamp(min=0.05)).permute(1, 2, 0)[found.known]
    error = (texture - pattern(chart.position)[found.known]).abs()
    # The pattern changes by 0.02 per mm; a pixel is 0.9 mm wide, and bilinear samples of it and of
    # the light err by a fraction of that.
    assert error.mean() < 0.004 and error.quantile(0.99) < 0.03
    assert found.known.sum() > 0.3 * chart.mask.sum()
    assert not (found.known & ~chart.mask).any()


def test_hidden_texels_are_not_known(model, chart):
    r, rendering = face(model, yaw=0.9)  # the nose to the viewer's right: the right cheek hides
    image = torch.ones(1, 1, SIZE, SIZE)
    known = unwrap(model, chart, image, r, rendering).known
    cheek = chart.mask & (chart.position[..., 1].abs() < 30)
    right = known[cheek & (chart.position[..., 0] > 50)].float().mean()
    left = known[cheek & (chart.position[..., 0] < -50)].float().mean()
    assert right < 0.05 and left > 0.5
    nothing = unwrap(model, chart, image, r, rendering, torch.zeros(1, 1, SIZE, SIZE) > 0)
    assert not nothing.known.any()


def test_a_shift_looks_beside_the_projection(model, chart):
    r, rendering = face(model)
    image = rendering.pncc
    moved = torch.roll(image, (4, -6), dims=(2, 3))
    shift = torch.tensor([-6.0, 4.0]).expand(model.n_vertices, 2)
    plain = unwrap(model, chart, image, r, rendering)
    found = unwrap(model, chart, moved, r, rendering, shift=shift)
    assert torch.equal(found.known, plain.known)
    same = (found.values - plain.values).abs().amax(0) < 1e-4
    assert same.float().mean() > 0.999  # the crop's border, which rolls over, shows a few texels


def test_the_mirror_reflects_places(model, chart, mirror):
    texture = chart.position.permute(2, 0, 1)[None]
    found = mirror(texture)[0].permute(1, 2, 0)
    inner = mirror.known(chart.mask) & chart.mask
    error = (found * torch.tensor([-1.0, 1, 1]) - chart.position)[inner].norm(dim=1)
    # The mesh is symmetric; its texture coordinates are, to within a texel of about 2 mm.
    assert error.median() < 0.5 and error.quantile(0.98) < 2.5
    assert inner.sum() > 0.95 * chart.mask.sum()


def test_what_one_side_hides_is_known_from_the_other(model, chart, mirror):
    right = chart.mask & (chart.position[..., 0] > 3)
    reflected = mirror.known(right)
    left = chart.mask & (chart.position[..., 0] < -6)
    assert reflected[left].float().mean() > 0.97
    assert not reflected[chart.position[..., 0] > 1].any()


def test_the_membrane_is_harmonic_between_what_is_given():
    """Between two fixed columns, the solution of Laplace's equation is a straight ramp."""
    weight = np.zeros((21, 21))
    weight[:, 0] = weight[:, 20] = 1e6
    values = np.zeros((1, 21, 21))
    values[:, :, 20] = 2.0
    found = membrane(values, weight, np.ones(weight.shape, bool))
    expected = np.broadcast_to(np.linspace(0, 2, 21), (1, 21, 21))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(membrane(values, 0 * weight, weight > -1), 0)


def test_filling_continues_the_reference_at_the_textures_level(rng, chart):
    mask = chart.mask.numpy()
    reference = rng.normal(size=(3, TEXELS, TEXELS)).astype(np.float32) * mask
    known = np.zeros_like(mask)
    known[:, : TEXELS // 2] = True
    texture = (reference + np.array([0.5, -0.2, 0.1])[:, None, None]).astype(np.float32)
    garbage = np.where(known, texture, 9.0).astype(np.float32)
    found = fill(garbage, (known & mask).astype(np.float32), mask, reference)
    np.testing.assert_allclose(found[:, mask], texture[:, mask], atol=2e-3)
    assert (found[:, ~mask] == 0).all()


def test_the_light_is_found_under_a_fringe(model):
    _, rendering = face(model)
    albedo = model.albedo_mean @ torch.tensor(LUMA)
    albedo = interpolate(albedo[None, :, None], rendering.fragments, model.triangles)
    truth = shade(torch.ones_like(albedo), LIGHT, rendering.normals)
    image = albedo * truth
    hair = torch.zeros_like(rendering.mask)
    hair[:, :, : int(0.28 * SIZE)] = True
    image = torch.where(hair, 0.05 * torch.ones_like(image), image)
    found = estimate_shading(model, image, rendering)
    skin = rendering.mask & ~hair & (rendering.normals[:, 2:] > 0.3)
    ratio = (found.shading / truth)[skin]
    # The ridge and the remaining weight of the hair bend the light by a few percent; plain least
    # squares is off by 43 %.
    assert (ratio / ratio.median() - 1).abs().quantile(0.9) < 0.06
    assert found.residual < 0.02


def skin_texture(chart):
    color = typical_skin()[:, None, None].astype(np.float32)
    reference = np.broadcast_to(color, (3, TEXELS, TEXELS)) * chart.mask.numpy()
    grain = np.random.default_rng(1).normal(0, 0.03, (1, TEXELS, TEXELS)).astype(np.float32)
    return reference, reference + grain * chart.mask.numpy()


def test_hair_and_clothes_are_no_skin_but_a_beard_may_stay(model, chart):
    where = zones(model, chart)
    reference, texture = skin_texture(chart)
    y = chart.position[..., 1].numpy()
    landmarks = model.mean[model.landmarks, 1].numpy()
    fringe = chart.mask.numpy() & (y > landmarks[17:27].max() + 15)
    beard = where.bearded & (y < landmarks[57])
    scarf = where.bearded & (chart.position[..., 0].numpy() > 35)
    texture = np.where(fringe | beard, texture - 1.2, texture)
    blue = np.array([-0.8, 0.0, 0.8], np.float32)[:, None, None]
    texture = np.where(scarf, texture + blue, texture)
    kept = bare_skin(texture, chart.mask.numpy(), where, reference)
    assert kept[fringe].mean() < 0.03 and kept[scarf].mean() < 0.1
    assert kept[beard & ~scarf].mean() > 0.8 and kept[where.core & ~fringe].mean() > 0.8
    assert not kept[~where.shown].any()


def test_light_from_one_side_is_balanced_and_a_mole_stays(chart, mirror):
    mask, x = chart.mask.numpy(), chart.position[..., 0].numpy()
    side = np.where(mask, 0.004 * x, 0)[None].astype(np.float32)
    mole = (np.hypot(x - 30, chart.position[..., 1].numpy()) < 3) & mask
    texture = (side - 0.5 * mole).astype(np.float32)
    reflected = mirror(torch.from_numpy(texture)[None])[0].numpy()
    found = balance(texture, reflected, mask, TEXELS / 14)[0]
    # Without the blur's width near the border, where the mean of a ramp lags behind it.
    inner = mask & (np.abs(x) < 40) & (np.abs(chart.position[..., 1].numpy()) < 40) & ~mole
    assert np.abs(found[inner]).max() < 0.25 * np.abs(side[0][inner]).max()
    assert found[mole].mean() < -0.35


def test_evening_out_takes_a_share_of_smooth_differences_only(chart):
    mask, y = chart.mask.numpy(), chart.position[..., 1].numpy()
    reference = np.zeros((3, TEXELS, TEXELS), np.float32)
    ramp = np.where(mask, 0.005 * y, 0).astype(np.float32)
    grain = np.random.default_rng(2).normal(0, 0.1, mask.shape).astype(np.float32) * mask
    texture = np.stack([ramp + grain] * 3)
    found = even_out(texture, reference, mask, TEXELS / 20, share=0.6)[0]
    inner = mask & (np.abs(y) < 50) & (np.abs(chart.position[..., 0].numpy()) < 40)
    slope = np.polyfit(y[inner], found[inner], 1)[0]
    assert 0.3 * 0.005 < slope < 0.55 * 0.005  # 0.4 is left, a little more by the blur
    assert np.corrcoef(found[inner], grain[inner])[0, 1] > 0.8


def test_gloss_is_dimmed_and_the_rest_is_not(chart):
    reference, texture = skin_texture(chart)
    shiny = chart.mask.numpy() & (np.abs(chart.position[..., 0].numpy()) < 5)
    bright = np.where(shiny, texture + 0.6, texture)
    found = dim_highlights(bright, np.zeros(3, np.float32), reference, limit=0.2)
    np.testing.assert_array_equal(found[:, ~shiny], bright[:, ~shiny])
    rise = (found - texture)[:, shiny].mean()
    assert 0.27 < rise < 0.33  # 0.2 and a quarter of the other 0.4


def test_color_is_split_into_pigment_and_exposure():
    pale, dark = (explain_color(typical_skin(m, 0.14)) for m in (0.2, 1.4))
    assert pale.melanin < 0.5 < 1.1 < dark.melanin
    warm, blue = np.array([0.1, 0, -0.1]), np.array([0, 0, 1.0])
    for color in (typical_skin(0.2), typical_skin(1.0) + 0.5, typical_skin(0.1) + warm):
        found = explain_color(color)
        rest = typical_skin(found.melanin, found.hemoglobin)
        np.testing.assert_allclose(color - found.shift, rest, atol=1e-9)
    brighter = explain_color(typical_skin() + 0.4, level=0.4)
    np.testing.assert_allclose(brighter.shift, 0.4, atol=1e-9)
    assert brighter.surprise < 1e-6 and explain_color(typical_skin() + blue).surprise > 3


def test_features_are_found_where_the_photograph_has_them(model):
    _, rendering = face(model)
    grey = (model.albedo_mean @ torch.tensor(LUMA))[None, :, None]
    rendered = interpolate(grey, rendering.fragments, model.triangles)[0, 0].numpy()
    photo = 0.2 + 0.6 * np.roll(rendered, (5, -4), (0, 1))
    projected = rendering.projected[0, model.landmarks, :2].numpy()
    mean = model.mean.numpy()
    anchors = model.mean[model.landmarks].numpy()
    found = match_features(photo, rendered, projected, anchors, mean)
    # To a pixel: of nearly equal matches of a smooth feature, the nearer wins.
    np.testing.assert_allclose(found.shift, np.tile([-4.0, 5.0], (len(mean), 1)), atol=1.0)
    assert min(found.scores.values()) > 0.95
    noise = np.random.default_rng(0).random(rendered.shape).astype(np.float32)
    lost = match_features(noise, rendered, projected, anchors, mean)
    assert np.mean(list(lost.scores.values())) < 0.4
