"""Diagrams: every layer that runs is drawn, with the shapes and numbers that it has."""

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionStyle, Rectangle
from torch import nn

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.views import diagrams


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        Block(),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.Conv2d(2, 3, 1),
        nn.Flatten(),
        nn.Linear(3 * 64, 5),
    )


def test_layers_are_found_in_the_order_in_which_they_run():
    net = network()
    layers = diagrams.trace(net, lambda: net(torch.zeros(1, 1, 8, 8)), [Block])
    assert [(layer.name, layer.kind, layer.shape) for layer in layers] == [
        ("0", "convolution", (4, 4, 4)),
        ("2", "residual block", (4, 4, 4)),
        ("3", "up-convolution", (2, 8, 8)),
        ("4", "1x1 convolution", (3, 8, 8)),
        ("6", "linear", (5,)),
    ]
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_hooks_go_when_the_run_fails():
    net = network()
    with pytest.raises(RuntimeError):
        diagrams.trace(net, lambda: net(torch.zeros(1, 2, 8, 8)))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_residual_block_is_one_layer_of_coarsenet(model):
    net = CoarseNet(3, CoarseNetConfig(width=8, blocks=(1, 2, 1, 1), points=0)).eval()
    block = type(net.body[0])
    run = lambda: net(torch.zeros(1, 7, 64, 64), torch.zeros(1, 9), model)  # noqa: E731
    layers = diagrams.trace(net, run, [block])
    assert [layer.kind for layer in layers].count("residual block") == 5
    (regressor,) = [layer for layer in layers if layer.name == "regressor"]
    assert regressor.shape == (9,) and regressor.kind == "linear"


def test_slabs_are_as_high_as_their_maps():
    axis = Figure().add_subplot()
    layers = [
        diagrams.TracedLayer("a", "convolution", (8, 100, 100), 1),
        diagrams.TracedLayer("b", "convolution", (64, 50, 50), 1),
    ]
    places = diagrams.draw_layers(axis, layers, left=1.0)
    assert places["a"].left == 1.0 and places["b"].left > places["a"].right
    assert places["a"].half == pytest.approx(2 * places["b"].half)
    a, b = (place.right - place.left for place in places.values())
    assert b > a  # more channels
    assert len([patch for patch in axis.patches if isinstance(patch, Rectangle)]) == 6
    labels = [text.get_text() for text in axis.texts]
    assert labels == ["a\n8 × 100²", "b\n64 × 50²"]


def test_an_arrow_carries_its_text_on_the_side_of_its_bow():
    axis = Figure().add_subplot()
    diagrams.draw_arrow(axis, (0, 0), (2, 0), "up", bend=-0.5, above=0)
    diagrams.draw_arrow(axis, (0, 0), (2, 0), "level", above=0)
    up, level = (text.get_position() for text in axis.texts)
    assert up == (1, pytest.approx(0.5)) and level == (1, 0)
    # Where Matplotlib's own curve has its middle.
    path = ConnectionStyle("arc3,rad=-0.5").connect((0, 0), (2, 0))
    assert path.vertices[1] == pytest.approx([1, 1])  # the control point, twice as far out
