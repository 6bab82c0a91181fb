"""Trainers in bfloat16 learn what they learn in float32, on processors that compute in it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.finenet import FineNetConfig
from facerecon.synthetic.config import DetailConfig, HairConfig, SyntheticConfig
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import computes_bfloat16
from facerecon.training.fine import FineData, FineTask
from facerecon.training.presets import CoarseTraining, FineTraining

CPU = torch.device("cpu")
COARSE = CoarseTraining(
    network=CoarseNetConfig(width=8, squeeze=8, points=80, field=8),
    data=SyntheticConfig(
        size=64, detail=DetailConfig(False, False), hair=HairConfig(surround=False)
    ),
    images_per_batch=4,
    passes=1,
)
FINE = FineTraining(
    network=FineNetConfig(width=4, regressor=(8, 4)), batch=2, crop_size=64, face_sizes=(100,)
)
STEPS = 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not computes_bfloat16(CPU), reason="this processor does not compute in bfloat16"
    ),
]


def curve(network: torch.nn.Module, loss: Callable[[], torch.Tensor], rate: float) -> np.ndarray:
    """Losses of a short training on the same samples, relative to the first."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=rate)
    losses = []
    for _ in range(STEPS):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return np.array(losses) / losses[0]


def coarse_curve(model: torch.nn.Module, seed: int, bfloat16: bool) -> np.ndarray:
    task = CoarseTask(model, replace(COARSE, seed=seed, bfloat16=bfloat16), CPU, workers=0)
    assert task.bfloat16 == bfloat16
    batch = next(iter(task.batches(0)))[:1]
    return curve(task.networks["coarsenet"], lambda: next(task.losses(batch))["loss"], 4e-3)


def fine_curve(model: torch.nn.Module, seed: int, bfloat16: bool) -> np.ndarray:
    coarse = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, squeeze=4, points=0))
    config = replace(FINE, seed=seed, bfloat16=bfloat16)
    task = FineTask(model, coarse, config, FineData(supervised=True, quiet=True), CPU)
    assert task.bfloat16 == bfloat16
    sample = task.detail[100].batch(0, 2)
    network = task.networks["finenet"]
    return curve(network, lambda: task.supervised_criterion(network, sample)["loss"], 2e-3)


@pytest.mark.parametrize("trained", [coarse_curve, fine_curve])
def test_the_curve_lies_within_the_spread_of_seeds(trained: Callable, model) -> None:
    exact = [trained(model, seed, False) for seed in range(3)]
    mixed = trained(model, 0, True)
    assert mixed[-1] < 1 and max(each[-1] for each in exact) < 1
    spread = np.ptp(exact, axis=0).max()
    assert np.abs(mixed - exact[0]).max() < spread
