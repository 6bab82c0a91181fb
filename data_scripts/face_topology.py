"""From the MakeHuman quads to the model's triangles: region, membrane, subdivision, crop.

Every step is linear in the vertex positions, so the result is one sparse matrix: it maps the
positions (or the displacements) of the base mesh to those of the model, and treats mean and bases
alike. Every choice is made on a mirror-symmetric shape by rules that do not know left from right,
so the mesh is mirror-symmetric too.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from makehuman import BaseMesh
from scipy.sparse.csgraph import connected_components

SKIN, EYE_LEFT, EYE_RIGHT, MEMBRANE, SOCKET = range(5)


@dataclass(frozen=True)
class Quads:
    """A quad mesh with texture coordinates and a part label per quad."""

    corners: np.ndarray  # (f, 4) vertex indices
    uv_corners: np.ndarray  # (f, 4) uv indices
    part: np.ndarray  # (f,)

    def pick(self, keep: np.ndarray) -> "Quads":
        return Quads(self.corners[keep], self.uv_corners[keep], self.part[keep])

    def join(self, *others: "Quads") -> "Quads":
        every = (self, *others)
        return Quads(
            np.concatenate([q.corners for q in every]),
            np.concatenate([q.uv_corners for q in every]),
            np.concatenate([q.part for q in every]),
        )


@dataclass(frozen=True)
class ModelMesh:
    """The model's triangles and the linear maps that give its vertices and texture coordinates."""

    triangles: np.ndarray  # (f, 3)
    uv_triangles: np.ndarray  # (f, 3)
    part: np.ndarray  # (f,) part label of every triangle
    from_base: sp.csr_matrix  # (v, base vertices)
    uv_from_base: sp.csr_matrix  # (t, base uvs)

    def apply(self, displacements: np.ndarray) -> np.ndarray:
        """Map (..., n, 3) on the base mesh to (..., v, 3) on the model's mesh."""
        lead = displacements.shape[:-2]
        stacked = np.moveaxis(displacements.reshape(-1, *displacements.shape[-2:]), 0, 1)
        mapped = self.from_base.astype(stacked.dtype) @ stacked.reshape(len(stacked), -1)
        mapped = np.moveaxis(mapped.reshape(len(mapped), -1, 3), 1, 0)
        return np.ascontiguousarray(mapped).reshape(*lead, -1, 3)

    def vertices_of(self, part: int) -> np.ndarray:
        """(v,) bool: the vertices of a part's triangles."""
        mask = np.zeros(self.from_base.shape[0], bool)
        mask[self.triangles[self.part == part]] = True
        return mask


def _islands(faces: np.ndarray, n: int) -> np.ndarray:
    """Label of the connected component of every face."""
    a, b = faces.ravel(), np.roll(faces, 1, axis=1).ravel()
    graph = sp.coo_matrix((np.ones(len(a)), (a, b)), (n, n))
    return connected_components(graph, directed=False)[1][faces[:, 0]]


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """The closed boundary loops of a face list, each in the direction of its faces."""
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    known = {tuple(edge) for edge in edges.tolist()}
    following = {a: b for a, b in edges.tolist() if (b, a) not in known}
    loops = []
    while following:
        loop = [next(iter(following))]
        while (vertex := following.pop(loop[-1], None)) is not None and vertex != loop[0]:
            loop.append(vertex)
        loops.append(loop)
    return loops


def _grow(seed: np.ndarray, candidates: np.ndarray, corners: np.ndarray, rings: int) -> np.ndarray:
    """Add `rings` rings of candidate quads around the seed quads."""
    mask = seed.copy()
    for _ in range(rings):
        touched = np.zeros(corners.max() + 1, bool)
        touched[corners[mask]] = True
        mask |= candidates & touched[corners].any(1)
    return mask


def face_region(base: BaseMesh, shape: np.ndarray, back: float, rings: int) -> Quads:
    """The quads of face, ears, front of the neck, rims of lids and lips, front of the eyeballs.

    shape: (n, 3) mm, an adult head on the base mesh; back: z below which nothing is kept; rings:
    rings of quads kept behind the rims of the lids and of the lips. The texture chart that a quad
    lies in tells skin from the inner surfaces, which fold behind it.
    """
    body = Quads(base.quads["body"], base.uv_quads["body"], np.full(len(base.quads["body"]), SKIN))
    center = shape[body.corners].mean(1)
    island = _islands(body.uv_corners, len(base.uv))
    height = {label: center[island == label, 1].max() for label in np.unique(island)}
    head = max(height, key=height.get)
    in_head = island == head
    torso = (island != head) & (np.bincount(island)[island] > 3000)
    neck_floor = center[in_head, 1].min() - 45.0
    skin = (in_head & (center[:, 2] > back)) | (
        torso & (center[:, 1] > neck_floor) & (center[:, 2] > back) & (np.abs(center[:, 0]) < 80)
    )
    inner = ~in_head & ~torso & (center[:, 1] > neck_floor)
    keep = _grow(skin, inner, body.corners, rings)
    components = _islands(body.corners[keep], len(shape))
    keep[keep] = components == np.bincount(components).argmax()
    face = body.pick(keep)
    eyes = []
    for part, group in ((EYE_LEFT, "helper-l-eye"), (EYE_RIGHT, "helper-r-eye")):
        eye = Quads(base.quads[group], base.uv_quads[group], np.full(len(base.quads[group]), part))
        depth = shape[eye.corners].mean(1)[:, 2]
        eyes.append(eye.pick(depth > (depth.min() + depth.max()) / 2))
    return face.join(*membranes(face, shape), *eyes)


def membranes(face: Quads, shape: np.ndarray) -> list[Quads]:
    """Quads across the openings of mouth and lids: no view passes through the surface.

    The membrane of the mouth shows when it opens; those of the lids lie inside the eyeballs and
    show at most beside them.
    """
    _, *holes = sorted(boundary_loops(face.corners), key=lambda x: -np.ptp(shape[x], 0)[1])
    if len(holes) != 3:
        raise ValueError(f"the face has {len(holes)} openings instead of two eyes and a mouth")
    middle = [abs(shape[loop, 0].mean()) < 1 for loop in holes]
    return [
        _membrane(face, shape, loop, MEMBRANE if mouth else SOCKET)
        for loop, mouth in zip(holes, middle, strict=True)
    ]


def _membrane(face: Quads, shape: np.ndarray, loop: list[int], part: int) -> Quads:
    """Quads between opposite vertices of the rim of an opening."""
    n = len(loop)
    if n % 2:
        raise ValueError(f"the rim of an opening has an odd number of vertices ({n})")

    def rims(start: int) -> tuple[list[int], list[int]]:
        return (
            [loop[(start + i) % n] for i in range(n // 2)],
            [loop[(start - 1 - i) % n] for i in range(n // 2)],
        )

    a, b = min(
        (rims(start) for start in range(n)),
        key=lambda pair: np.abs(shape[pair[0], 0] - shape[pair[1], 0]).sum(),
    )
    corners = np.array([[a[i + 1], a[i], b[i], b[i + 1]] for i in range(n // 2 - 1)])
    uv_of = dict(zip(face.corners.ravel(), face.uv_corners.ravel(), strict=True))
    uv_corners = np.vectorize(uv_of.get)(corners)
    return Quads(corners, uv_corners, np.full(len(corners), part))


def _selector(columns: np.ndarray, n_columns: int, weight: float) -> sp.csr_matrix:
    """(rows, n_columns) matrix with `weight` at every (i, columns[i, j])."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    values = np.full(columns.size, weight)
    return sp.coo_matrix((values, (rows, columns.ravel())), (len(columns), n_columns)).tocsr()


def catmull_clark(
    corners: np.ndarray, n: int, smooth: bool = True
) -> tuple[sp.csr_matrix, np.ndarray]:
    """One Catmull-Clark step: (vertices' matrix (n + edges + faces, n), new quads (4 f, 4)).

    New quads come corner by corner, each as (old vertex, edge point, face point, edge point). With
    smooth=False the same quads come from plain midpoints, which is right for texture coordinates.
    """
    f = len(corners)
    edges = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], -1).reshape(-1, 2), axis=1)
    edges, edge_of, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    edge_of = edge_of.reshape(f, 4)
    face_point = _selector(corners, n, 0.25)
    middle = _selector(edges, n, 0.5)
    if smooth:
        border = count == 1
        faces_of_edge = _selector(edge_of, len(edges), 1.0).T
        edge_point = sp.diags(np.where(border, 1.0, 0.5)) @ middle + sp.diags(
            np.where(border, 0.0, 0.25)
        ) @ (faces_of_edge @ face_point)
        faces_of_vertex = _selector(corners, n, 1.0).T.tocsr()
        edges_of_vertex = _selector(edges, n, 1.0).T.tocsr()
        valence = np.maximum(np.asarray(edges_of_vertex.sum(1)).ravel(), 1)
        n_faces = np.maximum(np.asarray(faces_of_vertex.sum(1)).ravel(), 1)
        on_border = np.zeros(n, bool)
        on_border[edges[border]] = True
        inside = (
            sp.diags(1 / (n_faces * valence)) @ faces_of_vertex @ face_point
            + sp.diags(2 / valence**2) @ edges_of_vertex @ middle
            + sp.diags((valence - 3) / valence)
        )
        border_edges = edges_of_vertex @ sp.diags(border.astype(float))
        n_border = np.maximum(np.asarray(border_edges.sum(1)).ravel(), 1)
        outside = 0.5 * (sp.diags(1 / n_border) @ border_edges @ middle + sp.identity(n))
        vertex_point = (
            sp.diags((~on_border).astype(float)) @ inside
            + sp.diags(on_border.astype(float)) @ outside
        )
    else:
        vertex_point, edge_point = sp.identity(n), middle
    ids = np.arange(f)
    quads = np.stack(
        [
            np.stack(
                [corners[:, i], n + edge_of[:, i], n + len(edges) + ids, n + edge_of[:, i - 1]], 1
            )
            for i in range(4)
        ],
        1,
    )
    return sp.vstack([vertex_point, edge_point, face_point]).tocsr(), quads.reshape(-1, 4)


def _clip(
    triangles: np.ndarray, uv_triangles: np.ndarray, level: np.ndarray, n_uv: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, sp.csr_matrix, sp.csr_matrix]:
    """Cut triangles along level = 0 and keep the side above it.

    Returns triangles, uv triangles, source triangle of each, and the matrices that make the
    vertices and uvs with the cut points appended.
    """
    cuts: dict[tuple[int, int], int] = {}
    uv_cuts: dict[tuple[int, int], tuple[int, float]] = {}

    def cut(a: int, b: int, uv_a: int, uv_b: int) -> tuple[int, int]:
        if a > b:
            a, b, uv_a, uv_b = b, a, uv_b, uv_a
        weight = level[a] / (level[a] - level[b])
        vertex = cuts.setdefault((a, b), len(level) + len(cuts))
        return vertex, uv_cuts.setdefault((uv_a, uv_b), (n_uv + len(uv_cuts), weight))[0]

    height = dict(enumerate(level.tolist()))
    kept, kept_uv, source = [], [], []
    for index, (triangle, uv_triangle) in enumerate(
        zip(triangles.tolist(), uv_triangles.tolist(), strict=True)
    ):
        if not any(level[v] > 0 for v in triangle):
            continue
        polygon = []
        for i in range(3):
            a, b, uv_a, uv_b = triangle[i], triangle[i - 2], uv_triangle[i], uv_triangle[i - 2]
            if level[a] >= 0:
                polygon.append((a, uv_a))
            if level[a] * level[b] < 0:
                polygon.append(cut(a, b, uv_a, uv_b))
        # A cut-off quad is split at its highest corner, which mirror images agree on.
        first = max(range(len(polygon)), key=lambda i: height.get(polygon[i][0], 0.0))
        polygon = polygon[first:] + polygon[:first]
        for i in range(1, len(polygon) - 1):
            fan = (polygon[0], polygon[i], polygon[i + 1])
            kept.append([corner[0] for corner in fan])
            kept_uv.append([corner[1] for corner in fan])
            source.append(index)

    def matrix(pairs: np.ndarray, weight: np.ndarray, n: int) -> sp.csr_matrix:
        rows = np.tile(np.arange(len(pairs)), 2)
        values = np.concatenate([1 - weight, weight])
        extra = sp.coo_matrix((values, (rows, pairs.T.ravel())), (len(pairs), n))
        return sp.vstack([sp.identity(n), extra]).tocsr()

    pairs = np.array(list(cuts), int).reshape(-1, 2)
    weight = level[pairs[:, 0]] / (level[pairs[:, 0]] - level[pairs[:, 1]])
    uv_pairs = np.array(list(uv_cuts), int).reshape(-1, 2)
    uv_weight = np.array([w for _, w in uv_cuts.values()])
    return (
        np.array(kept),
        np.array(kept_uv),
        np.array(source),
        matrix(pairs, weight, len(level)),
        matrix(uv_pairs, uv_weight, n_uv),
    )


def _snap(
    triangles: np.ndarray, level: np.ndarray, reach: float
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Move vertices that lie close to level = 0 onto it, so that cutting leaves no slivers.

    Such a vertex goes to the mean of the points where its edges cross the level within `reach` of
    their length.
    """
    edges = np.unique(
        np.sort(np.stack([triangles, np.roll(triangles, 1, axis=1)], -1).reshape(-1, 2)), axis=0
    )
    edges = edges[np.prod(np.sign(level[edges]), axis=1) < 0]
    edges = np.concatenate([edges, edges[:, ::-1]])
    weight = level[edges[:, 0]] / (level[edges[:, 0]] - level[edges[:, 1]])
    vertex, other = edges[weight < reach].T
    weight = weight[weight < reach] / np.bincount(vertex)[vertex]
    change = sp.coo_matrix(
        (np.r_[-weight, weight], (np.r_[vertex, vertex], np.r_[vertex, other])), (len(level),) * 2
    )
    return (sp.identity(len(level)) + change).tocsr(), np.where(
        np.isin(np.arange(len(level)), vertex), 0.0, level
    )


def triangle_quality(points: np.ndarray) -> np.ndarray:
    """(...,) of triangles (..., 3, 3): 1 for an equilateral one, 0 for a degenerate one."""
    sides = points - np.roll(points, 1, axis=-2)
    doubled_area = np.linalg.norm(np.cross(sides[..., 0, :], sides[..., 1, :]), axis=-1)
    return 2 * np.sqrt(3) * doubled_area / (sides**2).sum((-1, -2))


def _better_split(quads: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index that splits every quad in the better shaped pair of triangles.

    The diagonal from corner 0, the old vertex, is kept unless the other is clearly better: mirror
    images decide alike.
    """
    ways = np.array([[[0, 1, 2], [0, 2, 3]], [[0, 1, 3], [1, 2, 3]]])
    quality = np.stack([triangle_quality(shape[quads[:, way]]).min(1) for way in ways])
    return np.arange(len(quads))[:, None, None], ways[(quality[1] > 1.2 * quality[0]).astype(int)]


def refine_and_crop(region: Quads, base: BaseMesh, shape: np.ndarray, crop) -> ModelMesh:
    """Subdivide once, cut where `crop((v, 3) positions in mm)` is negative, drop the unused."""
    n, n_uv = len(base.vertices), len(base.uv)
    subdivide, quads = catmull_clark(region.corners, n)
    uv_subdivide, uv_quads = catmull_clark(region.uv_corners, n_uv, smooth=False)
    split = _better_split(quads, subdivide @ shape)
    triangles, uv_triangles = quads[split].reshape(-1, 3), uv_quads[split].reshape(-1, 3)
    part = np.repeat(region.part, 8)
    snap, level = _snap(triangles, crop(subdivide @ shape), reach=0.35)
    triangles, uv_triangles, source, cut, uv_cut = _clip(
        triangles, uv_triangles, level, uv_subdivide.shape[0]
    )
    part = part[source]
    components = _islands(triangles, cut.shape[0])
    keep = np.bincount(components)[components] > 80  # the crop may leave crumbs
    triangles, uv_triangles, part = triangles[keep], uv_triangles[keep], part[keep]
    used, triangles = np.unique(triangles, return_inverse=True)
    uv_used, uv_triangles = np.unique(uv_triangles, return_inverse=True)
    return ModelMesh(
        triangles.reshape(-1, 3),
        uv_triangles.reshape(-1, 3),
        part,
        (cut @ snap @ subdivide).tocsr()[used],
        (uv_cut @ uv_subdivide).tocsr()[uv_used],
    )
