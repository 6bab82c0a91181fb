"""Procedural skin: range, determinism, and where brows, lips and lashes are."""

import pytest
import torch

from facerecon.lighting import LUMA
from facerecon.synthetic.skin import Skin


@pytest.fixture(scope="module")
def skin(model):
    return Skin(model)


def grey(skin, model, count=200, seed=0):
    albedo = skin.sample(count, torch.Generator().manual_seed(seed))
    return albedo @ torch.tensor(LUMA)


def test_range_and_determinism(skin, model):
    first, second = (skin.sample(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (3, model.n_vertices, 3)
    assert torch.equal(first, second)
    assert first.min() > 0 and first.max() <= 1 and torch.isfinite(first).all()


def test_spans_human_tones_and_stays_warm(skin, model):
    albedo = skin.sample(300, torch.Generator().manual_seed(0))
    cheek = model.regions["face"].bool() & (model.regions["lips"] < 0.01)
    cheek &= (model.regions["brows"] < 0.01) & (model.regions["mouth_interior"] < 0.01)
    tone = albedo[:, cheek].median(1).values
    assert tone[:, 0].min() < 0.45 and tone[:, 0].max() > 0.8
    assert (tone[:, 0] > tone[:, 1]).all() and (tone[:, 1] > tone[:, 2] - 0.02).all()


def test_brows_and_lips_are_darker_than_the_skin_around_them(skin, model):
    mean = grey(skin, model).mean(0)
    positions, landmarks = model.mean, model.mean[model.landmarks]

    def around(point, radius):
        return mean[(positions - point).norm(dim=1) < radius].mean()

    forehead = around(landmarks[[21, 22]].mean(0) + torch.tensor([0.0, 22.0, 0.0]), 10)
    for brow in (19, 24):
        assert around(landmarks[brow], 4) < 0.9 * forehead
    lips = (mean * model.regions["lips"]).sum() / model.regions["lips"].sum()
    assert lips < 0.95 * forehead


def test_layers_compose_to_the_whole(skin, model):
    """Where neither eye nor mouth lies, a face is its skin under its hair."""
    face = skin.sample_complexion(20, torch.Generator().manual_seed(3))
    whole = skin.sample(20, torch.Generator().manual_seed(3))
    cover = face.hair[..., None]
    expected = (1 - cover) * face.skin + cover * face.hair_color[:, None]
    plain = ~skin.is_eye & (model.regions["mouth_interior"] == 0)
    torch.testing.assert_close(whole[:, plain], expected.clamp(0.01, 1)[:, plain])


def test_lashes_line_the_eyes(skin, model):
    near = (model.mean - model.mean[model.landmarks[44]]).norm(dim=1) < 2.5
    cheek = (model.mean - model.mean[model.landmarks[30]]).norm(dim=1) < 15
    assert skin.lashes[near & ~skin.is_eye].max() > 0.5
    assert skin.lashes[cheek].max() < 0.01
