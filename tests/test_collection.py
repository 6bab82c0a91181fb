"""Many photographs of one person: the person stays, the rest changes."""

import pytest
import torch

from facerecon.synthetic.collection import photograph_collection
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig


@pytest.fixture(scope="module")
def photographs(model):
    world = SyntheticWorld(model, SyntheticConfig(size=96))
    identity = torch.linspace(-1, 1, model.n_identity)
    return photograph_collection(world, identity, 4, seed=3), world, identity


def test_the_person_stays_and_the_rest_changes(photographs, model):
    shots, _, identity = photographs
    r = torch.cat([shot.r for shot in shots])
    assert torch.equal(r[:, : model.n_identity], identity.expand(4, -1))
    assert (r[0, model.n_identity :] == 0).all()
    others = r[1:, model.n_identity :]
    assert (others[0] != others[1]).any() and others[:, -6:].abs().amax(1).min() > 0.1
    activation = others[:, :-6].abs()
    assert 0 < activation.max() < 4
    assert not torch.equal(shots[1].shading, shots[2].shading)


def test_the_skin_is_the_same_wherever_it_is_seen(photographs, model):
    """Albedo at the landmarks of the nose, read off two photographs."""
    shots, _, _ = photographs
    values = []
    for shot in shots:
        column, row, _ = shot.rendering.projected[0, model.landmarks[27:31]].round().long().T
        inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96)
        values.append(torch.where(inside, shot.albedo[0, 0, row % 96, column % 96], torch.nan))
    spread = torch.stack(values)
    known = spread.isfinite().all(0)
    assert known.sum() >= 3
    assert (spread[1:] - spread[:1])[:, known].abs().max() < 0.1


def test_the_same_seed_gives_the_same_photographs(photographs):
    shots, world, identity = photographs
    again = photograph_collection(world, identity, 2, seed=3)
    other = photograph_collection(world, identity, 2, seed=4)
    assert torch.equal(again[1].image, shots[1].image)
    assert not torch.equal(other[1].image, shots[1].image)


def test_the_camera_exposes_for_the_face(photographs):
    """The mean of the face is the middle of the cameras' range, but for the tone curve."""
    shots, _, _ = photographs
    for shot in shots:
        mean = float(shot.image[shot.rendering.mask].mean())
        assert 0.35 < mean < 0.55, mean
