import gzip
import warnings

import numpy as np
import pytest
from scan_fixtures import bump, write_fixture

from facerecon.scans.frgc import SENTINEL, find_frgc, read_abs, read_frgc, write_abs
from facerecon.scans.scan import (
    ScanError,
    Skipped,
    SkippedScanWarning,
    list_hash,
    mm_per_pixel,
    orient,
    select,
    write_list,
)

# Written by hand after the description of the format, not by our writer.
BY_HAND = """3 rows
4 columns
pixels (flag X Y Z):
0 1 1 0 1 1 1 1 0 1 0 0 
-999999.000000 -1.5 0.5 -999999.000000 -2.5 -1.5 0.5 1.5 -999999.000000 -1.5 7.0 -999999.000000 
-999999.000000 2.0 2.0 -999999.000000 1.0 1.0 1.0 1.0 -999999.000000 0.0 7.0 -999999.000000 
-999999.000000 -1500.25 -1500.5 -999999.000000 -1501 -1499 -1498.75 -1502 -999999.000000 -999999.000000 7.0 -999999.000000 
"""  # noqa: W291, E501


def kind_of(path) -> str:
    with pytest.raises(ScanError) as caught:
        read_abs(path)
    assert str(path) in str(caught.value)
    return caught.value.kind


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_reads_the_format(tmp_path, zipped, newline):
    data = BY_HAND.replace("\n", newline).encode()
    # Which kind it is, the content says: names lie.
    path = tmp_path / "02463d562.abs"
    path.write_bytes(gzip.compress(data) if zipped else data)
    points = read_abs(path)
    assert points.shape == (3, 4, 3)
    measured = np.isfinite(points).all(axis=-1)
    # (2, 1) has a flag but no Z, (2, 2) coordinates but no flag: both are invalid.
    expected = [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(measured, np.array(expected, bool))
    np.testing.assert_array_equal(points[0, 2], [0.5, 2.0, -1500.5])
    np.testing.assert_array_equal(points[1, 3], [1.5, 1.0, -1502])
    assert np.isnan(points[~measured]).all()


@pytest.mark.parametrize("suffix", [".abs", ".abs.gz"])
def test_written_files_have_the_format_and_come_back(tmp_path, suffix):
    path = write_abs(tmp_path / f"x{suffix}", bump())
    data = path.read_bytes()
    text = (gzip.decompress(data) if suffix == ".abs.gz" else data).decode()
    lines = text.splitlines()
    assert len(lines) == 7
    assert lines[:3] == ["120 rows", "160 columns", "pixels (flag X Y Z):"]
    assert all(len(line.split()) == 120 * 160 for line in lines[3:])
    assert lines[4].split()[0] == f"{SENTINEL:.6f}" == "-999999.000000"
    np.testing.assert_allclose(read_abs(path), bump(), atol=5.1e-7)  # six decimals are written


def test_faulty_files_say_what_is_wrong(tmp_path):
    whole = write_abs(tmp_path / "whole.abs", bump()).read_bytes()
    zipped = gzip.compress(whole)
    faults = {
        "cut.abs": (whole[: len(whole) // 2], "truncated"),
        "empty.abs": (b"", "truncated"),
        "cut.abs.gz": (zipped[: len(zipped) // 2], "truncated"),
        "more.abs": (whole + b" 1.0 2.0", "mis-sized"),
        "rows.abs": (whole.replace(b"120 rows", b"119 rows"), "mis-sized"),
        "letters.abs": (whole.replace(b"-999999.000000", b"nothing", 1), "damaged"),
        "other.abs": (b"solid bump\n" * 20, "damaged"),
        "bits.abs.gz": (zipped[:100] + b"\0" * 50 + zipped[150:], "damaged"),
    }
    for name, (data, kind) in faults.items():
        (tmp_path / name).write_bytes(data)
        assert kind_of(tmp_path / name) == kind, name
    assert kind_of(tmp_path / "absent.abs") == "missing"


METADATA = """<?xml version="1.0"?>
<Recordings>
  <Recording recording_id="nd1R02463d900"><Application>
    <LeftEyeCenter x="100" y="50"/><RightEyeCenter x="60" y="51"/>
    <Nose x="80" y="64"/><Mouth x="80" y="90"/></Application></Recording>
</Recordings>
"""
SIGNATURES = """<?xml version="1.0"?>
<biometric-signature-set>
  <complex-biometric-signature name="nd1S02463">
    <presentation name="nd1R02463d562" modality="shape" file-name="x/02463d562.abs.gz"/>
    <presentation name="nd1R02463d900" modality="texture" file-name="x/02463d900.ppm"/>
  </complex-biometric-signature>
</biometric-signature-set>
"""


def test_pairing_in_the_distribution_layout(tmp_path):
    folder = tmp_path / "nd1" / "Fall2003range"
    write_fixture(folder, "02463d562", "02463d900.ppm")
    write_fixture(folder, "02463d700", "02463d701.jpg", ".abs")
    (folder / "02463d563.ppm").write_bytes((folder / "02463d900.ppm").read_bytes())  # a decoy
    lists = tmp_path / "BEE_DIST" / "FRGC2.0"
    (lists / "metadata").mkdir(parents=True)
    (lists / "metadata" / "FRGC_2.0_Metadata.xml").write_text(METADATA)
    (lists / "signature_sets").mkdir()
    (lists / "signature_sets" / "FRGC_Exp_2.0.3_Target.xml").write_text(SIGNATURES)
    first, second = find_frgc(tmp_path)
    assert (first.texture.name, first.paired_by) == ("02463d900.ppm", "list")
    assert (second.texture.name, second.paired_by) == ("02463d701.jpg", "next number")
    assert first.subject == "02463"
    scan = read_frgc(first)
    assert scan.landmarks["Nose"] == (80, 64)
    assert scan.flipped == ""
    np.testing.assert_allclose(scan.points, bump(), atol=1e-3)  # float32 of a thousand mm


def test_pairing_in_one_folder(tmp_path):
    # The same name is stronger than the next number, which here is the next scan's photograph.
    write_fixture(tmp_path, "04201d1", "04201d1.JPG", ".abs")
    write_fixture(tmp_path, "04201d2", "04201d2.ppm", ".abs")
    write_fixture(tmp_path, "04201d9", "04201d10.jpg")
    (tmp_path / "04201d9.abs").write_bytes(
        gzip.decompress((tmp_path / "04201d9.abs.gz").read_bytes())
    )
    found = find_frgc(tmp_path)
    assert [(f.name, f.texture.name, f.paired_by) for f in found] == [
        ("04201d1", "04201d1.JPG", "same name"),
        ("04201d2", "04201d2.ppm", "same name"),
        ("04201d9", "04201d10.jpg", "next number"),
    ]


def test_photographs_may_lie_in_another_folder(tmp_path):
    write_fixture(tmp_path / "textures", "tmp", "00001d2.ppm")
    write_fixture(tmp_path / "shapes", "00001d1", "gone.ppm")
    (tmp_path / "textures" / "tmp.abs.gz").unlink()
    (tmp_path / "shapes" / "gone.ppm").unlink()
    (found,) = find_frgc(tmp_path)
    assert found.texture.parent.name == "textures"


def test_faulty_scans_are_left_out_and_counted(tmp_path):
    write_fixture(tmp_path, "00001d1", "00001d2.ppm")
    write_fixture(tmp_path, "00003d1", "gone.ppm")
    (tmp_path / "gone.ppm").unlink()
    write_fixture(tmp_path, "00005d1", "00005d2.ppm")
    data = (tmp_path / "00005d1.abs.gz").read_bytes()
    (tmp_path / "00005d1.abs.gz").write_bytes(data[:2000])
    write_fixture(tmp_path, "00007d1", "00007d2.ppm")
    write_abs(tmp_path / "00007d1.abs.gz", bump()[:-1])
    skipped = Skipped()
    names = []
    with pytest.warns(SkippedScanWarning) as caught:
        for files in find_frgc(tmp_path, skipped):
            try:
                names.append(read_frgc(files).name)
            except ScanError as error:
                skipped.skip(files.range, error)
    assert names == ["00001d1"]
    assert skipped == {"unpaired": 1, "truncated": 1, "mis-sized": 1}
    messages = " ".join(str(warning.message) for warning in caught)
    assert all(name in messages for name in ("00003d1", "00005d1", "00007d1", "120", "119"))


@pytest.mark.parametrize("signs", [(1, 1, 1), (1, 1, -1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_axes_are_detected(signs):
    points, flipped = orient(bump() * np.array(signs))
    assert flipped == "".join(a for a, s in zip("xyz", signs, strict=True) if s < 0)
    np.testing.assert_allclose(points, bump(), atol=1e-3)


def test_axes_that_cannot_be_told_are_an_error():
    with pytest.raises(ScanError, match="flat"):
        orient(np.where(np.isfinite(bump()), [1, 1, 0], np.nan) * bump() + [0, 0, -1000])
    with pytest.raises(ScanError, match="no face"):
        orient(np.full((40, 40, 3), np.nan))


def test_width_of_a_pixel():
    points = bump(0.0)  # flat but for the nose: 1000 mm away
    mask = np.zeros(points.shape[:2], bool)
    mask[20:30, 60:100] = True
    assert mm_per_pixel(points, mask) == pytest.approx(1000 / 900, rel=1e-4)


def test_scan_lists_name_and_select(tmp_path):
    for number in (1, 3):
        write_fixture(tmp_path / "scans", f"0000{number}d1", f"0000{number}d2.ppm")
    found = find_frgc(tmp_path / "scans")
    digest = write_list(tmp_path / "list.csv", found, tmp_path / "scans")
    lines = (tmp_path / "list.csv").read_text().splitlines()
    assert lines[0] == "name,subject,range,texture,paired_by"
    assert lines[1] == "00001d1,00001,00001d1.abs.gz,00001d2.ppm,next number"
    assert (
        digest == list_hash(found, tmp_path / "scans") != list_hash(found[:1], tmp_path / "scans")
    )
    (tmp_path / "one.csv").write_text("name\n00003d1\n")
    assert [f.name for f in select(found, tmp_path / "one.csv")] == ["00003d1"]
    (tmp_path / "one.csv").write_text("name\n00009d1\n")
    with pytest.raises(ScanError, match="00009d1"):
        select(found, tmp_path / "one.csv")
    (tmp_path / "one.csv").write_text("scan\n00003d1\n")
    with pytest.raises(ScanError, match="column `name`"):
        select(found, tmp_path / "one.csv")


def test_no_scan_is_an_error(tmp_path):
    with pytest.raises(ScanError, match=r"no \.abs"):
        find_frgc(tmp_path)
    with warnings.catch_warnings(), pytest.raises(ScanError, match="no such folder"):
        find_frgc(tmp_path / "absent")
