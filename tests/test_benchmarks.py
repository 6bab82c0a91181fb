"""The benchmarks run, and the pages in docs show the numbers that are stored."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_page_shows_the_stored_numbers():
    result = run("tables.py", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_measured_people_are_of_the_weights_that_ship():
    report = json.loads((ROOT / "benchmarks/results/yale.json").read_text())
    files = [report["weights"], report["model"], *report["refined_by"].values()]
    assert len(files) == 4
    for file in files:
        content = (ROOT / "src/facerecon/assets" / file["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"], f"{file['file']}: is new"


@pytest.mark.slow
def test_rasterize(tmp_path):
    out = tmp_path / "rasterize.json"
    options = ("--batch", "2", "--size", "40", "--rounds", "2", "--out", str(out))
    result = run("rasterize.py", *options, "--sim3dr", str(tmp_path))
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    assert json.loads(result.stdout) == report
    assert "rasterize_kernel.cpp" in report["skipped"]["sim3dr"]
    assert report["one_thread"]["numba"]["median_ms"] > 0
    work = report["work_per_image"]
    assert 0 < work["covered"] <= work["tests"] and work["triangles"] < report["triangles"]
    assert all(share < 1e-3 for share in report["pixels_that_differ"].values())


@pytest.mark.slow
def test_render_layer(tmp_path):
    out = tmp_path / "layer.json"
    options = ("--batch", "4", "--size", "40", "--rounds", "2", "--steps", "20", "--out", str(out))
    result = run("render_layer.py", *options)
    assert result.returncode == 0, result.stderr
    report = json.loads(out.read_text())
    stages = report["stages"]
    assert "backward_ms" in stages["decode (Eq. 1)"]
    assert "backward_ms" not in stages["visible triangles"]
    floors = [row["forward_floor_ms"] for name, row in stages.items() if name != "backend"]
    assert min(floors) > 0 and report["floor_ms"] >= sum(floors) - 1e-3
    assert {"numba, fixed", "torch, full"} <= report["forward_and_backward_one_thread"].keys()


@pytest.mark.slow
def test_ablations_resume(tmp_path):
    options = ["--samples", "128", "--faces", "32", "--test-faces", "4", "--quiet"]
    options += ["--folder", str(tmp_path / "runs"), "--out", str(tmp_path / "out.json")]
    result = run("ablations.py", "base", "pncc", *options)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report["rows"]) == ["base", "pncc"]
    base = report["rows"]["base"]
    assert base["samples"] >= 128 and base["metrics"]["landmarks_pct_8"] > 0
    again = run("ablations.py", "base", *options)
    assert again.returncode == 0 and not again.stdout  # nothing left to do
