"""[34]: the network without pose, its input, its start from CoarseNet, and its training problem."""

import dataclasses

import pytest
import torch

from facerecon.camera import join, split
from facerecon.coarsenet import CoarseNet, CoarseNetConfig, normalized_grey
from facerecon.methods.aligned_net import (
    AlignedNet,
    aligned_input,
    iterate_aligned,
    load_alignednet,
)
from facerecon.methods.richardson2016 import refinement
from facerecon.render import render
from facerecon.training.aligned import AlignedTask
from facerecon.training.presets import ALIGNED_PRESETS, SyntheticConfig
from facerecon.weights import ModelCard, WeightsError, save_weights

CPU = torch.device("cpu")
SMALL = CoarseNetConfig(width=4, squeeze=8, points=0)
TINY = dataclasses.replace(
    ALIGNED_PRESETS["quick"],
    network=SMALL,
    data=dataclasses.replace(ALIGNED_PRESETS["cpu"].data, size=64),
    images_per_batch=4,
    validation_faces=4,
    passes=2,
)


@pytest.fixture(scope="module")
def task(model):
    return AlignedTask(model, TINY, CPU, workers=0)


def test_grey_is_normalized_inside_the_mask(generator):
    image = torch.rand(2, 1, 16, 16, generator=generator)
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    mask[:, :, 4:12, 4:12] = True
    found = normalized_grey(0.3 * image + 0.2, mask)
    assert found[0][mask[0]].mean().abs() < 1e-5
    assert found[0][mask[0]].std(correction=0) == pytest.approx(0.5, abs=1e-4)
    torch.testing.assert_close(found, normalized_grey(image, mask))


def test_input_is_the_image_and_the_shape_lit_from_the_camera(model, generator):
    r = join(0.5 * model.sample(1, generator), torch.tensor([[0.1, 0.8, 0, 0, 0, 0]]))
    image = torch.rand(1, 1, 64, 64, generator=generator)
    maps = aligned_input(model, image, r)
    rendering = render(model, r, 64)
    assert maps.shape == (1, 2, 64, 64) and maps[:, 0].abs().max() <= 1.5
    torch.testing.assert_close(maps[:, 1:], rendering.normals[:, 2:])


def test_pose_stays_as_given(model, generator):
    network = AlignedNet(model.n_coefficients, SMALL).eval()
    pose = torch.tensor([[0.2, -0.9, 0.1, 0, 0, 0]])
    steps = iterate_aligned(network, model, torch.rand(1, 1, 64, 64, generator=generator), pose)
    assert len(steps) == 5 and not split(steps[0], model.n_coefficients)[0].any()
    for r in steps:
        assert torch.equal(split(r, model.n_coefficients)[1], pose)


def test_starts_as_coarsenet_that_is_blind_for_the_rest(model, generator):
    """Equal to CoarseNet's coefficients when PNCC and the other normals are zero."""
    coarsenet = CoarseNet(model.n_coefficients, SMALL).eval()
    torch.nn.init.normal_(coarsenet.regressor.weight, std=0.1)
    network = AlignedNet.from_coarsenet(coarsenet).eval()
    maps = torch.randn(2, 2, 64, 64, generator=generator)
    seven = torch.zeros(2, 7, 64, 64)
    seven[:, 0], seven[:, 6] = maps[:, 0], maps[:, 1]
    r = torch.zeros(2, model.n_coefficients + 6)
    theirs = split(coarsenet(seven, r, model).regressed, model.n_coefficients)[0]
    torch.testing.assert_close(network(maps), theirs)


def test_training_problem(model, task):
    batch = next(iter(task.batches(3)))
    again = next(iter(task.batches(3)))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    image, r_gt, r_t, maps = batch
    true, given = (split(r, model.n_coefficients)[1] for r in (r_gt, r_t))
    assert not given[:, 3:].any()  # what the landmarks cannot get wrong: the crop is theirs
    assert 0 < (true - given).abs().max() < 2
    first, second = (terms["loss"].item() for terms in task.losses(batch))
    assert first > 0 and second > 0
    zero = torch.zeros_like(split(r_gt, model.n_coefficients)[0])
    assert task.first_gmse > 5
    assert {"gmse_mm2_1", "gmse_mm2_4"} < set(task.validate(task.networks.eval()))
    assert task.pictures(task.networks)["iterations"].shape == (3, 64 * 4, 64 * 7)
    assert image.shape == (4, 1, 64, 64) and maps.shape == (4, 2, 64, 64) and zero.shape[0] == 4


def test_weights_keep_the_network(model, task, tmp_path):
    path = tmp_path / "w.safetensors"
    card = ModelCard("aligned", "quick", "none", 0, 0, 0.0, "none", {}, {})
    save_weights(path, task.networks["alignednet"], card)
    loaded = load_alignednet(path)
    maps = torch.zeros(1, 2, 64, 64)
    torch.testing.assert_close(
        loaded(maps), task.networks["alignednet"].eval()(maps), atol=1e-2, rtol=1e-2
    )
    with pytest.raises(WeightsError, match="expected AlignedNet"):
        save_weights(path, CoarseNet(model.n_coefficients, SMALL), card)
        load_alignednet(path)


def test_refinement_finds_a_fold_that_the_model_lacks(model, generator):
    """A dark line across the cheek becomes relief there, and little elsewhere."""
    r = torch.zeros(1, model.n_coefficients + 6)
    rendering = render(model, r, 100)
    image = (0.2 + 0.5 * rendering.normals[:, 2:] + 0.2 * rendering.normals[:, 1:2]).clamp(0, 1)
    image = image * rendering.mask
    plain = refinement(model, image, r)
    lined = image.clone()
    lined[:, :, 57:59, 30:42] -= 0.06
    folded = refinement(model, lined * rendering.mask, r)
    change = (folded - plain)[0, 0].abs()
    assert change[54:62, 30:42].mean() > 5 * change[20:30, 30:70].mean()
    assert not plain[~rendering.mask].any()


def test_default_size_is_coarsenets():
    assert ALIGNED_PRESETS["cpu"].data.size == SyntheticConfig().size
