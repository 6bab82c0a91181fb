"""The two portraits: there, of people, and one face each."""

from facerecon.detection.detect import detect_faces
from facerecon.views.portraits import CREDITS, portraits


def test_each_portrait_shows_a_face():
    images = portraits()
    assert images.keys() == CREDITS.keys()
    for image in images.values():
        assert image.ndim == 3 and image.shape[2] == 3 and 0 <= image.min() < image.max() <= 1
        assert len(detect_faces(image)) == 1
