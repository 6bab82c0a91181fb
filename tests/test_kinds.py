"""Heads of several kinds: what is left of them, and how far an estimate turned."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from facerecon.camera import POSE_UNITS, join, rotation_angles, rotation_matrix
from facerecon.cli import main
from facerecon.evaluation.heads.kinds import (
    KINDS,
    Turned,
    estimated_angles,
    kinds_figure,
    kinds_table,
    slope,
    turn_measures,
)
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.views import Heads
from facerecon.synthetic.texture_bank import TextureBank, topology_digest

OWN = Path(str(files("facerecon") / "assets" / "morphable_model.npz"))


@pytest.fixture(scope="module")
def source():
    return load_heads(OWN)


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
    names = ("whole", "without hair", "face alone", "ears, no neck")
    names = (*names, "face alone, black", "face alone, white", "face alone, grey")
    return {name: mean_heads.render(6, seed=2, kind=KINDS[name]) for name in names}


def test_angles_undo_the_rotation(generator):
    angles = 2.4 * torch.rand(50, 3, generator=generator) - 1.2
    torch.testing.assert_close(rotation_angles(rotation_matrix(angles)), angles)


def test_all_kinds_show_the_same_people(views, mean_heads):
    whole = views["whole"]
    assert torch.equal(whole.image, mean_heads.render(6, seed=2).image)
    for name, other in views.items():
        for field in ("pose", "points", "landmarks", "best_fit", "perspective"):
            assert torch.equal(getattr(other, field), getattr(whole, field)), name
        same = torch.equal(other.image, whole.image)
        assert same == (name == "whole"), name


def test_less_is_left_of_cut_heads(views):
    shown = {name: each.normals.any(1).sum((1, 2)) for name, each in views.items()}
    assert torch.equal(shown["whole"], shown["without hair"])
    assert (shown["ears, no neck"] < 0.99 * shown["whole"]).all()
    assert (shown["face alone"] <= shown["ears, no neck"]).all()  # ears may be hidden
    assert shown["face alone"].sum() < 0.999 * shown["ears, no neck"].sum()
    skin = {name: each.face.sum((1, 2, 3)) for name, each in views.items()}
    assert (skin["face alone"] > 0.98 * skin["whole"]).all()  # what errors count on stays


def test_cuts_follow_the_regions(source, model):
    ears, neck = (model.regions[name] > 0.5 for name in ("ears", "neck"))
    assert not (source.cut["face"] & ears).any() and not (source.cut["face"] & neck).any()
    assert (source.cut["ears"] & ears).sum() > 0.95 * ears.sum()
    chin = source.mean[source.landmarks[8], 1]
    assert source.mean[source.cut["ears"], 1].min() > chin - 15
    eyes = model.regions["eye_left"] > 0.5
    assert source.cut["face"][eyes].all()


def test_backdrops_are_even(views):
    for name, level in (("black", 0.0), ("white", 1.0), ("grey", 0.5)):
        each = views[f"face alone, {name}"]
        corner = each.image[:, 0, :8, :8].flatten(1).mean(1)  # no face reaches there
        assert (corner - level).abs().max() < 0.06, name
    clutter = views["face alone"].image[:, 0, :8, :8].flatten(1).mean(1)
    assert clutter.std() > 0.06


def test_photographed_skin_is_worn(source, model, views):
    """A bank of two skins, dark and light, whose left half is black."""
    albedo = np.full((2, 64, 64, 3), 230, np.uint8)
    albedo[:, :, :32] = 5
    known = np.ones(albedo.shape[:3], bool)
    bank = TextureBank(albedo, known, ("a", "b"), "MIT", topology_digest(model), "0" * 64)
    heads = Heads(source, model, size=100, textures=bank)
    kind = KINDS["photographed skin"]
    worn = heads.render(6, seed=2, kind=kind)
    own = heads.render(6, seed=2, kind=KINDS["without hair"])
    assert torch.equal(worn.points, own.points) and torch.equal(worn.pose, own.pose)
    frontal = int(worn.pose[:, 1].abs().argmin())
    picture, skin = worn.image[frontal, 0], worn.face[frontal, 0]
    middle = worn.landmarks[frontal, 27:31, 0].mean()
    column = torch.arange(100).expand(100, 100)
    left, right = (picture[skin & side].median() for side in (column < middle, column > middle))
    assert left < 0.5 * right or right < 0.5 * left
    with pytest.raises(ValueError, match="textures"):
        Heads(source, model, size=100).render(1, 0, kind=kind)


def test_estimated_angles_are_planted_ones(views, model):
    whole = views["whole"]
    zero = torch.zeros_like(whole.best_fit)
    true = (whole.pose * POSE_UNITS.float())[:, :3].rad2deg()
    found = estimated_angles(model, join(zero, whole.pose), whole)
    torch.testing.assert_close(found, true, atol=0.3, rtol=0)
    planted = whole.pose.clone()
    planted[:, :3] *= 0.8
    found = estimated_angles(model, join(zero, planted), whole)
    torch.testing.assert_close(found, 0.8 * true, atol=0.3, rtol=0)


def test_slope_is_that_of_a_fitted_line(rng):
    true = torch.from_numpy(rng.uniform(-45, 45, 40))
    estimated = 0.8 * true + 3 + torch.from_numpy(rng.normal(0, 2, 40))
    assert slope(estimated, true) == pytest.approx(np.polyfit(true, estimated, 1)[0])
    assert np.isnan(slope(true[:1], true[:1]))


def test_measures_of_a_planted_shrinkage():
    yaw = torch.linspace(-60, 60, 121)
    pitch = torch.linspace(-20, 20, 121)
    true = torch.stack([pitch, yaw, torch.zeros_like(yaw)], 1)
    # Beyond 45 degrees nothing counts.
    short = torch.where(yaw.abs() <= 45, 0.8, 0.1) * yaw
    found = turn_measures(torch.stack([0.9 * pitch + 2, short, yaw], 1), true)
    assert found["yaw_slope"] == pytest.approx(0.8, abs=1e-4)
    assert found["yaw_short"] == pytest.approx(6, abs=1e-4)
    assert found["pitch_slope"] == pytest.approx(0.9, abs=1e-4)
    far = turn_measures(true + torch.tensor([0.0, 5, 0]), true)
    assert far["yaw_short"] == pytest.approx(0, abs=1e-4)  # to one side is not too little


def test_table_and_picture(rng):
    true = torch.from_numpy(rng.uniform(-45, 45, (20, 3)))
    measures = {"yaw_slope": 0.913, "yaw_short": 2.5, "pitch_slope": 0.95}
    measures |= {"yaw": 1.0, "pitch": 2.0, "depth": 3.0, "normals": 11.0}
    found = {name: Turned(true, 0.9 * true, measures) for name in KINDS}
    lines = kinds_table(found).splitlines()
    assert len(lines) == 1 + len(KINDS) and "0.913" in lines[1] and "yaw slope" in lines[0]
    pixels = np.asarray(kinds_figure(found))
    assert pixels.ndim == 3 and pixels.shape[2] == 3
    blue = (pixels[..., 2] > 1.5 * pixels[..., 0].astype(float)).mean()
    assert 0.001 < blue < 0.3  # the points


def test_the_command_adds_the_kinds(tmp_path, capsys):
    argv = ["evaluate", "heads", "--heads", str(OWN), "--count", "2", "--profiles", "0"]
    argv += ["--iterations", "1", "--per-kind", "3", "--out", str(tmp_path)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "face alone, white" in printed and "pitch slope" in printed
    kinds = json.loads((tmp_path / "heads.json").read_text())["kinds"]
    assert set(kinds) == {name for name, kind in KINDS.items() if not kind.photographed}
    assert np.shape(kinds["face alone"]["estimated"]) == (3, 3)
    assert (tmp_path / "kinds.png").is_file()
