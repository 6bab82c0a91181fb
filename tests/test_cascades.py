"""The Viola-Jones cascades, frontal and in the mirror."""

import dataclasses

import cascades
import numpy as np
import pytest
from skimage import data as photographs

from facerecon.detection.box import Box
from facerecon.imaging import load_image, to_grey

ASTRONAUT = Box(177, 68, 93, 93)


@pytest.fixture(scope="module")
def astronaut():
    return np.rint(to_grey(load_image(photographs.astronaut())) * 255).astype(np.uint8)


def test_two_cascades_agree_on_the_face_alone(astronaut):
    (box,) = cascades.agreed(astronaut)
    assert box.overlap(ASTRONAUT) > 0.8
    assert box.score > 10
    assert any(box.overlap(b) > 0.8 for b in cascades.candidates(astronaut))


def test_large_images_are_searched_at_a_smaller_size(astronaut):
    large = astronaut.repeat(3, axis=0).repeat(3, axis=1)
    (box,) = cascades.agreed(large)
    assert Box(box.x / 3, box.y / 3, box.width / 3, box.height / 3).overlap(ASTRONAUT) > 0.8


def test_mirrored_cascade_is_the_cascade_in_the_mirror(astronaut):
    plain, mirrored = cascades.PROFILE
    loose = dataclasses.replace(plain, name="frontalface_default", shift=-0.1)
    mirror = dataclasses.replace(mirrored, name="frontalface_default", shift=0.1)
    there = cascades.found(astronaut, loose)
    assert there
    for a, b in zip(there, cascades.found(astronaut, cascades.FRONTAL[0]), strict=True):
        side = a.width / plain.scale
        assert side == pytest.approx(b.width)
        moved = (a.x + a.width / 2) - (b.x + b.width / 2)
        assert moved == pytest.approx(-0.1 * side)
    back = cascades.found(np.ascontiguousarray(astronaut[:, ::-1]), mirror)
    for a, b in zip(there, back, strict=True):
        assert b.x + b.width == pytest.approx(astronaut.shape[1] - a.x)
        assert (b.y, b.width, b.score) == (a.y, a.width, a.score)


@pytest.mark.parametrize("name", ["coffee", "page", "clock", "brick"])
def test_no_face_where_there_is_none(name):
    grey = np.rint(to_grey(load_image(getattr(photographs, name)())) * 255).astype(np.uint8)
    assert cascades.agreed(grey) == []
