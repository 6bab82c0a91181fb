"""Recovered light on real people: Extended Yale B, whose lamps and albedo are known."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float

from facerecon.appearance import estimate_light_and_albedo, model_maps
from facerecon.evaluation.light import slopes_along_normals
from facerecon.evaluation.measured_normals import BOX, LIGHTS, lit_photographs
from facerecon.evaluation.yale import YalePerson, direction
from facerecon.imaging import to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction


def toward_light(
    face: Reconstruction,
    model: MorphableModel,
    albedo_mean: Float[torch.Tensor, " vertices"] | None = None,
) -> Float[np.ndarray, "3"] | None:
    """Unit vector toward the light that Eq. (11) finds with the coarse face; None without one.

    Args:
        albedo_mean: another grey average of people's skin than the model's.
    """
    device = model.mean.device
    numbers = np.concatenate([face.coefficients, face.pose])
    r = torch.from_numpy(numbers).to(device)[None]
    grey = torch.from_numpy(to_grey(face.crop.cut(face.image))).to(device)[None, None]
    maps = model_maps(model, r, face.crop.size, albedo_mean)
    linear = estimate_light_and_albedo(grey, maps).light[0, 1:4].double().cpu().numpy()
    length = np.linalg.norm(linear)
    return linear / length if length > 0 else None


def lamp_rows(
    people: Iterable[YalePerson],
    reconstructor: Reconstructor,
    averages: dict[str, Float[torch.Tensor, " vertices"] | None],
    lights: tuple[str, ...] = LIGHTS,
) -> list[dict]:
    """Angle in degrees between the light that a photograph shows and its lamp.

    Args:
        reconstructor: finds the coarse face. averages: the albedo that Eq. (11) takes for
            everybody's, by name; None: the model's mean. lights: the photographs that are shown.

    Returns:
        A row per average, person and lamp; `light` is NaN where no light was found.
    """
    rows = []
    for person, light, photo in lit_photographs(people, lights):
        face = reconstructor(photo, box=BOX)
        for name, average in averages.items():
            toward = toward_light(face, reconstructor.model, average)
            cosine = math.nan if toward is None else float(toward @ direction(light))
            angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
            about = {"albedo": name, "person": person.name, "lamp": light}
            rows.append(about | {"light": angle})
    return rows


def lamp_means(rows: list[dict]) -> list[dict]:
    """One row per average albedo: mean and median of `light` over all photographs."""
    found = []
    for name in dict.fromkeys(row["albedo"] for row in rows):
        angles = [row["light"] for row in rows if row["albedo"] == name]
        values = {"mean": float(np.nanmean(angles)), "median": float(np.nanmedian(angles))}
        found.append({"albedo": name, "photographs": len(angles), **values})
    return found


def lamp_table(means: list[dict]) -> str:
    """`lamp_means` as text."""
    lines = [f"{'real people, average albedo':<30}{'photographs':>12}{'mean':>8}{'median':>8}"]
    for row in means:
        angles = "".join(f"{row[name]:>7.1f}\N{DEGREE SIGN}" for name in ("mean", "median"))
        lines.append(f"{row['albedo']:<30}{row['photographs']:>12}{angles}")
    return "\n".join(lines)


def measured_slopes(person: YalePerson) -> dict[str, float]:
    """`light.slopes_along_normals` of a person's measured albedo, on skin."""
    skin = person.skin
    level = torch.from_numpy(np.log(person.measured.albedo[skin]))
    return slopes_along_normals(level, torch.from_numpy(person.measured.normals[skin]))
