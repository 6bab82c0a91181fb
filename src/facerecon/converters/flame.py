"""FLAME 2020, 2023 and 2023 Open: a pickled dictionary of arrays."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from facerecon.converters.pickled import PickledError, read_pickled
from facerecon.converters.source import Family, SourceModel
from facerecon.messages import cause_of

FAMILY = Family(
    kind="flame",
    file="generic_model.pkl (2020), flame2023.pkl or flame2023_Open.pkl",
    page="https://flame.is.tue.mpg.de",
    licence="after registration with the MPI for Intelligent Systems; FLAME 2023 Open: CC-BY-4.0",
)
METERS = 1000.0  # mm
N_EXPRESSION = 100  # the last shape components; those before are identity
JAW = 2  # joint
JAW_OPEN = 0.35  # radians: jawOpen at full activation


def read(path: Path) -> SourceModel:
    """Read a FLAME model.

    Its joints are left out (head, neck and eyes stay as in the mean face), but for the jaw: its
    opening becomes the expression unit `jawOpen`, a displacement along a straight line.

    Raises:
        ModelFileError: not such a file, truncated, or with more in it than arrays.
    """
    try:
        file = read_pickled(path)
    except PickledError as error:
        raise FAMILY.error(path, error) from error
    try:
        vertices = np.asarray(file["v_template"], np.float64)
        shapes = np.asarray(file["shapedirs"], np.float32)
        triangles = np.asarray(file["f"], np.int64)
        n, n_shapes = len(vertices), shapes.shape[-1]
        if shapes.shape != (n, 3, n_shapes) or n_shapes <= N_EXPRESSION:
            raise ValueError(f"{vertices.shape} vertices, {shapes.shape} shapes")
        if triangles.ndim != 2 or triangles.min() < 0 or triangles.max() >= n:
            raise ValueError(f"triangles that are none of {n} vertices")
        if not (np.isfinite(vertices).all() and np.isfinite(shapes).all()):
            raise ValueError("NaN or infinite values")
        modes = METERS * np.moveaxis(shapes, 2, 0)
        names = [f"expression_{i:03d}" for i in range(N_EXPRESSION)]
        expression = np.concatenate([modes[-N_EXPRESSION:], METERS * _jaw_open(file)[None]])
    except KeyError as error:
        raise FAMILY.error(path, f"the array {error} is missing") from None
    except Exception as error:  # whatever NumPy and SciPy make of arrays of other shapes and types
        cause = cause_of(error)
        raise FAMILY.error(path, f"arrays that do not fit together ({cause})") from error
    return SourceModel(
        name=f"FLAME ({path.name})",
        family=FAMILY,
        files=(path,),
        vertices=METERS * vertices,
        triangles=triangles,
        identity=modes[:-N_EXPRESSION],
        expression=expression.astype(np.float32),
        expression_names=[*names, "jawOpen"],
        eyes=_eyeballs(vertices, triangles),
        notes=(
            "joints: the poses of neck and eyes are left out",
            f"jawOpen: the jaw turned by {JAW_OPEN} rad, as a displacement of the mean face",
        ),
    )


def _eyeballs(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Masks of the two eyeballs, the person's left one first: the parts besides the skin."""
    n = len(vertices)
    pairs = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = sp.coo_array((np.ones(len(pairs)), pairs.T), (n, n))
    count, part = connected_components(graph, directed=False)
    if count != 3:
        return None
    eyes = np.argsort(-np.bincount(part))[1:]
    right, left = sorted(eyes, key=lambda eye: vertices[part == eye, 0].mean())
    return part == left, part == right


def _jaw_open(file: dict) -> np.ndarray:
    """(v, 3) displacement in meters of the mean face when the jaw turns by JAW_OPEN.

    Source: linear blend skinning with pose correctives, Li et al., SIGGRAPH Asia 2017, Eqs. 1, 4.
    """
    vertices = np.asarray(file["v_template"], np.float64)
    regressor = file["J_regressor"]
    joints = (regressor.toarray() if sp.issparse(regressor) else np.asarray(regressor)) @ vertices
    weight = np.asarray(file["weights"], np.float64)[:, JAW, None]
    turn = Rotation.from_rotvec([JAW_OPEN, 0, 0]).as_matrix()
    correctives = np.asarray(file["posedirs"], np.float64).reshape(*vertices.shape, -1)
    features = np.zeros(correctives.shape[2])
    features[9 * (JAW - 1) : 9 * JAW] = (turn - np.eye(3)).ravel()  # the root joint has none
    moved = vertices + correctives @ features
    turned = (moved - joints[JAW]) @ turn.T + joints[JAW]
    return moved + weight * (turned - moved) - vertices
