"""Strict notebook runs, and the record of what they measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.repro import (
    ITEMS,
    Recorder,
    ReproductionError,
    RequestError,
    cache_folder,
    check_parameters,
    find_notebook,
    read_targets,
    reproduce,
    run,
    target,
)
from facerecon.repro import items as items_module
from facerecon.weights import ModelCard, save_weights

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = 'preset = "quick"\nseed = 0\nrate = 0.5\noutput_dir = "runs"\nphotos = []'


def write_notebook(path: Path, *cells: str, tagged: bool = True) -> Path:
    tags = ["parameters"] if tagged else []
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": tags})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two notebooks, of which the first fails."""
    known = {"first": "01_first", "second": "02_second"}
    for module in (items_module, run):
        monkeypatch.setattr(module, "ITEMS", known)
    monkeypatch.setenv("FACERECON_ROOT", str(tmp_path))
    write_notebook(tmp_path / "notebooks/01_first.ipynb", "value = {}['missing']")
    write_notebook(
        tmp_path / "notebooks/02_second.ipynb",
        "import json, pathlib\n"
        "values = [preset, seed, rate, photos]\n"
        "pathlib.Path(output_dir, 'seen.json').write_text(json.dumps(values))",
    )
    return tmp_path


@pytest.mark.slow
def test_a_failed_item_is_kept_and_does_not_stop_the_next(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clone / "figures"
    code = reproduce([], "full", {"seed": "7", "rate": 2, "photos": "a.jpg, b.jpg"}, out)
    assert code == 1

    seen = json.loads((out / "second/seen.json").read_text())
    assert seen == ["full", 7, 2.0, ["a.jpg", "b.jpg"]]
    done = nbformat.read(out / "second/notebook.ipynb", 4)
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")

    failed = nbformat.read(out / "first/notebook.ipynb", 4)
    errors = [o for c in failed.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert [error.ename for error in errors] == ["KeyError"]
    printed = capsys.readouterr()
    assert "second: done" in printed.out
    assert "first: FAILED" in printed.err and "KeyError: 'missing'" in printed.err
    assert str(out / "first/notebook.ipynb") in printed.err

    assert reproduce(["second"], out=out) == 0
    assert json.loads((out / "second/seen.json").read_text()) == ["quick", 0, 0.5, []]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('error = 2.5\nassert error < 1, f"{error} mm, not below 1"', "2.5 mm, not below 1"),
        ("error = 2.5\nassert error < 1  # mm", "assert error < 1 # mm"),  # no message
    ],
)
def test_one_line_names_item_cell_and_message(
    clone: Path, capfd: pytest.CaptureFixture[str], cell: str, said: str
) -> None:
    write_notebook(clone / "notebooks/01_first.ipynb", "x = 1", cell)
    assert reproduce(["first"], out=clone / "figures") == 1
    lines = capfd.readouterr().err.splitlines()  # the kernel's, too
    assert not [line for line in lines if "IPKernelApp" in line]
    (line,) = [line for line in lines if "FAILED" in line]
    assert f"first: FAILED, cell [4], AssertionError: {said}; see " in line


@pytest.mark.slow
def test_what_is_unchanged_is_skipped(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = clone / "a.jpg"
    photo.write_bytes(b"one")
    given, out = {"photos": str(photo)}, clone / "figures"

    def runs(**options: object) -> bool:
        seen = out / "second/seen.json"
        seen.unlink(missing_ok=True)
        assert reproduce(["second"], "quick", given, out, **options) == 0
        assert seen.exists() != ("second: unchanged" in capsys.readouterr().out)
        return seen.exists()

    assert runs()
    assert not runs()
    assert runs(force=True)
    photo.write_bytes(b"two")
    assert runs()
    assert not runs()
    (out / "second/result.json").write_text("{}")  # as version control may do
    assert runs()
    notebook = clone / "notebooks/02_second.ipynb"
    notebook.write_text(notebook.read_text().replace("rate = 0.5", "rate = 0.6"))
    assert runs()


@pytest.mark.slow
def test_several_at_a_time(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce([], out=clone / "figures", jobs=2) == 1
    printed = capsys.readouterr()
    assert "second: done" in printed.out and "1 of 2 failed: first" in printed.err
    assert '"ename": "KeyError"' in (clone / "figures/first/notebook.ipynb").read_text()


@pytest.mark.slow
def test_two_runs_agree_whatever_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    first, second = tmp_path / "first", tmp_path / "second"
    for out, against, threads in ((first, None, "2"), (second, first, "1")):
        for name in run.THREADS:
            monkeypatch.setenv(name, threads)
        assert reproduce(["fig_02"], out=out, against=against) == 0
    assert re.search(r"fig_02: \d+ values agree", capsys.readouterr().out)
    assert len(json.loads((second / "fig_02/result.json").read_text())["values"]) >= 3
    assert list((second / "fig_02").glob("*.jpg"))


@pytest.mark.parametrize(
    ("items", "preset", "parameters", "message"),
    [
        (["third"], "quick", {}, "unknown item 'third'; there are: first, second"),
        (["first"], "fast", {}, "unknown preset 'fast'; there are: quick, full"),
        (["second"], "quick", {"sede": 1}, "no parameter 'sede'; there are: preset, seed"),
        (["second"], "quick", {"seed": "one"}, "seed: 'one' is not of type int"),
        (["second"], "quick", {"seed": True}, "seed: True is not of type int"),
        (["second"], "quick", {"photos": "3"}, "photos: 3 is not of type list"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    clone: Path, items: list[str], preset: str, parameters: dict, message: str
) -> None:
    with pytest.raises(ReproductionError) as error:
        reproduce(items, preset, parameters, clone / "figures")
    assert message in str(error.value)
    assert not (clone / "figures").exists()


def test_nothing_to_compare_with_is_found_before_anything_runs(clone: Path) -> None:
    out, earlier = clone / "figures", clone / "earlier"
    earlier.mkdir()
    with pytest.raises(ReproductionError, match=r"second: holds no result\.json to compare with"):
        reproduce(["second"], out=out, against=earlier)
    with pytest.raises(ReproductionError, match="the results themselves"):
        reproduce(["second"], out=out, against=out)
    with pytest.raises(ReproductionError, match=r"--against .*nowhere: no such folder"):
        reproduce(["second"], out=out, against=clone / "nowhere")
    assert not out.exists()


@pytest.mark.parametrize("name", ["output_dir", "preset", "frgc"])
def test_a_parameter_that_an_argument_sets_is_refused(clone: Path, name: str) -> None:
    with pytest.raises(RequestError, match=f"parameter {name}: give --"):
        reproduce(["second"], "quick", {name: "x"}, clone / "figures", data={"frgc": "y"})


def test_scans_go_to_the_items_that_take_them(clone: Path) -> None:
    with pytest.raises(ReproductionError, match="none of second takes --frgc"):
        reproduce(["second"], out=clone / "figures", data={"frgc": "somewhere"})
    with pytest.raises(ReproductionError, match="jobs must be at least 1"):
        reproduce(["second"], out=clone / "figures", jobs=0)
    plans = run.plan_items(["second"], "quick", {}, {"photos": "a,b"}, clone / "figures")
    assert plans[0].given["photos"] == ["a", "b"]


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "plain.ipynb", tagged=False)
    with pytest.raises(
        ReproductionError, match="tag the cell that sets its parameters 'parameters'"
    ):
        check_parameters(notebook, {"preset": "quick"})


def test_notebooks_are_found_from_inside_the_clone(
    clone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = (clone / "notebooks/02_second.ipynb").resolve()
    assert find_notebook("second") == expected
    monkeypatch.delenv("FACERECON_ROOT")
    monkeypatch.chdir(clone / "notebooks")
    assert find_notebook("second") == expected
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert items_module.find_file("figures/targets.toml") == ROOT / "figures/targets.toml"
    monkeypatch.setattr(items_module, "_own_clone", list)  # as in an installed wheel
    with pytest.raises(ReproductionError, match="set FACERECON_ROOT"):
        find_notebook("second")
    monkeypatch.setenv("FACERECON_ROOT", str(elsewhere))
    with pytest.raises(ReproductionError, match=f"FACERECON_ROOT={elsewhere}"):
        find_notebook("second")


def test_without_papermill_the_message_says_how_to_install_it(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(run, "import_module", refuse)
    with pytest.raises(ReproductionError, match=r'pip install "facerecon\[notebooks\]"'):
        reproduce(["second"], out=clone / "figures")


def test_importing_loads_neither_papermill_nor_torch() -> None:
    """The command line names the items in its help, which should come at once."""
    code = "import sys, facerecon.repro; print({'papermill', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    card = ModelCard("coarse", "quick", "synthetic", 1, 3, 0.0, "abc", {}, {"yaw_deg": 1.5})
    path = tmp_path / "coarsenet.safetensors"
    save_weights(path, CoarseNet(3, CoarseNetConfig(width=8, blocks=(1, 1, 1, 1))), card)
    return path


def test_the_record_holds_values_and_what_they_depend_on(tmp_path: Path, weights: Path) -> None:
    record = Recorder(tmp_path / "new/folder", preset="quick", seed=3, weights=[weights])
    assert not record.path.exists()
    record("error_mm", torch.tensor(1.5))
    record("moves", np.array([3.0, 1.0]))
    record("photos", ["a", "b"])
    record("error_mm", 2)
    result = json.loads(record.path.read_text())
    assert result["values"] == {"error_mm": 2, "moves": [3.0, 1.0], "photos": ["a", "b"]}
    assert (result["preset"], result["seed"], result["device"]) == ("quick", 3, "cpu")
    assert result["packages"]["torch"] == torch.__version__
    assert result["weights"]["coarsenet"]["metrics"] == {"yaw_deg": 1.5}
    assert result["commit"]
    assert [path.name for path in record.path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("value", [float("nan"), torch.tensor(torch.inf), {"a": 1}, None, [{}]])
def test_what_json_cannot_hold_is_refused_and_the_file_stays(tmp_path: Path, value: object) -> None:
    record = Recorder(tmp_path, preset="quick", seed=0)
    record("good", 1)
    with pytest.raises(ValueError, match="bad"):
        record("bad", value)
    assert json.loads(record.path.read_text())["values"] == {"good": 1}
    record("other", 2)
    assert json.loads(record.path.read_text())["values"] == {"good": 1, "other": 2}


def test_every_item_has_a_notebook_in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACERECON_ROOT", raising=False)
    monkeypatch.chdir(Path(__file__).parent)
    assert ITEMS
    for item in ITEMS:
        given = {"preset": "quick", "output_dir": "anywhere"}
        assert check_parameters(find_notebook(item), given) == given


def test_seconds_and_the_outcome_are_kept_apart(tmp_path: Path) -> None:
    record = Recorder(tmp_path, preset="quick", seed=0, data="two faces")
    record("error_mm", 1)
    record.timing("all", 1.23456)
    record.outcome("1 mm")
    result = json.loads(record.path.read_text())
    assert result["values"] == {"error_mm": 1} and result["timings"] == {"all": 1.235}
    assert result["outcome"] == {"ours": "1 mm"}
    assert result["data"] == "two faces"


def test_the_cache_is_the_clones_or_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACERECON_ROOT", raising=False)
    monkeypatch.delenv("FACERECON_CACHE", raising=False)
    monkeypatch.chdir(Path(__file__).parent)
    assert cache_folder() == Path(__file__).parents[1] / "runs" / "cache"
    monkeypatch.setenv("FACERECON_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_targets_hold_the_papers_table_and_all_figures() -> None:
    targets = read_targets(Path(__file__).parents[1] / "figures/targets.toml")
    assert list(targets) == ["table_01", *(f"fig_{number:02}" for number in range(1, 12))]
    assert set(targets) < set(ITEMS)
    table = targets["table_01"]
    assert table.reported.startswith("Ours 3.22 / 6.69, [20] 3.33 / 7.02")
    assert {name: len(row) for name, row in table.rows.items()} == dict.fromkeys(
        ("Ours", "[20]", "[34]", "[47]"), len(table.columns)
    )
    assert min(table.rows.values()) == table.rows["Ours"]
    assert sorted(table.methods.values()) == sorted(table.rows)


@pytest.mark.parametrize("item", ["table_01", *(f"fig_{number:02}" for number in range(1, 12))])
def test_a_notebook_quotes_the_caption_that_the_targets_hold(item: str) -> None:
    root = Path(__file__).parents[1]
    aim = read_targets(root / "figures/targets.toml")[item]
    source = (root / "notebooks" / f"{ITEMS[item]}.py").read_text("utf-8")
    prose = " ".join(source.replace("\n# >", "\n").replace("\n#", "\n").split())
    assert aim.caption and f"“{aim.caption}”" in prose
    assert re.search(rf"\*\*The paper, sections? {re.escape(aim.section)}:\*\*", prose)


def test_a_damaged_targets_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "targets.toml"
    path.write_text("[fig_01]\nhead = 1\n")
    with pytest.raises(ReproductionError, match=r"targets\.toml: cannot be read"):
        read_targets(path)
    monkeypatch.setenv("FACERECON_ROOT", str(Path(__file__).parents[1]))
    with pytest.raises(ReproductionError, match="unknown item 'fig_12'"):
        target("fig_12")
