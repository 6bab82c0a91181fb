"""Places and soft regions on the mean face, and the closing of its lips."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from face_topology import EYE_LEFT, EYE_RIGHT, MEMBRANE, SKIN, ModelMesh, boundary_loops
from makehuman import BaseMesh
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.sparse.csgraph import dijkstra

ORIGIN_BELOW_EYES = 17.0  # mm
EYE_COLUMNS = np.linspace(10.01, 60.01, 201)  # mm, the left eye
LIP_GAP = 0.1  # mm left between the closed lips
MOUTH_COLUMNS = np.linspace(-30.25, 30.25, 122)  # mm; none passes through the midline's vertices
BROW_TILT = np.radians(10.0)  # the crest is the foremost point as seen from this much above
BROW_HALF_HEIGHT = (5.0, 3.0)  # mm, at the inner and the outer end
LIP_REACH = 7.0  # mm along the skin over which closing fades


def eye_center(base: BaseMesh, shape: np.ndarray, side: str) -> np.ndarray:
    """(3,) mm: the center of an eyeball, side `l` or `r`, of a shape on the base mesh."""
    return shape[np.unique(base.quads[f"helper-{side}-eye"])].mean(0)


def crop_level(position: np.ndarray, ears: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """(v,) mm, positive where a vertex stays.

    The limit is a plane behind the ears that leans forward above and below them.

    position: (v, 3) mm, y from the model's origin; ears: (v,) in [0, 1].
    """
    y, z = position[:, 1], position[:, 2]
    ear = position[ears > 0.5]
    back = np.percentile(ear[:, 2], 1) - 4.0
    plane = z - back
    plane = plane - 0.75 * np.clip(y - ear[:, 1].max() + 3, 0, None)
    plane = plane - 0.6 * np.clip(ear[:, 1].min() + 3 - y, 0, None)
    return np.minimum(plane, np.minimum(y - bottom, top - y))


def sample_texture(mesh: ModelMesh, uv: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(v,) values of a UV image (h, w) at the vertices; uv: (t, 2), v up."""
    h, w = image.shape
    at = np.stack([(1 - uv[:, 1]) * h - 0.5, uv[:, 0] * w - 0.5])
    value = map_coordinates(image, at, order=1, mode="nearest")
    total = np.zeros(mesh.from_base.shape[0])
    count = np.zeros_like(total)
    np.add.at(total, mesh.triangles, value[mesh.uv_triangles])
    np.add.at(count, mesh.triangles, 1.0)
    return np.clip(total / count, 0, 1)


def geodesic(
    triangles: np.ndarray, shape: np.ndarray, sources: np.ndarray, limit: float
) -> np.ndarray:
    """(v,) mm: shortest path along edges from the nearest source vertex, inf beyond the limit."""
    a, b = triangles.ravel(), np.roll(triangles, 1, axis=1).ravel()
    length = np.linalg.norm(shape[a] - shape[b], axis=1)
    n = len(shape)
    graph = sp.coo_matrix((length, (a, b)), (n, n)).tocsr()
    graph = graph.maximum(graph.T)
    return dijkstra(graph, directed=False, indices=sources, min_only=True, limit=limit)


def skin_edges(mesh: ModelMesh, parts: tuple[int, ...] = (SKIN,)) -> np.ndarray:
    """(e, 2) the edges of the triangles of some parts."""
    triangles = mesh.triangles[np.isin(mesh.part, parts)]
    both = np.stack([triangles, np.roll(triangles, 1, axis=1)], -1).reshape(-1, 2)
    return np.unique(np.sort(both, axis=1), axis=0)


def crossings(edges: np.ndarray, level: np.ndarray) -> sp.csr_matrix:
    """(k, v) matrix from vertices to the k points where edges cross level = 0; level: (v,)."""
    a, b = edges[level[edges[:, 0]] * level[edges[:, 1]] < 0].T
    share = level[a] / (level[a] - level[b])
    rows = np.arange(len(a))
    entries = (np.r_[1 - share, share], (np.r_[rows, rows], np.r_[a, b]))
    return sp.coo_matrix(entries, (len(a), len(level))).tocsr()


@dataclass(frozen=True)
class Slit:
    """The edges of an opening in the skin, in vertical columns."""

    upper_at: sp.csr_matrix  # (columns, v): the lowest point of the upper side from the vertices
    lower_at: sp.csr_matrix  # (columns, v): the highest point of the lower side
    upper: np.ndarray  # (columns, 3) mm: the same points
    lower: np.ndarray
    belongs_upper: np.ndarray  # (v,) bool: skin that is nearer to the upper rim
    belongs_lower: np.ndarray


def slit(
    mesh: ModelMesh,
    shape: np.ndarray,
    loop: np.ndarray,
    columns: np.ndarray,
    reach: float,
    overlap: float,
) -> Slit:
    """Measure the opening whose hidden inner rim is the boundary loop.

    The rim is cut at its extremes in x; within `reach` mm skin belongs to the half that is nearer
    along the surface. The slit ends where its sides reach more than `overlap` mm past each
    other.
    """
    skin = mesh.triangles[mesh.part == SKIN]
    a, b = sorted([shape[loop, 0].argmin(), shape[loop, 0].argmax()])
    halves = loop[a + 1 : b], np.r_[loop[b + 1 :], loop[:a]]
    low, high = sorted(halves, key=lambda half: shape[half, 1].mean())
    path = np.stack([geodesic(skin, shape, half, reach) for half in (high, low)])
    owner = (path[0] < path[1], path[1] < path[0])
    edges = skin_edges(mesh)
    found = []
    for column in columns:
        sides = [crossings(edges[own[edges].all(1)], shape[:, 0] - column) for own in owner]
        if all(side.shape[0] for side in sides):
            height = [side @ shape[:, 1] for side in sides]
            found.append((sides[0][height[0].argmin()], sides[1][height[1].argmax()]))
    upper_at, lower_at = (sp.vstack(rows).tocsr() for rows in zip(*found, strict=True))
    # Beyond the corners the sides swap; the slit is the run of good columns around its middle.
    good = (upper_at - lower_at) @ shape[:, 1] > -overlap
    bad = np.flatnonzero(~good)
    middle = np.abs(upper_at @ shape[:, 0] - shape[loop, 0].mean()).argmin()
    run = slice(max(bad[bad < middle], default=-1) + 1, min(bad[bad > middle], default=len(good)))
    upper_at, lower_at = upper_at[run], lower_at[run]
    return Slit(upper_at, lower_at, upper_at @ shape, lower_at @ shape, *owner)


def skin_loops(mesh: ModelMesh, shape: np.ndarray) -> dict[str, np.ndarray]:
    """The rims of the openings in the skin as vertex indices: `mouth`, `eye_left`, `eye_right`."""
    (mouth,) = boundary_loops(mesh.triangles[mesh.part == MEMBRANE])
    loops = {"mouth": np.array(mouth)}
    holes = boundary_loops(mesh.triangles[np.isin(mesh.part, (SKIN, MEMBRANE))])
    for name, part in (("eye_left", EYE_LEFT), ("eye_right", EYE_RIGHT)):
        eye = shape[mesh.vertices_of(part)].mean(0)
        loops[name] = np.array(
            min(holes, key=lambda hole: np.linalg.norm(shape[hole].mean(0) - eye))
        )
    return loops


def lip_slit(mesh: ModelMesh, shape: np.ndarray) -> Slit:
    """The opening between the lips."""
    return slit(mesh, shape, skin_loops(mesh, shape)["mouth"], MOUTH_COLUMNS, 40.0, overlap=0.6)


class LipClosing:
    """Moves lips vertically until LIP_GAP is left between them, each by half of the way.

    Affine in the vertices, with weights that are taken from one shape (v, 3) mm and fade into the
    skin around the lips.
    """

    def __init__(self, mesh: ModelMesh, shape: np.ndarray) -> None:
        lips = lip_slit(mesh, shape)
        middle = (lips.upper + lips.lower) / 2
        x, line = middle[:, 0], gaussian_filter1d(middle[:, 1], 3, mode="nearest")
        smooth = gaussian_filter1d(np.eye(len(x)), 3, axis=0, mode="constant")
        interpolate = np.stack(
            [np.interp(shape[:, 0], x, row, left=0, right=0) for row in smooth.T], 1
        )
        fade = np.exp(-(((shape[:, 1] - np.interp(shape[:, 0], x, line)) / LIP_REACH) ** 2))
        side = 0.5 * lips.belongs_upper - 0.5 * lips.belongs_lower
        self.opening = lips.upper_at - lips.lower_at  # (columns, v)
        self.spread = (side * fade)[:, None] * interpolate  # (v, columns)

    def __call__(self, shapes: np.ndarray) -> np.ndarray:
        """Close the lips of shapes (..., v, 3)."""
        closed = shapes.copy()
        for _ in range(2):
            way = LIP_GAP - closed[..., 1] @ self.opening.T.toarray().astype(shapes.dtype)
            closed[..., 1] += way @ self.spread.T.astype(shapes.dtype)
        return closed


def blink_gain(mesh: ModelMesh, mean: np.ndarray, blink: np.ndarray) -> float:
    """Factor in (0, 1] that stops a unit (v, 3) mm, closing the left eye, where the lids meet."""
    lids, _ = eye_slit(mesh, mean)
    opening = (lids.upper_at - lids.lower_at) @ np.stack([mean[:, 1], blink[:, 1]], 1)
    middle = slice(len(opening) // 4, -(len(opening) // 4))
    return min(1.0, float(np.median(opening[middle, 0] / -opening[middle, 1])))


def brow_line(mesh: ModelMesh, mean: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, 3) mm: the left brow from inside out, along the crest of the bone over the eye.

    corners: (2, 3) mm, inner and outer corner of the left eye, which tell how far the brow reaches.
    """
    edges = skin_edges(mesh)
    line = []
    for x in np.arange(corners[0, 0] - 7.0, corners[1, 0] + 10.0, 0.5) + 0.01:
        at = crossings(edges, mean[:, 0] - x) @ mean
        at = at[(at[:, 1] > corners[:, 1].mean() + 10) & (at[:, 1] < corners[:, 1].mean() + 40)]
        line.append(at[(at[:, 2] - np.tan(BROW_TILT) * at[:, 1]).argmax()])
    return gaussian_filter1d(line, 8, axis=0, mode="nearest")


def eye_slit(mesh: ModelMesh, mean: np.ndarray) -> tuple[Slit, np.ndarray]:
    """The opening of the left eye, and its inner and outer corner (2, 3) mm."""
    rim = skin_loops(mesh, mean)["eye_left"]
    # The lids overlap toward the tear duct, where the inner corner is.
    whole = slit(mesh, mean, rim, EYE_COLUMNS, 30.0, overlap=4.5)
    corners = np.stack([(whole.upper[i] + whole.lower[i]) / 2 for i in (0, -1)])
    return slit(mesh, mean, rim, EYE_COLUMNS, 30.0, overlap=0.0), corners


def region_masks(
    mesh: ModelMesh,
    mean: np.ndarray,
    mirror: np.ndarray,
    uv: np.ndarray,
    textures: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Soft masks (v,) in [0, 1] by region name.

    mean: (v, 3) mm, model frame; mirror: (v,); textures: the painted UV masks `face`, `ears`,
    `lips`, `eyelids` and `inside-mouth`.
    """
    skin = mesh.vertices_of(SKIN)
    painted = {name: sample_texture(mesh, uv, image) * skin for name, image in textures.items()}
    painted = {name: (mask + mask[mirror]) / 2 for name, mask in painted.items()}
    inside = mesh.vertices_of(MEMBRANE) | (painted["inside-mouth"] > 0.5)
    ears, depth = mean[painted["ears"] > 0.5], mean[:, 2]
    chin = _chin(mean, skin)
    # Below the line from the lobes to the back of the chin begins the neck.
    slope = (chin[1] - ears[:, 1].min()) / (chin[2] - 15.0 - ears[:, 2].mean())
    jaw = ears[:, 1].min() + slope * np.clip(depth - ears[:, 2].mean(), 0, None)
    neck = _smooth_step((jaw - mean[:, 1]) / 8.0 + 0.5) * skin * (1 - painted["ears"])
    brow = brow_line(mesh, mean, eye_slit(mesh, mean)[1])
    x = np.abs(mean[:, 0])
    half_height = np.interp(x, brow[[0, -1], 0], BROW_HALF_HEIGHT)
    off = np.abs(mean[:, 1] - np.interp(x, *brow[:, :2].T)) / half_height
    beyond = np.clip(np.maximum(brow[0, 0] - x, x - brow[-1, 0]), 0, None) / half_height
    whole = np.clip(painted["face"] + painted["lips"] + painted["eyelids"], 0, 1)
    return {
        "face": whole * (1 - painted["ears"] - neck) * ~inside,
        "lips": painted["lips"] * ~inside,
        "eyelids": painted["eyelids"],
        "ears": painted["ears"],
        "neck": neck,
        "brows": _smooth_step(1.5 - np.hypot(off, beyond)) * skin * (depth > brow[-1, 2] - 8.0),
        "eye_left": mesh.vertices_of(EYE_LEFT).astype(float),
        "eye_right": mesh.vertices_of(EYE_RIGHT).astype(float),
        "mouth_interior": inside.astype(float),
    }


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _chin(mean: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """(3,) the lowest point of the chin: on the midline, where the surface turns to look down."""
    middle = mean[skin & (np.abs(mean[:, 0]) < 1e-3) & (mean[:, 1] < -60)]
    front = middle[middle[:, 2] > middle[:, 2].max() - 14.0]
    return front[front[:, 1].argmin()]
