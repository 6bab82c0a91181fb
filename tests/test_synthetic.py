"""Synthetic photographs: labels, determinism, statistics, and the camera's parts."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon.camera import POSE_UNITS, split
from facerecon.depth import normals_from_depth
from facerecon.render import render
from facerecon.synthetic import photography, scenery
from facerecon.synthetic.config import (
    CameraConfig,
    HairConfig,
    PoseConfig,
    SceneConfig,
    SkinConfig,
)
from facerecon.synthetic.sampling import Sampler
from facerecon.synthetic.skin import Skin
from facerecon.synthetic.world import (
    SyntheticWorld,
    intermediate,
    sample_pose,
    sample_representation,
)
from facerecon.training.presets import SyntheticConfig


@pytest.fixture(scope="module")
def world(model):
    return SyntheticWorld(model, SyntheticConfig(size=96))


@pytest.fixture
def sampler():
    return Sampler(6, torch.Generator().manual_seed(0))


def test_intermediate_is_eq_3():
    truth, chance = torch.randn(5, 290), torch.randn(5, 290)
    beta = torch.tensor([[0.0], [0.25], [0.5], [0.75], [1.0]])
    r_t = intermediate(truth, chance, beta)
    for row, b in enumerate([0.0, 0.25, 0.5, 0.75, 1.0]):
        expected = [b * t + (1 - b) * c for t, c in zip(truth[row], chance[row], strict=True)]
        torch.testing.assert_close(r_t[row], torch.stack(expected))


def test_same_seed_same_photograph_other_seed_another(world):
    first, second = (world.render(2, world.generator(7)) for _ in range(2))
    assert torch.equal(first.image, second.image) and torch.equal(first.r, second.r)
    assert not torch.equal(first.image, world.render(2, world.generator(8)).image)


def test_photograph_shows_the_labeled_face(model):
    config = SyntheticConfig(size=96, pose=PoseConfig(p_perspective=0.0))
    world = SyntheticWorld(model, config)
    r = torch.zeros(2, 290)
    r[1, 285] = 1.0  # yaw
    faces = world.render(2, world.generator(0), r)
    assert faces.image.shape == (2, 1, 96, 96)
    assert faces.image.min() >= 0 and faces.image.max() <= 1
    expected = render(model, r, 96)
    # Even a far pinhole may move a vertex across a pixel's center.
    assert (faces.rendering.mask != expected.mask).float().mean() < 1e-3
    assert (faces.rendering.depth - expected.depth).abs().median() < 1e-3
    seen = faces.rendering.mask
    assert (faces.albedo[~seen] == 0).all() and (faces.albedo[seen] > 0).all()
    inside = faces.image[0][seen[0]]
    assert inside.std() > 0.03  # a face has contrast
    assert faces.image.std(dim=(1, 2, 3)).min() > 0.03


@pytest.mark.slow
def test_fine_maps_are_coarse_maps_without_wrinkles_and_finer_with(model):
    plain = SyntheticWorld(model, SyntheticConfig(size=96).plain())
    faces = plain.render(2, plain.generator(5))
    assert torch.equal(faces.fine_depth, faces.rendering.depth)
    assert torch.equal(faces.fine_normals, faces.rendering.normals)
    assert (faces.shadow == 1).all()
    world = SyntheticWorld(model, SyntheticConfig(size=200, pose=PoseConfig(p_perspective=0.0)))
    faces = world.render(4, world.generator(5))
    mask = faces.rendering.mask
    rise = faces.fine_depth - faces.rendering.depth
    assert 0.002 < rise[mask].abs().mean() < 1.0 and (rise[~mask] == 0).all()
    assert (faces.fine_normals.norm(dim=1, keepdim=True)[mask] - 1).abs().max() < 1e-4
    # The relief as the difference of normals of two depth maps: an independent way round.
    scale = (200 / 214) * torch.exp(0.15 * faces.r[:, -1])
    coarse, fine = (
        normals_from_depth(depth, 1 / scale, mask)
        for depth in (faces.rendering.depth, faces.fine_depth)
    )
    facing = mask & (coarse[:, 2:] > 0.6) & (faces.rendering.normals[:, 2:] > 0.6)
    found = (fine[:, :2] / fine[:, 2:] - coarse[:, :2] / coarse[:, 2:])[
        facing.expand(-1, 2, -1, -1)
    ]
    normals = faces.fine_normals, faces.rendering.normals
    slopes = [n[:, :2] / n[:, 2:].clamp(min=1e-3) for n in normals]
    expected = (slopes[0] - slopes[1])[facing.expand(-1, 2, -1, -1)]
    assert (found - expected).abs().quantile(0.999) < 1e-2


def test_photographs_are_the_images_of_a_draw(world):
    faces = world.render(10, world.generator(9))
    image, r = world.photographs(10, world.generator(9))
    assert torch.equal(image, faces.image) and torch.equal(r, faces.r)


def test_linear_skin_is_sampled_from_the_albedo_model(model):
    face = Skin(model, SkinConfig(linear=True)).sample_complexion(
        4, torch.Generator().manual_seed(0)
    )
    assert face.skin.shape == (4, model.n_vertices, 3) and (face.hair == 0).all()
    inside = ((face.skin > 0.01) & (face.skin < 1)).all(0).flatten()
    basis = model.albedo_basis.flatten(1)[:, inside].T.double()
    offset = (face.skin - model.albedo_mean).flatten(1)[:, inside].T.double()
    found = torch.linalg.lstsq(basis, offset).solution
    assert (basis @ found - offset).abs().max() < 1e-5 and found.std() > 0.5


def test_color_has_three_channels(world):
    faces = world.render(2, world.generator(0), color=True)
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
    config = PoseConfig()
    pose = (
        sample_pose(SyntheticConfig(), 4000, torch.Generator().manual_seed(0)) * POSE_UNITS.float()
    )
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


def test_a_share_of_the_faces_has_one_strong_expression(model):
    config = SyntheticConfig(p_strong=0.4)
    plain, r = (
        sample_representation(model, each, 2000, torch.Generator().manual_seed(3))
        for each in (SyntheticConfig(), config)
    )
    n = model.n_identity
    assert torch.equal(plain[:, :n], r[:, :n]) and torch.equal(plain[:, -6:], r[:, -6:])
    changed = (plain != r).any(1)
    assert 0.35 < changed.float().mean() < 0.45
    activation = r[changed, n:-6] * model.expression_std
    names = list(model.expression_names)
    shut = activation[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]] > 0.69
    wide = activation[:, names.index("jawOpen")] > 0.69
    assert 0.15 < shut.all(1).float().mean() < 0.25  # one of five
    assert 0.15 < wide.float().mean() < 0.3


@pytest.mark.parametrize("p_motion", [0.0, 1.0])
def test_blur_of_one_width_is_the_gaussian_of_scipy(sampler, p_motion):
    from scipy.ndimage import gaussian_filter

    config = CameraConfig(blur=(1.2, 1.2), p_blur=1.0, p_motion=p_motion)
    picture = torch.rand(6, 3, 200, 200, generator=sampler.generator)
    blurred = photography.blur(sampler, picture, config)
    expected = gaussian_filter(
        picture.numpy(), 1.2, axes=(2, 3), mode="nearest", radius=math.ceil(3 * 1.2)
    )
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-4)


def test_motion_blurs_one_axis_more(sampler):
    config = CameraConfig(blur=(0.5, 3.0), p_blur=1.0, p_motion=1.0)
    blurred = photography.blur(sampler, torch.rand(6, 1, 64, 64), config)
    across, down = (blurred.diff(dim=axis).square().mean((1, 2, 3)) for axis in (3, 2))
    assert ((across / down).log().abs() > 0.1).sum() >= 4


def test_jpeg_resembles_a_real_encoder(sampler):
    """Same order of error as Pillow's JPEG on the same picture; nothing at probability 0."""
    import io

    smooth = torch.nn.functional.interpolate(
        torch.rand(6, 1, 12, 12, generator=sampler.generator), size=(64, 64), mode="bicubic"
    ).clamp(0, 1)
    config = CameraConfig(p_jpeg=1.0, quality=(20.0, 90.0))
    ours = (photography.jpeg(sampler, smooth, config) - smooth).abs().mean()
    errors = []
    for quality in (20, 55, 90):
        for image in smooth:
            pixels = (image[0].numpy() * 255).round().astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
            decoded = np.asarray(Image.open(buffer), dtype=np.float32)
            errors.append(np.abs(decoded - pixels).mean() / 255)
    assert min(errors) < ours < max(errors)


def test_exposure_brings_the_face_to_mid_grey(sampler):
    dark = torch.full((6, 1, 32, 32), 0.02)
    face = torch.ones(6, 1, 32, 32, dtype=torch.bool)
    config = CameraConfig(p_auto_exposure=1.0, adaptation=(1.0, 1.0))
    exposed = photography.expose(sampler, dark, face, config)
    assert ((exposed > 0.1) & (exposed < 0.9)).all()


PARTS = {
    "vignette": ("p_vignette", photography.vignette),
    "lower_resolution": ("p_low_resolution", photography.lower_resolution),
    "sharpen": ("p_sharpen", photography.sharpen),
    "add_noise": ("p_noise", photography.add_noise),
    "jpeg": ("p_jpeg", photography.jpeg),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PARTS)
def test_parts_of_the_camera_act_only_with_their_probability(sampler, name, channels):
    picture = torch.rand(6, channels, 40, 40, generator=sampler.generator)
    knob, function = PARTS[name]
    assert torch.equal(function(sampler, picture, CameraConfig(**{knob: 0.0})), picture)
    changed = function(sampler, picture, CameraConfig(**{knob: 1.0}))
    assert changed.shape == picture.shape
    assert ((changed - picture).abs().amax((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_scenery(sampler, channels):
    picture = scenery.background(sampler, 48, channels, SceneConfig())
    assert picture.shape == (6, channels, 48, 48)
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.05
    assert torch.equal(scenery.occlude(sampler, picture, SceneConfig(p_occluder=0.0)), picture)
    covered = scenery.occlude(sampler, picture, SceneConfig(p_occluder=1.0))
    assert ((covered - picture).abs().amax((1, 2, 3)) > 0.01).sum() >= 5


@pytest.mark.slow
def test_hair_covers_the_scalp_and_nothing_else_moves(model):
    """Bald or not: the face's maps are the same, the picture above the forehead is not."""
    pictures = []
    r = torch.zeros(4, 290)
    for p_bald in (1.0, 0.0):
        hair = HairConfig(p_bald=p_bald, p_hat=0.0, p_fringe=0.0, p_long=0.0)
        camera = CameraConfig(p_noise=0, p_jpeg=0, p_auto_exposure=0, p_low_resolution=0, p_blur=0)
        world = SyntheticWorld(model, SyntheticConfig(size=96, hair=hair, camera=camera))
        pictures.append(world.render(4, world.generator(2), r))
    bald, haired = pictures
    torch.testing.assert_close(bald.albedo, haired.albedo)
    changed = (bald.image - haired.image).abs()[:, 0]
    nose = (slice(None), slice(50, 70), slice(40, 56))
    scalp = (slice(None), slice(0, 8), slice(36, 60))
    assert changed[nose].max() < 0.01 < 0.03 < changed[scalp].mean()


def test_eyes_have_a_dark_middle_and_teeth_show_when_the_mouth_opens(model):
    skin = SkinConfig(gaze=(0.0, 0.0), p_glasses=0.0)
    config = SyntheticConfig(size=200, skin=skin, pose=PoseConfig(p_perspective=0.0))
    world = SyntheticWorld(model, config)
    r = torch.zeros(6, 290)
    opened = model.expression_index("jawOpen")
    r[:, opened] = 0.6 / model.expression_std[opened - model.n_identity]
    faces = world.render(6, world.generator(0), r)
    eye = faces.rendering.projected[:, model.landmarks[42:48], :2].mean(1).round().long()
    pupil = torch.stack([faces.albedo[i, 0, y, x] for i, (x, y) in enumerate(eye.tolist())])
    white = [faces.albedo[i, 0, y, x - 9 : x + 10].max() for i, (x, y) in enumerate(eye.tolist())]
    assert (pupil < 0.35 * torch.stack(white)).all()
    interior = model.regions["mouth_interior"] > 0.5
    mouth = interior[model.triangles].all(1)[faces.rendering.fragments.triangle.clamp(min=0)]
    mouth &= faces.rendering.mask[:, 0]
    for albedo, inside in zip(faces.albedo[:, 0], mouth, strict=True):
        assert inside.sum() > 50
        assert albedo[inside].max() > 0.4 and albedo[inside].min() < 0.25
