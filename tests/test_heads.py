"""Photographed heads: their frame, their truth, and the rows that are compared on them."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from facerecon.camera import POSE_UNITS, join, rotation_matrix
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.registration import register_heads, ridge_fit, similarity
from facerecon.evaluation.heads.table import (
    evaluate_views,
    head_metrics,
    heads_table,
    mean_errors,
    place_by_landmarks,
    true_yaw,
)
from facerecon.evaluation.heads.views import Heads
from facerecon.morphable_model import ModelFileError
from facerecon.render import render
from facerecon.training import coarse as coarse_training
from facerecon.training.presets import CoarseTraining, SyntheticConfig

OWN = Path(str(files("facerecon") / "assets" / "morphable_model.npz"))


@pytest.fixture(scope="module")
def source():
    return load_heads(OWN)


@pytest.fixture(scope="module")
def heads(source, model):
    """The model's own faces."""
    return Heads(source, model, size=64)


@pytest.fixture(scope="module")
def mean_heads(source, model):
    """Heads that all are the mean face, so that the model itself knows every truth."""
    flat = source._replace(
        identity=torch.zeros_like(source.identity[:1]),
        expression=torch.zeros_like(source.expression),
    )
    return Heads(flat, model, size=100)


@pytest.fixture(scope="module")
def views(mean_heads):
    return mean_heads.render(12, seed=3, profiles=2)


def test_similarity_finds_a_planted_one(rng):
    points = rng.normal(size=(50, 3))
    rotation = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    scale, found, shift = similarity(points, 2.5 * points @ rotation.T + [1, 2, 3])
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-9)


def test_ridge_fit_against_the_stacked_least_squares(rng):
    basis, weight = torch.randn(4, 30), torch.rand(10)
    target = torch.randn(1, 10, 3)
    root = weight.repeat_interleave(3).sqrt().numpy()
    rows = np.vstack([basis.T.numpy() * root[:, None], 0.5 * np.eye(4)])
    goal = np.concatenate([target.flatten().numpy() * root, np.zeros(4)])
    expected = np.linalg.lstsq(rows, goal, rcond=None)[0]
    found = ridge_fit(basis, target, weight, ridge=0.25)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_registration_undoes_another_frame(source, model):
    turn = rotation_matrix(torch.tensor([[0.12, 0.0, 0.0]]))[0]
    moved = 0.1 * source.mean @ turn.T + torch.tensor([0.0, 3.0, -5.0])
    found = register_heads(model, moved, source.triangles, source.landmarks, source.face)
    assert found.scale == pytest.approx(10, rel=1e-3)
    angle = Rotation.from_matrix((found.rotation @ turn).numpy()).magnitude()
    assert np.degrees(angle) < 0.05
    back = found.scale * moved @ found.rotation.T + found.shift
    assert (back - model.mean).norm(dim=1).max() < 0.2
    assert (found.landmarks_on(back[None])[0] - model.mean[model.landmarks]).abs().max() < 0.3


def test_best_fit_of_the_models_own_faces(heads, model, generator):
    found = heads.registration
    coefficients = torch.zeros(2, model.n_coefficients)
    coefficients[:, :5] = torch.randn(2, 5, generator=generator)
    moved = model.vertices(coefficients) - model.mean
    fit = found.best_fit(model, moved, ridge=1e-4)
    distance = (model.vertices(fit) - model.vertices(coefficients)).norm(dim=2)
    assert (distance @ found.used).max() < 0.3  # mm; the faces differ from the mean by several


def test_truth_is_what_the_model_renders(views, model):
    chosen = ~views.perspective
    assert 2 < chosen.sum() < len(chosen)
    zero = torch.zeros(len(views.pose), model.n_coefficients)
    maps = render(model, join(zero, views.pose), views.image.shape[-1])
    both = (maps.mask & views.face)[chosen]
    assert both.sum() > 0.98 * views.face[chosen].sum()
    difference = (maps.depth - views.depth)[chosen][both]
    assert difference.abs().quantile(0.98) < 0.3
    misses = (maps.projected[:, model.landmarks] - views.landmarks).norm(dim=2)
    assert misses[chosen].max() < 0.3
    assert misses[~chosen].mean() > 0.3  # perspective is another camera


def test_yaw_is_spread_evenly(views):
    yaw = true_yaw(views)
    assert sorted(((yaw[:12] + 60) // 10).int().tolist()) == list(range(12))
    assert (yaw[12:].abs() >= 60).all() and (yaw.abs() <= 90).all()
    assert (torch.rad2deg(views.pose[:, 0] * POSE_UNITS[0].float()).abs() <= 20).all()


def test_same_seed_same_photographs(mean_heads):
    first, again, other = (mean_heads.render(2, seed) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)


def test_people_differ_but_for_their_eyes(heads):
    identity = torch.eye(2, len(heads.identity))
    shapes = heads.shapes(identity, torch.zeros(2, len(heads.expression)))
    eyes = shapes[:, heads.landmarks[36:48]].mean(1)
    torch.testing.assert_close(eyes[0], eyes[1], atol=1e-3, rtol=0)
    assert (shapes[0] - shapes[1]).norm(dim=1).max() > 1


def test_landmarks_place_the_mean_face(views, model):
    size = views.image.shape[-1]
    points = model.mean[model.landmarks].expand(len(views.pose), -1, -1)
    start = torch.zeros_like(views.pose)
    pose = place_by_landmarks(points, views.landmarks[..., :2], start, size)
    difference = ((pose - views.pose) * POSE_UNITS.float())[~views.perspective]
    assert difference[:, :3].rad2deg().abs().max() < 0.5


def test_rows_and_table(views, model):
    torch.manual_seed(0)
    network = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, squeeze=8, points=0)).eval()
    results = evaluate_views(network, model, views, iterations=2)
    flat = ~views.perspective
    known = mean_errors(results["mean face, true pose"], flat)
    assert known["depth"] < 0.2 and known["yaw"] == 0 and known["landmarks"] < 0.3
    assert known["covered"] > 98
    assert mean_errors(results["mean face, true landmarks"], flat)["yaw"] < 0.5
    assert mean_errors(results["iteration 2"], flat)["depth"] > known["depth"]
    text = heads_table(results, views)
    assert "mean face, true pose" in text and "iteration 2, over the yaw" in text
    assert "nan" not in text
    short = head_metrics(network, model, views)
    assert set(short) == {
        "heads_depth_mm", "heads_yaw_deg", "heads_pitch_deg", "heads_landmarks_pct",
    }  # fmt: skip


def test_a_row_without_values_is_nan():
    nothing = torch.full((3,), torch.nan)
    mixed = torch.tensor([1.0, torch.nan, 3.0])
    found = mean_errors({"depth": nothing, "normals": mixed}, torch.ones(3, dtype=torch.bool))
    assert np.isnan(found["depth"]) and found["normals"] == 2


def test_unusable_files_and_arguments(tmp_path, mean_heads):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_heads(tmp_path / "none.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(ModelFileError, match=r"junk\.npz"):
        load_heads(tmp_path / "junk.npz")
    np.savez(tmp_path / "part.npz", landmarks68=np.zeros(68, int))
    with pytest.raises(ModelFileError, match="missing"):
        load_heads(tmp_path / "part.npz")
    with pytest.raises(ValueError, match="boxes"):
        mean_heads.render(1, 0, boxes="guess")
    with pytest.raises(ValueError, match="count"):
        mean_heads.render(0, 0)


def test_the_heads_that_ship_are_those_of_ict_facekit(optional_data):
    ours, whole = load_heads(), load_heads(optional_data("ict_facekit/ict_facekit.npz"))
    assert ours.scanned and whole.scanned and ours.units == whole.units
    torch.testing.assert_close(ours.identity, whole.identity, rtol=0, atol=0.06)  # mm
    torch.testing.assert_close(ours.expression, whole.expression, rtol=0, atol=0.15)
    for name in ("mean", "triangles", "landmarks", "face"):
        assert torch.equal(getattr(ours, name), getattr(whole, name))


def test_the_heads_that_ship_are_brought_into_the_models_frame(model):
    heads = Heads(load_heads(), model)
    found = heads.registration
    residual = (found.fitted - found.closest).norm(dim=1) @ found.used
    assert residual < 1.0  # mm
    pitch, yaw, roll = Rotation.from_matrix(found.rotation.numpy()).as_euler("xyz", degrees=True)
    assert abs(yaw) < 0.1 and abs(roll) < 0.1  # both are symmetric
    assert abs(pitch) < 15
    eyes = model.mean[model.landmarks[36:48]].mean(0)
    neutral = heads.shapes(
        torch.zeros(1, len(heads.identity)), torch.zeros(1, len(heads.expression))
    )
    torch.testing.assert_close(neutral[0, heads.landmarks[36:48]].mean(0), eyes)
    views = heads.render(6, seed=1, boxes="detector")
    assert views.found.sum() >= 3
    inside = (views.landmarks[..., :2] > 0) & (views.landmarks[..., :2] < 200)
    assert inside.float().mean() > 0.9


def test_training_validates_on_heads(model, monkeypatch):
    config = CoarseTraining(
        network=CoarseNetConfig(width=4, squeeze=8),
        data=SyntheticConfig(size=64),
        images_per_batch=4,
        validation_faces=2,
    )
    monkeypatch.setattr(coarse_training, "VALIDATION_HEADS", 4)
    task = coarse_training.CoarseTask(model, config, torch.device("cpu"), workers=0, heads=OWN)
    assert task.heads["heads"].image.shape == (4, 1, 64, 64)
    found = task.validate(task.networks)
    assert {"yaw_deg", "heads_depth_mm", "heads_yaw_slope", "cut_heads_yaw_slope"} <= found.keys()
