"""The mean of trained weights, and its model card."""

import importlib.util
from pathlib import Path

import pytest
import torch

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.weights import load_coarsenet, shipped

SCRIPT = Path(__file__).parents[1] / "data_scripts" / "average_weights.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_mean_of_weights(script):
    small = CoarseNetConfig(width=4, points=0)
    networks = [CoarseNet(10, small) for _ in range(3)]
    mean = script.mean_network(networks)
    assert not mean.training
    for name, value in mean.state_dict().items():
        each = [network.state_dict()[name] for network in networks]
        expected = torch.stack([one.double() for one in each]).mean(0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="different configurations"):
        script.mean_network([networks[0], CoarseNet(10, CoarseNetConfig(width=8, points=0))])


def test_its_card_counts_all_samples(script):
    file = shipped("coarsenet.safetensors")
    card = script.mean_card([file, file], {"gmse_mm2": 1.234567})
    once = script.read_card(file)
    assert card.samples == 2 * once["samples"]
    assert card.started_from.count(f"{once['samples']:,} samples") >= 2
    assert card.metrics == {"gmse_mm2": 1.23457}
    same = script.mean_network([load_coarsenet(), load_coarsenet()]).state_dict()
    expected = load_coarsenet().state_dict()
    expected.pop("calibration", None)
    assert same.keys() == expected.keys()
    assert all(torch.equal(same[name], value) for name, value in expected.items())
