"""ICT-FaceKit's identities as points on faces: a population that real scans tell about."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from surface_fit import LinearFace, visible

N_INNER = 17  # landmarks before the brows: the outline, which is no fixed place on a face


@dataclass(frozen=True)
class Population:
    """Neutral faces of the ICT-FaceKit model."""

    face: LinearFace  # the whole head, without the eyeballs
    points: np.ndarray  # (n,) the vertices of the face that a scanner sees
    landmarks: np.ndarray  # (68,)

    @classmethod
    def load(cls, path: Path) -> "Population":
        """Read an .npz with mean, identity, faces, landmarks68 and narrow_face_vertices.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; give ICT-FaceKit packed as .npz")
        with np.load(path, allow_pickle=False) as file:
            data = {name: file[name] for name in file.files if name != "expression"}
        mean, faces = data["mean"].astype(np.float64), data["faces"]
        seen = np.flatnonzero(visible(mean, faces)[: int(data["narrow_face_vertices"])])
        return cls(LinearFace(mean, data["identity"], faces), seen, data["landmarks68"])

    def anchors(self, shape: np.ndarray) -> np.ndarray:
        """(51, 3) the landmarks from the brows on, of a shape (v, 3)."""
        return shape[self.landmarks[N_INNER:]]


def spread_evenly(n: int, generator: np.random.Generator) -> np.ndarray:
    """(2 n, n) identities whose mean is zero and whose covariance is one, exactly.

    They are random orthogonal directions, both ways, at the usual distance from the mean.
    """
    directions, _ = np.linalg.qr(generator.normal(size=(n, n)))
    return np.sqrt(n) * np.concatenate([directions, -directions])
