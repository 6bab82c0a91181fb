import base64
import json
import re
import zlib

import numpy as np
import pytest

from facerecon.files import OutputError
from facerecon.web_view import Part, frame, packed, small_page, write_page

RNG = np.random.default_rng(0)
POINTS = RNG.normal(0, 50, (40, 3))
ASIDE = np.array([100.0, 0, 0])
FACES = RNG.integers(0, 40, (25, 3))


def unpacked(part: dict) -> tuple[np.ndarray, np.ndarray]:
    """Faces and columns, as the script reads them, number by number."""
    data = zlib.decompress(base64.b64decode(part["data"]))
    n, f = part["vertices"], 3 * part["faces"]
    faces, total = [], 0
    for i in range(f):
        total += int.from_bytes(data[4 * i : 4 * i + 4], "little", signed=True)
        faces.append(total)
    columns = []
    for k, (low, step) in enumerate(part["columns"]):
        whole, values = 0, []
        for i in range(n):
            at = 4 * f + 2 * (k * n + i)
            whole = (whole + int.from_bytes(data[at : at + 2], "little")) % 65536
            values.append(low + step * whole)
        columns.append(values)
    assert len(data) == 4 * f + 2 * n * len(columns)
    return np.array(faces).reshape(-1, 3), np.array(columns).T


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_meshes_come_back(dtype):
    points = POINTS.astype(dtype)
    coarse, uv = points[:, 2] - 3, RNG.random((40, 2)).astype(dtype)
    part = Part(points, FACES, coarse, uv, texture=b"\xff\xd8 a JPEG file")
    (found,) = json.loads(packed([part]))["parts"]
    faces, columns = unpacked(found)
    np.testing.assert_array_equal(faces, FACES)
    expected = np.column_stack([points, coarse, uv])
    # Half of a step, and the rounding of float32 numbers of up to 200.
    step = np.ptp(expected, axis=0) / 65535
    assert (np.abs(columns - expected) <= 0.51 * step + 2e-5).all()
    assert base64.b64decode(found["texture"].split(",")[1]) == part.texture


def test_without_texture_vertices_are_colored_or_grey():
    red = np.tile([1.0, 0, 0], (40, 1))
    colored, grey = json.loads(packed([Part(POINTS, FACES, colors=red), Part(POINTS, FACES)]))[
        "parts"
    ]
    np.testing.assert_allclose(unpacked(colored)[1][:, 4:], red, atol=1e-6)
    np.testing.assert_allclose(unpacked(grey)[1][:, 4:], 0.8)
    assert colored["texture"] is grey["texture"] is None
    # No coarse surface: the detailed one is at both ends of the blend.
    columns = unpacked(grey)[1]
    np.testing.assert_array_equal(columns[:, 2], columns[:, 3])


def test_the_view_holds_all_parts():
    scene = json.loads(packed([Part(POINTS, FACES), Part(POINTS + ASIDE, FACES)]))
    both = np.concatenate([POINTS, POINTS + ASIDE])
    distance = np.linalg.norm(both - scene["middle"], axis=1)
    assert distance.max() == pytest.approx(scene["radius"])
    extent = np.abs(both - scene["middle"]).max(0)
    assert extent[0] == pytest.approx(scene["reach"]) and extent[1] < extent[0]


def test_a_page_asks_nobody_for_anything_and_escapes_names():
    text = small_page([Part(POINTS, FACES)], 'a"><script>alert(1)</script>.jpg')
    assert "alert(1)</script>" not in text
    assert "&quot;&gt;&lt;script&gt;" in text
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)|url\(|@import|https?://""", text)
    assert not outside
    assert "<script>alert" not in frame(text)


def test_pages_replace_only_pages_of_ours(tmp_path):
    path = tmp_path / "a.html"
    page = small_page([Part(POINTS, FACES)], "one")
    write_page(path, page)
    write_page(path, page.replace("one", "two"))
    assert "<title>two" in path.read_text()
    path.write_text("<html>a page of the user's</html>")
    with pytest.raises(OutputError, match=r"a\.html: is no page of facerecon's"):
        write_page(path, page)
    assert "user's" in path.read_text()
