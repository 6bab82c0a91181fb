"""The linear albedo model learned from a texture bank."""

import numpy as np
import pytest
import torch
from learn_albedo import COMPONENTS, albedo_of_bank, linear_model
from make_texture_bank import Gates, Unwrapper, collect, feather

from facerecon.synthetic.texture_bank import TextureBank, topology_digest


def test_vertices_get_the_color_of_their_texels_and_eyes_do_not(model):
    albedo = np.full((2, 32, 32, 3), (200, 150, 100), np.uint8)
    known = np.ones((2, 32, 32), bool)
    bank = TextureBank(albedo, known, ("a", "b"), "MIT", topology_digest(model), "")
    found = albedo_of_bank(model, bank, torch.Generator().manual_seed(0))
    like = np.abs(found - np.array([200, 150, 100]) / 255).max(2) < 1e-4
    regions = model.regions
    eyes = ((regions["eye_left"] + regions["eye_right"]) > 0.5).numpy()
    face = (regions["face"] > 0.9).numpy() & ~eyes & (regions["mouth_interior"] < 0.1).numpy()
    assert like[:, face].mean() > 0.97 and not like[:, eyes].any()


def test_the_components_are_those_of_the_population(rng):
    """Colors made of two symmetric patterns of known spread come apart into these."""
    mirror = np.array([1, 0, 3, 2, 4])
    patterns = rng.normal(size=(2, 5, 3))
    patterns = patterns + patterns[:, mirror]
    patterns[1] -= patterns[0] * (patterns[0] * patterns[1]).sum() / (patterns[0] ** 2).sum()
    coefficients = np.linalg.qr(rng.normal(size=(60, 3)) * [0, 1, 1] + [1, 0, 0])[0][:, 1:]
    coefficients = coefficients * np.sqrt(60) * [3.0, 1.0]  # uncorrelated, of exactly this spread
    samples = np.tensordot(coefficients, patterns, 1) + 0.5
    mean, basis = linear_model(samples, mirror)
    assert basis.shape == (COMPONENTS, 5, 3) and basis.dtype == np.float32
    np.testing.assert_allclose(mean, 0.5, atol=1e-5)
    strength = [3.0, 1.0] * np.linalg.norm(patterns, axis=(1, 2))
    order = np.argsort(strength)[::-1]
    for component, k in zip(basis, order, strict=False):
        assert np.linalg.norm(component) == pytest.approx(strength[k], rel=1e-4)
        cosine = (component * patterns[k]).sum() / np.linalg.norm(patterns[k])
        assert abs(cosine) / np.linalg.norm(component) > 0.9999
    assert np.abs(basis[2:]).max() < 1e-3
    np.testing.assert_allclose(basis, basis[:, mirror], atol=1e-4)


def test_feathering_ends_at_what_is_unknown_not_at_the_chart():
    mask = np.ones((200, 200), bool)
    mask[:, :20] = False
    known = mask.copy()
    known[:, 120:] = False
    weight = feather(known, mask)
    assert (weight[:, :20] == 0).all() and (weight[:, 20:110] > 0.99).all()
    assert (weight[:, 120:] == 0).all() and (weight[:, 119] < 0.5).all()
    assert (np.diff(weight[100, 100:130]) <= 1e-6).all()


def test_photographs_become_textures(model, optional_data):
    unwrapper = Unwrapper(model, 96, Gates())
    names = ("0025.jpg", "0087.jpg", "0110.jpg", "0253.jpg", "0367.jpg", "0418.jpg")
    photos = optional_data("photos")
    found, reasons = collect(unwrapper, [photos / name for name in names], 2)
    assert len(found) == 2 or sum(reasons.values()) + len(found) == len(names)
    assert found
    for texture, known in found.values():
        assert texture.shape == (3, 96, 96) and not (known & ~unwrapper.mask).any()
        full = unwrapper.complete(texture.astype(np.float32), known, unwrapper.reference)
        assert np.isfinite(full).all() and (full[:, ~unwrapper.mask] == 0).all()
