import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK
from facerecon.detection.detect import detect_faces
from facerecon.evaluation.heads.models import load_heads
from facerecon.methods.estimate import Estimate
from facerecon.scans.frgc import find_frgc, read_frgc
from facerecon.scans.protocol import errors, near_nose
from facerecon.scans.registration import measure_offset
from facerecon.scans.scan import orient
from facerecon.simulated_scans import cache
from facerecon.simulated_scans.cache import (
    bench_folder,
    cached_bench,
    cached_photograph,
    generator_hash,
)
from facerecon.simulated_scans.sensor import Camera, face_mask
from facerecon.simulated_scans.shapes import Subjects
from facerecon.simulated_scans.subjects import CARD, subject, write_bench
from facerecon.weights import shipped


@pytest.fixture(scope="module")
def subjects() -> Subjects:
    return Subjects(load_heads(shipped("morphable_model.npz")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "b"
    assert list(write_bench(path, 2, seed=5)) == ["90001d1", "90002d1"]
    return path


def test_an_unfinished_benchmark_is_resumed(folder, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(folder, part)
    lost = sorted(part.glob("*/*/90002d1.abs.gz")) + sorted(part.glob("truth/90002d1.npz"))
    assert len(lost) == 2
    for path in lost:
        path.unlink()
    kept = (part / "truth/90001d1.npz").stat().st_mtime_ns
    assert list(write_bench(part, 2, seed=5, resume=True)) == ["90001d1", "90002d1"]
    assert (part / "truth/90001d1.npz").stat().st_mtime_ns == kept
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() == (part / path.relative_to(folder)).read_bytes(), path
    list(write_bench(part, 1, seed=5, resume=True))  # a smaller one is contained
    assert len(find_frgc(part)) == 2 and json.loads((part / CARD).read_text())["subjects"] == 2
    assert [f.paired_by for f in find_frgc(part)] == ["next number"] * 2


def test_photographs_are_made_once_and_kept(tmp_path, monkeypatch):
    first = cached_photograph(tmp_path, 0, yaw=50)
    monkeypatch.setattr(cache, "subject", None)  # not made again
    again = cached_photograph(tmp_path, 0, yaw=50)
    assert np.array_equal(first.scan.image, again.scan.image)
    assert np.array_equal(first.scan.points, again.scan.points, equal_nan=True)
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    # The box is a detector's: beside the middle of the head, since the face looks aside.
    face, box = first.landmarks[27:68], first.box
    assert (face[:, 0] > box.x).all() and (face[:, 0] < box.x + box.width).all()
    assert 100 < box.width < 300
    assert errors(first.scan, Estimate(first.scan.depth_mm + 5), first.scan.mask).max() < 1e-3


def test_the_true_box_is_what_the_detector_says_of_a_frontal_face(tmp_path):
    for index in (0, 1):
        photograph = cached_photograph(tmp_path, index)
        assert detect_faces(photograph.scan.image)[0].overlap(photograph.box) > 0.7


def test_the_cached_benchmark_grows(tmp_path):
    assert list(cached_bench(tmp_path, 1)) == ["90001d1"]
    folder = bench_folder(tmp_path)
    assert len(find_frgc(folder)) == 1 and folder.name.endswith(generator_hash())
    assert bench_folder(tmp_path, seed=1) != folder != bench_folder(tmp_path, 0, "ict.npz")
    assert list(cached_bench(tmp_path, 2, jobs=2)) == ["90001d1", "90002d1"]
    assert len(find_frgc(folder)) == 2


def test_only_the_yaw_changes_when_it_is_given(subjects):
    plain, turned = subject(subjects, 0, 2)[0], subject(subjects, 0, 2, yaw=60)[0]
    assert turned.camera == plain.camera
    depths = [shot.points[..., 2] for shot in (plain, turned)]
    assert abs(np.nanmax(depths[0]) - np.nanmax(depths[1])) < 100  # the seat is the same
    # At 60 degrees the viewer's right side of the face has gone; the nose points to the right.
    nose, eyes = turned.landmarks[30], turned.landmarks[36:48].mean(axis=0)
    assert nose[0] - eyes[0] > 20 > abs(plain.landmarks[30][0] - plain.landmarks[36:48].mean(0)[0])


def test_comes_back_through_frgcs_loader(folder):
    found = find_frgc(folder)
    assert [(f.name, f.paired_by) for f in found] == [(f"9000{i}d1", "next number") for i in (1, 2)]
    for files in found:
        scan = read_frgc(files)
        assert scan.image.shape == (480, 640, 3)
        assert scan.flipped == ""  # z negative and nearer is larger, as in FRGC
        assert np.nanmax(scan.depth_mm) < -700
        truth = np.load(folder / "truth" / f"{files.name}.npz")
        known = scan.mask & np.isfinite(truth["depth_mm"])
        assert known.sum() > 0.99 * scan.mask.sum()
        noise = (scan.depth_mm - truth["depth_mm"])[known & truth["face"]]
        assert abs(np.median(noise)) < 0.05
        assert 0.1 < np.quantile(np.abs(noise), 0.68) < 0.6
        # Holes, but not everywhere.
        assert 0.5 < scan.mask[truth["face"]].mean() < 0.999
        # X and Y are those of the perspective camera at that pixel.
        row, column = np.nonzero(scan.mask)
        x, y, z = scan.points[scan.mask].astype(float).T
        center, focal = truth["centre"], float(truth["focal"])
        np.testing.assert_allclose(center[0] + focal * x / -z, column, atol=1e-2)
        np.testing.assert_allclose(center[1] - focal * y / -z, row, atol=1e-2)
        nose = truth["landmarks"][30]
        np.testing.assert_allclose(scan.landmarks["Nose"], nose, atol=0.51)  # whole pixels
        assert scan.landmarks["LeftEyeCenter"][0] > scan.landmarks["RightEyeCenter"][0]


def test_photographs_show_faces_where_the_truth_is(folder):
    for files in find_frgc(folder):
        scan = read_frgc(files)
        truth = np.load(folder / "truth" / f"{files.name}.npz")
        box = detect_faces(scan.image)[0]
        column, row = truth["landmarks"][27:36].mean(axis=0)
        assert abs(box.x + box.width / 2 - column) < 0.25 * box.width
        assert abs(box.y + box.height / 2 - row) < 0.25 * box.height
        assert measure_offset(scan, near_nose(scan, 95)).pixels < 2.5


def test_same_seed_same_bytes_and_smaller_ones_replace_larger(folder, tmp_path):
    list(write_bench(tmp_path / "again", 1, seed=5))
    for path in sorted((tmp_path / "again").rglob("*9000*")):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / "again")).read_bytes()
    stale = tmp_path / "again" / "nd1" / "bench" / "90002d1.abs.gz"
    stale.write_bytes(b"of a larger benchmark")
    list(write_bench(tmp_path / "again", 1, seed=6))
    (only,) = find_frgc(tmp_path / "again")
    assert only.range.read_bytes() != (folder / "nd1" / "bench" / "90001d1.abs.gz").read_bytes()
    card = json.loads((tmp_path / "again" / CARD).read_text())
    assert card["complete"] and card["seed"] == 6 and card["subjects"] == 1


def test_shapes_lie_outside_the_models_span(subjects, model):
    """Least squares with all 284 coefficients and a similarity leaves more than half a mm RMS."""
    basis = model.basis.numpy().reshape(model.n_coefficients, -1, 3)
    skin = (model.regions["face"] > 0.5).numpy()
    mean = model.mean.numpy().astype(np.float64)[skin]
    nuisance = [mean, *np.broadcast_to(np.eye(3)[:, None], (3, *mean.shape))]
    nuisance += [np.cross(axis, mean) for axis in np.eye(3)]
    design = np.concatenate([basis[:, skin], nuisance]).reshape(len(basis) + 7, -1)
    gram = design @ design.T
    left = []
    for index in range(2):
        head = subjects.sample(np.random.default_rng([0, index]))
        target = head.vertices[: model.n_vertices][skin] - mean
        fit = np.linalg.solve(gram, design @ target.ravel()) @ design
        left.append(np.sqrt(((target.ravel() - fit) ** 2).reshape(-1, 3).sum(axis=1).mean()))
    assert min(left) > 0.5


def test_relief_is_geometry(subjects):
    """Wrinkles are in the truth, not only in the picture."""
    shot, _ = subject(subjects, 0, 1)
    z = np.where(face_mask(shot), shot.points[..., 2], np.nan)
    fine = z[1:-1, 1:-1] - (z[:-2, 1:-1] + z[2:, 1:-1] + z[1:-1, :-2] + z[1:-1, 2:]) / 4
    assert 0.005 < np.nanmedian(np.abs(fine)) < 0.2


def test_camera():
    camera = Camera(1200.0, (319.5, 239.5))
    points = np.array([[0.0, 0, -1000], [100, 50, -1000]])
    np.testing.assert_allclose(
        camera.pixels(points), [[319.5, 239.5, -1000], [439.5, 179.5, -1000]]
    )
    rays = camera.rays(480, 640)
    np.testing.assert_allclose(camera.pixels(rays[10, 20] * 700)[:2], [20, 10])
    # The middle of two by two fine pixels is the middle of the coarse one.
    fine = camera.finer(2).pixels(points)[:, :2]
    np.testing.assert_allclose((fine + 0.5) / 2 - 0.5, camera.pixels(points)[:, :2])


def test_heads_from_scans_are_not_bent(rng):
    heads = load_heads()
    still = heads._replace(
        identity=torch.zeros_like(heads.identity[:1]), expression=heads.expression * 0
    )
    for scanned in (True, False):
        subjects = Subjects(still._replace(scanned=scanned))
        head = subjects.sample(rng).vertices[: len(subjects.mean)]
        # What is left of a population without spread is its mean in another size.
        size = (head * subjects.mean).sum() / (subjects.mean**2).sum()
        off = np.linalg.norm(head / size - subjects.mean, axis=1).mean()
        assert off < 1e-5 if scanned else off > 1  # mm


def test_a_narrow_neck_turns_no_scan_over():
    shot, _ = subject(Subjects(load_heads()), 5, 1)  # a chest as near as the chin
    assert orient(shot.scan)[1] == ""


def test_other_heads(tmp_path):
    folder, heads = tmp_path / "b", shipped("morphable_model.npz")
    assert main(["bench", "write", str(folder), "--subjects", "1", "--heads", str(heads)]) == OK
    (files,) = find_frgc(folder)
    assert detect_faces(read_frgc(files).image)[0].width > 80


def test_foreign_folders_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("do not touch")
    assert main(["bench", "write", str(tmp_path), "--subjects", "1"]) == FAILED
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(SystemExit, match="2"):  # wrong usage
        main(["bench", "write", str(tmp_path / "x"), "--subjects", "0"])
