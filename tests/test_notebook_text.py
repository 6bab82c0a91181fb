"""The chapters are texts with code, not code with remarks: enough words for each line."""

import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("0*.py"))
LEAST, MOST = 7, 10
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)
ADDRESS = re.compile(r"\]\([^)]*\)|<[^>]*>")


def words_per_line(path: Path) -> tuple[int, int]:
    """Words of text, each formula as one; lines of code, without comments and blanks."""
    words = lines = 0
    for cell in jupytext.read(path, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            text = ADDRESS.sub(" ", FORMULA.sub(" formula ", cell.source))
            words += sum(any(c.isalpha() for c in word) for word in text.split())
        else:
            code = (line.strip() for line in cell.source.splitlines())
            lines += sum(bool(line) and not line.startswith("#") for line in code)
    return words, lines


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_explains_its_code(path: Path) -> None:
    words, lines = words_per_line(path)
    assert LEAST <= words / lines <= MOST, f"{words} words, {lines} lines: {words / lines:.1f}"


def test_words_and_lines_are_counted_as_said(tmp_path: Path) -> None:
    text = "# %% [markdown]\n# Two words $a + b$ and [a link](https://x.y/z).\n#\n# - 3\n\n"
    code = "# %%\n# a comment\nx = 1\n\n### BEGIN SOLUTION\ny = [\n    2,\n]  # three lines\n"
    (tmp_path / "a.py").write_text(text + code)
    assert words_per_line(tmp_path / "a.py") == (6, 4)


if __name__ == "__main__":
    for chapter in CHAPTERS:
        words, lines = words_per_line(chapter)
        print(f"{chapter.stem:36}{words:6} words{lines:5} lines{words / lines:6.1f}")
