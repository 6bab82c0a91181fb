import csv
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import scan_fixtures
from scan_fixtures import write_fixture

from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK, USAGE
from facerecon.methods.registry import (
    MethodSettings,
    build_method,
    check_methods,
    method_card,
    method_names,
    register,
)
from facerecon.scans import run as scan_run
from facerecon.scans.protocol import ProtocolConfig, ProtocolError
from facerecon.scans.run import evaluate_scans
from facerecon.scans.scan import SkippedScanWarning

TRUTH, SHIFTED, OFF = (f"scan_fixtures:{name}" for name in ("truth", "shifted", "one_in_three_off"))


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        write_fixture(tmp_path / "scans", f"0000{number}d1", f"0000{number}d2.ppm")
    return tmp_path / "scans"


def test_planted_errors_come_back(folder, tmp_path):
    result = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH, SHIFTED, OFF])
    true, shifted, off = result.rows
    assert true.mean.value < 1e-3 and shifted.mean.value < 1e-3
    assert off.mean.value == pytest.approx(1.0, abs=0.02)  # 3 mm at a third of the columns
    assert off.high.value == pytest.approx(3.0, abs=1e-3)
    assert off.behind.value == pytest.approx(off.mean.value - true.mean.value)
    assert off.pooled_mean == pytest.approx(off.mean.value)
    assert off.pooled_high == pytest.approx(3.0, abs=0.02)
    report = json.loads((tmp_path / "out" / "table.json").read_text())
    assert report["scans"] == {"found": 4, "used": 4, "left_out": {}}
    assert report["axes_flipped"] == {"": 4}
    assert report["protocol"]["translation"] == "median"
    assert len(report["per_scan"]) == 4
    with open(tmp_path / "out" / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == [TRUTH, SHIFTED, OFF]
    assert float(rows[2]["mean"]) == pytest.approx(1.0, abs=0.02)
    listed = (tmp_path / "out" / "scan_list.csv").read_text().splitlines()
    assert len(listed) == 5


def test_a_second_run_computes_nothing_and_gives_the_same(folder, tmp_path, monkeypatch):
    first = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH, OFF])
    calls = []
    monkeypatch.setattr(
        scan_run, "build_method", lambda *args: calls.append(args) or build_method(*args)
    )
    again = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH, OFF])
    assert not calls and again.report == first.report
    # Another protocol scores anew, but no method has to look at the photographs again.
    evaluate_scans(
        folder, tmp_path / "out", methods=[TRUTH, OFF], config=ProtocolConfig(crop_mm=30)
    )
    assert not calls
    # A damaged file and another photograph are noticed.
    (tmp_path / "out" / "scans" / "00000d1.json").write_text("{")
    estimates = tmp_path / "out" / "estimates" / "scan_fixtures_truth"
    (estimates / "00000d1.npz").write_bytes(b"PK\x03\x04 broken")
    write_fixture(folder, "00001d1", "00001d2.ppm")
    (folder / "00001d2.ppm").write_bytes((folder / "00001d2.ppm").read_bytes() + b"\n")
    third = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH, OFF])
    assert len(calls) == 3  # the broken estimate, and both of the changed photograph
    assert third.report == first.report


def test_failures_are_counted_against_the_method(folder, tmp_path):
    with pytest.raises(ProtocolError, match="no face found"):
        evaluate_scans(folder, tmp_path / "out", methods=[TRUTH, "scan_fixtures:blind"])
    assert not (tmp_path / "out" / "table.json").exists()


def test_faulty_scans_are_counted(folder, tmp_path):
    data = (folder / "00002d1.abs.gz").read_bytes()
    (folder / "00002d1.abs.gz").write_bytes(data[:3000])
    (folder / "00003d2.ppm").unlink()
    with pytest.warns(SkippedScanWarning):
        result = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH])
    assert result.report["scans"]["left_out"] == {"unpaired": 1, "truncated": 1}
    assert result.report["scans"]["used"] == 2
    assert set(result.report["left_out"]) == {"00002d1.abs.gz", "00003d1.abs.gz"}


def test_misaligned_photographs_are_reported_or_moved(folder, tmp_path):
    image = np.roll(np.rint(scan_fixtures.photograph(scan_fixtures.bump()) * 255), 4, axis=1)
    from PIL import Image

    Image.fromarray(image.astype(np.uint8)).save(folder / "00002d2.ppm")
    reported = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH]).report["offset_pixels"]
    assert reported["largest"] == pytest.approx(4, abs=0.3) and reported["moved"] == 0
    config = ProtocolConfig(registration="correct")
    moved = evaluate_scans(folder, tmp_path / "out", methods=[TRUTH], config=config)
    assert moved.report["offset_pixels"]["moved"] == 1


@pytest.mark.slow
def test_processes_give_what_one_gives(folder, tmp_path):
    one = evaluate_scans(folder, tmp_path / "one", methods=[TRUTH, OFF])
    two = evaluate_scans(folder, tmp_path / "two", methods=[TRUTH, OFF], jobs=2)
    assert two.report == one.report


def dies_once(image):
    """Takes its worker down the first time that anyone calls it."""
    mark = Path(os.environ["FACERECON_TEST_MARK"])
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        time.sleep(0.2)
        return scan_fixtures.truth(image)
    os.kill(os.getpid(), 9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker(folder, tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="needs dask.distributed")
    monkeypatch.setenv("FACERECON_TEST_MARK", str(tmp_path / "mark"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        name = "test_scan_evaluation:dies_once"
        result = evaluate_scans(
            folder,
            tmp_path / "out",
            methods=[name, OFF],
            scheduler=cluster.scheduler_address,
        )
    assert (tmp_path / "mark").exists()
    assert result.report["scans"]["used"] == 4
    assert result.rows[1].mean.value == pytest.approx(1.0, abs=0.02)


def test_methods_by_name():
    assert {"ours", "ours (coarse)", "mean face"} <= set(method_names())
    with pytest.raises(ValueError, match="there is already"):
        register("ours", lambda settings: None)
    with pytest.raises(ValueError, match="unknown method 'mine'"):
        check_methods(["mine"])
    with pytest.raises(ValueError, match="once"):
        check_methods(["ours", "ours"])
    with pytest.raises(ValueError, match="cannot be imported"):
        build_method("no_such_module:f", MethodSettings())
    card = method_card("ours", MethodSettings())
    assert len(card["hash"]) == 16 and "seed" in card["coarse"]
    assert card["hash"] != method_card("mean face", MethodSettings())["hash"]


def test_command(folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["evaluate", "scans", str(folder), "--out", str(out), "--methods"]
    assert main([*arguments, f"{TRUTH}, {OFF}", "--crop", "40", "--scale", "fit"]) == OK
    text = capsys.readouterr().out
    assert "4 of 4 scans" in text and "moved: 0" in text
    report = json.loads((out / "table.json").read_text())
    assert report["protocol"]["crop_mm"] == 40 and report["protocol"]["scale"] == "fit"
    (tmp_path / "list.csv").write_text("name\n00001d1\n")
    assert main([*arguments, TRUTH, "--list", str(tmp_path / "list.csv")]) == OK
    assert "1 of 1 scans" in capsys.readouterr().out
    assert main([*arguments, OFF, "--scale", "size"]) == FAILED  # it does not say its size
    assert "its pixels' width in mm" in capsys.readouterr().err
    assert main([*arguments, "nothing"]) == USAGE
    assert "unknown method" in capsys.readouterr().err
    (folder / "00001d2.ppm").unlink()
    assert main([*arguments, TRUTH]) == OK
    assert "left out (unpaired)" in capsys.readouterr().err
