"""A mesh with textures and morph targets as a binary glTF 2.0 file.

trimesh writes glTF, too, but no morph targets.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
_VERTICES, _INDICES = 34962, 34963  # targets of buffer views


@dataclass(frozen=True, eq=False)
class MorphMesh:
    """What a file holds. Lengths in meters; u to the right and v downward, as glTF asks for.

    color, normal_map: contents of JPEG or PNG files. targets: displacements by name, of the
    vertices `index` alone. weights: of the targets, as the file shows the mesh. rotation,
    translation: from the mesh's frame to the scene's. extras: JSON values, kept with the mesh.
    """

    positions: Float[np.ndarray, "vertices 3"]
    normals: Float[np.ndarray, "vertices 3"]
    tangents: Float[np.ndarray, "vertices 4"]
    uv: Float[np.ndarray, "vertices 2"]
    faces: Int[np.ndarray, "faces 3"]
    color: bytes
    normal_map: bytes
    targets: Mapping[str, tuple[np.ndarray, np.ndarray]]
    weights: Sequence[float]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    extras: Mapping[str, object] = field(default_factory=dict)


def glb(mesh: MorphMesh) -> bytes:
    """The content of a .glb file; the targets are sparse accessors, so that it stays small."""
    file = _File()
    attributes = {
        "POSITION": file.accessor(mesh.positions.astype("<f4"), bounds=True),
        "NORMAL": file.accessor(mesh.normals.astype("<f4")),
        "TANGENT": file.accessor(mesh.tangents.astype("<f4")),
        "TEXCOORD_0": file.accessor(mesh.uv.astype("<f4")),
    }
    indices = file.accessor(mesh.faces.astype("<u4").reshape(-1, 1), target=_INDICES)
    n = len(mesh.positions)
    targets = [{"POSITION": file.sparse(n, *moved)} for moved in mesh.targets.values()]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = mesh.rotation, mesh.translation
    document = {
        "asset": {"version": "2.0", "generator": "facerecon"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "face", "mesh": 0, "matrix": matrix.T.ravel().tolist()}],
        "meshes": [
            {
                "name": "face",
                "primitives": [
                    {
                        "attributes": attributes,
                        "indices": indices,
                        "material": 0,
                        "targets": targets,
                    }
                ],
                "weights": [float(weight) for weight in mesh.weights],
                "extras": {"targetNames": list(mesh.targets), **mesh.extras},
            }
        ],
        "materials": [
            {
                "name": "photograph",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.8,
                },
                "normalTexture": {"index": 1},
            }
        ],
        "textures": [{"source": 0, "sampler": 0}, {"source": 1, "sampler": 0}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "images": [file.image(mesh.color), file.image(mesh.normal_map)],
        "accessors": file.accessors,
        "bufferViews": file.views,
        "buffers": [{"byteLength": len(file.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(file.data)
    total = 12 + 8 + len(text) + 8 + len(data)
    return (
        struct.pack("<III", 0x46546C67, 2, total)
        + struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(data), 0x004E4942)
        + data
    )


class _File:
    """The binary part of a file as it grows, and what says how to read it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.data += data + b"\0" * (-len(data) % 4)
        self.views.append(view)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, bounds: bool = False, target: int = _VERTICES) -> int:
        accessor = {
            "bufferView": self.view(values.tobytes(), target),
            "componentType": _UINT32 if target == _INDICES else _FLOAT,
            "count": len(values),
            "type": _TYPES[values.shape[1]],
        }
        if bounds:
            accessor |= _bounds(values)
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def sparse(self, count: int, index: np.ndarray, values: np.ndarray) -> int:
        """An accessor of zeros but for some rows; index: which, ascending."""
        whole = np.zeros((count, 3), "<f4")
        whole[index] = values
        accessor = {"componentType": _FLOAT, "count": count, "type": "VEC3", **_bounds(whole)}
        if len(index):
            kind, code = ("<u2", _UINT16) if count <= 65536 else ("<u4", _UINT32)
            accessor["sparse"] = {
                "count": len(index),
                "indices": {
                    "bufferView": self.view(index.astype(kind).tobytes()),
                    "componentType": code,
                },
                "values": {"bufferView": self.view(values.astype("<f4").tobytes())},
            }
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def image(self, content: bytes) -> dict:
        kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
        return {"bufferView": self.view(content), "mimeType": f"image/{kind}"}


def _bounds(values: np.ndarray) -> dict[str, list[float]]:
    return {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
