"""The morphable model's mesh of a photograph as a file for other programs.

Its vertices and triangles are the same for every face. The mesh stands upright in the model frame,
without expression; the file's node turns and shifts it to where the detailed mesh of the same
photograph lies, and the morph targets, one for each expression of the model, have the photograph's
weights. So the file opens as the photograph shows the face; with weights 0 it is neutral.
"""

import copy
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from facerecon.camera import pose_parameters
from facerecon.files import jpeg, write_file
from facerecon.mesh import vertex_normals
from facerecon.model_mesh.atlas import Atlas
from facerecon.model_mesh.face_texture import face_texture, tangents
from facerecon.model_mesh.gltf import MorphMesh, glb
from facerecon.model_mesh.unwrap import Mirror
from facerecon.morphable_model import MorphableModel
from facerecon.reconstruction import Reconstruction

TEXELS = 1024
STILL_MM = 0.02
"""Vertices that an expression moves by less are left out of its target."""


class ModelMeshWriter:
    """Writes model meshes of faces; what they have in common is made once.

    Args:
        model: that the faces were reconstructed with. texels: side of the textures.
    """

    def __init__(self, model: MorphableModel, texels: int = TEXELS):
        self.model = copy.deepcopy(model).cpu()  # the caller's stays on its device
        self.atlas = Atlas(self.model, texels)
        self.mirror = Mirror(self.model, self.atlas)

    @torch.no_grad()
    def mesh(self, face: Reconstruction) -> MorphMesh:
        """Mesh, textures and morph targets of a face."""
        model, atlas = self.model, self.atlas
        texture = face_texture(face, model, atlas, self.mirror)
        identity = torch.from_numpy(face.coefficients).clone()[None]
        identity[:, model.n_identity :] = 0
        vertices = model.vertices(identity)
        points = vertices[0, atlas.vertex]
        normals = vertex_normals(vertices, model.triangles)[0, atlas.vertex]
        pose = pose_parameters(torch.from_numpy(face.pose)[None], face.crop.size)
        shift = np.append((pose.translation / pose.scale).numpy(), 0.0)
        weights = face.coefficients[model.n_identity :] * model.expression_std.numpy()
        return MorphMesh(
            positions=points.numpy() / 1000,
            normals=normals.numpy(),
            tangents=tangents(points, normals, atlas).numpy(),
            uv=(atlas.coordinates.numpy() + 1) / 2,
            faces=atlas.triangles.numpy(),
            color=jpeg(texture.color, 92),
            normal_map=jpeg(0.5 + 0.5 * texture.normals, 95),
            targets=self._targets(),
            weights=weights.tolist(),
            rotation=pose.rotation[0].numpy(),
            translation=shift / 1000,
        )

    def save(self, face: Reconstruction, path: str | Path) -> Path:
        """Write the mesh of a face as .glb, in meters.

        Raises:
            ValueError: another suffix.
            OutputError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".glb":
            raise ValueError(f"{path}: a model mesh is a .glb file, which alone holds all of it")
        return write_file(path, glb(self.mesh(face)))

    def _targets(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Indices and displacements in m of each expression at its full activation."""
        model = self.model
        moves = model.basis[model.n_identity :].unflatten(1, (model.n_vertices, 3))
        moves = (moves / model.expression_std[:, None, None])[:, self.atlas.vertex].numpy()
        found = {}
        for name, move in zip(model.expression_names, moves, strict=True):
            index = np.flatnonzero(np.abs(move).max(1) > STILL_MM)
            found[name] = index, move[index] / 1000
        return found


@lru_cache(maxsize=1)
def model_mesh_writer(model: MorphableModel) -> ModelMeshWriter:
    """A writer for faces of this model, made once."""
    return ModelMeshWriter(model)
