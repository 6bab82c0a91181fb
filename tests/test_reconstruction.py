import dataclasses
import html
import json
import os

import numpy as np
import pytest
import trimesh
from PIL import Image

from facerecon.detection.detect import Box
from facerecon.files import OutputError, write_file
from facerecon.imaging import Crop
from facerecon.reconstruction import MESH_FORMATS, Reconstruction


def ball(side=60, radius_mm=80.0, mm_per_pixel=3.0) -> Reconstruction:
    """A hemisphere in the middle of a picture of 100 x 90 pixels, as if it were a face."""
    rng = np.random.default_rng(0)
    image = rng.random((90, 100, 3)).astype(np.float32)
    x0, y0 = 20, 15
    columns, rows = np.meshgrid(np.arange(100.0), np.arange(90.0))
    x = (columns - x0 - (side - 1) / 2) * mm_per_pixel
    y = -(rows - y0 - (side - 1) / 2) * mm_per_pixel
    inside = x**2 + y**2 < (0.8 * radius_mm) ** 2
    depth = np.sqrt(np.where(inside, radius_mm**2 - x**2 - y**2, np.nan)).astype(np.float32)
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(inside.sum())
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    faces = triangles[(triangles >= 0).all(axis=1)]
    vertices = np.stack([x, y, depth], axis=-1)[inside].astype(np.float32)
    uv = np.stack([(columns - x0 + 0.5) / side, 1 - (rows - y0 + 0.5) / side], -1)[inside]
    zeros = np.zeros(284, np.float32)
    return Reconstruction(
        image=image,
        box=Box(x0 + 5, y0 + 5, side - 10, side - 10),
        crop=Crop(x0, y0, side, side),
        depth_mm=depth,
        coarse_depth_mm=depth.copy(),
        mask=inside,
        mm_per_pixel=mm_per_pixel,
        landmarks=np.full((68, 2), 50.0, np.float32),
        vertices=vertices,
        faces=faces,
        uv=uv.astype(np.float32),
        coarse_vertices=vertices,
        coarse_faces=faces,
        coefficients=zeros,
        pose=zeros[:6],
        iterations=[np.zeros(290, np.float32)] * 2,
    )


def load(path) -> trimesh.Trimesh:
    mesh = trimesh.load(path, process=False)
    if isinstance(mesh, trimesh.Scene):
        (mesh,) = mesh.geometry.values()
    return mesh


def test_normals_of_a_ball_point_from_its_center():
    face = ball()
    y, x = np.mgrid[:90, :100]
    center = np.stack([(x - 49.5) * 3.0, -(y - 44.5) * 3.0, face.depth_mm], axis=-1) / 80
    core = (center[..., 0] ** 2 + center[..., 1] ** 2) < 0.7**2
    # Central differences of a sphere: third derivative times h^2 / 6, largest at 45 degrees.
    np.testing.assert_allclose(face.normals[core], center[core], atol=6e-3)
    assert np.isnan(face.normals[~face.mask]).all()
    lengths = np.linalg.norm(face.normals[face.mask], axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


@pytest.mark.parametrize("suffix", MESH_FORMATS)
def test_meshes_survive_a_round_trip(tmp_path, suffix):
    face = ball()
    written = face.save(tmp_path / f"ball{suffix.upper()}")
    assert written[-1] == tmp_path / f"ball{suffix.upper()}"
    assert sorted(tmp_path.iterdir()) == sorted(written)  # and no temporary files
    mesh = load(written[-1])
    assert len(mesh.faces) == len(face.faces)
    vertices = mesh.vertices * (1000 if suffix == ".glb" else 1)  # glTF's unit is the meter
    # OBJ keeps 4 decimals, the others float32.
    np.testing.assert_allclose(
        vertices[mesh.faces], face.vertices[face.faces], atol=6e-5, rtol=1e-6
    )
    outward = mesh.face_normals[:, 2]
    assert (outward > 0).all()


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_texture_shows_the_photograph_where_the_vertex_is(tmp_path, suffix):
    face = ball()
    mesh = load(face.save(tmp_path / f"ball{suffix}")[-1])
    np.testing.assert_allclose(mesh.visual.uv, face.uv, atol=1e-6)
    material = mesh.visual.material
    picture = material.image if suffix == ".obj" else material.baseColorTexture
    assert picture.size == (60, 60)
    u, v = mesh.visual.uv.T
    texel = np.asarray(picture.convert("RGB"))[((1 - v) * 60).astype(int), (u * 60).astype(int)]
    # The picture is 8 bits.
    np.testing.assert_allclose(texel / 255, face.image[face.mask], atol=0.51 / 255)


def test_glb_is_a_matt_surface_with_normals(tmp_path):
    path = ball().save(tmp_path / "ball.glb")[0]
    content = path.read_bytes()
    header = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    (material,) = header["materials"]
    surface = material["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0 and 0.5 < surface["roughnessFactor"] <= 1
    assert material["doubleSided"]
    attributes = header["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "TEXCOORD_0"} <= attributes.keys()


def test_obj_with_a_space_in_its_name_finds_its_material_and_texture(tmp_path):
    face = ball()
    written = face.save(tmp_path / "my ball.obj")
    assert [path.name for path in written] == ["my_ball_texture.png", "my_ball.mtl", "my ball.obj"]
    material = written[1].read_text()
    assert "map_Kd my_ball_texture.png" in material
    assert "mtllib my_ball.mtl" in written[2].read_text()
    assert load(written[2]).visual.material.image.size == (60, 60)


def test_ply_has_the_colors_of_the_photograph(tmp_path):
    face = ball()
    mesh = load(face.save(tmp_path / "ball.ply")[0])
    colors = mesh.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(colors, face.image[face.mask], atol=0.51 / 255)


def test_texture_is_the_photographs_resolution_within_limits():
    face = ball()
    np.testing.assert_array_equal(face.texture(), face.image[15:75, 20:80])


def test_depth_files(tmp_path):
    face = ball()
    (array,) = face.save_depth(tmp_path / "d.npy")
    np.testing.assert_array_equal(np.load(array, allow_pickle=False), face.depth_mm)
    picture, reading = face.save_depth(tmp_path / "d.png")
    values = np.asarray(Image.open(picture))
    assert values.dtype == np.uint16
    how = json.loads(reading.read_text())
    np.testing.assert_array_equal(values > 0, face.mask)
    depth = how["offset_mm"] + how["step_mm"] * values[face.mask]
    np.testing.assert_allclose(depth, face.depth_mm[face.mask], atol=how["step_mm"] * 0.51)
    assert how["mm_per_pixel"] == 3.0
    assert how["box"] == [25, 20, 50, 50]
    assert np.shape(how["landmarks"]) == (68, 2)


@pytest.mark.parametrize("name", ["face", "face.xyz", "face.png"])
def test_unknown_mesh_format(tmp_path, name):
    with pytest.raises(ValueError, match=r"use one of \.ply"):
        ball().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_unknown_depth_format(tmp_path):
    with pytest.raises(ValueError, match=r"use one of \.npy"):
        ball().save_depth(tmp_path / "d.exr")


@pytest.mark.parametrize("suffix", MESH_FORMATS)
def test_an_unwritable_folder_is_named(tmp_path, suffix):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / f"face{suffix}"
    with pytest.raises(OutputError, match="cannot be written") as caught:
        ball().save(path)
    assert str(caught.value).startswith(str(tmp_path / "file"))
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_file(tmp_path / "new" / "a.bin", b"old")
    assert path.read_bytes() == b"old"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="no space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_coarse_depth_at_the_vertices_of_the_detailed_mesh():
    face = ball()
    relief = np.float32([0, 0, 1]) * np.sin(face.vertices[:, :1] / 9)
    detailed = dataclasses.replace(face, vertices=face.vertices + relief)
    # The coarse mesh has its corners at the same pixels, whose depth it interpolates.
    np.testing.assert_allclose(detailed.coarse_z, face.vertices[:, 2], atol=0.01)
    outward = detailed.vertices * np.float32([1.03, 1.03, 1])  # the rim, a pixel beyond the outline
    assert np.isfinite(dataclasses.replace(face, vertices=outward).coarse_z).all()


def test_a_notebook_shows_the_face_in_3d():
    text = ball()._repr_html_()
    assert text.startswith("<iframe srcdoc=") and text.endswith("</iframe>")
    document = html.unescape(text.split('"')[1])
    assert document.startswith("<!doctype html>") and "data:image/jpeg;base64," in document
