"""Google's GNM Head v3: an .npz archive, and the 68 landmarks in a text file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from facerecon.converters.source import Family, SourceModel

FAMILY = Family(
    kind="gnm",
    file="gnm_head.npz, with head_sparse_68.txt beside it or where the repository has it",
    page="https://github.com/google/GNM and https://huggingface.co/google/gnm-v3",
    licence="Apache-2.0",
)
METERS = 1000.0  # mm
LANDMARKS = "head_sparse_68.txt"
GROUPS = ("skin", "left_eye", "right_eye")
MOUTH = "mouth_sock"  # part of the skin
ARRAYS = (
    "template_vertex_positions", "triangles", "triangle_uvs", "vertex_identity_basis",
    "expression_basis", "expression_names", "vertex_groups", "vertex_group_names",
)  # fmt: skip


def read(path: Path) -> SourceModel:
    """Read a GNM head: skin and eyeballs, without teeth, tongue and joints.

    Raises:
        ModelFileError: not such a file, or truncated.
        FileNotFoundError: the landmarks' file is not there.
    """
    landmarks_path = _landmarks_file(path)
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            mean, triangles, uv, identity, expression, names, groups, group_names = (
                file[name] for name in ARRAYS
            )
        n = len(mean)
        if identity.shape[1:] != (n, 3) or expression.shape[1:] != (n, 3):
            raise ValueError(f"bases of shapes {identity.shape} and {expression.shape}")
        groups = dict(zip(group_names.tolist(), groups > 0.5, strict=True))
        skin, left, right = (groups[name] for name in GROUPS)
        points, corners = np.unique(uv.reshape(-1, 2), axis=0, return_inverse=True)
        rows = np.loadtxt(landmarks_path, ndmin=2)
        if rows.shape != (68, 6) or rows[:, ::2].max() >= n:
            raise ValueError(f"{LANDMARKS} holds {rows.shape} numbers")
    except KeyError as error:
        raise FAMILY.error(path, f"the array or group {error} is missing") from None
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FAMILY.error(path, f"damaged or truncated ({error})") from error
    # Each row: three vertices and their weights. The file's order of the jaw is not iBUG's, which
    # `complete.in_order` cures.
    places, weights = rows[:, ::2].astype(np.int64), rows[:, 1::2]
    source = SourceModel(
        name="GNM Head v3",
        family=FAMILY,
        files=(path, landmarks_path),
        vertices=METERS * mean.astype(np.float64),
        triangles=triangles.astype(np.int64),
        identity=(METERS * identity).astype(np.float32),
        expression=(METERS * expression).astype(np.float32),
        expression_names=names.tolist(),
        landmarks=places[np.arange(68), weights.argmax(1)],
        eyes=(left, right),
        mouth=groups.get(MOUTH),
        uv=points.astype(np.float64),
        uv_triangles=corners.reshape(-1, 3),
        notes=(
            "joints, teeth and tongue are left out",
            "landmarks: the heaviest of the three vertices of each",
        ),
    )
    return source.keep(skin | left | right)


def _landmarks_file(path: Path) -> Path:
    """Beside the model, or in data/landmarks when the model lies in data/versions/v3_0."""
    places = [path.parent, path.parent / "landmarks", path.parent.parent.parent / "landmarks"]
    for place in places:
        if (place / LANDMARKS).is_file():
            return place / LANDMARKS
    raise FAMILY.missing(places[0] / LANDMARKS)
