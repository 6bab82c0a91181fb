"""The heat-map detector: its map, its pyramid, its training data and its weights."""

import itertools
from dataclasses import astuple

import numpy as np
import pytest
import torch
from canvases import CanvasConfig, CanvasMaker, Scene, clutter, detection_loss

from facerecon.detection import network as detection
from facerecon.detection.box import Box, averaged
from facerecon.detection.network import (
    STRIDE,
    TYPICAL_WIDTH,
    WIDTHS,
    DetectionNet,
    DetectionNetConfig,
    load_detector,
)
from facerecon.weights import WeightsError, load_coarsenet, shipped

SMALL = DetectionNetConfig(widths=(4, 4, 8), dilations=(1,))


def scene(rng, width=40.0):
    """A bright square with a dark one in it stands for a face; its box, known exactly."""
    image = rng.integers(60, 120, (128, 128)).astype(np.uint8)
    x, y = rng.uniform(40, 88, 2)
    half = width / 2
    image[int(y - half) : int(y + half), int(x - half) : int(x + half)] = 220
    image[int(y - half / 2) : int(y), int(x - half / 2) : int(x + half / 2)] = 20
    return Scene(image, np.array([[x, y, width]]), np.ones(1, dtype=bool))


def ideal(canvas):
    """The map that says exactly what the canvas teaches."""
    logit = torch.where(torch.from_numpy(canvas.label) == 1, 5.0, -9.0)
    return torch.cat([logit[None], torch.from_numpy(canvas.place)])


def test_map_has_stride_eight():
    net = DetectionNet(SMALL).eval()
    assert net(torch.zeros(2, 1, 64, 96)).shape == (2, 4, 64 // STRIDE, 96 // STRIDE)


def test_boxes_of_a_peak():
    maps = torch.zeros(4, 6, 8)
    maps[0] = -9.0
    maps[0, 2, 5] = 3.0
    maps[1:, 2, 5] = torch.tensor([0.25, -0.5, np.log(2)])
    (box,) = detection.boxes(maps, 0.5)
    assert box.width == pytest.approx(2 * TYPICAL_WIDTH, rel=1e-3)
    assert box.x + box.width / 2 == pytest.approx((5.5 + 0.25) * STRIDE, abs=0.05)
    assert box.y + box.height / 2 == pytest.approx((2.5 - 0.5) * STRIDE, abs=0.05)
    assert box.score == pytest.approx(torch.tensor(3.0).sigmoid().item())
    assert detection.boxes(maps, 0.99) == []


def test_targets_and_boxes_are_inverse(rng):
    """What a canvas teaches, read as a network's map, gives the boxes of its scenes."""
    config = CanvasConfig(p_clutter=0, p_second=0, p_right_size=1, margin=0)
    maker = CanvasMaker([scene(rng)], [], config, seed=3)
    seen = []
    maker.targets, original = lambda *a: (seen.append(a[0]), original(*a))[1], maker.targets
    checked = 0
    for _ in range(20):
        canvas = maker.canvas()
        (x, y, width) = seen[-1][0]
        if min(x, y, config.size - x, config.size - y) < 0.25 * width + STRIDE:
            continue  # cut by the border
        assert WIDTHS[0] * 0.99 <= width <= WIDTHS[1] * 1.01
        found = detection.boxes(ideal(canvas), 0.5)
        assert found
        for box in found:
            assert box.x + box.width / 2 == pytest.approx(x, abs=0.1)
            assert box.y + box.height / 2 == pytest.approx(y, abs=0.1)
            assert box.width == pytest.approx(width, rel=0.01)
        checked += 1
    assert checked >= 5


def test_the_canvas_shows_the_scene_where_the_label_says(rng):
    """The square of the scene, found again by its brightness, lies at the taught center."""
    plain = CanvasConfig(
        p_second=0, p_right_size=1, p_cover=0, turn=0, gain=(1, 1), gamma=(1, 1), p_washed_out=0,
        blur=(0, 0), noise=(0, 0), stretch=0,
    )  # fmt: skip
    image = np.full((128, 128), 40, np.uint8)
    image[44:84, 50:90] = 200
    maker = CanvasMaker([Scene(image, np.array([[70.0, 64.0, 40.0]]), np.ones(1, bool))], [], plain)
    checked = 0
    for _ in range(30):
        picture, boxes, _, _inside = maker.warped()
        (x, y, width) = boxes[0]
        if min(x, y) < width / 2 + 1 or max(x, y) > 71 - width / 2:
            continue
        rows, columns = np.nonzero(picture > 0.47)
        assert columns.mean() + 0.5 == pytest.approx(x, abs=0.5)
        assert rows.mean() + 0.5 == pytest.approx(y, abs=0.5)
        assert np.sqrt(len(rows)) == pytest.approx(width, abs=1.5)
        checked += 1
    assert checked >= 3


def test_faces_of_another_size_are_not_taught(rng):
    large = CanvasConfig(p_second=0, p_right_size=0, too_large=(120, 300), too_small=(3, 8))
    maker = CanvasMaker([scene(rng)], [], large)
    _, label, _ = maker.batch(12)
    assert (label == 0).all()


def test_clutter_shows_something_and_no_face(rng):
    maker = CanvasMaker([scene(rng)], [], CanvasConfig(p_clutter=1))
    image, label, _ = maker.batch(12)
    assert (label == 0).all()
    assert (image.std(dim=(1, 2, 3)) > 0.1).all()
    pictures = [clutter(rng, 72) for _ in range(12)]
    assert all(p.shape == (72, 72) and p.min() >= 0 and p.max() <= 1 for p in pictures)


def test_doubtful_boxes_are_left_out(rng):
    image, boxes, _ = scene(rng)
    maker = CanvasMaker(
        [Scene(image, boxes, np.zeros(1, bool))], [], CanvasConfig(p_right_size=1, p_second=0)
    )
    _, label, _ = maker.batch(12)
    assert (label <= 0).all() and (label == -1).any()


def test_loss_is_least_for_the_right_map(rng):
    maker = CanvasMaker([scene(rng)], [], CanvasConfig(p_right_size=1, p_second=0))
    canvases = [maker.canvas() for _ in range(4)]
    maps = torch.stack([ideal(c) for c in canvases])
    label = torch.from_numpy(np.stack([c.label for c in canvases]))[:, None]
    place = torch.from_numpy(np.stack([c.place for c in canvases]))
    face, where = detection_loss(maps, label, place)
    assert face < 1e-3 and where == 0
    shifted = maps.clone()
    shifted[:, 1] += 0.5
    assert detection_loss(shifted, label, place)[1] > 0.1
    silent = maps.clone()
    silent[:, 0] = -9
    assert detection_loss(silent, label, place)[0] > 5
    # Cells without a verdict do not count.
    changed = maps.clone()
    changed[:, 0] = torch.where(label[:, 0] < 0, 9.0, changed[:, 0])
    assert detection_loss(changed, label, place)[0] == pytest.approx(face.item())


def test_a_small_network_learns_to_find_squares(rng):
    torch.manual_seed(0)
    scenes = [scene(rng) for _ in range(8)]
    maker = CanvasMaker(scenes, [], CanvasConfig(p_second=0, p_cover=0), seed=1)
    net = DetectionNet(SMALL).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        image, label, place = maker.batch(12)
        face, where = detection_loss(net(image), label, place)
        optimizer.zero_grad()
        (face + where).backward()
        optimizer.step()
        losses.append(face.item())
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_even_out_ignores_exposure(rng):
    grey = rng.random((60, 80)).astype(np.float32)
    plain = detection.even_out(grey)
    assert np.allclose(detection.even_out(0.3 * grey + 0.4), plain, atol=0.1)
    assert abs(plain.mean()) < 0.1 and plain.std() == pytest.approx(1, abs=0.1)
    assert np.abs(detection.even_out(np.full((30, 30), 0.7, np.float32))).max() < 1e-2


@pytest.mark.parametrize("shape", [(400, 400), (3000, 4000), (30, 50), (1, 1)])
def test_pyramid_shrinks_until_the_largest_face_fits(shape):
    levels = list(detection.pyramid(np.zeros(shape, np.float32)))
    steps = [step for _, step in levels]
    assert steps[0] == max(1.0, max(shape) / detection.LONGEST)
    assert all(b == pytest.approx(2**0.5 * a) for a, b in itertools.pairwise(steps))
    assert max(shape) <= WIDTHS[1] * steps[-1] * 1.0 or max(levels[-1][0].shape) <= 48
    for level, step in levels:
        assert level.shape == tuple(max(1, round(n / step)) for n in shape)
    # Every width is answered for by two levels.
    assert WIDTHS[1] > 2 * WIDTHS[0]


def test_boxes_of_one_face_are_averaged():
    large, small, other = (
        Box(0, 0, 120, 120, 0.8),
        Box(10, 10, 100, 100, 0.4),
        Box(90, 0, 99, 99, 0.3),
    )
    found = averaged(large, [large, small, other])
    assert astuple(found) == pytest.approx((2, 2, 116, 116, 0.8))  # weights 0.64 and 0.16
    assert averaged(other, [large, small, other]) == other


def test_shipped_weights_are_small():
    assert shipped("detector.safetensors").stat().st_size < 500_000
    assert shipped("detector.md").is_file()
    net = load_detector()
    assert not net.training


def test_errors(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        load_detector(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="DetectionNet"):
        load_detector(shipped("coarsenet.safetensors"))
    with pytest.raises(WeightsError, match="CoarseNet"):
        load_coarsenet(shipped("detector.safetensors"))
