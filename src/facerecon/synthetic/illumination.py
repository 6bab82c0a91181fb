"""Light on a synthetic face: environment, lamps, ambient occlusion, cast shadows, highlights.

Albedo and light live on the display scale (docs/conventions.md), not on a linear one: the networks
and Eqs. (8) to (12) see photographs as stored, and a shaded face must follow the same formation
model, albedo times light. What a linear camera would change, the random tone curve of
`photography.expose` covers.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from facerecon.backends.choose import choose_backend
from facerecon.lighting import sh_basis
from facerecon.mesh import vertex_normals
from facerecon.rasterize import interpolate, rasterize
from facerecon.synthetic import shading_numba
from facerecon.synthetic.config import LightConfig
from facerecon.synthetic.sampling import Sampler

_FAR = -1e4  # mm: nothing stands in the light


class Light(NamedTuple):
    """One light per image; C is 1 (grey) or 3. Directions are unit vectors toward the lamp."""

    environment: Float[Tensor, "batch 9"]
    tint: Float[Tensor, "batch channels"]  # of the environment
    key_direction: Float[Tensor, "batch 3"]
    key: Float[Tensor, "batch channels"]
    fill_direction: Float[Tensor, "batch 3"]
    fill: Float[Tensor, "batch channels"]
    specular: Float[Tensor, "batch 1"]
    roughness: Float[Tensor, "batch 1"]  # GGX where > 0, else Blinn-Phong
    shininess: Float[Tensor, "batch 1"]


def sample_light(
    config: LightConfig, count: int, channels: int, generator: torch.Generator
) -> Light:
    """Sample a light for every image."""
    sampler = Sampler(count, generator)
    environment = torch.cat(
        [
            sampler.uniform(*config.ambient, 1),
            config.environment_std * sampler.normal(1),
            sampler.uniform(*config.sky, 1),
            config.environment_std * sampler.normal(1),
            config.second_order_std * sampler.normal(5),
        ],
        dim=1,
    )
    tints = 1 + config.tint_std * sampler.normal(3, 3)
    tints[:, :, 1] = 1  # red and blue against green
    if channels == 1:
        tints = torch.ones_like(tints[:, :, :1])
    key = sampler.uniform(*config.key, 1) * sampler.chance(config.p_key, 1)
    fill = sampler.uniform(*config.fill, 1) * sampler.chance(config.p_fill, 1)
    return Light(
        environment=environment,
        tint=tints[:, 0],
        key_direction=_direction(
            sampler.uniform(*config.key_azimuth, 1), sampler.uniform(*config.key_elevation, 1)
        ),
        key=key * tints[:, 1],
        fill_direction=_direction(
            sampler.uniform(*config.fill_azimuth, 1), sampler.uniform(*config.fill_elevation, 1)
        ),
        fill=fill * tints[:, 2],
        specular=sampler.uniform(*config.specular, 1) * sampler.chance(config.p_specular, 1),
        roughness=sampler.uniform(*config.roughness, 1) * sampler.chance(config.p_ggx, 1),
        shininess=sampler.uniform(*config.shininess, 1),
    )


def irradiance(
    light: Light,
    normals: Float[Tensor, "batch 3 height width"],
    occlusion: Float[Tensor, "batch 1 height width"] | float = 1.0,
    shadow: Float[Tensor, "batch 1 height width"] | float = 1.0,
) -> Float[Tensor, "batch channels height width"]:
    """Light that arrives: environment (dimmed by occlusion), key lamp (by its shadow), fill lamp.

    occlusion, shadow: 1 open, 0 closed.
    """
    if _compiled(normals):
        parts = (torch.as_tensor(part, dtype=normals.dtype) for part in (occlusion, shadow))
        return shading_numba.irradiance(light, light.environment, normals, *parts, 0.02, 0.0)
    around = _dot(light.environment, sh_basis(normals, order=2)).clamp(min=0.02)
    key = _dot(light.key_direction, normals).clamp(min=0)
    fill = _dot(light.fill_direction, normals).clamp(min=0)
    return (
        around * occlusion * _spread(light.tint)
        + key * shadow * _spread(light.key)
        + fill * _spread(light.fill)
    )


def simple_irradiance(
    light: Light, normals: Float[Tensor, "batch 3 height width"], wrap: float
) -> Float[Tensor, "batch channels height width"]:
    """`irradiance` with a first-order environment and lamps that reach round corners.

    wrap: 0 like skin, 0.2 like hair, into which light enters.
    """
    if _compiled(normals):
        first_order = functional.pad(light.environment[:, :4], (0, 5))
        one = normals.new_ones(1)
        return shading_numba.irradiance(light, first_order, normals, one, one, 0.05, wrap)
    around = light.environment[:, :1, None, None] + _dot(light.environment[:, 1:4], normals)
    key = ((1 - wrap) * _dot(light.key_direction, normals) + wrap).clamp(min=0)
    fill = ((1 - wrap) * _dot(light.fill_direction, normals) + wrap).clamp(min=0)
    return (
        around.clamp(min=0.05) * _spread(light.tint)
        + key * _spread(light.key)
        + fill * _spread(light.fill)
    )


def highlight(
    light: Light, normals: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Specular lobe of the key lamp on skin, 1 at its peak.

    GGX's distribution of microfacets (Walter et al. 2007) with Schlick's Fresnel term, or
    Blinn-Phong, as the light says.
    """
    half = light.key_direction + light.key_direction.new_tensor([0.0, 0.0, 1.0])  # viewer at +z
    half = functional.normalize(half, dim=1, eps=1e-6)
    if _compiled(normals):
        return shading_numba.highlight(light, half, normals)
    cosine = _dot(half, normals).clamp(min=0, max=1)
    lit = (4 * _dot(light.key_direction, normals)).clamp(min=0, max=1)
    squared = _spread(light.roughness).square().square()
    ggx = (squared / (cosine.square() * (squared - 1) + 1).clamp(min=1e-4)).square()
    ggx = ggx * (1 + 3 * (1 - normals[:, 2:]).clamp(min=0, max=1) ** 4)
    phong = torch.exp2(_spread(light.shininess) * torch.log2(cosine.clamp(min=1e-3)))
    return torch.where(_spread(light.roughness) > 0, ggx, phong) * lit


def ambient_occlusion(
    vertices: Float[Tensor, "vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    directions: int = 96,
    texels: int = 160,
    bias: float = 2.5,
) -> Float[Tensor, " vertices"]:
    """Share of a uniform sky that each vertex of a mesh sees, weighted by the cosine; in [0, 1].

    The mesh is rasterized from directions spread evenly over the sphere; a vertex sees a direction
    if no surface lies more than `bias` mm in front of it.
    """
    step = torch.arange(directions, dtype=vertices.dtype, device=vertices.device)
    height = 1 - (2 * step + 1) / directions
    angle = step * math.pi * (3 - math.sqrt(5))
    flat = (1 - height.square()).sqrt()
    toward = torch.stack([flat * angle.cos(), height, flat * angle.sin()], dim=1)
    cosine = (vertex_normals(vertices[None], triangles)[0] @ toward.T).clamp(min=0)
    points = vertices.expand(directions, -1, -1)
    seen = visibility(points, triangles, points, toward, texels, bias, vertices.new_tensor(0.5))
    return (cosine * seen.T).sum(1) / cosine.sum(1).clamp(min=1e-6)


def visibility(
    vertices: Float[Tensor, "batch vertices 3"],
    triangles: Int[Tensor, "triangles 3"],
    points: Float[Tensor, "batch points 3"],
    direction: Float[Tensor, "batch 3"],
    texels: int,
    bias: float,
    softness: Float[Tensor, "*any"],
) -> Float[Tensor, "batch points"]:
    """How far points see a lamp past a mesh: 1 lit, 0 in its shadow (a shadow map).

    Args:
        vertices, triangles: the mesh that casts shadows, mm. points: to be lit, same frame.
        direction: unit vectors toward the lamp, far away.
        texels: side of the shadow map. bias: mm that a point may lie below the map unshadowed.
        softness: mm of depth over which the shadow fades in; broadcasts over (batch, points).
    """
    frame = _frame(direction)
    seen = vertices @ frame.mT
    low, high = seen[..., :2].amin(1, keepdim=True), seen[..., :2].amax(1, keepdim=True)
    scale = (texels - 3) / (high - low).amax(2, keepdim=True).clamp(min=1e-3)
    middle = (low + high) / 2
    flip = seen.new_tensor([1.0, -1.0])
    plane = (seen[..., :2] - middle) * scale * flip + (texels - 1) / 2
    fragments = rasterize(torch.cat([plane, seen[..., 2:]], 2), triangles, texels, texels)
    depth = interpolate(seen[..., 2:], fragments, triangles)
    depth = torch.where(fragments.mask, depth, torch.full_like(depth, _FAR))
    found = points @ frame.mT
    at = (found[..., :2] - middle) * scale * flip * 2 / texels
    nearest = functional.grid_sample(
        depth, at[:, None], align_corners=False, padding_mode="border"
    )[:, 0, 0]
    return torch.sigmoid((found[..., 2] - nearest + bias) / softness * 4)


def _compiled(normals: Tensor) -> bool:
    """Whether compiled loops can shade these: on the CPU, and nobody asks for gradients."""
    wanted = torch.is_grad_enabled() and normals.requires_grad
    return choose_backend("auto", normals) == "numba" and not wanted


def _frame(direction: Tensor) -> Float[Tensor, "batch 3 3"]:
    """Rows: two axes across the direction and the direction; right-handed."""
    up = direction.new_tensor([0.0, 1.0, 0.0]).expand_as(direction)
    side = torch.where(direction[:, 1:2].abs() > 0.99, direction.new_tensor([1.0, 0.0, 0.0]), up)
    first = functional.normalize(torch.linalg.cross(side, direction), dim=1)
    return torch.stack([first, torch.linalg.cross(direction, first), direction], dim=1)


def _direction(azimuth: Tensor, elevation: Tensor) -> Float[Tensor, "batch 3"]:
    """Unit vector in the camera frame; azimuth 0 comes from the viewer, elevation is upward."""
    cos = torch.cos(elevation)
    return torch.cat(
        [torch.sin(azimuth) * cos, torch.sin(elevation), torch.cos(azimuth) * cos], dim=1
    )


def _dot(coefficients: Tensor, maps: Tensor) -> Tensor:
    """(B, K) with (B, K, H, W): one map (B, 1, H, W)."""
    product = torch.bmm(coefficients[:, None], maps.flatten(2))
    return product.view(len(maps), 1, *maps.shape[2:])


def _spread(values: Tensor) -> Tensor:
    return values[:, :, None, None]
