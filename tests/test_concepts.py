import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facerecon.views import concepts

PICTURES = [np.full((4, 4, 3), shade) for shade in (0.1, 0.3, 0.5, 0.7, 0.9)]
MAPS = [np.full((4, 4), shade) for shade in (0.6, 0.5, 0.3)]
ACROSS = np.linspace(-70, 70, 141)


@pytest.mark.parametrize(
    "drawing",
    [
        concepts.setup,
        lambda: concepts.face_equation(PICTURES),
        concepts.synthetic_photograph,
        concepts.feedback_loop,
        concepts.forward_and_backward,
        lambda: concepts.light_times_albedo(*MAPS),
        concepts.two_detail_stages,
        concepts.pipeline,
        lambda: concepts.depth_error(ACROSS, 60 * np.exp(-((ACROSS / 60) ** 2))),
    ],
)
def test_a_drawing_is_vectors_and_nothing_leaves_it(drawing):
    figure = drawing()
    assert ET.fromstring(figure._repr_svg_()).tag.endswith("svg")
    figure.canvas.draw()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    for text in (text for axis in figure.axes for text in axis.texts):
        box = text.get_window_extent(renderer)
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
        assert text.get_fontsize() >= 8
