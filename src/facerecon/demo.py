"""A web page on this computer: a photograph goes in, its 3D face and files come out.

The server is the standard library's. It listens on 127.0.0.1 alone and answers only requests that
name it so, which other web sites cannot bring a browser to do (DNS rebinding); and it takes
photographs only from its own page. It reconstructs one at a time and keeps the last few faces in
memory, nothing on disk.
"""

import json
import os
import secrets
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import parse_qs, quote, urlsplit

import cv2
import numpy as np
from jaxtyping import Float

from facerecon.detection.detect import NoFaceError
from facerecon.imaging import load_image
from facerecon.messages import OneLine, cause_of, one_line
from facerecon.model_mesh.export import model_mesh_writer
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction
from facerecon.views.report import report
from facerecon.web_view import asset, page

HOST = "127.0.0.1"

MAX_UPLOAD = 30_000_000
"""Bytes of a photograph."""

LONGEST = 2048
"""Pixels of a photograph's longer side; larger ones are scaled down. The detector sees half."""

KEPT = 4
"""Faces that are kept; the page of an older one is gone."""

MAX_WAITING = 4
"""Photographs at work or in line; further ones are refused."""

DOWNLOADS = {
    "mesh.glb": "mesh with texture (.glb)",
    "model.glb": "model mesh with expressions (.glb, takes some seconds)",
    "mesh.stl": "shape alone (.stl)",
}
"""Files of a face by their name in the address, and what the links to them say."""

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none';"
    " form-action 'none'"
)
_KINDS = {".glb": "model/gltf-binary", ".stl": "model/stl"}


class DemoError(OneLine, ValueError):
    """A request that cannot be fulfilled; the message is one line for the user."""

    def __init__(self, message: object, status: HTTPStatus = HTTPStatus.BAD_REQUEST):
        super().__init__(message)
        self.status = status


class PortError(OneLine, OSError):
    """The server cannot listen on a port."""


@dataclass
class _Shown:
    """A face of the demo, and the files of it that were asked for."""

    face: Reconstruction
    name: str
    page: str
    files: dict[str, bytes] = field(default_factory=dict)


class Demo:
    """Reconstructs photographs one at a time, and keeps the last `KEPT` faces.

    Args:
        reconstructor: what does the work.
    """

    def __init__(self, reconstructor: Reconstructor):
        self.reconstructor = reconstructor
        self._work = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_WAITING)
        self._shown: OrderedDict[str, _Shown] = OrderedDict()

    def add(self, data: bytes, name: str) -> str:
        """Reconstruct the largest face of a photograph; returns the face's key.

        Args:
            data: content of an image file. name: of the photograph, for titles and messages.

        Raises:
            DemoError: too many photographs are waiting.
            ValueError: no image, no face or a failed fit; the message names the photograph.
        """
        if not self._places.acquire(blocking=False):
            raise DemoError(
                "too many photographs are waiting; try again soon", HTTPStatus.SERVICE_UNAVAILABLE
            )
        try:
            with self._work:
                return self._add(data, name)
        finally:
            self._places.release()

    def _add(self, data: bytes, name: str) -> str:
        stream = BytesIO(data)
        stream.name = name
        photo = _scaled(load_image(stream))
        try:
            face = self.reconstructor(photo)
        except NoFaceError:  # its own cure, a box, is none here
            raise NoFaceError(
                f"{name}: no face found; try a photograph in which it is larger, upright and lit"
                " from the front"
            ) from None
        except ValueError as error:
            raise ValueError(one_line(f"{name}: {error}")) from None
        key = secrets.token_urlsafe(12)
        links = {text: f"/faces/{key}/{file}" for file, text in DOWNLOADS.items()}
        links["another photograph"] = "/"
        text = report(face, name, self.reconstructor.model, links)
        self._shown[key] = _Shown(face, name, text)
        while len(self._shown) > KEPT:
            self._shown.popitem(last=False)
        return key

    def page(self, key: str) -> str:
        """The page of a face.

        Raises:
            DemoError: there is no such face, or not any more.
        """
        return self._of(key).page

    def file(self, key: str, file: str) -> tuple[str, bytes]:
        """One of the `DOWNLOADS` of a face: the name to store it under, and the content.

        Raises:
            DemoError: there is no such face or file.
        """
        shown = self._of(key)
        if file not in DOWNLOADS:
            raise _nothing_here()
        with self._work:
            if file not in shown.files:
                shown.files[file] = self._written(shown.face, file)
        stem = PurePosixPath(shown.name).stem or "face"
        return f"{stem}_model.glb" if file == "model.glb" else stem + Path(file).suffix, (
            shown.files[file]
        )

    def _written(self, face: Reconstruction, file: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            if file == "model.glb":
                model_mesh_writer(self.reconstructor.model).save(face, path)
            else:
                face.save(path)
            return path.read_bytes()

    def _of(self, key: str) -> _Shown:
        shown = self._shown.get(key)
        if shown is None:
            raise DemoError(
                f"this face is not here any more: the demo keeps the last {KEPT}, until it ends",
                HTTPStatus.NOT_FOUND,
            )
        return shown


class DemoServer(ThreadingHTTPServer):
    """The demo's web server: `serve_forever()` answers until `shutdown()` or Ctrl-C.

    Args:
        demo: what answers. port: 0 takes a free one. log: gets a line per photograph.

    Raises:
        PortError: the port is taken, or may not be used.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share a port with another program

    def __init__(self, demo: Demo, port: int, log: Callable[[str], None] = lambda line: None):
        self.demo, self.log = demo, log
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            cause = getattr(error, "strerror", None) or cause_of(error)
            raise PortError(
                f"port {port} cannot be used ({cause.lower()}); name another one with --port, or 0"
                " for any"
            ) from None
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error; nothing else gets here."""


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version, sys_version = "facerecon", ""
    timeout = 60  # seconds without a byte

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, action: Callable[[], None]) -> None:
        try:
            self._require_our_page()
            action()
        except DemoError as error:
            self._fail(error, error.status)
        except ConnectionError:
            raise
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            self.server.log(cause_of(error))
            self._fail(cause_of(error, 400), HTTPStatus.UNPROCESSABLE_ENTITY)

    def _require_our_page(self) -> None:
        """Refuse what a page of another site made a browser ask.

        Raises:
            DemoError: the request names another host, or comes from another site's page.
        """
        origin = self.headers.get("Origin")
        ours = {f"http://{name}" for name in self.server.names}
        if self.headers.get("Host") not in self.server.names or (origin and origin not in ours):
            raise DemoError(
                f"this server answers only its own page, {self.server.address}",
                HTTPStatus.FORBIDDEN,
            )

    def _get(self) -> None:
        path = urlsplit(self.path).path
        parts = path.strip("/").split("/")
        demo = self.server.demo
        if path == "/":
            text = page("demo.html", script=asset("demo.js"), limit=str(MAX_UPLOAD))
            self._send(text.encode(), "text/html; charset=utf-8")
        elif path == "/favicon.ico":
            self._send(b"", "image/x-icon", HTTPStatus.NO_CONTENT)
        elif parts[0] == "faces" and len(parts) == 2:
            self._send(demo.page(parts[1]).encode(), "text/html; charset=utf-8")
        elif parts[0] == "faces" and len(parts) == 3:
            name, data = demo.file(*parts[1:])
            self._send(data, _KINDS[Path(name).suffix], name=name)
        else:
            raise _nothing_here()

    def _post(self) -> None:
        address = urlsplit(self.path)
        if address.path != "/reconstruct":
            raise _nothing_here()
        length = self.headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdigit()):
            raise DemoError("the size of the photograph is missing", HTTPStatus.LENGTH_REQUIRED)
        name = _plain(parse_qs(address.query).get("name", ["photograph"])[0])
        if int(length) > MAX_UPLOAD:
            raise DemoError(
                f"{name}: has more than {MAX_UPLOAD // 10**6} MB; scale it down first",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise DemoError(f"{name}: was not sent whole", HTTPStatus.BAD_REQUEST)
        key = self.server.demo.add(data, name)
        self.server.log(f"{name} -> {self.server.address}faces/{key}")
        self._send_json({"page": f"/faces/{key}"})

    def _fail(self, message: object, status: HTTPStatus) -> None:
        if self.command == "POST":
            self._send_json({"error": str(message)}, status)
        else:
            self._send(f"{message}\n".encode(), "text/plain; charset=utf-8", status)

    def _send_json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(
        self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, name: str | None = None
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if name is not None:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is for the lines of `log`."""


def _nothing_here() -> DemoError:
    return DemoError("there is no such page", HTTPStatus.NOT_FOUND)


def _plain(name: str) -> str:
    """A file's name without folders, short and on one line."""
    return one_line(PureWindowsPath(name).name)[:100] or "photograph"


def _scaled(photo: Float[np.ndarray, "rows columns 3"]) -> Float[np.ndarray, "less fewer 3"]:
    rows, columns = photo.shape[:2]
    scale = LONGEST / max(rows, columns)
    if scale >= 1:
        return photo
    size = max(round(columns * scale), 1), max(round(rows * scale), 1)
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
