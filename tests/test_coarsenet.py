"""CoarseNet's input, architecture and iteration."""

from itertools import pairwise

import pytest
import torch

from facerecon.camera import N_POSE
from facerecon.coarsenet import POSE_LIMIT, CoarseNet, coarse_input, feedback, iterate, step
from facerecon.config import CoarseNetConfig
from facerecon.render import render

SMALL = CoarseNetConfig(width=4, squeeze=4, grid=2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return CoarseNet(284, SMALL).eval()


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
def test_shapes_and_size_invariance(stem):
    network = CoarseNet(284, CoarseNetConfig(width=4, squeeze=4, stem=stem)).eval()
    for size in (100, 200):
        assert network(torch.zeros(2, 7, size, size), torch.zeros(2, 290)).shape == (2, 290)


def test_unknown_stem_is_refused():
    with pytest.raises(ValueError, match="stem"):
        CoarseNet(284, CoarseNetConfig(stem="vit"))


def test_pose_is_a_correction_and_geometry_is_not(network):
    maps = torch.randn(1, 7, 64, 64, generator=torch.Generator().manual_seed(2))
    r = torch.randn(1, 290, generator=torch.Generator().manual_seed(3))
    from_zero, from_r = network(maps, torch.zeros(1, 290)), network(maps, r)
    torch.testing.assert_close(from_zero[:, :284], from_r[:, :284])
    torch.testing.assert_close(from_r[:, 284:] - from_zero[:, 284:], r[:, 284:])
    assert (network(maps, r + 100)[:, 284:] == POSE_LIMIT).all()


def test_iteration_is_repeated_steps_from_zero(network, model, image):
    steps = iterate(network, model, image, iterations=3)
    assert len(steps) == 4 and (steps[0] == 0).all()
    for before, after in pairwise(steps):
        torch.testing.assert_close(step(network, model, image, before), after)


def test_iteration_stops_at_convergence(network, model, image):
    torch.nn.init.zeros_(network.regressor.weight)  # a network that always answers r = 0
    assert len(iterate(network, model, image, iterations=9, tolerance=1e-3)) == 2


def test_batch_equals_single(network, model, image):
    together = iterate(network, model, image, iterations=2)[-1]
    alone = torch.cat([iterate(network, model, i[None], iterations=2)[-1] for i in image])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_gradient_reaches_every_parameter(network, model, image):
    network.train()
    r = 0.1 * torch.randn(2, 284 + N_POSE)
    for output in network.estimate(feedback(model, image, r), r):
        output.square().sum().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
