"""3D views and the reader's own photograph, without a hand or a browser."""

import base64
import re
from datetime import datetime
from pathlib import Path

import pytest
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from test_reconstruction import ball

from facerecon import Reconstructor
from facerecon.views.face_viewer import STEPS, FaceViewer, OwnPhoto, download_link
from facerecon.views.viz import figure_png, live_figure

pytest.importorskip("ipywidgets")
pytest.importorskip("plotly")
pytest.importorskip("anywidget")


def test_nothing_is_sent_before_the_button_is_pressed():
    faces = FaceViewer({"a": ball(), "b": ball()})
    faces.look.value, faces.choice.value = "clay", "b"
    assert faces.stage.children == ()
    faces.button.click()
    (figure,) = faces.stage.children
    assert figure.data[0].color == "lightgrey"


def test_another_look_changes_what_is_shown():
    faces = FaceViewer({"a": ball()})
    faces.show()
    (before,) = faces.stage.children
    assert before.data[0].vertexcolor is not None
    faces.look.value = "clay"
    (after,) = faces.stage.children
    assert after.data[0].vertexcolor is None and len(after.data[0].x) == len(before.data[0].x)


def test_a_live_figure_reaches_the_browser_with_its_data(monkeypatch):
    import plotly.graph_objects as plotly
    from comm import DummyComm
    from ipywidgets.widgets import widget

    opened = []

    def create_comm(**message):
        opened.append(message)
        return DummyComm(**message)

    monkeypatch.setattr(widget.comm, "create_comm", create_comm)
    figure = live_figure(plotly.Figure(plotly.Mesh3d(x=[0, 1], y=[0, 1], z=[0, 2])))
    (message,) = (m for m in opened if "_widget_data" in m["data"]["state"])
    assert message["data"]["state"]["_widget_data"][0]["type"] == "mesh3d"
    assert "template" in message["data"]["state"]["_widget_layout"]
    assert figure.comm is not None  # later changes are sent, too


@pytest.fixture(scope="module")
def own_photo(tmp_path_factory: pytest.TempPathFactory) -> OwnPhoto:
    return OwnPhoto(Reconstructor.from_pretrained(refine=None), tmp_path_factory.mktemp("out"))


def test_what_is_no_photograph_of_a_face_is_refused_by_name(own_photo):
    assert own_photo.open("letter.txt", b"not a photograph") is None
    said = own_photo.message.value
    assert said.startswith("letter.txt: not an image") and own_photo.downloads.value == ""
    assert own_photo.open("wall.png", figure_png(Figure())) is None
    assert own_photo.message.value.startswith("wall.png: no face")
    assert own_photo.progress.bar_style == "danger" and not list(own_photo.folder.iterdir())


def test_a_photograph_becomes_a_face_in_3d_and_two_files(own_photo):
    steps = []
    own_photo.progress.observe(lambda change: steps.append(change["new"]), "value")
    content = Path(get_sample_data("grace_hopper.jpg", asfileobj=False)).read_bytes()
    file = {"name": "me.jpg", "type": "image/jpeg", "size": len(content)}
    file |= {"content": memoryview(content), "last_modified": datetime.now()}
    own_photo.upload.value = [file]
    assert steps[-len(STEPS) :] == [1, 2, 3, 4, 5] and own_photo.progress.bar_style == "success"
    (figure,) = own_photo.shown.stage.children
    assert 1000 < len(figure.data[0].x) <= 10_000
    assert bytes(own_photo.picture.value).startswith(b"\x89PNG")
    for name, start in {"your_face.glb": b"glTF", "your_face.stl": None}.items():
        found = re.search(
            f'download="{name}" href="[^"]*base64,([^"]*)"', own_photo.downloads.value
        )
        content = (own_photo.folder / name).read_bytes()
        assert base64.b64decode(found[1]) == content
        assert start is None or content.startswith(start)
    assert own_photo.open("letter.txt", b"") is None
    assert own_photo.shown is None and own_photo.downloads.value == ""


def as_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_the_cameras_picture_is_opened_like_a_file(own_photo):
    own_photo.camera.photo = as_url(b"not a picture")
    assert own_photo.message.value.startswith("your picture: not an image")
    own_photo.camera.photo = as_url(figure_png(Figure()))
    assert own_photo.message.value.startswith("your picture: no face")


def test_a_link_cannot_be_broken_by_a_name(tmp_path):
    path = tmp_path / 'a"b.bin'
    path.write_bytes(b"\x00\x01")
    assert 'download="a&quot;b.bin"' in download_link(path)
