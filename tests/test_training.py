"""`facerecon train` from the command line to a weights file that loads."""

import pytest
import torch

from facerecon.cli import main
from facerecon.weights import load_coarsenet, read_card


def test_coarse_training_exports_weights_that_load(tmp_path, capsys):
    out = tmp_path / "coarsenet.safetensors"
    options = ["--preset", "quick", "--samples", "16", "--run", str(tmp_path / "run"), "--quiet"]
    assert main(["train", "coarse", *options, "--threads", "1", "--export", str(out)]) == 0
    card = read_card(out)
    assert card["task"] == "coarse" and card["preset"] == "quick" and card["samples"] >= 16
    assert card["metrics"]["landmarks_pct"] > 0
    network = load_coarsenet(out)
    assert network(torch.zeros(1, 7, 200, 200), torch.zeros(1, 290)).shape == (1, 290)
    assert "yaw_deg" in capsys.readouterr().out

    further = tmp_path / "further.safetensors"
    options = ["--preset", "quick", "--samples", "16", "--run", str(tmp_path / "more"), "--quiet"]
    assert main(["train", "coarse", *options, "--coarse", str(out), "--export", str(further)]) == 0
    before = f"weights that had seen {card['samples']} samples, starting from random weights"
    assert read_card(further)["started_from"] == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["coarse", "--preset", "huge"], "--preset huge: unknown, choose from quick, cpu, paper"),
        (["fine"], "facerecon train fine needs --photos FOLDER"),
        (["fine", "--photos", "nowhere"], "nowhere"),
        (["coarse", "--model", "nothing.npz"], "nothing.npz: no such model file"),
    ],
)
def test_mistakes_get_one_line(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *options, "--quiet"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing half-written
