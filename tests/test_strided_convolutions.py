"""No network asks oneDNN for what it computes outside of its memory: strided 1x1 convolutions.

The damage shows in what malloc does later, a crash or an endless loop, so each program runs in a
process of its own, with freed memory overwritten (`MALLOC_PERTURB_`).
"""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facerecon.coarsenet import CoarseNet, residual_blocks
from facerecon.config import COARSE_PRESETS, CoarseNetConfig, FineNetConfig
from facerecon.detection.network import DetectionNet
from facerecon.finenet import FineNet
from facerecon.methods.aligned_net import AlignedNet
from facerecon.weights import load_coarsenet, shipped

STRIDED = """
import torch
x = torch.randn(2, 4, 50, 50).to(memory_format=torch.channels_last).requires_grad_()
kernel = torch.randn(8, 4, 1, 1, requires_grad=True)
torch.nn.functional.conv2d(x, kernel, stride=2).sum().backward()
"""
BLOCKS = f"""
import torch
from {residual_blocks.__module__} import residual_blocks
for width in (4, 8, 32):
    blocks, _ = residual_blocks(width, (1, 1, 1))
    blocks.to(memory_format=torch.channels_last)
    if STRIDED:
        for block in blocks[1:]:
            block.shortcut[0].stride, block.stride = (block.stride, block.stride), 1
    x = torch.randn(2, width, 50, 50).to(memory_format=torch.channels_last).requires_grad_()
    for _ in range(3):
        blocks(x).sum().backward()
"""


def ends_well(program: str) -> bool:
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}
    command = [sys.executable, "-c", program]
    try:
        return subprocess.run(command, env=environment, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.mark.slow
def test_residual_blocks_narrow_and_wide_keep_to_their_memory() -> None:
    assert ends_well(BLOCKS.replace("STRIDED", "False"))


@pytest.mark.slow
def test_the_same_blocks_with_a_strided_convolution_do_not() -> None:
    if ends_well(STRIDED):
        pytest.skip("this processor and torch compute strided 1x1 convolutions without the fault")
    assert not ends_well(BLOCKS.replace("STRIDED", "True"))


def test_every_second_pixel_first_is_the_strided_convolution() -> None:
    """In outputs and gradients, with the shipped weights."""
    network = load_coarsenet(shipped("coarsenet.safetensors")).requires_grad_()
    halving = [block for block in network.body if block.stride == 2]
    assert len(halving) == 3
    for block in halving:
        convolution, normalize = block.shortcut
        x = torch.randn(2, convolution.in_channels, 25, 25).to(memory_format=torch.channels_last)
        answers = []
        for strided in (False, True):
            leaf = x.clone().requires_grad_()
            if strided:
                residual = block.second(F.relu(block.first(leaf)))
                answer = F.relu(residual + normalize(F.conv2d(leaf, convolution.weight, stride=2)))
            else:
                answer = block(leaf)
            wanted = [leaf, *block.parameters()]
            answers.append([answer, *torch.autograd.grad(answer.square().mean(), wanted)])
        for ours, theirs in zip(*answers, strict=True):
            scale = theirs.abs().max().item()
            torch.testing.assert_close(ours, theirs, atol=1e-5 * scale, rtol=1e-5)


def test_no_network_has_a_strided_1x1_convolution() -> None:
    coarse = [preset.network for preset in COARSE_PRESETS.values()]
    networks = [
        *(CoarseNet(10, config) for config in [*coarse, CoarseNetConfig(width=4, stem="resnet")]),
        AlignedNet(10, CoarseNetConfig(width=8)),
        FineNet(FineNetConfig(width=8, regressor=(16, 8))),
        DetectionNet(),
    ]
    convolutions = [
        (type(network).__name__, name, module)
        for network in networks
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert {network for network, _, _ in convolutions} == {
        "CoarseNet", "AlignedNet", "FineNet", "DetectionNet"
    }  # fmt: skip
    bad = [
        f"{network}.{name}"
        for network, name, module in convolutions
        if module.kernel_size == (1, 1) and module.stride != (1, 1)
    ]
    assert not bad
