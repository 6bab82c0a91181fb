"""Recovered light and shading against known ones: Eqs. (11) and (12) on synthetic faces."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facerecon.appearance import FaceMaps, estimate_light_and_albedo, model_maps
from facerecon.batch import rows
from facerecon.camera import N_POSE
from facerecon.evaluation.sheets import grey_picture
from facerecon.lighting import (
    LUMA,
    estimate_light,
    sh_basis,
    shade,
    weighted_least_squares,
)
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import interpolate
from facerecon.render import curved_surface
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.detail import detail_config
from facerecon.synthetic.world import SyntheticWorld

WORLDS = ("lambertian", "full", "bearded")

ALBEDOS = ("known", "average", "model's")
"""What Eq. (11) is given: each face's own albedo; the average of the world's people, which the
paper assumes to be known; the morphable model's, which is the average of photographs and not that
of rendered skin."""

_PEOPLE = 400  # of whom the average is taken

FLAT_LIGHT = 0.35
"""Linear over constant part of the light below which its direction means little."""

DARK_SKIN = 0.3
"""Mean reflectance."""


class LitFaces(NamedTuple):
    """Photographs under a known light.

    image, albedo, shading: (N, 1, S, S), grey; the last two are the truth. average: albedo of the
    average person of their world on the same surface. surface: the known coarse one. valid: skin
    from which light is read.
    """

    image: Float[Tensor, "n 1 size size"]
    albedo: Float[Tensor, "n 1 size size"]
    shading: Float[Tensor, "n 1 size size"]
    average: Float[Tensor, "n 1 size size"]
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
    average = model_maps(world.model, r, world.config.size, average_skin(world)).albedo_mean
    valid = surface.bare & faces.rendering.mask
    return LitFaces(faces.image, faces.albedo, faces.shading, average, surface, valid)


def average_skin(world: SyntheticWorld, people: int = _PEOPLE) -> Float[Tensor, " vertices"]:
    """Grey albedo of the average person of a world, whose skin no photograph shows."""
    generator, grey = world.generator(0), world.model.mean.new_tensor(LUMA)
    parts = [world.skin.sample(100, generator).mean(0) @ grey for _ in range(people // 100)]
    return torch.stack(parts).mean(0)


def slopes_along_normals(
    level: Float[Tensor, " pixels"], normals: Float[Tensor, "pixels 3"]
) -> dict[str, float]:
    """How much an albedo looks like the shading of a first-order light.

    Args:
        level: logarithm of the albedo. normals: unit.

    Returns:
        `right`, `up`, `toward`: slopes of the least-squares plane through the level over the
        normals, per unit of each component. `share`: of the level's variance that it explains.
    """
    level, normals = level.double(), normals.double()
    basis = torch.cat([torch.ones_like(normals[:, :1]), normals], dim=1)
    found = torch.linalg.lstsq(basis, level[:, None]).solution
    left = (level - (basis @ found)[:, 0]).var() / level.var().clamp(min=1e-12)
    names = ("right", "up", "toward")
    return dict(zip(names, found[1:, 0].tolist(), strict=True)) | {"share": 1 - left.item()}


def albedo_rows(
    model: MorphableModel, average: Float[Tensor, " vertices"], size: int = 200
) -> list[dict]:
    """`slopes_along_normals` of smooth skin on the mean face, seen from the front.

    Args:
        average: grey albedo of a world's average person, from `average_skin`.

    Returns:
        A row for `average`, for the model's mean, and for what one standard deviation of each of
        its components changes.
    """
    frontal = torch.zeros(1, model.n_coefficients + N_POSE, device=model.mean.device)
    surface = curved_surface(model, frontal, size)
    smooth = model.skin(("eye_left", "eye_right", "mouth_interior", "brows", "lips"))
    columns = torch.cat([smooth[:, None], average[:, None]], dim=1)
    smooth, average = interpolate(columns[None].contiguous(), surface.fragments, model.triangles)[0]
    maps = model_maps(model, frontal, size)
    where = maps.bare[0, 0] & (smooth > 0.5)
    mean, components = maps.albedo_mean[0, 0], maps.albedo_basis[0]
    levels = {"average": average.log(), "model's": mean.log()}
    for number, component in enumerate(components, 1):
        levels[f"model's, component {number}"] = (mean + component).log() - mean.log()
    normals = maps.normals[0, :, where].T
    return [
        {"albedo": name, **slopes_along_normals(level[where], normals)}
        for name, level in levels.items()
    ]


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


def light_errors(faces: LitFaces, order: int, albedo: str) -> dict[str, Tensor]:
    """Errors of the recovered light, per face.

    Args:
        order: of the spherical harmonics.
        albedo: one of `ALBEDOS`.

    Returns:
        `direction` in degrees; `shading` in percent; `unexplained`: the same of the best light of
        this order.
    """
    surface, ones = faces.surface, torch.ones_like(faces.image)
    if albedo == "known":
        light = estimate_light(faces.image, faces.albedo, surface.normals, faces.valid, order=order)
    else:
        maps = surface._replace(albedo_mean=faces.average) if albedo == "average" else surface
        light = estimate_light_and_albedo(faces.image, maps, order).light
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
    for albedo in ALBEDOS:
        for order in (1, 2):
            errors = light_errors(faces, order, albedo)
            for group, chosen in groups(faces).items():
                count = int(chosen.sum())
                medians = {
                    name: values[chosen].median().item() if count else None
                    for name, values in errors.items()
                }
                found.append(
                    {
                        "world": world_name,
                        "albedo": albedo,
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


def albedo_table(rows: list[dict]) -> str:
    """`albedo_rows` as text."""
    lines = [f"{'log albedo along the normals':<30}{'right':>8}{'up':>8}{'toward':>8}{'share':>8}"]
    for row in rows:
        slopes = "".join(f"{row[name]:>+8.2f}" for name in ("right", "up", "toward"))
        lines.append(f"{row['albedo']:<30}{slopes}{100 * row['share']:>6.0f} %")
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


def albedo_panels(
    model: MorphableModel, average: Float[Tensor, " vertices"], size: int = 200
) -> list[list]:
    """Pairs of albedos on the mean face.

    First a world's average person and the model's mean; then the mean changed by two standard
    deviations of each component, down and up.
    """
    frontal = torch.zeros(1, model.n_coefficients + N_POSE, device=model.mean.device)
    maps = model_maps(model, frontal, size)
    mean, change = maps.albedo_mean, 2 * maps.albedo_basis[0, :, None]
    pairs = [(model_maps(model, frontal, size, average).albedo_mean[0], mean[0])]
    pairs += zip(mean - change, mean + change, strict=True)
    shown = maps.mask[0]
    return [
        [grey_picture(torch.where(shown, each, 1.0).clamp(0, 1)) for each in pair] for pair in pairs
    ]
