"""Solids for a printer: closed, manifold, oriented, of the right volume."""

import numpy as np
import pytest
import trimesh
from test_reconstruction import ball, load

from facerecon.solid import SolidError, border, close_surface, manifold_piece


def square(height_mm=5.0):
    """A flat sheet of 10 x 10 mm at depth `height_mm`, as a grid of 11 x 11 vertices."""
    column, row = np.meshgrid(np.arange(11), np.arange(11))
    vertices = np.stack([column, 10 - row, np.full_like(row, height_mm)], -1).reshape(-1, 3)
    number = np.arange(121).reshape(11, 11)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return vertices.astype(float), faces


def check(solid) -> trimesh.Trimesh:
    """Every edge in exactly two triangles, once each way; then the mesh."""
    edges = np.concatenate([solid.faces[:, [0, 1]], solid.faces[:, [1, 2]], solid.faces[:, [2, 0]]])
    pairs, count = np.unique(edges, axis=0, return_counts=True)
    assert (count == 1).all()
    assert set(map(tuple, pairs)) == {(b, a) for a, b in pairs}
    mesh = trimesh.Trimesh(solid.vertices, solid.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert sorted(np.unique(solid.faces)) == list(range(len(solid.vertices)))
    return mesh


@pytest.mark.parametrize("hollow", [False, True])
def test_a_sheet_becomes_a_box(hollow):
    mesh = check(close_surface(*square(), 4.0, hollow))
    assert mesh.volume == pytest.approx(10 * 10 * 4)
    assert mesh.area == pytest.approx(2 * 100 + 4 * 40)
    np.testing.assert_allclose(mesh.bounds, [[0, 0, 1], [10, 10, 5]])


def test_a_slope_has_a_flat_or_a_parallel_back():
    vertices, faces = square()
    vertices[:, 2] += vertices[:, 0]  # 5 to 15 mm
    assert check(close_surface(vertices, faces, 2.0)).volume == pytest.approx(100 * (5 + 2))
    assert check(close_surface(vertices, faces, 2.0, hollow=True)).volume == pytest.approx(200)


def test_a_hole_gets_walls_too():
    vertices, faces = square()
    center = vertices[faces].mean(1)
    hole = (np.abs(center[:, :2] - 5) < 2).all(1)
    assert 0 < hole.sum() < len(faces)
    mesh = check(close_surface(vertices, faces[~hole], 3.0))
    assert mesh.volume == pytest.approx(300 * (~hole).mean())
    assert mesh.euler_number == 0  # a torus


def test_only_the_largest_piece_is_kept():
    vertices, faces = square()
    island = np.array([[0, 11, 12]]) + len(vertices)
    both = np.concatenate([vertices, vertices + 100.0]), np.concatenate([faces, island])
    mesh = check(close_surface(*both, 4.0))
    assert mesh.volume == pytest.approx(400) and mesh.body_count == 1


def test_a_pinched_vertex_is_taken_apart():
    vertices, faces = square()
    center = vertices[faces].mean(1)[:, :2]
    # Two holes that touch in the vertex (5, 5).
    holes = ((center > 3) & (center < 5)).all(1) | ((center > 5) & (center < 7)).all(1)
    assert len(border(faces[~holes])) == 40 + 2 * 8
    mesh = check(close_surface(vertices, faces[~holes], 4.0))
    assert mesh.volume < 400 * (~holes).mean() and mesh.body_count == 1


def test_random_sheets_are_closed(rng):
    vertices, faces = square()
    for _ in range(40):
        some = faces[rng.random(len(faces)) < rng.uniform(0.4, 0.95)]
        piece = manifold_piece(some)
        assert {tuple(f) for f in piece} <= {tuple(f) for f in some}
        check(close_surface(vertices, some, 1.0))


@pytest.mark.parametrize("thickness", [0.0, -4.0, 0.5, float("nan"), float("inf")])
def test_a_thickness_that_no_printer_makes_is_refused(thickness):
    with pytest.raises(SolidError, match=r"at least 0\.8 mm"):
        close_surface(*square(), thickness)


def test_no_surface_is_refused():
    with pytest.raises(SolidError, match="no surface"):
        close_surface(square()[0], np.zeros((0, 3), dtype=np.int64), 4.0)


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".glb"])
def test_a_reconstruction_is_saved_as_a_solid(tmp_path, suffix):
    face = ball()
    (path,) = face.save_solid(tmp_path / f"face{suffix}", 4.0)
    assert list(tmp_path.iterdir()) == [path]
    unit = 1000 if suffix == ".glb" else 1  # glTF's unit is the meter
    mesh = load(path).apply_scale(unit)
    mesh.merge_vertices()  # STL lists every corner of every triangle anew
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    sheet = trimesh.Trimesh(face.vertices, face.faces, process=False)
    assert mesh.extents[2] == pytest.approx(np.ptp(face.vertices[:, 2]) + 4.0, abs=1e-3)
    assert mesh.bounds[1, 2] == pytest.approx(face.vertices[:, 2].max(), abs=1e-3)
    covered = np.abs(sheet.area_faces * sheet.face_normals[:, 2]).sum()
    assert mesh.volume > 0.95 * 4.0 * covered
    hollow = load(face.save_solid(tmp_path / f"mask{suffix}", 4.0, hollow=True)[0])
    hollow.apply_scale(unit)
    hollow.merge_vertices()
    assert hollow.is_watertight and 0.9 * 4.0 * covered < hollow.volume < mesh.volume


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown mesh format"):
        ball().save_solid(tmp_path / "face.gcode")
    assert not list(tmp_path.iterdir())
