"""Faces are found where they are, and nowhere else."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

from facerecon.camera import POSE_UNITS
from facerecon.detection import detect
from facerecon.detection.box import clash, distinct
from facerecon.detection.detect import CROP_MARGIN, NEUTRAL_MM, Box, NoFaceError, detect_faces
from facerecon.detection.judge import expected_errors
from facerecon.imaging import load_image, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import load_coarsenet

# Two portraits in the public domain that come with packages. The boxes were read off the pictures:
# as wide as the head at the ears' height, centered between the eyes and the mouth.
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
        assert box.overlap(truth) > 0.7
        assert 0.5 < box.score < 1


def test_box_follows_the_image(astronaut):
    (box,) = detect_faces(astronaut)
    (mirrored,) = detect_faces(np.ascontiguousarray(astronaut[:, ::-1]))
    back = Box(512 - mirrored.x - mirrored.width, mirrored.y, mirrored.width, mirrored.height)
    assert box.overlap(back) > 0.85
    (moved,) = detect_faces(np.roll(astronaut, (60, 90), axis=(0, 1)))
    back = Box(moved.x - 90, moved.y - 60, moved.width, moved.height)
    assert box.overlap(back) > 0.85


def test_large_photographs(astronaut):
    large = astronaut.repeat(5, axis=0).repeat(5, axis=1)
    (box,) = detect_faces(large)
    back = Box(box.x / 5, box.y / 5, box.width / 5, box.height / 5)
    assert back.overlap(ASTRONAUT) > 0.7


def test_small_faces_in_large_photographs(astronaut):
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


def test_the_largest_face_alone(astronaut, monkeypatch):
    face = astronaut[30:200, 140:310]
    both = np.full((400, 700, 3), 0.4, np.float32)
    both[20:190, 10:180] = face
    both[30:370, 300:640] = face.repeat(2, axis=0).repeat(2, axis=1)
    for image in (astronaut, both):
        assert detect.largest_face(image) == detect_faces(image)[0]
    with pytest.raises(NoFaceError):
        detect.largest_face(np.full((200, 200, 3), 0.5, np.float32))

    def rescored(grey, boxes, *others):
        assert all(box.width > sure.width for box in boxes)
        return []

    sure = detect_faces(astronaut)[0]
    monkeypatch.setattr(detect, "_rescored", rescored)
    assert detect.largest_face(astronaut) == sure


@pytest.mark.parametrize("flip", [False, True])
def test_a_turned_face(flip, optional_data):
    # A man looking to the left, half from behind.
    image = load_image(optional_data("photos/0775.jpg"))
    truth = Box(105, 60, 190, 190)
    if flip:
        image = np.ascontiguousarray(image[:, ::-1])
        truth = Box(image.shape[1] - truth.x - truth.width, truth.y, truth.width, truth.height)
    (box,) = detect_faces(image)
    assert box.overlap(truth) > 0.6


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


def test_crop_box_has_the_same_center():
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


def test_distinct_keeps_the_best_of_what_overlaps():
    face, shifted = Box(0, 0, 10, 10, 0.8), Box(2, 0, 10, 10, 0.7)
    eye, other = Box(2, 2, 2, 2, 0.6), Box(30, 0, 8, 8, 0.9)
    assert distinct([eye, shifted, face, other]) == [other, face, eye]
    assert clash(eye, face) and clash(face, eye) and not clash(face, other)


def test_turned_synthetic_faces(model):
    """Within 60 degrees of yaw, whatever the light, hair, beard and glasses."""
    world = SyntheticWorld(model)
    generator = world.generator(20_171_121)
    r = world.sample(40, generator)
    yaw = (r[:, model.n_coefficients + 1] * POSE_UNITS[1]).rad2deg()
    r = r[yaw.abs() <= 60][:24]
    faces = world.render(len(r), generator, r)
    pose = r[:, model.n_coefficients :].double() * POSE_UNITS
    hits = 0
    for image, (right, up, log_scale) in zip(faces.image[:, 0], pose[:, 3:].tolist(), strict=True):
        side = 200 * np.exp(log_scale) / CROP_MARGIN
        truth = Box(200 * (0.5 + right) - side / 2, 200 * (0.5 - up) - side / 2, side, side)
        scene = np.pad(image.numpy(), 60, mode="edge")  # not only the crop
        try:
            boxes = detect_faces(np.repeat(scene[..., None], 3, axis=2))
        except NoFaceError:
            continue
        moved = Box(boxes[0].x - 60, boxes[0].y - 60, boxes[0].width, boxes[0].height)
        hits += len(boxes) == 1 and moved.overlap(truth) > 0.5
    assert hits >= 23, hits


def test_photographs(optional_data):
    """Portraits that no training has seen: those with an odd number."""
    names = sorted(p for p in optional_data("photos").glob("*.jpg") if int(p.stem) % 2)[::40]
    found = 0
    for path in names:
        try:
            boxes = detect_faces(load_image(path))
        except NoFaceError:
            continue
        found += boxes[0].width > 40
    assert found >= len(names) - 1 > 10


# (column, row, side) of squares around an eye, the mouth and the chin
PARTS = {"eye": (190, 86, 30), "mouth": (200, 128, 50), "chin": (195, 140, 60)}


@pytest.mark.parametrize("part", PARTS)
def test_no_face_on_a_part_of_one(astronaut, part):
    x, y, side = PARTS[part]
    close = Image.fromarray((astronaut[y : y + side, x : x + side] * 255).astype(np.uint8))
    with pytest.raises(NoFaceError):
        detect_faces(load_image(close.resize((300, 300), Image.BICUBIC)))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: 0.12 * image,
        lambda image: 0.3 * image + 0.65,
        lambda image: np.repeat(image.mean(2, keepdims=True), 3, axis=2),
        lambda image: image**2.5,
    ],
    ids=["dark", "pale", "grey", "contrast"],
)
def test_exposure_does_not_matter(astronaut, change):
    (box,) = detect_faces(change(astronaut).astype(np.float32))
    assert box.overlap(ASTRONAUT) > 0.6


def test_a_face_cut_by_the_border(astronaut):
    (box,) = detect_faces(np.ascontiguousarray(astronaut[:, 195:]))
    back = Box(box.x + 195, box.y, box.width, box.height)
    assert back.overlap(ASTRONAUT) > 0.6


def test_the_result_does_not_depend_on_threads(astronaut):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = detect_faces(astronaut)
    finally:
        torch.set_num_threads(before)
    one = detect_faces(astronaut)
    assert [b.x for b in one] == pytest.approx([b.x for b in two], abs=0.01)


def test_the_fit_tells_a_face_from_what_is_none(astronaut):
    coffee = load_image(photographs.coffee())
    beside = [Box(300, 100, 93, 93), Box(100, 300, 150, 150), Box(20, 20, 93, 93)]
    trained = load_coarsenet(), MorphableModel.default()
    boxes = [Box(200, 60, 200, 200), Box(20, 20, 150, 150)]
    on_face, *elsewhere = expected_errors(*trained, to_grey(astronaut), [ASTRONAUT, *beside])
    cup = expected_errors(*trained, to_grey(coffee), boxes)
    assert on_face < NEUTRAL_MM < min(*elsewhere, *cup)
