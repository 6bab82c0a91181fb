"""A face under sliders of light, without a hand or a browser."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from facerecon.lighting import shade
from facerecon.sfs import Shading
from facerecon.views.relighter import (
    DARKEST_SHADING,
    FADE,
    LIMITS,
    RIM,
    VIEWS,
    Relighter,
    ball_normals,
    describe_light,
    faded,
)

pytest.importorskip("ipywidgets")
LIGHT = torch.tensor([[0.4, 0.2, 0.1, 0.5]])


@pytest.fixture
def relighter() -> Relighter:
    """A ball of albedo 0.6, photographed under LIGHT; colors are 0.9, 1 and 0.8 of the grey."""
    normals, mask = ball_normals(64)
    albedo = 0.6 * mask
    shading = shade(torch.ones_like(albedo), LIGHT, normals) * mask
    grey = (albedo * shading)[0, 0].numpy()
    photo = grey[..., None] * np.array([0.9, 1.0, 0.8], np.float32)
    return Relighter(photo, normals, mask, Shading(LIGHT, torch.zeros(1, 2), albedo, shading))


def face_of(relighter: Relighter, picture: np.ndarray) -> np.ndarray:
    """The pixels of the face, without those that the small ball hides."""
    seen = relighter.mask[0, 0].numpy().copy()
    seen[48:, 48:] = False
    return picture[seen]


def test_a_light_survives_its_description():
    for light in ([0.3, -0.5, 0.2, 0.4], [0.0, 0.0, 0.0, 1.0], [0.2, 0.0, -0.7, 0.0]):
        right, above, strength, ambient = describe_light(torch.tensor(light))
        right, above = math.radians(right), math.radians(above)
        back = [
            ambient,
            strength * math.sin(right) * math.cos(above),
            strength * math.sin(above),
            strength * math.cos(right) * math.cos(above),
        ]
        np.testing.assert_allclose(back, light, atol=1e-6)
    assert describe_light(torch.tensor([0.4, 0.0, 0.0, 0.0])) == (0.0, 0.0, 0.0, pytest.approx(0.4))


def test_it_begins_with_the_photograph(relighter):
    torch.testing.assert_close(relighter.light, LIGHT, atol=1e-5, rtol=0)
    found = face_of(relighter, relighter.picture())
    np.testing.assert_allclose(found, face_of(relighter, relighter.photo), atol=1e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_a_light_from_the_right_brightens_the_right(relighter, view):
    relighter.view.value = view
    relighter.sliders["right °"].value = 80
    picture = relighter.picture()
    assert picture.shape == (64, 64, 3) and picture.min() >= 0 and picture.max() <= 1
    assert picture[32, 52].mean() > 1.5 * picture[32, 12].mean()
    assert (picture[2, 2] == (relighter.photo[2, 2] if view == VIEWS[0] else 1)).all()


def test_the_ratio_image_is_the_photograph_under_the_new_light(relighter):
    relighter.sliders["above °"].value = 40
    relighter.sliders["ambient"].value = 0.6
    new = 0.6 * shade(torch.ones(1, 1, 64, 64), relighter.light, relighter.normals).clamp(min=0)
    expected = new[0, 0].numpy()[..., None] * np.array([0.9, 1.0, 0.8])
    bright = DARKEST_SHADING / 0.6  # of the albedo: less light is neither divided out nor given
    lit = (relighter.found.shading[0, 0].numpy() > bright) & (new[0, 0].numpy() > DARKEST_SHADING)
    # Toward the outline the light is held back.
    lit &= ndimage.distance_transform_edt(relighter.mask[0, 0].numpy()) >= RIM * 64
    assert face_of(relighter, lit).mean() > 0.5
    difference = np.abs(relighter.picture() - expected.clip(0, 1)).max(2)
    assert face_of(relighter, np.where(lit, difference, 0)).max() < 1e-5


def test_light_beyond_the_face_fades_to_that_of_the_photograph():
    rows, columns = np.mgrid[:100, :100] - 50.0
    mask = rows**2 + columns**2 < 20**2
    ratio = np.where(mask, 0.2, 7.0)  # what stands outside of the face must not matter
    line = faded(ratio, mask)[50, 50:]
    assert (line[:20] == 0.2).all() and line[20] < 0.25
    assert (np.diff(line) >= -1e-6).all() and np.diff(line).max() < 0.12
    assert (line[20 + math.ceil(FADE * 100) :] == 1).all()


def test_a_bright_outline_does_not_end_in_a_step():
    mask = np.zeros((101, 101), bool)
    mask[:, 30:71] = True
    ratio = np.full((101, 101), 6.0, np.float32)
    line = faded(ratio, mask)[50, 50:]
    assert line[0] == pytest.approx(6, rel=1e-3) and line[-1] == 1
    assert np.abs(np.diff(np.log(line))).max() < 0.5 * np.log(6 / 1.5)
    assert np.diff(line).max() < 1e-3  # from the middle of the face outward


def test_moving_a_slider_changes_the_shown_picture(relighter):
    relighter.live()
    before = bytes(relighter.image.value)
    relighter.sliders["right °"].value = -70
    after = np.asarray(Image.open(io.BytesIO(relighter.image.value)))
    assert bytes(relighter.image.value) != before
    np.testing.assert_allclose(after / 255, relighter.picture(), atol=0.5 / 255 + 1e-6)
    relighter.reset()
    assert bytes(relighter.image.value) == before


def test_sliders_start_inside_their_limits(relighter):
    for name, (low, high, _) in LIMITS.items():
        assert low <= relighter.sliders[name].value <= high


def test_a_second_order_light_is_refused(relighter):
    found = relighter.found._replace(light=torch.zeros(1, 9))
    with pytest.raises(ValueError, match="first-order"):
        Relighter(relighter.photo, relighter.normals, relighter.mask, found)


def test_normals_of_the_ball_are_unit_and_face_the_viewer():
    normals, inside = ball_normals(31)
    length = normals.norm(dim=1, keepdim=True)
    torch.testing.assert_close(length, inside.float(), atol=1e-6, rtol=0)
    assert normals[0, :, 15, 15].tolist() == [0, 0, 1]
    assert normals[0, 0, 15, 28] > 0.8 and normals[0, 1, 2, 15] > 0.8
