"""Grades of the exercises by nbgrader (extra `teaching`), and the course directory for it."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_notebooks import load_tool

ROOT = Path(__file__).resolve().parent.parent
STUDENT = load_tool("make_student")
CHAPTERS = sorted((ROOT / "notebooks").glob("0*.py"))


def test_each_exercise_has_a_solution_cell_and_a_test_cell(tmp_path: Path) -> None:
    assert STUDENT.main(["--out", str(tmp_path), "--nbgrader"]) == 0
    for chapter in CHAPTERS:
        written = tmp_path / "source" / chapter.stem / f"{chapter.stem}.ipynb"
        notebook = nbformat.read(written, 4)
        cells = [c for c in notebook.cells if "nbgrader" in c.metadata]
        assert len(cells) == 2 * chapter.read_text("utf-8").count("### BEGIN SOLUTION") > 0
        ids = [cell.metadata["nbgrader"]["grade_id"] for cell in cells]
        assert len(set(ids)) == len(ids)
        for solution, test in zip(cells[::2], cells[1::2], strict=True):
            marks = solution.metadata["nbgrader"], test.metadata["nbgrader"]
            assert [m["grade_id"].split("-", 1)[1] for m in marks] == 2 * [
                f"{int(chapter.stem[:2])}-{cells.index(solution) // 2 + 1}"
            ]
            assert [(m["solution"], m["grade"], m["locked"]) for m in marks] == [
                (True, False, False), (False, True, True),
            ]  # fmt: skip
            assert test.source.endswith(STUDENT.HIDDEN)
        for link in re.findall(r"\]\((\S+?\.ipynb)", " ".join(c.source for c in notebook.cells)):
            if "paper/" not in link and "index" not in link:
                assert (written.parent / link).is_file(), f"{chapter.stem}: {link}"
    assert not (tmp_path / "source" / "index").exists()


def test_a_course_directory_in_use_stays_as_it_is(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "source" / CHAPTERS[-1].stem
    folder.mkdir(parents=True)
    with pytest.raises(SystemExit):
        STUDENT.main(["--out", str(tmp_path), "--nbgrader"])
    assert f"{folder} exists: choose another" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "source"]


def exercises_alone(chapter: Path) -> str:
    """A chapter's imports and exercises, which need nothing else here."""
    cells = re.split(r"^(?=# %%)", chapter.read_text("utf-8"), flags=re.MULTILINE)
    start = next(i for i, cell in enumerate(cells) if "\n# ## Exercises" in cell)
    stop = next(i for i, cell in enumerate(cells) if "\n# ## What we did not" in cell)
    imports = [cell for cell in cells if 'tags=["imports"]' in cell]
    return "".join(cells[:1] + imports + cells[start:stop])


@pytest.mark.slow
def test_nbgrader_gives_points_for_what_is_solved(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader", reason='needs nbgrader: pip install -e ".[teaching]"')
    name = "04_differentiable_rendering"
    (tmp_path / "notebooks").mkdir()
    source = exercises_alone(ROOT / "notebooks" / f"{name}.py")
    (tmp_path / "notebooks" / f"{name}.py").write_text(source, "utf-8")
    course = tmp_path / "course"
    where = ["--out", str(course), "--folder", str(tmp_path / "notebooks")]
    assert STUDENT.main([*where, "--nbgrader"]) == 0

    def nbgrader(*arguments: str) -> None:
        run = [sys.executable, "-m", "nbgrader", *arguments]
        done = subprocess.run(run, cwd=course, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    # nbgrader calls alembic by its name: as in an environment that is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    nbgrader("generate_assignment", name)
    release = course / "release" / name / f"{name}.ipynb"
    released = nbformat.read(release, 4)
    code = [cell.source for cell in released.cells if cell.cell_type == "code"]
    assert sum("raise NotImplementedError" in cell for cell in code) == 3
    assert not any("SOLUTION" in cell or "HIDDEN" in cell for cell in code)

    full = nbformat.read(course / "source" / name / f"{name}.ipynb", 4)
    solutions = [c.source for c in full.cells if "### BEGIN SOLUTION" in c.source]
    open_cells = [i for i, c in enumerate(released.cells) if "NotImplementedError" in c.source]
    wrong = solutions[0].replace("/ area(a, b, c)", "/ 2")
    for student, answers in {
        "solved": solutions,
        "unsolved": [],
        "partly": [wrong, solutions[1]],
    }.items():
        submission = course / "submitted" / student / name / f"{name}.ipynb"
        submission.parent.mkdir(parents=True)
        shutil.copy(release, submission)
        notebook = nbformat.read(submission, 4)
        for place, answer in zip(open_cells, answers, strict=False):
            notebook.cells[place].source = answer
        nbformat.write(notebook, submission)
    nbgrader("autograde", name)
    nbgrader("export")
    with (course / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    assert scores == {"solved": (3, 3), "unsolved": (0, 3), "partly": (1, 3)}
