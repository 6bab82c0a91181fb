import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from facerecon.lighting import (
    estimate_light,
    sh_basis,
    shade,
    weighted_least_squares,
    well_exposed,
)


def random_normals(batch: int = 2, height: int = 12, width: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    normals = torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)
    normals[:, 2].abs_()
    return normals / normals.norm(dim=1, keepdim=True)


def scene(terms: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    normals = random_normals()
    albedo = 0.4 + 0.3 * torch.rand(2, 1, 12, 11, generator=generator, dtype=torch.float64)
    light = torch.tensor([[0.5, 0.1, 0.2, 0.4], [0.6, -0.2, 0.1, 0.3]], dtype=torch.float64)
    if terms == 9:
        more = 0.05 * torch.randn(2, 5, generator=generator, dtype=torch.float64)
        light = torch.cat([light, more], 1)
    mask = torch.rand(2, 1, 12, 11, generator=generator) < 0.8
    image = shade(albedo, light, normals)
    return {"image": image, "albedo": albedo, "normals": normals, "mask": mask, "light": light}


def test_first_order_terms():
    normals = random_normals()
    basis = sh_basis(normals)
    assert (basis[:, 0] == 1).all()
    assert (basis[:, 1:] == normals).all()


def test_second_order_agrees_with_scipy_up_to_the_dropped_constants():
    normals = random_normals(1)
    x, y, z = normals[0].numpy()
    polar, azimuth = np.arccos(z), np.arctan2(y, x)

    def real(degree: int, order: int) -> np.ndarray:
        """Real spherical harmonic without the Condon-Shortley phase."""
        value = sph_harm_y(degree, abs(order), polar, azimuth) * (-1) ** order
        if order == 0:
            return value.real
        return math.sqrt(2) * (value.real if order > 0 else value.imag)

    pi = math.pi
    expected = [
        real(0, 0) / math.sqrt(1 / (4 * pi)),
        real(1, 1) / math.sqrt(3 / (4 * pi)),
        real(1, -1) / math.sqrt(3 / (4 * pi)),
        real(1, 0) / math.sqrt(3 / (4 * pi)),
        real(2, -2) / math.sqrt(15 / (4 * pi)),
        real(2, 1) / math.sqrt(15 / (4 * pi)),
        real(2, -1) / math.sqrt(15 / (4 * pi)),
        real(2, 2) / math.sqrt(15 / (16 * pi)),
        real(2, 0) / math.sqrt(5 / (16 * pi)),
    ]
    np.testing.assert_allclose(sh_basis(normals, 2)[0].numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize("order", [0, 3])
def test_other_orders_are_refused(order):
    with pytest.raises(ValueError, match="order 1 or 2"):
        sh_basis(random_normals(), order)


def test_light_of_wrong_length_is_refused():
    normals = random_normals()
    with pytest.raises(ValueError, match="4 or 9"):
        shade(normals[:, :1], torch.zeros(2, 5, dtype=torch.float64), normals)


def test_shade_agrees_with_a_loop_over_pixels():
    s = scene()
    for item, row, column in ((0, 0, 0), (1, 5, 7), (0, 11, 10)):
        l, n = s["light"][item], s["normals"][item, :, row, column]
        expected = s["albedo"][item, 0, row, column] * (l[0] + (l[1:] * n).sum())
        torch.testing.assert_close(s["image"][item, 0, row, column], expected)


@pytest.mark.parametrize("order", [1, 2])
def test_light_agrees_with_numpy_least_squares_per_item(order):
    s = scene(4)
    generator = torch.Generator().manual_seed(5)
    image = s["image"] + 0.05 * torch.randn(s["image"].shape, generator=generator).double()
    weight = torch.rand(image.shape, generator=generator).double()
    found = estimate_light(
        image, s["albedo"], s["normals"], s["mask"], weight, order, -math.inf, math.inf, 1e-12
    )
    design = (s["albedo"] * sh_basis(s["normals"], order)).numpy()
    for item in range(2):
        used = s["mask"][item, 0].numpy()
        root = np.sqrt(weight[item, 0].numpy()[used])
        columns, target = design[item][:, used].T, image[item, 0].numpy()[used]
        expected = np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)[0]
        np.testing.assert_allclose(found[item].numpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("terms", [4, 9])
def test_known_light_is_recovered(terms):
    s = scene(terms)
    order = 1 if terms == 4 else 2
    found = estimate_light(s["image"], s["albedo"], s["normals"], s["mask"], order=order)
    # The ridge of 1e-8 against eigenvalues of about 1e-2.
    torch.testing.assert_close(found, s["light"], atol=1e-5, rtol=0)


def test_single_precision_is_enough():
    s = scene()
    single = {k: v.float() if v.is_floating_point() else v for k, v in s.items()}
    found = estimate_light(single["image"], single["albedo"], single["normals"], single["mask"])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, single["light"], atol=1e-5, rtol=0)


def test_shadows_and_highlights_are_left_out():
    s = scene()
    image = s["image"].clone()
    image[:, :, :3] = 0.0
    image[:, :, 3:5] = 1.0
    clean = estimate_light(image, s["albedo"], s["normals"], s["mask"])
    torch.testing.assert_close(clean, s["light"], atol=1e-5, rtol=0)
    naive = estimate_light(image, s["albedo"], s["normals"], s["mask"], darkest=-1.0, brightest=2.0)
    assert (naive - s["light"]).abs().max() > 0.05


def test_thresholds_are_inclusive():
    image = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).view(1, 1, 1, 5)
    everywhere = torch.ones_like(image, dtype=torch.bool)
    assert well_exposed(image, everywhere, 0.1, 0.9).flatten().tolist() == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_background_may_hold_nan_and_an_empty_item_gets_no_light():
    s = scene()
    mask = s["mask"].clone()
    mask[1] = False
    albedo = torch.where(mask, s["albedo"], torch.nan)
    found = estimate_light(s["image"], albedo, s["normals"], mask)
    torch.testing.assert_close(found[0], s["light"][0], atol=1e-5, rtol=0)
    assert (found[1] == 0).all()


def test_ridge_solution_is_the_closed_form_one():
    generator = torch.Generator().manual_seed(6)
    design = torch.randn(1, 3, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.randn(1, 1, 4, 5, generator=generator, dtype=torch.float64)
    weight = torch.rand(1, 1, 4, 5, generator=generator, dtype=torch.float64)
    a, b, w = design[0].flatten(1).T, target.flatten(), weight.flatten() / weight.sum()
    expected = torch.linalg.inv(a.T @ (w[:, None] * a) + 0.3 * torch.eye(3)) @ (a.T @ (w * b))
    torch.testing.assert_close(weighted_least_squares(design, target, weight, 0.3)[0], expected)
