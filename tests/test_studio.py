"""Turning single knobs of the synthetic world, and the sliders that do it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon.synthetic.studio import NEUTRAL_CAMERA, SLIDERS, Studio, turned
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig

pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def world(model):
    return SyntheticWorld(model, SyntheticConfig(size=96))


def test_only_what_was_turned_differs(world):
    quiet, loud = (
        turned(world, camera=NEUTRAL_CAMERA | {"p_noise": 1.0, "photon_noise": (level, level)})
        for level in (0.0, 0.05)
    )
    calm, noisy = (each.render(4, each.generator(3)) for each in (quiet, loud))
    assert torch.equal(calm.r, noisy.r) and torch.equal(calm.shading, noisy.shading)
    assert torch.equal(calm.albedo, noisy.albedo)
    difference = noisy.image - calm.image
    assert 0.005 < difference.std() < 0.06 and difference.mean().abs() < 0.005
    shadowless = turned(quiet, light={"p_shadow": 0.0})
    faces = shadowless.render(4, shadowless.generator(3))
    assert torch.equal(faces.albedo, calm.albedo) and (faces.shadow == 1).all()
    assert (calm.shadow < 1).any()


def test_wrinkles_skin_and_hair_can_be_turned(world):
    smooth = turned(
        world,
        detail={
            name: (0.0, 0.0)
            for name in ("age_strength", "youth_strength", "expression_strength", "pores")
        },
        skin={"tone": 0.0},
        hair={"surround": False},
    )
    faces = smooth.render(2, smooth.generator(0))
    assert torch.equal(faces.fine_depth, faces.rendering.depth)
    darker = turned(world, skin={"tone": 3.0, "tone_power": 0.01})
    pale, dark = (w.render(2, w.generator(0)).albedo.sum() for w in (smooth, darker))
    assert dark < 0.7 * pale


def test_the_world_stays_as_it_was_and_its_banks_are_shared(world):
    before = world.config
    other = turned(world, light={"p_key": 0.0})
    assert world.config is before and other.config.light.p_key == 0.0
    shared = {buffer.data_ptr() for buffer in world.buffers()}
    assert {buffer.data_ptr() for buffer in other.buffers()} == shared
    first = world.render(1, world.generator(5)).image
    other.render(1, other.generator(5))
    assert torch.equal(world.render(1, world.generator(5)).image, first)


def test_what_cannot_be_turned(world):
    with pytest.raises(ValueError, match="'nonsense' is no group"):
        turned(world, nonsense={"x": 1})
    with pytest.raises(ValueError, match="'size' is no group"):
        turned(world, size={"pixels": 400})
    with pytest.raises(ValueError, match="variants: the banks"):
        turned(world, detail={"variants": 2})
    with pytest.raises(TypeError, match="nonsense"):
        turned(world, light={"nonsense": 1})


def test_sliders_change_the_photograph(world):
    r = torch.zeros(1, world.model.n_coefficients + 6)
    studio = Studio(world, r)
    start = studio.picture().astype(int)
    assert start.shape == (96, 96, 3) and start.std() > 10
    for name, (_, low, high, _) in SLIDERS.items():
        studio.sliders[name].value = low
        least = studio.picture().astype(int)
        studio.sliders[name].value = high
        assert np.abs(studio.picture() - least).max() > 5, name
        studio.reset()
    assert np.array_equal(studio.picture(), start)
    assert not studio.image.value  # draws only what is looked at


def test_a_lamp_from_the_right_lights_the_right(world):
    studio = Studio(world, torch.zeros(1, world.model.n_coefficients + 6))
    sides = {}
    for angle in (-60, 60):
        studio.sliders["lamp right °"].value = angle
        picture = studio.picture().mean(2)[30:70]
        sides[angle] = picture[:, 52:75].mean() - picture[:, 21:44].mean()
    assert sides[-60] < 0 < sides[60]


def test_the_live_photograph_follows_the_sliders(world):
    studio = Studio(world, torch.zeros(1, world.model.n_coefficients + 6))
    assert len(studio.live().children) == 2
    first = bytes(studio.image.value)
    studio.sliders["lamp strength"].value = 0.0
    shown = np.asarray(Image.open(io.BytesIO(studio.image.value)))
    assert bytes(studio.image.value) != first
    assert np.array_equal(shown, studio.picture())
