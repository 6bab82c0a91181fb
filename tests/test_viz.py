import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation
from test_reconstruction import ball

from facerecon.render import render
from facerecon.views.viz import (
    AMBIENT,
    LIGHT,
    MAX_VIEWER_VERTICES,
    as_photographed,
    decimate,
    depth_views,
    feedback_pictures,
    figure_png,
    gallery,
    mesh_normals,
    preview,
    shaded,
    textured,
    viewer,
    without_holes,
)


def test_a_mask_without_holes_keeps_its_outline():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[1:8, 1:8] = True
    expected = mask.clone()
    mask[3:5, 3:6] = False
    mask[1, 1] = expected[1, 1] = False  # a notch of the outline is no hole
    assert torch.equal(without_holes(mask), expected)


def test_shading_is_lamberts_from_the_upper_left():
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    assert light[0] < 0 < light[1]
    normals = np.stack([light, -light, np.full(3, np.nan)]).reshape(1, 3, 3)
    np.testing.assert_allclose(shaded(normals, background=0.7), [[0.95, 0.95 * AMBIENT, 0.7]])


def test_seen_from_the_front_normals_are_those_of_the_depth():
    face = ball()
    normals = mesh_normals(face.vertices, face.faces, size=107)  # 2 mm a pixel
    y, x = np.mgrid[:107, :107]
    x, y = (x - 53) * 2.0, -(y - 53) * 2.0
    core = x**2 + y**2 < 50**2
    expected = np.stack([x, y, np.sqrt(np.maximum(80.0**2 - x**2 - y**2, 0))], -1) / 80
    # Facets 3 mm wide on a ball of 80 mm: a little more than half of 3 / 80 at the border.
    np.testing.assert_allclose(normals[core], expected[core], atol=0.03)
    assert np.isnan(normals[0, 0]).all()


def test_as_photographed_shows_all_the_depth_that_the_mesh_has_lost():
    face = ball()
    corner = dataclasses.replace(face, faces=face.faces[:1])
    seen = as_photographed(corner, size=60)
    assert seen.shape == (60, 60)
    covered = face.crop.at(60).cut(face.mask.astype(np.float32))
    assert (seen[covered == 0] == 1).all() and (covered == 0).any()
    core = face.crop.at(60).cut(shaded(face.normals))[covered == 1]
    np.testing.assert_array_equal(seen[covered == 1], core)
    assert core.max() - core.min() > 0.5


def test_as_photographed_is_white_beyond_the_photograph():
    face = ball()
    beside = dataclasses.replace(face, crop=face.crop.moved(0.5, 0.0, 0.0))
    seen = as_photographed(beside, size=60)
    outside = ~beside.crop.at(60).inside(face.mask.shape)
    assert outside.any() and (seen[outside] == 1).all() and seen.min() < 0.9


def test_a_turn_shows_the_side():
    face = ball()
    nose = np.float32([[-10, -10, 0], [10, -10, 0], [0, 10, 0]]) + np.float32([0, 0, 90])
    vertices = np.concatenate([face.vertices, nose])
    faces = np.concatenate([face.faces, [[len(face.vertices) + i for i in range(3)]]])
    front = mesh_normals(vertices, faces, 200)
    turned = mesh_normals(vertices, faces, 200, yaw=40.0)
    facing = np.isclose(front[..., 2], 1, atol=1e-4)
    aside = np.isclose(turned[..., 0], np.sin(np.deg2rad(40)), atol=1e-4)
    assert facing.sum() > 100
    # Positive yaw turns the nose to the viewer's right: it lies 21 mm in front of the middle of the
    # depths 48 mm (the ball's border) and 90 mm (its own).
    moved = np.nonzero(aside)[1].mean() - np.nonzero(facing)[1].mean()
    assert moved == pytest.approx(
        21 * np.sin(np.deg2rad(40)) * 200 / 214, abs=0.5
    )  # a pixel's half


def test_preview_has_five_pictures():
    picture = Image.open(io.BytesIO(figure_png(preview(ball(), size=100))))
    assert picture.size == (500, 108)
    fifths = np.asarray(picture.convert("L"), float)[8:].reshape(100, 5, 100)
    assert (fifths.std(axis=(0, 2)) > 10).all()


def test_from_the_front_the_textured_mesh_is_the_photograph():
    y, x = np.mgrid[:90, :100].astype(np.float32)
    image = np.stack([x / 100, y / 90, (x + y) / 190], axis=-1)
    face = dataclasses.replace(ball(), image=image)
    seen = textured(face, size=60)
    inside = face.crop.cut(face.mask.astype(np.float32)) == 1
    inside = inside & ~binary_dilation(~inside, iterations=2)
    # A gradient of 0.01 a pixel, sampled at twice the resolution and averaged: exact but rounding.
    np.testing.assert_allclose(seen[inside], face.crop.cut(image)[inside], atol=2e-3)
    assert (seen[0] == 1).all()
    turned = textured(face, size=60, yaw=30)
    assert np.abs(turned - seen).max() > 0.05


def test_the_outline_of_the_textured_mesh_is_antialiased():
    face = dataclasses.replace(ball(), image=np.zeros((90, 100, 3), np.float32))
    values = np.unique(textured(face, size=60).round(3))
    assert {0.0, 0.25, 0.5, 0.75, 1.0} == set(values)


def test_viewer_is_small_and_in_color():
    face = ball()
    mesh = viewer(face).data[0]
    assert len(mesh.x) == len(face.vertices) <= MAX_VIEWER_VERTICES
    colors = [[int(c) for c in text[4:-1].split(",")] for text in mesh.vertexcolor]
    np.testing.assert_allclose(np.array(colors) / 255, face.image[face.mask], atol=0.51 / 255)
    assert viewer(face, textured=False).data[0].color == "lightgrey"


@pytest.mark.parametrize("limit", [100, 700])
def test_decimation_keeps_the_shape(limit):
    face = ball()
    vertices, faces, uv = decimate(face.vertices, face.faces, face.uv, limit)
    assert limit / 2 < len(vertices) <= limit
    assert faces.max() < len(vertices) == len(uv)
    edges = np.sort(faces, axis=1)
    assert (np.diff(edges, axis=1) > 0).all()
    # A chord of the ball lies inside by at most (cell / 2)^2 / (2 * 80 mm); cells of up to 14 mm.
    radius = np.linalg.norm(vertices, axis=1)
    assert (np.abs(radius - 80) < 3).all()
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] >= 0).mean() > 0.99


def test_gallery_is_a_grid_that_notebooks_can_show():
    white, red = np.ones((20, 20)), np.zeros((20, 20, 3))
    red[..., 0] = 5.0  # clipped
    figure = gallery([white, red, 0 * white], ["first", "second"], columns=2, inches=1)
    assert [axis.get_title() for axis in figure.axes] == ["first", "second", ""]
    picture = Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")
    assert picture.size == (200, 225)
    pixels = np.asarray(picture, int)
    assert (pixels[:25] < 128).any() and (pixels[0] == 255).all()  # titles, and not cut
    assert (pixels[70, [50, 150]] == [[255, 255, 255], [255, 0, 0]]).all()
    assert (pixels[170, [50, 150]] == [[0, 0, 0], [255, 255, 255]]).all()


def test_a_depth_map_is_seen_from_several_sides():
    row, column = np.mgrid[:90, :120]
    squared = (column - 70) ** 2 + (row - 40) ** 2
    depth = np.where(squared < 30**2, np.sqrt(np.maximum(60.0**2 - squared, 0)), np.nan)
    front, turned = depth_views(depth, 1.0, yaws=(0, 60), size=100, width_mm=100.0)
    assert front.shape == turned.shape == (100, 100)
    here, there = (np.nonzero(view < 1) for view in (front, turned))
    assert [axis.mean() for axis in here] == pytest.approx([49.5, 49.5], abs=1)  # in the middle
    assert np.ptp(here[1]) == pytest.approx(57, abs=3)
    assert np.ptp(there[1]) < 0.75 * np.ptp(here[1]) and np.ptp(there[0]) > 50


def test_feedback_pictures_are_white_outside_the_face(model):
    shown = render(model, torch.zeros(1, model.n_coefficients + 6), 64)
    grey = torch.full((1, 1, 64, 64), 0.3)
    masked, pncc, normals = feedback_pictures(grey, shown)
    inside = shown.mask[0, 0].numpy()
    assert 0.1 < inside.mean() < 0.9
    for picture in (masked, pncc, normals):
        assert picture.shape == (64, 64, 3) and (picture[~inside] == 1).all()
    assert np.allclose(masked[inside], 0.3)
    np.testing.assert_allclose(
        normals[inside], 0.5 + 0.5 * shown.normals[0].permute(1, 2, 0)[inside]
    )
