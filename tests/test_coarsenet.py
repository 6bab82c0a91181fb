"""CoarseNet's input, architecture and iteration."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch

from facerecon.camera import N_POSE
from facerecon.coarsenet import (
    POSE_LIMIT,
    CoarseNet,
    CoarseNetConfig,
    coarse_input,
    feedback,
    iterate,
    step,
)
from facerecon.displacements import place_points, points_of, seen
from facerecon.mirror import mirrored, mirrored_input
from facerecon.render import render

SMALL = CoarseNetConfig(width=4, squeeze=4, grid=2, points=80, field=8)  # and both sides


@pytest.fixture
def network(model):
    torch.manual_seed(0)
    network = CoarseNet(284, SMALL)
    network.set_points(model)
    return network.eval()


@pytest.fixture
def image():
    return torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def test_input_is_masked_and_ignores_exposure(model, image):
    rendering = render(model, torch.zeros(2, 290), 64)
    maps = coarse_input(image, rendering)
    assert maps.shape == (2, 7, 64, 64)
    outside = ~rendering.mask.expand_as(maps)
    assert outside.any() and (maps[outside] == 0).all()
    grey = maps[:, :1][rendering.mask]
    assert grey.mean().abs() < 1e-5
    torch.testing.assert_close(coarse_input(0.3 * image + 0.4, rendering), maps, atol=1e-4, rtol=0)
    torch.testing.assert_close(maps[:, 1:4], rendering.pncc)
    torch.testing.assert_close(maps[:, 4:], rendering.normals)


def test_feedback_in_one_pass_is_the_input_of_the_rendered_maps(model, image):
    r = 0.5 * torch.randn(len(image), 290, generator=torch.Generator().manual_seed(2))
    maps = feedback(model, image, r)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    expected = coarse_input(image, render(model, r, image.shape[-1]))
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stem", ["patch", "resnet"])
def test_shapes_and_size_invariance(stem, model):
    network = CoarseNet(284, CoarseNetConfig(width=4, squeeze=4, stem=stem, points=0)).eval()
    for size in (100, 200):
        answer = network(torch.zeros(2, 7, size, size), torch.zeros(2, 290), model)
        assert answer.r.shape == (2, 290)


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="stem"):
        CoarseNet(284, CoarseNetConfig(stem="vit"))


def test_pose_is_a_correction_and_geometry_is_not(model):
    network = CoarseNet(284, dataclasses.replace(SMALL, points=0)).eval()
    maps = torch.randn(1, 7, 64, 64, generator=torch.Generator().manual_seed(2))
    r = torch.randn(1, 290, generator=torch.Generator().manual_seed(3))
    from_zero, from_r, far = (network(maps, start, model).r for start in (0 * r, r, r + 100))
    torch.testing.assert_close(from_zero[:, :284], from_r[:, :284])
    torch.testing.assert_close(from_r[:, 284:] - from_zero[:, 284:], r[:, 284:])
    assert (far[:, 284:] == POSE_LIMIT).all()


def test_displacements_move_the_answer_and_the_papers_network_has_none(network, model, image):
    """A field that says "10 mm to the right", surely: the face moves there, and stays a face."""
    points = points_of(model, network.points)
    network.field.output.bias.data = torch.tensor([1.0, 0, 0, -3, -3, -3])
    network.field.output.weight.data.zero_()
    r = torch.zeros(len(image), 290)
    answer = network(feedback(model, image, r), r, model)
    move = place_points(points, answer.r) - place_points(points, r)
    counted = seen(points, r, place_points(points, r))
    mean = (move * counted).sum((0, 1)) / counted.sum((0, 1))
    torch.testing.assert_close(mean[:2], torch.tensor([10.0, 0.0]), atol=0.5, rtol=0)
    assert answer.r[:, :284].abs().max() < 0.5
    plain = CoarseNet(284, dataclasses.replace(SMALL, points=0)).eval()
    state = network.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    answer, theirs = plain(feedback(model, image, r), r, model), answer.regressed
    assert torch.equal(answer.r, theirs) and answer.displacement is None


def test_points_that_were_never_chosen_are_refused(model, image):
    network = CoarseNet(284, SMALL).eval()
    with pytest.raises(ValueError, match="set_points"):
        step(network, model, image, torch.zeros(2, 290))


def test_points_follow_the_choice_in_the_weights_and_the_model(network, model):
    before = points_of(model, network.points)
    state = network.state_dict()
    state["points"] = state["points"].flip(0)
    network.load_state_dict(state)
    torch.testing.assert_close(points_of(model, network.points).mean, before.mean.flip(0))
    shifted = copy.deepcopy(model)
    shifted.mean += 1
    found = points_of(shifted, network.points).mean
    torch.testing.assert_close(found, before.mean.flip(0) + 1)


def test_mixed_precision_does_not_reach_the_linear_system(network, model, image):
    r = 0.1 * torch.randn(2, 290, generator=torch.Generator().manual_seed(9))
    maps = feedback(model, image, r)
    exact = network(maps, r, model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(maps, r, model)
    assert all(value.dtype == torch.float32 for value in mixed)
    assert (mixed.r - exact.r).abs().max() < 0.05


def test_the_mirrored_photograph_has_the_mirrored_face(network, model, image):
    r = 0.1 * torch.randn(2, 290, generator=torch.Generator().manual_seed(10))
    one = step(network, model, image, r, both_sides=True)
    other = step(network, model, image.flip(3), mirrored(model, r), both_sides=True)
    torch.testing.assert_close(mirrored(model, other), one, atol=2e-3, rtol=0)
    assert (one - step(network, model, image, r, both_sides=False)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["both", "pncc", "normals"])
def test_mirrored_input_is_the_input_of_the_mirrored_state(model, image, kind):
    config = dataclasses.replace(SMALL, feedback=kind)
    r = 0.3 * torch.randn(2, 290, generator=torch.Generator().manual_seed(8))
    expected = feedback(model, image.flip(3), mirrored(model, r), config)
    found = mirrored_input(feedback(model, image, r, config))
    close = (found - expected).abs().amax(1) < 0.02
    assert close.float().mean() > 0.995  # but for pixels on edges


def test_iteration_is_repeated_steps_from_zero_and_the_last_sees_both_sides(network, model, image):
    steps = iterate(network, model, image, iterations=3)
    assert len(steps) == 4 and (steps[0] == 0).all()
    for number, (before, after) in enumerate(pairwise(steps), start=1):
        again = step(network, model, image, before, both_sides=number == 3)
        torch.testing.assert_close(again, after)
    alone = iterate(network, model, image, iterations=3, both_sides=False)
    torch.testing.assert_close(alone[:3], steps[:3])
    torch.testing.assert_close(alone[3], step(network, model, image, steps[2], both_sides=False))


def test_batch_equals_single(network, model, image):
    together = iterate(network, model, image, iterations=2)[-1]
    alone = torch.cat([iterate(network, model, i[None], iterations=2)[-1] for i in image])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_gradient_reaches_every_parameter(network, model, image):
    network.train()
    r = 0.1 * torch.randn(2, 284 + N_POSE)
    answer = network(feedback(model, image, r), r, model)
    answer.r.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
