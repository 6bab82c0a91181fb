"""The detail benchmark: planted answers, and the command from arguments to files."""

import json
import math
from importlib.resources import files

import pytest
import torch
from PIL import Image

from facerecon.appearance import FaceMaps
from facerecon.cli import main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands.outcome import FAILED, OK
from facerecon.depth import normals_from_depth
from facerecon.evaluation.detail import (
    DetailFaces,
    ShapeFromShading,
    correlation,
    detail_metrics,
    erode,
    halved,
    high_pass,
)
from facerecon.evaluation.detail_report import Refiners, measure_detail
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.lighting import shade
from facerecon.losses import CriterionWeights
from facerecon.sfs import DetailBounds
from facerecon.weights import ModelCard, save_weights

MODEL = str(files("facerecon") / "assets" / "morphable_model.npz")


def dome(size=96, amplitude=0.4):
    """A dome with concentric wrinkles 9 mm wide, photographed under a slanted light."""
    mm = 214 / size
    axis = (torch.arange(size) - (size - 1) / 2) * mm
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    radius = (x**2 + y**2).sqrt()[None, None]
    mask = radius < 80
    coarse = 60 * (1 - (radius / 110) ** 2) * mask
    depth = coarse + amplitude * torch.sin(2 * math.pi * radius / 9) * mask
    pixel = torch.tensor([mm])
    normals = normals_from_depth(depth, pixel, mask)
    smooth = FaceMaps(
        coarse,
        normals_from_depth(coarse, pixel, mask),
        mask,
        pixel,
        0.6 * mask,
        0.01 * mask * x[None, None] / 80,
        mask.float(),
        mask,
    )
    image = shade(0.6 * mask, torch.tensor([[0.4, 0.3, 0.3, 0.5]]), normals)
    return DetailFaces(image, depth, normals, smooth, mask)


def test_the_truth_is_perfect_and_noise_is_worse():
    faces = dome()
    perfect = detail_metrics(faces.depth, faces.smooth, faces)
    assert perfect["depth"].item() < 1e-5 and perfect["normals"].item() < 1e-2
    assert perfect["highpass"].item() == pytest.approx(1, abs=1e-6)
    assert perfect["detail"].item() == pytest.approx(1, abs=1e-6)
    noise = torch.randn(faces.depth.shape, generator=torch.Generator().manual_seed(0))
    last = perfect
    for strength in (0.05, 0.2, 0.8):
        found = detail_metrics(faces.depth + strength * noise, faces.smooth, faces)
        assert found["depth"] > last["depth"] and found["normals"] > last["normals"]
        assert found["highpass"] < last["highpass"] and found["detail"] < last["detail"]
        last = found


def test_the_coarse_surface_has_no_detail_and_its_opposite_less():
    faces = dome()
    coarse = detail_metrics(faces.smooth.depth, faces.smooth, faces)
    assert coarse["detail"].isnan() and coarse["normals"] > 5
    carved = 2 * faces.smooth.depth - faces.depth
    opposite = detail_metrics(carved, faces.smooth, faces)
    assert opposite["detail"].item() == pytest.approx(-1, abs=1e-4)
    assert opposite["normals"] > coarse["normals"]


def test_depth_is_measured_after_a_median_shift():
    faces = dome()
    shifted = detail_metrics(faces.depth + 7.0, faces.smooth, faces)
    assert shifted["depth"].item() < 1e-4
    assert shifted["detail"].item() == pytest.approx(1, abs=1e-4)


def test_high_pass_keeps_wrinkles_and_loses_the_face():
    faces = dome()
    valid = erode(faces.face, 0.1)
    wrinkles = faces.depth - faces.smooth.depth
    kept = high_pass(wrinkles, valid)
    assert correlation(kept, wrinkles, valid) > 0.9
    slope = torch.linspace(0, 50, 96).view(1, 1, 1, 96).expand_as(kept)
    inner = erode(valid, 0.1)
    assert high_pass(slope, valid)[inner].abs().max() < 1e-3


def test_correlation_agrees_with_torch():
    a, b = torch.randn(2, 1, 1, 30, 30, generator=torch.Generator().manual_seed(0))
    inside = a > -1
    expected = torch.corrcoef(torch.stack([a[inside], b[inside]]).double())[0, 1]
    assert correlation(a, b, inside).item() == pytest.approx(expected.item())
    assert correlation(a, b, a > 9).isnan()


def test_halved_faces_are_the_same_faces():
    faces = dome()
    small = halved(faces)
    assert (
        small.image.shape[-1] == 48 and small.smooth.mm_per_pixel == 2 * faces.smooth.mm_per_pixel
    )
    found = detail_metrics(small.depth, small.smooth, small)
    assert found["normals"] < 3  # the mean of normals is nearly the normal of the mean
    assert small.face.sum() <= faces.face.sum() / 4


def test_shape_from_shading_finds_the_wrinkles():
    faces = dome()
    bounds = DetailBounds(radius=0.05, limit=0.2)
    sfs = ShapeFromShading(bounds, CriterionWeights(), steps=80)
    depth = sfs(faces.image, faces.smooth)
    found, coarse = (
        detail_metrics(each, faces.smooth, faces) for each in (depth, faces.smooth.depth)
    )
    assert found["detail"] > 0.5 and found["normals"] < 0.85 * coarse["normals"]


def test_the_first_row_is_the_coarse_surface(model):
    faces = dome()
    untrained = FineNet(FineNetConfig(width=2, regressor=(4, 2)))  # returns the coarse depth
    refiners = Refiners({"fine": untrained})
    rows, sheet = measure_detail(faces, model, refiners)
    assert [row["method"] for row in rows] == ["coarse", "fine"]
    assert rows[0]["normals"] == rows[1]["normals"] and len(rows[0]["per_face"]["depth"]) == 1
    assert sheet.width >= 4 * 200


def test_command(model, tmp_path, capsys):
    torch.manual_seed(0)
    card = ModelCard("x", "quick", "none", 0, 0, 0.0, "unknown", {}, {})
    coarse, fine = tmp_path / "coarse.safetensors", tmp_path / "fine.safetensors"
    save_weights(
        coarse, CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0)).eval(), card
    )
    other = tmp_path / "unsupervised.safetensors"
    for path in (fine, other):
        save_weights(path, FineNet(FineNetConfig(width=2, regressor=(4, 2))), card)
    argv = ["evaluate", "detail", "--count", "1", "--iterations", "1", "--sfs-steps", "2"]
    argv += ["--coarse", str(coarse), "--fine", str(fine), "--other", str(other)]
    assert main([*argv, "--heads", MODEL, "--out", str(tmp_path)]) == OK
    assert "unsupervised" in capsys.readouterr().out
    rows = json.loads((tmp_path / "detail.json").read_text())["rows"]
    assert {(row["faces"], row["size"]) for row in rows} == {
        ("synthetic", 200),
        ("synthetic", 400),
        ("heads", 200),
        ("heads", 400),
    }
    ours, others = {"normals", "normals+sfs"}, {"coarse", "fine", "sfs", "unsupervised"}
    by_kind = {}
    for row in rows:
        by_kind.setdefault((row["faces"], row["start"]), set()).add(row["method"])
    assert by_kind["synthetic", "true coarse"] == by_kind["heads", "CoarseNet"] == ours | others
    assert by_kind["heads", "true coarse"] == others  # no surface of the model to correct
    assert all(row["normals"] > 0 for row in rows if row["start"] == "true coarse")
    with Image.open(tmp_path / "detail_heads_400_true.png") as sheet:
        assert sheet.width > 800


def test_two_methods_of_one_name_are_refused(tmp_path, capsys):
    argv = ["evaluate", "detail", "--count", "1", "--other", str(tmp_path / "fine.safetensors")]
    assert main(argv) == FAILED
    assert "rename the file" in capsys.readouterr().err
