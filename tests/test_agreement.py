"""Two runs of an item: tolerances, what is said about what exceeds them, and the exit code."""

import io
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import pytest

from facerecon.repro import ITEMS, Recorder, compare, count, counter_of, reproduce, run
from facerecon.repro import items as items_module
from facerecon.repro.agreement import DEFAULT, TOLERANCES
from facerecon.repro.progress import DRAFT, STEPS, VARIABLE, Watch, state_of

ROOT = Path(__file__).resolve().parents[1]


def pair(folder: Path, old: dict, new: dict, item: str = "fig_02"):
    for name, values in (("old", old), ("new", new)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "result.json").write_text(json.dumps({"values": values, "weights": {}}))
    return compare(item, folder / "new", folder / "old")


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        (1.0, 1.0 + 0.9 * DEFAULT, True),
        (1.0, 1.02, False),
        (-1.0, 1.0, False),
        (0.0, 0.02, False),
        (0.04, 0.03, True),  # one unit of the last digit that was recorded
        (0.04, 0.02, False),
        (0.0, 1.0, False),  # a share that was rounded to one digit is no rounding error
        (0.123456, 0.125456, False),
        (100, 101, False),  # counts
        (100, 100.5, True),
        ("a", "a", True),
        ("a", "b", False),
        (True, False, False),
        (True, 1.0, False),
        ([1.0, 2.0], [1.0, 2.001], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0], [1.0, 2.0], False),
        ([[1.0], [3]], [[1.0], [4]], False),
    ],
)
def test_what_agrees(tmp_path: Path, old: object, new: object, agree: bool) -> None:
    found = pair(tmp_path, {"x": old}, {"x": new})
    assert bool(found.differences) != agree
    assert ("agree" in str(found)) == agree


def test_differences_are_named_with_both_values_and_their_size(tmp_path: Path) -> None:
    old = {"same": 1, "gone": 2.0, "depth_mm": [4.0, 5.0], "near": 1.0, "faces": 3}
    new = {"same": 1, "depth_mm": [4.0, 6.0], "near": 1.005, "faces": 4, "added": "text"}
    head, *lines = str(pair(tmp_path, old, new)).splitlines()
    assert head == "fig_02: 4 of 7 values DIFFER"
    assert [line.strip() for line in lines] == [
        "gone: 2 -> (none)",
        "added: (none) -> text",
        "depth_mm[1]: 5 -> 6, 16.67% (allowed 1.00%)",
        "faces: 3 -> 4, 25.00% (must be equal)",
    ]
    del old["gone"], new["added"]
    old |= {"depth_mm": [4.0, 6.0], "faces": 4}
    agreed = str(pair(tmp_path, old, new))
    assert agreed == "fig_02: 5 values agree, the largest difference is 0.5 %, of near"


def test_tolerances_of_an_item_are_used(tmp_path: Path) -> None:
    values = {"small/yaw_deg": [1.0]}, {"small/yaw_deg": [1.1]}
    assert not pair(tmp_path, *values, "coarsenet").differences
    assert pair(tmp_path, *values, "fig_02").differences


def test_other_weights_data_and_presets_are_said(tmp_path: Path) -> None:
    for name, preset, digest in (("old", "quick", "a"), ("new", "full", "b")):
        (tmp_path / name).mkdir()
        record = {
            "values": {"x": 1},
            "preset": preset,
            "weights": {"coarsenet": {"sha256": digest}},
        }
        (tmp_path / name / "result.json").write_text(json.dumps(record))
    said = str(compare("fig_02", tmp_path / "new", tmp_path / "old"))
    assert (
        said == "fig_02: 1 values agree exactly [preset: quick -> full; other weights: coarsenet]"
    )


def test_a_missing_record_is_a_difference(tmp_path: Path) -> None:
    Recorder(tmp_path / "old", preset="quick", seed=0)("x", 1)
    found = compare("fig_02", tmp_path / "new", tmp_path / "old")
    assert str(tmp_path / "new") in str(found) and found.differences


@pytest.mark.parametrize("item", TOLERANCES)
def test_every_tolerance_is_of_a_value_that_is_recorded(item: str) -> None:
    assert item in ITEMS
    values = json.loads((ROOT / "figures" / item / "result.json").read_text())["values"]
    for pattern, size in TOLERANCES[item].items():
        assert any(fnmatchcase(name, pattern) for name in values), pattern
        assert DEFAULT <= size < 1


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one notebook that records its parameter."""
    for module in (items_module, run):
        monkeypatch.setattr(module, "ITEMS", {"fig_02": "one"})
    monkeypatch.setenv("FACERECON_ROOT", str(tmp_path))
    source = (
        "from facerecon import repro\n"
        'unit = list(repro.count("abc", 3, "letters"))\n'
        "record = repro.Recorder(output_dir, preset, 0)\n"
        'record("error_mm", error)\nrecord("faces", faces)'
    )
    first = 'preset = "quick"\noutput_dir = "runs"\nerror = 1.0\nfaces = 3'
    cells = [nbformat.v4.new_code_cell(first, metadata={"tags": ["parameters"]})]
    notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks/one.ipynb")
    return tmp_path


@pytest.mark.slow
def test_the_exit_code_follows_the_tolerances(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = clone / "first", clone / "second"
    assert reproduce(["fig_02"], out=first) == 0
    for error, faces, code in (("1.004", "3", 0), ("1.5", "3", 1), ("1.0", "4", 1)):
        given = {"error": error, "faces": faces}
        assert reproduce(["fig_02"], "quick", given, second, against=first) == code
    printed = capsys.readouterr()
    assert "fig_02: 2 values agree, the largest difference is 0.4 %, of error_mm" in printed.out
    assert "error_mm: 1 -> 1.5, 33.33% (allowed 1.00%)" in printed.out
    assert "faces: 3 -> 4, 25.00% (must be equal)" in printed.out
    assert not [path for path in (first / "fig_02").iterdir() if path.name.startswith(".f")]
    assert "\r" not in printed.err  # no terminal, no progress
    assert VARIABLE not in os.environ


def draft(folder: Path, *cells: dict, name: str = DRAFT) -> None:
    folder.mkdir(exist_ok=True)
    code = [{"cell_type": "code", "metadata": {"papermill": cell}} for cell in cells]
    text = {"cell_type": "markdown", "metadata": {}}
    (folder / name).write_text(json.dumps({"cells": [text, *code]}))


def test_progress_names_cells_steps_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_of("table_01", tmp_path, []) == ""  # does not run
    done, waiting = {"status": "completed", "duration": 10.0}, {"status": "pending"}
    draft(tmp_path, done, waiting, waiting)
    assert state_of("table_01", tmp_path, []) == "table_01: cell 2 of 3"
    assert state_of("table_01", tmp_path, [5.0, 50.0, 100.0]).endswith("about 2 min left")
    assert state_of("table_01", tmp_path, [10.0, 50.0, 100.0]).endswith("about 2 min left")
    assert state_of("table_01", tmp_path, [10.0, 20.0, 5.0]).endswith("about 25 s left")
    assert state_of("table_01", tmp_path, [1.0, 2.0]) == "table_01: cell 2 of 3"  # another notebook

    monkeypatch.setenv(VARIABLE, str(tmp_path / STEPS))
    scans = count(range(3), 3, "scans")
    next(scans), next(scans)
    assert "cell 2 of 3, 2 of 3 scans, about " in state_of("table_01", tmp_path, [])
    list(scans)
    assert state_of("table_01", tmp_path, []) == "table_01: cell 2 of 3"
    (tmp_path / STEPS).write_text('{"done": 1, "tot')  # while it is being written
    assert state_of("table_01", tmp_path, []) == "table_01: cell 2 of 3"


def test_counting_outside_of_reproduce_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert list(count("ab", 2, "letters")) == ["a", "b"]
    counter_of("scans")(1, 2)


class Screen(io.StringIO):
    """A stream that says it is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_the_line_is_on_a_terminal_only_and_is_taken_away(tmp_path: Path, terminal: bool) -> None:
    draft(tmp_path, {"status": "running"})
    screen = Screen(terminal)
    with Watch({"fig_02": tmp_path}, screen, every=0.01) as watch:
        while terminal and "cell 1 of 1" not in screen.getvalue():
            pass
        with watch.silent():
            assert screen.getvalue().endswith("\r\x1b[K" if terminal else "")
    assert bool(screen.getvalue()) == terminal
    assert screen.getvalue().endswith("\r\x1b[K" if terminal else "")
