"""`facerecon train` from the command line to a weights file that loads."""

import pytest
import torch

from facerecon.cli import main
from facerecon.morphable_model import MorphableModel
from facerecon.training import plan
from facerecon.weights import load_coarsenet, load_normalnet, read_card


@pytest.mark.slow
def test_coarse_training_exports_weights_that_load(tmp_path, capsys):
    out = tmp_path / "coarsenet.safetensors"
    options = ["--preset", "quick", "--samples", "16", "--run", str(tmp_path / "run"), "--quiet"]
    assert main(["train", "coarse", *options, "--threads", "1", "--export", str(out)]) == 0
    card = read_card(out)
    assert card["task"] == "coarse" and card["preset"] == "quick" and card["samples"] >= 16
    assert card["metrics"]["landmarks_pct"] > 0 and card["metrics"]["identity_pct"] <= 100
    assert card["effective_batch"] == 8 and card["processes"] == 1
    network = load_coarsenet(out)
    estimate = network(torch.zeros(1, 7, 200, 200), torch.zeros(1, 290), MorphableModel.default())
    assert estimate.r.shape == (1, 290)
    assert "yaw_deg" in capsys.readouterr().out

    further = tmp_path / "further.safetensors"
    options = ["--preset", "quick", "--samples", "16", "--run", str(tmp_path / "more"), "--quiet"]
    assert main(["train", "coarse", *options, "--coarse", str(out), "--export", str(further)]) == 0
    before = f"weights that had seen {card['samples']} samples, starting from random weights"
    assert read_card(further)["started_from"] == before


@pytest.mark.slow
def test_the_schedule_is_the_users_choice(tmp_path, capsys):
    options = ["train", "coarse", "--preset", "quick", "--dry-run", "--run", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="2"):
        main([*options, "--cooldown", "2"])
    assert "a number from 0 to 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*options, "--learning-rate", "0"])
    assert "not above 0" in capsys.readouterr().err
    assert main([*options, "--cooldown", "0.4", "--learning-rate", "0.0007"]) == 0
    printed = capsys.readouterr().out
    assert "falling over the last 40%" in printed and "learning rate 0.0007" in printed


@pytest.mark.slow
def test_dry_run_measures_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "MEASURED_BATCHES", 1)
    assert main(["train", "coarse", "--preset", "quick", "--dry-run"]) == 0
    assert not list(tmp_path.iterdir())
    text = capsys.readouterr().out
    assert (
        "coarse: 2,000 samples on cpu, seed 0" in text and "runs/coarse-quick (a new run)" in text
    )
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    assert float(rows["speed"][1]) > 0 and float(rows["memory"][1].replace(",", "")) > 100
    assert rows["batch"][1] == "8" and rows["network"][1] == "coarsenet,"


def test_durations_are_readable():
    seconds = (90, 45 * 60, 7.5 * 3600, 3.1 * 86_400)
    assert [plan.duration(s) for s in seconds] == ["90 s", "45 min", "7.5 h", "3.1 days"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["coarse", "--preset", "huge"], 2, "--preset huge: unknown, choose from quick, cpu, pap"),
        (["fine"], 2, "facerecon train fine needs --photos FOLDER"),
        (["fine", "--photos", "nowhere"], 1, "nowhere"),
        (["coarse", "--model", "nothing.npz"], 1, "nothing.npz: no such model file"),
    ],
)
def test_mistakes_get_one_line(options, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *options, "--quiet"]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing half-written


@pytest.mark.slow
def test_normal_training_exports_weights_that_load(tmp_path):
    out = tmp_path / "normalnet.safetensors"
    options = ["--preset", "quick", "--samples", "8", "--run", str(tmp_path / "run"), "--quiet"]
    assert main(["train", "normals", *options, "--threads", "1", "--export", str(out)]) == 0
    card = read_card(out)
    assert card["task"] == "normals" and card["samples"] >= 8 and card["metrics"]["degrees"] > 0
    assert load_normalnet(out).config.widths == (8, 16, 16)
    further = ["train", "normals", *options[:-2], str(tmp_path / "more"), "--quiet"]
    assert main([*further, "--normals", str(tmp_path / "none.safetensors")]) == 1
