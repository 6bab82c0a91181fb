"""The texture chart: where texels lie on the mean face, and sampling at pixels."""

import pytest
import torch

from facerecon.camera import to_pixels
from facerecon.rasterize import rasterize
from facerecon.synthetic.chart import Chart


@pytest.fixture(scope="module")
def chart(model):
    return Chart(model, 128)


def test_a_texture_of_positions_shows_the_mean_face(chart, model):
    """The chart's own position map, sampled at pixels, gives back where the pixels lie."""
    projected = to_pixels(model.mean[None], torch.zeros(1, 6), 120)
    fragments = rasterize(projected, model.triangles, 120, 120)
    texture = chart.position.permute(2, 0, 1)[None]
    found = chart.sample(texture, chart.at(fragments))[0].permute(1, 2, 0)
    corners = model.mean[model.triangles[fragments.triangle[0].clamp(min=0)]]
    expected = (corners * fragments.barycentric[0][..., None]).sum(2)
    seen = fragments.triangle[0] >= 0
    error = (found - expected).norm(dim=2)[seen]
    # A texel is about 2 to 3 mm wide; at the border of the chart it mixes with nothing.
    assert error.median() < 0.3 and (error < 3).float().mean() > 0.93
    assert (found[~seen] == 0).all()


def test_every_landmark_of_the_skin_has_a_texel(chart, model):
    texels = chart.position[chart.mask]
    skin = model.mean[model.landmarks[[8, 19, 24, 27, 30, 31, 35, 48, 54, 57]]]
    assert torch.cdist(skin, texels).amin(1).max() < 4
    assert 0.3 < chart.mask.float().mean() < 0.95


def test_the_chart_has_the_orientation_of_the_uv_map(chart, model):
    """Right is larger u, down is smaller v, and the face fills the square."""
    inside = chart.coordinates.abs().amax(1) <= 1
    column, row = chart.coordinates[inside].unbind(1)
    for axis, along in ((column, model.uv[inside, 0]), (row, -model.uv[inside, 1])):
        assert torch.corrcoef(torch.stack([axis, along]))[0, 1] > 0.999
        assert axis.max() - axis.min() > 1.9
