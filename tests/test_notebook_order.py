"""The cells of a chapter may be run again in any order, and its widgets go on working.

A quick test reads the names: what a cell takes from another one, no third cell may write. A slow
one runs the cells. After "Run All" each code cell but the parameters and the imports is run from
the last to the first, then in a random order; then every button is clicked and every slider moved.
"""

import ast
import builtins
import contextlib
import logging
import os
import random
import sys
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import pytest
import torch

widgets = pytest.importorskip("ipywidgets")
from ipywidgets.widgets.widget import _instances  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("0*.py"))
QUICK = [path for path in CHAPTERS if path.stem[:2] in ("00", "04")]
"""Whose cells the suite runs three times; `python tests/test_notebook_order.py 05` runs others'."""


class Names(ast.NodeVisitor):
    """The global names that a cell reads before it writes them, and those that it writes."""

    def __init__(self, source: str) -> None:
        self.reads: set[str] = set()
        self.writes: set[str] = set()
        self.later: set[str] = set()  # what a callback reads when it is called
        self._inner: list[set[str]] = []  # names of the functions and comprehensions around
        self.visit(ast.parse(source))
        self.reads -= set(dir(builtins))

    def _write(self, name: str) -> None:
        (self._inner[-1] if self._inner else self.writes).add(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._write(node.id)
        elif not any(node.id in names for names in [self.writes, *self._inner]):
            self.reads.add(node.id)

    def visit_Call(self, node: ast.Call) -> None:
        if getattr(node.func, "attr", "") in ("on_click", "observe"):
            inside = [n for part in node.args for n in ast.walk(part) if isinstance(n, ast.Name)]
            self.later |= {n.id for n in inside if isinstance(n.ctx, ast.Load)}
        self.generic_visit(node)

    def _in_order(self, *nodes: ast.AST | list[ast.AST]) -> None:
        for node in nodes:
            for each in node if isinstance(node, list) else [node]:
                self.visit(each)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._in_order(node.value, node.targets)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(ast.parse(ast.unparse(node.target)).body[0])  # it is read first
        self._in_order(node.value, node.target)

    def visit_For(self, node: ast.For) -> None:
        self._in_order(node.iter, node.target, node.body, node.orelse)

    def _comprehension(self, node: ast.ListComp | ast.DictComp) -> None:
        self._inner.append(set())
        for part in node.generators:
            self._in_order(part.iter, part.target, part.ifs)
        self._in_order(*[getattr(node, f) for f in ("key", "value", "elt") if hasattr(node, f)])
        self._inner.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _function(self, node: ast.FunctionDef | ast.Lambda) -> None:
        self._in_order(node.args.defaults)
        if isinstance(node, ast.FunctionDef):
            self._write(node.name)
        body = node.body if isinstance(node.body, list) else [node.body]
        inside = [each for part in body for each in ast.walk(part)]
        names = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        names |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self._inner.append(names)
        self._in_order(body)
        self._inner.pop()

    visit_FunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._write(node.name)

    def visit_ImportFrom(self, node: ast.ImportFrom | ast.Import) -> None:
        pass  # always means the same

    visit_Import = visit_ImportFrom


def disputed(source: Path) -> list[str]:
    """Names that a cell takes from an earlier one, while another cell writes them, too."""
    cells = [c for c in jupytext.read(source, fmt="py:percent").cells if c.cell_type == "code"]
    names = [Names(cell.source) for cell in cells]
    found = []
    for cell, here in zip(cells, names, strict=True):
        for name in sorted(here.reads | here.later):
            writers = [i for i, other in enumerate(names) if name in other.writes]
            if len(writers) > 1:
                first = cell.source.splitlines()[0]
                found.append(f"code cells {writers} write {name!r}, which “{first}” reads")
    return found


def rerun(source: Path, folder: Path, seed: int = 0) -> list[str]:
    """Run a chapter as described above, with its files in `folder`; returns what went wrong."""
    cells = [c for c in jupytext.read(source, fmt="py:percent").cells if c.cell_type == "code"]
    scope: dict[str, object] = {"__name__": "__main__"}
    wrong: list[str] = []

    def run(cell, when: str) -> None:
        tags = cell.metadata.get("tags", [])
        try:
            exec(compile(cell.source, f"<{source.stem}, {when}>", "exec"), scope)
            if "parameters" in tags:
                scope["output_dir"] = str(folder)
        except Exception as error:
            first = cell.source.splitlines()[0]
            wrong.append(f"{when}, cell “{first}”: {type(error).__name__}: {error}")
        plt.close("all")

    for cell in cells:
        run(cell, "run all")
    if wrong:
        return wrong
    again = [c for c in cells if not {"parameters", "imports"} & set(c.metadata.get("tags", []))]
    for cell in reversed(again):
        run(cell, "last to first")
    fire(wrong, "after last to first")
    for cell in random.Random(seed).sample(again, len(again)):
        run(cell, "random order")
    fire(wrong, "after random order")
    return wrong


def fire(wrong: list[str], when: str) -> None:
    """Click all buttons, move all sliders to both ends and back."""

    def note(record: logging.LogRecord) -> bool:
        wrong.append(f"{when}, a callback: {record.getMessage()}: {record.exc_info}")
        return True

    log = logging.getLogger("traitlets")  # where ipywidgets reports what a click raised
    log.addFilter(note)
    try:
        for widget in list(_instances.values()):
            if isinstance(widget, widgets.Button):
                widget.click()
        for widget in list(_instances.values()):
            if isinstance(widget, widgets.FloatSlider | widgets.IntSlider):
                start = widget.value
                for value in (widget.min, widget.max, start):
                    try:
                        widget.value = value
                    except Exception as error:
                        wrong.append(f"{when}, slider {widget.description}: {error!r}")
    finally:
        log.removeFilter(note)
        plt.close("all")


@pytest.fixture
def apart():
    """A chapter may set what is global, and registers widgets."""
    before = dict(_instances)
    with torch.enable_grad():
        yield
    for key in set(_instances) - set(before):
        del _instances[key]


@pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)
def test_no_two_cells_write_a_name_that_another_reads(source: Path) -> None:
    assert disputed(source) == []


def test_disputed_names_are_found(tmp_path: Path) -> None:
    code = "# %%\nx = 1\n\n# %%\nprint([x for _ in y], (lambda z: z)(x))\n\n# %%\n"
    for third, count in [("x = 2", 1), ("z = 2", 0), ("f = [x for x in 'ab']", 0), ("x += 1", 2)]:
        (tmp_path / "a.py").write_text(code + third + "\n")
        assert len(disputed(tmp_path / "a.py")) == count, third
    (tmp_path / "a.py").write_text("# %%\nx = 1\nb.on_click(lambda _: x)\n\n# %%\nx = 2\n")
    assert len(disputed(tmp_path / "a.py")) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("source", QUICK, ids=lambda path: path.stem)
def test_cells_in_any_order(source: Path, tmp_path: Path, apart, monkeypatch) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    assert rerun(source, tmp_path) == []


BROKEN = """# %% tags=["parameters"]
output_dir = ""

# %% tags=["imports"]
import ipywidgets as widgets

# %%
{first}

# %%
{second}
"""


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ("x = 1", "y = x + 1", []),
        ("x = [1]\ny = x[0]", "x.append(2)\nx = None", ["AttributeError"]),
        ("b = widgets.Button()\nb.on_click(lambda _: 1 / z)", "z = 0", ["division by zero"]),
        ("s = widgets.FloatSlider(1)\ns.observe(lambda c: z[0])", "z = {}", ["KeyError"]),
    ],
)
def test_what_is_out_of_order_is_found(first, second, says, tmp_path: Path, apart) -> None:
    chapter = tmp_path / "chapter.py"
    chapter.write_text(BROKEN.format(first=first, second=second))
    found = rerun(chapter, tmp_path)
    assert bool(found) == bool(says)
    assert all(word in "\n".join(found) for word in says)


if __name__ == "__main__":  # python tests/test_notebook_order.py 01: without the shape checks
    os.chdir(ROOT / "notebooks")
    for chapter in [path for path in CHAPTERS if path.stem.startswith(sys.argv[1])]:
        out = Path("runs") / "order"
        out.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(None):
            problems = rerun(chapter, out)
        print(chapter.stem, *(problems or ["in order"]), sep="\n  ")
