"""Badges and cells that open the chapters in Colab and Binder, for a repository that is public.

    python tools/badges.py --repository OWNER/NAME    write them, with this address on GitHub
    python tools/badges.py                            once more, with the address that is known

The address has one home, `Repository` in `[project.urls]` of pyproject.toml; this tool sets it, and
`repository-code` in CITATION.cff. Then the README gets a row of badges, and each chapter a line of
them under its title and a first cell that installs the package if it runs in Colab. A second run
replaces what the first one wrote. Without a public address there are no badges, since they would
lead nowhere.
"""

import argparse
import re
import sys
from pathlib import Path
from urllib.parse import quote

from build_notebooks import build

ROOT = Path(__file__).resolve().parents[1]
HOST = "https://github.com/"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
URLS = re.compile(r'^\[project\.urls\]\nRepository = "(?P<address>[^"]*)"\n\n', re.MULTILINE)
CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)
ROW = re.compile(r"^<!-- badges -->\n.*?^<!-- end of the badges -->\n\n", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^# \[!\[Open in Colab\].*\n#\n", re.MULTILINE)
CELL = re.compile(r'^# %% tags=\["colab"\]\n.*?(?=^# %%)', re.MULTILINE | re.DOTALL)
INSTALL = """\
# %% tags=["colab"]
import sys

if "google.colab" in sys.modules:  # elsewhere the package is there
    import subprocess

    what = "facerecon[notebooks] @ git+{address}@{branch}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", what], check=True)

"""


def badges(repository: str, branch: str, notebook: str) -> str:
    """Markdown of the two badges of a notebook, a path within the repository."""
    colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/{notebook}"
    binder = f"https://mybinder.org/v2/gh/{repository}/{branch}?labpath={quote(notebook, safe='')}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def known_repository(project: str) -> str | None:
    """OWNER/NAME from the text of pyproject.toml; None where it names no address on GitHub."""
    found = URLS.search(project)
    return found["address"].removeprefix(HOST) if found else None


def chapter(source: str, repository: str, branch: str, notebook: str) -> str:
    """A notebook's source with the badges below its title and the cell for Colab.

    Raises:
        ValueError: it does not begin with a title.
    """
    source = CELL.sub("", LINE.sub("", source))
    start = re.match(r"# %% \[markdown\]\n# # .+\n#\n", source)
    if not start:
        raise ValueError("does not begin with a Markdown cell and its title")
    line = f"# {badges(repository, branch, notebook)}\n#\n"
    before, mark, after = source[start.end() :].partition("\n# %%")
    install = INSTALL.format(address=HOST + repository, branch=branch)
    return f"{start[0]}{line}{before}\n{install}{mark[1:]}{after}"


def written(root: Path, repository: str, branch: str) -> dict[Path, str]:
    """The new text of every file that changes.

    Raises:
        ValueError: a file does not look as expected; it names the file.
    """
    texts = {}

    def change(name: str, pattern: re.Pattern[str], before: str, new: str) -> None:
        """Put `new` before a text, in the place of what was there."""
        text = pattern.sub("", (root / name).read_text("utf-8"))
        if before not in text:
            raise ValueError(f"{name}: has no '{before.strip()}'")
        texts[root / name] = text.replace(before, new + before, 1)

    address = HOST + repository
    urls = f'[project.urls]\nRepository = "{address}"\n\n'
    change("pyproject.toml", URLS, "[project.scripts]\n", urls)
    change("CITATION.cff", CITED, "license: ", f"repository-code: {address}\n")
    row = f"<!-- badges -->\n{badges(repository, branch, 'notebooks/index.ipynb')}\n"
    change("README.md", ROW, "![Two photographs", f"{row}<!-- end of the badges -->\n\n")
    for path in [*sorted((root / "notebooks").glob("0*.py")), root / "notebooks/index.py"]:
        notebook = path.with_suffix(".ipynb")
        name = notebook.relative_to(root).as_posix()
        try:
            source = chapter(path.read_text("utf-8"), repository, branch, name)
        except ValueError as error:
            raise ValueError(f"{path.relative_to(root)}: {error}") from None
        texts |= {path: source, notebook: build(source)}
    return {path: text for path, text in texts.items() if text != path.read_text("utf-8")}


def main(arguments: list[str] | None = None) -> int:
    """Write the badges; returns 1 if a file does not look as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", help="OWNER/NAME on GitHub; default: pyproject.toml's")
    parser.add_argument("--branch", default="main", help="that the badges open (default: main)")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout; default: this one")
    args = parser.parse_args(arguments)
    project = (args.root / "pyproject.toml").read_text("utf-8")
    repository = args.repository or known_repository(project)
    if repository is None:
        parser.error("pyproject.toml names no repository: give --repository OWNER/NAME")
    if not NAME.fullmatch(repository):
        parser.error(f"{repository!r} is not OWNER/NAME, such as jane/facerecon")
    try:
        texts = written(args.root, repository, args.branch)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(text, "utf-8", newline="\n")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
