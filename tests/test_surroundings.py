"""Faces without their usual surroundings: what is left of them, and that all else stays."""

from dataclasses import replace

import pytest
import torch

from facerecon.synthetic.config import SurroundingsConfig, SyntheticConfig
from facerecon.synthetic.sampling import apart
from facerecon.synthetic.surroundings import put_backdrop, sample_surroundings
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import COARSE_PRESETS, SPARSE_WORLD


@pytest.fixture(scope="module")
def world(model):
    return SyntheticWorld(model, SyntheticConfig(size=96))


def photographed(world, count=4, seed=3, **knobs):
    """The same people with other surroundings; lens and noise left out."""
    config = world.config
    around = replace(config.surroundings, **knobs)
    world.config = replace(config, surroundings=around).plain()
    try:
        world.config = replace(world.config, hair=config.hair, scene=config.scene)
        return world.render(count, world.generator(seed))
    finally:
        world.config = config


def test_a_generator_apart_leaves_the_other_where_it_is(generator):
    before = generator.get_state()
    first, again, other = (apart(generator, kind) for kind in ("a", "a", "b"))
    assert torch.equal(generator.get_state(), before)
    numbers = [torch.rand(3, generator=each) for each in (first, again, other)]
    assert torch.equal(numbers[0], numbers[1]) and not torch.equal(numbers[0], numbers[2])
    generator.manual_seed(5)
    assert not torch.equal(torch.rand(3, generator=apart(generator, "a")), numbers[0])


def test_nothing_is_unusual_by_default(generator):
    around = sample_surroundings(SurroundingsConfig(), 50, generator)
    for chosen in (around.alone, around.cast, around.slip, around.replaced):
        assert not chosen.any()
    assert (around.body_turn == 0.35).all()


def test_shares_are_the_configurations(generator):
    config = SurroundingsConfig(p_alone=0.2, p_cast=0.1, p_slipped=0.3, p_backdrop=0.4)
    around = sample_surroundings(config, 5000, generator)
    shares = [
        around.alone.float().mean(),
        around.cast.float().mean(),
        around.slip.any(1).float().mean(),
        around.replaced.float().mean(),
    ]
    assert shares == pytest.approx([0.2, 0.1, 0.3, 0.4], abs=0.03)


def test_only_the_surroundings_of_a_face_change(world):
    usual, alone = photographed(world), photographed(world, p_alone=1.0)
    assert torch.equal(usual.r, alone.r)
    for name in ("albedo", "shading", "shadow"):
        assert torch.equal(getattr(usual, name), getattr(alone, name))
    assert not torch.equal(usual.image, alone.image)


def test_an_alone_face_stands_before_its_background(world):
    backdrop = photographed(world, p_alone=1.0, p_backdrop=1.0).image
    usual = photographed(world, p_backdrop=1.0)
    outside = ~usual.rendering.mask
    for picture, seen in zip(backdrop, outside, strict=True):
        # One even grey, but for the noise of some backdrops, where there were hair and shoulders.
        values = picture[seen]
        assert (values - values.median()).abs().quantile(0.5) < 0.1
    body = (usual.image - backdrop).abs()[outside]
    assert (body > 0.05).float().mean() > 0.1


def test_cuts_take_ears_neck_and_rims_but_no_eyes(world, model, generator):
    config = SurroundingsConfig(p_alone=1.0)
    faces = world.render(40, generator)
    around = sample_surroundings(config, 40, generator)
    keep = world.scissors.keep(around, faces.rendering.fragments, faces.rendering.pncc)
    mask = faces.rendering.mask
    left = (keep & mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
    assert left.min() < 0.7 and left.max() > 0.95
    triangle = faces.rendering.fragments.triangle[:, None].clamp(min=0)
    eyes = (model.regions["eye_left"] > 0.5)[model.triangles].all(1)[triangle] & mask
    assert (keep & eyes).sum() / eyes.sum() > 0.9
    ears = world.scissors.ears[triangle] & mask
    assert (keep & ears).sum() / ears.sum() < 0.6
    nobody = sample_surroundings(SurroundingsConfig(), 40, generator)
    assert world.scissors.keep(nobody, faces.rendering.fragments, faces.rendering.pncc).all()


def test_backdrops_are_black_white_or_grey(generator):
    around = sample_surroundings(SurroundingsConfig(p_backdrop=1.0), 300, generator)
    behind = put_backdrop(torch.full((300, 1, 4, 4), 0.37), around).clamp(0, 1)
    even = around.grain.flatten() == 0
    level = behind[even].flatten(1)
    assert (level.std(1) < 1e-6).all()
    for value in (0.0, 1.0):
        assert 0.2 < (level[:, 0] == value).float().mean() < 0.45
    assert (behind[~even].flatten(1).std(1) > 0).any()
    untouched = sample_surroundings(SurroundingsConfig(), 2, generator)
    assert torch.equal(put_backdrop(behind[:2], untouched), behind[:2])


def test_a_cast_has_one_albedo(world):
    cast = photographed(world, p_cast=1.0)
    for albedo, mask in zip(cast.albedo, cast.rendering.mask, strict=True):
        assert albedo[mask].std() < 1e-6 and albedo[mask].mean() > 0.05
    usual = photographed(world)
    mean = [a[m].mean() for a, m in zip(usual.albedo, usual.rendering.mask, strict=True)]
    even = [a[m].mean() for a, m in zip(cast.albedo, cast.rendering.mask, strict=True)]
    torch.testing.assert_close(torch.stack(even), torch.stack(mean), atol=1e-3, rtol=0)


def test_slipped_skin_has_the_same_shape(world):
    usual, slipped = world.render(4, world.generator(3)), None
    config = world.config
    world.config = replace(config, surroundings=SurroundingsConfig(p_slipped=1.0))
    slipped = world.render(4, world.generator(3))
    world.config = config
    assert torch.equal(usual.fine_normals, slipped.fine_normals)
    assert (usual.albedo - slipped.albedo).abs().mean() > 1e-3


def test_shoulders_follow_the_head_by_their_share(world):
    r = torch.zeros(1, world.model.n_coefficients + 6)
    r[0, world.model.n_coefficients + 1] = 1.0  # yaw
    pictures = []
    for share in (0.0, 1.0):
        config = world.config
        world.config = replace(config, surroundings=SurroundingsConfig(body_turn=(share, share)))
        pictures.append(world.render(1, world.generator(0), r).image)
        world.config = config
    moved = (pictures[0] - pictures[1]).abs()[0, 0].amax(1) > 0.05
    assert moved.any() and not moved[:40].any()  # below the face alone


def test_the_preset_trains_on_sparse_faces():
    assert COARSE_PRESETS["cpu"].data == SPARSE_WORLD
    assert COARSE_PRESETS["quick"].data == SyntheticConfig()
