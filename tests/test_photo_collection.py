"""[36] from photographs to a mesh: nearer to the person than the mean face is."""

import numpy as np
import pytest
import torch

from facerecon.camera import split
from facerecon.detection.detect import NoFaceError
from facerecon.methods.contour import Contour
from facerecon.methods.photo_collection import place_on_photograph, reconstruct_collection
from facerecon.synthetic.collection import photograph_collection
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig


@pytest.fixture(scope="module")
def collection(model):
    world = SyntheticWorld(model, SyntheticConfig(size=200))
    identity = 1.2 * torch.randn(model.n_identity, generator=torch.Generator().manual_seed(1))
    shots = photograph_collection(world, identity, 12, seed=1, color=True)
    return shots, [shot.image[0].permute(1, 2, 0).numpy() for shot in shots], identity


def true_landmarks(model, collection):
    """A predictor that knows the truth, and finds no face in the third photograph."""
    shots, images, _ = collection
    contour, known = Contour(model), {}
    for shot, image in zip(shots, images, strict=True):
        coefficients, pose = split(shot.r, model.n_coefficients)
        seen = contour.march(model.vertices(coefficients), pose)[0]  # the jaw as its outline
        known[id(image)] = shot.rendering.projected[0, seen, :2].double().numpy()

    def predict(image):
        if image is images[2]:
            raise NoFaceError("none")
        return known[id(image)]

    return predict


@pytest.mark.slow
def test_the_template_is_the_person_and_stereo_keeps_it(model, collection):
    _, images, identity = collection
    face = reconstruct_collection(model, images, true_landmarks(model, collection))
    assert face.used == [0, 1, *range(3, 12)] and len(face.fits) == 11
    coefficients = torch.cat([identity, torch.zeros(model.n_expression)])[None]
    true = model.vertices(coefficients)[0].numpy()
    skin = (model.regions["face"] > 0.5).numpy()

    def error(vertices):
        """After a shift and a scale: no photograph tells the size of a head."""
        here, there = (points[skin] - points[skin].mean(0) for points in (vertices, true))
        return np.linalg.norm(here * (here * there).sum() / (here**2).sum() - there, axis=1).mean()

    mean, template, final = map(error, (model.mean.numpy(), face.template, face.vertices))
    assert template < 0.85 * mean and final < mean
    assert np.abs(face.vertices - face.template).max() > 0.05  # the photographs had a say


def test_the_person_is_placed_on_the_landmarks(model, collection):
    _, images, _ = collection
    predict = true_landmarks(model, collection)
    face = reconstruct_collection(model, images, predict, rounds=1)
    projected, crop = place_on_photograph(model, face, 3)
    places = crop.to_image(projected[0, model.landmarks[27:], :2].numpy())
    assert np.linalg.norm(places - predict(images[3])[27:], axis=1).mean() < 6  # of 200 pixels
    with pytest.raises(ValueError):
        place_on_photograph(model, face, 2)


def test_too_few_photographs_are_refused(model, collection):
    with pytest.raises(ValueError, match="only 2 of 3 photographs show a face"):
        reconstruct_collection(model, collection[1][:3], true_landmarks(model, collection))
