"""Reports: pages that show a reconstruction, or a mesh of a file, in any browser.

Each page is one file that holds all it shows. Frames, units: docs/conventions.md.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image

from facerecon.camera import POSE_UNITS
from facerecon.files import jpeg
from facerecon.imaging import Crop, to_bytes
from facerecon.messages import OneLine, cause_of
from facerecon.morphable_model import MorphableModel
from facerecon.reconstruction import MESH_FORMATS, MIN_DETAILED, Reconstruction
from facerecon.views.viz import aside_from, halved, mesh_normals, shaded, textured
from facerecon.web_view import Part, controls, data_url, packed, page, table

MAP_SIZE = 480
"""Pixels of the depth and normal maps in a report."""

PHOTO_SIZE = 800
"""Pixels of a report's photograph along its longer side, at most."""

DEPTH_COLORS = colormaps["viridis"]

SMALL_SHARE = 0.5
"""Share of the photograph below which a face's crop is shown beside the whole photograph."""

OUTLINES = (
    ("jaw", range(17), False), ("brow", range(17, 22), False), ("brow", range(22, 27), False),
    ("nose", range(27, 31), False), ("nose", range(31, 36), False), ("eye", range(36, 42), True),
    ("eye", range(42, 48), True), ("mouth", range(48, 60), True), ("mouth", range(60, 68), True),
)  # fmt: skip
"""Names, iBUG landmarks and whether the line closes."""

LIMITS = (
    "The photograph's colors make almost any surface look right from the front. Judge the shape in"
    " clay, and turned.",
    "One photograph cannot tell absolute size: mm mean “if this head had the mean size of the"
    " morphable model”.",
    "The coarse shape was learned from synthetic faces. Pose and expression carry over to"
    " photographs well, identity only in part.",
    "Hair, glasses, teeth and the tongue are not modeled; strands and frames may show as a faint"
    " relief. What the photograph hides is not in this mesh.",
)


class MeshFileError(OneLine, ValueError):
    """A file that holds no mesh to show; the message is one line that names it."""


@dataclass(frozen=True)
class Card:
    """One face of a contact sheet. link: relative to the sheet. picture: content of a JPEG file."""

    name: str
    link: str
    picture: bytes


def report(
    face: Reconstruction,
    name: str,
    model: MorphableModel | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page of one face: 3D view, photograph with landmarks, maps, numbers and limits.

    Args:
        name: of the face, for the title.
        model: that the face was reconstructed with; names the expressions.
        links: addresses by text, for a row below the view.
    """
    pictures = [
        _figure(_landmarks(face), "The 68 landmarks of the coarse face, also hidden ones."),
        _figure(_depth(face), "Depth of the detailed face: brighter is nearer."),
        _figure(
            _image(_normals(face), "normal map"),
            "Normals: red to the viewer's right, green up, blue toward the viewer.",
        ),
    ]
    rows, columns = face.image.shape[:2]
    if face.crop.side**2 < SMALL_SHARE * rows * columns:
        pictures.insert(0, _figure(_whole(face), "The photograph, and what the networks saw."))
    limits = "".join(f"<li>{html.escape(limit)}</li>" for limit in LIMITS)
    row = "".join(
        f'<a href="{html.escape(address)}">{html.escape(text)}</a>'
        for text, address in (links or {}).items()
    )
    row = f'<p class="links">{row}</p>' if row else ""
    body = (
        f"{row}"
        f'<h2>Photograph and maps</h2><div class="pictures">{"".join(pictures)}</div>'
        f"<h2>Numbers</h2>{table(_numbers(face, model))}"
        f"<h2>Limits</h2><ul>{limits}</ul>"
    )
    return page(
        "report.html",
        title=html.escape(name),
        subtitle="A 3D face from one photograph, by facerecon.",
        controls=controls(detail=True),
        body=body,
        data=packed([face.view_part()]),
    )


def mesh_page(path: str | Path) -> str:
    """The page of a mesh file (`MESH_FORMATS`), which is shown as it is.

    Raises:
        MeshFileError: another kind of file, a missing or a damaged one, or no triangle in it.
    """
    path = Path(path)
    parts = mesh_parts(path)
    rows = {
        "Mesh": (
            f"{sum(len(p.vertices) for p in parts):,} vertices,"
            f" {sum(len(p.faces) for p in parts):,} triangles",
            "As in the file.",
        )
    }
    return page(
        "report.html",
        title=html.escape(path.name),
        subtitle="A mesh file, as it is.",
        controls=controls(detail=False),
        body=table(rows),
        data=packed(parts),
    )


def mesh_parts(path: Path) -> list[Part]:
    """The meshes of a file, each in its place.

    Raises:
        MeshFileError: as of `mesh_page`.
    """
    if not path.is_file():
        raise MeshFileError(f"{path}: no such file")
    if path.suffix.lower() not in MESH_FORMATS:
        known = ", ".join(MESH_FORMATS)
        raise MeshFileError(f"{path}: no mesh file; use one of {known}, or a photograph")
    try:
        scene = trimesh.load_scene(path, process=False)
        meshes = [mesh for mesh in scene.dump() if isinstance(mesh, trimesh.Trimesh)]
    except Exception as error:  # its loaders raise whatever their parsers do
        raise MeshFileError(
            f"{path}: not a readable mesh, or damaged ({cause_of(error)})"
        ) from None
    parts = [_part(mesh) for mesh in meshes if len(mesh.faces)]
    if not parts:
        raise MeshFileError(f"{path}: holds no triangle; a mesh with faces is needed")
    return parts


def contact_sheet(cards: list[Card], title: str) -> str:
    """A page of pictures that link to the pages of their faces."""
    body = "\n".join(
        f'<a href="{html.escape(card.link)}"><img src="{data_url(card.picture)}" alt="">'
        f"<span>{html.escape(card.name)}</span></a>"
        for card in cards
    )
    subtitle = f"{len(cards)} faces: photograph, shape, and the two together, turned."
    return page("index.html", title=html.escape(title), subtitle=subtitle, body=body)


def thumbnail(face: Reconstruction, size: int = 240) -> bytes:
    """Photograph, clay and textured mesh side by side, as the content of a JPEG file."""
    aside, width_mm = aside_from(face), face.crop.side * face.mm_per_pixel
    normals = mesh_normals(face.vertices, face.faces, 2 * size, yaw=aside, width_mm=width_mm)
    clay = np.repeat(halved(shaded(normals))[..., None], 3, axis=2)
    row = [face.crop.at(size).cut(face.image), clay, textured(face, size, aside)]
    return jpeg(np.concatenate(row, axis=1))


def mesh_thumbnail(path: Path, size: int = 240) -> bytes:
    """A mesh file as clay from the front and turned, as the content of a JPEG file.

    Raises:
        MeshFileError: as of `mesh_page`.
    """
    parts = mesh_parts(path)
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    points = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate(
        [part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]
    )
    points = points - (points.min(0) + points.max(0)) / 2
    width = 1.1 * float(np.ptp(points, axis=0).max())
    views = [
        halved(shaded(mesh_normals(points, faces, 2 * size, yaw=yaw, width_mm=width)))
        for yaw in (0.0, 35.0, -35.0)
    ]
    return jpeg(np.concatenate(views, axis=1))


def _part(mesh: trimesh.Trimesh) -> Part:
    vertices = np.asarray(mesh.vertices, np.float64)
    faces = np.asarray(mesh.faces, np.int64)
    uv, material = getattr(mesh.visual, "uv", None), getattr(mesh.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if isinstance(picture, Image.Image) and uv is not None and len(uv) == len(vertices):
        outside = bool((uv < -1e-3).any() or (uv > 1 + 1e-3).any())
        texture = jpeg(np.asarray(picture.convert("RGB")))
        return Part(vertices, faces, uv=np.asarray(uv), texture=texture, repeat=outside)
    colors = None
    if mesh.visual.kind in ("vertex", "face"):
        colors = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255
    return Part(vertices, faces, colors=colors)


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _image(picture: Float[np.ndarray, "height width 3"], name: str) -> str:
    return f'<img src="{data_url(jpeg(picture))}" alt="{name}">'


def _landmarks(face: Reconstruction) -> str:
    """The crop with its landmarks over it."""
    square = face.crop.at(MAP_SIZE)
    points = square.to_crop(face.landmarks) + 0.5  # SVG counts from the edge
    lines = []
    for name, chosen, closed in OUTLINES:
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points[list(chosen)])
        kind = "polygon" if closed else "polyline"
        lines.append(f'<{kind} points="{text}"><title>{name}</title></{kind}>')
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in points)
    return (
        f'<div class="landmarks">{_image(square.cut(face.image), "the face in the photograph")}'
        f'<svg viewBox="0 0 {MAP_SIZE} {MAP_SIZE}" fill="none" stroke="#00e08a"'
        f' stroke-width="1">{"".join(lines)}<g fill="#00e08a" stroke="none">{dots}</g></svg></div>'
    )


def _whole(face: Reconstruction) -> str:
    """The photograph with the face's crop marked."""
    rows, columns = face.image.shape[:2]
    picture = Image.fromarray(to_bytes(face.image))
    picture.thumbnail((PHOTO_SIZE, PHOTO_SIZE))
    x, y, side = face.crop.x, face.crop.y, face.crop.side
    return (
        f'<div class="landmarks"><img src="{data_url(jpeg(np.asarray(picture)))}"'
        f' alt="the photograph"><svg viewBox="0 0 {columns} {rows}" fill="none" stroke="#ffb000"'
        f' stroke-width="{columns / 200:.1f}"><rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}"'
        f' height="{side:.1f}"/></svg></div>'
    )


def _depth(face: Reconstruction) -> str:
    depth = _of_crop(face.depth_mm, face.crop)
    near, far = np.nanmax(face.depth_mm), np.nanmin(face.depth_mm)
    colors = DEPTH_COLORS((depth - far) / max(near - far, 1e-6))[..., :3]
    colors[np.isnan(depth)] = 1
    stops = ", ".join(
        "rgb(" + ", ".join(str(c) for c in to_bytes(np.array(DEPTH_COLORS(s)[:3]))) + ")"
        for s in np.linspace(0, 1, 9)
    )
    return (
        f"{_image(colors, 'depth map')}"
        f'<div class="bar" style="background: linear-gradient(to right, {stops})"></div>'
        f'<div class="ends"><span>farthest</span><span>{near - far:.0f} mm nearer</span></div>'
    )


def _normals(face: Reconstruction) -> Float[np.ndarray, "size size 3"]:
    return np.nan_to_num(0.5 + 0.5 * _of_crop(face.normals, face.crop), nan=1.0)


def _of_crop(
    maps: Float[np.ndarray, "height width *channels"], crop: Crop
) -> Float[np.ndarray, "size size *channels"]:
    """The nearest values of a map of the photograph, which may hold NaN; NaN beyond it."""
    square = crop.at(MAP_SIZE)
    grid = np.stack(np.meshgrid(np.arange(MAP_SIZE), np.arange(MAP_SIZE)), axis=-1)
    column, row = np.moveaxis(np.rint(square.to_image(grid)).astype(int), -1, 0)
    rows, columns = maps.shape[:2]
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    found = maps[row.clip(0, rows - 1), column.clip(0, columns - 1)].copy()
    found[~inside] = np.nan
    return found


def _numbers(face: Reconstruction, model: MorphableModel | None) -> dict[str, tuple[str, str]]:
    """Numbers by name, each as text and with what it means."""
    detail = (face.depth_mm - face.coarse_depth_mm)[face.mask]
    detail = detail[np.isfinite(detail)]
    pitch, yaw, roll = np.rad2deg(face.pose[:3] * POSE_UNITS[:3].numpy())
    turns = (
        (yaw, "to the viewer's right", "to the viewer's left"),
        (pitch, "down", "up"),
        (roll, "tilted counter-clockwise", "tilted clockwise"),
    )
    turned = [
        f"{abs(angle):.0f}° {positive if angle > 0 else negative}"
        for angle, positive, negative in turns
        if abs(angle) >= 0.5
    ]
    found = {
        "Face in the photograph": (
            f"{face.crop.side:.0f} pixels",
            f"Side of the square that the networks saw, at {face.crop.size} × {face.crop.size}"
            " pixels. "
            + (
                "A smaller face holds less detail."
                if face.crop.side >= MIN_DETAILED
                else f"Below {MIN_DETAILED}, only the coarse shape can be trusted."
            ),
        ),
        "Width of a pixel": (
            f"{face.mm_per_pixel:.3g} mm",
            "On the face, if the head has the mean size of the morphable model.",
        ),
        "Head turned": (
            ", ".join(turned) or "not at all",
            "Against a face that looks straight at the camera.",
        ),
        "Depth": (
            f"{np.ptp(face.depth_mm[face.mask]):.0f} mm",
            "From the nearest to the farthest point that the photograph shows of the face.",
        ),
        "Detail": (
            f"{np.sqrt(np.mean(detail**2)):.1f} mm",
            "Root mean square of what the detail stage added to the coarse depth. It is no error:"
            " what is true of it, one photograph cannot tell.",
        ),
    }
    if model is not None:
        active = face.coefficients[model.n_identity :] * model.expression_std.cpu().numpy()
        strongest = np.argsort(-active)[:4]
        names = [f"{model.expression_names[i]} {active[i]:.2f}" for i in strongest]
        found["Expression"] = (
            ", ".join(names),
            "The strongest units of the morphable model; 0 is none, 1 the whole movement.",
        )
    found["Mesh"] = (
        f"{len(face.vertices):,} vertices, {len(face.faces):,} triangles",
        "The detailed mesh. The slider moves it to the coarse surface behind it.",
    )
    return found
