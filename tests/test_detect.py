import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from skimage import data as photographs

from facerecon import detect
from facerecon.data import load_image, to_grey
from facerecon.detect import CROP_MARGIN, Box, NoFaceError, detect_faces

# Two portraits in the public domain that come with packages. The boxes were read off the pictures:
# as wide as the head at the ears' height, centred between the eyes and the mouth.
ASTRONAUT = Box(177, 68, 93, 93)
HOPPER = Box(150, 102, 226, 226)


@pytest.fixture(scope="module")
def astronaut():
    return load_image(photographs.astronaut())


def hopper():
    return load_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def test_finds_exactly_the_face(astronaut):
    for image, truth in ((astronaut, ASTRONAUT), (hopper(), HOPPER)):
        (box,) = detect_faces(image)
        assert box.overlap(truth) > 0.8
        assert box.score > 10


def test_box_follows_the_image(astronaut):
    (box,) = detect_faces(astronaut)
    (mirrored,) = detect_faces(np.ascontiguousarray(astronaut[:, ::-1]))
    back = Box(512 - mirrored.x - mirrored.width, mirrored.y, mirrored.width, mirrored.height)
    assert box.overlap(back) > 0.85
    (moved,) = detect_faces(np.roll(astronaut, (60, 90), axis=(0, 1)))
    back = Box(moved.x - 90, moved.y - 60, moved.width, moved.height)
    assert box.overlap(back) > 0.85


def test_large_photographs_are_searched_small(astronaut):
    large = astronaut.repeat(5, axis=0).repeat(5, axis=1)
    (box,) = detect_faces(large)
    back = Box(box.x / 5, box.y / 5, box.width / 5, box.height / 5)
    assert back.overlap(ASTRONAUT) > 0.8


def test_small_faces_are_found_in_the_second_round(astronaut):
    portrait = astronaut[30:200, 140:310]
    wide = np.full((700, 1500, 3), 0.5, np.float32)
    wide[100:270, 900:1070] = portrait
    (box,) = detect_faces(wide)
    back = Box(box.x - 900 + 140, box.y - 100 + 30, box.width, box.height)
    assert back.overlap(ASTRONAUT) > 0.7


def test_several_faces_come_largest_first(astronaut):
    face = astronaut[30:200, 140:310]
    both = np.full((400, 700, 3), 0.4, np.float32)
    both[20:190, 10:180] = face
    both[30:370, 300:640] = face.repeat(2, axis=0).repeat(2, axis=1)
    first, second = detect_faces(both)
    assert first.width > 1.7 * second.width
    assert first.x > 300 > second.x + second.width


PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/photos")
@pytest.mark.parametrize("flip", [False, True])
def test_a_turned_face_is_found_by_the_profile_cascades(flip):
    image = load_image(PHOTOS / "0775.jpg")  # a man looking to the left, half from behind
    truth = Box(105, 60, 190, 190)
    if flip:
        image = np.ascontiguousarray(image[:, ::-1])
        truth = Box(image.shape[1] - truth.x - truth.width, truth.y, truth.width, truth.height)
    (box,) = detect_faces(image)
    assert box.overlap(truth) > 0.6


def test_mirrored_cascade_is_the_cascade_in_the_mirror(astronaut):
    grey = np.rint(to_grey(astronaut) * 255).astype(np.uint8)
    plain, mirrored = detect._PROFILE
    loose = dataclasses.replace(plain, name="frontalface_default", shift=-0.1)
    mirror = dataclasses.replace(mirrored, name="frontalface_default", shift=0.1)
    there = detect._windows(grey, loose)
    for a, b in zip(there, detect._windows(grey, detect._FRONTAL[0]), strict=True):
        side = a.width / plain.scale
        assert side == pytest.approx(b.width)
        moved = (a.x + a.width / 2) - (b.x + b.width / 2)
        assert moved == pytest.approx(-0.1 * side)
    back = detect._windows(np.ascontiguousarray(grey[:, ::-1]), mirror)
    assert there
    for a, b in zip(there, back, strict=True):
        assert b.x + b.width == pytest.approx(grey.shape[1] - a.x)
        assert (b.y, b.width, b.score) == (a.y, a.width, a.score)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (24, 24), (41, 39)])
def test_tiny_images_hold_no_face(shape, rng):
    with pytest.raises(NoFaceError, match=f"{shape[1]} x {shape[0]}"):
        detect_faces(rng.random((*shape, 3)).astype(np.float32))


@pytest.mark.parametrize("name", ["coffee", "chelsea", "page", "clock", "brick"])
def test_no_face_where_there_is_none(name):
    with pytest.raises(NoFaceError, match="pass its box"):
        detect_faces(load_image(getattr(photographs, name)()))


def test_no_face_in_noise(rng):
    with pytest.raises(NoFaceError):
        detect_faces(rng.random((500, 700, 3)).astype(np.float32))


def test_crop_box_has_the_same_centre():
    x, y, width, height = Box(10, 20, 30, 40).crop_box()
    assert width == height == CROP_MARGIN * 40
    assert x + width / 2 == pytest.approx(25)
    assert y + height / 2 == pytest.approx(40)


def test_overlap():
    box = Box(0, 0, 4, 4)
    assert box.overlap(box) == 1
    assert box.overlap(Box(2, 0, 4, 4)) == pytest.approx(8 / 24)
    assert box.overlap(Box(4, 4, 4, 4)) == 0
    assert box.overlap(Box(9, 9, 1, 1)) == 0
