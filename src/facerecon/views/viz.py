"""Pictures of faces: shaded surfaces, the preview of a reconstruction, an interactive viewer."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import binary_fill_holes
from torch import Tensor
from torch.nn.functional import grid_sample

from facerecon.camera import CROP_MM, rotation_matrix
from facerecon.depth import depth_to_mesh
from facerecon.imaging import to_bytes
from facerecon.mesh import cluster, cluster_means, vertex_normals
from facerecon.rasterize import Fragments, interpolate, rasterize
from facerecon.reconstruction import Reconstruction
from facerecon.render import Rendering
from facerecon.rim import MAX_JUMP_MM, cut_mesh, rim_level

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure
    from plotly.graph_objects import FigureWidget

LIGHT = (-0.45, 0.55, 0.7)
"""Direction to the light, camera frame: from the upper left, as figures of surfaces are lit."""

AMBIENT = 0.18
MAX_VIEWER_VERTICES = 10_000
TITLE_INCHES = 0.25


class Gallery(Figure):
    """A figure that a notebook shows although it was made without pyplot."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def shaded(
    normals: Float[np.ndarray, "height width 3"], background: float = 1.0
) -> Float[np.ndarray, "height width"]:
    """A light grey Lambertian surface under one light from the upper left.

    Args:
        normals: unit, camera frame; NaN where there is no surface.
        background: grey value there.
    """
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    grey = AMBIENT + (1 - AMBIENT) * np.maximum(normals @ light, 0)
    return np.where(np.isfinite(grey), 0.95 * grey, background)


def mesh_normals(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    size: int = 400,
    yaw: float = 0.0,
    pitch: float = 0.0,
    width_mm: float = CROP_MM,
) -> Float[np.ndarray, "size size 3"]:
    """Normals of a mesh as seen from the front or after a turn; NaN in the background.

    Args:
        vertices: mm, camera frame.
        size: of the picture in pixels.
        yaw, pitch: the turn in degrees, about the middle of its depth; positive as for a pose.
        width_mm: of what the picture shows around x = y = 0.
    """
    points, triangles, fragments = _seen(vertices, faces, size, yaw, pitch, width_mm)
    normals = interpolate(vertex_normals(points, triangles), fragments, triangles)[0]
    length = normals.norm(dim=0).where(fragments.mask[0, 0], torch.nan)
    return (normals / length).permute(1, 2, 0).numpy()


def _seen(
    vertices: np.ndarray, faces: np.ndarray, size: int, yaw: float, pitch: float, width_mm: float
) -> tuple[torch.Tensor, torch.Tensor, Fragments]:
    """The turned vertices, the triangles, and what each pixel shows of them."""
    points = torch.from_numpy(np.asarray(vertices, dtype=np.float32))[None]
    triangles = torch.from_numpy(np.asarray(faces, dtype=np.int64))
    depth = points[0, :, 2]
    middle = points.new_tensor([0, 0, (depth.min() + depth.max()).item() / 2])
    turn = rotation_matrix(torch.deg2rad(torch.tensor([[pitch, yaw, 0.0]])))
    points = (points - middle) @ turn.transpose(1, 2)
    pixels = points * (size / width_mm) * points.new_tensor([1, -1, width_mm / size])
    pixels[..., :2] += (size - 1) / 2
    return points, triangles, rasterize(pixels, triangles, size, size)


def textured(
    face: Reconstruction, size: int = 400, yaw: float = 0.0, pitch: float = 0.0, margin: float = 1
) -> Float[np.ndarray, "size size 3"]:
    """The detailed mesh in the photograph's own colors, on white, without light or shade of ours.

    Args:
        size: of the picture in pixels.
        yaw, pitch: the turn in degrees, as of `mesh_normals`.
        margin: what the picture shows, in widths of the face's crop.
    """
    width_mm = margin * face.crop.side * face.mm_per_pixel
    _, triangles, fragments = _seen(face.vertices, face.faces, 2 * size, yaw, pitch, width_mm)
    uv = interpolate(torch.from_numpy(face.uv)[None], fragments, triangles)
    grid = (2 * uv - 1).permute(0, 2, 3, 1) * uv.new_tensor([1.0, -1.0])
    # At the picture's own resolution: finer texels would alias.
    texture = face.crop.at(max(round(size / margin), 2)).cut(face.image)
    colors = grid_sample(
        torch.from_numpy(texture).permute(2, 0, 1)[None],
        grid,
        padding_mode="border",
        align_corners=False,
    )
    return halved(colors.where(fragments.mask, 1.0)[0].permute(1, 2, 0).numpy())


def as_photographed(face: Reconstruction, size: int = 400) -> Float[np.ndarray, "size size"]:
    """The detailed depth as a shaded surface, pixel by pixel as the photograph shows the face.

    White beside the face. It is whole where the mesh is not: of that, the steep rim is cut, which
    teeth would spoil from another side (`rim.trim_rim`), and a turned face is steep up to its
    nose and mouth.

    Args:
        size: of the picture, which shows the face's crop, in pixels.
    """
    crop = face.crop.at(size)
    return np.where(crop.inside(face.mask.shape), crop.cut(shaded(face.normals)), 1.0)


def without_holes(mask: Bool[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """The mask with what it encloses, such as the eyes and the mouth in that of the skin."""
    return torch.from_numpy(binary_fill_holes(mask.cpu().numpy())).to(mask.device)


def halved(picture: Float[np.ndarray, "rows columns *channels"]) -> np.ndarray:
    """Means over 2 x 2 pixels: what is rendered at twice the size has smooth outlines then."""
    rows, columns, *rest = picture.shape
    return picture.reshape(rows // 2, 2, columns // 2, 2, *rest).mean(axis=(1, 3))


def depth_views(
    depth_mm: Float[np.ndarray, "height width"],
    mm_per_pixel: float,
    yaws: Sequence[float] = (0.0, 40.0),
    size: int = 300,
    width_mm: float = CROP_MM,
) -> list[Float[np.ndarray, "size size"]]:
    """A depth map as a shaded surface from several sides, its middle in the middle.

    From the front it is whole. From another side it ends where the mesh of a face does
    (`rim.rim_level`): what is steep in the photograph would be torn there.

    Args:
        depth_mm: larger is nearer, NaN where there is none.
        mm_per_pixel: width of a pixel in mm.
        yaws: degrees by which the surface is turned.
        size, width_mm: as for `mesh_normals`.
    """
    mask = np.isfinite(depth_mm)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = torch.from_numpy(depth_mm[window].astype(np.float32))
    inside = torch.from_numpy(mask[window])
    whole = depth_to_mesh(depth, inside, mm_per_pixel, max_jump_mm=1e3)  # deeper than a head
    level = rim_level(depth, inside, torch.zeros_like(depth), mm_per_pixel)
    clean = cut_mesh(depth_to_mesh(depth, inside, mm_per_pixel, MAX_JUMP_MM), level)
    views = []
    for yaw in yaws:
        mesh = clean if yaw else whole
        surface = mesh.vertices.numpy(), mesh.triangles.numpy()
        views.append(shaded(mesh_normals(*surface, size, yaw=yaw, width_mm=width_mm)))
    return views


def feedback_pictures(
    grey: Float[torch.Tensor, "1 1 size size"], rendering: Rendering
) -> list[Float[np.ndarray, "size size 3"]]:
    """What CoarseNet is shown: the masked photograph, the PNCC, the normals as colors.

    Source: section 3.2.1, Figures 2 and 4.

    Args:
        grey: the crop, in [0, 1].
        rendering: of the current estimate of its face.
    """
    maps = grey.expand(1, 3, *grey.shape[2:]), rendering.pncc, 0.5 + 0.5 * rendering.normals
    return [
        torch.where(rendering.mask, picture, 1.0)[0].permute(1, 2, 0).cpu().numpy()
        for picture in maps
    ]


def preview(face: Reconstruction, size: int = 400) -> Gallery:
    """One row: photograph with box and landmarks, coarse and detailed shape, turned, and in color.

    Args:
        size: of each picture in pixels.
    """
    figure = Gallery(figsize=(5 * size / 100, size / 100 * 1.08), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 5, gridspec_kw={"wspace": 0, "left": 0, "right": 1, "bottom": 0})
    figure.subplots_adjust(top=1 / 1.08)
    for axis in axes:
        axis.set_axis_off()

    square = face.crop.at(size)
    axes[0].imshow(np.clip(square.cut(face.image), 0, 1))
    column, row = square.to_crop(face.landmarks).T
    axes[0].plot(column, row, ".", color="#00e08a", markersize=3)
    left, top = square.to_crop(np.array([face.box.x - 0.5, face.box.y - 0.5]))
    width, height = face.box.width / square.step, face.box.height / square.step
    axes[0].add_patch(Rectangle((left, top), width, height, fill=False, color="#ffb000"))
    axes[0].set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), title="photograph")

    coarse, fine = (face.coarse_vertices, face.coarse_faces), (face.vertices, face.faces)
    width_mm = face.crop.side * face.mm_per_pixel  # the surfaces as large as in the photograph
    unrefined = np.array_equal(face.depth_mm, face.coarse_depth_mm, equal_nan=True)
    name = "mesh, not refined" if unrefined else "detailed"
    aside = aside_from(face)

    def clay(mesh: tuple[np.ndarray, np.ndarray], yaw: float = 0.0) -> np.ndarray:
        return halved(shaded(mesh_normals(*mesh, 2 * size, yaw=yaw, width_mm=width_mm)))

    views = {
        "coarse": clay(coarse),
        name: clay(fine),
        f"{name}, turned": clay(fine, aside),
        "textured, turned": textured(face, size, aside),
    }
    for axis, (title, picture) in zip(axes[1:], views.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title)
    return figure


def aside_from(face: Reconstruction) -> float:
    """Degrees of a turn that shows the face from its other side."""
    return -35.0 if face.pose[1] > 0 else 35.0


def gallery(
    pictures: Sequence[Float[np.ndarray, "..."]],
    titles: Sequence[str] = (),
    columns: int = 6,
    inches: float = 1.6,
) -> Gallery:
    """Pictures side by side, row by row, without axes.

    Args:
        pictures: (H, W) grey or (H, W, 3) RGB, in [0, 1]; brighter is clipped.
        titles: of the first pictures; the others have none.
        columns: pictures in a row.
        inches: width of a picture.
    """
    rows, titled_rows = -(-len(pictures) // columns), -(-len(titles) // columns)
    width, height = columns * inches, rows * inches + titled_rows * TITLE_INCHES
    figure = Gallery(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    side = 0.97 * inches  # the rest is the gap to the next
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        below = height - (row + 1) * inches - min(row + 1, titled_rows) * TITLE_INCHES
        left = column * inches
        axis = figure.add_axes([left / width, below / height, side / width, side / height])
        axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        axis.set_axis_off()
        if index < len(titles):
            axis.set_title(titles[index], fontsize=9, pad=3)
    return figure


def figure_png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG file's content."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def viewer(face: Reconstruction, textured: bool = True, size: int = 600) -> "PlotlyFigure":
    """An interactive plotly figure of the detailed mesh, with at most 10,000 vertices.

    Args:
        textured: in the photograph's colors, or else light grey.
        size: of the figure in pixels.

    Raises:
        ImportError: plotly is missing; it comes with `pip install "facerecon[notebooks]"`.
    """
    import plotly.graph_objects as plotly

    vertices, faces, uv = decimate(face.vertices, face.faces, face.uv)
    color = {"color": "lightgrey"}
    if textured:
        picture = to_bytes(face.crop.cut(face.image))
        pixel = np.clip(uv * picture.shape[0], 0, picture.shape[0] - 1).astype(int)
        rgb = picture[picture.shape[0] - 1 - pixel[:, 1], pixel[:, 0]]
        color = {"vertexcolor": [f"rgb({r},{g},{b})" for r, g, b in rgb]}
    x, y, z = vertices.T
    i, j, k = faces.T
    lighting = {"ambient": 0.55, "diffuse": 0.5, "specular": 0.05}
    surface = plotly.Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, lighting=lighting, hoverinfo="skip", **color
    )
    figure = plotly.Figure(surface)
    figure.update_layout(
        width=size,
        height=size,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={
            "aspectmode": "data",
            "xaxis": {"visible": False},
            "yaxis": {"visible": False},
            "zaxis": {"visible": False},
            "camera": {"up": {"x": 0, "y": 1, "z": 0}, "eye": {"x": 0, "y": 0, "z": 2}},
        },
    )
    return figure


def decimate(
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    uv: Float[np.ndarray, "vertices 2"],
    limit: int = MAX_VIEWER_VERTICES,
) -> tuple[
    Float[np.ndarray, "fewer 3"], Int[np.ndarray, "fewer_faces 3"], Float[np.ndarray, "fewer 2"]
]:
    """Merge the vertices that share a square of the image plane, until at most `limit` are left."""
    if len(vertices) <= limit:
        return vertices, faces, uv
    plane = torch.from_numpy(vertices[:, :2])
    low, extent = plane.amin(0), np.ptp(vertices[:, :2], axis=0).max()
    unit = extent / len(vertices) ** 0.5
    group, triangles = cluster(
        torch.from_numpy(faces),
        len(vertices),
        limit,
        lambda size: ((plane - low) / (size * unit)).floor(),
        1.0,
        1.1,
    )
    values = torch.from_numpy(np.hstack([vertices, uv])).double()
    means = cluster_means(values, group).numpy().astype(vertices.dtype)
    return means[:, :3], triangles.numpy(), means[:, 3:]


def live_figure(figure: "PlotlyFigure") -> "FigureWidget":
    """A figure as a widget, for a notebook with a kernel; the browser gets it with its data.

    A `FigureWidget` alone sends its data after itself. Where the first of them is still loading
    plotly.js, which takes seconds on a slow computer, it may be shown before they are there, and
    stays empty.

    Raises:
        ImportError: plotly or anywidget is missing.
    """
    from plotly.graph_objects import FigureWidget

    class WithData(FigureWidget):
        def open(self) -> None:
            if self._widget_data:  # not yet when ipywidgets calls this, from the constructor
                super().open()

    widget = WithData(figure)
    widget.open()
    return widget
