"""Result of reconstructing one face, and its export: depth, mesh and parameters."""

import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from scipy import ndimage

from facerecon.depth import normals_from_depth
from facerecon.detection.detect import Box
from facerecon.files import jpeg, png, write_file
from facerecon.imaging import Crop, to_bytes
from facerecon.rasterize import interpolate, rasterize
from facerecon.web_view import Part, frame, small_page

if TYPE_CHECKING:
    import trimesh

MESH_FORMATS = (".ply", ".obj", ".stl", ".glb")
DEPTH_FORMATS = (".npy", ".png")
MAX_TEXTURE = 1024
MIN_DETAILED = 80
"""Pixels of a face's crop below which only the coarse shape can be trusted: the face, brows to
chin, has about 60, and one of them spans more than 2 mm, which is wider than a wrinkle."""

NOTEBOOK_TEXTURE = 512
DEPTH_STEP_MM = 0.01
"""Depth per unit of a 16-bit PNG: 65535 of them are 655 mm, more than a head is deep."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One face of a photograph.

    Maps lie on the photograph's own pixel grid and hold NaN (mask: False) outside the face.
    Vertices are in mm in the camera frame (x right, y up, z toward the viewer) with x = y = 0 in
    the middle of the crop. mm means: if this head had the mean size of the morphable model.

    Attributes:
        image: the photograph, RGB in [0, 1].
        box: the detector's, or the one given.
        crop: the square that the networks saw, at the resolution of the detailed mesh.
        depth_mm: detailed depth, larger is nearer.
        coarse_depth_mm: the morphable model's depth.
        mask: where there is depth.
        mm_per_pixel: width of one of the photograph's pixels.
        landmarks: (column, row) of the 68 iBUG points, also of hidden ones.
        vertices, faces, uv: the detailed mesh, the crop's depth triangulated; uv belongs to
            `texture()`.
        coarse_vertices, coarse_faces: the morphable model's mesh.
        coefficients: identity and expression, in standard deviations; where normals were seen,
            after `shape_from_normals`.
        pose: the six numbers of the crop's pose.
        iterations: the representation r before and after each step of CoarseNet.
    """

    image: Float[np.ndarray, "height width 3"]
    box: Box
    crop: Crop
    depth_mm: Float[np.ndarray, "height width"]
    coarse_depth_mm: Float[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]
    mm_per_pixel: float
    landmarks: Float[np.ndarray, "68 2"]
    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    uv: Float[np.ndarray, "vertices 2"]
    coarse_vertices: Float[np.ndarray, "coarse_vertices 3"]
    coarse_faces: Int[np.ndarray, "coarse_faces 3"]
    coefficients: Float[np.ndarray, " coefficients"]
    pose: Float[np.ndarray, " 6"]
    iterations: list[Float[np.ndarray, " numbers"]]

    @cached_property
    def normals(self) -> Float[np.ndarray, "height width 3"]:
        """Unit normals of the detailed depth in the camera frame; NaN outside the face."""
        normals = np.full((*self.mask.shape, 3), np.nan, dtype=np.float32)
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = self.mask[window]
        found = normals_from_depth(
            torch.from_numpy(self.depth_mm[window])[None, None],
            torch.tensor([self.mm_per_pixel]),
            torch.from_numpy(mask)[None, None],
        )
        normals[window][mask] = found[0].permute(1, 2, 0).numpy()[mask]
        return normals

    def texture(self) -> Float[np.ndarray, "size size 3"]:
        """The photograph inside the crop at its own resolution, but at most 1024 pixels wide."""
        return self._square(MAX_TEXTURE)

    def _square(self, limit: int) -> Float[np.ndarray, "size size 3"]:
        size = min(max(round(self.crop.side), self.crop.size), limit)
        return self.crop.at(size).cut(self.image)

    def mesh(self, textured: bool = True) -> "trimesh.Trimesh":
        """The detailed mesh in mm, with the photograph as texture or as colors of the vertices."""
        import trimesh  # takes longer to load than a face to reconstruct
        from trimesh.visual import ColorVisuals, TextureVisuals
        from trimesh.visual.material import PBRMaterial

        if textured:
            material = PBRMaterial(
                name="photograph",
                baseColorTexture=Image.fromarray(to_bytes(self.texture())),
                metallicFactor=0.0,  # glTF's default, 1, would show a black mirror
                roughnessFactor=0.8,
                doubleSided=True,
            )
            visual = TextureVisuals(uv=self.uv, material=material)
        else:
            column, row = self.uv[:, 0], 1 - self.uv[:, 1]
            pixel = np.stack([row, column], axis=1) * self.crop.size - 0.5
            colors = self.crop.cut(self.image)[tuple(np.rint(pixel).astype(int).T)]
            visual = ColorVisuals(vertex_colors=to_bytes(colors))
        return trimesh.Trimesh(self.vertices, self.faces, visual=visual, process=False)

    @cached_property
    def coarse_z(self) -> Float[np.ndarray, " vertices"]:
        """Depth in mm of the coarse mesh at the x and y of each vertex of the detailed one."""
        size, step = self.crop.size, self.mm_per_pixel * self.crop.step
        to_pixel = np.array([1 / step, -1 / step, 1], np.float32)
        middle = np.array([(size - 1) / 2, (size - 1) / 2, 0], np.float32)
        projected = torch.from_numpy(self.coarse_vertices * to_pixel + middle)[None]
        triangles = torch.from_numpy(self.coarse_faces).long()
        fragments = rasterize(projected, triangles, size, size)
        depth = interpolate(projected[..., 2:], fragments, triangles)[0, 0].numpy()
        # The last pixel within an outline goes on beyond it, where the rim may lie.
        beyond = ~fragments.mask[0, 0].numpy()
        nearest = ndimage.distance_transform_edt(
            beyond, return_distances=False, return_indices=True
        )
        column, row = (self.vertices[:, :2] * to_pixel[:2] + middle[:2]).T
        return ndimage.map_coordinates(
            depth[tuple(nearest)], [row, column], order=1, mode="nearest"
        )

    def view_part(self, max_texture: int = MAX_TEXTURE) -> Part:
        """The detailed mesh with its texture and its coarse depth, as a browser shows it."""
        texture = jpeg(self._square(max_texture))
        return Part(self.vertices, self.faces, self.coarse_z, self.uv, texture)

    def _repr_html_(self) -> str:
        """What a notebook shows: the face in 3D."""
        return frame(small_page([self.view_part(NOTEBOOK_TEXTURE)], "face"))

    def save(self, path: str | Path) -> list[Path]:
        """Write the detailed mesh; returns the files written, each whole or not at all.

        .glb holds texture and normals, in meters as glTF asks for; the others are in mm: .obj comes
        with a .mtl and a _texture.png (spaces in their names become underscores, which programs
        read), .ply has colored vertices, .stl the shape alone.

        Raises:
            ValueError: another suffix.
            OutputError: the file cannot be written.
        """
        path, suffix = _mesh_path(path)
        if suffix == ".obj":
            return self._save_obj(path)
        return [write_file(path, _exported(self.mesh(textured=suffix == ".glb"), suffix))]

    def save_solid(
        self, path: str | Path, thickness_mm: float = 4.0, hollow: bool = False
    ) -> list[Path]:
        """Write the face as a closed solid for a 3D printer, without color; in mm, a .glb in m.

        Args:
            path: .stl, as slicers read it, or .ply, .obj, .glb.
            thickness_mm: of the thinnest part.
            hollow: a mask; otherwise a relief with a flat back. See `solid.close_surface`.

        Raises:
            ValueError: another suffix, or a thickness that cannot be printed.
            OutputError: the file cannot be written.
        """
        import trimesh

        from facerecon.solid import close_surface

        path, suffix = _mesh_path(path)
        solid = close_surface(self.vertices, self.faces, thickness_mm, hollow)
        mesh = trimesh.Trimesh(solid.vertices, solid.faces, process=False)
        return [write_file(path, _exported(mesh, suffix))]

    def _save_obj(self, path: Path) -> list[Path]:
        # Not just .png: that might be the photograph itself.
        material, picture = (path.with_name(name) for name in obj_companions(path.stem))
        text = [f"mtllib {material.name}", "usemtl photograph"]
        text += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in self.vertices]
        text += [f"vt {u:.6f} {v:.6f}" for u, v in self.uv]
        text += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in self.faces + 1]
        colors = f"newmtl photograph\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nmap_Kd {picture.name}\n"
        return [
            write_file(picture, png(self.texture())),
            write_file(material, colors.encode()),
            write_file(path, ("\n".join(text) + "\n").encode()),
        ]

    def save_depth(self, path: str | Path) -> list[Path]:
        """Write the detailed depth map; returns the files written.

        .npy: float32 mm, NaN outside the face. .png: 16 bits, with a .json that describes it
        (depth in mm = offset_mm + step_mm * value; value 0: no face).

        Raises:
            ValueError: another suffix.
            OutputError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            data = io.BytesIO()
            np.save(data, self.depth_mm)
            return [write_file(path, data.getvalue())]
        if path.suffix.lower() != ".png":
            known = ", ".join(DEPTH_FORMATS)
            raise ValueError(f"{path}: unknown depth format {path.suffix!r}; use one of {known}")
        depth = self.depth_mm[self.mask]
        step = max(DEPTH_STEP_MM, float(np.ptp(depth)) / 65534)
        offset = float(depth.min()) - step
        values = np.zeros(self.mask.shape, dtype=np.uint16)
        values[self.mask] = np.rint((depth - offset) / step).astype(np.uint16)
        reading = {
            "depth_mm": "offset_mm + step_mm * value, larger is nearer; value 0: no face",
            "offset_mm": offset,
            "step_mm": step,
            "mm_per_pixel": self.mm_per_pixel,
            "box": [self.box.x, self.box.y, self.box.width, self.box.height],
            "landmarks": np.round(self.landmarks.astype(float), 2).tolist(),
        }
        return [
            write_file(path, png(values)),
            write_file(path.with_suffix(".json"), (json.dumps(reading, indent=1) + "\n").encode()),
        ]


def _exported(mesh: "trimesh.Trimesh", suffix: str) -> bytes:
    """The file of a mesh in mm, which it may change."""
    if suffix == ".glb":
        return mesh.apply_scale(0.001).export(file_type="glb", include_normals=True)
    data = mesh.export(file_type=suffix[1:])
    return data.encode() if isinstance(data, str) else data


def obj_companions(stem: str) -> tuple[str, str]:
    """Names of the material and the texture that belong to an .obj file of this stem."""
    stem = re.sub(r"\s", "_", stem)
    return f"{stem}.mtl", f"{stem}_texture.png"


def _mesh_path(path: str | Path) -> tuple[Path, str]:
    """The path and its suffix in small letters, which must be that of a mesh."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_FORMATS:
        known = ", ".join(MESH_FORMATS)
        raise ValueError(f"{path}: unknown mesh format {suffix!r}; use one of {known}")
    return path, suffix
