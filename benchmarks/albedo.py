"""How well the linear albedo models explain held-out photographs: procedural against learned.

    python benchmarks/albedo.py PHOTOS ALBEDO.npz [--out FILE]

ALBEDO.npz comes from data_scripts/learn_albedo.py; its held-out photographs are scored. Light and
albedo are found in turns (Eqs. (11) and (12)) with Cauchy weights on the coarse surface of
CoarseNet. Prints JSON: what stays unexplained of the face's grey levels, in percent of white.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "data_scripts"))
from learn_albedo import linear_skin

from facerecon.coarsenet import iterate
from facerecon.evaluation.photos import load_photos
from facerecon.lighting import LUMA, estimate_light, shade
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import Rendering, render
from facerecon.sfs import estimate_albedo
from facerecon.synthetic.texture_bank import topology_digest
from facerecon.weights import load_coarsenet

SIZE = 200
SCALE = 0.06  # intensity at which a pixel counts half
LARGEST = 0.20  # residuals beyond count as this: hair and glasses, which neither model explains
ROUNDS = 12
PARTS = ("skin", "lips", "brows")


def part_masks(model: MorphableModel, faces: Rendering) -> dict[str, torch.Tensor]:
    """Pixels of the skin without eyes and mouth; of lips and of brows."""
    regions = model.regions
    eyes = regions["eye_left"] + regions["eye_right"] + regions["mouth_interior"]
    face = (regions["face"] * (1 - eyes)).clamp(0, 1)
    per_vertex = torch.stack([face, regions["lips"], regions["brows"]], 1)
    maps = interpolate(per_vertex[None], faces.fragments, model.triangles) > 0.5
    return {name: maps[:, k : k + 1] & faces.mask for k, name in enumerate(PARTS)}


def explain(
    image: torch.Tensor,
    mean: torch.Tensor,
    basis: torch.Tensor,
    normals: torch.Tensor,
    mask: torch.Tensor,
    order: int,
    rounds: int,
) -> torch.Tensor:
    """|photograph - albedo x light| at every pixel, (B, 1, S, S)."""
    albedo, weight = mean, None
    for _ in range(rounds):
        light = estimate_light(image, albedo, normals, mask, weight, order)
        maps = (image, mean, basis, light, normals, mask)
        coefficients = estimate_albedo(*maps, weight)
        albedo = mean + torch.einsum("bk,bkhw->bhw", coefficients, basis)[:, None]
        albedo = albedo.clamp(0.01, 1)
        residual = (shade(albedo, light, normals) - image).abs()
        weight = 1 / (1 + (residual / SCALE).square())
    return residual


def score(residual: torch.Tensor, masks: dict[str, torch.Tensor]) -> dict[str, float]:
    """Mean over photographs, in percent of white: bounded RMS by part, and the median residual."""
    result = {}
    bounded = residual.clamp(max=LARGEST).square()
    for name, mask in masks.items():
        per_photo = (bounded * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
        result[f"{name}_rms_pct"] = round(100 * per_photo.sqrt().mean().item(), 3)
    medians = [r[m].median().item() for r, m in zip(residual, masks["skin"], strict=True)]
    result["skin_median_pct"] = round(100 * float(np.mean(medians)), 3)
    return result


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("albedo", type=Path)
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    model = MorphableModel.default()
    with np.load(args.albedo, allow_pickle=False) as file:
        learned = tuple(
            torch.from_numpy(file[f"albedo_{part}"]).float() for part in ("mean", "basis")
        )
        names, topology = file["held_out"].tolist(), str(file["topology"])
        n_photographs = int(file["n_photographs"])
    if topology != topology_digest(model):
        raise SystemExit(f"{args.albedo}: of another model; learn it again")
    photos = load_photos([args.photos / name for name in names], SIZE)
    network = load_coarsenet()
    r = torch.cat([iterate(network, model, part, 4)[-1] for part in photos.image.split(25)])
    faces = render(model, r, SIZE)
    masks = part_masks(model, faces)
    result = {"photographs": len(photos.names), "learned_from": n_photographs}
    luma = torch.tensor(LUMA)
    procedural = tuple(torch.from_numpy(part) for part in linear_skin(model))
    bases = {"procedural": procedural, "learned": learned}
    for name, (mean, basis) in bases.items():
        per_vertex = torch.cat([(mean @ luma)[None], basis @ luma]).T
        maps = interpolate(per_vertex[None].contiguous(), faces.fragments, model.triangles)
        for order in (1, 2):
            fixed = (faces.normals, masks["skin"], order)
            result[f"{name}_order_{order}"] = {
                "mean_only": score(
                    explain(photos.image, maps[:, :1], 0 * maps[:, 1:], *fixed, ROUNDS), masks
                ),
                "ten_components": score(
                    explain(photos.image, maps[:, :1], maps[:, 1:], *fixed, ROUNDS), masks
                ),
            }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
