"""The command `facerecon evaluate` from arguments to files."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from facerecon.cli import main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands.evaluate.results import compact_json
from facerecon.commands.outcome import FAILED, OK
from facerecon.weights import ModelCard, save_weights

MODEL = str(files("facerecon") / "assets" / "morphable_model.npz")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "coarse.safetensors"
    card = ModelCard("coarse", "quick", "none", 0, 0, 0.0, "unknown", {}, {})
    save_weights(
        path, CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0)).eval(), card
    )
    return ["--coarse", str(path), "--iterations", "2"]


def test_synthetic(weights, tmp_path, capsys):
    assert main(["evaluate", "synthetic", "--count", "4", "--out", str(tmp_path), *weights]) == OK
    printed = capsys.readouterr().out
    assert "iteration 2" in printed and "identity_pct" in printed and "contraction" in printed
    metrics = json.loads((tmp_path / "synthetic.json").read_text())["metrics"]
    assert metrics["yaw_deg_2"] >= 0 and metrics["identity_pct_2"] <= 100


def test_heads(weights, tmp_path, capsys):
    argv = ["evaluate", "heads", "--heads", MODEL, "--count", "4", "--profiles", "2"]
    assert main([*argv, "--rows", "--out", str(tmp_path), *weights]) == OK
    assert "mean face, true landmarks" in capsys.readouterr().out
    content = json.loads((tmp_path / "heads.json").read_text())
    assert len(content["rows"]["iteration 2"]["depth"]) == 6
    assert content["rows"]["flat plane"]["yaw"] == [None] * 6
    assert content["seed"] == 0 and len(content["weights"]["sha256"]) == 64
    assert "NaN" not in (tmp_path / "heads.json").read_text()
    with Image.open(tmp_path / "heads.png") as sheet:
        assert sheet.width > 400


def test_heads_without_the_rows_of_every_picture(weights, tmp_path, capsys):
    argv = ["evaluate", "heads", "--heads", MODEL, "--count", "2", "--profiles", "0"]
    assert main([*argv, "--per-kind", "4", "--out", str(tmp_path), *weights]) == OK
    text = (tmp_path / "heads.json").read_text()
    content = json.loads(text)
    assert "rows" not in content and "views" not in content
    assert content["within_45_degrees"]["iteration 2"]["depth"] > 0
    kind = content["kinds"]["whole"]
    assert np.shape(kind["true"]) == np.shape(kind["estimated"]) == (4, 3)
    assert len(text.splitlines()) < 150  # angles of all heads of a kind stand on a line


def test_results_are_compact():
    row = {"method": "ours", "normals": 12.829286088748853, "gain": float("nan")}
    value = {"name": "a", "empty": {}, "rows": [row] * 3, "maps": [[1 / 3] * 30, [2.0] * 30]}
    text = compact_json(value)
    lines = text.splitlines()
    assert '  {"method": "ours", "normals": 12.8293, "gain": null},' in lines
    assert len(lines) == 10 and text.endswith("}\n")
    expected = dict(row, normals=12.8293, gain=None)
    assert json.loads(text)["rows"] == [expected] * 3
    assert json.loads(text)["maps"] == [[0.333333] * 30, [2.0] * 30]


def test_photos(weights, tmp_path, capsys):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(photographs.astronaut()).save(folder / name)
    out = tmp_path / "out"
    argv = ["evaluate", "photos", str(folder), "--count", "2", "--out", str(out), *weights]
    assert main(argv) == OK
    assert "faces found: 2 of 2" in capsys.readouterr().out
    content = json.loads((out / "photos.json").read_text())
    assert len(content["photos"]) == 2 and content["failed"] == {}
    assert (out / "photos.png").is_file()


def test_errors_are_one_line(weights, tmp_path, capsys):
    argv = ["evaluate", "heads", "--heads", str(tmp_path / "none.npz"), *weights]
    assert main(argv) == FAILED
    assert main(["evaluate", "photos", str(tmp_path), *weights]) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "none.npz" in lines[0] and "no image" in lines[1]
