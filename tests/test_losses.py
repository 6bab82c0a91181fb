import math

import pytest
import torch
from torch.autograd import gradcheck
from wrinkles import normal_error, wrinkled_face

from facerecon.depth import five_point_interior, laplacian, normals_from_depth
from facerecon.lighting import shade
from facerecon.losses import (
    DEPTH_UNIT,
    INTENSITY_UNIT,
    CriterionWeights,
    ShadedImage,
    fidelity,
    finenet_loss,
    gmse,
    identity_confusion,
    masked_mean,
    pose_mse,
    shading_energy,
    smoothness,
    sobolev_gradient,
)
from facerecon.sfs import refine_depth


@pytest.fixture(scope="module")
def face():
    return wrinkled_face()


def shaded(face):
    return ShadedImage(face.image, face.albedo, face.light, face.mask, face.mm_per_pixel)


def criterion(face, depth, **weights):
    return finenet_loss(depth, face.coarse, shaded(face), CriterionWeights(**weights))


def test_gmse_is_the_weighted_mean_squared_distance_of_the_vertices(model):
    generator = torch.Generator().manual_seed(0)
    predicted, target = model.sample(2, generator), model.sample(2, generator)
    squared = (model.vertices(predicted) - model.vertices(target)).square().sum(2)
    expected = (squared * model.vertex_weight).sum(1).mean()
    assert expected > 1
    # float32 sums over some 10,000 vertices and 284 coefficients
    torch.testing.assert_close(
        gmse(predicted, target, model.geometry_metric()), expected, rtol=1e-3, atol=0
    )


def test_gmse_of_equal_coefficients_is_zero():
    metric = torch.eye(3)
    assert gmse(torch.ones(2, 3), torch.ones(2, 3), metric) == 0
    assert gmse(torch.ones(2, 3), torch.zeros(2, 3), 2 * metric) == 6


def test_identity_confusion_is_the_cross_entropy_of_a_softmax_over_distances():
    """Against a naive loop; three people, one of them alone in the batch."""
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    person = [0, 1, 0, 2, 1]
    true = torch.randn(3, 4, generator=generator, dtype=torch.float64)[person]
    half = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    metric, width = half @ half.T, 0.7
    losses = []
    for i in (0, 1, 2, 4):
        likeness = {}
        for j in set(range(5)) - {i}:
            apart = predicted[i] - predicted[j]
            likeness[j] = math.exp(-(apart @ metric @ apart).item() / (2 * width**2))
        own = sum(value for j, value in likeness.items() if person[j] == person[i])
        losses.append(-math.log(own / sum(likeness.values())))
    found = identity_confusion(predicted, true, metric, width)
    assert found.item() == pytest.approx(sum(losses) / 4, rel=1e-9)
    assert gradcheck(lambda p: identity_confusion(p, true, metric, width), predicted)
    assert identity_confusion(predicted[:1], true[:1], metric, width) == 0


def test_pose_mse():
    predicted = torch.zeros(2, 6)
    predicted[0, 0], predicted[1, 5] = 3.0, 1.0
    assert pose_mse(predicted, torch.zeros(2, 6)).item() == pytest.approx(10 / 12)


def test_masked_mean_weighs_items_alike():
    values = torch.ones(2, 1, 4, 4)
    values[1] = 3.0
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[0], mask[1, :, 0, 0] = True, True
    assert masked_mean(values, mask) == 2
    mask[1] = False
    assert masked_mean(values, mask) == 0.5


def test_true_surface_explains_its_photograph():
    face = wrinkled_face(64, noise=0.0)
    assert shading_energy(face.depth, shaded(face)) < 1e-12
    assert shading_energy(face.coarse, shaded(face)) > 1e-6


def test_terms_agree_with_their_definitions(face):
    normals = normals_from_depth(face.coarse, face.mm_per_pixel, face.mask)
    residual = (shade(face.albedo, face.light, normals) - face.image)[face.mask]
    energy = shading_energy(face.coarse, shaded(face))
    torch.testing.assert_close(energy, residual.square().mean())
    difference = (face.depth - face.coarse)[face.mask]
    torch.testing.assert_close(
        fidelity(face.depth, face.coarse, face.mask), difference.square().mean()
    )
    curvature = laplacian(face.depth, face.mask)[five_point_interior(face.mask)]
    torch.testing.assert_close(smoothness(face.depth, face.mask), curvature.abs().mean())


def test_a_plane_is_perfectly_smooth():
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    plane = (2 * row - 3 * column)[None, None]
    mask = torch.ones_like(plane, dtype=torch.bool)
    assert smoothness(plane, mask) == 0
    bumped = plane.clone()
    bumped[..., 4, 4] += 1
    assert smoothness(bumped, mask).item() == pytest.approx(8 / (6 * 7))


def test_total_is_the_weighted_sum_with_the_paper_s_weights(face):
    terms = criterion(face, face.depth)
    expected = terms.shading + 5e-3 * terms.fidelity + terms.smoothness
    torch.testing.assert_close(terms.total, expected)
    other = criterion(face, face.depth, shading=2.0, fidelity=3.0, smoothness=5.0)
    assert other[1:] == terms[1:]
    torch.testing.assert_close(
        other.total, 2 * terms.shading + 3 * terms.fidelity + 5 * terms.smoothness
    )


def test_units(face):
    terms = criterion(face, face.depth)
    mm = face.mm_per_pixel
    energy = shading_energy(face.depth, shaded(face))
    torch.testing.assert_close(terms.shading, energy / INTENSITY_UNIT**2)
    torch.testing.assert_close(
        terms.fidelity, fidelity(face.depth, face.coarse, face.mask) / (DEPTH_UNIT * mm[0]) ** 2
    )
    # atol: rounding of a depth of thousands of units, summed over five pixels
    torch.testing.assert_close(
        terms.smoothness,
        smoothness(face.depth, face.mask) / (DEPTH_UNIT * mm[0]),
        rtol=1e-3,
        atol=0,
    )


def test_loss_does_not_depend_on_the_unit_of_length(face):
    scaled = face._replace(
        coarse=2 * face.coarse, depth=2 * face.depth, mm_per_pixel=2 * face.mm_per_pixel
    )
    torch.testing.assert_close(criterion(scaled, scaled.depth), criterion(face, face.depth))


def test_loss_of_a_batch_is_the_mean_of_its_items(face):
    rough = face.depth + 0.3 * face.wrinkled
    double = face._replace(
        **{name: torch.cat([value] * 2) for name, value in face._asdict().items()}
    )
    both = criterion(double, torch.cat([face.depth, rough]))
    one, two = criterion(face, face.depth), criterion(face, rough)
    for together, first, second in zip(both, one, two, strict=True):
        torch.testing.assert_close(together, (first + second) / 2)


def test_gradient():
    face = wrinkled_face(10)
    face = face._replace(
        **{k: v.double() for k, v in face._asdict().items() if v.is_floating_point()}
    )
    generator = torch.Generator().manual_seed(0)
    # Away from the kink of the L1 norm, as a random surface is.
    depth = face.depth + torch.randn(face.depth.shape, generator=generator, dtype=torch.float64)
    assert gradcheck(lambda z: criterion(face, z).total, depth.requires_grad_())


def test_nan_in_the_background_reaches_neither_value_nor_gradient():
    face = wrinkled_face(32)
    coarse = torch.where(face.mask, face.coarse, torch.nan)
    depth = torch.where(face.mask, face.depth, torch.nan).requires_grad_()
    terms = criterion(face._replace(coarse=coarse), depth)
    terms.total.backward()
    torch.testing.assert_close(terms, criterion(face, face.depth))
    assert depth.grad.isfinite().all() and (depth.grad[~face.mask] == 0).all()


def test_the_units_balance_the_terms(face):
    """The numbers in the docstring of DEPTH_UNIT."""

    def minimum(**units):
        return refine_depth(face.coarse, shaded(face), CriterionWeights(**units))

    def error(depth):
        # abs: as many digits as the docstring has
        return pytest.approx(normal_error(depth, face, face.mask), abs=0.1)

    refined = minimum()
    assert error(face.coarse) == 1.4
    assert error(refined) == 1.3
    assert error(minimum(intensity_unit=1.0, depth_unit=1.0)) == 2.1
    assert error(minimum(intensity_unit=1 / 255, depth_unit=1.0)) == 2.7
    # Both numbers above are means over the face; this is where there is something to recover.
    before = normal_error(face.coarse, face, face.wrinkled)
    assert normal_error(refined, face, face.wrinkled) < 0.65 * before


def test_sobolev_gradient_damps_fast_waves_by_the_law_it_states():
    """Two waves of equal height: their ratio afterwards is that of 1 / (cutoff^2 + k^2)."""
    column = torch.arange(512.0, dtype=torch.float64)
    slow, fast, cutoff = 2 * math.pi / 64, 2 * math.pi / 8, 0.2
    waves = torch.stack([torch.sin(slow * column), torch.sin(fast * column)])
    gradient = waves.sum(0).expand(1, 1, 512, 512)
    filtered = sobolev_gradient(gradient, cutoff)[0, 0, 256, 128:384]
    heights = torch.linalg.lstsq(waves[:, 128:384].T, filtered[:, None]).solution[:, 0]
    expected = (cutoff**2 + fast**2) / (cutoff**2 + slow**2)
    assert heights[0] / heights[1] == pytest.approx(expected, rel=0.03)


def test_sobolev_gradient_keeps_the_size_and_descends():
    """Positive definite: a step along it lowers the criterion whose gradient it filters."""
    gradient = torch.randn(2, 1, 32, 24, dtype=torch.float64)
    filtered = sobolev_gradient(gradient, 0.2)
    assert filtered.shape == gradient.shape
    assert filtered.square().mean() == pytest.approx(gradient.square().mean().item())
    assert ((filtered * gradient).sum(dim=(1, 2, 3)) > 0).all()
