"""Light: shading against NumPy, highlights, ambient occlusion and shadow maps against geometry."""

import math

import numpy as np
import pytest
import torch

from facerecon.synthetic.config import LightConfig
from facerecon.synthetic.illumination import (
    ambient_occlusion,
    highlight,
    irradiance,
    sample_light,
    simple_irradiance,
    visibility,
)


@pytest.fixture
def normals(generator):
    vectors = torch.randn(5, 3, 6, 6, generator=generator)
    vectors[:, 2].abs_()
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_irradiance_is_environment_plus_lamps(normals, generator):
    light = sample_light(LightConfig(), 5, 3, generator)
    occlusion, shadow = torch.rand(5, 1, 6, 6), torch.rand(5, 1, 6, 6)
    found = irradiance(light, normals, occlusion, shadow)
    for item in range(5):
        n = normals[item].numpy().reshape(3, -1)
        x, y, z = n
        basis = [np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
        around = np.maximum(light.environment[item].numpy() @ np.array(basis), 0.02)
        key = np.maximum(light.key_direction[item].numpy() @ n, 0)
        fill = np.maximum(light.fill_direction[item].numpy() @ n, 0)
        open_, lit = occlusion[item].numpy().ravel(), shadow[item].numpy().ravel()
        for c in range(3):
            expected = around * open_ * light.tint[item, c].item()
            expected = expected + key * lit * light.key[item, c].item()
            expected = expected + fill * light.fill[item, c].item()
            np.testing.assert_allclose(found[item, c].numpy().ravel(), expected, atol=1e-5)


def test_directions_are_unit_and_grey_light_has_no_tint(generator):
    light = sample_light(LightConfig(), 50, 1, generator)
    for direction in (light.key_direction, light.fill_direction):
        torch.testing.assert_close(direction.norm(dim=1), torch.ones(50))
    assert (light.tint == 1).all() and light.key.shape == (50, 1)


@pytest.mark.parametrize("p_ggx", [0.0, 1.0])
def test_highlights_peak_at_one_where_the_normal_halves_the_angle(generator, p_ggx):
    config = LightConfig(p_ggx=p_ggx, key_azimuth=(-0.8, 0.8), key_elevation=(-0.5, 0.8))
    light = sample_light(config, 20, 1, generator)
    half = light.key_direction + torch.tensor([0.0, 0.0, 1.0])
    half = half / half.norm(dim=1, keepdim=True)
    at = highlight(light, half[:, :, None, None])
    assert (at > 0.95).all() and (at < 1.3).all()  # Schlick's term adds a little
    away = torch.linalg.cross(half, torch.tensor([[0.0, 1.0, 0.0]]).expand(20, -1))
    aside = highlight(light, away[:, :, None, None])
    assert (aside < 0.35).all()


def box(width: float, height: float, z: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A rectangle that faces the viewer: four points and two triangles."""
    w, h = width / 2, height / 2
    points = torch.tensor([[-w, -h, z], [w, -h, z], [w, h, z], [-w, h, z]])
    return points, torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_a_plate_casts_its_shadow_where_geometry_says():
    """A plate 20 mm in front of a wall, a lamp at 45 degrees from above: shifted by 20 mm."""
    wall, triangles = box(200, 200, 0.0)
    plate, _ = box(30, 30, 20.0)
    vertices = torch.cat([wall, plate])[None]
    faces = torch.cat([triangles, triangles + 4])
    direction = torch.tensor([[0.0, math.sqrt(0.5), math.sqrt(0.5)]])
    y = torch.linspace(-80, 80, 161)
    points = torch.stack([torch.zeros_like(y), y, torch.zeros_like(y)], 1)[None]
    lit = visibility(vertices, faces, points, direction, 256, 1.0, torch.tensor(0.2))[0]
    dark = y[lit < 0.5]
    # The plate spans y in [-15, 15]; light falls downward onto [-35, -5].
    assert dark.min() == pytest.approx(-35, abs=2) and dark.max() == pytest.approx(-5, abs=2)
    assert (lit[(y < -40) | (y > 0)] > 0.99).all()


def test_occlusion_of_open_and_closed_places():
    """A plain sees its whole sky; a point at the foot of a high wall sees half of it."""
    n = 21
    ramp = torch.linspace(-100, 100, n)
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    floor = torch.stack([x, y, torch.zeros_like(x)], 2).flatten(0, 1)
    index = torch.arange(n * n).view(n, n)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = torch.cat(
        [torch.stack([a, b, c], 2).flatten(0, 1), torch.stack([a, c, d], 2).flatten(0, 1)]
    )
    open_plain = ambient_occlusion(floor, triangles)
    assert (open_plain > 0.98).all()
    # A wall of both orientations, 1000 mm high and wide, rising toward the viewer at y = 3.
    high = torch.tensor([[-500.0, 3, 0], [500, 3, 0], [500, 3, 1000], [-500, 3, 1000]])
    sides = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]]) + len(floor)
    beside = ambient_occlusion(torch.cat([floor, high]), torch.cat([triangles, sides]), texels=512)
    foot = index[n // 2, n // 2]  # at the origin, 3 mm from the wall
    assert beside[foot] == pytest.approx(0.5, abs=0.08)


def test_a_face_is_darkest_in_its_creases(model):
    seen = ambient_occlusion(model.mean, model.triangles)
    landmarks = model.landmarks
    assert seen.min() >= 0 and seen.max() <= 1
    assert seen[landmarks[30]] > 0.9  # tip of the nose
    assert seen[landmarks[33]] < 0.9 * seen[landmarks[30]]  # below it
    assert seen[landmarks[39]] < 0.9 * seen[landmarks[30]]  # corner of the eye


@pytest.mark.parametrize("channels", [1, 3])
def test_compiled_shading_is_the_tensor_operations(generator, channels):
    light = sample_light(LightConfig(p_specular=1.0), 6, channels, generator)
    normals = torch.nn.functional.normalize(torch.randn(6, 3, 20, 30, generator=generator), dim=1)
    openness, shadow = torch.rand(2, 6, 1, 20, 30, generator=generator)

    def shaded(normals: torch.Tensor) -> list[torch.Tensor]:
        return [
            irradiance(light, normals, openness, shadow),
            irradiance(light, normals),
            simple_irradiance(light, normals, 0.2),
            highlight(light, normals),
        ]

    assert light.roughness.min() == 0 < light.roughness.max()  # both kinds of highlight
    with_gradient = shaded(normals.clone().requires_grad_())  # which the loops do not have
    for found, expected in zip(shaded(normals), with_gradient, strict=True):
        assert expected.requires_grad and not found.requires_grad
        torch.testing.assert_close(found, expected.detach(), atol=3e-5, rtol=1e-5)
