"""Spherical-harmonics shading and the recovery of the light from a photograph."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in an intensity image (docs/conventions.md)."""

DARKEST = 0.02
"""Darker pixels are taken for cast shadow, which first-order shading does not explain."""

BRIGHTEST = 0.98
"""Brighter pixels (250 of 255) are taken for clipped highlights."""


def sh_basis(
    normals: Float[Tensor, "batch 3 height width"], order: int = 1
) -> Float[Tensor, "batch terms height width"]:
    """Unnormalized real spherical harmonics of a normal map: 4 terms (order 1) or 9 (order 2).

    Source: Eq. (9). The terms and their sequence: docs/conventions.md.

    Args:
        normals: unit normals, camera frame.
        order: 1 as in the paper, or 2.

    Raises:
        ValueError: the order is neither 1 nor 2.
    """
    if order not in (1, 2):
        raise ValueError(f"spherical harmonics of order 1 or 2 are available, got order={order}")
    x, y, z = normals.unbind(dim=1)
    terms = [torch.ones_like(x), x, y, z]
    if order == 2:
        terms += [x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack(terms, dim=1)


def shade(
    albedo: Float[Tensor, "batch 1 height width"],
    light: Float[Tensor, "batch terms"],
    normals: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 1 height width"]:
    """Image of a surface, albedo * <light, Y(normals)>; not clipped, so linear in the light.

    Source: the image formation model inside Eq. (8).

    Args:
        albedo: reflectance in [0, 1].
        light: 4 or 9 coefficients in the order of `sh_basis`.
        normals: unit normals, camera frame.
    """
    order = {4: 1, 9: 2}.get(light.shape[1])
    if order is None:
        raise ValueError(f"light must have 4 or 9 coefficients, got {light.shape[1]}")
    return albedo * torch.einsum("bt,bthw->bhw", light, sh_basis(normals, order))[:, None]


def well_exposed(
    image: Float[Tensor, "batch 1 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    darkest: float = DARKEST,
    brightest: float = BRIGHTEST,
) -> Bool[Tensor, "batch 1 height width"]:
    """The pixels of a mask whose intensity lies in [darkest, brightest]."""
    return mask & (image >= darkest) & (image <= brightest)


def weighted_least_squares(
    design: Float[Tensor, "batch terms height width"],
    target: Float[Tensor, "batch 1 height width"],
    weight: Float[Tensor, "batch 1 height width"],
    ridge: float,
) -> Float[Tensor, "batch terms"]:
    """Per item, the x that minimizes mean_weighted (design x - target)^2 + ridge |x|^2.

    The normal equations are formed and solved in float64: with few terms their squared condition
    number is harmless there, and they are far smaller than the maps.

    Args:
        design: one map per unknown.
        target: the map to explain.
        weight: weight of each pixel, >= 0; design and target are ignored where it is 0. An item
            without any weight gets x = 0.
        ridge: > 0, in squared units of the target per squared unit of x.
    """
    used = weight > 0
    columns = torch.where(used, design, 0.0).double().flatten(2)
    values = torch.where(used, target, 0.0).double().flatten(1)
    share = weight.double().flatten(1)
    share = share / share.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    weighted = columns * share[:, None]
    gram = weighted @ columns.transpose(1, 2)
    gram = gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    moment = torch.einsum("btn,bn->bt", weighted, values)
    return torch.linalg.solve(gram, moment).to(target.dtype)


def estimate_light(
    image: Float[Tensor, "batch 1 height width"],
    albedo: Float[Tensor, "batch 1 height width"],
    normals: Float[Tensor, "batch 3 height width"],
    mask: Bool[Tensor, "batch 1 height width"],
    weight: Float[Tensor, "batch 1 height width"] | None = None,
    order: int = 1,
    darkest: float = DARKEST,
    brightest: float = BRIGHTEST,
    ridge: float = 1e-8,
) -> Float[Tensor, "batch terms"]:
    """The light that best explains a photograph of a known surface with a known albedo.

    Source: Eq. (11), with the average albedo of the morphable model and the coarse surface.

    Args:
        image: intensity in [0, 1].
        albedo: reflectance in [0, 1].
        normals: unit normals, camera frame.
        mask: the pixels to explain.
        weight: optional weight of each pixel, for instance less on hair and eyes.
        order: 1 (four coefficients, the paper) or 2 (nine).
        darkest, brightest: pixels outside this range are left out as shadowed or clipped.
        ridge: keeps the system solvable where the normals hardly vary; far below any intensity.

    Returns:
        Coefficients in the order of `sh_basis`; zeros for an item without a usable pixel.
    """
    usable = well_exposed(image, mask, darkest, brightest).to(image.dtype)
    if weight is not None:
        usable = usable * weight
    return weighted_least_squares(albedo * sh_basis(normals, order), image, usable, ridge)
