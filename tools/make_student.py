"""Make the students' notebooks: the chapters without the solutions of their exercises.

    python tools/make_student.py --out student

What stands between `### BEGIN SOLUTION` and `### END SOLUTION` (nbgrader's marks) becomes
`raise NotImplementedError`. The check after each exercise stays: it says that the exercise is not
solved yet, what is wrong with an answer, or that it is right. The learning path is copied as it is.
"""

import argparse
import re
import sys
from pathlib import Path

from build_notebooks import FOLDER, build

SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
STUB = "{indent}# your code here\n{indent}raise NotImplementedError\n"


def cut(source: str) -> tuple[str, int]:
    """A source without its solutions, and how many there were.

    Raises:
        ValueError: a mark without its partner.
    """
    text, count = SOLUTION.subn(lambda match: STUB.format(indent=match["indent"]), source)
    if re.search(r"### (BEGIN|END) SOLUTION", text):
        raise ValueError("a mark '### BEGIN SOLUTION' or '### END SOLUTION' has no partner")
    return text, count


def main(arguments: list[str] | None = None) -> int:
    """Write every chapter's .py and .ipynb; returns 1 if a chapter has no solution to cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: notebooks/")
    args = parser.parse_args(arguments)
    if args.out.resolve() == args.folder.resolve():
        parser.error("--out must not be the folder of the full notebooks")
    sources = sorted(args.folder.glob("*.py"))
    if not sources:
        print(f"{args.folder}: no notebook sources (*.py)", file=sys.stderr)
        return 1
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
