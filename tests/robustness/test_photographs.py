"""What `load_image` takes and what it refuses."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from facerecon.imaging import ImageError, list_images, load_image


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)


def encoded(pixels, kind: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format=kind)
    return data.getvalue()


def test_bytes_open_files_and_tensors(tmp_path, pixels):
    content = encoded(pixels, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    expected = load_image(path)
    np.testing.assert_array_equal(load_image(content), expected)
    np.testing.assert_array_equal(load_image(io.BytesIO(content)), expected)
    with open(path, "rb") as stream:
        np.testing.assert_array_equal(load_image(stream), expected)
    np.testing.assert_array_equal(load_image(torch.from_numpy(pixels)), expected)
    with open(path, encoding="latin1") as text, pytest.raises(ImageError, match="binary mode"):
        load_image(text)


def test_addresses_and_other_types_are_refused_as_what_they_are():
    with pytest.raises(ImageError, match="is an address; download"):
        load_image("https://example.org/a.jpg")
    with pytest.raises(ImageError, match="cannot read a photograph from int"):
        getattr(load_image, "__wrapped__", load_image)(7)  # past the tests' own type checks


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n",
        b"\xc5\xd0\xd3\xc6" + bytes(60),
        b"P9 2 2 255 ",
        b"%PDF-1.4\n",
    ],
    ids=["EPS", "DOS EPS", "P9", "PDF"],
)
def test_only_raster_formats_are_opened_whatever_the_name(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not an image of a known format"):
        load_image(path)


def test_photographs_of_phones(tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(ImageError, match=r"a\.heic: (is a HEIC|cannot be|not an image)"):
        load_image(path)
    if features.check("avif"):
        ramp = np.broadcast_to(np.arange(0, 256, 4, np.uint8)[:, None, None], (64, 64, 3))
        np.testing.assert_allclose(
            load_image(encoded(ramp.copy(), "AVIF")), ramp / np.float32(255), atol=0.05
        )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_does_not_hang(tmp_path):
    path = tmp_path / "a.png"
    os.mkfifo(path)
    with pytest.raises(ImageError, match="is a pipe"):
        load_image(path)


def test_a_null_byte_in_the_name():
    with pytest.raises(ImageError):
        load_image(Path("a\0b.png"))


@pytest.mark.parametrize("size", [(9, 8), (1, 1)])
def test_grey_as_32_bit_integers(size):
    """`convert("I")` keeps the values; 16-bit grey may come in the same mode."""
    grey = Image.fromarray(np.full(size, 51, np.uint8))
    np.testing.assert_allclose(load_image(grey.convert("I")), 0.2, rtol=1e-6)
    deep = Image.fromarray(np.full(size, 13107, np.int32))
    np.testing.assert_allclose(load_image(deep), 0.2, rtol=1e-6)
    data = io.BytesIO()
    Image.fromarray(np.full(size, 200, np.uint16)).save(data, format="PNG")  # nearly black
    np.testing.assert_allclose(load_image(data.getvalue()), 200 / 65535, rtol=1e-6)


def test_tensors_arrays_and_files_of_odd_kinds(tmp_path):
    swapped = np.full((4, 5), 65535, ">u2")
    assert load_image(swapped).min() == 1
    assert load_image(torch.ones(4, 5, dtype=torch.bfloat16)).min() == 1
    with pytest.raises(ImageError, match="cannot be read as an array"):
        load_image(torch.ones(4, 5, device="meta"))
    with open(tmp_path / "a.png", "wb") as stream, pytest.raises(ImageError, match="cannot be"):
        load_image(stream)
    for name in ("", "http://example.org/a.jpg"):
        with pytest.raises(ImageError):
            list_images([name])
