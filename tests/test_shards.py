"""Synthetic faces in files: the same bytes always, faults found and mended, batches, training."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from facerecon.cli import main
from facerecon.coarsenet import CoarseNetConfig
from facerecon.commands.outcome import FAILED, OK, USAGE
from facerecon.files import OutputError
from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.shards import (
    BLOCK,
    DatasetError,
    StoredFaces,
    verify_shards,
    write_shards,
)
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.checkpoints import CHECKPOINT, read_checkpoint
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.presets import CoarseTraining, SyntheticConfig

SIZE, COUNT, SHARDS = 48, 70, 3
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(model):
    return SyntheticWorld(model, SyntheticConfig(size=SIZE))


@pytest.fixture(scope="module")
def written(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "set"
    write_shards(folder, world, COUNT, SHARDS, seed=5, quiet=True)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "set"))


def content(folder) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest.pop("commit")  # of the code that wrote it: the work tree may change meanwhile
    return files | {"manifest": json.dumps(manifest).encode()}


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    path.write_bytes(data)


def test_a_face_is_a_function_of_seed_and_index(world, written, tmp_path):
    faces = StoredFaces(written, batch=1)
    for index in (0, 22, 23, 31, 32, 69):  # shards end at 23 and 46, blocks at 32 and 64
        drawn = world.render(BLOCK, world.generator(mixed_seed("data", 5, index // BLOCK)))
        image, r = faces.face(index)
        assert torch.equal(r, drawn.r[index % BLOCK])
        assert (image / 255 - drawn.image[index % BLOCK, 0]).abs().max() <= 0.501 / 255
    write_shards(tmp_path / "other", world, 40, 2, seed=5, quiet=True)
    other = StoredFaces(tmp_path / "other", batch=1)
    for index in (0, 19, 20, 39):
        pairs = zip(faces.face(index), other.face(index), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_seeds_differ_in_the_bits_that_torch_uses():
    seeds = {mixed_seed("data", seed, index) for seed in range(20) for index in range(20)}
    assert len(seeds) == 400 and max(seeds) < 2**32
    assert mixed_seed("data", 1, 2) != mixed_seed("order", 1, 2)


@pytest.mark.slow
def test_a_killed_writer_is_finished_with_the_same_bytes(tmp_path):
    def command(folder):
        options = ["--count", "160", "--shards", "8", "--size", str(SIZE), "--seed", "3", "--quiet"]
        return [sys.executable, "-m", "facerecon", "data", "write", "--out", str(folder), *options]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(command(whole)[3:]) == OK
    process = subprocess.Popen(command(parts))
    second, deadline = parts / "shard_00001.safetensors", time.monotonic() + 120
    while not second.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert second.exists()
    left = parts / ".facerecon-shard_00002.safetensors-1.tmp"
    left.write_bytes(b"left behind")
    os.utime(left, (0, 0))
    assert verify_shards(parts), "it was killed too late to tell anything"
    kept = (parts / "shard_00000.safetensors").stat().st_mtime_ns
    assert main(command(parts)[3:]) == OK
    assert content(parts) == content(whole)
    assert (parts / "shard_00000.safetensors").stat().st_mtime_ns == kept


def test_a_damaged_shard_is_found_and_written_anew(world, copy, written):
    damage(copy / "shard_00001.safetensors")
    (copy / "shard_00002.safetensors").unlink()
    faults = verify_shards(copy)
    assert len(faults) == 2
    assert "shard_00001.safetensors: damaged (its checksum differs)" in faults[0]
    assert "shard_00002.safetensors: not written yet" in faults[1]
    with pytest.raises(DatasetError, match=r"shard_00001.* \(2 of 3 shards are unusable\)"):
        StoredFaces(copy, batch=4)
    write_shards(copy, world, COUNT, SHARDS, seed=5, quiet=True)
    assert content(copy) == content(written)


def test_another_wish_for_the_same_folder_is_refused(world, model, copy, written):
    small = SyntheticWorld(model, SyntheticConfig(size=SIZE + 2))
    for wish, key in (
        ((world, COUNT, SHARDS, 6), "seed 5 instead of 6"),
        ((world, COUNT + 1, SHARDS, 5), "count 70 instead of 71"),
        ((world, COUNT, SHARDS + 1, 5), "shards 3 instead of 4"),
        ((small, COUNT, SHARDS, 5), "config_sha256"),
    ):
        with pytest.raises(DatasetError, match=key):
            write_shards(copy, *wish, quiet=True)
    assert content(copy) == content(written)


def test_a_program_that_renders_other_faces_does_not_go_on(world, copy, monkeypatch):
    original = SyntheticWorld.photographs

    def brighter(*args):
        image, r = original(*args)
        return image + 1 / 255, r

    monkeypatch.setattr(SyntheticWorld, "photographs", brighter)
    with pytest.raises(DatasetError, match="first_block_sha256"):
        write_shards(copy, world, COUNT, SHARDS, seed=5, quiet=True)


def test_a_full_disk_is_one_clear_line(world, tmp_path, monkeypatch, written):
    original = Path.write_bytes

    def full(path, data):
        if "shard_00001" in path.name:
            original(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"no space left.*finished shards stay"):
        write_shards(tmp_path / "set", world, COUNT, SHARDS, seed=5, quiet=True)
    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert names == {"shard_00000.safetensors", "manifest.json"}
    monkeypatch.undo()
    write_shards(tmp_path / "set", world, COUNT, SHARDS, seed=5, quiet=True)
    assert content(tmp_path / "set") == content(written)

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"only 0\.0 GB are free"):
        write_shards(tmp_path / "more", world, COUNT, SHARDS, quiet=True)
    assert not (tmp_path / "more").exists()


def test_folders_that_are_no_data_set(tmp_path, copy, world):
    with pytest.raises(DatasetError, match=r"no such file.*facerecon data write"):
        verify_shards(tmp_path / "nowhere")
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text[:100])
    with pytest.raises(DatasetError, match="damaged; delete the folder"):
        verify_shards(copy)
    manifest.write_text(json.dumps({"format": "something else"}))
    with pytest.raises(DatasetError, match="its format is not facerecon-faces/1"):
        write_shards(copy, world, COUNT, SHARDS, seed=5, quiet=True)
    with pytest.raises(DatasetError, match="3 faces in 4 shards"):
        write_shards(tmp_path / "set2", world, 3, 4, quiet=True)


def test_every_epoch_shows_each_face_once_in_another_order(written):
    faces = StoredFaces(written, batch=16, seed=1)
    stored = torch.stack([faces.face(i)[1] for i in range(COUNT)])
    epochs = []
    for epoch in range(2):
        batches = [faces[epoch * len(faces) + i] for i in range(len(faces))]
        r = torch.cat([r for _, r in batches])
        seen = (r[:, None] == stored[None]).all(2)
        assert (seen.sum(1) == 1).all() and seen.sum(0).max() == 1
        epochs.append(seen.int().argmax(1))
    assert len(faces) == 4 and len(epochs[0]) == 64
    assert not torch.equal(*epochs)
    assert torch.equal(faces[5][1], StoredFaces(written, 16, seed=1)[5][1])
    assert not torch.equal(faces[5][1], StoredFaces(written, 16, seed=2)[5][1])


def test_image_and_truth_belong_together(written, world):
    faces = StoredFaces(written, batch=8, seed=1)
    image, r = faces[3]
    assert image.shape == (8, 1, SIZE, SIZE) and image.dtype == torch.float32
    stored = [faces.face(i) for i in range(COUNT)]
    for one, truth in zip(image, r, strict=True):
        (match,) = [i for i, (_, s) in enumerate(stored) if torch.equal(s, truth)]
        np.testing.assert_array_equal((one[0] * 255).round().numpy(), stored[match][0].numpy())


def test_reader_travels_to_other_processes(written):
    faces = StoredFaces(written, batch=8)
    first = faces[2]  # opens files
    again = pickle.loads(pickle.dumps(faces))[2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_too_few_faces_for_a_batch(written):
    with pytest.raises(DatasetError, match="70 faces do not fill a batch of 71"):
        StoredFaces(written, batch=71)


TINY = CoarseTraining(
    network=CoarseNetConfig(width=4, squeeze=8),
    data=SyntheticConfig(size=64),  # another size than the data set's, which counts
    samples=64,
    images_per_batch=4,
    validation_faces=4,
    validation_every=1000,
)


def test_training_reads_the_shards(model, written):
    task = CoarseTask(model, TINY, CPU, workers=0, data=written)
    batches = iter(task.batches(0))
    (image, r, r_t, maps), second = next(batches)
    assert image.shape == (4, 1, SIZE, SIZE) and maps.shape == (4, 7, SIZE, SIZE)
    assert task.held_out.image.shape[-1] == SIZE
    faces = StoredFaces(written, batch=4, seed=TINY.seed)
    assert torch.equal(r, faces[0][1]) and torch.equal(second[1], faces[1][1])
    assert not torch.equal(r_t, r)
    assert "70 stored synthetic photographs of 48 pixels (seed 5)" in task.data_description


def test_training_from_shards_resumes_bit_identically(model, written, tmp_path):
    def train(folder, minutes=None):
        task = CoarseTask(model, TINY, CPU, workers=0, data=written)
        Run(task, folder, CPU, minutes=minutes, quiet=True).train()
        return read_checkpoint(folder / CHECKPOINT, CPU)

    whole = train(tmp_path / "whole")["networks"]
    assert train(tmp_path / "parts", minutes=0)["samples"] == 32
    parts = train(tmp_path / "parts")["networks"]
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_faces_of_another_model_are_refused(model, written):
    model = deepcopy(model)
    model.mean[0] += 1
    with pytest.raises(DatasetError, match="made with another morphable model"):
        CoarseTask(model, TINY, CPU, workers=0, data=written)


def test_command_line(written, copy, tmp_path, capsys):
    options = ["--preset", "quick", "--samples", "16", "--quiet", "--threads", "1"]
    run = ["--run", str(tmp_path / "run")]
    assert main(["train", "coarse", *options, *run, "--data", str(written)]) == OK
    assert main(["data", "verify", str(copy)]) == OK
    assert "every shard is there" in capsys.readouterr().out
    damage(copy / "shard_00000.safetensors")
    assert main(["data", "verify", str(copy)]) == FAILED
    assert main(["train", "coarse", *options, *run, "--data", str(copy)]) == FAILED
    assert main(["train", "fine", *options, *run, "--data", str(written)]) == USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("shard_00000.safetensors: damaged" in line for line in lines[:2])
    assert "--data is for coarse, not fine" in lines[2]
