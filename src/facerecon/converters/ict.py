"""ICT-FaceKit, light version: a folder of OBJ files, one per shape."""

import json
from pathlib import Path

import numpy as np

from facerecon.converters.source import Family, SourceModel

FAMILY = Family(
    kind="ict",
    file="the folder FaceXModel with generic_neutral_mesh.obj, identity000.obj, ... and"
    " vertex_indices.json",
    page="https://github.com/ICT-VGL/ICT-FaceKit, or by --fetch",
    licence="MIT",
)
NEUTRAL, INDICES, FOLDER = "generic_neutral_mesh.obj", "vertex_indices.json", "FaceXModel"
CENTIMETERS = 10.0  # mm
N_VERTICES = 26719
# Vertex ranges of ICT-FaceKit's README. Teeth, lashes and the like are left out.
FACE, HEAD_AND_NECK, MOUTH = range(0, 9409), range(9409, 11248), range(11248, 13294)
EYE_LEFT, EYE_RIGHT = range(21451, 23021), range(23021, 24591)
LEFT_OUT = ("mouthClose",)  # makes sense only with an open jaw, and the sampler does not know that


def read(path: Path) -> SourceModel:
    """Read the folder FaceXModel.

    Raises:
        FileNotFoundError: one of the files is not there.
        ModelFileError: a file is truncated or of another mesh.
    """
    indices_path, neutral_path = path / INDICES, path / NEUTRAL
    for needed in (indices_path, neutral_path):
        if not needed.is_file():
            raise FAMILY.missing(needed)
    try:
        indices = json.loads(indices_path.read_text("utf-8"))
        landmarks = np.array(indices["idx_to_landmark_verts"], np.int64)
        names = [name for name in indices["expressions"] if name not in LEFT_OUT]
        if landmarks.shape != (68,) or landmarks.max() >= N_VERTICES:
            raise ValueError(f"{len(landmarks)} landmarks")
    except (ValueError, TypeError, KeyError) as error:
        raise FAMILY.error(indices_path, f"damaged or truncated ({error})") from error
    count = len(list(path.glob("identity[0-9][0-9][0-9].obj")))
    if count == 0:
        raise FAMILY.missing(path / "identity000.obj")
    identity_paths = [path / f"identity{i:03d}.obj" for i in range(count)]
    expression_paths = [path / f"{name}.obj" for name in names]

    neutral = read_positions(neutral_path)
    uv, triangles, uv_triangles = read_faces(neutral_path)
    parts = np.zeros((5, N_VERTICES), bool)
    for part, chosen in enumerate((FACE, HEAD_AND_NECK, MOUTH, EYE_LEFT, EYE_RIGHT)):
        parts[part, chosen] = True

    def shapes(paths: list[Path]) -> np.ndarray:
        moved = np.stack([(read_positions(p) - neutral).astype(np.float32) for p in paths])
        return CENTIMETERS * moved

    source = SourceModel(
        name="ICT-FaceKit light",
        family=FAMILY,
        files=(neutral_path, indices_path, *identity_paths, *expression_paths),
        vertices=CENTIMETERS * neutral,
        triangles=triangles,
        identity=shapes(identity_paths),
        expression=shapes(expression_paths),
        # ARKit's names, as in the default model.
        expression_names=[name.replace("_L", "Left").replace("_R", "Right") for name in names],
        landmarks=landmarks,
        eyes=(parts[3], parts[4]),
        mouth=parts[2],
        uv=uv,
        uv_triangles=uv_triangles,
        notes=(
            "teeth, gums, tongue, eye sockets, lashes and the eyes' fluid are left out",
            f"expressions left out: {', '.join(LEFT_OUT)}",
        ),
    )
    return source.keep(parts.any(0))


def read_positions(path: Path) -> np.ndarray:
    """(N_VERTICES, 3) the vertices of one of the OBJ files, in its unit.

    Raises:
        FileNotFoundError: there is no such file. ModelFileError: it holds another mesh.
    """
    values = _numbers(path, b"v ")
    if values.size != 3 * N_VERTICES:
        raise FAMILY.error(
            path, f"{values.size / 3:g} vertices instead of {N_VERTICES}: truncated?"
        )
    return values.reshape(-1, 3)


def read_faces(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texture points (t, 2), triangles (f, 3) and their texture points (f, 3) of an OBJ file.

    Polygons are cut into fans. Raises: ModelFileError.
    """
    uv = _numbers(path, b"vt ").reshape(-1, 2)
    triangles, uv_triangles = [], []
    try:
        for line in _lines(path, b"f "):
            corners = [corner.split(b"/")[:2] for corner in line.split()]
            vertices, points = zip(*((int(v), int(t)) for v, t in corners), strict=True)
            for i in range(1, len(corners) - 1):
                triangles.append((vertices[0], vertices[i], vertices[i + 1]))
                uv_triangles.append((points[0], points[i], points[i + 1]))
        found = np.array(triangles) - 1, np.array(uv_triangles) - 1
        if found[0].shape[1] != 3 or found[0].max() >= N_VERTICES or found[1].max() >= len(uv):
            raise ValueError("a polygon of vertices that are not there")
    except (ValueError, IndexError) as error:
        raise FAMILY.error(path, f"damaged or truncated ({error})") from error
    return uv, *found


def _lines(path: Path, keyword: bytes) -> list[bytes]:
    if not path.is_file():
        raise FAMILY.missing(path)
    lines = path.read_bytes().splitlines()
    return [line[len(keyword) :] for line in lines if line.startswith(keyword)]


def _numbers(path: Path, keyword: bytes) -> np.ndarray:
    try:
        return np.array(b" ".join(_lines(path, keyword)).split(), dtype=np.float64)
    except ValueError as error:
        raise FAMILY.error(path, f"damaged ({error})") from error
