"""Make the students' notebooks: the chapters without the solutions of their exercises.

    python tools/make_student.py --out student
    python tools/make_student.py --out course --nbgrader

What stands between `### BEGIN SOLUTION` and `### END SOLUTION` (nbgrader's marks) becomes
`raise NotImplementedError`. The check after each exercise stays: it says that the exercise is not
solved yet, what is wrong with an answer, or that it is right. The learning path is copied as it is.

With `--nbgrader` the solutions stay, in a course directory of nbgrader: each chapter is an
assignment, each exercise a solution cell and a test cell of one point. There
`nbgrader generate_assignment` cuts the solutions.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from build_notebooks import FOLDER, build

SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
STUB = "{indent}# your code here\n{indent}raise NotImplementedError\n"
NUMBER = re.compile(r"\bexercise = Exercise\(\s*\"(\d+\.\d+)\"")
BADGES = re.compile(r"^# \[!\[Open in Colab\].*\n#\n", re.MULTILINE)  # of `tools/badges.py`
LINK = re.compile(r"\]\((\w+)\.ipynb")
# The check of an unsolved exercise raises nothing (Run All goes on), but a grader needs an error.
HIDDEN = """
### BEGIN HIDDEN TESTS
assert exercise.solved, "not solved"
### END HIDDEN TESTS"""
CONFIG = """\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "facerecon"
# Seconds for one cell: those that train or fit need more than the default of 30.
c.ExecutePreprocessor.timeout = 900
c.ClearSolutions.code_stub = {"python": "# your code here\\nraise NotImplementedError"}
"""


def cut(source: str) -> tuple[str, int]:
    """A source without its solutions, and how many there were.

    Raises:
        ValueError: a mark without its partner.
    """
    source = BADGES.sub("", source)  # they open the notebooks with the solutions
    text, count = SOLUTION.subn(lambda match: STUB.format(indent=match["indent"]), source)
    if re.search(r"### (BEGIN|END) SOLUTION", text):
        raise ValueError("a mark '### BEGIN SOLUTION' or '### END SOLUTION' has no partner")
    return text, count


def graded(source: str) -> tuple[str, int]:
    """The .ipynb of a chapter with its solutions and nbgrader's metadata; the number of exercises.

    Raises:
        ValueError: an exercise is not followed by its check.
    """
    notebook = nbformat.reads(build(BADGES.sub("", source)), 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    count = 0
    for cell, check in zip(code, [*code[1:], None], strict=True):
        if "### BEGIN SOLUTION" not in cell.source:
            continue
        number = check and NUMBER.search(check.source)
        if not number:
            first = cell.source.splitlines()[0]
            raise ValueError(f"the next cell after the exercise '{first}' is not its check")
        name = number[1].replace(".", "-")  # nbgrader allows no dot
        common = {"schema_version": 3, "task": False}
        cell.metadata["nbgrader"] = common | {
            "grade": False, "grade_id": f"exercise-{name}", "locked": False, "solution": True,
        }  # fmt: skip
        check.metadata["nbgrader"] = common | {
            "grade": True, "grade_id": f"check-{name}", "locked": True, "solution": False,
            "points": 1,
        }  # fmt: skip
        check.source += HIDDEN
        count += 1
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # each chapter has a folder of its own
            cell.source = LINK.sub(r"](../\1/\1.ipynb", cell.source)
    return nbformat.writes(notebook) + "\n", count


def write_course(sources: list[Path], out: Path) -> None:
    """Write nbgrader's course directory: `source/CHAPTER/CHAPTER.ipynb` and a configuration.

    A configuration that is there stays as it is.

    Raises:
        FileExistsError: a chapter's folder is there; it may hold an instructor's changes.
        ValueError: see `graded`.
    """
    chapters = {}
    for path in sources:
        folder = out / "source" / path.stem
        if folder.exists():
            raise FileExistsError(f"{folder} exists: choose another --out, or remove it")
        try:
            text, count = graded(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if count:  # the learning path has none
            chapters[folder / f"{path.stem}.ipynb"] = text, count
    for path, (text, count) in chapters.items():
        path.parent.mkdir(parents=True)
        path.write_text(text, "utf-8", newline="\n")
        print(f"{path}: {count} exercise{'s' * (count != 1)}")
    config = out / "nbgrader_config.py"
    if not config.exists():
        config.write_text(CONFIG, "utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    """Write every chapter's .py and .ipynb; returns 1 if a chapter has no solution to cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: notebooks/")
    parser.add_argument(
        "--nbgrader", action="store_true", help="write a course directory with the solutions"
    )
    args = parser.parse_args(arguments)
    if args.out.resolve() == args.folder.resolve():
        parser.error("--out must not be the folder of the full notebooks")
    sources = sorted(args.folder.glob("*.py"))
    if not sources:
        print(f"{args.folder}: no notebook sources (*.py)", file=sys.stderr)
        return 1
    if args.nbgrader:
        try:
            write_course(sources, args.out)
        except (FileExistsError, ValueError) as error:
            parser.error(str(error))
        return 0
    empty = []
    for path in sources:
        try:
            text, count = cut(path.read_text("utf-8"))
        except ValueError as error:
            parser.error(f"{path}: {error}")
        if not count and path.stem != "index":
            empty.append(path)
            print(f"{path}: holds no solution", file=sys.stderr)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / path.name).write_text(text, "utf-8", newline="\n")
        (args.out / path.with_suffix(".ipynb").name).write_text(build(text), "utf-8", newline="\n")
        print(f"{args.out / path.stem}.ipynb: {count or 'no'} exercise{'s' * (count != 1)}")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
