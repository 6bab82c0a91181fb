"""Sliders and view of a face, without a hand or a browser."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from facerecon.camera import POSE_UNITS, project, split
from facerecon.mesh import cluster_means, vertex_normals
from facerecon.views.explorer import (
    EXPRESSIONS,
    POSE_LIMITS,
    START_LIGHT,
    Explorer,
    merge_vertices,
)
from facerecon.views.viz import MAX_VIEWER_VERTICES

plotly = pytest.importorskip("plotly.graph_objects")
widgets = pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def explorer(model):
    return Explorer(model)


@pytest.fixture(autouse=True)
def at_start(explorer):
    explorer.reset()


def test_at_the_start_everything_but_the_light_is_zero(explorer):
    assert explorer.r.shape == (1, explorer.model.n_coefficients + 6)
    assert not explorer.r.any() and not explorer.albedo.any()
    assert explorer.light.tolist()[0] == pytest.approx(list(START_LIGHT.values()))


def test_each_slider_sets_its_numbers(explorer, model):
    explorer.sliders["identity"]["identity 2"].value = -1.5
    explorer.sliders["expression"]["smile"].value = 0.6
    explorer.sliders["albedo"]["albedo 3"].value = 2.0
    expected = torch.zeros(1, model.n_coefficients)
    expected[0, 1] = -1.5
    for unit in EXPRESSIONS["smile"]:
        i = model.expression_index(unit)
        expected[0, i] = 0.6 / model.expression_std[i - model.n_identity]
    assert torch.equal(split(explorer.r)[0], expected)
    assert explorer.albedo.tolist()[0] == [0, 0, 2] + [0] * (model.n_albedo - 3)


def test_pose_sliders_speak_of_degrees_and_per_cent(explorer):
    shown = dict(zip(POSE_LIMITS, (10, -40, 5, 12, -6, 20), strict=True))
    for name, value in shown.items():
        explorer.sliders["pose"][name].value = value
    value = [slider.value for slider in explorer.sliders["pose"].values()]
    assert value == list(shown.values())  # within the limits
    physical = (split(explorer.r)[1][0] * POSE_UNITS).numpy()
    np.testing.assert_allclose(np.rad2deg(physical[:3]), [10, -40, 5], rtol=1e-6)
    np.testing.assert_allclose(physical[3:5], [0.12, -0.06], rtol=1e-6)
    assert np.exp(physical[5]) == pytest.approx(1.2)


def test_the_view_is_the_cameras_picture(explorer, model):
    for name, value in {"yaw °": 35, "pitch °": -10, "right %": 5, "larger %": -15}.items():
        explorer.sliders["pose"][name].value = value
    explorer.sliders["expression"]["open the jaw"].value = 1.0
    mesh = explorer.figure.data[0]
    coefficients, pose = split(explorer.r)
    column, row, depth = project(model.vertices(coefficients), pose, 200)[0].unbind(1)
    scale = 200 / 214 * 0.85
    full = torch.stack([column - 99.5, 99.5 - row, depth * scale], dim=1)
    shown = torch.tensor(np.stack([mesh.x, mesh.y, mesh.z], 1))
    # Vertices of the face proper are up to about 2 mm apart where they merge.
    assert torch.cdist(full[model.landmarks].double(), shown.double()).min(1).values.max() < 2
    assert torch.allclose(shown.amax(0), full.amax(0), atol=4)
    assert torch.allclose(shown.amin(0), full.amin(0), atol=4)

    picture = explorer.picture()
    assert picture.shape == (200, 200, 3)
    at = [*model.landmarks[[30, 33, 8, 1]].tolist()]  # nose, chin, the cheek on the near side
    nearest = torch.cdist(full[at].double(), shown.double()).argmin(1)
    seen = picture[row[at].round().long(), column[at].round().long()]
    shown = np.array([to_rgb(color) for color in mesh.vertexcolor])
    np.testing.assert_allclose(shown[nearest], seen, atol=0.12)
    assert (seen[:, 0] > seen[:, 2] + 0.05).all()  # skin is not grey


def test_light_moves_colors_only(explorer):
    before, rgb = explorer.surface()
    explorer.sliders["light"]["right"].value = 1.0
    after, lit = explorer.surface()
    assert np.array_equal(before, after)
    side = np.abs(after[:, 0]) > 60
    brighter = (lit > rgb).any(axis=1)[side]
    assert (brighter == (after[side, 0] > 0)).mean() > 0.9


def test_reset_brings_the_first_view_back(explorer):
    first = np.array(explorer.figure.data[0].x)
    explorer.sliders["pose"]["yaw °"].value = 50
    assert not np.allclose(explorer.figure.data[0].x, first)
    explorer.reset()
    assert np.array_equal(explorer.figure.data[0].x, first)


def test_a_live_view_follows(model):
    explorer = Explorer(model, n_identity=2, n_albedo=1, max_vertices=500)
    box = explorer.live()
    assert isinstance(explorer.figure, plotly.FigureWidget) and explorer.figure in box.children
    before = np.array(explorer.figure.data[0].x)
    explorer.sliders["identity"]["identity 1"].value = 2
    assert not np.allclose(explorer.figure.data[0].x, before)
    assert len(before) <= 500


def test_the_view_is_small(explorer):
    mesh = explorer.figure.data[0]
    assert MAX_VIEWER_VERTICES / 2 < len(mesh.x) <= MAX_VIEWER_VERTICES
    assert len(explorer.figure.to_json()) < 500_000


@pytest.mark.parametrize("limit", [3000, 10_000])
def test_merging_keeps_the_shape(model, limit):
    group, triangles = merge_vertices(model, limit)
    assert limit / 2 < len(group.unique()) == group.max() + 1 <= limit
    assert triangles.max() <= group.max()
    a, b, c = triangles.unbind(1)
    assert not ((a == b) | (b == c) | (c == a)).any()
    mean = cluster_means(model.mean, group)
    moved = (mean[group] - model.mean).norm(dim=1)
    important = model.vertex_weight > model.vertex_weight.median() / 2
    assert moved.max() < 15 and moved[important].max() < 5  # mm; cells are wider elsewhere
    # Linear: merging after Eq. (1) is merging before it.
    r = model.sample(1, torch.Generator().manual_seed(0))
    basis = cluster_means(model.basis.unflatten(1, (-1, 3)), group)
    vertices = mean + torch.tensordot(r, basis, 1)[0]
    assert torch.allclose(vertices, cluster_means(model.vertices(r)[0], group), atol=1e-3)
    normals = vertex_normals(mean[None], triangles)[0]
    full = vertex_normals(model.mean[None], model.triangles)[0]
    cosine = (normals[group] * full).sum(1)
    assert cosine[important].median() > 0.98
