"""Recovered light and shading against known ones: Eqs. (11) and (12) on synthetic faces."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.appearance import FaceMaps, estimate_light_and_albedo, model_maps
from facerecon.batch import rows
from facerecon.evaluation.sheets import grey_picture
from facerecon.lighting import estimate_light, sh_basis, shade, weighted_least_squares
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.detail import detail_config
from facerecon.synthetic.world import SyntheticWorld

WORLDS = ("lambertian", "full", "bearded")

FLAT_LIGHT = 0.35
"""Linear over constant part of the light below which its direction means little."""

DARK_SKIN = 0.3
"""Mean reflectance."""


class LitFaces(NamedTuple):
    """Photographs under a known light.

    image, albedo, shading: (N, 1, S, S), grey; the last two are the truth. surface: the known
    coarse one. valid: skin from which light is read.
    """

    image: Float[Tensor, "n 1 size size"]
    albedo: Float[Tensor, "n 1 size size"]
    shading: Float[Tensor, "n 1 size size"]
    surface: FaceMaps
    valid: Bool[Tensor, "n 1 size size"]


def world_config(name: str, size: int = 200) -> SyntheticConfig:
    """Configuration of one of `WORLDS`.

    lambertian: first-order light on bare skin, no shadow, occlusion, highlight or camera effects:
    what Eq. (8) assumes. full: the training world with its lamps. bearded: the same, everyone with
    a beard.
    """
    config = detail_config(size, (0.0, 0.5), bare=name == "lambertian")
    if name == "full":
        return config
    if name == "bearded":
        skin = replace(config.skin, p_beard=1.0, beard_strength=(0.5, 0.9))
        return replace(config, skin=skin)
    if name != "lambertian":
        raise ValueError(f"the worlds are {', '.join(WORLDS)}, got {name!r}")
    return replace(
        config,
        light=replace(
            config.light,
            ambient=(0.4, 0.6),
            environment_std=0.2,
            second_order_std=0.0,
            p_key=0.0,
            p_fill=0.0,
            p_shadow=0.0,
            p_specular=0.0,
            occlusion=(0.0, 0.0),
        ),
        camera=replace(
            config.camera,
            gamma=(1.0, 1.0),
            contrast=(1.0, 1.0),
            brightness=(0.0, 0.0),
            p_vignette=0.0,
            p_blur=0.0,
            p_motion=0.0,
            p_low_resolution=0.0,
            p_sharpen=0.0,
            p_noise=0.0,
            p_jpeg=0.0,
        ),
    )


def lit_faces(world: SyntheticWorld, count: int, seed: int) -> LitFaces:
    """Faces of a `SyntheticWorld` in weak perspective."""
    generator = world.generator(seed)
    r = world.sample(count, generator)
    faces = world.render(count, generator, r)
    surface = model_maps(world.model, r, world.config.size)
    valid = surface.bare & faces.rendering.mask
    return LitFaces(faces.image, faces.albedo, faces.shading, surface, valid)


def fitted_light(
    faces: LitFaces, shading: Float[Tensor, "n 1 size size"], order: int = 1
) -> Float[Tensor, "n terms"]:
    """The light under which the smooth surface comes nearest to a shading, by least squares.

    Linear and quadratic terms look alike on the half of a sphere that one sees; so the direction of
    a second-order light is taken of the first-order light that comes nearest to its shading.
    """
    basis = sh_basis(faces.surface.normals, order)
    return weighted_least_squares(basis, shading, faces.valid.to(basis), 1e-8)


def direction_error(
    light: Float[Tensor, "n terms"], truth: Float[Tensor, "n terms"]
) -> Float[Tensor, " n"]:
    """Angle in degrees between the linear parts of two lights."""
    first, second = light[:, 1:4], truth[:, 1:4]
    sine = torch.linalg.cross(first, second, dim=1).norm(dim=1)
    return torch.atan2(sine, (first * second).sum(1)).rad2deg()


def shading_error(
    found: Float[Tensor, "n 1 size size"],
    truth: Float[Tensor, "n 1 size size"],
    valid: Bool[Tensor, "n 1 size size"],
) -> Float[Tensor, " n"]:
    """RMS difference over RMS truth, percent, after the best common factor.

    The factor is not observable: brighter skin under less light gives the same photograph.
    """
    errors = []
    for a, b, inside in zip(found, truth, valid, strict=True):
        s, t = a[inside].double(), b[inside].double()
        factor = (s * t).sum() / s.square().sum().clamp(min=1e-12)
        errors.append(100 * (factor * s - t).norm() / t.norm().clamp(min=1e-12))
    return torch.stack(errors)


def light_errors(faces: LitFaces, order: int, known_albedo: bool) -> dict[str, Tensor]:
    """Errors of the recovered light, per face.

    Args:
        order: of the spherical harmonics.
        known_albedo: give Eq. (11) the true albedo instead of the model's mean.

    Returns:
        `direction` in degrees; `shading` in percent; `unexplained`: the same of the best light of
        this order.
    """
    surface, ones = faces.surface, torch.ones_like(faces.image)
    if known_albedo:
        light = estimate_light(faces.image, faces.albedo, surface.normals, faces.valid, order=order)
    else:
        light = estimate_light_and_albedo(faces.image, surface, order).light
    found = shade(ones, light, surface.normals)
    best = shade(ones, fitted_light(faces, faces.shading, order), surface.normals)
    first, truth = (fitted_light(faces, each) for each in (found, faces.shading))
    return {
        "direction": direction_error(first, truth),
        "shading": shading_error(found, faces.shading, faces.valid),
        "unexplained": shading_error(best, faces.shading, faces.valid),
    }


def groups(faces: LitFaces) -> dict[str, Bool[Tensor, " n"]]:
    """All faces, and those where the ambiguity of light and albedo matters most."""
    light = fitted_light(faces, faces.shading)
    area = faces.valid.sum((1, 2, 3)).clamp(min=1)
    albedo = torch.where(faces.valid, faces.albedo, 0.0).sum((1, 2, 3)) / area
    return {
        "all": torch.ones_like(area, dtype=torch.bool),
        "flat light": light[:, 1:4].norm(dim=1) < FLAT_LIGHT * light[:, 0].abs(),
        "dark skin": albedo < DARK_SKIN,
    }


def light_rows(world_name: str, faces: LitFaces) -> list[dict]:
    """Medians per group, order and knowledge of the albedo."""
    found = []
    for known in (True, False):
        for order in (1, 2):
            errors = light_errors(faces, order, known)
            for group, chosen in groups(faces).items():
                count = int(chosen.sum())
                medians = {
                    name: values[chosen].median().item() if count else None
                    for name, values in errors.items()
                }
                found.append(
                    {
                        "world": world_name,
                        "albedo": "known" if known else "recovered",
                        "order": order,
                        "group": group,
                        "faces": count,
                        **medians,
                    }
                )
    return found


def light_table(rows: list[dict]) -> str:
    """The rows as text."""
    lines = [
        f"{'world':<12}{'albedo':<11}{'order':>5}  {'group':<12}{'faces':>5}{'direction':>11}"
        f"{'shading':>9}{'at best':>9}"
    ]
    for row in rows:
        numbers = "".join(
            f"{'-':>{width}}" if row[name] is None else f"{row[name]:>{width - 2}.1f} {unit}"
            for name, width, unit in (
                ("direction", 11, "\N{DEGREE SIGN}"),
                ("shading", 9, "%"),
                ("unexplained", 9, "%"),
            )
        )
        lines.append(
            f"{row['world']:<12}{row['albedo']:<11}{row['order']:>5}  {row['group']:<12}"
            f"{row['faces']:>5}{numbers}"
        )
    return "\n".join(lines)


def light_panels(faces: LitFaces, count: int) -> list[list]:
    """Photograph, recovered and true shading, recovered and true albedo, each scaled alike."""
    part = rows(faces, slice(count))
    found = estimate_light_and_albedo(part.image, part.surface, 2)
    shading = shade(torch.ones_like(part.image), found.light, part.surface.normals)
    panels = []
    for i in range(len(part.image)):
        valid = part.valid[i]
        maps = [part.image[i]]
        for ours, truth in ((shading, part.shading), (found.albedo, part.albedo)):
            level = 0.6 / truth[i][valid].mean().clamp(min=1e-3)
            factor = truth[i][valid].mean() / ours[i][valid].mean().clamp(min=1e-3)
            mask = part.surface.mask[i]
            maps += [torch.where(mask, level * each, 1.0) for each in (factor * ours[i], truth[i])]
        panels.append([grey_picture(each) for each in maps])
    return panels
