"""The file of a texture bank, and synthetic faces that wear its textures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facerecon.coarsenet import CoarseNetConfig
from facerecon.lighting import LUMA
from facerecon.render import render
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.photographed_skin import PhotographedSkin
from facerecon.synthetic.texture_bank import TextureBank, TextureBankError, topology_digest
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.coarse import CoarseTask
from facerecon.training.presets import CoarseTraining, SyntheticConfig

TEXELS = 64


def make_bank(model, albedo) -> TextureBank:
    n = len(albedo)
    known = np.random.default_rng(0).random((n, TEXELS, TEXELS)) > 0.5
    names = tuple(f"{i}.jpg" for i in range(n))
    return TextureBank(albedo, known, names, "MIT", topology_digest(model), "0" * 64)


@pytest.fixture(scope="module")
def bank(model):
    rng = np.random.default_rng(1)
    return make_bank(model, rng.integers(90, 200, (3, TEXELS, TEXELS, 3), dtype=np.uint8))


def test_a_bank_survives_the_file(bank, model, tmp_path):
    bank.save(tmp_path / "bank.npz")
    again = TextureBank.load(tmp_path / "bank.npz", model)
    np.testing.assert_array_equal(again.albedo, bank.albedo)
    np.testing.assert_array_equal(again.known, bank.known)
    assert again.names == bank.names and again.licence == "MIT" and len(again) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def damaged(path):
    path.write_bytes(path.read_bytes()[:-300])


def rewritten(**changes):
    def write(path):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files} | changes
        np.savez(path, **{name: value for name, value in arrays.items() if value is not None})

    return write


@pytest.mark.parametrize(
    "harm, message",
    [
        (damaged, "not a readable texture bank"),
        (lambda path: path.write_text("no archive"), "not a readable texture bank"),
        (lambda path: path.write_bytes(b""), "not a readable texture bank"),
        (rewritten(format=np.array("other/1")), "format"),
        (rewritten(names=None), "names"),
        (rewritten(names=np.array(["one.jpg"])), "do not fit"),
        (rewritten(albedo=np.zeros((3, 4, 4, 3))), "float64"),
        (rewritten(names=np.array([{}], dtype=object)), "not a readable texture bank"),
        (rewritten(topology=np.array("0")), "another model"),
    ],
)
def test_a_bad_file_gets_one_clear_line(bank, model, tmp_path, harm, message):
    path = tmp_path / "bank.npz"
    bank.save(path)
    harm(path)
    with pytest.raises(TextureBankError, match=message) as error:
        TextureBank.load(path, model)
    assert str(path) in str(error.value) and "make it again" in str(error.value)


def test_a_missing_file_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="make_texture_bank"):
        TextureBank.load(tmp_path / "none.npz", model)


@pytest.fixture(scope="module")
def scene(model):
    rendering = render(model, torch.zeros(1, model.n_coefficients + 6), 80)
    coordinates = Chart(model, TEXELS).at(rendering.fragments)
    skin = torch.tensor([0.6, 0.4, 0.3]).expand(1, model.n_vertices, 3)
    return rendering, coordinates, skin


def config(share, **changes):
    detail = SyntheticConfig().detail
    return replace(detail, p_photographed=share, photographed_hue=0.0, **changes)


def paint(skin_module, scene, channels=3):
    rendering, coordinates, skin = scene
    albedo = torch.full((1, channels, 80, 80), 0.9)
    hair = torch.ones(1, 1, 80, 80)
    generator = torch.Generator().manual_seed(3)
    return skin_module.paint(albedo, hair, skin, rendering.fragments, coordinates, generator)


def test_a_texture_takes_the_tone_of_the_face_and_keeps_its_contrast(model, scene):
    """The left half of the texture is brighter by a factor: so is the painted one, at its tone."""
    albedo = np.full((1, TEXELS, TEXELS, 3), 100, np.uint8)
    left = (Chart(model, TEXELS).position[..., 0] < 0).numpy()
    albedo[0, left] = 150
    skin = PhotographedSkin(
        model, make_bank(model, albedo), config(1.0, photographed_contrast=(1.0, 1.0))
    )
    painted, hair = paint(skin, scene)
    _, coordinates, _ = scene
    inside = (hair[0, 0] == 0) & (coordinates[0].abs().amax(0) < 1)
    column = torch.arange(80).expand(80, 80)
    levels = painted[0, 0][inside & (column < 33)], painted[0, 0][inside & (column > 46)]
    # Deviations are stored in steps of 0.024 in log intensity.
    assert (levels[0].median() / levels[1].median()).item() == pytest.approx(1.5, rel=0.03)
    bare = min(levels, key=lambda part: abs(float(part.median()) - 0.6))
    assert bare.median().item() == pytest.approx(0.6, rel=0.03)  # the tone is the procedural one
    ratio = painted[0, 1][inside] / painted[0, 0][inside]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 4 / 6), atol=1e-3, rtol=0)


def test_nobody_wears_a_texture_at_share_zero(model, bank, scene):
    painted, hair = paint(PhotographedSkin(model, bank, config(0.0)), scene)
    assert (painted == 0.9).all() and (hair == 1).all()


def test_eyes_and_background_stay(model, bank, scene):
    painted, hair = paint(PhotographedSkin(model, bank, config(1.0)), scene)
    rendering = scene[0]
    eyes = model.regions["eye_left"] + model.regions["eye_right"] > 0.5
    eye = eyes[model.triangles].all(1)[rendering.fragments.triangle.clamp(min=0)]
    kept = (eye | (rendering.fragments.triangle < 0))[:, None]
    assert (painted.amin(1, keepdim=True) == 0.9)[kept].all() and (hair == 1)[kept].all()
    assert ((hair == 0) | kept).float().mean() > 0.95


def test_grey_is_the_luma_of_color(model, bank, scene):
    skin = PhotographedSkin(model, bank, config(1.0))
    grey, color = paint(skin, scene, 1)[0], paint(skin, scene, 3)[0]
    luma = (color * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma)


def test_the_world_mixes_photographed_and_procedural_skin(model, bank):
    config = SyntheticConfig(size=64).plain()
    world = SyntheticWorld(model, config, textures=bank)
    faces = world.render(4, world.generator(0))
    again = world.render(4, world.generator(0))
    assert torch.equal(faces.image, again.image) and faces.image.isfinite().all()
    never = replace(config, detail=replace(config.detail, p_photographed=0.0))
    plain = SyntheticWorld(model, never, textures=bank)
    other = plain.render(4, plain.generator(0))
    torch.testing.assert_close(other.r, faces.r)
    changed = (other.albedo - faces.albedo).abs().amax((1, 2, 3)) > 0.02
    assert changed.any()


def test_training_draws_from_the_bank(model, bank, tmp_path):
    config = CoarseTraining(
        network=CoarseNetConfig(width=4, squeeze=8),
        data=SyntheticConfig(size=64).plain(),
        samples=8,
        images_per_batch=4,
        validation_faces=4,
    )
    task = CoarseTask(model, config, torch.device("cpu"), workers=0, textures=bank)
    assert "3 photographs (MIT)" in task.data_description
    assert task.world.photographed is not None
    with pytest.raises(ValueError, match="leave --textures out"):
        CoarseTask(model, config, torch.device("cpu"), workers=0, data=tmp_path, textures=bank)
