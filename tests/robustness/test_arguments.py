"""Arguments of a wrong kind: accepted where their meaning is plain, else one clear line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facerecon.backends.devices import DeviceError, devices, find_device
from facerecon.cli import main
from facerecon.commands.outcome import FAILED
from facerecon.scans.run import evaluate_scans

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ["'200'", "None", "[200]", "200.5", "nan", "inf", "True", "numpy.arange(2)", "0", "-1"]
BOXES = [
    "(nan, 1, 2, 2)", "(1, 1, inf, 3)", "(1, 2, 3)", "(1, 2, 3, 4, 5)", "'abcd'", "(1, 2, 'x', 4)",
    "7", "(0, 0, 0, 5)", "(0, 0, -5, -5)", "Box(0, 0, nan, 5)", "numpy.zeros((2, 2))",
]  # fmt: skip
OUTCOMES = """
import json, sys
import numpy
from numpy import inf, nan
from facerecon import Box, Reconstructor, crop
made = Reconstructor.from_pretrained
photo = numpy.zeros((32, 32, 3), numpy.float32)
outcomes = {}
for call in json.loads(sys.argv[1]):
    try:
        outcomes[call] = repr(eval(call))
    except Exception as error:
        outcomes[call] = f"{type(error).__name__}: {error}"
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outcome():
    """What calls return or raise in a plain interpreter: here, the tests' type checks come first.

    "RESULT", or "ERROR: message", by call.
    """
    calls = ["made(size=200.0).size", "made(size=numpy.int64(400)).size"]
    calls += ["made(iterations=2.0).iterations", "crop(photo, (0, 0, 9, 9), 4.0)[0].shape"]
    for value in NUMBERS:
        calls += [f"made({name}={value})" for name in ("size", "iterations")]
        calls.append(f"crop(photo, (0, 0, 9, 9), {value})")
    calls += [f"made()(photo, {box})" for box in BOXES]
    done = subprocess.run(
        [sys.executable, "-c", OUTCOMES, json.dumps(calls)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_whole_numbers_of_any_kind(outcome):
    assert outcome["made(size=200.0).size"] == "200"
    assert outcome["made(size=numpy.int64(400)).size"] == "400"
    assert outcome["made(iterations=2.0).iterations"] == "2"
    assert outcome["crop(photo, (0, 0, 9, 9), 4.0)[0].shape"] == "(4, 4, 3)"


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_of_another_kind(outcome, value):
    for name in ("size", "iterations"):
        said = outcome[f"made({name}={value})"]
        assert said.startswith(f"ValueError: {name} must be ") and len(said.splitlines()) == 1
    assert outcome[f"crop(photo, (0, 0, 9, 9), {value})"].startswith("ValueError: size must be ")


@pytest.mark.parametrize("box", BOXES)
def test_boxes_that_are_none(outcome, box):
    said = outcome[f"made()(photo, {box})"]
    assert said.startswith("ValueError: box ") and len(said.splitlines()) == 1
    assert "expected four finite numbers" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:3", torch.device("cuda")])
def test_no_gpu_is_one_line_that_says_what_there_is(name):
    with pytest.raises(DeviceError) as caught:
        find_device(name)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert f"device '{name}'" in message and "CUDA" in message and "there is: cpu" in message


@pytest.mark.parametrize("name", ["warp", "meta", "cpu:x", "", "cuda:99"])
def test_devices_that_are_nowhere(name):
    with pytest.raises(DeviceError, match="there is: cpu"):
        find_device(name)


def test_devices_that_are_here():
    for name in devices():
        assert find_device(name) == torch.device(name)


@pytest.mark.parametrize("command", ["reconstruct", "train", "synthetic", "scans"])
def test_every_command_checks_the_device(command, tmp_path, capsys):
    out = str(tmp_path / "out")
    argv = {
        "reconstruct": ["reconstruct", "a.jpg", "--out", out],
        "train": ["train", "coarse", "--run", out],
        "synthetic": ["evaluate", "synthetic", "--out", out],
        "scans": ["evaluate", "scans", str(tmp_path), "--out", out],
    }[command]
    assert main([*argv, "--device", "cuda:99"]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert "device 'cuda:99'" in line
    assert not list(tmp_path.iterdir())


def test_a_folder_of_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        evaluate_scans(tmp_path, tmp_path / "file" / "out")
