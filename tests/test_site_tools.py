"""What the documentation site makes of notebooks and docstrings, without building it."""

import json
from pathlib import Path

import nbformat
import pytest
from test_notebooks import load_tool

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = load_tool("site_notebooks")
DOCSTRINGS = load_tool("site_docstrings")
CHAPTER = ROOT / "notebooks/01_morphable_model_and_projection.ipynb"
FIGURE = ROOT / "notebooks/paper/fig_03.ipynb"


def stream(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", text=text)


def test_items_have_the_names_of_their_results() -> None:
    names = [NOTEBOOKS.item_of(path) for path in (CHAPTER, FIGURE)]
    assert names == ["morphable_model", "fig_03"]
    assert NOTEBOOKS.item_of(ROOT / "notebooks/00_check_setup.ipynb") == "check_setup"


def test_a_page_has_the_outputs_of_a_run_of_the_same_notebook(tmp_path: Path) -> None:
    run = nbformat.read(CHAPTER, 4)
    code = [cell for cell in run.cells if cell.cell_type == "code"]
    code[2].outputs = [stream("seen")]
    run.cells.insert(0, nbformat.v4.new_code_cell("injected = 1", outputs=[stream("not seen")]))
    (tmp_path / "morphable_model").mkdir()
    nbformat.write(run, tmp_path / "morphable_model" / "notebook.ipynb")
    page = nbformat.reads(NOTEBOOKS.page(CHAPTER, tmp_path), 4)
    shown = [cell.outputs for cell in page.cells if cell.cell_type == "code"]
    assert shown[2] == [stream("seen")] and not any(shown[:2] + shown[3:])
    assert not any(NOTEBOOKS.NOT_RUN in cell.source for cell in page.cells)

    code[2].id = "another"  # as after an edit of this cell
    nbformat.write(run, tmp_path / "morphable_model" / "notebook.ipynb")
    assert NOTEBOOKS.NOT_RUN in NOTEBOOKS.page(CHAPTER, tmp_path)


def test_an_item_that_was_not_run_shows_the_committed_figures(tmp_path: Path) -> None:
    text = nbformat.reads(NOTEBOOKS.page(FIGURE, tmp_path), 4).cells[1].source
    assert "![figure](../../figures/fig_03/figure.png)" in text
    outcome = json.loads((ROOT / "figures/fig_03/result.json").read_text())["outcome"]
    assert outcome["ours"] in text


def test_a_widget_becomes_its_picture_and_its_figure() -> None:
    plotly = pytest.importorskip("plotly.graph_objects")
    widgets = pytest.importorskip("ipywidgets")
    embed = pytest.importorskip("ipywidgets.embed")
    pytest.importorskip("anywidget")
    figure = plotly.FigureWidget([plotly.Scatter(x=[1.0, 2.0], y=[3.0, 4.0])], {"width": 520})
    box = widgets.VBox(
        [widgets.Button(description="a < b"), widgets.Image(value=b"PNG", format="png"), figure]
    )
    states = embed.embed_data(views=[box])["manager_state"]["state"]
    view = {NOTEBOOKS.VIEW: {"model_id": box.model_id, "version_major": 2, "version_minor": 0}}
    output = nbformat.v4.new_output("display_data", view)
    html = NOTEBOOKS.readable(output, states)["data"]["text/html"]
    assert 'src="data:image/png;base64,UE5H"' in html  # the bytes PNG
    assert "<button disabled>a &lt; b</button>" in html
    assert "Plotly.newPlot" in html and "520" not in html and "cdn" not in html
    assert NOTEBOOKS.readable(stream("text"), states) == stream("text")


def test_a_docstring_keeps_its_lists_code_and_signs() -> None:
    text = """The sum |a| * b_ of `x`s.

    run(1)

Args:
    a, b: mm, the first
        of two. c: none.
    long_name: another.

Returns:
    One.
"""
    assert DOCSTRINGS.restructured(text.splitlines()) == [
        r"The sum \|a\| \* b\_ of ``x``\ s.", "",
        "::", "", "    run(1)", "",
        "**Arguments**", "",
        "| **a, b**: mm, the first of two. c: none.", r"| **long\_name**: another.", "",
        "**Returns**", "", "| One.", "",
    ]  # fmt: skip


def test_inline_formulas_stand_on_one_line():
    text = "The share is $\n\\alpha +\nb$, and\n$$\n1 +\n2$$ is not `a $b\n` nor \\$5 but $c$."
    joined = NOTEBOOKS.joined_math(text)
    assert joined == text.replace("$\n\\alpha +\nb$", "$\\alpha + b$")
