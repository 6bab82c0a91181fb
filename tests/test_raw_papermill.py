"""The notebooks under papermill itself: same results, none elsewhere, no misspelt parameter."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from facerecon.repro import RequestError, compare, start
from facerecon.repro.start import check_injected, injected

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/0*.ipynb"), *ROOT.glob("notebooks/paper/*.ipynb")])
OWN = 'preset = "quick"  # or full\nseed = 0\nrate = 0.5\nphotos = []\noutput_dir = "runs/x"'


def papermill(folder: Path, *words: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("FACERECON_ROOT", None)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def everything(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A notebook with parameters that does nothing but start."""
    cells = [nbformat.v4.new_code_cell(OWN, metadata={"tags": ["parameters"]})]
    cells += [
        nbformat.v4.new_code_cell("from facerecon import repro"),
        nbformat.v4.new_code_cell(
            'output = repro.start(output_dir)\n(output / "seed").write_text(str(seed))'
        ),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    path = tmp_path / "small.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_a_misspelt_parameter_fails_and_results_lie_beside_the_output(small: Path) -> None:
    here, there = small.parent / "here", small.parent / "there"
    here.mkdir()
    there.mkdir()
    done = papermill(here, small, there / "out.ipynb", "-p", "sede", 1)
    assert done.returncode != 0
    assert "this notebook has no parameter 'sede'; there are: preset, seed, rate" in done.stderr
    done = papermill(here, small, "../there/out.ipynb", "-p", "seed", 7)
    assert done.returncode == 0, done.stderr
    assert (there / "runs/x/seed").read_text() == "7"
    assert list(here.iterdir()) == []
    done = papermill(here, small, there / "out.ipynb", "-p", "output_dir", "mine")
    assert done.returncode == 0, done.stderr
    assert (here / "mine/seed").read_text() == "0"


@pytest.mark.slow
def test_raw_papermill_gives_what_the_command_gives(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    before = everything(ROOT / "figures")
    notebook = ROOT / "notebooks/paper/fig_02.ipynb"
    done = papermill(here, notebook, there / "out.ipynb", "-p", "preset", "quick")
    assert done.returncode == 0, done.stderr
    assert list(here.iterdir()) == [] and everything(ROOT / "figures") == before
    assert {path.name for path in there.iterdir()} == {"out.ipynb", "runs"}
    agreement = compare("fig_02", there / "runs/fig_02", ROOT / "figures/fig_02")
    if not agreement.notes:  # the weights that the committed result was made with
        assert not agreement.differences, str(agreement)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sede = 1", "no parameter 'sede'"),
        ('seed = "1"', "seed: '1' is not of type int, like 0"),
        ("seed = True", "seed: True is not of type int"),
        ("seed = None", "seed: None is not of type int"),
        ('photos = "a.jpg"', r"photos: 'a.jpg' is not of type list, like \[\]; give -y"),
        ('preset = "fast"', "unknown preset 'fast'; there are: quick, full"),
    ],
)
def test_what_papermill_injects_is_checked(given: str, message: str) -> None:
    cells = ["", OWN, f"# Parameters\n{given}\n", "import os", "start()"]
    with pytest.raises(RequestError, match=message):
        check_injected(*injected(cells))


def test_what_fits_passes() -> None:
    cells = [
        "",
        OWN,
        '# Parameters\nseed = 3\nrate = 1\nphotos = ["a"]\nPAPERMILL_INPUT_PATH = "x"',
    ]
    own, given = injected(cells)
    check_injected(own, given)
    assert given == {"seed": 3, "rate": 1, "photos": ["a"]}
    assert list(own) == ["preset", "seed", "rate", "photos", "output_dir"]
    assert injected(["", OWN, "import os"]) == ({}, {})
    assert injected([]) == ({}, {})


def test_outside_of_a_notebook_the_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start("runs/x") == Path("runs/x") and (tmp_path / "runs/x").is_dir()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_starts_before_it_computes(path: Path) -> None:
    """In the first cell after the imports, but for drawings, which compute nothing."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    after = next(i for i, cell in enumerate(cells) if "imports" in cell.metadata.get("tags", []))
    body = next(c for c in cells[after + 1 :] if not c.source.startswith("concepts.")).source
    assert "repro.start(output_dir)" in body
    assert re.search(
        r"repro\.Recorder\([\s\S]{0,200}?\bdata=", "".join(cell.source for cell in cells)
    )
    names = [
        node for cell in cells for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name) and node.id == "output_dir"
    ]  # fmt: skip
    assert len(names) == 2, "output_dir is set once and used once, by start"
