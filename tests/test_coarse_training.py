"""CoarseNet's training problem: criterion, batches, and learning from a handful of faces."""

import dataclasses
import itertools
import math

import pytest
import torch
from stand_ins import StandIn

from facerecon.camera import CROP_MM
from facerecon.coarsenet import CoarseEstimate, CoarseNet, CoarseNetConfig, feedback
from facerecon.displacements import DISPLACEMENT_MM, place_points, seen
from facerecon.evaluation.coarse import (
    coarse_metrics,
    explained,
    held_out_faces,
    landmark_error,
)
from facerecon.synthetic.config import DetailConfig, HairConfig, SyntheticConfig
from facerecon.training.checkpoints import CHECKPOINT, read_checkpoint
from facerecon.training.coarse import CoarseTask
from facerecon.training.engine import Run
from facerecon.training.presets import COARSE_PRESETS, CoarseTraining

CPU = torch.device("cpu")
TINY = CoarseTraining(
    network=CoarseNetConfig(width=4, squeeze=8, points=80, field=8),
    data=SyntheticConfig(
        size=64,
        detail=DetailConfig(wrinkles=False, texture=False),  # the world is made in no time
        hair=HairConfig(surround=False),
    ),
    samples=32,
    images_per_batch=4,
    validation_faces=4,
    validation_every=1000,
)


@pytest.fixture
def task(model):
    return CoarseTask(model, TINY, CPU, workers=0)


def test_both_criteria_start_at_one_half(task):
    r_gt = task.world.sample(2000, task.world.generator(99))
    terms = task.criterion(torch.zeros_like(r_gt), r_gt)
    assert 0.5 * terms["gmse"] / task.first_gmse == pytest.approx(0.5, rel=0.1)
    assert 0.5 * terms["pose"] / task.first_pose == pytest.approx(0.5, rel=0.1)
    assert terms["loss"] == pytest.approx(2.0, rel=0.1)  # with the vertex term's 1


def test_paper_preset_is_the_papers_criterion(model):
    assert COARSE_PRESETS["paper"].vertex_loss == 0
    config = dataclasses.replace(TINY, vertex_loss=0.0)
    task = CoarseTask(model, config, CPU, workers=0)
    r_gt = task.world.sample(8, task.world.generator(0))
    assert "vertex" not in task.criterion(torch.zeros_like(r_gt), r_gt)


def test_criterion_is_zero_at_the_truth(task):
    r_gt = task.world.sample(8, task.world.generator(0))
    terms = task.criterion(r_gt, r_gt)
    assert terms["gmse"] == 0 and terms["pose"] == 0 and terms["vertex"] < 0.02


def test_with_an_identity_loss_everyone_is_photographed_twice(model):
    config = dataclasses.replace(TINY, identity_loss=0.1, parts=1)
    task = CoarseTask(model, config, CPU, workers=0)
    image, r, *_ = task.pairs[0][0]
    identity, rest = r[:, : model.n_identity], r[:, model.n_identity :]
    assert torch.equal(identity[:2], identity[2:]) and not torch.equal(identity[0], identity[1])
    assert not torch.equal(rest[:2], rest[2:]) and not torch.equal(image[:2], image[2:])
    said = CoarseEstimate(r, r)
    assert task.estimate_criterion(said, r, r)["confusion"] < 1e-3  # persons are millimeters apart
    alike = CoarseEstimate(torch.zeros_like(r), torch.zeros_like(r))
    chance = task.estimate_criterion(alike, r, r)["confusion"]
    assert chance == pytest.approx(math.log(3))  # one of the three others is the same person
    plain = CoarseTask(model, dataclasses.replace(TINY, parts=1), CPU, workers=0)
    assert "confusion" not in plain.estimate_criterion(said, r, r)


def test_starts_from_given_weights(model):
    given = CoarseNet(model.n_coefficients, TINY.network)
    task = CoarseTask(model, TINY, CPU, workers=0, start=given)
    ours = task.networks["coarsenet"].state_dict()
    learned = {k: v for k, v in given.state_dict().items() if k != "points"}
    assert all(torch.equal(ours[k], v) for k, v in learned.items())
    papers = CoarseNet(model.n_coefficients, dataclasses.replace(TINY.network, points=0))
    ours = CoarseTask(model, TINY, CPU, workers=0, start=papers).networks["coarsenet"].state_dict()
    assert all(torch.equal(ours[k], v) for k, v in papers.state_dict().items())
    other = CoarseNet(model.n_coefficients, CoarseNetConfig(width=8, squeeze=8))
    with pytest.raises(ValueError, match="another architecture"):
        CoarseTask(model, TINY, CPU, workers=0, start=other)


def test_batches_depend_on_the_index_alone(task):
    batches = iter(task.batches(5))
    next(batches)
    sixth = next(batches)
    again = next(iter(task.batches(6)))
    for ours, theirs in zip(sixth, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(sixth[0][0], sixth[1][0])


def test_another_seed_is_other_faces_and_none_is_held_out(model, task):
    other = CoarseTask(model, dataclasses.replace(TINY, seed=1), CPU, workers=0)
    ours, theirs = (
        torch.cat([one[1] for pair in itertools.islice(t.batches(0), 3) for one in pair])
        for t in (task, other)
    )
    for first, second in ((ours, theirs), (ours, task.held_out.r), (theirs, task.held_out.r)):
        assert torch.cdist(first, second).min() > 1


def test_second_pass_starts_from_the_networks_own_output(task):
    names = [set(terms) for terms in task.losses(next(iter(task.batches(0))))]
    assert len(names) == 2 * TINY.passes
    assert all("loss_from_eq3" in name for name in names[:2])
    assert all("loss_from_own_output" in name for name in names[2:])


def test_own_output_is_rendered_for_the_next_pass(task, monkeypatch):
    """The maps of the second pass are those of the first pass's prediction, whichever thread
    made them.
    """
    asked, network = [], task.networks["coarsenet"]

    def watched(maps, r, points):
        answer = network(maps, r, points)
        asked.append((maps, r, answer.r.detach()))
        return answer

    monkeypatch.setattr(task, "estimate", watched)
    batch = next(iter(task.batches(0)))
    list(task.losses(batch))
    for first, second, one in ((0, 2, batch[0]), (1, 3, batch[1])):
        maps, r, _ = asked[second]
        assert torch.equal(r, asked[first][2])
        assert torch.equal(maps, feedback(task.model, one[0], r))


def test_displacements_are_those_between_estimate_and_truth(task):
    """Points that hold the truth have no error; a stated error that is too large is unlikely."""
    r_gt = task.world.sample(4, task.world.generator(3))
    r = r_gt.clone()
    r[:, task.model.n_coefficients + 3] += 0.5  # half of 1/16 of the crop to the right
    truth = torch.zeros(4, len(task.points.mean), 3)
    truth[..., 0] = -0.5 / 16 * CROP_MM / DISPLACEMENT_MM  # r_gt lies to the left
    assert (seen(task.points, r, place_points(task.points, r)).sum(1) > 10).all()

    def error(displacement, log_error):
        said = CoarseEstimate(r, r, displacement, torch.full_like(truth, log_error))
        terms = task.estimate_criterion(said, r, r_gt)
        return terms["displacement"], terms["loss"]

    mean, loss = error(truth, -3.0)
    torch.testing.assert_close(mean, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert error(truth, -5.0)[1] < loss  # without errors, the smaller ones are likelier
    off, fitting = error(truth + 0.05, -3.0)
    torch.testing.assert_close(off, torch.tensor(0.05), atol=1e-5, rtol=0)
    for other in (-5.0, -1.0):  # e^-3 is about 0.05
        assert error(truth + 0.05, other)[1] > fitting


def test_learns_a_few_faces_by_heart(model):
    """From the same states in every step: with the network's own answers chance has its say."""
    task = CoarseTask(model, dataclasses.replace(TINY, passes=1), CPU, workers=0)
    network = task.networks["coarsenet"].train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    batch = next(iter(task.batches(0)))[:1]
    losses = []
    for _ in range(60):
        terms = next(task.losses(batch))
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.7 * losses[0]


def test_resumed_run_is_bit_identical(model, tmp_path):
    def train(folder, minutes=None):
        task = CoarseTask(model, TINY, CPU, workers=0)
        run = Run(task, folder, CPU, minutes=minutes, quiet=True)
        run.train()
        return read_checkpoint(folder / CHECKPOINT, CPU)["networks"]

    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", minutes=0)
    parts = train(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_held_out_faces_keep_the_yaw_limit(task):
    faces = held_out_faces(task.world, 20, seed=1, yaw_limit=20)
    assert faces.image.shape == (20, 1, 64, 64)
    assert torch.rad2deg(faces.r[:, 285] * 0.5).abs().max() <= 20


def test_metrics_return_a_planted_error(task, model):
    faces = held_out_faces(task.world, 6, seed=1)

    class Oracle(StandIn):
        """Answers the truth with a yaw that is 3 degrees too large."""

        n_coefficients = model.n_coefficients

        def answer(self, maps, r):
            answer = faces.r.clone()
            answer[:, 285] += torch.deg2rad(torch.tensor(3.0)) / 0.5
            return answer

    metrics = coarse_metrics(Oracle(), model, faces, iterations=2)
    assert metrics["yaw_deg"] == pytest.approx(3, abs=1e-3)
    assert metrics["pitch_deg"] == 0 and metrics["gmse_mm2_1"] == pytest.approx(0, abs=1e-6)


def test_explained_variance_is_that_of_the_meshes(model):
    """Against meshes, vertex by vertex: Eq. (1) evaluated instead of its Gram matrix."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.cat([model.sample(12, generator), torch.zeros(12, 6)], 1)
    guess = truth + 0.3 * torch.randn(truth.shape, generator=generator)
    part, metric = slice(model.n_identity), model.geometry_metric()

    def meshes(r):
        kept = torch.zeros(12, model.n_coefficients)
        kept[:, part] = r[:, part]
        return model.vertices(kept)

    weight = model.vertex_weight[:, None]
    error = (weight * (meshes(guess) - meshes(truth)).square()).sum()
    spread = (weight * (meshes(truth) - meshes(truth).mean(0)).square()).sum()
    assert explained(guess, truth, metric, part).item() == pytest.approx(
        1 - (error / spread).item(), abs=1e-4
    )
    assert explained(truth, truth, metric, part) == 1
    average = truth.mean(0).expand(12, -1)
    assert explained(average, truth, metric, part).item() == pytest.approx(0, abs=1e-5)


def test_metrics_see_an_iteration_that_contracts(task, model):
    """A network that halves what is missing: steps halve, too, and every face comes closer."""
    faces = held_out_faces(task.world, 4, seed=1, yaw_limit=10)

    class Halving(StandIn):
        def answer(self, maps, r):
            return r + 0.5 * (faces.r - r)

    metrics = coarse_metrics(Halving(), model, faces, iterations=4)
    assert [metrics[f"closer_pct_{t}"] for t in (1, 2, 3, 4)] == [100] * 4
    assert "contraction_1" not in metrics
    assert metrics["contraction"] == pytest.approx(0.5, abs=0.05)
    assert metrics["identity_pct"] == pytest.approx(100 * (1 - 0.25**4), abs=2)


@pytest.mark.parametrize(
    ("change", "rows"),
    [({"feedback": "pncc"}, slice(4, 7)), ({"feedback": "normals"}, slice(1, 4))],
)
def test_feedback_that_is_left_out_is_zero(model, task, change, rows):
    config = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, **change))
    maps = next(iter(CoarseTask(model, config, CPU, workers=0).batches(0)))[0][3]
    whole = next(iter(task.batches(0)))[0][3]
    assert (maps[:, rows] == 0).all() and (whole[:, rows] != 0).any()
    kept = [i for i in range(7) if i not in range(rows.start, rows.stop)]
    assert torch.equal(maps[:, kept], whole[:, kept])
    with pytest.raises(ValueError, match="unknown feedback 'depth'"):
        CoarseNet(284, CoarseNetConfig(feedback="depth"))


def test_unmasked_input_shows_the_whole_photograph(model):
    network = dataclasses.replace(TINY.network, masked=False)
    config = dataclasses.replace(TINY, network=network)
    image, _, _, maps = next(iter(CoarseTask(model, config, CPU, workers=0).batches(0)))[0]
    scaled = (image - image.mean((2, 3), keepdim=True)) / image.std((2, 3), keepdim=True)
    torch.testing.assert_close(maps[:, :1], 0.5 * scaled, atol=2e-3, rtol=0)


def test_beta_stays_in_its_range(task):
    truth = task.world.sample(200, task.world.generator(3))
    near = task.world.feedback(truth, task.world.generator(4), beta=(0.9, 1.0))
    far = task.world.feedback(truth, task.world.generator(4), beta=(0.0, 0.1))
    assert (near - truth).norm() < 0.2 * (far - truth).norm()


def test_landmark_error_of_a_shift(model):
    r = torch.zeros(1, 290)
    moved = r.clone()
    moved[0, 287] = 1.0  # 1/16 of the crop to the right
    points = model.mean[model.landmarks, :2] * 200 / 214
    box = (points.amax(0) - points.amin(0)).prod().sqrt()
    expected = 100 * (200 / 16) / box  # percent
    assert landmark_error(model, moved, r, 200).item() == pytest.approx(expected.item(), rel=1e-4)
