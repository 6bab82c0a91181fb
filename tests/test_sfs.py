import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from wrinkles import normal_error, wrinkled_face

from facerecon.camera import N_POSE
from facerecon.depth import five_point_interior
from facerecon.lighting import LUMA, shade
from facerecon.losses import CriterionWeights, ShadedImage, finenet_loss
from facerecon.rasterize import rasterize
from facerecon.render import render
from facerecon.sfs import (
    DetailBounds,
    albedo_maps,
    detail_target,
    estimate_albedo,
    estimate_shading,
    gaussian_blur,
    refine_depth,
    robust_shading,
)

LIGHT = torch.tensor([[0.5, 0.1, 0.2, 0.4], [0.6, -0.2, 0.1, 0.3]], dtype=torch.float64)


def scene(n_albedo: int = 3) -> dict[str, torch.Tensor]:
    """Random normals and albedo maps; float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    normals = normal(2, 3, 16, 15)
    normals[:, 2].abs_()
    normals = normals / normals.norm(dim=1, keepdim=True)
    mean = 0.5 + 0.02 * normal(2, 1, 16, 15)
    basis = 0.03 * normal(2, n_albedo, 16, 15)
    mask = torch.rand(2, 1, 16, 15, generator=generator) < 0.8
    coefficients = normal(2, n_albedo)
    albedo = mean + torch.einsum("bk,bkhw->bhw", coefficients, basis)[:, None]
    return {
        "image": shade(albedo, LIGHT, normals),
        "mean": mean,
        "basis": basis,
        "normals": normals,
        "mask": mask,
        "coefficients": coefficients,
    }


def shaded(face) -> ShadedImage:
    return ShadedImage(face.image, face.albedo, face.light, face.mask, face.mm_per_pixel)


def albedo_of(s: dict[str, torch.Tensor], **options) -> torch.Tensor:
    return estimate_albedo(
        s["image"], s["mean"], s["basis"], LIGHT, s["normals"], s["mask"], **options
    )


def test_known_albedo_is_recovered_without_a_prior():
    s = scene()
    found = albedo_of(s, darkest=-1.0, brightest=9.0, ridge=1e-12)
    torch.testing.assert_close(found, s["coefficients"], atol=1e-6, rtol=0)


def test_albedo_agrees_with_the_stacked_ridge_system():
    s = scene()
    s["image"] = s["image"] + 0.02 * torch.sin(torch.arange(240.0)).view(1, 1, 16, 15)
    ridge = 1e-3
    found = albedo_of(s, darkest=-1.0, brightest=9.0, ridge=ridge)
    for item in range(2):
        used = s["mask"][item, 0]
        l, n = LIGHT[item], s["normals"][item][:, used]
        irradiance = l[0] + l[1:] @ n
        rows = (s["basis"][item][:, used] * irradiance).T
        target = s["image"][item, 0][used] - s["mean"][item, 0][used] * irradiance
        prior = (ridge * len(rows)) ** 0.5 * torch.eye(3, dtype=torch.float64)
        system = torch.cat([rows, prior]), torch.cat([target, torch.zeros(3).double()])
        expected = torch.linalg.lstsq(system[0], system[1][:, None]).solution[:, 0]
        torch.testing.assert_close(found[item], expected)


def test_the_prior_shrinks_the_coefficients():
    sizes = [albedo_of(scene(), ridge=ridge).norm() for ridge in (1e-9, 1e-4, 1e-2, 1e3)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-4


def test_an_item_without_usable_pixels_keeps_the_mean_albedo():
    s = scene()
    s["mask"][1] = False
    assert (albedo_of(s)[1] == 0).all() and (albedo_of(s)[0] != 0).all()


def test_recover_explains_the_photograph_it_was_made_from():
    s = scene()
    found = estimate_shading(s["image"], s["mean"], s["basis"], s["normals"], s["mask"], ridge=1e-8)
    explained = found.albedo * found.shading
    before = (s["mean"] * found.shading - s["image"])[s["mask"]].square().mean()
    after = (explained - s["image"])[s["mask"]].square().mean()
    # Not exact: the light, found first, absorbs what of the albedo looks like shading.
    assert after < 0.05 * before
    torch.testing.assert_close(found.light, LIGHT, atol=0.1, rtol=0)
    assert (found.albedo[~s["mask"]] == 0).all() and (found.shading[~s["mask"]] == 0).all()


def test_recover_is_exact_for_the_mean_albedo():
    s = scene()
    image = shade(s["mean"], LIGHT, s["normals"])
    found = estimate_shading(image, s["mean"], s["basis"], s["normals"], s["mask"])
    torch.testing.assert_close(found.light, LIGHT, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.albedo, s["mean"] * s["mask"], atol=1e-5, rtol=0)


def test_recover_has_no_gradient():
    s = scene()
    normals = s["normals"].requires_grad_()
    found = estimate_shading(s["image"], s["mean"], s["basis"], normals, s["mask"])
    assert not any(value.requires_grad for value in found)


def test_recovered_albedo_is_a_reflectance():
    s = scene()
    image = 3 * s["image"].clamp(max=0.3)
    found = estimate_shading(image, s["mean"], 40 * s["basis"], s["normals"], s["mask"])
    assert found.albedo.min() == 0 and found.albedo.max() <= 1


def test_albedo_maps_are_the_grey_albedo_of_the_visible_point(model):
    r = torch.zeros(1, model.n_coefficients + N_POSE)
    rendering = render(model, r, 64)
    mean, basis = albedo_maps(model, rendering.fragments)
    assert mean.shape == (1, 1, 64, 64) and basis.shape == (1, model.n_albedo, 64, 64)
    assert (mean[~rendering.mask] == 0).all() and mean[rendering.mask].min() > 0
    coefficients = torch.linspace(-1, 1, model.n_albedo)[None]
    grey = model.albedo(coefficients)[0] @ torch.tensor(LUMA)
    for row, column in ((32, 32), (40, 25), (20, 36)):
        triangle = rendering.fragments.triangle[0, row, column]
        weights = rendering.fragments.barycentric[0, row, column]
        expected = (grey[model.triangles[triangle]] * weights).sum()
        found = mean[0, 0, row, column] + coefficients[0] @ basis[0, :, row, column]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_albedo_maps_of_an_empty_image(model):
    outside = model.mean[None] + 1e4
    mean, basis = albedo_maps(model, rasterize(outside, model.triangles, 8, 8))
    assert (mean == 0).all() and (basis == 0).all()


def test_refinement_recovers_wrinkles_and_lowers_the_energy():
    face = wrinkled_face(100, amplitude=0.6)
    refined = refine_depth(face.coarse, shaded(face))

    def energy(depth: torch.Tensor) -> torch.Tensor:
        return finenet_loss(depth, face.coarse, shaded(face)).total

    assert energy(refined) < 0.9 * energy(face.coarse)
    before = normal_error(face.coarse, face, face.wrinkled)
    assert normal_error(refined, face, face.wrinkled) < 0.8 * before
    assert (refined[~face.mask] == face.coarse[~face.mask]).all()
    assert not refined.requires_grad


def test_refinement_of_a_batch_is_that_of_its_items():
    faces = wrinkled_face(40, amplitude=0.6), wrinkled_face(40, noise=0.02)
    single = [refine_depth(face.coarse, shaded(face), steps=20) for face in faces]
    together = ShadedImage(*map(torch.cat, zip(*map(shaded, faces), strict=True)))
    batch = refine_depth(torch.cat([face.coarse for face in faces]), together, steps=20)
    # Up to rounding, which the sign of the L1 norm's gradient can amplify by about a step.
    difference = (batch - torch.cat(single)).abs()
    assert difference.mean() < 1e-3


def test_fidelity_holds_the_surface():
    face = wrinkled_face(40, amplitude=0.6)
    free = refine_depth(face.coarse, shaded(face), steps=60)
    held = refine_depth(face.coarse, shaded(face), CriterionWeights(fidelity=1e3), steps=60)
    free, held = ((depth - face.coarse).abs().mean() for depth in (free, held))
    assert held < 0.2 * free


def lit_sphere(size=64):
    """Normals, mask and shading of a sphere under a slanted light, albedo 0.6."""
    axis = torch.linspace(-1.1, 1.1, size)
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    z = (1 - x**2 - y**2).clamp(min=0).sqrt()
    mask = (z > 0.3)[None, None]
    normals = torch.stack([x, y, z])[None] * mask
    light = torch.tensor([[0.4, 0.2, 0.1, 0.5]])
    albedo = 0.6 * mask
    return normals, mask, light, albedo, shade(albedo, light, normals)


BOUNDS = DetailBounds(radius=3 / 64, limit=0.1)


def test_detail_target_is_the_photograph_where_the_model_explains_it():
    normals, mask, light, albedo, image = lit_sphere()
    sphere = ShadedImage(image, albedo, light, mask, torch.ones(1))
    target = detail_target(sphere, normals, mask.float(), BOUNDS)
    torch.testing.assert_close(target.image, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(target.albedo, albedo, atol=1e-4, rtol=0)


def test_detail_target_takes_a_slow_change_of_light_for_albedo_and_keeps_detail():
    normals, mask, light, albedo, image = lit_sphere()
    slow = torch.linspace(0.6, 1.4, 64).view(1, 1, 1, 64)
    wrinkle = 0.02 * torch.sin(torch.arange(64.0) * 2.5).view(1, 1, 1, 64)
    seen = (image * slow + wrinkle) * mask
    sphere = ShadedImage(seen, albedo, light, mask, torch.ones(1))
    target = detail_target(sphere, normals, mask.float(), BOUNDS)
    inner = five_point_interior(mask)
    for _ in range(8):
        inner = five_point_interior(inner)
    left = (target.image - shade(target.albedo, light, normals))[inner]
    expected = wrinkle.expand_as(seen)[inner]
    assert torch.corrcoef(torch.stack([left, expected]))[0, 1] > 0.95
    factor = (target.albedo / albedo.clamp(min=1e-3))[inner]
    torch.testing.assert_close(factor, slow.expand_as(seen)[inner], atol=0.06, rtol=0)


def test_detail_target_bounds_the_residual_and_heeds_trust():
    normals, mask, light, albedo, image = lit_sphere()
    spot = image.clone()
    spot[..., 30:33, 30:33] = 1.0
    trust = mask.float()
    sphere = ShadedImage(spot, albedo, light, mask, torch.ones(1))
    bounded = detail_target(sphere, normals, trust, BOUNDS._replace(limit=0.05))
    left = bounded.image - shade(bounded.albedo, light, normals)
    assert 0.04 < left.max() <= 0.05 + 1e-6
    none = detail_target(sphere, normals, 0 * trust, BOUNDS)
    torch.testing.assert_close(none.image, shade(none.albedo, light, normals), atol=1e-6, rtol=0)


def test_gaussian_blur_is_scipys():
    maps = torch.rand(2, 1, 40, 30, dtype=torch.float64)
    ours = gaussian_blur(maps, 2.0).numpy()
    for i in range(2):
        theirs = gaussian_filter(maps[i, 0].numpy(), 2.0, mode="constant", radius=6)
        np.testing.assert_allclose(ours[i, 0], theirs, atol=1e-12)


def test_robust_recovery_ignores_a_hat(model):
    """Dark pixels above the eyes pass for light from below; Cauchy weights ignore them."""
    generator = torch.Generator().manual_seed(0)
    rendering = render(model, torch.zeros(1, model.n_coefficients + N_POSE), 100)
    maps = albedo_maps(model, rendering.fragments)
    light = torch.tensor([[0.5, 0.1, 0.3, 0.3]])
    image = shade(maps[0], light, rendering.normals)
    image = image + 0.01 * torch.randn(image.shape, generator=generator)
    image[..., :22, :] = 0.05
    mask = rendering.mask
    plain = estimate_shading(image, *maps, rendering.normals, mask).light
    robust = robust_shading(image, *maps, rendering.normals, mask).light
    up = torch.stack([plain[0, 2], robust[0, 2], light[0, 2]])
    assert (up[1] - up[2]).abs() < 0.5 * (up[0] - up[2]).abs()
