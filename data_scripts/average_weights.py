"""Mean of the weights of trained CoarseNets: `average_weights.py A B --out MEAN.safetensors`.

Trainings that began with the same weights end in one basin, where the mean of their weights is
often better than each (Wortsman et al., "Model soups", ICML 2022). Writes the model card, too,
with errors on held-out faces of the training's world. Calibrations are left out: each belongs to
its own weights (`calibrate_coarsenet.py` makes a new one).
"""

import argparse
from pathlib import Path

import torch

from facerecon.coarsenet import CoarseNet
from facerecon.evaluation.coarse import coarse_metrics, held_out_faces
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.calibration import with_calibration
from facerecon.training.presets import COARSE_PRESETS
from facerecon.weights import (
    ModelCard,
    commit,
    lineage,
    load_coarsenet,
    read_card,
    save_weights,
    write_card,
)

FACES = 200  # held out


def mean_network(networks: list[CoarseNet]) -> CoarseNet:
    """The network whose weights and batch statistics are the mean of others'; not calibrated.

    Raises:
        ValueError: they differ in their configuration.
    """
    networks = [with_calibration(network, None) for network in networks]
    first = networks[0]
    if any(network.config != first.config for network in networks):
        raise ValueError("networks of different configurations have no mean")
    states = [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        for name, value in states[0].items()
    }
    network = CoarseNet(first.n_coefficients, first.config)
    network.load_state_dict(mean)
    return network.eval()


def mean_card(paths: list[Path], metrics: dict[str, float]) -> ModelCard:
    """What the weights in these files have seen, together."""
    cards = [read_card(path) for path in paths]
    return ModelCard(
        task=cards[0]["task"],
        preset=cards[0]["preset"],
        data=cards[0]["data"],
        samples=sum(card["samples"] for card in cards),
        seed=cards[0]["seed"],
        hours=round(sum(card["hours"] for card in cards), 3),
        commit=commit(),
        config=cards[0]["config"],
        metrics={name: round(value, 5) for name, value in metrics.items()},
        started_from="the mean of: " + "; ".join(f"[{lineage(path)}]" for path in paths),
        effective_batch=cards[0]["effective_batch"],
        command="data_scripts/average_weights.py",
    )


def main() -> None:
    """Read the arguments, write the mean and its card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+", help="CoarseNet's, as .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="file of the mean")
    args = parser.parse_args()
    network = mean_network([load_coarsenet(path) for path in args.weights])
    model = MorphableModel.default()
    world = SyntheticWorld(model, COARSE_PRESETS["cpu"].data)
    metrics = coarse_metrics(network, model, held_out_faces(world, FACES, seed=1))
    save_weights(args.out, network, mean_card(args.weights, metrics))
    print(f"{args.out}, {write_card(args.out)}")


if __name__ == "__main__":
    main()
