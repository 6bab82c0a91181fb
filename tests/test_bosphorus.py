import struct

import numpy as np
import pytest
from PIL import Image
from scan_fixtures import COLUMNS, DISTANCE, ROWS, bump, photograph, write_bnt

from facerecon.scans.bosphorus import find_bosphorus, read_bnt, read_bosphorus, read_lm2
from facerecon.scans.scan import ScanError, Skipped, SkippedScanWarning

SCALE = 4  # photograph over range grid

LM2 = """bs000_N_N_0.png

2 landmarks:

Labels:
Outer left eyebrow
Nose tip

2D Image coordinates:
210.5 120.25
319.5 253.5
"""


def planes(b_upward: bool) -> np.ndarray:
    """The bump, with each point's place in a photograph of the same field of view."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    a, b = (column + 0.5) / COLUMNS, (row + 0.5) / ROWS
    b = 1 - b if b_upward else b
    values = np.dstack([bump(), a, b])
    values[np.isnan(values[..., 2])] = np.nan
    return values


def write(folder, b_upward: bool = False):
    folder.mkdir(parents=True, exist_ok=True)
    write_bnt(folder / "bs000_N_N_0.bnt", planes(b_upward), "bs000_N_N_0.png")
    picture = Image.fromarray(np.rint(photograph(bump()) * 255).astype(np.uint8))
    picture.resize((COLUMNS * SCALE, ROWS * SCALE)).save(folder / "bs000_N_N_0.png")
    (folder / "bs000_N_N_0.lm2").write_text(LM2)


def test_reads_the_format(tmp_path):
    # By hand: 2 x 3 pixels, the bottom row first, all X before all Y.
    x, y, z = [1, 2, 3, 4, 5, 6], [10, 10, 10, 20, 20, 20], [-1e9, -5, -6, -7, -8, -9]
    a, b = [0.1] * 6, [0.9, 0.9, 0.9, 0.2, 0.2, 0.2]
    name = b"bs000_N_N_0.png"
    data = struct.pack("<HHdH", 2, 3, -1e9, len(name)) + name + struct.pack("<I", 30)
    path = tmp_path / "x.bnt"
    path.write_bytes(data + struct.pack("<30d", *x, *y, *z, *a, *b))
    values = read_bnt(path)
    np.testing.assert_array_equal(values[0, :, 0], [4, 5, 6])
    np.testing.assert_array_equal(values[0, :, 1], 20)
    np.testing.assert_array_equal(values[1, 1:], [[2, 10, -5, 0.1, 0.9], [3, 10, -6, 0.1, 0.9]])
    assert np.isnan(values[1, 0]).all()


@pytest.mark.parametrize("b_upward", [False, True])
def test_geometry_comes_to_the_photographs_pixels(tmp_path, b_upward):
    write(tmp_path / "bs000", b_upward)
    (files,) = find_bosphorus(tmp_path)
    assert files.subject == "bs000"
    scan = read_bosphorus(files)
    assert scan.image.shape == (ROWS * SCALE, COLUMNS * SCALE, 3)
    assert scan.landmarks == {"Outer left eyebrow": (210.5, 120.25), "Nose tip": (319.5, 253.5)}
    # Oracle: the bump as a function, at the photograph's pixel centers.
    row, column = np.mgrid[: ROWS * SCALE, : COLUMNS * SCALE]
    u = (column + 0.5) / SCALE - 0.5 - (COLUMNS - 1) / 2
    v = (ROWS - 1) / 2 - ((row + 0.5) / SCALE - 0.5)
    relief = 45 * np.sqrt(np.maximum(1 - (u / 55) ** 2 - (v / 50) ** 2, 0))
    z = relief + 14 * np.exp(-((u / 6) ** 2) - ((v + 4) / 9) ** 2) - DISTANCE
    inner = (u / 45) ** 2 + (v / 40) ** 2 < 1
    assert scan.mask[inner].all()
    error = np.abs(scan.depth_mm - z)[inner]
    # Linear between points one pixel apart: off by at most (28 / 6^2 + 28 / 9^2) / 8 = 0.14 mm at
    # the tip of the nose, where the second derivatives are largest, and 0.01 mm for the bulge.
    assert error.max() < 0.15
    assert error.mean() < 0.02


def test_nothing_is_joined_across_a_jump(tmp_path):
    values = planes(False)
    values[:60, :, 2] += 100
    write(tmp_path)
    write_bnt(tmp_path / "bs000_N_N_0.bnt", values, "bs000_N_N_0.png")
    scan = read_bosphorus(find_bosphorus(tmp_path)[0])
    gap = ~scan.mask[:, COLUMNS * SCALE // 2]
    assert gap[59 * SCALE + 2 : 60 * SCALE + 1].all()
    assert not gap[50 * SCALE : 59 * SCALE].any()


def test_faults(tmp_path):
    write(tmp_path)
    path = tmp_path / "bs000_N_N_0.bnt"
    data = path.read_bytes()
    for cut, kind in ((6, "truncated"), (len(data) - 8, "truncated")):
        path.write_bytes(data[:cut])
        with pytest.raises(ScanError) as caught:
            read_bnt(path)
        assert caught.value.kind == kind
    path.write_bytes(data + b"\0" * 8)
    with pytest.raises(ScanError) as caught:
        read_bnt(path)
    assert caught.value.kind == "mis-sized"
    (tmp_path / "bs000_N_N_0.lm2").write_text("3 landmarks:\nLabels:\na\n")
    with pytest.raises(ScanError, match="landmarks"):
        read_lm2(tmp_path / "bs000_N_N_0.lm2")
    (tmp_path / "bs000_N_N_0.png").unlink()
    skipped = Skipped()
    with pytest.warns(SkippedScanWarning, match="unpaired"):
        assert find_bosphorus(tmp_path, skipped) == []
    assert skipped == {"unpaired": 1}
