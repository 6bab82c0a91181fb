"""Recovered light against a known one: planted answers, robustness and the command."""

import json

import numpy as np
import pytest
import torch

from facerecon.appearance import estimate_light_and_albedo, model_maps
from facerecon.camera import N_POSE
from facerecon.cli import main
from facerecon.commands.outcome import OK
from facerecon.evaluation.light import (
    ALBEDOS,
    LitFaces,
    albedo_panels,
    albedo_rows,
    albedo_table,
    average_skin,
    direction_error,
    fitted_light,
    light_errors,
    light_rows,
    light_table,
    lit_faces,
    shading_error,
    slopes_along_normals,
    world_config,
)
from facerecon.lighting import shade
from facerecon.synthetic.world import SyntheticWorld

LIGHT = torch.tensor([[0.5, 0.15, 0.2, 0.4]])


@pytest.fixture(scope="module")
def planted(model):
    """The mean face with its mean albedo under a known first-order light."""
    surface = model_maps(model, torch.zeros(1, model.n_coefficients + N_POSE), 100)
    shading = shade(torch.ones_like(surface.albedo_mean), LIGHT, surface.normals) * surface.mask
    albedo = surface.albedo_mean
    return LitFaces(albedo * shading, albedo, shading, albedo, surface, surface.bare)


@pytest.mark.parametrize("albedo", ALBEDOS)
def test_a_planted_light_is_found(planted, albedo):
    torch.testing.assert_close(fitted_light(planted, planted.shading), LIGHT, atol=1e-4, rtol=0)
    errors = light_errors(planted, 1, albedo)
    assert errors["direction"] < 0.1 and errors["shading"] < 0.1 and errors["unexplained"] < 0.1


def test_saturated_and_shadowed_pixels_do_not_turn_the_light(planted):
    image = planted.image.clone()
    image[..., 30:45, 30:45] = 1.0  # a highlight
    image[..., 55:75, 50:65] *= 0.3  # a cast shadow, not black
    found = estimate_light_and_albedo(image, planted.surface).light
    assert direction_error(found, LIGHT) < 3
    plain = light_errors(planted._replace(image=image), 1, "known")["direction"]
    assert direction_error(found, LIGHT) < plain  # Eq. (11) alone heeds the shadow


def test_errors_have_planted_answers(planted):
    turned = torch.tensor([[0.5, 0.2, -0.15, 0.4]])
    cosine = (LIGHT[0, 1:] @ turned[0, 1:]) / LIGHT[0, 1:].norm() / turned[0, 1:].norm()
    expected = torch.rad2deg(torch.acos(cosine))
    torch.testing.assert_close(direction_error(turned, LIGHT)[0], expected)
    inside = planted.valid
    assert shading_error(3 * planted.shading, planted.shading, inside) < 1e-4  # any exposure
    level = torch.where(inside, planted.shading, 0.0)
    rms = level[inside].square().mean().sqrt()
    noise = torch.randn(level.shape, generator=torch.Generator().manual_seed(0))
    found = shading_error(planted.shading + 0.1 * rms * noise, planted.shading, inside)
    assert 9 < found < 11


def test_the_lambertian_world_has_the_light_it_states(model):
    world = SyntheticWorld(model, world_config("lambertian", 64))
    generator = world.generator(3)
    drawn = world.render(4, generator, world.sample(4, generator))
    faces = lit_faces(world, 4, 3)
    assert torch.equal(drawn.image, faces.image)
    # The smooth normals of the mesh and those of its depth map differ a little.
    assert direction_error(fitted_light(faces, faces.shading), drawn.light[:, :4]).max() < 6
    rows = light_rows("lambertian", faces)
    assert {(row["albedo"], row["order"]) for row in rows} == {
        (albedo, order) for albedo in ALBEDOS for order in (1, 2)
    }
    assert "lambertian" in light_table(rows)
    with pytest.raises(ValueError, match="worlds are"):
        world_config("sunny")


def test_the_average_of_a_wrong_population_turns_the_light(planted):
    # Skin that brightens upward by a fifth passes for light from above; who knows it is not misled.
    up = planted.surface.normals[:, 1:2]
    albedo = planted.albedo * torch.exp(0.2 * up)
    faces = planted._replace(image=albedo * planted.shading, albedo=albedo, average=albedo)
    wrong = light_errors(faces, 1, "model's")["direction"]
    right = light_errors(faces, 1, "average")["direction"]
    assert right < 0.5 and wrong > 5


def test_slopes_of_an_albedo_that_is_shading():
    normals = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    found = slopes_along_normals(0.3 + normals @ torch.tensor([0.1, -0.2, 0.4]), normals)
    assert [found[n] for n in ("right", "up", "toward")] == pytest.approx(
        [0.1, -0.2, 0.4], abs=1e-5
    )
    assert found["share"] == pytest.approx(1)
    grain = torch.randn(500, generator=torch.Generator().manual_seed(1))
    assert slopes_along_normals(grain, normals)["share"] < 0.05


def test_slopes_of_the_model_and_of_rendered_skin(model):
    world = SyntheticWorld(model, world_config("lambertian", 64))
    average = average_skin(world, 100)
    found = albedo_rows(model, average, 100)
    assert len(found) == 2 + len(model.albedo_basis)
    by_name = {row["albedo"]: row for row in found}
    # Portraits have brighter foreheads than chins; the skin that is rendered does not.
    assert by_name["model's"]["up"] > 0.15 > abs(by_name["average"]["up"])
    assert all(abs(row["right"]) < 0.02 for row in found)  # mean and components are symmetric
    assert "component 10" in albedo_table(found)
    panels = albedo_panels(model, average, 60)
    assert len(panels) == 1 + len(model.albedo_basis)
    shown = panels[0][1] < 1
    for low, high in panels[1:]:
        middle = (low + high)[shown] / 2 - panels[0][1][shown]
        assert np.median(np.abs(middle)) < 1e-5  # both sides of the mean


def test_command(tmp_path, capsys):
    assert main(["evaluate", "light", "--count", "4", "--out", str(tmp_path)]) == OK
    assert "dark skin" in capsys.readouterr().out
    content = json.loads((tmp_path / "light.json").read_text())
    assert {row["world"] for row in content["rows"]} == {"lambertian", "full", "bearded"}
    assert [row["albedo"] for row in content["albedo"][:2]] == ["average", "model's"]
    assert (tmp_path / "light.png").is_file() and (tmp_path / "albedo.png").is_file()
