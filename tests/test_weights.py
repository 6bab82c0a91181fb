"""Weights files: round trip, card, and every way in which a file can be wrong."""

import os
import subprocess

import pytest
import torch
from safetensors.torch import save_file

from facerecon import weights
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.weights import (
    ModelCard,
    WeightsError,
    load_coarsenet,
    load_finenet,
    read_card,
    save_weights,
    write_card,
)

CARD = ModelCard(
    task="coarse",
    preset="quick",
    data="synthetic",
    samples=12,
    seed=3,
    hours=0.1,
    commit="abc",
    config={"seed": 3},
    metrics={"yaw_deg": 4.5},
)


@pytest.fixture
def coarsenet():
    torch.manual_seed(0)
    return CoarseNet(20, CoarseNetConfig(width=4, squeeze=4)).eval()


@pytest.fixture
def finenet():
    torch.manual_seed(0)
    return FineNet(FineNetConfig(width=4, regressor=(8, 4))).eval()


def test_coarsenet_round_trip_in_half_precision(tmp_path, coarsenet):
    path = tmp_path / "deep" / "coarse.safetensors"
    save_weights(path, coarsenet, CARD)
    loaded = load_coarsenet(path)
    assert loaded.config == coarsenet.config and loaded.n_coefficients == 20
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for name, value in coarsenet.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=2e-3, rtol=1e-3)
    assert list(path.parent.iterdir()) == [path]


def test_finenet_round_trip(tmp_path, finenet):
    path = tmp_path / "fine.safetensors"
    save_weights(path, finenet, CARD)
    loaded = load_finenet(path)
    for name, value in finenet.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_card_travels_with_the_weights(tmp_path, coarsenet):
    path = tmp_path / "coarse.safetensors"
    save_weights(path, coarsenet, CARD)
    assert read_card(path)["samples"] == 12
    text = write_card(path).read_text()
    assert "samples seen: 12" in text and "| yaw_deg | 4.5 |" in text


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors: no such weights file"):
        load_coarsenet(tmp_path / "none.safetensors")


def test_corrupt_and_truncated_files(tmp_path, coarsenet):
    path = tmp_path / "coarse.safetensors"
    path.write_bytes(b"\x00" * 50)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_coarsenet(path)
    save_weights(path, coarsenet, CARD)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_coarsenet(path)


def test_other_networks_file(tmp_path, finenet):
    path = tmp_path / "fine.safetensors"
    save_weights(path, finenet, CARD)
    with pytest.raises(WeightsError, match="holds FineNet, expected CoarseNet"):
        load_coarsenet(path)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="no facerecon network"):
        load_finenet(path)


def test_wrong_shapes_and_nan(tmp_path, coarsenet):
    path = tmp_path / "coarse.safetensors"
    coarsenet.regressor.bias.data[0] = float("nan")
    save_weights(path, coarsenet, CARD)
    with pytest.raises(WeightsError, match="NaN"):
        load_coarsenet(path)
    coarsenet.regressor = torch.nn.Linear(4, 4)
    save_weights(path, coarsenet, CARD)
    with pytest.raises(WeightsError, match="do not fit"):
        load_coarsenet(path)


def test_unwritable_folder(tmp_path, coarsenet):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(WeightsError, match="could not be written"):
        save_weights(blocked / "coarse.safetensors", coarsenet, CARD)


def test_an_altered_byte_is_refused(tmp_path, finenet):
    path = tmp_path / "fine.safetensors"
    save_weights(path, finenet, CARD)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # of a weight; the number stays finite
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="altered or damaged; copy the file again"):
        load_finenet(path)


def test_asking_for_the_commit_writes_nothing(tmp_path, monkeypatch):
    """`git describe --dirty` alone refreshes the index of the clone: killed, it leaves a lock."""
    file, git = tmp_path / "src" / "weights.py", ["git", "-C", str(tmp_path)]
    result = tmp_path / "figures.json"
    file.parent.mkdir()
    for each in (file, result):
        each.write_text("x")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, *name, "commit", "-qm", "first"], check=True)
    os.utime(file, (0, 0))
    before = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(weights, "__file__", str(file))
    assert len(weights.commit()) == 12
    assert (tmp_path / ".git" / "index").read_bytes() == before
    result.write_text("y")  # as a run does while it goes on
    assert len(weights.commit()) == 12
    file.write_text("y")
    assert weights.commit().endswith("-dirty")
