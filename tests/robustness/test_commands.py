"""Commands that are killed, that run out of disk, that may not write, and two on one folder.

`kills.py` says which commands, and does the same with more kills: `--kills 20` (half an hour).
"""

import os
import sys
from pathlib import Path

import pytest

from facerecon.cli import main
from facerecon.commands.outcome import FAILED

sys.path.insert(0, str(Path(__file__).parent))
from kills import WORKS, disturbed, finish, make_inputs, start

KILLS = int(os.environ.get("FACERECON_KILLS", "2"))
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL on this system")
SHORT = ("data", "train", "scans", "reproduce")
LARGEST = 2_000  # bytes of a file on the "full" disk


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The inputs of the commands."""
    folder = tmp_path_factory.mktemp("given")
    make_inputs(folder, ["reconstruct", "scans"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_killed_and_started_again_comes_to_the_same_end(name, given, tmp_path):
    reports = list(disturbed(WORKS[name], given, tmp_path, KILLS, seed=2))
    assert [report["differ"] for report in reports] == [[]] * len(reports)
    if not any(report["kills"] for report in reports):
        pytest.skip("all kills came too late to tell anything, on a machine with other work")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHORT, "reconstruct"])
def test_a_full_disk_is_one_line_and_nothing_half_written(name, given, tmp_path):
    """The limit is on each file, which a process meets as it meets a full disk: in a write."""
    out = tmp_path / "out"
    process = start(WORKS[name].arguments(given, out), LARGEST)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == FAILED, errors
    lines = [line for line in errors.splitlines() if "IPKernelApp" not in line]
    assert len(lines) == {"reproduce": 2, "reconstruct": 4}.get(name, 1), errors  # and a sum
    assert "too large" in lines[0], errors
    left = [path for path in out.rglob("*") if path.is_file() and path.stat().st_size >= LARGEST]
    assert not [path for path in left if path.suffix not in (".png", ".ipynb")], left
    assert not list(out.rglob("*.tmp"))
    finish(start(WORKS[name].arguments(given, out)))
    assert WORKS[name].content(out)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_one_line(
    name, kind, tmp_path, capsys, monkeypatch, given
):
    place = tmp_path / "place"
    if kind == "below a file":
        place.write_text("mine")
    else:
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only for root")
        place.mkdir(mode=0o500)
    monkeypatch.setenv("FACERECON_ROOT", str(Path(__file__).parents[2]))
    arguments = WORKS[name].arguments(given, place / "out")
    arguments = [word.replace("tiny", "quick") for word in arguments]
    assert main(arguments) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (2 if name == "reproduce" else 1), lines
    assert str(place / "out") in lines[0] and "cannot be written" in lines[0]
    assert place.is_dir() or place.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_two_processes_on_one_folder(name, given, tmp_path):
    """Both may do the work, or one is told that the other is at it; the files are those of one."""
    work = WORKS[name]
    finish(start(work.arguments(given, tmp_path / "alone")))
    pair = [start(work.arguments(given, tmp_path / "both")) for _ in range(2)]
    ends = [process.communicate(timeout=300)[1] for process in pair]
    codes = [process.returncode for process in pair]
    assert 0 in codes and set(codes) <= {0, FAILED}, ends
    for code, said in zip(codes, ends, strict=True):
        assert code == 0 or "another process is at work there" in said
    if name in ("data", "scans"):
        assert codes == [0, 0], ends
    assert work.content(tmp_path / "both") == work.content(tmp_path / "alone")
