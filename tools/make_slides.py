"""Make lecture slides of chapters that were run: HTML for any browser, by nbconvert and reveal.js.

    facerecon reproduce differentiable_rendering --out runs/slides
    python tools/make_slides.py runs/slides/differentiable_rendering/notebook.ipynb --out slides

The slides follow from the notebook. A heading of level 1 or 2 starts one, and text, figures and
short code with what it prints follow on as many as they need. Long code, checks, imports,
exercises, questions and further reading are left out.

Browsers fetch reveal.js, jQuery, RequireJS and MathJax from the network. For a room without one,
`make slides` puts them beside the slides (`--libraries`).
"""

import argparse
import base64
import io
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from PIL import Image

WIDTH, HEIGHT = 1280, 720
LINE, COLUMNS = 34, 90
"""Height of a line of text in pixels, and the letters that it holds."""
TABLE_LINE, TABLE_COLUMNS = 24, 100
"""The same of a table's."""
ROOM = 530
"""Pixels for text: the height less margins, the title, and what a formula may need more."""
CODE_LINES, CODE_LINE = 14, 26
FIGURE = 1000, 560
"""Width of a figure in pixels, and the most of its height; as in `STYLE`."""
NO_MERMAID = "data:text/javascript,export default{initialize(){}}"  # nbconvert always loads it
LEFT_OUT = {"parameters", "injected-parameters", "imports", "check", "exercise", "record"}
LAST = ("Exercises", "Further reading", "Review questions", "What we did not reproduce")
PLOT = re.compile(r"\b(axis|axes|plt|widgets|concepts)\b")  # code that only makes a figure
HEADING = re.compile(r"^#{1,2} +(.+)$")
STYLE = """
<style>
.reveal .slides { text-align: left; }
.reveal .slides section { top: 0 !important; padding: 24px; box-sizing: border-box; }
.reveal h1, .reveal h2, .reveal h3 { text-transform: none; font-size: 40px; margin: 0 0 14px; }
.reveal .jp-RenderedHTMLCommon { font-size: 25px; line-height: 1.3; }
.reveal .jp-RenderedHTMLCommon p, .reveal .jp-RenderedHTMLCommon li { margin: 0 0 12px; }
.reveal .jp-RenderedHTMLCommon table {
  font-size: 21px; margin: 0 0 12px; width: 100%; table-layout: fixed;
}
.reveal .jp-RenderedHTMLCommon :is(th, td) { text-align: left; }
.reveal pre, .reveal .jp-OutputArea pre { font-size: 19px; line-height: 1.25; }
.reveal .jp-OutputArea-output img, .reveal .jp-OutputArea-output svg {
  display: block; margin: 0 auto; object-fit: contain;
  width: 1000px; height: auto; max-height: 560px;
}
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
</style>
"""


def blocks(text: str) -> list[str]:
    """Markdown in parts that a slide may end between: paragraphs, lists, tables, formulas."""
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def height(text: str) -> int:
    """About how high Markdown is on a slide, in pixels."""
    return sum(map(block_height, blocks(text)))


def block_height(block: str) -> int:
    """About how high one of `blocks` is on a slide, in pixels."""
    lines = block.splitlines()
    if lines[0].startswith("|"):
        cells = [row.strip("|").split("|") for row in lines if not set(row) <= set("|-: ")]
        letters = TABLE_COLUMNS / len(cells[0])  # in a cell of a row; all columns are equally wide
        rows = [max(math.ceil(len(set_formula(cell)) / letters) for cell in row) for row in cells]
        return 12 + sum(10 + TABLE_LINE * count for count in rows)
    total = 12
    for part in re.split(r"(\$\$.*?\$\$)", block, flags=re.DOTALL):
        if part.startswith("$$"):
            total += 90 + 40 * part.count(r"\\")
            continue
        items = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", re.sub(r"\]\([^)]*\)", "]", part).strip())
        total += sum(LINE * -(-len(item) // COLUMNS) + 12 * (len(items) > 1) for item in items)
    return total


def set_formula(text: str) -> str:
    """A table's cell with about as many letters as are seen of it: a command of TeX is one."""
    return re.sub(r"[${}_^]", "", re.sub(r"\\[a-zA-Z]+", "x", text.strip()))


def split(block: str) -> list[str]:
    """A block in parts that fit.

    A list is cut between its items, a paragraph between its sentences, and a table between its
    rows; each part of a table has the header.
    """
    if height(block) <= ROOM or block.startswith("```"):
        return [block]
    if block.startswith("|"):
        header, rows = "\n".join(block.splitlines()[:2]), block.splitlines()[2:]
        tables = [header]
        for row in rows:
            if height(f"{tables[-1]}\n{row}") > ROOM:
                tables.append(header)
            tables[-1] += f"\n{row}"
        return tables
    parts = re.split(r"\n(?=\s*(?:[-*]|\d+\.) )|(?<=[.?!])\s+(?=[A-Z\"])", block)
    return packed(parts, "\n")


def packed(parts: list[str], between: str) -> list[str]:
    """Neighbors joined as long as they fit on a slide."""
    pages: list[str] = []
    for part in parts:
        joined = f"{pages[-1]}{between}{part}" if pages else part
        if pages and height(pages[-1]) + height(part) <= ROOM:
            pages[-1] = joined
        else:
            pages.append(part)
    return pages


def shows(cell: Any) -> tuple[list[Any], list[Any]]:
    """The pictures and the printed text of a code cell."""
    pictures, printed = [], []
    for output in cell.get("outputs", []):
        if any(kind.startswith("image/") for kind in output.get("data", {})):
            pictures.append(output)
        elif output.output_type == "stream" and output.name == "stdout":
            printed.append(output)
    return pictures, printed


def figure_height(output: Any) -> int:
    """How high a picture is on a slide, in pixels."""
    for kind in ("image/png", "image/jpeg"):
        if kind in output.data:
            picture = Image.open(io.BytesIO(base64.b64decode(output.data[kind])))
            return min(FIGURE[1], FIGURE[0] * picture.height // picture.width)
    return FIGURE[1]


def slides(notebook: Any) -> Any:
    """A notebook whose cells are slides, from one that was run."""
    cells: list[Any] = []
    title, left_out, used = "", False, 0

    def add(cell: Any, slide_type: str) -> None:
        cell.metadata["slideshow"] = {"slide_type": slide_type}
        cells.append(cell)

    def add_below(cell: Any, needed: int) -> None:
        """On the same slide if there is room, or on another one with the same title."""
        nonlocal used
        if used + needed > ROOM:
            add(nbformat.v4.new_markdown_cell(f"## {title}"), "subslide")
            used = 0
        used += needed
        add(cell, "-")

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for text in filter(None, re.split(r"^(?=##? )", cell.source, flags=re.MULTILINE)):
                first, _, rest = text.partition("\n")
                heading = HEADING.match(first)
                if heading:
                    title, left_out = heading[1], heading[1].startswith(LAST)
                if left_out:
                    continue
                parts = blocks(rest if heading else text)
                pages = packed([piece for part in parts for piece in split(part)], "\n\n")
                for number, page in enumerate(pages or [""]):
                    if heading and number == 0:
                        add(nbformat.v4.new_markdown_cell(f"## {title}\n\n{page}"), "slide")
                        used = height(page) if page else 0
                    else:
                        add_below(nbformat.v4.new_markdown_cell(page), height(page))
        elif not left_out and not LEFT_OUT & set(cell.metadata.get("tags", [])):
            pictures, printed = shows(cell)
            for picture in pictures:
                figure = nbformat.v4.new_code_cell(outputs=[picture], metadata={"tags": ["figure"]})
                add_below(figure, figure_height(picture))
            lines = cell.source.count("\n") + 1 + sum(o.text.count("\n") for o in printed)
            if not pictures and lines <= CODE_LINES and not PLOT.search(cell.source):
                code = nbformat.v4.new_code_cell(cell.source, outputs=printed)
                add_below(code, CODE_LINE * lines + 40)
    names = "kernelspec", "language_info"  # and not the states of widgets
    kernel = {key: notebook.metadata[key] for key in names if key in notebook.metadata}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def html(notebook: Any, title: str, libraries: str | None = None) -> str:
    """The page of a notebook made by `slides`.

    Args:
        notebook: its cells hold slide types.
        title: of the browser's window.
        libraries: address of a `node_modules` folder with reveal.js, jquery, requirejs and mathjax,
            as seen from the page; by default nbconvert's addresses.
    """
    exporter = SlidesExporter(
        reveal_theme="white", reveal_transition="none", reveal_number="c/t",
        reveal_width=str(WIDTH), reveal_height=str(HEIGHT), exclude_input_prompt=True,
        exclude_output_prompt=True,
    )  # fmt: skip
    without_code = TagRemovePreprocessor(remove_input_tags={"figure"}, enabled=True)
    exporter.register_preprocessor(without_code, enabled=True)
    if libraries:
        exporter.reveal_url_prefix = f"{libraries}/reveal.js"
        exporter.jquery_url = f"{libraries}/jquery/dist/jquery.min.js"
        exporter.require_js_url = f"{libraries}/requirejs/require.js"
        exporter.mathjax_url = f"{libraries}/mathjax/MathJax.js?config=TeX-AMS_CHTML-full,Safe"
        exporter.mermaid_js_url = NO_MERMAID
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return text.replace("</head>", f"{STYLE}</head>", 1)


def main(arguments: list[str] | None = None) -> int:
    """Write the slides of each notebook; returns 1 if one holds no outputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, help="notebooks with outputs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--libraries", type=Path, help="node_modules folder; default: the network")
    args = parser.parse_args(arguments)
    failed = 0
    for path in args.notebooks:
        notebook = nbformat.read(path, 4)
        if not any(cell.get("outputs") for cell in notebook.cells):
            print(f"{path}: holds no outputs; run it with facerecon reproduce", file=sys.stderr)
            failed = 1
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        libraries = args.libraries and Path(os.path.relpath(args.libraries, args.out)).as_posix()
        # `facerecon reproduce` names the folder by the item, and the file always notebook.ipynb.
        name = path.parent.resolve().name if path.stem == "notebook" else path.stem
        made = slides(notebook)
        target = args.out / f"{name}.html"
        target.write_text(html(made, name, libraries), "utf-8", newline="\n")
        starts = [c.metadata["slideshow"]["slide_type"] for c in made.cells]
        print(f"{target}: {len(starts) - starts.count('-')} slides")
    return failed


if __name__ == "__main__":
    sys.exit(main())
