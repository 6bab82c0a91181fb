"""The crop that follows the fit."""

import numpy as np
import pytest
import torch
from stand_ins import StandIn

from facerecon.camera import POSE_UNITS, project
from facerecon.detection.recrop import OFF_CENTER, TOGETHER, fit, fit_all
from facerecon.imaging import Crop

POSE = torch.tensor([0.2, -0.4, 0.1, 0.09, -0.12, 0.3], dtype=torch.float64) / POSE_UNITS


def test_the_face_stays_where_it_is_in_the_photograph(model):
    points = model.mean[model.landmarks].double()[None]
    before = Crop(30.0, -12.0, 170.0, 200)
    after = before.moved(*(POSE * POSE_UNITS)[3:].tolist())
    centered = torch.cat([POSE[:3], torch.zeros(3, dtype=torch.float64)])
    there = before.to_image(project(points, POSE[None], 200)[0, :, :2].numpy())
    here = after.to_image(project(points, centered[None], 200)[0, :, :2].numpy())
    assert np.allclose(there, here, atol=1e-9)
    assert after.size == before.size


class _Sees(StandIn):
    """Stands for CoarseNet: knows where in the photograph a bright square lies, and how wide."""

    def __init__(self, n_coefficients: int, width_share: float):
        super().__init__()
        self.n, self.share, self.calls = n_coefficients, width_share, 0
        self.image = None

    def answer(self, maps, r):
        self.calls += 1
        mask = self.image > 0.5
        rows, columns = torch.nonzero(mask, as_tuple=True)
        size = mask.shape[-1]
        pose = torch.zeros(6, dtype=torch.float64)
        pose[3] = (columns.double().mean() + 0.5) / size - 0.5
        pose[4] = 0.5 - (rows.double().mean() + 0.5) / size
        pose[5] = 0.5 * torch.log(mask.double().mean() / self.share**2)
        result = torch.zeros_like(r)
        result[0, self.n :] = (pose / POSE_UNITS).to(r)
        return result


@pytest.mark.parametrize(("shift", "rounds"), [(0.0, 1), (OFF_CENTER / 2, 1), (0.2, 2)])
def test_crop_is_cut_anew_where_the_box_was_off(model, monkeypatch, shift, rounds):
    photo = np.zeros((300, 300), np.float32)
    photo[100:200, 120:220] = 1.0  # its middle: column 170, row 150
    network = _Sees(model.n_coefficients, 0.5)

    def feedback(_, image, r, config):
        network.image = image[0, 0]
        return image

    monkeypatch.setattr("facerecon.coarsenet.feedback", feedback)
    square = Crop(70 + 200 * shift, 50.0, 200.0, 100)
    steps, found = fit(network, model, photo, square, iterations=1)
    assert network.calls == rounds and len(steps) == 2
    center = np.array([found.x, found.y]) + found.side / 2
    if rounds == 2:
        assert np.allclose(center, [170, 150], atol=1.0)
        assert found.side == pytest.approx(200, rel=0.02)
    else:
        assert found == square


def test_a_fit_far_astray_does_not_move_the_crop(model, monkeypatch):
    photo = np.zeros((300, 300), np.float32)
    photo[100:110, 100:110] = 1.0
    network = _Sees(model.n_coefficients, 0.5)

    def feedback(_, image, r, config):
        network.image = image[0, 0]
        return image

    monkeypatch.setattr("facerecon.coarsenet.feedback", feedback)
    square = Crop(0.0, 0.0, 210.0, 105)
    _, found = fit(network, model, photo, square, iterations=1)
    assert found == square and network.calls == 1


class _BrightSquare(StandIn):
    """Stands for CoarseNet: knows in every image of a batch where the bright pixels lie."""

    def __init__(self, n_coefficients: int):
        super().__init__()
        self.n, self.batches = n_coefficients, []

    def answer(self, maps, r):
        self.batches.append(len(maps))
        weight = (maps[:, 0] > 0.5).double()
        weight = weight / weight.sum((1, 2), keepdim=True)
        place = (torch.arange(maps.shape[-1]) + 0.5).double() / maps.shape[-1] - 0.5
        result = torch.zeros_like(r)
        result[:, self.n + 3] = (weight.sum(1) @ place / POSE_UNITS[3]).to(r)
        result[:, self.n + 4] = -(weight.sum(2) @ place / POSE_UNITS[4]).to(r)
        return result


@pytest.mark.parametrize("count", [1, 2, TOGETHER + 1, 20])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_faces_at_once_as_each_alone(model, monkeypatch, threads, count):
    photo = np.zeros((100, 100 * count), np.float32)
    crops = []
    for number in range(count):
        left = 100 * number + 30 + (20 * number) % 30  # some are off their crop's center
        photo[30:60, left : left + 30] = 1.0
        crops.append(Crop(100.0 * number, 0.0, 100.0, 50))
    monkeypatch.setattr("facerecon.coarsenet.feedback", lambda _, image, r, config: image)
    network = _BrightSquare(model.n_coefficients)
    alone = [fit(network, model, photo, crop, iterations=2) for crop in crops]
    network.batches.clear()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = fit_all(network, model, photo, crops, iterations=2)
    finally:
        torch.set_num_threads(before)
    assert any(found.crop != crop for found, crop in zip(alone, crops, strict=True)) == (count > 1)
    assert max(network.batches) <= TOGETHER and len(together) == count
    for one, other in zip(alone, together, strict=True):
        assert one.crop == other.crop and len(other.steps) == 3
        torch.testing.assert_close(other.steps, one.steps)
