"""The portraits: there, of people, and one face each."""

import pytest

from facerecon.detection.detect import detect_faces
from facerecon.views.portraits import CREDITS, people, portraits


def test_each_portrait_shows_a_face():
    images = portraits()
    assert images.keys() == CREDITS.keys()
    for image in images.values():
        assert image.ndim == 3 and image.shape[2] == 3 and 0 <= image.min() < image.max() <= 1
        assert len(detect_faces(image)) == 1


def test_six_photographs_of_three_persons():
    images = people()
    assert len(images) == 6 and len({name.split()[0] for name in images}) == 3
    smiling = people("smiling")
    assert len(smiling) == 3 and all(name.endswith(" smiling") for name in smiling)
    assert smiling.keys() | people("neutral").keys() == images.keys()
    for image in images.values():
        assert len(detect_faces(image)) == 1
    with pytest.raises(ValueError, match="'frowning'"):
        people("frowning")
