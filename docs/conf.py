"""The documentation site: `make site`. Sources are this folder, the notebooks and the README."""

import os
import re
import sys
from pathlib import Path

import plotly

from facerecon import __version__
from facerecon.repro.record import code_hash

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import site_docstrings  # noqa: E402
import site_notebooks  # noqa: E402
import site_quiz  # noqa: E402

RUNS = ROOT / "runs/site"
"""Where the notebooks' outputs are, and MathJax."""

project, author, release = "facerecon", "The facerecon contributors", __version__
copyright = author
extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]

# Sphinx reads the repository itself (see the Makefile), so the files' relative links are right here
# and in a checkout. The home page is docs/index.md, and index.html at the top leads to it.
root_doc = "docs/index"
include_patterns = [
    "*.md", "docs/**", "notebooks/**", "figures/README.md", "data_scripts/README.md",
    "src/facerecon/assets/*.md",
]  # fmt: skip
exclude_patterns = [
    ".venv", "build", "runs", "student", "tests", "benchmarks", "docs/_*", "**/.ipynb_checkpoints",
]  # fmt: skip
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
html_additional_pages = {"index": "redirect.html"}

html_theme = "pydata_sphinx_theme"
html_title = "facerecon"
html_static_path = ["_static", str(Path(plotly.__file__).parent / "package_data/plotly.min.js")]
html_static_path += [str(RUNS / "mathjax-3.2.2/tex-svg-full.js")]
html_css_files = ["site.css"]
templates_path = [str(ROOT / "docs/_templates")]
html_context = {"default_mode": "auto"}
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "collapse_navigation": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"docs/index": [], "docs/gallery": []}

mathjax_path = "tex-svg-full.js"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_dmath_double_inline = True  # a displayed formula in the middle of a sentence
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]

# A page is run if it asks for it, and again after a change of the page or the package.
nb_execution_mode = "off"
nb_execution_cache_path = str(RUNS / f"pages-{code_hash()[:12]}")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ["PLOTLY_RENDERER"] = "sphinx_gallery"  # HTML that loads plotly.js on its own

autosummary_generate = True
autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"  # a sidebar has no room for dotted names
python_display_short_literal_types = True


def show_run(app, name: str, source: list[str]) -> None:
    """Give a notebook the outputs of its run."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".ipynb":
        app.env.note_dependency(RUNS / site_notebooks.item_of(path) / "notebook.ipynb")
        source[0] = site_notebooks.page(path, RUNS)


def show_quiz(app, name: str, source: list[str]) -> None:
    """Put the questions into their page."""
    if name == "docs/quiz":
        app.env.note_dependency(site_quiz.QUIZ)
        source[0] += site_quiz.page(site_quiz.read())


def restructure(app, what, name, obj, options, lines: list[str]) -> None:
    """Put a docstring into Sphinx's language."""
    lines[:] = site_docstrings.restructured(lines)


def without_fields(app, what, name: str, obj, skip: bool, options) -> bool | None:
    """Leave out a named tuple's fields: its docstring says more than "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def local_plotly(app, page: str, template: str, context: dict, doctree) -> None:
    """Load plotly.js once, from the site, on the pages that hold a figure."""
    remote = r'<script[^>]*src="https:[^>]*></script>'  # plotly.js, and a MathJax for its titles
    body = re.sub(remote, "", context.get("body", ""))
    if "plotly-graph-div" in body:
        body = f'<script src="{context["pathto"]("_static/plotly.min.js", 1)}"></script>{body}'
    context["body"] = body


def setup(app) -> None:
    """Connect the functions above."""
    app.connect("source-read", show_run)
    app.connect("source-read", show_quiz)
    app.connect("autodoc-process-docstring", restructure)
    app.connect("autodoc-skip-member", without_fields)
    app.connect("html-page-context", local_plotly)
