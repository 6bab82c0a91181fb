"""The chapters' live parts under a hand: JupyterLab in Chromium, with the kernel's answers.

A live part is its cell of the chapter and what this cell needs, run in a notebook of their own.
Skipped without playwright, JupyterLab or a Chromium.
"""

import ast
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import trimesh
from matplotlib.cbook import get_sample_data
from PIL import Image

for needed in ("jupyterlab", "anywidget", "plotly", "skimage"):
    pytest.importorskip(needed, reason='pip install -e ".[notebooks]"')
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180_000  # ms: on a busy machine the kernel imports and reconstructs for a while
SETTINGS = {
    # Cells out of sight are attached all the same.
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false", "checkForUpdates": False,
    },
}  # fmt: skip

pytestmark = pytest.mark.slow


def names(source: str, kind: type[ast.expr_context]) -> set[str]:
    """Names that a cell reads (`ast.Load`) or writes (`ast.Store`)."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, kind)}
    if kind is ast.Store:
        found |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        aliases = [a for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
        found |= {(alias.asname or alias.name).split(".")[0] for alias in aliases}
    return found


def with_what_it_needs(chapter: str, call: str, output: Path) -> nbformat.NotebookNode:
    """A notebook of the chapter's cell that holds `call`, and of those that make its names."""
    (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (last,) = (number for number, cell in enumerate(code) if call in cell.source)
    kept, wanted = [code[last]], names(code[last].source, ast.Load)
    for cell in reversed(code[:last]):
        if names(cell.source, ast.Store) & wanted:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += f"\noutput_dir = {str(output)!r}"
            kept.insert(0, cell)
            wanted |= names(cell.source, ast.Load)
    notebook.cells = kept
    return notebook


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a JupyterLab and the folder that it shows."""
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    for name, content in SETTINGS.items():
        file = home / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = str(ROOT / "src")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}", "--expose-app-in-browser",
    ]  # fmt: skip
    log = (home / "log").open("w+")
    with subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        else:
            server.kill()
            pytest.fail(f"JupyterLab does not answer:\n{(home / 'log').read_text()}")
        yield address, folder
        server.terminate()  # it ends its kernels
    log.close()


@pytest.fixture
def run(lab, browser) -> Iterator[Callable]:
    """A function that runs a live part in JupyterLab, and returns the page."""
    address, folder = lab
    pages = []

    def opened(chapter: str, call: str):
        name = f"{chapter}_{len(list(folder.glob('*.ipynb')))}.ipynb"
        nbformat.write(with_what_it_needs(chapter, call, folder), folder / name)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/doc/tree/{name}")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(
            "[...window.jupyterapp.shell.currentWidget.content.widgets].pop()"
            ".model.sharedModel.execution_count"
        )
        errors = page.locator("[data-mime-type='application/vnd.jupyter.error'], .jp-RenderedError")
        assert errors.all_inner_texts() == []
        return page

    yield opened
    for page in pages:
        page.evaluate("window.jupyterapp.shell.currentWidget?.sessionContext.shutdown()")
        page.close()


def picture(part) -> np.ndarray:
    """What is seen of a part of the page, RGB (H, W, 3) in [0, 1]."""
    part.scroll_into_view_if_needed()
    image = Image.open(io.BytesIO(part.screenshot())).convert("RGB")
    return np.asarray(image) / 255


def changed(part, before: np.ndarray, least: float = 0.01, seconds: float = 60) -> np.ndarray:
    """The picture of a part once it differs from the one before."""
    for _ in range(int(5 * seconds)):
        after = picture(part)
        if after.shape != before.shape or np.abs(after - before).mean() > least:
            return after
        part.page.wait_for_timeout(200)
    raise AssertionError(f"the picture is the same after {seconds} s")


def set_slider(page, name: str, value: str) -> None:
    """Type a value into the readout of the slider with this name."""
    row = page.locator(".widget-slider", has=page.get_by_text(name, exact=True))
    readout = row.locator(".widget-readout")
    readout.fill(value)
    readout.press("Enter")


def colorful(rgb: np.ndarray) -> float:
    """Share of the pixels that are not grey."""
    return float((np.ptp(rgb, axis=2) > 0.1).mean())


def test_the_live_face_has_color_and_follows_the_sliders(run) -> None:
    page = run("01", "explorer.Explorer(model)")
    page.get_by_role("button", name="open the live view").click()
    view = page.locator(".js-plotly-plot")
    view.locator("canvas").first.wait_for(state="attached")
    page.wait_for_timeout(1000)
    start = picture(view)
    assert colorful(start) > 0.1, "the face is grey"
    set_slider(page, "identity 1", "2.5")
    wider = changed(view, start, 0.002)
    page.get_by_role("tab", name="light", exact=True).click()
    set_slider(page, "ambient", "0")
    darker = changed(view, wider)
    assert darker.mean() < wider.mean() - 0.02, "less light does not make it darker"
    page.get_by_role("tab", name="pose", exact=True).click()
    set_slider(page, "yaw °", "60")
    turned = changed(view, darker)
    page.get_by_role("button", name="reset", exact=True).click()
    changed(view, turned)


def test_the_light_moves(run) -> None:
    page = run("05", ".live()")
    view = page.locator(".jupyter-widgets img")
    start = picture(view)
    set_slider(page, "right °", "80")
    aside = changed(view, start)
    set_slider(page, "right °", "-80")
    other = changed(view, aside)
    cheeks = slice(aside.shape[0] // 2, aside.shape[0] * 2 // 3)
    middle = aside.shape[1] // 2
    left, right = (
        (aside - other)[cheeks, part].mean() for part in (slice(middle), slice(middle, -1))
    )
    assert right > 0.05 and left < -0.05, (left, right)


def test_a_file_and_the_camera_become_faces_to_turn_and_to_keep(run, tmp_path: Path) -> None:
    page = run("07", "own_photo.live()")
    photograph = get_sample_data("grace_hopper.jpg", asfileobj=False)
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="your photograph").click()
    choosing.value.set_files(photograph)
    page.get_by_text(re.compile("^done")).wait_for()
    assert page.locator(".widget-hprogress .progress-bar-success").count() == 1
    view = page.locator(".js-plotly-plot")
    view.locator("canvas").first.wait_for(state="attached")
    page.wait_for_timeout(1000)
    textured = picture(view)
    assert colorful(textured) > 0.05
    page.get_by_role("button", name="clay").click()
    page.wait_for_timeout(500)
    clay = changed(page.locator(".js-plotly-plot"), textured)
    assert colorful(clay) < colorful(textured) / 2
    for name in ("your_face.glb", "your_face.stl"):
        with page.expect_download() as loading:
            page.get_by_role("link", name=name).click()
        loading.value.save_as(tmp_path / name)
        assert len(trimesh.load_mesh(tmp_path / name).faces) > 1000
    # Chromium's stand-in for a camera shows a green picture with a clock: no face, and it says so.
    page.get_by_role("button", name="use the camera").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
    page.get_by_role("button", name="take the picture").click()
    page.get_by_text(re.compile("^your picture: no face")).wait_for()
    assert page.get_by_role("link", name="your_face.glb").count() == 0
    assert not page.evaluate("document.querySelector('video').srcObject")  # the camera is off
