"""The detail benchmark's methods side by side: numbers per face, table and pictures."""

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from facerecon.appearance import FaceMaps
from facerecon.depth import normals_from_depth
from facerecon.evaluation.detail import (
    METRICS,
    STARTS,
    DetailFaces,
    coarsenet_maps,
    detail_metrics,
    shape_from_shading,
)
from facerecon.evaluation.fit_sheets import contact_sheet, grey_picture
from facerecon.lighting import shade
from facerecon.training.presets import FineTraining

STRENGTH = (0.7, 1.0)
"""Depth of the benchmark's wrinkles, as a share of the deepest: people beyond their youth."""

_PICTURES = 6
_LIGHT = (0.25, -0.3, 0.3, 0.6)
_BATCH = 4


def measure(
    faces: DetailFaces,
    start: str,
    coarsenet: nn.Module,
    model: nn.Module,
    networks: dict[str, nn.Module],
    settings: FineTraining,
    sfs_steps: int,
    iterations: int = 4,
) -> tuple[list[dict], Image.Image]:
    """Every method on the same faces from one kind of coarse surface.

    Args:
        start: one of `detail.STARTS`. networks: FineNets by name. settings: of the energy that
            `sfs` minimizes. sfs_steps: 0 leaves it out.

    Returns:
        One row per method (`method`, its mean metrics, `per_face`), and a sheet: photograph, true
        surface, then every method's.
    """
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    values: dict[str, list[dict[str, Tensor]]] = {}
    panels = []
    for part in _chunks(faces):
        base = part.smooth
        if start == "CoarseNet":
            base = coarsenet_maps(coarsenet, model, part.image, iterations)
        depths = {"coarse": base.depth}
        with torch.no_grad():
            maps = part.image, base.depth, base.mask, base.mm_per_pixel
            depths |= {name: network(*maps) for name, network in networks.items()}
        if sfs_steps:
            depths["sfs"] = shape_from_shading(part.image, base, settings, sfs_steps)
        for name, depth in depths.items():
            values.setdefault(name, []).append(detail_metrics(depth, base, part))
        pictures = [clay(part.normals, part.smooth.mask)]
        for depth in depths.values():
            normals = normals_from_depth(depth, base.mm_per_pixel, base.mask)
            pictures.append(clay(normals, base.mask))
        for i in range(len(part.image)):
            shown = [part.image[i], *(picture[i] for picture in pictures)]
            panels.append([grey_picture(each) for each in shown])
    rows = []
    for name, parts in values.items():
        joined = {metric: torch.cat([each[metric] for each in parts]) for metric in METRICS}
        means = {metric: each.nanmean().item() for metric, each in joined.items()}
        rows.append(
            {
                "method": name,
                **means,
                "per_face": {metric: each.tolist() for metric, each in joined.items()},
            }
        )
    captions = [f"face {number}: photo, truth, {', '.join(values)}" for number in range(_PICTURES)]
    sheet = contact_sheet(panels[:_PICTURES], captions[: len(panels)], columns=1, panel=200)
    return rows, sheet


def clay(
    normals: Float[Tensor, "n 3 height width"], mask: Tensor
) -> Float[Tensor, "n 1 height width"]:
    """Grey pictures of a surface under one light from above, white outside."""
    light = normals.new_tensor([_LIGHT]).expand(len(normals), 4)
    return torch.where(mask, shade(torch.ones_like(normals[:, :1]), light, normals), 1.0).clamp(
        0, 1
    )


def table(rows: list[dict]) -> str:
    """The rows as text, each with its gain in normal error over the coarse surface."""
    lines = [
        f"{'faces':<10}{'size':>5}  {'start':<12}{'method':<16}"
        + "".join(f"{name:>10}" for name in METRICS)
        + f"{'gain':>8}"
    ]
    coarse = float("nan")
    for row in rows:
        if row["method"] == "coarse":
            coarse = row["normals"]
        gain = 100 * (1 - row["normals"] / coarse)
        numbers = "".join(f"{row[name]:>10.3f}" for name in METRICS)
        lines.append(
            f"{row['faces']:<10}{row['size']:>5}  {row['start']:<12}{row['method']:<16}{numbers}"
            f"{gain:>6.0f} %"
        )
    return "\n".join(lines)


def _chunks(faces: DetailFaces) -> list[DetailFaces]:
    parts = []
    for start in range(0, len(faces.image), _BATCH):
        part = slice(start, start + _BATCH)
        smooth = FaceMaps(*(field[part] for field in faces.smooth))
        image, depth, normals, _, face = (
            field if isinstance(field, FaceMaps) else field[part] for field in faces
        )
        parts.append(DetailFaces(image, depth, normals, smooth, face))
    return parts
