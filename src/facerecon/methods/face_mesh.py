"""MediaPipe's face mesh as a peer: 468 points with a depth, from one photograph.

Kartynnik, Ablavatski, Grishchenko, Grundmann: Real-time Facial Surface Geometry from Monocular
Video on Mobile GPUs, 2019. The paper does not compare with it; many programs use it. From
MediaPipe: its detector, its network, and depths in units of the image's width. Ours: the triangles
between the points, and the size, for which the outer eye corners are as far apart as the morphable
model's.
MediaPipe is optional; docs/methods.md says how to install it.
"""

import warnings
from functools import cached_property
from importlib import import_module
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int

from facerecon.imaging import to_bytes
from facerecon.messages import cause_of
from facerecon.methods.estimate import Estimate
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate, rasterize

OUTER_EYE_CORNERS = (33, 263)
"""Of MediaPipe's points, as 36 and 45 of the 68 landmarks."""

_NETWORKS = (
    "modules/face_detection/face_detection_short_range.tflite",
    "modules/face_landmark/face_landmark.tflite",
)


def mediapipe() -> ModuleType:
    """The package, if it can be used here.

    Raises:
        ImportError: it cannot be imported, or has no face mesh; with cause and cure.
    """
    try:
        package = import_module("mediapipe")
        import_module("mediapipe.python.solutions.face_mesh")
    except Exception as error:  # with an unsuitable protobuf it fails in many ways
        raise ImportError(
            f"method 'mediapipe': MediaPipe cannot be used ({cause_of(error)});"
            " docs/methods.md says how to install it"
        ) from None
    return package


def network_files() -> list[Path]:
    """MediaPipe's networks, on which the method's results depend.

    Raises:
        ImportError: see `mediapipe`.
    """
    folder = Path(mediapipe().__file__).parent
    return [folder / name for name in _NETWORKS]


def triangles_of(edges: frozenset[tuple[int, int]]) -> Int[np.ndarray, "triangles 3"]:
    """The triangles of a mesh, any way round, from its edges.

    Three edges that close are no triangle of the mesh if each already has two others.
    """
    neighbors: dict[int, set[int]] = {}
    for a, b in edges:
        neighbors.setdefault(a, set()).add(b)
        neighbors.setdefault(b, set()).add(a)
    closed = {tuple(sorted((a, b, c))) for a, b in edges for c in neighbors[a] & neighbors[b]}
    uses: dict[tuple[int, int], int] = {}
    for triangle in closed:
        for edge in combinations(triangle, 2):
            uses[edge] = uses.get(edge, 0) + 1
    real = [t for t in closed if any(uses[edge] < 3 for edge in combinations(t, 2))]
    return np.array(sorted(real))


def depth_of_points(
    points: Float[np.ndarray, "points 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    shape: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """Depth of a mesh on the photograph's pixels, NaN beside it.

    Args:
        points: column, row and depth (larger is nearer), all in pixels. triangles: any way round.
        shape: rows and columns of the photograph.
    """
    first, second, third = (points[triangles[:, i], :2] for i in range(3))
    along, across = second - first, third - first
    away = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0] > 0  # rows count downward
    facing = torch.from_numpy(np.where(away[:, None], triangles[:, ::-1], triangles).copy())
    projected = torch.from_numpy(points.astype(np.float32))[None]
    fragments = rasterize(projected, facing.to(torch.int64), *shape)
    depth = interpolate(projected[..., 2:].contiguous(), fragments, facing)[0, 0]
    return depth.where(fragments.mask[0, 0], torch.nan).numpy()


class FaceMesh:
    """The method, ready to be called.

    Raises:
        ImportError: see `mediapipe`.
    """

    def __init__(self) -> None:
        self._package = mediapipe()
        module = self._package.solutions.face_mesh
        self._network = module.FaceMesh(static_image_mode=True, max_num_faces=1)
        self._triangles = triangles_of(module.FACEMESH_TESSELATION)

    @cached_property
    def _eyes_mm(self) -> float:
        model = MorphableModel.default()
        left, right = model.mean[model.landmarks[[36, 45]]]
        return float((left - right).norm())

    def __call__(self, image: Float[np.ndarray, "height width 3"]) -> Estimate:
        """Depth of the largest face.

        Args:
            image: RGB in [0, 1].

        Raises:
            ValueError: no face.
        """
        with warnings.catch_warnings():  # about its own use of protobuf
            warnings.filterwarnings("ignore", message=".*GetPrototype.* is deprecated")
            found = self._network.process(np.ascontiguousarray(to_bytes(image)))
        if not found.multi_face_landmarks:
            raise ValueError("MediaPipe finds no face")
        rows, columns = image.shape[:2]
        points = np.array([[p.x, p.y, p.z] for p in found.multi_face_landmarks[0].landmark])
        # Its pixels begin at their corner, ours at their center; its depth grows away from us.
        points = points * [columns, rows, -columns] - [0.5, 0.5, 0.0]
        left, right = points[list(OUTER_EYE_CORNERS)]
        mm_per_pixel = self._eyes_mm / float(np.linalg.norm(left - right))
        depth = depth_of_points(points, self._triangles, (rows, columns))
        return Estimate(mm_per_pixel * depth, mm_per_pixel)
