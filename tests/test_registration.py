import dataclasses

import numpy as np
import pytest
from scan_fixtures import scan
from scipy import ndimage

from facerecon.scans.registration import Offset, measure_offset, moved


def shifted_scan(columns: float, rows: float):
    """A scan whose photograph lies that much to the right and below its geometry."""
    here = scan()
    image = ndimage.shift(here.image, (rows, columns, 0), order=1, mode="nearest")
    return dataclasses.replace(here, image=image, landmarks={"Nose": (80 + columns, 60 + rows)})


@pytest.mark.parametrize("columns,rows", [(0, 0), (3, -2), (-5, 4), (2.5, 1.5), (-0.5, 7.25)])
def test_a_planted_offset_is_found(columns, rows):
    found = measure_offset(shifted_scan(columns, rows))
    # The geometry's normals are smoothed, the lit ones were not, and between pixels the photograph
    # is interpolated: so a third of a pixel.
    assert found.columns == pytest.approx(columns, abs=0.35)
    assert found.rows == pytest.approx(rows, abs=0.35)
    assert found.pixels == pytest.approx(np.hypot(columns, rows), abs=0.5)


@pytest.mark.parametrize("columns,rows", [(3, -2), (2.5, 1.5)])
def test_moving_back_undoes_it(columns, rows):
    broken = shifted_scan(columns, rows)
    repaired = moved(broken, Offset(columns, rows, 0.1, 0.2))
    inner = np.s_[10:-10, 10:-10]
    true, before, after = (s.image[inner] for s in (scan(), broken, repaired))
    assert np.abs(after - true).mean() < 0.25 * np.abs(before - true).mean()
    assert repaired.landmarks["Nose"] == (80, 60)
    assert measure_offset(repaired).pixels < 0.5
    assert measure_offset(broken).gain > 0.2 > measure_offset(repaired).gain


def test_too_little_to_register():
    with pytest.raises(ValueError, match="too few"):
        measure_offset(scan(), np.zeros((120, 160), bool))
