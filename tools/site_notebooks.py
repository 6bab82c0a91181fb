"""What the site shows of a notebook: its cells with the outputs of a run, with no kernel needed.

`docs/conf.py` hands every notebook to `page`. The runs are those of `facerecon reproduce --out`,
which repeats one only if its notebook, parameters, weights, code or packages have changed.
"""

import json
import os
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from plotly.graph_objects import Figure

from facerecon.repro import ITEMS, status, target

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"
FIGURE = "application/vnd.plotly.v1+json"
FOLDED = {"imports": "hide-input", "exercise": "hide-input", "record": "hide-cell"}
"""How the site folds cells, by their tag: a reader opens an exercise to see its solution."""

NOT_RUN = "*This page was built without a run of the notebook: its outputs are missing.*"


def item_of(notebook: Path) -> str:
    """The name of the folder that holds a notebook's results, such as `end_to_end`."""
    name = notebook.relative_to(ROOT / "notebooks").with_suffix("").as_posix()
    return {path: item for item, path in ITEMS.items()}.get(name, name[3:])


def page(notebook: Path, results: Path) -> str:
    """The text of a notebook with the outputs of its run below `results`.

    Where there was none, or one of another version of the notebook, a note says so, and the figures
    and the outcome that the repository holds for this item take the outputs' place.
    """
    content = nbformat.read(notebook, 4)
    run = results / item_of(notebook) / "notebook.ipynb"
    ran = nbformat.read(run, 4) if run.is_file() else nbformat.v4.new_notebook()
    outputs = {cell.id: cell.outputs for cell in ran.cells if cell.cell_type == "code"}
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = joined_math(cell.source)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    if all(cell.id in outputs for cell in code):
        states = ran.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json")
        widgets = states["state"] if states else {}
        for cell in code:
            cell.outputs = [readable(output, widgets) for output in outputs[cell.id]]
    elif any("imports" not in cell.metadata.get("tags", []) for cell in code):
        content.cells.insert(1, nbformat.v4.new_markdown_cell(committed(notebook)))
    for cell in code:
        tags = cell.metadata.get("tags", [])
        tags += [FOLDED[tag] for tag in tags if tag in FOLDED]
    return nbformat.writes(content)


def joined_math(text: str) -> str:
    """Markdown with each inline formula on one line, next to its dollars.

    Jupyter reads a formula that begins at the end of a line, MyST does not.
    """
    parts = re.split(r"(\$\$.*?\$\$|`[^`]*`)", text, flags=re.DOTALL)  # others stay as they are
    inline = re.compile(r"(?<!\\)\$([^$]+?)(?<!\\)\$")
    parts[::2] = [inline.sub(lambda m: f"${' '.join(m[1].split())}$", part) for part in parts[::2]]
    return "".join(parts)


def committed(notebook: Path) -> str:
    """Markdown that shows what `figures/` holds for a notebook that has not been run."""
    folder = ROOT / "figures" / item_of(notebook)
    lines = [NOT_RUN]
    for path in sorted(p for p in folder.glob("*") if p.suffix in (".png", ".jpg")):
        lines.append(f"![{path.stem}]({Path(os.path.relpath(path, notebook.parent)).as_posix()})")
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text("utf-8"))
        if outcome := result.get("outcome"):
            lines[0] += (
                f" What `make reproduce` made (preset {result['preset']}) takes their place."
            )
            kind, reason = status(item_of(notebook), target(item_of(notebook)), ROOT)
            lines.append(f"**Here:** {outcome['ours']}. **Status:** {kind}. {reason}")
    return "\n\n".join(lines)


def readable(output: Any, widgets: Mapping[str, Any]) -> Any:
    """An output as it is, or a widget's or plotly's as pictures and text that need no kernel."""
    data = output.get("data", {})
    if FIGURE in data:
        html = figure_html(data[FIGURE])
    elif VIEW in data:
        html = "".join(parts(data[VIEW]["model_id"], widgets))
        html += '<p class="needs-kernel">Buttons and sliders work when you run the notebook.</p>'
    else:
        return output
    return nbformat.v4.new_output("display_data", {"text/html": html})


def parts(name: str, widgets: Mapping[str, Any]) -> list[str]:
    """HTML of the pictures, figures and texts in a widget, and of those in its children."""
    model = widgets.get(name.removeprefix("IPY_MODEL_"))
    if model is None:
        return []
    state = with_buffers(model)
    if isinstance(state.get("_widget_data"), list):
        figure = {"data": state["_widget_data"], "layout": state.get("_widget_layout", {})}
        return [figure_html(figure)]
    if model["model_name"] == "ImageModel" and state.get("value"):
        kind = state.get("format", "png")
        return [f'<img src="data:image/{kind};base64,{state["value"]}" alt="">']
    if model["model_name"] == "HTMLModel":
        return [f"<div>{state['value']}</div>"]
    if model["model_name"] == "ButtonModel":
        return [f"<button disabled>{escape(state['description'])}</button>"]
    return [part for child in state.get("children", []) for part in parts(child, widgets)]


def with_buffers(model: Mapping[str, Any]) -> dict[str, Any]:
    """A widget's state with its binary parts, base64, where they belong."""
    state = json.loads(json.dumps(model["state"]))
    for buffer in model.get("buffers", []):
        *path, last = buffer["path"]
        place = state
        for key in path:
            place = place[key]
        if isinstance(place, dict) and "dtype" in place:  # a typed array of plotly's
            last = "bdata"
            del place["value"]
        place[last] = buffer["data"]
    return state


def figure_html(figure: Mapping[str, Any]) -> str:
    """A plotly figure as wide as the page allows; the page loads plotly.js itself."""
    shown = Figure({"data": figure["data"], "layout": figure["layout"]}, skip_invalid=True)
    height = shown.layout.height or 450
    shown.update_layout(width=None, height=height, autosize=True)
    return shown.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True})
