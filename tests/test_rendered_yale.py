import numpy as np

from facerecon.evaluation.rendered_yale import LAMPS, rendered_person
from facerecon.synthetic.world import SyntheticWorld


def test_the_lamps_light_the_side_that_they_stand_on(model):
    person, normals = rendered_person(SyntheticWorld(model), seed=3)
    assert person.images.shape == (len(LAMPS), *normals.shape[:2]) and person.lights == LAMPS
    facing = normals[..., 2] > 0.3
    np.testing.assert_allclose(np.linalg.norm(normals[facing], axis=1), 1, atol=1e-4)
    for name, image, toward in zip(LAMPS, person.images, person.directions, strict=True):
        arriving = np.maximum(normals @ toward, 0)
        assert np.corrcoef(arriving[facing], image[facing])[0, 1] > 0.5, name
