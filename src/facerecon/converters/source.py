"""A model as a converter reads it, before what its format lacks is added."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from facerecon.morphable_model import ModelFileError

WITHOUT = "the model that ships with facerecon needs no file, and every chapter runs with it"


@dataclass(frozen=True)
class Family:
    """One line of models: which file it comes in, whose it is, and where it is to be had."""

    kind: str
    file: str
    page: str
    licence: str

    def help(self) -> str:
        """Cure for a missing or unusable file."""
        return f"expected {self.file}, to be had at {self.page} ({self.licence}); {WITHOUT}"

    def error(self, path: object, cause: object) -> ModelFileError:
        """A file that is there but cannot be used."""
        return ModelFileError(f"{path}: {cause}; {self.help()}")

    def missing(self, path: object) -> FileNotFoundError:
        """A file that is not there."""
        return FileNotFoundError(f"{path}: no such file; {self.help()}")


@dataclass(frozen=True)
class SourceModel:
    """A linear face model in mm, coefficients in standard deviations, any origin.

    x points to the viewer's right, y up, z to the viewer. Teeth, tongue and the like are left out.

    vertices (v, 3); triangles (f, 3), in either winding, but one for all; identity (i, v, 3);
    expression (e, v, 3): of a component per standard deviation, of a unit that the default model
    knows by name at full activation; both may be empty, and then `expression` is the default
    model's.
    albedo: mean (v, 3) and basis (a, v, 3), RGB in [0, 1], if the format has them.
    landmarks (68,): vertex indices, if the format has them. eyes: masks (v,) of the eyeballs, the
    person's left one first; mouth: mask of the inside of the mouth; if these are parts of their
    own. uv (t, 2) and uv_triangles (f, 3), v up.
    notes: what was left out or approximated, in words.
    """

    name: str
    family: Family
    files: Sequence[Path]
    vertices: Float[np.ndarray, "vertices 3"]
    triangles: Int[np.ndarray, "triangles 3"]
    identity: Float[np.ndarray, "identity vertices 3"]
    expression: Float[np.ndarray, "expression vertices 3"]
    expression_names: Sequence[str]
    albedo: (
        tuple[Float[np.ndarray, "vertices 3"], Float[np.ndarray, "albedo vertices 3"]] | None
    ) = None
    landmarks: Int[np.ndarray, "68"] | None = None
    eyes: tuple[Bool[np.ndarray, " vertices"], Bool[np.ndarray, " vertices"]] | None = None
    mouth: Bool[np.ndarray, " vertices"] | None = None
    uv: Float[np.ndarray, "texture_points 2"] | None = None
    uv_triangles: Int[np.ndarray, "triangles 3"] | None = None
    notes: Sequence[str] = ()

    @property
    def parts(self) -> dict[str, Bool[np.ndarray, " vertices"]]:
        """The eyeballs and the inside of the mouth by the names of our regions."""
        found = {} if self.eyes is None else {"eye_left": self.eyes[0], "eye_right": self.eyes[1]}
        return found if self.mouth is None else found | {"mouth_interior": self.mouth}

    def keep(self, vertices: Bool[np.ndarray, " vertices"]) -> "SourceModel":
        """The part of the mesh whose triangles have all their corners among these vertices."""
        inside = vertices[self.triangles].all(1)
        chosen, triangles = np.unique(self.triangles[inside], return_inverse=True)
        index = np.full(len(self.vertices), -1)
        index[chosen] = np.arange(len(chosen))
        uv = uv_triangles = None
        if self.uv is not None:
            points, uv_triangles = np.unique(self.uv_triangles[inside], return_inverse=True)
            uv, uv_triangles = self.uv[points], uv_triangles.reshape(-1, 3)
        landmarks = self.landmarks
        if landmarks is not None:
            landmarks = index[landmarks]
            if landmarks.min() < 0:
                raise self.family.error(self.files[0], "a landmark lies off the face")
        return replace(
            self,
            vertices=self.vertices[chosen],
            triangles=triangles.reshape(-1, 3),
            identity=self.identity[:, chosen],
            expression=self.expression[:, chosen],
            albedo=self.albedo and (self.albedo[0][chosen], self.albedo[1][:, chosen]),
            landmarks=landmarks,
            eyes=self.eyes and (self.eyes[0][chosen], self.eyes[1][chosen]),
            mouth=None if self.mouth is None else self.mouth[chosen],
            uv=uv,
            uv_triangles=uv_triangles,
        )


def sha256(paths: Iterable[Path]) -> str:
    """Hash of the bytes of files one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
