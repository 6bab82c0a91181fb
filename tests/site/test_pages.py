"""The built site in a real browser: `make site`, then `make test-site`.

Skipped without the site, playwright or a Chromium: the one on PATH, or the one that
`playwright install chromium` brings.
"""

import functools
import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
FILES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
PAGES = [name for name in FILES if not name.startswith("_static/")]  # there: the theme's templates
# One page of each kind of generated ones; every page that has a source of its own.
OPENED = [
    page for page in PAGES
    if not page.startswith(("_modules/", "docs/api/"))
]  # fmt: skip
OPENED += [f"docs/api/facerecon.{name}.html" for name in ("camera", "pipeline", "coarsenet")]
CHAPTERS = [page for page in PAGES if re.match(r"notebooks/0\d", page)]
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(not PAGES, reason="the site is not built: make site")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(SITE))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser, address: str):
    """A page that collects what goes wrong in `faults`, and reaches nothing but the site."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.faults = []
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("response", lambda r: page.faults.append(r.url) if r.status >= 400 else None)

    def only_here(route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            page.faults.append(f"asked for {route.request.url}")
            route.abort()

    page.route(re.compile("^https?:"), only_here)
    yield page
    page.close()


class Links(HTMLParser):
    """The targets and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.anchors |= {value for name, value in attrs if name in ("id", "name") and value}
        self.targets |= {value for name, value in attrs if name in ("href", "src") and value}


def test_every_internal_link_leads_somewhere() -> None:
    read = functools.cache(Links)
    dead = []
    for name in PAGES:
        for target in read(SITE / name).targets:
            path, anchor = urlsplit(target).path, urldefrag(target).fragment
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            found = (SITE / name).parent / unquote(path) if path else SITE / name
            missing = not found.exists()
            if not missing and anchor and found.suffix == ".html":
                missing = unquote(anchor) not in read(found.resolve()).anchors
            if missing:
                dead.append(f"{name}: {target}")
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("name", OPENED)
def test_a_page_opens_whole_and_fits_a_phone(page, address: str, name: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{address}/{name}", wait_until="load")
    page.wait_for_function("window.MathJax?.startup?.promise ?? true")
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
    raw = page.evaluate(
        "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container'))"
        ".map(m => m.textContent)"
    )
    failed = page.evaluate(
        "[...document.querySelectorAll('mjx-merror, [data-mjx-error]')].map(e => e.outerHTML)"
    )
    dollars = page.evaluate(
        "[...document.querySelectorAll('article p, article li, article td')].map(e => {"
        "const text = e.cloneNode(true);"
        "text.querySelectorAll('code, pre, .math').forEach(part => part.remove());"
        "return text.textContent}).filter(text => text.includes('$'))"
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    assert (page.faults, broken, raw, failed, dollars) == ([], [], [], [], [])
    assert width <= PHONE["width"], f"{width} pixels wide"


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_shows_its_outputs(page, address: str, name: str) -> None:
    page.goto(f"{address}/{name}")
    assert "built without a run" not in page.inner_text("article")
    assert page.locator("div.cell_output").count() > 5


def test_equations_are_typeset(page, address: str) -> None:
    page.goto(f"{address}/notebooks/04_differentiable_rendering.html")
    page.wait_for_selector("mjx-container svg")
    assert page.locator("mjx-container").count() > 20


def test_the_face_turns(page, address: str) -> None:
    page.goto(f"{address}/docs/gallery.html")
    figure = page.locator(".js-plotly-plot").first
    figure.locator("canvas").first.wait_for()
    figure.scroll_into_view_if_needed()
    eye = "document.querySelector('.js-plotly-plot')._fullLayout.scene._scene.getCamera().eye"
    page.wait_for_function(eye)
    before = page.evaluate(eye)
    box = figure.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    page.wait_for_function(f"JSON.stringify({eye}) !== {json.dumps(json.dumps(before))}")
    after = page.evaluate(eye)
    moved = sum((after[axis] - before[axis]) ** 2 for axis in "xyz") ** 0.5
    assert moved > 0.1, (before, after)
    assert page.faults == []


def test_the_search_finds_a_term(page, address: str) -> None:
    page.goto(f"{address}/search.html?q=PNCC")
    for title in ("Conventions", "Glossary"):  # the list grows for a while
        page.locator("#search-results li a").get_by_text(title, exact=True).first.wait_for()


def test_the_top_leads_home(page, address: str) -> None:
    page.goto(f"{address}/index.html")
    page.wait_for_url("**/docs/index.html")
    assert page.locator("h1").inner_text().startswith("A detailed 3D face")
