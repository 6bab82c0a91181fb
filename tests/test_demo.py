import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from skimage import data as photographs
from test_reconstruction import ball

from facerecon import demo
from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK
from facerecon.demo import KEPT, LONGEST, MAX_UPLOAD, MAX_WAITING, Demo, DemoServer
from facerecon.detection.detect import NoFaceError
from facerecon.pipeline import ReconstructionError, Reconstructor
from facerecon.web_view import GENERATOR


class StandIn(Reconstructor):
    """In the place of a Reconstructor: a ball for a face, an error for a dark photograph."""

    def __init__(self, model):
        self.model, self.photos, self.at_once, self.most = model, [], 0, 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self, photo):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.go.wait(60)
        self.photos.append(photo)
        self.at_once -= 1
        if photo.mean() < 0.1:
            raise NoFaceError("no face found in the image; if there is one, pass its box")
        if photo.mean() < 0.2:
            raise ReconstructionError("the fitted face lies outside")
        return ball()


def served(reconstructor, log=lambda line: None):
    server = DemoServer(Demo(reconstructor), 0, log)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def server(model):
    server = served(StandIn(model))
    yield server
    server.demo.reconstructor.go.set()
    server.shutdown()
    server.server_close()


def ask(server, path, method="GET", body=None, **headers):
    """Status, headers and content of an answer; Host is the server's unless it is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers = {"Host": f"127.0.0.1:{server.server_port}"} | headers
    if body is not None:
        headers = {"Content-Length": str(len(body))} | headers
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def photo(level=128, size=(40, 30)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(data, "PNG")
    return data.getvalue()


def send(server, body, name="me.png", **headers):
    status, _, content = ask(server, f"/reconstruct?name={name}", "POST", body, **headers)
    return status, json.loads(content)


def test_a_photograph_becomes_a_page_with_files(server):
    status, found = send(server, photo(), "C%3A%5CAnn%20%26%20Bob.png")
    assert status == 200 and re.fullmatch(r"/faces/[\w-]{16}", found["page"])
    status, headers, text = ask(server, found["page"])
    text = text.decode()
    assert status == 200 and "Ann &amp; Bob.png" in text and "C:" not in text
    assert GENERATOR in text and headers["Cache-Control"] == "no-store"
    links = dict(re.findall(r'<a href="(.*?)">(.*?)</a>', text))
    assert links.pop("/") == "another photograph"
    assert len(links) == 3
    for link in links:
        status, headers, content = ask(server, link)
        assert status == 200
        name = re.search(r"filename\*=UTF-8''(.*)$", headers["Content-Disposition"]).group(1)
        if not link.endswith("model.glb"):
            assert name == f"Ann%20%26%20Bob{Path(link).suffix}"
            mesh = trimesh.load(io.BytesIO(content), file_type=Path(link).suffix[1:], force="mesh")
            assert len(mesh.faces) == len(ball().faces)
        else:
            assert name == "Ann%20%26%20Bob_model.glb"
            assert content.startswith(b"glTF") and b"jawOpen" in content


def test_bad_photographs_get_one_line(server):
    cases = (
        (b"hello", 422, "me.png: not an image of a known format"),
        (b"", 422, "me.png: the file is empty"),
        (photo(5), 422, "me.png: no face found; try a photograph"),
        (photo(40), 422, "me.png: the fitted face lies outside"),
    )
    for body, expected, text in cases:
        status, found = send(server, body)
        assert status == expected and found["error"].startswith(text)
        assert len(found["error"].splitlines()) == 1
    assert send(server, b"x", "a%0Ab.png")[1]["error"].startswith(r"a\nb.png: not an image")


def test_uploads_are_limited(server):
    status, _, content = ask(
        server, "/reconstruct", "POST", b"", Content_Length=str(MAX_UPLOAD + 1)
    )
    assert status == 413 and "more than 30 MB" in json.loads(content)["error"]
    for length in ("-1", "many", "1e3"):
        assert ask(server, "/reconstruct", "POST", b"", Content_Length=length)[0] == 411
    assert ask(server, "/reconstruct", "POST")[0] == 411
    large = photo(size=(LONGEST + 500, 300))
    assert send(server, large)[0] == 200
    assert server.demo.reconstructor.photos[-1].shape[1] == LONGEST


def test_only_its_own_page_is_answered(server):
    port = server.server_port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        for method, path in (("GET", "/"), ("POST", "/reconstruct")):
            body = photo() if method == "POST" else None
            assert ask(server, path, method, body, Host=host)[0] == 403
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        assert send(server, photo(), Origin=origin)[0] == 403
    assert server.demo.reconstructor.photos == []
    assert ask(server, "/", Host=f"localhost:{port}")[0] == 200
    assert send(server, photo(), Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_nothing_else_is_served(server):
    key = send(server, photo())[1]["page"].split("/")[-1]
    for path in (
        "/faces", "/faces/none", "/faces/none/mesh.glb", f"/faces/{key}/mesh.ply",
        f"/faces/{key}/../../etc/passwd", "/etc/passwd", "/assets/demo.js",
    ):  # fmt: skip
        status, _, content = ask(server, path)
        assert status == 404 and len(content.decode().splitlines()) == 1, path
    assert ask(server, "/", "POST", b"x")[0] == 404
    assert ask(server, "/", "PUT", b"x")[0] == 501


def test_one_at_a_time_and_not_too_many_in_line(server):
    stand_in = server.demo.reconstructor
    stand_in.go.clear()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(send(server, photo())[0]))
        for _ in range(MAX_WAITING)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while server.demo._places._value and time.monotonic() < until:
        time.sleep(0.01)
    status, refused = send(server, photo())
    assert status == 503 and "too many photographs are waiting" in refused["error"]
    stand_in.go.set()
    for thread in threads:
        thread.join(60)
    assert found == [200] * MAX_WAITING and stand_in.most == 1
    assert send(server, photo())[0] == 200  # the places are free again


def test_old_faces_go(server):
    pages = [send(server, photo())[1]["page"] for _ in range(KEPT + 1)]
    status, _, content = ask(server, pages[0])
    assert status == 404 and f"the demo keeps the last {KEPT}" in content.decode()
    assert {ask(server, page)[0] for page in pages[1:]} == {200}


def test_a_busy_port_is_one_line(model, monkeypatch, capsys):
    monkeypatch.setattr(Reconstructor, "from_pretrained", lambda **_: StandIn(model))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {port} cannot be used (address already in use)" in line and "--port" in line
    assert main(["demo", "--port", "70000"]) == FAILED
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly():
    command = [sys.executable, "-u", "-m", "facerecon", "demo", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/")
        assert b"A 3D face from one photograph" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (OK, "ended\n", "")


# In a browser


@pytest.fixture(scope="module")
def real():
    server = served(Reconstructor.from_pretrained())
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(browser, real):
    """The demo's page; what goes wrong is collected, but for refused photographs."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    page.faults = []
    page.on(
        "console",
        lambda m: page.faults.append(m.text) if m.type == "error" and "422" not in m.text else None,
    )
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(real.address)
    yield page
    assert page.faults == []
    page.close()


@pytest.mark.slow
def test_a_photograph_is_shown_in_3d(opened, tmp_path):
    Image.fromarray(photographs.astronaut()).save(tmp_path / "astronaut.png")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.set_input_files("#file", tmp_path / "astronaut.png")
    opened.wait_for_url("**/faces/*")
    opened.wait_for_selector("canvas.faceview[data-ready]")
    assert opened.inner_text("h1") == "astronaut.png"
    colored = opened.evaluate(
        """() => {
          const canvas = document.querySelector('canvas.faceview');
          const gl = canvas.getContext('webgl2');
          const pixels = new Uint8Array(4 * canvas.width * canvas.height);
          gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
          return pixels.filter((value, i) => i % 4 == 3 && value).length / (pixels.length / 4);
        }"""
    )
    assert 0.15 < colored < 0.9
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    with opened.expect_download() as download:
        opened.click('a[href$="/mesh.glb"]')
    assert download.value.suggested_filename == "astronaut.glb"
    assert Path(download.value.path()).read_bytes().startswith(b"glTF")
    opened.get_by_text("another photograph").click()
    opened.wait_for_selector("#webcam:enabled")


@pytest.mark.slow
def test_what_is_no_photograph_is_said_on_the_page(opened, tmp_path):
    (tmp_path / "note.jpg").write_text("hello")
    opened.set_input_files("#file", tmp_path / "note.jpg")
    opened.wait_for_selector("#problem:visible")
    assert opened.inner_text("#problem").startswith("note.jpg: not an image of a known format")
    assert opened.inner_text("#status") == "" and opened.is_enabled("#webcam")
    (tmp_path / "large.jpg").write_bytes(bytes(MAX_UPLOAD + 1_000_000))
    opened.set_input_files("#file", tmp_path / "large.jpg")
    opened.wait_for_function("document.querySelector('#problem').textContent.startsWith('large')")
    assert opened.inner_text("#problem") == "large.jpg: has 31 MB; at most 30 MB are taken."


@pytest.mark.slow
def test_the_camera_takes_a_photograph(opened, real, monkeypatch):
    seen = []
    load = demo.load_image
    monkeypatch.setattr(demo, "load_image", lambda source: seen.append(load(source)) or seen[-1])
    opened.click("#webcam")
    opened.wait_for_selector("#shoot:enabled")
    opened.click("#shoot")
    opened.wait_for_selector("#problem:visible")  # the browser's test camera shows no face
    assert opened.inner_text("#problem").startswith("camera.jpg: no face found")
    (picture,) = seen
    assert min(picture.shape[:2]) >= 240 and np.ptp(picture) > 0.3
    opened.click("#stop")
    assert opened.is_visible("#drop") and not opened.is_visible("#camera")
    assert opened.evaluate("document.querySelector('video').srcObject") is None
    opened.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () =>"
        " Promise.reject(new DOMException('', 'NotAllowedError')) }"
    )
    opened.click("#webcam")
    opened.wait_for_selector("#problem:visible")
    assert opened.inner_text("#problem") == "No camera: the browser was not allowed to use it."
