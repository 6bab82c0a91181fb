"""NormalNet, its input and its training, on small networks and faces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from facerecon.camera import join
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.integration import integrate
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import (
    EYE_RELIEF,
    NormalRefinement,
    smoothed_where_unsure,
    with_relief,
)
from facerecon.normalnet import (
    NormalNet,
    NormalNetConfig,
    corrected,
    normal_input,
    normals_of,
    slopes_of,
)
from facerecon.render import curved_surface, render
from facerecon.shading_refinement import ShadingRefinement
from facerecon.training.engine import Run
from facerecon.training.normal_faces import NormalFaces, NormalWorld, mirrored_faces, zoomed
from facerecon.training.normals import NormalTask
from facerecon.training.presets import NORMAL_PRESETS
from facerecon.weights import ModelCard, load_normalnet, save_weights

SMALL = NormalNetConfig(widths=(8, 8, 16))


@pytest.fixture(scope="module")
def model():
    return MorphableModel.default()


@pytest.fixture(scope="module")
def world(model):
    torch.manual_seed(0)
    coarsenet = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0))
    return NormalWorld(model, coarsenet, seed=5, window=96, variants=1)


def poses(model, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    pose = 0.4 * torch.randn(count, 6, generator=generator)
    return join(model.sample(count, generator), pose)


def maps(model, size: int = 65):
    r = poses(model)
    face = render(model, r, size)
    image = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    return image, face.normals, face.pncc, face.mask


def test_a_fresh_network_keeps_the_coarse_normals(model):
    known = maps(model)
    found = NormalNet(SMALL).eval().estimate(*known)
    steep = known[1][:, 2:] > 0.15
    inside = (known[3] & steep).expand(-1, 3, -1, -1)
    torch.testing.assert_close(found.normals[inside], known[1][inside], atol=1e-5, rtol=0)
    assert found.log_error.shape == known[0].shape  # of odd sizes, too


def test_exposure_does_not_matter_and_the_background_is_not_seen(model):
    image, normals, pncc, mask = maps(model)
    first = normal_input(image, normals, pncc, mask)
    brighter = torch.where(mask, 0.5 * image + 0.2, 1 - image)
    second = normal_input(brighter, normals, pncc, mask)
    torch.testing.assert_close(first[:, :1], second[:, :1], atol=1e-4, rtol=0)
    grey = first[:, 0][mask[:, 0]]
    assert grey.mean().abs() < 1e-4 and abs(grey.std() - 0.5) < 1e-2
    dimmed = normal_input(0.25 * image.clamp(min=0.1), normals, pncc, mask)
    bright = normal_input(image.clamp(min=0.1), normals, pncc, mask)
    torch.testing.assert_close(dimmed[:, 1], bright[:, 1], atol=1e-4, rtol=0)


def test_what_the_configuration_leaves_out_is_zero(model):
    found = normal_input(*maps(model), NormalNetConfig(pncc=False, logarithm=False))
    assert found[:, 1].abs().max() == 0 and found[:, 5:8].abs().max() == 0
    assert found[:, 0].abs().max() > 0 and found[:, 2:5].abs().max() > 0


def test_a_tilt_turns_normals_by_slopes():
    normals = torch.tensor([0.6, 0.0, 0.8]).view(1, 3, 1, 1)
    tilt = torch.tensor([0.1, -0.2]).view(1, 2, 1, 1)
    found = corrected(normals, tilt, torch.zeros(1, 1, 1, 1))
    expected = torch.tensor([-0.75 + 0.125, -0.25]).view(1, 2, 1, 1)
    torch.testing.assert_close(found.slopes, expected)
    torch.testing.assert_close(slopes_of(found.normals), expected)
    torch.testing.assert_close(normals_of(slopes_of(normals)), normals)


def test_a_window_of_the_crop_shows_the_same_pixels(model):
    r, middle = poses(model), torch.tensor([[14.0, -6.0], [-20.0, 20.0]])
    whole = render(model, r, 200)
    part = render(model, zoomed(model, r, 200, 120, middle), 120)
    for item, (x, y) in enumerate(middle.int().tolist()):
        cut = (slice(40 - y, 160 - y), slice(40 + x, 160 + x))
        both = whole.mask[item, 0][cut] & part.mask[item, 0]
        assert both.sum() > 0.98 * part.mask[item].sum()
        first, second = whole.normals[item][:, cut[0], cut[1]], part.normals[item]
        assert (first - second).abs()[:, both].mean() < 1e-3


def test_mirrored_faces_are_the_renderings_of_mirrored_people(model):
    from facerecon.mirror import mirrored

    r = poses(model)
    faces = [render(model, each, 101) for each in (r, mirrored(model, r))]
    batch = [
        NormalFaces(face.depth, face.normals, face.pncc, face.mask, face.normals, face.mask)
        for face in faces
    ]
    found, expected = mirrored_faces(batch[0]), batch[1]
    both = (found.start_mask & expected.start_mask).expand(-1, 3, -1, -1)
    for name in ("start_normals", "start_pncc", "normals"):
        error = (getattr(found, name) - getattr(expected, name))[both].abs()
        assert error.mean() < 5e-3, name


def test_groups_of_faces_are_functions_of_seed_and_index(world):
    for index in range(6):
        group = world.group(index, 2)
        faces = world.start(group, index % 2)
        assert faces.image.shape == (2, 1, 96, 96)
        assert faces.image.min() >= 0 and faces.image.max() <= 1
        assert faces.valid.float().mean() > 0.02  # CoarseNet knows nothing yet
        off = torch.rad2deg(torch.acos((faces.normals * faces.start_normals).sum(1).clamp(-1, 1)))
        assert 2 < off[faces.valid[:, 0]].mean() < 60
    again = world.start(world.group(5, 2), 1)
    for first, second in zip(faces, again, strict=True):
        torch.testing.assert_close(first, second)


def test_training_resumes_exactly_and_lowers_the_loss(world, model, tmp_path):
    config = replace(NORMAL_PRESETS["quick"], network=SMALL, samples=24, checkpoint_every=10**6)
    device = torch.device("cpu")

    def run(folder, samples):
        task = NormalTask(model, world.coarsenet, config, device, world=world)
        task.total = samples
        Run(task, tmp_path / folder, device, quiet=True, log_every=1).train()
        return task.networks["normalnet"].state_dict()

    whole = run("whole", 24)
    task = NormalTask(model, world.coarsenet, config, device, world=world)
    part = Run(task, tmp_path / "parts", device, quiet=True, log_every=1)
    part.task.total = 24
    part.minutes = 0.0  # stops after the first batch, with a checkpoint
    part.train()
    assert 0 < part.samples < 24
    resumed = run("parts", 24)
    for name, value in whole.items():
        torch.testing.assert_close(value, resumed[name], atol=1e-6, rtol=1e-5, msg=name)


def test_the_criterion_knows_the_truth(world, model):
    config = replace(NORMAL_PRESETS["quick"], network=SMALL)
    task = NormalTask(model, world.coarsenet, config, torch.device("cpu"), world=world)
    batch = next(iter(task.batches(0)))
    truth = corrected(batch.normals, torch.zeros_like(batch.normals[:, :2]), batch.image)
    truth = truth._replace(log_error=torch.full_like(batch.image, -4.0))
    start = corrected(batch.start_normals, torch.zeros_like(batch.normals[:, :2]), batch.image)
    exact, coarse = task.criterion(truth, batch), task.criterion(start, batch)
    assert exact["degrees"] < 1 and exact["relief"] < 1e-6
    assert coarse["degrees"] == pytest.approx(coarse["start_degrees"].item(), rel=1e-3)
    assert exact["loss"] < coarse["loss"]
    # Of the stated errors, the true one is the likeliest.
    angle = coarse["degrees"] * torch.pi / 180

    def surprise(factor):
        log_error = (angle * factor).log().expand_as(batch.image)
        return task.criterion(start._replace(log_error=log_error), batch)["surprise"]

    assert surprise(1.0) < min(surprise(0.4), surprise(2.5))


def test_refinement_with_a_fresh_network_stays_at_the_coarse_face(model):
    size = 120
    r = torch.zeros(1, model.n_coefficients + 6)
    surface = curved_surface(model, r, size)
    mm = torch.tensor([214.0 / size])
    network = NormalNet(SMALL).eval()
    normals = render(model, r, size).normals
    grey = (0.2 + 0.6 * normals[:, 2:]) * surface.fragments.mask
    alone = NormalRefinement(model, network)(grey, surface, mm)
    expected = integrate(slopes_of(normals), surface.depth, surface.fragments.mask, mm)
    mask = surface.fragments.mask
    frontal = mask & (normals[:, 2:] > 0.6)
    assert (alone.depth - expected)[frontal].abs().median() < 0.3
    assert (alone.depth - surface.depth)[frontal].abs().median() < 1.0
    assert alone.light is None
    torch.testing.assert_close(alone.depth[~mask], surface.depth[~mask])
    shaded = NormalRefinement(model, network, ShadingRefinement())(grey, surface, mm)
    assert (shaded.depth - alone.depth)[frontal].abs().median() < 0.1  # explains it already
    assert shaded.light[0, 3] > 0.3
    wrinkled = grey.clone()
    wrinkled[..., 40:44, 50:70] *= 0.8
    found = NormalRefinement(model, network, ShadingRefinement())(wrinkled, surface, mm)
    change = (found.depth - shaded.depth).abs()[0, 0]
    assert change[38:46, 50:70].mean() > 3 * change[90:100, 50:70].mean()


def test_weights_come_back(tmp_path):
    torch.manual_seed(3)
    network = NormalNet(SMALL).eval()
    torch.nn.init.normal_(network.leave.weight)
    path = tmp_path / "net.safetensors"
    card = ModelCard("normals", "quick", "nothing", 1, 0, 0.1, "none", {}, {})
    save_weights(path, network, card)
    back = load_normalnet(path)
    assert back.config == SMALL
    maps = torch.randn(1, 9, 40, 48)
    torch.testing.assert_close(back(maps)[0], network(maps)[0], atol=2e-2, rtol=2e-2)


def test_depth_is_smoothed_where_the_normals_are_unsure_only():
    size, mm = 60, 1.0
    generator = torch.Generator().manual_seed(0)
    depth = torch.randn(1, 1, size, size, generator=generator)
    mask = torch.ones(1, 1, size, size, dtype=torch.bool)
    mask[..., 55:] = False
    error = torch.full((1, 1, size, size), 0.1)
    assert torch.equal(smoothed_where_unsure(depth, error, mask, mm), depth)
    error[..., 20:40] = 0.5
    found = smoothed_where_unsure(depth, error, mask, mm)
    assert torch.equal(found[..., :19], depth[..., :19])
    inner = np.s_[..., 12:48, 24:36]
    expected = gaussian_filter(depth[0, 0].numpy(), 1.5)[None, None]
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.02)
    error[:] = 0.5
    depth[..., 30:] += 100.0  # one surface before another
    found = smoothed_where_unsure(depth, error, mask, mm)
    assert torch.equal(found[..., 26:34], depth[..., 26:34])
    assert torch.equal(found[..., 51:], depth[..., 51:])  # the outline


def test_coarse_relief_comes_back_in_chosen_places_on_the_refined_shape():
    size, mm = 80, 0.5
    column = torch.arange(size).float()
    large = (0.2 * column).expand(1, 1, size, size)  # what the refinement changed
    ripple = torch.sin(column * (2 * torch.pi / 8)).expand(1, 1, size, size)
    mask = torch.ones(1, 1, size, size, dtype=torch.bool)
    where = torch.zeros_like(mask)
    where[..., 30:50, 30:50] = True
    found = with_relief(large, ripple, where, mask, mm)
    torch.testing.assert_close(found[..., :20, :], large[..., :20, :], atol=1e-4, rtol=0)
    middle = np.s_[..., 38:42, 38:42]
    expected = (large + EYE_RELIEF * ripple)[middle]  # the Gaussian leaves 1 % of the ripple
    torch.testing.assert_close(found[middle], expected, atol=0.03, rtol=0)
