"""MediaPipe's face mesh as a method: its surface, and what is said where it is missing."""

import sys
from itertools import permutations
from types import ModuleType

import numpy as np
import pytest
from skimage import data as photographs

from facerecon.methods import face_mesh
from facerecon.methods.registry import MethodSettings, build_method, method_card, method_names


def test_triangles_from_edges():
    # A tetrahedron without its bottom: 0 is the top, and 1, 2, 3 only look like a triangle when
    # each of their edges has two other neighbors.
    spokes = {(0, 1), (0, 2), (0, 3), (1, 2), (2, 3), (3, 1)}
    outside = {(1, 4), (4, 2), (2, 5), (5, 3), (3, 6), (6, 1)}
    found = face_mesh.triangles_of(frozenset(spokes | outside))
    expected = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 4), (1, 3, 6), (2, 3, 5)]
    assert [tuple(t) for t in found] == sorted(expected)


@pytest.mark.parametrize("way", list(permutations(range(3))))
def test_depth_is_that_of_the_plane_whichever_way_round(way):
    corners = np.array([[2.0, 3.0], [18.0, 4.0], [7.0, 16.0]])
    points = np.column_stack([corners, 0.5 * corners[:, 0] - 0.25 * corners[:, 1] + 3])
    depth = face_mesh.depth_of_points(points, np.array([way]), (20, 24))
    row, column = np.nonzero(np.isfinite(depth))
    assert depth.shape == (20, 24) and 80 < len(row) < 110
    np.testing.assert_allclose(depth[row, column], 0.5 * column - 0.25 * row + 3, atol=1e-3)


def test_nearer_triangles_hide_others():
    near = np.array([[0, 0, 5.0], [20, 0, 5], [0, 20, 5]])
    points = np.concatenate([near - [0, 0, 9], near])
    depth = face_mesh.depth_of_points(points, np.array([[0, 1, 2], [3, 4, 5]]), (20, 20))
    np.testing.assert_allclose(depth[np.isfinite(depth)], 5, atol=1e-4)


def test_a_missing_package_is_named(monkeypatch):
    assert "mediapipe" not in method_names()  # nobody who does not name it needs it
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match=r"MediaPipe cannot be used .*docs/methods\.md"):
        method_card("mediapipe", MethodSettings())  # before any scan is read
    with pytest.raises(ImportError, match="cannot be used") as caught:
        face_mesh.FaceMesh()
    assert len(str(caught.value).splitlines()) == 1


def test_a_package_that_fails_is_named(monkeypatch):
    package = ModuleType("mediapipe")  # newer wheels have no such part
    monkeypatch.setitem(sys.modules, "mediapipe", package)
    with pytest.raises(ImportError, match="cannot be used"):
        face_mesh.network_files()


def test_a_portrait():
    try:
        face_mesh.mediapipe()
    except ImportError as error:
        pytest.skip(str(error))
    image = photographs.astronaut().astype(np.float32) / 255
    found = build_method("mediapipe", MethodSettings())(image)
    ours = build_method("ours (coarse)", MethodSettings())(image)
    both = np.isfinite(found.depth_mm) & np.isfinite(ours.depth_mm)
    assert both.sum() > 0.8 * np.isfinite(found.depth_mm).sum()
    assert found.mm_per_pixel == pytest.approx(ours.mm_per_pixel, rel=0.15)
    assert np.corrcoef(found.depth_mm[both], ours.depth_mm[both])[0, 1] > 0.9
    with pytest.raises(ValueError, match="no face"):
        build_method("mediapipe", MethodSettings())(np.zeros_like(image))
