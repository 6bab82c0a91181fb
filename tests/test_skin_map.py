"""Skin by color, on made pictures."""

import pytest
import torch

from facerecon.skin_map import hair_by_color, skin_by_color

SKIN = torch.tensor([0.8, 0.6, 0.5])


def picture(size: int = 60) -> torch.Tensor:
    """Skin under a light that falls off, with some noise."""
    generator = torch.Generator().manual_seed(0)
    light = torch.linspace(0.3, 1.2, size)
    rgb = SKIN.view(1, 3, 1, 1) * light.view(1, 1, 1, size)
    return (rgb + 0.01 * torch.randn(1, 3, size, size, generator=generator)).clamp(0, 1)


def lower_half(size: int = 60) -> torch.Tensor:
    bare = torch.zeros(1, 1, size, size, dtype=torch.bool)
    bare[..., size // 2 :, :] = True
    return bare


def test_hair_and_hats_are_no_skin_and_shadows_are():
    rgb = picture()
    rgb[..., :10, 20:40] = torch.tensor([0.3, 0.3, 0.32]).view(3, 1, 1)  # grey hair
    rgb[..., :10, 40:] = torch.tensor([0.2, 0.4, 0.25]).view(3, 1, 1)  # a green hat
    weight = skin_by_color(rgb, lower_half(), 1.0)[0, 0]
    assert weight[2:8, 23:37].max() < 0.3
    assert weight[2:8, 43:57].max() < 0.1
    assert weight[15:, 3:-3].min() > 0.6


def test_glasses_on_the_bare_skin_have_no_say():
    rgb = picture()
    rgb[..., 35:40, :] = 0.1
    weight = skin_by_color(rgb, lower_half(), 1.0)[0, 0]
    assert weight[37].max() < 0.3
    assert weight[45:].min() > 0.6


def test_grey_photographs_have_skin_everywhere():
    grey = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(1))
    weight = skin_by_color(grey.expand(-1, 3, -1, -1), lower_half(), 1.0)
    assert weight.min() == 1


def test_without_bare_skin_nothing_is_known():
    weight = skin_by_color(picture(), torch.zeros(1, 1, 60, 60, dtype=torch.bool), 1.0)
    assert weight.min() == 1


@pytest.mark.parametrize(
    ("color", "is_hair"),
    [
        ((0.05, 0.05, 0.06), True),  # black
        ((0.35, 0.22, 0.12), True),  # brown
        ((0.45, 0.2, 0.1), True),  # red
        ((0.5, 0.5, 0.5), True),  # grey
        ((0.25, 0.5, 0.2), False),  # leaves
        ((0.3, 0.4, 0.6), False),  # a blue wall
        ((0.95, 0.55, 0.75), False),  # a petal
        ((1.0, 1.0, 1.0), False),  # a white wall
    ],
)
def test_hair_is_told_from_other_things_by_color(color, is_hair):
    rgb = 0.7 * picture()
    rgb[..., :15, :] = torch.tensor(color).view(3, 1, 1)
    weight = hair_by_color(rgb, lower_half(), 1.0)[0, 0, 3:10]
    assert weight.min() > 0.7 if is_hair else weight.max() < 0.5


def test_colored_light_need_not_widen_the_colors_of_skin():
    rgb = picture()
    rgb[:, 0, :, :30] *= 1.5  # a redder half
    green = torch.tensor([0.5, 0.62, 0.5]).view(3, 1, 1)
    rgb[..., :10, :] = green
    wide, narrow = (skin_by_color(rgb, lower_half(), 1.0, *most) for most in ((), (0.08,)))
    assert wide[0, 0, 5, 30] > 0.5 > 0.3 > narrow[0, 0, 5, 30]
