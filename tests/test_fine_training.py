"""FineNet's training problem on photographs, and end to end through the rendering layer."""

import dataclasses

import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.training import fine
from facerecon.training.checkpoints import CHECKPOINT, read_checkpoint
from facerecon.training.engine import Run
from facerecon.training.faces import collect_faces, even_pigment
from facerecon.training.fine import FineData, FineTask
from facerecon.training.presets import FineTraining

CPU = torch.device("cpu")
TINY = FineTraining(
    network=FineNetConfig(width=4, regressor=(8, 4)),
    crops=8,
    batch=2,
    crop_size=64,
    face_sizes=(100,),
    iterations=2,
    bfloat16=False,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.astronaut()).save(folder / "astronaut.png")
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        Image.open(file).convert("RGB").save(folder / "hopper.jpg")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "nobody.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture
def coarsenet():
    """A network that answers r = 0: the mean face, which a detector's crop centers well enough
    here.
    """
    torch.manual_seed(0)
    network = CoarseNet(284, CoarseNetConfig(width=4, squeeze=4, points=0, both_sides=False)).eval()
    torch.nn.init.zeros_(network.regressor.weight)
    return network.requires_grad_(False)


@pytest.fixture
def task(model, coarsenet, photos, tmp_path):
    return FineTask(model, coarsenet, TINY, FineData(photos, quiet=True), CPU)


def test_faces_are_collected_once(model, coarsenet, photos, tmp_path):
    cache = tmp_path / "faces.npz"
    faces = collect_faces(photos, model, coarsenet, 2, 64, cache, quiet=True)
    assert faces.grey.shape == (2, 64, 64) and faces.r.shape == (
        2,
        290,
    )  # nobody and broken left out
    stamp = cache.stat().st_mtime_ns
    again = collect_faces(photos, model, coarsenet, 2, 64, cache, quiet=True)
    assert cache.stat().st_mtime_ns == stamp and np.array_equal(again.grey, faces.grey)
    coarsenet.regressor.bias.data[0] = 0.1  # other weights, other fits
    changed = collect_faces(photos, model, coarsenet, 2, 64, cache, quiet=True)
    assert changed.r[0, 0] == pytest.approx(0.1)


def test_folder_without_faces(model, coarsenet, tmp_path):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "nobody.png")
    with pytest.raises(ValueError, match="no face that CoarseNet could fit in 1 photographs"):
        collect_faces(tmp_path, model, coarsenet, 2, 64, quiet=True)


def test_untrained_network_costs_what_the_coarse_surface_costs(task):
    metrics = task.validate(task.networks)
    assert metrics["fidelity"] == 0
    for name in ("loss", "shading", "smoothness"):
        assert metrics[name] == pytest.approx(metrics[f"coarse_{name}"])


def test_validation_measures_the_networks_that_it_is_given(task):
    other = FineNet(TINY.network)
    torch.nn.init.normal_(other.regress3.weight, std=0.01)
    before = task.validate(task.networks)
    found = task.validate(torch.nn.ModuleDict({"finenet": other}))
    assert found["fidelity"] > 0 and found["coarse_loss"] == before["coarse_loss"]
    assert task.validate(task.networks) == before


def test_training_lowers_the_criterion(task):
    network = task.networks["finenet"]
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    batch = next(iter(task.batches(0)))
    faces = task.faces.crops(batch.faces, batch.size)
    losses = []
    for _ in range(60):
        terms = task.criterion(network, faces)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.99 * losses[0]
    assert terms["fidelity"] > 0


def test_the_linear_criterion_leads_to_a_surface_that_explains_the_photograph(task, monkeypatch):
    """Descended by the depth itself; what a network of this size learns in a test is little."""
    config = dataclasses.replace(task.config, criterion="linear")
    monkeypatch.setattr(task, "config", config)
    batch = next(iter(task.batches(0)))
    faces = task.faces.crops(batch.faces, batch.size)
    rise = torch.zeros_like(faces.image, requires_grad=True)  # pixel widths
    optimizer = torch.optim.Adam([rise], lr=0.01)

    def refine(image, depth, mask, mm_per_pixel):
        return depth + rise * mm_per_pixel.view(-1, 1, 1, 1)

    totals = []
    for _ in range(40):
        terms = task.criterion(refine, faces)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        totals.append(terms["loss"].item())
    assert terms["shading"] < 0.9 * totals[0]  # all of it, at first; 0.87
    assert totals[-1] < 0.95 * totals[0]  # 0.92; the minimum is at 0.91
    assert terms["fidelity"] > 0 and terms["smoothness"] > 0


def test_an_unknown_criterion_is_refused(model):
    config = dataclasses.replace(TINY, criterion="quadratic")
    with pytest.raises(ValueError, match="must be 'paper' or 'linear', got 'quadratic'"):
        FineTask(model, CoarseNet(model.n_coefficients), config, FineData(supervised=True), CPU)


def test_batches_depend_on_the_index_alone(task):
    third = [next(b) for b in [iter(task.batches(0))] for _ in range(3)][-1]
    again = next(iter(task.batches(2)))
    assert torch.equal(third.faces, again.faces) and third.size == again.size
    first, second = (next(task.losses(batch))["loss"] for batch in (third, again))
    assert torch.equal(first, second)  # the same windows, too


def test_pigment_is_told_from_shading():
    y, x = np.mgrid[:100, :100]
    skin = np.array([0.8, 0.55, 0.45])
    shading = (0.5 + 0.4 * np.sin(x / 3))[..., None]
    trust = even_pigment((skin * shading).astype(np.float32))
    assert trust.min() > 0.8  # waves of light alone
    mole = np.exp(-((x - 50) ** 2 + (y - 50) ** 2) / 18)[..., None]
    trust = even_pigment(skin * shading * (1 - mole * np.array([0.3, 0.5, 0.6])))
    assert trust[50, 50] < 0.4 and trust[10, 10] > 0.95


def test_pigment_is_not_carved(task):
    batch = next(iter(task.batches(0)))
    faces, network = task.faces.crops(batch.faces, batch.size), task.networks["finenet"]
    trusted, distrusted = (
        task.criterion(network, faces._replace(even=trust))["shading"]
        for trust in (faces.even, 0 * faces.even)
    )
    assert distrusted < 0.1 * trusted  # nothing is left for the surface to explain


@pytest.mark.slow
def test_supervision_alone_and_beside_photographs(model, coarsenet, photos, tmp_path):
    alone = FineTask(model, coarsenet, TINY, FineData(supervised=True), CPU)
    assert alone.name == "fine-supervised" and next(iter(alone.batches(0))).faces is None
    metrics = alone.validate(alone.networks)
    assert metrics["normals_deg"] == pytest.approx(metrics["coarse_normals_deg"])
    terms = next(alone.losses(next(iter(alone.batches(3)))))
    again = next(alone.losses(next(iter(alone.batches(3)))))
    assert torch.equal(terms["loss"], again["loss"])
    terms["loss"].backward()
    assert alone.networks["finenet"].regress3.bias.grad.isfinite().all()

    both = FineTask(model, coarsenet, TINY, FineData(photos, supervised=True, quiet=True), CPU)
    stream = iter(both.batches(0))
    kinds = {next(stream).faces is None for _ in range(20)}
    assert both.name == "fine-mixed" and kinds == {True, False}
    assert {"shading", "normals_deg"} <= set(both.validate(both.networks))


@pytest.mark.slow
def test_supervised_training_comes_nearer_to_the_truth(model, coarsenet, tmp_path):
    task = FineTask(model, coarsenet, TINY, FineData(supervised=True), CPU)
    sample = task.detail[100].batch(0, 2)
    optimizer = torch.optim.Adam(task.networks["finenet"].parameters(), lr=4e-3)
    angles = []
    for _ in range(60):
        terms = task.supervised_criterion(task.networks["finenet"], sample)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        angles.append(terms["normals_deg"].item())
    assert angles[-1] < 0.99 * angles[0]


def test_nothing_to_learn_from(model, coarsenet, tmp_path):
    with pytest.raises(ValueError, match="photographs, or synthetic supervision"):
        FineTask(model, coarsenet, TINY, FineData(), CPU)


def test_coarse_weights_stay_frozen_in_fine_training(task, coarsenet, tmp_path):
    before = {k: v.clone() for k, v in coarsenet.state_dict().items()}
    Run(task, tmp_path, CPU, quiet=True).train()
    assert all(torch.equal(v, coarsenet.state_dict()[k]) for k, v in before.items())
    assert read_checkpoint(tmp_path / CHECKPOINT, CPU)["samples"] == 8


def test_end_to_end_trains_coarsenet_through_the_rendering_layer(
    model, coarsenet, photos, tmp_path
):
    config = dataclasses.replace(TINY, coarse_learning_rate=1e-4, crop_size=100)
    task = FineTask(model, coarsenet, config, FineData(photos, quiet=True), CPU)
    batch = next(iter(task.batches(0)))
    # FineNet starts as the identity: give its last layer weights so that the loss depends on the
    # depth.
    torch.nn.init.normal_(task.networks["finenet"].regress3.weight, std=0.01)
    terms, *_ = task.losses(batch)
    terms["loss"].backward()
    gradient = coarsenet.regressor.weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    assert terms["coarse_fidelity"] < 1e-10  # nothing has moved yet


def test_coarsenet_learns_nothing_past_a_detached_depth(
    model, coarsenet, photos, tmp_path, monkeypatch
):
    config = dataclasses.replace(TINY, coarse_learning_rate=1e-4, crop_size=100)
    task = FineTask(model, coarsenet, config, FineData(photos, quiet=True), CPU)
    torch.nn.init.normal_(task.networks["finenet"].regress3.weight, std=0.01)
    render_maps = fine.model_maps

    def detached(*args):
        maps = render_maps(*args)
        return maps._replace(depth=maps.depth.detach())

    monkeypatch.setattr(fine, "model_maps", detached)
    faces, network = task.faces.crops(slice(2), 100), task.networks["finenet"]
    r = faces.r.requires_grad_()
    task.criterion(network, faces)["loss"].backward()
    assert r.grad is None or not r.grad.any()
    monkeypatch.setattr(fine, "model_maps", render_maps)
    task.criterion(network, faces)["loss"].backward()
    assert r.grad.isfinite().all() and r.grad.any()


def test_fidelity_pulls_coarsenet_back(model, coarsenet, photos, tmp_path):
    config = dataclasses.replace(TINY, coarse_learning_rate=1e-4, coarse_fidelity_weight=1e6)
    task = FineTask(model, coarsenet, config, FineData(photos, quiet=True), CPU)
    coarsenet.regressor.bias.data[:] = 0.05  # moved away from what it answered before
    terms = next(task.losses(next(iter(task.batches(0)))))
    assert terms["coarse_fidelity"] > 1e-4
    terms["loss"].backward()
    assert (coarsenet.regressor.bias.grad > 0).float().mean() > 0.9  # downhill is back


def test_end_to_end_run_moves_both_networks_a_little(model, coarsenet, photos, tmp_path):
    config = dataclasses.replace(TINY, coarse_learning_rate=1e-4, crop_size=100)
    task = FineTask(model, coarsenet, config, FineData(photos, quiet=True), CPU)
    before = {k: v.clone() for k, v in task.networks.state_dict().items()}
    Run(task, tmp_path, CPU, quiet=True).train()
    after = task.networks.state_dict()
    for network in ("finenet", "coarsenet"):
        assert any(not torch.equal(before[k], after[k]) for k in after if k.startswith(network))
    statistics = [k for k in after if "running_" in k]
    assert statistics and all(torch.equal(before[k], after[k]) for k in statistics)
