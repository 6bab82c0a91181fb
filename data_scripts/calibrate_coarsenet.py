"""Calibrate CoarseNet's last answer: `calibrate_coarsenet.py WEIGHTS --out CALIBRATED.safetensors`.

Renders faces of the training's world, finds the linear correction of the answers in closed form
(`facerecon.training.calibration`) and writes weights and model card, with errors on held-out faces.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from facerecon.evaluation.coarse import coarse_metrics, held_out_faces
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.texture_bank import TextureBank
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.calibration import fit_calibration, last_answers, with_calibration
from facerecon.training.presets import COARSE_PRESETS
from facerecon.weights import ModelCard, commit, load_coarsenet, read_card, save_weights, write_card

HELD_OUT = 400  # faces that the correction does not see


def main() -> None:
    """Read the arguments, write the calibrated weights and their card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="CoarseNet's, as .safetensors")
    parser.add_argument("--faces", type=int, default=6000, help="rendered, to learn from")
    parser.add_argument("--textures", type=Path, help="of `make_texture_bank.py`")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, help="file of the calibrated network")
    args = parser.parse_args()
    model = MorphableModel.default()
    network = with_calibration(load_coarsenet(args.weights), None)
    textures = TextureBank.load(args.textures, model) if args.textures else None
    world = SyntheticWorld(model, COARSE_PRESETS["cpu"].data, textures)
    seen = held_out_faces(world, args.faces, args.seed)
    unseen = held_out_faces(world, HELD_OUT, args.seed + 1)
    calibrated = with_calibration(
        network, fit_calibration(model, last_answers(network, model, seen), seen.r)
    )
    before, after = (coarse_metrics(each, model, unseen) for each in (network, calibrated))
    for name in ("identity_pct", "expression_pct", "gmse_mm2", "landmarks_pct"):
        print(f"{name:15} {before[name]:8.3f} -> {after[name]:8.3f}")
    card = ModelCard(**read_card(args.weights))
    card = replace(
        card,
        commit=commit(),
        metrics={name: round(value, 5) for name, value in after.items()},
        command=f"{card.command}; data_scripts/calibrate_coarsenet.py".strip("; "),
        data=f"{card.data}; calibrated on {args.faces:,} more (seed {args.seed})",
    )
    save_weights(args.out, calibrated, card)
    print(f"{args.out}, {write_card(args.out)}")


if __name__ == "__main__":
    main()
