"""The linear correction of CoarseNet's last answer."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from facerecon.camera import N_POSE
from facerecon.coarsenet import CoarseNet, CoarseNetConfig, iterate, step
from facerecon.evaluation.coarse import explained
from facerecon.mirror import mirrored
from facerecon.training.calibration import fit_calibration, linear_correction, with_calibration
from facerecon.training.coarse import _begin_with
from facerecon.weights import ModelCard, load_coarsenet, read_card, save_weights

SMALL = CoarseNetConfig(width=4, squeeze=4, grid=2, points=80, field=8)
SCRIPT = Path(__file__).parents[1] / "data_scripts" / "calibrate_coarsenet.py"


@pytest.fixture
def network(model):
    torch.manual_seed(0)
    network = CoarseNet(model.n_coefficients, SMALL)
    network.set_points(model)
    return network.eval()


def random_calibration(model, seed=3):
    """Of a regression on random answers, so that mirror images are treated alike."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randn(400, model.n_coefficients + N_POSE, generator=draw)
    noise = torch.randn(truth.shape, generator=draw)
    return fit_calibration(model, 0.4 * truth + 0.3 * noise + 0.1, truth, ridge=50.0)


def test_without_a_ridge_it_is_ordinary_least_squares():
    draw = np.random.default_rng(0)
    estimate, missing = draw.normal(2.0, 3.0, (200, 5)), draw.normal(size=(200, 3))
    slope, offset = linear_correction(torch.tensor(estimate), torch.tensor(missing), ridge=0.0)
    with_one = np.column_stack([estimate, np.ones(200)])
    expected = np.linalg.lstsq(with_one, missing, rcond=None)[0]
    np.testing.assert_allclose(slope.numpy(), expected[:5].T, atol=1e-10)
    np.testing.assert_allclose(offset.numpy(), expected[5], atol=1e-10)


def test_an_endless_ridge_leaves_the_mean_of_what_is_missing():
    draw = torch.Generator().manual_seed(0)
    estimate, missing = (torch.randn(50, n, generator=draw).double() for n in (4, 2))
    slope, offset = linear_correction(estimate, missing, ridge=1e12)
    assert slope.abs().max() < 1e-9
    torch.testing.assert_close(offset, missing.mean(0), atol=1e-9, rtol=0)


def test_it_mends_answers_that_are_too_small_and_leaves_no_mark_on_identity(model):
    draw = torch.Generator().manual_seed(1)
    n, identity = model.n_coefficients, slice(model.n_identity)
    truth = torch.randn(4000, n + N_POSE, generator=draw)
    estimate = 0.5 * truth + 0.2 * torch.randn(truth.shape, generator=draw)
    calibration = fit_calibration(model, estimate[:3000], truth[:3000])
    assert calibration.shape == (n, n + 1)
    assert (calibration[identity, model.n_identity : n] == 0).all()  # nothing of the expression
    network = CoarseNet(n, dataclasses.replace(SMALL, calibrated=True))
    network.calibration = calibration
    new = network.calibrate(estimate[3000:])
    torch.testing.assert_close(new[:, n:], estimate[3000:, n:])
    metric = model.geometry_metric()
    for part in (identity, slice(model.n_identity, n)):
        before = explained(estimate[3000:], truth[3000:], metric, part)
        assert explained(new, truth[3000:], metric, part) > before + 0.03


def test_mirror_images_stay_mirror_images(model):
    network = CoarseNet(model.n_coefficients, dataclasses.replace(SMALL, calibrated=True))
    network.calibration = random_calibration(model)
    r = torch.randn(5, model.n_coefficients + N_POSE, generator=torch.Generator().manual_seed(4))
    found, moved = network.calibrate(mirrored(model, r)), network.calibrate(r)
    # Not to the bit: the ridge weighs numbers that `mirrored` mixes a little.
    torch.testing.assert_close(found, mirrored(model, moved), atol=0.02, rtol=0)
    assert (moved - r).abs().max() > 0.2


def test_the_last_step_alone_is_calibrated(network, model):
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    calibration = random_calibration(model)
    calibrated = with_calibration(network, calibration)
    plain, found = (iterate(each, model, image, 3) for each in (network, calibrated))
    torch.testing.assert_close(found[:3], plain[:3])
    n = model.n_coefficients
    expected = plain[3][:, :n] @ (torch.eye(n) + calibration[:, :n]).T + calibration[:, n]
    torch.testing.assert_close(found[3][:, :n], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[3][:, n:], plain[3][:, n:])
    alone = [step(each, model, image, plain[2], False) for each in (network, calibrated)]
    torch.testing.assert_close(*alone)


def test_it_is_kept_with_the_weights_and_a_new_training_begins_without(network, model, tmp_path):
    calibrated = with_calibration(network, random_calibration(model))
    card = ModelCard("coarse", "quick", "none", 1, 0, 0.0, "unknown", {}, {})
    save_weights(tmp_path / "a.safetensors", calibrated, card)
    loaded = load_coarsenet(tmp_path / "a.safetensors")
    assert loaded.config.calibrated
    torch.testing.assert_close(loaded.calibration, calibrated.calibration, atol=2e-3, rtol=2e-3)
    begun = CoarseNet(model.n_coefficients, SMALL)
    _begin_with(begun, calibrated)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in begun.state_dict().items())
    assert not with_calibration(loaded, None).config.calibrated


def test_one_side_alone_cannot_be_calibrated():
    with pytest.raises(ValueError, match="both_sides"):
        CoarseNet(284, dataclasses.replace(SMALL, both_sides=False, calibrated=True))


def test_the_script_writes_weights_and_a_card(network, model, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    card = ModelCard("coarse", "quick", "rendered faces", 10, 0, 0.1, "abc", {}, {})
    save_weights(tmp_path / "plain.safetensors", network, card)
    out = tmp_path / "calibrated.safetensors"
    arguments = [str(tmp_path / "plain.safetensors"), "--faces", "6", "--out", str(out)]
    monkeypatch.setattr(script, "HELD_OUT", 4)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    script.main()
    assert "identity_pct" in capsys.readouterr().out
    assert load_coarsenet(out).config.calibrated
    found = read_card(out)
    assert found["samples"] == 10 and "calibrated on 6 more" in found["data"]
    assert out.with_suffix(".md").is_file()
