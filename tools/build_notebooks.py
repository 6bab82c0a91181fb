"""Make the .ipynb of every notebooks/**/*.py (jupytext percent format).

    python tools/build_notebooks.py            write them
    python tools/build_notebooks.py --check    only say which differ from their source

The notebooks hold no outputs, and the same source always gives the same bytes: jupytext would make
new random cell ids each time; here an id is a hash of the cell's place and content.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def build(source: str) -> str:
    """The text of the .ipynb that belongs to a percent-format source.

    Raises:
        ValueError: the source holds no cell.
    """
    cells = jupytext.reads(source, fmt="py:percent").cells
    if not cells:
        raise ValueError("no cells; a percent-format notebook starts each cell with '# %%'")
    for index, cell in enumerate(cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        content = f"{index}\0{cell.cell_type}\0{cell.source}"
        cell.id = hashlib.sha256(content.encode()).hexdigest()[:12]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    notebook.nbformat_minor = 5  # the first with cell ids, whatever a newer nbformat would write
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check every notebook; returns 1 if --check finds one that differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: notebooks/")
    args = parser.parse_args(arguments)
    sources = sorted(args.folder.rglob("*.py"))
    if not sources:
        print(f"{args.folder}: no notebook sources (*.py)", file=sys.stderr)
        return 1
    expected = {path.with_suffix(".ipynb"): build(path.read_text("utf-8")) for path in sources}
    orphans = sorted(_notebooks(args.folder) - set(expected))
    for path in orphans:
        print(f"{path}: has no source {path.stem}.py", file=sys.stderr)
    stale = [path for path, text in expected.items() if _text(path) != text]
    for path in stale:
        if args.check:
            print(f"{path}: differs from its source; run {Path(__file__).name}", file=sys.stderr)
        else:
            path.write_text(expected[path], "utf-8", newline="\n")
            print(f"wrote {path}")
    return 1 if orphans or (args.check and stale) else 0


def _notebooks(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}


def _text(path: Path) -> str | None:
    return path.read_bytes().decode("utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
