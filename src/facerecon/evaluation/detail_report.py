"""The detail benchmark's methods side by side: numbers per face, table and pictures."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from facerecon.appearance import FaceMaps, model_maps
from facerecon.batch import rows
from facerecon.coarsenet import CoarseNet
from facerecon.depth import normals_from_depth
from facerecon.evaluation.detail import (
    METRICS,
    DetailFaces,
    ShapeFromShading,
    coarsenet_answer,
    detail_metrics,
)
from facerecon.evaluation.sheets import clay, contact_sheet, grey_picture
from facerecon.finenet import FineNet
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.render import curved_surface

STRENGTH = (0.7, 1.0)
"""Depth of the benchmark's wrinkles, as a share of the deepest: people beyond their youth."""

_PICTURES = 6
_BATCH = 4


class Refiners(NamedTuple):
    """Methods that refine a coarse surface: FineNets by name, and perhaps two others.

    sfs: the minimum of Eq. (14) for each photograph. normals: our stage, by name without and with
    shading; only from surfaces of the morphable model.
    """

    networks: dict[str, FineNet]
    sfs: ShapeFromShading | None = None
    normals: dict[str, NormalRefinement] | None = None


def measure_detail(
    faces: DetailFaces,
    model: MorphableModel,
    refiners: Refiners,
    coarsenet: CoarseNet | None = None,
    iterations: int = 4,
) -> tuple[list[dict], Image.Image]:
    """Every method on the same faces from one kind of coarse surface.

    Args:
        coarsenet: gives the coarse surface; None: the true one without wrinkles.

    Returns:
        One row per method (`method`, its mean metrics, `per_face`), and a sheet: photograph, true
        surface, then every method's.
    """
    values: dict[str, list[dict[str, Tensor]]] = {}
    panels = []
    for first in range(0, len(faces.image), _BATCH):
        part = rows(faces, slice(first, first + _BATCH))
        base, r = part.smooth, part.r
        if coarsenet is not None:
            r = coarsenet_answer(coarsenet, model, part.image, iterations)
            base = model_maps(model, r, part.image.shape[-1])
        depths = _refined(part.image, base, refiners)
        if r is not None:
            for name, refinement in (refiners.normals or {}).items():
                depths[name] = _by_normals(refinement, model, part.image, base, r)
        for name, depth in depths.items():
            values.setdefault(name, []).append(detail_metrics(depth, base, part))
        pictures = [clay(part.normals, part.smooth.mask)]
        for depth in depths.values():
            normals = normals_from_depth(depth, base.mm_per_pixel, base.mask)
            pictures.append(clay(normals, base.mask))
        for i in range(len(part.image)):
            shown = [part.image[i], *(picture[i] for picture in pictures)]
            panels.append([grey_picture(each) for each in shown])
    found = []
    for name, parts in values.items():
        joined = {metric: torch.cat([each[metric] for each in parts]) for metric in METRICS}
        means = {metric: each.nanmean().item() for metric, each in joined.items()}
        per_face = {metric: each.tolist() for metric, each in joined.items()}
        found.append({"method": name, **means, "per_face": per_face})
    names = ["truth", *values]
    groups, captions = [], []
    for number, row in enumerate(panels[:_PICTURES]):
        groups += [[picture] for picture in row]
        captions += [f"face {number}", *names]
    sheet = contact_sheet(groups, captions, columns=1 + len(names), panel=200, text=30)
    return found, sheet


def _refined(
    image: Float[Tensor, "n 1 size size"], start: FaceMaps, refiners: Refiners
) -> dict[str, Float[Tensor, "n 1 size size"]]:
    """Depth maps by method, the coarse one first."""
    depths = {"coarse": start.depth}
    with torch.no_grad():
        for name, network in refiners.networks.items():
            depths[name] = network(image, start.depth, start.mask, start.mm_per_pixel)
    if refiners.sfs is not None:
        depths["sfs"] = refiners.sfs(image, start)
    return depths


@torch.no_grad()
def _by_normals(
    refinement: NormalRefinement,
    model: MorphableModel,
    image: Float[Tensor, "n 1 size size"],
    start: FaceMaps,
    r: Float[Tensor, "n numbers"],
) -> Float[Tensor, "n 1 size size"]:
    found = []
    for grey, one, pixel in zip(image.split(1), r.split(1), start.mm_per_pixel, strict=True):
        surface = curved_surface(model, one, image.shape[-1])
        found.append(refinement(grey, surface, pixel.view(1)).depth)
    return torch.cat(found)


def detail_table(results: list[dict]) -> str:
    """The rows as text, each with its gain in normal error over the coarse surface."""
    lines = [
        f"{'faces':<10}{'size':>5}  {'start':<12}{'method':<16}"
        + "".join(f"{name:>10}" for name in METRICS)
        + f"{'gain':>8}"
    ]
    coarse = float("nan")
    for row in results:
        if row["method"] == "coarse":
            coarse = row["normals"]
        gain = 100 * (1 - row["normals"] / coarse)
        numbers = "".join(f"{row[name]:>10.3f}" for name in METRICS)
        lines.append(
            f"{row['faces']:<10}{row['size']:>5}  {row['start']:<12}{row['method']:<16}{numbers}"
            f"{gain:>6.0f} %"
        )
    return "\n".join(lines)
