"""Work that is killed, or that runs out of disk, and is started again."""

import errno
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data as photographs

from facerecon.cli import main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands.outcome import FAILED, OK
from facerecon.pipeline import Reconstructor
from facerecon.weights import ModelCard, save_weights

CARD = ModelCard("coarse", "quick", "none", 0, 0, 0.0, "unknown", {}, {})


class Killed(BaseException):
    """Stands for the end of the process: no handler of errors sees it."""


@pytest.fixture(scope="module")
def command(tmp_path_factory, model):
    """The arguments but for the output folder: one photograph, an untrained network."""
    folder = tmp_path_factory.mktemp("input")
    torch.manual_seed(0)
    weights = folder / "coarse.safetensors"
    network = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0))
    save_weights(weights, network.eval(), CARD)
    photo = folder / "g.png"
    Image.fromarray(photographs.astronaut()[:256, 96:352]).save(photo)
    options = ["--formats", "obj", "--coarse", str(weights), "--no-refine"]
    return ["reconstruct", str(photo), "--box", "81", "68", "93", "93", *options]


@pytest.fixture(autouse=True)
def one_reconstruction(monkeypatch, result):
    """What is tested is the files: the face is reconstructed once, its preview is no picture."""
    monkeypatch.setattr(Reconstructor, "__call__", lambda *arguments, **options: result)
    monkeypatch.setattr("facerecon.views.viz.preview", lambda face: None)
    monkeypatch.setattr("facerecon.views.viz.figure_png", lambda figure: b"picture")


@pytest.fixture(scope="module")
def result(command):
    box = tuple(map(float, command[3:7]))
    weights = command[command.index("--coarse") + 1]
    return Reconstructor.from_pretrained(weights)(command[1], box, refine=False)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".facerecon-")  # of a killed writer
    }


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_each_file_and_started_again_gives_the_same(
    tmp_path, command, monkeypatch, before
):
    replace = os.replace
    assert main([*command, "--out", str(tmp_path / "whole")]) == OK
    expected = files(tmp_path / "whole")
    kills = 0
    while True:
        out, left = tmp_path / str(kills), kills

        def dying(source, target):
            nonlocal left
            if not before:
                replace(source, target)
            if left == 0:
                raise Killed
            left -= 1
            if before:
                replace(source, target)

        monkeypatch.setattr("facerecon.files.os.replace", dying)
        try:
            main([*command, "--out", str(out)])
        except Killed:
            kills += 1
        else:
            break
        finally:
            monkeypatch.setattr("facerecon.files.os.replace", replace)
        for content in files(out).items():
            assert content in expected.items() or content[0].startswith(".facerecon")
        assert main([*command, "--out", str(out)]) == OK
        assert files(out) == expected
    assert kills >= len(expected)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, command, monkeypatch, capsys):
    full, write = tmp_path / "full", Path.write_bytes

    def no_space(path, content):
        if "depth" in path.name or len(content) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", no_space)
    assert main([*command, "--out", str(full)]) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no space left" in lines[0]
    monkeypatch.setattr(Path, "write_bytes", write)
    kept = set(files(full))
    assert main([*command, "--out", str(full)]) == OK
    assert kept <= set(files(full))
    assert main([*command, "--out", str(tmp_path / "whole")]) == OK
    assert files(full) == files(tmp_path / "whole")
