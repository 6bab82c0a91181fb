"""Slides of the chapters: what is on them, and whether each fits its 1280 x 720 pixels."""

import base64
import io
import shutil
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from test_notebooks import load_tool

pytest.importorskip("nbconvert", reason='needs nbconvert: pip install -e ".[notebooks]"')
ROOT = Path(__file__).resolve().parent.parent
SLIDES = load_tool("make_slides")
LIBRARIES = ROOT / "build" / "slides" / "node_modules"
MADE = sorted((ROOT / "build" / "slides").glob("*.html"))
CHAPTER = ROOT / "notebooks" / "04_differentiable_rendering.ipynb"


def picture(width: int, height: int) -> nbformat.NotebookNode:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(file, "PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    return nbformat.v4.new_output("display_data", data)


def as_if_run() -> nbformat.NotebookNode:
    """Chapter 4 with a stand-in for each figure, wide and high in turn, and for what is printed."""
    notebook = nbformat.read(CHAPTER, 4)
    shapes = [(900, 300), (400, 400), (500, 900)]
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        if "plt.show()" in cell.source:
            cell.outputs = [picture(*shapes[number % 3])]
        elif "print(" in cell.source:
            cell.outputs = [nbformat.v4.new_output("stream", text="12 pixels\n" * 3)]
    return notebook


def kind(cell: nbformat.NotebookNode) -> str:
    return cell.metadata["slideshow"]["slide_type"]


def test_slides_hold_the_chapters_text_and_figures_and_no_exercise() -> None:
    run = as_if_run()
    made = SLIDES.slides(run).cells
    headings = [cell.source.splitlines()[0] for cell in made if kind(cell) == "slide"]
    assert headings[0] == "## A renderer with gradients" and "## 4 Backwards: Eq. (7)" in headings
    assert not any(line[3:].startswith(SLIDES.LAST) for line in headings)
    text = " ".join(" ".join(cell.source.split()) for cell in made)
    sentence = "Forward, each pixel gathers from three vertices. Backward, each pixel scatters"
    assert sentence in text and "Autograd hands us $dE/d\\tilde z$ at each pixel" in text
    assert "def z_buffer" not in text  # too long
    assert "def edges" in text and "### BEGIN SOLUTION" not in text and "assert " not in text
    shown = [cell for cell in made if cell.cell_type == "code" and not cell.source]
    assert len(shown) == sum("plt.show()" in cell.source for cell in run.cells)
    assert kind(made[0]) == "slide"
    together = nbformat.v4.new_markdown_cell(
        "## Summary\n\nIn short.\n\n## Review questions\n\nWhy?"
    )
    (cell,) = SLIDES.slides(nbformat.v4.new_notebook(cells=[together])).cells
    assert cell.source == "## Summary\n\nIn short."


def test_text_is_spread_over_slides_and_none_is_lost() -> None:
    paragraph = (
        "One sentence of a text that is long enough to fill a line of a slide, or two. " * 30
    )
    parts = SLIDES.split(paragraph.strip())
    assert len(parts) > 1 and all(SLIDES.height(part) <= SLIDES.ROOM for part in parts)
    assert " ".join(" ".join(parts).split()) == paragraph.strip()
    rows = [f"| {number} | what it is |" for number in range(40)]
    tables = SLIDES.split("\n".join(["| symbol | meaning |", "|---|---|", *rows]))
    assert len(tables) > 1 and all(SLIDES.height(table) <= SLIDES.ROOM for table in tables)
    assert [row for table in tables for row in table.splitlines()[2:]] == rows
    assert all(table.startswith("| symbol | meaning |\n|---|---|\n") for table in tables)


def test_a_table_below_a_line_of_text_counts_as_a_table() -> None:
    table = "| symbol | meaning |\n|---|---|\n" + "| $x$ | a short word |\n" * 10
    assert SLIDES.height(f"**Notation.**\n\n{table}") > SLIDES.height(table) > 10 * 30
    wide = table.replace("$x$", r"$\\vec{l}_{\\mathrm{key}}$")
    assert SLIDES.height(wide) == SLIDES.height(table)  # what is seen counts, not its source


def test_a_notebook_that_was_not_run_is_refused(tmp_path: Path, capsys) -> None:
    assert SLIDES.main([str(CHAPTER), "--out", str(tmp_path / "slides")]) == 1
    assert "holds no outputs" in capsys.readouterr().err
    assert not (tmp_path / "slides").exists()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def looked_through(browser, path: Path) -> tuple[list[str], dict[str, list[int]], int, int]:
    """What goes wrong on a page of slides, those that do not fit, and how much there is to see.

    Returns:
        faults: errors, and addresses that were not found.
        sizes: width and height of each slide that does not fit or has a broken formula.
        slides, formulas: how many.
    """
    page = browser.new_page(viewport={"width": SLIDES.WIDTH, "height": SLIDES.HEIGHT})
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".reveal.ready")
    quiet = "MathJax.isReady && MathJax.Hub.queue.pending === 0"
    page.wait_for_function(quiet)
    seen, sizes, formulas = set(), {}, 0
    while page.url not in seen:
        seen.add(page.url)
        page.wait_for_timeout(100)  # MathJax sets a slide's formulas again when it appears
        page.wait_for_function(quiet)
        title, *size, found, failed = page.evaluate(
            "() => { const s = [...document.querySelectorAll('section.present')].pop();"
            "return [s.innerText.slice(0, 40), s.scrollWidth, s.scrollHeight,"
            "MathJax.Hub.getAllJax(s).length,"
            "s.querySelectorAll('.MathJax_Error, .mjx-merror').length] }"
        )
        formulas += found
        if size[0] > SLIDES.WIDTH or size[1] > SLIDES.HEIGHT or failed:
            sizes[f"{len(seen)}: {title}"] = size
        page.keyboard.press("Space")
    page.close()
    return faults, sizes, len(seen), formulas


@pytest.mark.slow
@pytest.mark.skipif(not LIBRARIES.is_dir(), reason="reveal.js is not here: make slides")
def test_every_slide_fits(browser, tmp_path: Path) -> None:
    path = tmp_path / "chapter.ipynb"
    nbformat.write(as_if_run(), path)
    assert SLIDES.main([str(path), "--out", str(tmp_path), "--libraries", str(LIBRARIES)]) == 0
    faults, sizes, slides, formulas = looked_through(browser, tmp_path / "chapter.html")
    assert (faults, sizes) == ([], {})
    assert slides > 20 and formulas > 20


@pytest.mark.slow
@pytest.mark.skipif(not MADE, reason="no slides are here: make slides")
@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_every_slide_of_a_run_fits(browser, path: Path) -> None:
    faults, sizes, slides, _ = looked_through(browser, path)
    assert (faults, sizes) == ([], {})
    assert slides > 10
