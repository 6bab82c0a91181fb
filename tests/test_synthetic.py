"""Synthetic photographs: labels, determinism, statistics, and the camera's parts."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon import photography
from facerecon.camera import POSE_UNITS, split
from facerecon.config import SyntheticConfig
from facerecon.render import render
from facerecon.synthetic import SyntheticWorld, intermediate, sample_pose


@pytest.fixture(scope="module")
def world(model):
    return SyntheticWorld(model, SyntheticConfig(size=96))


@pytest.fixture
def draw():
    return photography.Draw(6, torch.Generator().manual_seed(0))


def test_intermediate_is_eq_3():
    truth, chance = torch.randn(5, 290), torch.randn(5, 290)
    beta = torch.tensor([[0.0], [0.25], [0.5], [0.75], [1.0]])
    r_t = intermediate(truth, chance, beta)
    for row, b in enumerate([0.0, 0.25, 0.5, 0.75, 1.0]):
        expected = [b * t + (1 - b) * c for t, c in zip(truth[row], chance[row], strict=True)]
        torch.testing.assert_close(r_t[row], torch.stack(expected))


def test_same_seed_same_photograph_other_seed_another(world):
    first, second = (world.draw(2, world.generator(7)) for _ in range(2))
    assert torch.equal(first.image, second.image) and torch.equal(first.r, second.r)
    assert not torch.equal(first.image, world.draw(2, world.generator(8)).image)


def test_photograph_shows_the_labelled_face(world, model):
    r = torch.zeros(2, 290)
    r[1, 285] = 1.0  # yaw
    faces = world.draw(2, world.generator(0), r)
    assert faces.image.shape == (2, 1, 96, 96)
    assert faces.image.min() >= 0 and faces.image.max() <= 1
    expected = render(model, r, 96)
    assert torch.equal(faces.rendering.mask, expected.mask)
    assert (faces.albedo[~expected.mask] == 0).all() and (faces.albedo[expected.mask] > 0).all()
    inside = faces.image[0][expected.mask[0]]
    assert inside.std() > 0.03  # a face has contrast
    assert faces.image.std(dim=(1, 2, 3)).min() > 0.03


def test_colour_has_three_channels(world):
    faces = world.draw(2, world.generator(0), colour=True)
    assert faces.image.shape == (2, 3, 96, 96)
    spread = faces.albedo.amax(1) - faces.albedo.amin(1)
    assert spread.mean() > 0.01


def test_feedback_is_between_truth_and_chance_or_zero(world):
    generator = world.generator(3)
    truth = world.sample(400, generator)
    r_t = world.feedback(truth, generator, p_zero_start=0.25)
    zero = (r_t == 0).all(1)
    assert 0.15 < zero.float().mean() < 0.35
    distance = (r_t - truth)[~zero].norm(dim=1) / truth[~zero].norm(dim=1)
    assert distance.min() < 0.2 < 0.8 < distance.max()


def test_pose_distribution_respects_its_limits():
    config = SyntheticConfig()
    pose = sample_pose(config, 4000, torch.Generator().manual_seed(0)) * POSE_UNITS.float()
    limits = torch.tensor(
        [config.pitch_limit, config.yaw_limit, config.roll_limit]
        + 2 * [config.shift_limit]
        + [config.log_scale_limit]
    )
    assert (pose.abs() <= limits + 1e-6).all()
    assert pose[:, 0].std() == pytest.approx(config.pitch_std, rel=0.1)
    wide = (pose[:, 1].abs() > math.radians(45)).float().mean()
    assert wide == pytest.approx(0.5 * (1 - math.radians(45) / config.yaw_limit), abs=0.03)


def test_identity_spread_follows_the_configuration(model):
    world = SyntheticWorld(model, SyntheticConfig(identity_std=0.5))
    coefficients = split(world.sample(500, world.generator(0)), model.n_coefficients)[0]
    assert coefficients[:, : model.n_identity].std() == pytest.approx(0.5, rel=0.03)


def test_blur_matches_scipy(draw):
    from scipy.ndimage import gaussian_filter

    picture = torch.rand(6, 1, 40, 40, generator=draw.generator)
    state = draw.generator.get_state()
    blurred = photography.blur(draw, picture, 1.0)
    draw.generator.set_state(state)
    draw.chance(1.0)
    sigma = draw.uniform(0.3, 1.7)
    draw.uniform(0.05, 0.06)
    stretched, stretch = draw.chance(0.2), draw.uniform(0.3, 1.8)
    for i in range(6):
        s = sigma[i].item()
        along = s * (stretch[i].item() if stretched[i].item() else 1)
        expected = gaussian_filter(picture[i, 0].numpy(), (s, along), mode="nearest", radius=4)
        np.testing.assert_allclose(blurred[i, 0].numpy(), expected, atol=2e-5)


def test_jpeg_resembles_a_real_encoder(draw):
    """Same order of error as Pillow's JPEG on the same picture, and nothing changes at
    probability 0.
    """
    import io

    smooth = torch.nn.functional.interpolate(
        torch.rand(6, 1, 12, 12, generator=draw.generator), size=(64, 64), mode="bicubic"
    ).clamp(0, 1)
    assert torch.equal(photography.jpeg(draw, smooth, 0.0), smooth)
    ours = (photography.jpeg(draw, smooth, 1.0) - smooth).abs().mean()
    errors = []
    for quality in (20, 55, 90):
        for image in smooth:
            pixels = (image[0].numpy() * 255).round().astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
            decoded = np.asarray(Image.open(buffer), dtype=np.float32)
            errors.append(np.abs(decoded - pixels).mean() / 255)
    assert min(errors) < ours < max(errors)


def test_exposure_brings_the_face_to_mid_grey(draw):
    dark = torch.full((6, 1, 32, 32), 0.02)
    face = torch.ones(6, 1, 32, 32, dtype=torch.bool)
    exposed = photography.expose(draw, dark, face, p_auto=1.0)
    assert ((exposed > 0.0) & (exposed < 0.95)).all() and exposed.mean() > 0.25


@pytest.mark.parametrize("part", ["occlude", "lower_resolution", "add_noise"])
def test_parts_act_only_with_their_probability(draw, part):
    picture = torch.rand(6, 1, 40, 40, generator=draw.generator)
    function = getattr(photography, part)
    assert torch.equal(function(draw, picture, 0.0), picture)
    changed = function(draw, picture, 1.0)
    assert changed.shape == picture.shape and not torch.equal(changed, picture)


def test_background_and_person(draw):
    picture = photography.background(draw, 48)
    assert picture.shape == (6, 1, 48, 48) and picture.std() > 0.05
    head, shoulders = torch.full((6, 2), 24.0), torch.tensor([[24.0, 40.0]]).repeat(6, 1)
    dressed = photography.person(draw, picture, head, shoulders, torch.full((6,), 0.2), 1.0, 1.0)
    assert (dressed[..., -1, 24] != picture[..., -1, 24]).all()
