import xml.etree.ElementTree as ET

import numpy as np
import pytest

from facerecon.views import concepts

PICTURES = [np.full((4, 4, 3), shade) for shade in (0.1, 0.3, 0.5, 0.7, 0.9)]


@pytest.mark.parametrize(
    "drawing",
    [
        concepts.setup,
        lambda: concepts.face_equation(PICTURES),
        concepts.synthetic_photograph,
        concepts.feedback_loop,
        concepts.forward_and_backward,
    ],
)
def test_a_drawing_is_vectors_and_nothing_leaves_it(drawing):
    figure = drawing()
    assert ET.fromstring(figure._repr_svg_()).tag.endswith("svg")
    figure.canvas.draw()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    (axis,) = figure.axes
    for text in axis.texts:
        box = text.get_window_extent(renderer)
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
        assert text.get_fontsize() >= 8
