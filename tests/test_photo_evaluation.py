"""Measures on photographs without a truth, with networks whose answers are known."""

import pytest
import torch
from PIL import Image
from skimage import data as photographs
from stand_ins import StandIn

from facerecon.evaluation.photos import (
    LARGEST_COEFFICIENT,
    CroppedPhotos,
    evaluate_photos,
    load_photos,
    mirror_landmarks,
    photo_summary,
    photo_table,
    worst_first,
)
from facerecon.imaging import ImageError

SIZE = 64


class Constant(StandIn):
    """Always the same face."""

    def __init__(self, r):
        super().__init__()
        self.r = r

    def answer(self, maps, r):
        return self.r.expand(len(r), -1)


class Halfway(StandIn):
    """Always half the way to a yaw."""

    def answer(self, maps, r):
        target = torch.zeros_like(r)
        target[:, -5] = 0.4
        return (r + target) / 2


def photos(count=2, edge=float(SIZE)):
    frame = torch.tensor([0.0, 0.0, edge, edge]).expand(count, 4)
    return CroppedPhotos(
        [str(i) for i in range(count)], torch.rand(count, 1, SIZE, SIZE), frame, {}
    )


def test_landmarks_mirror_each_other(model):
    other = mirror_landmarks(model)
    assert torch.equal(other[other], torch.arange(68))
    assert other[36] == 45 and other[0] == 16 and other[30] == 30 and other[48] == 54


def test_a_constant_face_settles_at_once(model):
    r = torch.zeros(1, model.n_coefficients + 6)
    found = evaluate_photos(Constant(r), model, photos(), iterations=3)
    assert found["moved"].shape == (2, 3) and found["moved"].abs().max() == 0
    assert found["accepted"].all()
    assert found["mirror"].max() < 0.05  # the mean face is symmetric


def test_a_turned_constant_face_contradicts_its_mirror_image(model):
    r = torch.zeros(1, model.n_coefficients + 6)
    r[:, -5] = 0.6
    found = evaluate_photos(Constant(r), model, photos(), iterations=2)
    assert found["mirror"].min() > 5
    assert found["turned"][:, 0].tolist() == pytest.approx([17.19, 17.19], abs=0.01)
    assert found["turned"][:, 1].max() == 0


def test_contraction_is_seen(model):
    found = evaluate_photos(Halfway(), model, photos(), iterations=4)
    short = photo_summary(found)
    assert short["every step smaller than the one before, %"] == 100
    assert short["last step over the one before, median"] == pytest.approx(0.5, abs=0.05)


def test_implausible_faces_are_rejected(model):
    wild = torch.zeros(1, model.n_coefficients + 6)
    wild[:, 0] = LARGEST_COEFFICIENT + 0.1
    assert not evaluate_photos(Constant(wild), model, photos())["accepted"].any()
    mean = torch.zeros(1, model.n_coefficients + 6)
    found = evaluate_photos(Constant(mean), model, photos(edge=SIZE / 2))
    assert not found["inside"].any() and not found["accepted"].any()


def test_worst_first():
    measures = {
        "mirror": torch.tensor([1.0, 3.0, 2.0]),
        "accepted": torch.tensor([False, True, True]),
    }
    assert worst_first(measures).tolist() == [0, 1, 2]


def test_photographs_without_a_face_are_named(tmp_path, model):
    Image.fromarray(photographs.astronaut()).save(tmp_path / "astronaut.png")
    Image.new("RGB", (80, 80)).save(tmp_path / "blank.png")
    (tmp_path / "bad.png").write_bytes(b"")
    names = ["astronaut.png", "blank.png", "bad.png"]
    found = load_photos([tmp_path / name for name in names], SIZE)
    assert found.names == ["astronaut.png"] and set(found.failed) == {"blank.png", "bad.png"}
    assert found.image.shape == (1, 1, SIZE, SIZE)
    left, top, right, bottom = found.frame[0].tolist()
    assert left < 0 and top < 0 and right > SIZE and bottom > SIZE  # the face is inside
    measures = evaluate_photos(Constant(torch.zeros(1, model.n_coefficients + 6)), model, found)
    assert "accepted" in photo_table(measures)
    with pytest.raises(ImageError, match="no face"):
        load_photos([tmp_path / "blank.png"])
