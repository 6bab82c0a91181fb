"""Writes morphable models as small files in the layout of other formats.

Each writer takes what it writes from a `Head` in mm, x to the viewer's right, y up, z to the
viewer, and gives it the units, axes, orders and windings of its format.
"""

import json
import pickle
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import scipy.sparse as sp
from scipy.io import savemat

from facerecon.morphable_model import MorphableModel

N_ICT = 26719
EYES_ICT = (21451, 23021)  # first vertices of the left and the right eyeball
# Rows 2 to 6 of GNM's list go up the jaw where the iBUG scheme goes down.
GNM_JAW = np.r_[0, 1, 6, 5, 4, 3, 2, 7:68]


@dataclass
class Head:
    """A person of the default model, off its origin, with some of its displacements."""

    mean: np.ndarray
    triangles: np.ndarray
    identity: np.ndarray  # mm per standard deviation
    expression: np.ndarray
    albedo: np.ndarray
    albedo_basis: np.ndarray
    landmarks: np.ndarray
    eyes: tuple[np.ndarray, np.ndarray]
    mouth: np.ndarray

    @classmethod
    def of(cls, model: MorphableModel, n_identity: int = 4, n_expression: int = 3) -> "Head":
        person = 0.6 * np.random.default_rng(1).normal(size=model.n_identity)
        basis = model.basis.numpy().astype(np.float64).reshape(-1, model.n_vertices, 3)
        regions = {name: mask.numpy() > 0.5 for name, mask in model.regions.items()}
        return cls(
            mean=model.mean.numpy() + np.tensordot(person, basis[: len(person)], 1) + [0, 20, 80],
            triangles=model.triangles.numpy(),
            identity=basis[:n_identity],
            expression=basis[len(person) :][:n_expression],
            albedo=model.albedo_mean.numpy(),
            albedo_basis=model.albedo_basis.numpy()[:2],
            landmarks=model.landmarks.numpy(),
            eyes=(regions["eye_left"], regions["eye_right"]),
            mouth=regions["mouth_interior"],
        )

    def without_inner_parts(self) -> "Head":
        """The skin alone, as one piece with holes."""
        skin = ~(self.eyes[0] | self.eyes[1] | self.mouth)
        return self.part(skin[self.triangles].all(1))

    def part(self, chosen: np.ndarray) -> "Head":
        """The vertices of some triangles."""
        keep, triangles = np.unique(self.triangles[chosen], return_inverse=True)
        return Head(
            self.mean[keep],
            triangles.reshape(-1, 3),
            self.identity[:, keep],
            self.expression[:, keep],
            self.albedo[keep],
            self.albedo_basis[:, keep],
            np.searchsorted(keep, self.landmarks),
            (self.eyes[0][keep], self.eyes[1][keep]),
            self.mouth[keep],
        )


def unit_columns(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3 v, n) columns of length one, and their lengths."""
    columns = basis.reshape(len(basis), -1).T
    length = np.linalg.norm(columns, axis=0)
    return columns / length, length


def write_bfm2009(path: Path, head: Head) -> None:
    """Micrometres, colors to 255, columns of standard deviations, 1-based, winding turned."""
    shape, shape_std = unit_columns(head.identity * 1000)
    color, color_std = unit_columns(head.albedo_basis * 255)
    arrays = {
        "shapeMU": head.mean.reshape(-1, 1) * 1000,
        "shapePC": shape,
        "shapeEV": shape_std[:, None],
        "texMU": head.albedo.reshape(-1, 1) * 255,
        "texPC": color,
        "texEV": color_std[:, None],
        "segbin": np.zeros((len(head.mean), 4)),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    savemat(path, arrays | {"tl": head.triangles[:, [1, 0, 2]].astype(np.float64) + 1})


def write_bfm_h5(path: Path, head: Head, with_expression: bool = True) -> None:
    """Statismo's layout: mm, colors to one, variances, cells as rows of corners."""
    with h5py.File(path, "w") as file:

        def component(name: str, mean: np.ndarray, basis: np.ndarray) -> None:
            columns, std = unit_columns(basis)
            model = file.create_group(f"{name}/model")
            model["mean"] = mean.ravel().astype(np.float32)
            model["pcaBasis"] = columns.astype(np.float32)
            model["pcaVariance"] = (std**2).astype(np.float32)
            model["noiseVariance"] = np.zeros(1, np.float32)

        component("shape", head.mean - 1.0, head.identity)
        component("color", head.albedo, head.albedo_basis)
        if with_expression:  # its mean is a displacement
            component("expression", np.full_like(head.mean, 1.0), head.expression)
        file["shape/representer/points"] = head.mean.T.astype(np.float32)
        file["shape/representer/cells"] = head.triangles.T.astype(np.int32)


def write_gnm(path: Path, head: Head) -> None:
    """Metres; vertex groups; the 68 landmarks with weights, jaw in an order of its own."""
    n, skin = len(head.mean), ~(head.eyes[0] | head.eyes[1])
    corners = np.random.default_rng(2).random((n, 2)).astype(np.float32)
    # Teeth, which are left out, come before everything else.
    teeth = np.zeros((3, 3))
    arrays = {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": np.concatenate([teeth, head.mean / 1000]),
        "triangles": np.concatenate([[[0, 1, 2]], head.triangles + 3]).astype(np.int32),
        "triangle_uvs": np.concatenate([np.zeros((1, 3, 2)), corners[head.triangles]]),
        "vertex_identity_basis": np.pad(head.identity / 1000, [(0, 1), (3, 0), (0, 0)]),
        "expression_basis": np.pad(head.expression / 1000, [(0, 0), (3, 0), (0, 0)]),
        "identity_names": np.array([f"head_{i}" for i in range(len(head.identity) + 1)]),
        "expression_names": np.array([f"lower_face_{i}" for i in range(len(head.expression))]),
        "vertex_group_names": np.array(["skin", "left_eye", "right_eye", "mouth_sock", "teeth"]),
        "vertex_groups": np.pad(
            np.stack([skin, *head.eyes, head.mouth, np.zeros(n)]), [(0, 0), (3, 0)]
        ).astype(np.float32),
    }
    floats = [name for name, array in arrays.items() if array.dtype == np.float64]
    with open(path, "wb") as file:  # a path without .npz would get it
        np.savez(file, **arrays | {name: arrays[name].astype(np.float32) for name in floats})
    lines = []
    for vertex in head.landmarks[GNM_JAW]:
        triangle = head.triangles[(head.triangles == vertex).any(1)][0]
        others = triangle[triangle != vertex]
        lines.append(f"{others[0] + 3} 0.006 {vertex + 3} 0.900 {others[1] + 3} 0.094\n")
    (path.parent / "head_sparse_68.txt").write_text("".join(lines))


def write_flame(path: Path, head: Head, protocol: int | str = "python 2") -> dict[str, np.ndarray]:
    """Metres; chumpy and sparse arrays in a pickle. Returns what was written, as plain arrays."""
    n = len(head.mean)
    shapes = np.zeros((104, n, 3))
    shapes[:4], shapes[4 : 4 + len(head.expression)] = head.identity, head.expression
    nose = head.mean[head.landmarks[33]]
    regressor = sp.random(5, n, 8 / n, random_state=3, format="lil")
    ears = np.abs(head.mean - [0, nose[1] + 10, nose[2] - 110]) @ [0, 1, 1]
    regressor[2] = np.exp(-ears / 5)  # the jaw turns about an axis below the ears
    regressor = sp.csc_matrix(regressor / regressor.sum(1))
    weights = np.zeros((n, 5))
    weights[:, 2] = 1 / (1 + np.exp((head.mean[:, 1] - nose[1] + 25) / 5))
    correctives = np.cos(head.mean[:, :, None] / 30 + np.arange(36))
    arrays = {
        "v_template": head.mean / 1000,
        "shapedirs": np.moveaxis(shapes, 0, 2) / 1000,
        "posedirs": 1e-3 * correctives,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "f": head.triangles.astype(np.uint32),
    }
    with fake_chumpy() as array_class:
        stored = dict(arrays)
        for name in ("v_template", "shapedirs"):
            stored[name] = array_class()
            stored[name].x = np.asfortranarray(arrays[name])
        stored |= {"bs_style": "lbs", "bs_type": "lrotmin"}
        path.write_bytes(
            python2_pickle(stored) if protocol == "python 2" else pickle.dumps(stored, protocol)
        )
    return arrays | {"J_regressor": regressor.toarray()}


class fake_chumpy:
    """While it lasts, a module chumpy.ch whose Ch can be pickled."""

    def __enter__(self) -> type:
        module = ModuleType("chumpy.ch")
        module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
        sys.modules |= {"chumpy": ModuleType("chumpy"), "chumpy.ch": module}
        return module.Ch

    def __exit__(self, *_: object) -> None:
        for name in ("chumpy", "chumpy.ch"):
            del sys.modules[name]


def python2_pickle(value: object) -> bytes:
    """As Python 2 wrote it: protocol 2, and bytes and texts alike as BINSTRING."""
    import io

    class Pickler(pickle._Pickler):
        dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

        def save_string(self, text):
            data = text if isinstance(text, bytes) else text.encode("latin1")
            if len(data) < 256:
                self.write(pickle.SHORT_BINSTRING + struct.pack("<B", len(data)) + data)
            else:
                self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
            self.memoize(text)

        dispatch[bytes] = dispatch[str] = save_string

    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def write_ict(
    folder: Path,
    vertices: np.ndarray,
    triangles: np.ndarray,
    identity: np.ndarray,
    expression: dict[str, np.ndarray],
    landmarks: np.ndarray,
) -> Path:
    """The folder FaceXModel: centimetres, an OBJ per shape. Arrays on N_ICT vertices, in mm."""
    folder = folder / "FaceXModel"
    folder.mkdir(parents=True)
    uv = np.random.default_rng(4).random((len(vertices), 2)) * [7, 1]  # seven UDIM tiles
    head = "# ICT FaceKit\nmtllib ICTFaceModelMaterial.mtl\n"
    texture = "".join(f"vt {u:.6f} {v:.6f}\n" for u, v in uv)
    corners = triangles + 1
    faces = "usemtl M_Face\n" + "".join(
        f"f {a}/{a} {b}/{b} {c}/{c}\n" for a, b, c in corners.tolist()
    )

    def write(name: str, positions: np.ndarray) -> None:
        points = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in (positions / 10).tolist())
        (folder / f"{name}.obj").write_text(head + points + texture + faces)

    write("generic_neutral_mesh", vertices)
    for i, moved in enumerate(identity):
        write(f"identity{i:03d}", vertices + moved)
    for name, moved in expression.items():
        write(name, vertices + moved)
    indices = {"expressions": list(expression), "idx_to_landmark_verts": landmarks.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(indices))
    return folder


def ict_arrays(head: Head) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The head on ICT-FaceKit's vertices, and which they are; the rest lies at the origin."""
    eye = head.eyes[0] | head.eyes[1]
    place = np.zeros(len(head.mean), np.int64)
    for part, start, room in (
        (~eye & ~head.mouth, 0, 11248),
        (head.mouth, 11248, 2046),
        (head.eyes[0], EYES_ICT[0], 1570),
        (head.eyes[1], EYES_ICT[1], 1570),
    ):
        place[part] = start + np.arange(part.sum())
        assert part.sum() <= room

    def spread(values: np.ndarray) -> np.ndarray:
        wide = np.zeros((*values.shape[:-2], N_ICT, 3))
        wide[..., place, :] = values
        return wide

    return (
        spread(head.mean),
        place[head.triangles],
        spread(head.identity),
        spread(head.expression),
        place,
    )
