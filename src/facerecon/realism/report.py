"""How close synthetic photographs are to real ones: `facerecon data report`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from facerecon.camera import join, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.files import require_writable, write_file
from facerecon.imaging import ImageError, crop, list_images, load_image, to_bytes, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.realism.statistics import image_statistics
from facerecon.realism.two_sample import Difference, Statistics, compare, discriminate, halves
from facerecon.synthetic.shards import BLOCK, config_digest, module_digest
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.faces import COARSE_SIZE, MAX_LAST_MOVE
from facerecon.weights import commit, load_coarsenet

SHEET = 32
"""Crops on a sample sheet."""

NULL_REPEATS = 20
NULL_DISCRIMINATORS = 5


@dataclass(frozen=True)
class Comparison:
    """Statistics of two sets of images side by side, the most different first.

    Attributes:
        differences: photographs (reference) against synthetic images, by name.
        null: the same numbers for random halves of the photographs, their 95th percentile.
        auc: area under the curve of a classifier that tells the two sets apart; 0.5 is chance.
        null_auc: of classifiers that tell halves of the photographs apart, the mean.
        photos, synthetic: every image's statistics.
    """

    differences: dict[str, Difference]
    null: dict[str, Difference]
    auc: float
    null_auc: float
    photos: Statistics
    synthetic: Statistics


def compare_images(
    photos: Float[np.ndarray, "photos size size"],
    synthetic: Float[np.ndarray, "faces size size"],
    seed: int = 0,
) -> Comparison:
    """Compare two sets of grey face crops, statistic by statistic and all together.

    Args:
        seed: of the random halves and of the classifier's folds.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = image_statistics(synthetic), image_statistics(photos)
    found = {name: compare(theirs[name], ours[name]) for name in theirs}
    order = sorted(found, key=lambda name: -found[name].ks)
    repeats: dict[str, list[Difference]] = {name: [] for name in order}
    null_areas = []
    for repeat in range(NULL_REPEATS):
        first, second = halves(len(photos), rng)
        for name, values in theirs.items():
            unit = float(values.std())
            repeats[name].append(compare(values[first], values[second], unit))
        if repeat < NULL_DISCRIMINATORS:
            split = [{n: v[half] for n, v in theirs.items()} for half in (first, second)]
            null_areas.append(discriminate(*split, rng))
    null = {}
    for name, values in repeats.items():
        ks, p, wasserstein, shift = np.array(values).T
        high = [np.quantile(v, 0.95) for v in (ks, wasserstein, np.abs(shift))]
        null[name] = Difference(high[0], np.quantile(p, 0.05), *high[1:])
    return Comparison(
        {name: found[name] for name in order},
        null,
        discriminate(theirs, ours, rng),
        float(np.mean(null_areas)),
        theirs,
        ours,
    )


class PhotoCrops(NamedTuple):
    """Faces found in photographs."""

    images: Float[np.ndarray, "photos size size"]  # grey crops
    poses: Float[Tensor, "fits 6"]  # of those that CoarseNet could fit
    without_a_face: list[str]  # names


@torch.no_grad()
def photo_crops(
    folder: Path,
    limit: int,
    seed: int,
    model: MorphableModel,
    coarsenet: CoarseNet,
    size: int = COARSE_SIZE,
    quiet: bool = False,
) -> PhotoCrops:
    """The largest face of each of `limit` photographs, cut out as the networks see it.

    Args:
        limit: how many photographs are taken, at random; fewer where the folder holds fewer.

    Raises:
        ImageError: the folder holds no image.
    """
    paths = list_images([folder])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:limit])
    crops, poses, failed = [], [], []
    for path in tqdm([paths[i] for i in chosen], desc="photographs", unit="", disable=quiet):
        try:
            image = load_image(path)
            grey, box = to_grey(image), largest_face(image).crop_box()
            crops.append(crop(grey, box, size)[0])
            small = torch.from_numpy(crop(grey, box, COARSE_SIZE)[0])[None, None]
        except (ImageError, NoFaceError, ValueError):
            failed.append(path.name)
            continue
        steps = iterate(coarsenet, model, small.to(model.mean.device))
        before, last = (split(r, model.n_coefficients)[1] for r in steps[-2:])
        if (last - before).abs().max() < MAX_LAST_MOVE:
            poses.append(last)
    images = np.array(crops, dtype=np.float32).reshape(-1, size, size)
    return PhotoCrops(images, torch.cat(poses) if poses else torch.empty(0, 6), failed)


@torch.no_grad()
def synthetic_crops(
    world: SyntheticWorld, count: int, poses: Float[Tensor, "fits 6"], seed: int
) -> Float[np.ndarray, "faces size size"]:
    """Grey crops of random faces, each in one of the given poses, with 8 bits as photographs."""
    generator = world.generator(seed)
    images = []
    for start in range(0, count, BLOCK):
        r = world.sample(min(BLOCK, count - start), generator)
        coefficients = split(r, world.model.n_coefficients)[0]
        device = generator.device
        pick = torch.randint(len(poses), (len(r),), generator=generator, device=device)
        r = join(coefficients, poses.to(r)[pick])
        images.append(world.photographs(len(r), generator, r)[0][:, 0].cpu().numpy())
    return to_bytes(np.concatenate(images)) / np.float32(255)


def write_report(
    out: Path,
    photos: Path,
    world: SyntheticWorld,
    count: int = 512,
    limit: int = 300,
    seed: int = 0,
    coarse: Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Compare the world's images with a folder of photographs; write numbers, table and pictures.

    Args:
        out: folder for report.json, report.md and the PNG files.
        count: synthetic images; limit: photographs at most.
        coarse: CoarseNet's weights, by default those that ship. Its fits of the photographs give
            the poses of the synthetic faces, so that what differs is the picture and not the pose.

    Raises:
        ValueError: too few photographs with a face, or too few images asked for.
        OutputError: a file cannot be written.
    """
    from facerecon.evaluation.sheets import image_grid
    from facerecon.realism.figures import histograms, spectra
    from facerecon.views.viz import figure_png

    if count < SHEET:
        raise ValueError(f"a report needs at least {SHEET} synthetic images, not {count}")
    require_writable(out)
    size = world.config.size
    coarsenet = load_coarsenet(coarse).to(world.model.mean.device)
    real, poses, failed = photo_crops(photos, limit, seed, world.model, coarsenet, size, quiet)
    if min(len(real), len(poses)) < SHEET:
        raise ValueError(
            f"{photos}: {len(real)} photographs with a face, {len(poses)} of them with a pose;"
            f" a report needs at least {SHEET}"
        )
    synthetic = synthetic_crops(world, count, poses, seed)
    found = compare_images(real, synthetic, seed)
    about = {
        "photographs": {
            "folder": photos.name,
            "used": len(real),
            "with_a_pose": len(poses),
            "without_a_face": failed,
        },
        "synthetic": {"count": count},
        "seed": seed,
        "size": size,
        "commit": commit(),
        "model_sha256": module_digest(world.model),
        "coarsenet_sha256": module_digest(coarsenet),
        "config_sha256": config_digest(world.config),
        "config": asdict(world.config),
    }
    write_file(out / "report.json", (json.dumps(_numbers(found, about), indent=1) + "\n").encode())
    write_file(out / "report.md", _table(found, about).encode())
    write_file(out / "photographs.png", image_grid(real[:SHEET]))
    write_file(out / "synthetic.png", image_grid(synthetic[:SHEET]))
    worst = list(found.differences)[:6]
    figure = histograms({n: (found.photos[n], found.synthetic[n]) for n in worst})
    write_file(out / "histograms.png", figure_png(figure))
    write_file(out / "spectra.png", figure_png(spectra(real, synthetic)))
    return found


def _numbers(found: Comparison, about: Mapping[str, object]) -> dict:
    def summary(values: np.ndarray) -> dict[str, float]:
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        return {"mean": values.mean(), "std": values.std(), "p05": low, "p50": median, "p95": high}

    return {
        **about,
        "auc": found.auc,
        "auc_of_photograph_halves": found.null_auc,
        "mean_ks": _mean_ks(found.differences),
        "mean_ks_of_photograph_halves_p95": _mean_ks(found.null),
        "statistics": {
            name: {
                **difference._asdict(),
                "photograph_halves_p95": found.null[name]._asdict(),
                "photographs": summary(found.photos[name]),
                "synthetic": summary(found.synthetic[name]),
            }
            for name, difference in found.differences.items()
        },
    }


def _mean_ks(differences: Mapping[str, Difference]) -> float:
    return float(np.mean([d.ks for d in differences.values()]))


def _table(found: Comparison, about: Mapping[str, dict]) -> str:
    lines = [
        "# Synthetic and real photographs compared",
        "",
        f"{about['synthetic']['count']} synthetic faces and {about['photographs']['used']}"
        f" photographs of `{about['photographs']['folder']}`, seed {about['seed']}, {about['size']}"
        f" pixels, commit {about['commit']}, model {about['model_sha256'][:12]}, configuration"
        f" {about['config_sha256'][:12]}.",
        "",
        f"A classifier on all statistics tells them apart with AUC **{found.auc:.3f}** (halves of"
        f" the photographs: {found.null_auc:.3f}; chance: 0.5). Mean KS"
        f" {_mean_ks(found.differences):.3f} (halves: below {_mean_ks(found.null):.3f}).",
        "",
        "KS: Kolmogorov-Smirnov distance, 0 to 1, with its p. W: 1-Wasserstein distance, and shift:"
        " of the mean, both in standard deviations of the photographs. The last two columns are"
        " what 95 % of random halves of the photographs stay below.",
        "",
        "| statistic | photographs | synthetic | shift | W | KS | p | W of halves | KS of halves |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, d in found.differences.items():
        medians = [np.median(values[name]) for values in (found.photos, found.synthetic)]
        null = found.null[name]
        lines.append(
            f"| {name} | {medians[0]:.3g} | {medians[1]:.3g} | {d.shift:+.2f} | {d.wasserstein:.2f}"
            f" | {d.ks:.2f} | {d.p:.1g} | {null.wasserstein:.2f} | {null.ks:.2f} |"
        )
    return "\n".join([*lines, ""])
