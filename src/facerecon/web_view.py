"""A 3D view in a browser: meshes and their textures in one page that needs nothing else.

`assets/viewer.js` shows them, in WebGL 2 and without a library, because it has to blend the coarse
surface into the detailed one and to show one face twice, and because the page must work from a
file, without a network, wherever facerecon is installed. The minified three.js inside trimesh
(`trimesh/resources/templates/viewer.zip`) is no public interface of it, brings 0.7 MB into every
page, and would still need as much code for these two.
"""

import base64
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from jaxtyping import Float, Int

from facerecon.files import OutputError, write_file

_LEVELS = 65535  # of a coordinate: 3 micrometers where a face is 200 mm wide

GENERATOR = '<meta name="generator" content="facerecon">'
"""In every page of facerecon's, so that a page of someone else's is not taken for one."""


@dataclass(frozen=True, eq=False)
class Part:
    """One mesh of a view, with one texture or with colors of its vertices.

    vertices: any unit; x right, y up, z to the viewer. faces: counter-clockwise from outside.
    coarse_z: z of the coarse surface at each vertex's x and y, where there is one.
    uv, texture: v upward; the picture as the content of a JPEG or PNG file. repeat: whether the
    texture goes on beyond its border. colors: RGB in [0, 1], without a texture; grey if None.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    coarse_z: Float[np.ndarray, " vertices"] | None = None
    uv: Float[np.ndarray, "vertices 2"] | None = None
    texture: bytes | None = None
    repeat: bool = False
    colors: Float[np.ndarray, "vertices 3"] | None = None


def packed(parts: Sequence[Part]) -> str:
    """The parts as JSON, as `assets/viewer.js` reads them.

    Coordinates are rounded to 1/65535 of their range, and lists of numbers are stored as
    differences, which zlib packs well.
    """
    points = np.concatenate([part.vertices for part in parts]).astype(np.float64)
    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    reach = float(np.abs(points - middle)[:, :2].max())  # seen from the front, all is within
    scene = {"middle": middle.tolist(), "radius": max(radius, 1e-6), "reach": max(reach, 1e-6)}
    return json.dumps({**scene, "parts": [_packed(part) for part in parts]})


def _packed(part: Part) -> dict[str, object]:
    n = len(part.vertices)
    coarse = part.vertices[:, 2] if part.coarse_z is None else part.coarse_z
    columns = [*part.vertices.T, coarse]
    textured = part.texture is not None and part.uv is not None
    if textured:
        columns += [*part.uv.T]
    else:
        columns += [*(np.full((n, 3), 0.8) if part.colors is None else part.colors).T]
    data = [np.diff(part.faces.ravel().astype("<i4"), prepend=np.int32(0)).tobytes()]
    ranges = []
    for column in columns:
        low, step = float(column.min()), max(float(np.ptp(column)) / _LEVELS, 1e-12)
        whole = np.rint((column.astype(np.float64) - low) / step).clip(0, _LEVELS).astype("<u2")
        data.append(np.diff(whole, prepend=np.uint16(0)).tobytes())  # wraps around
        ranges.append([low, step])
    return {
        "vertices": n,
        "faces": len(part.faces),
        "columns": ranges,
        "data": _base64(zlib.compress(b"".join(data), 9)),
        "texture": data_url(part.texture) if textured else None,
        "repeat": part.repeat,
    }


def data_url(picture: bytes) -> str:
    """A JPEG or PNG file's content as an address that holds it."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{_base64(picture)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def page(template: str, **values: str) -> str:
    """A page of `assets`: `$name` in it becomes the value of that name, which is HTML.

    Args:
        template: name of the file. values: besides `style` and `script`, which are assets, too,
            `page.css` and `viewer.js` unless given.
    """
    common = {"generator": GENERATOR, "style": asset("page.css"), "script": asset("viewer.js")}
    return Template(asset(template)).substitute(common | values)


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (files("facerecon") / "assets" / name).read_text("utf-8")


def controls(detail: bool) -> str:
    """The controls of a view as HTML: looks, the way back to the front, and the detail's slider."""
    slider = (
        '<label>coarse <input type="range" id="faceview-detail" min="0" max="1" step="0.01"'
        ' value="1" aria-label="detail"> detailed</label>'
    )
    return (
        '<div class="controls"><select id="faceview-look" aria-label="what is shown">'
        '<option value="both">photograph and clay</option><option value="photo">photograph</option>'
        '<option value="clay">clay</option></select>'
        f'{slider if detail else ""}<button id="faceview-front">front</button></div>'
    )


def small_page(parts: Sequence[Part], title: str) -> str:
    """A page with nothing but the view of the parts, for a frame in another page."""
    return page(
        "view.html",
        title=html.escape(title),
        controls=controls(any(part.coarse_z is not None for part in parts)),
        data=packed(parts),
    )


def frame(document: str, height: int = 480) -> str:
    """A page as a frame within another page, such as a notebook's output."""
    return (
        f'<iframe srcdoc="{html.escape(document)}" loading="lazy" title="3D view"'
        f' style="width: 100%; height: {height}px; border: 0; color-scheme: light"></iframe>'
    )


def table(rows: Mapping[str, tuple[str, str]]) -> str:
    """Numbers by name, each with a value and what it means, as an HTML table."""
    cells = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td>"
        f"<td>{html.escape(meaning)}</td></tr>"
        for name, (value, meaning) in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def write_page(path: Path, text: str) -> Path:
    """Write a page, also over an earlier one of ours, but never over another file.

    Raises:
        OutputError: it cannot be written, or the file that is there was not made by facerecon.
    """
    if path.exists() and not is_ours(path):
        raise OutputError(
            f"{path}: is no page of facerecon's; move it, or write into another folder"
        )
    return write_file(path, text.encode())


def is_ours(path: Path) -> bool:
    """Whether a file is a page that facerecon made."""
    try:
        with open(path, "rb") as stream:
            return GENERATOR.encode() in stream.read(1000)
    except OSError:
        return False
