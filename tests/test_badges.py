"""Badges for Colab and Binder: written into a copy of the repository that has an address."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jupytext
import pytest
import tomllib
import yaml
from test_notebooks import load_tool

ROOT = Path(__file__).resolve().parents[1]
BADGES, STUDENT = load_tool("badges"), load_tool("make_student")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.[pi][yp]*"):
        shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def texts(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def test_the_address_gets_into_every_place_and_can_change(checkout: Path) -> None:
    assert BADGES.main(["--root", str(checkout), "--repository", "old/name"]) == 0
    assert BADGES.main(["--root", str(checkout), "--repository", "jane/faces"]) == 0
    first = texts(checkout)
    assert "old/name" not in "".join(first.values())
    project = tomllib.loads(first[checkout / "pyproject.toml"])["project"]
    assert project["urls"] == {"Repository": "https://github.com/jane/faces"}
    assert yaml.safe_load(first[checkout / "CITATION.cff"])["repository-code"].endswith("/faces")
    for path in (checkout / "notebooks").glob("*.py"):
        name = f"notebooks/{path.stem}.ipynb"
        for text in (first[path], first[path.with_suffix(".ipynb")]):
            assert f"colab.research.google.com/github/jane/faces/blob/main/{name})" in text
            assert f"gh/jane/faces/main?labpath=notebooks%2F{path.stem}.ipynb)" in text
        title, badge = jupytext.reads(first[path], "py:percent").cells[0].source.split("\n\n")[:2]
        assert title.startswith("# ") and badge.startswith("[![Open in Colab]")
    assert "notebooks/index.ipynb" in first[checkout / "README.md"].split("![Two")[0]
    assert BADGES.main(["--root", str(checkout)]) == 0  # the address is known now
    assert texts(checkout) == first


def test_the_cell_installs_in_colab_alone(checkout: Path, monkeypatch) -> None:
    BADGES.main(["--root", str(checkout), "--repository", "jane/faces", "--branch", "dev"])
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    for path in sorted((checkout / "notebooks").glob("*.py")):
        cells = jupytext.read(path, fmt="py:percent").cells
        code = next(cell for cell in cells if cell.cell_type == "code")
        assert code.metadata["tags"] == ["colab"]  # before anything that needs the package
        exec(code.source, {})
        assert not calls
        with monkeypatch.context() as colab:
            colab.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
            exec(code.source, {})
        (command,) = calls
        what = "facerecon[notebooks] @ git+https://github.com/jane/faces@dev"
        assert command == [sys.executable, "-m", "pip", "install", "-q", what]
        calls.clear()


def test_students_get_no_link_to_the_solutions(checkout: Path) -> None:
    BADGES.main(["--root", str(checkout), "--repository", "jane/faces"])
    folders = "--folder", str(checkout / "notebooks"), "--out", str(checkout / "student")
    assert STUDENT.main(list(folders)) == 0
    made = texts(checkout / "student")
    assert made and not any("Open in Colab" in text for text in made.values())
    assert any("google.colab" in text for text in made.values())


def test_what_has_no_address_or_a_wrong_one_is_refused(checkout: Path, capsys) -> None:
    before = texts(checkout)
    for options in ([], ["--repository", "https://github.com/jane/faces"]):
        with pytest.raises(SystemExit):
            BADGES.main(["--root", str(checkout), *options])
        assert "OWNER/NAME" in capsys.readouterr().err
    (checkout / "notebooks/01_morphable_model_and_projection.py").write_text("x = 1\n")
    assert BADGES.main(["--root", str(checkout), "--repository", "jane/faces"]) == 1
    assert "01_morphable_model_and_projection.py: does not begin" in capsys.readouterr().err
    assert (checkout / "README.md").read_text("utf-8") == before[checkout / "README.md"]
