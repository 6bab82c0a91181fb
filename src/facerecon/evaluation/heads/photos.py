"""Photographs of heads for validation: paint, light, background and camera.

Deliberately not those of the training world, so that the one can change and the other stays the
same measure.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate as resize
from torch.nn.functional import normalize

from facerecon.imaging import to_bytes
from facerecon.lighting import sh_basis

_MOUTH = 0.05  # grey value of what is seen through an open mouth


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Random numbers in [low, high) on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal random numbers on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def wear_hair(
    albedo: Float[Tensor, "batch vertices"],
    position: Float[Tensor, "vertices 3"],
    eyes: Float[Tensor, " 3"],
    generator: torch.Generator,
) -> Float[Tensor, "batch vertices"]:
    """Short hair of one shade painted on the scalp of most heads.

    Args:
        albedo: grey.
        position: of the vertices of the mean head, mm, model frame; eyes: their middle.
    """
    count = len(albedo)
    x, y, z = (position - eyes).unbind(1)
    line = uniform(generator, 45, 85, count, 1) - uniform(generator, 0, 0.012, count, 1) * x**2
    behind = uniform(generator, -115, -75, count, 1)
    nape = uniform(generator, -90, -50, count, 1)
    above = torch.sigmoid((y - line) / 2)
    back = torch.sigmoid((behind - z) / 3) * torch.sigmoid((y - nape) / 3)
    worn = torch.maximum(above, back) * (uniform(generator, 0, 1, count, 1) < 0.85)
    shade = uniform(generator, 0.05, 0.8, count, 1) ** 2
    return albedo + worn * (shade - albedo)


def picture(
    albedo: Float[Tensor, "batch 1 size size"],
    normals: Float[Tensor, "batch 3 size size"],
    head: Bool[Tensor, "batch 1 size size"],
    inside: Bool[Tensor, "batch 1 size size"],
    generator: torch.Generator,
    backdrop: float | None = None,
) -> Float[np.ndarray, "batch size size"]:
    """Grey photographs in [0, 1] under random lights, before random backgrounds.

    Args:
        albedo, normals: maps of the heads.
        head: where a surface faces the camera; inside: where the inner side of one does, which
            shows through an open mouth and is dark.
        backdrop: an even grey instead of the background, as displayed; None: the background.
    """
    scene = _background(len(albedo), albedo.shape[-1], generator)
    scene = torch.where(inside, scene.new_tensor(_MOUTH), scene)
    lit = albedo * _shading(normals, generator) + _highlight(normals, generator)
    scene = torch.where(head, lit, scene)
    behind = torch.full_like(scene, 0 if backdrop is None else backdrop)
    replaced = ~(head | inside) & (backdrop is not None)
    return _camera(scene, head, behind, replaced, generator)


def _shading(
    normals: Float[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 1 size size"]:
    """A soft environment and one lamp from the front, above or the side."""
    count = len(normals)
    light = torch.cat(
        [
            uniform(generator, 0.2, 0.7, count, 1),
            0.15 * normal(generator, count, 3),
            0.05 * normal(generator, count, 5),
        ],
        dim=1,
    )
    light[:, 3] = light[:, 3].abs()  # what the camera sees is not lit from behind alone
    soft = torch.einsum("bk,bkhw->bhw", light, sh_basis(normals, order=2)).clamp(min=0.02)
    azimuth = uniform(generator, -1.4, 1.4, count)
    elevation = uniform(generator, -0.3, 1.1, count)
    lamp = torch.stack(
        [azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], dim=1
    )
    hard = torch.einsum("bc,bchw->bhw", lamp, normals).clamp(min=0)
    return (soft + uniform(generator, 0, 1, count, 1, 1) * hard)[:, None]


def _highlight(
    normals: Float[Tensor, "batch 3 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 1 size size"]:
    """Gloss of skin, brightest where the normal halves the way to a lamp near the camera."""
    count = len(normals)
    spread, middle = normals.new_tensor([[0.3, 0.2, 0.0], [0.0, 0.3, 1.0]])
    half = spread * normal(generator, count, 3) + middle
    gloss = torch.einsum("bc,bchw->bhw", normalize(half), normals).clamp(min=1e-6)
    gloss = gloss ** uniform(generator, 8, 40, count, 1, 1)
    return (uniform(generator, 0, 0.2, count, 1, 1) * gloss)[:, None]


def _background(
    count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "batch 1 size size"]:
    """Soft clutter: noise of four scales around a random grey."""
    scene = uniform(generator, 0.1, 0.9, count, 1, 1, 1).expand(-1, -1, size, size)
    for cells, strength in ((3, 0.3), (8, 0.2), (20, 0.1), (60, 0.05)):
        noise = normal(generator, count, 1, cells, cells)
        noise = resize(noise, size=(size, size), mode="bicubic", align_corners=False)
        scene = scene + uniform(generator, 0, strength, count, 1, 1, 1) * noise
    return scene.clamp(0, 1)


def _camera(
    scene: Float[Tensor, "batch 1 size size"],
    head: Bool[Tensor, "batch 1 size size"],
    behind: Float[Tensor, "batch 1 size size"],
    replaced: Bool[Tensor, "batch 1 size size"],
    generator: torch.Generator,
) -> Float[np.ndarray, "batch size size"]:
    """Exposure for the head, tone curve, `behind` where it is `replaced`, blur, noise, JPEG."""
    count = len(scene)
    area = head.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (scene * head).sum((1, 2, 3), keepdim=True) / area
    gamma = uniform(generator, 0.55, 1, count, 1, 1, 1)
    target = uniform(generator, 0.25, 0.6, count, 1, 1, 1) ** (1 / gamma)
    scene = (scene * target / mean.clamp(min=1e-3)).clamp(0, 1) ** gamma
    scene = torch.where(replaced, behind, scene)
    blur = uniform(generator, 0.3, 1.5, count).tolist()
    noise = uniform(generator, 0, 0.03, count, 1, 1) * normal(generator, *scene[:, 0].shape)
    quality = uniform(generator, 40, 95, count).tolist()
    photos = []
    for item, grain in enumerate(noise.cpu().numpy()):
        photo = cv2.GaussianBlur(scene[item, 0].cpu().numpy(), (0, 0), blur[item]) + grain
        _, code = cv2.imencode(
            ".jpg", to_bytes(photo), [cv2.IMWRITE_JPEG_QUALITY, int(quality[item])]
        )
        photos.append(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE) / np.float32(255))
    return np.stack(photos)
