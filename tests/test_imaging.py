import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facerecon import imaging
from facerecon.imaging import Crop, ImageError, crop, list_images, load_image, to_grey

SHAPE = (12, 17)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def saved(path, image, **options):
    Image.fromarray(image).save(path, **options) if isinstance(image, np.ndarray) else image.save(
        path, **options
    )
    return path


def test_png_is_exact(tmp_path, pixels):
    image = load_image(saved(tmp_path / "a.png", pixels))
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, pixels / 255, atol=1e-7)
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png")), image)
    np.testing.assert_array_equal(load_image(Image.open(tmp_path / "a.png")), image)
    np.testing.assert_array_equal(load_image(pixels), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # The EXIF standard: where the stored picture's row 0 and column 0 belong.
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[:, ::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[::-1],
    }[orientation]
    image = load_image(saved(tmp_path / "a.png", pixels, exif=exif))
    np.testing.assert_allclose(image, upright / 255, atol=1e-7)


def test_damaged_exif_does_not_cost_the_photograph(tmp_path, pixels):
    path = saved(tmp_path / "a.jpg", pixels, exif=b"Exif\0\0not a TIFF header")
    assert load_image(path).shape == pixels.shape


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "gif"])
def test_grey_becomes_three_equal_channels(tmp_path, pixels, suffix):
    image = load_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels).convert("L")))
    assert image.shape == pixels.shape
    np.testing.assert_array_equal(image[..., :1].repeat(3, axis=2), image)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_depth(tmp_path, rng, suffix):
    values = rng.integers(0, 65536, SHAPE, dtype=np.uint16)
    image = load_image(saved(tmp_path / f"a.{suffix}", values))
    np.testing.assert_allclose(image[..., 0], values / 65535, atol=1e-7)


def test_one_bit_and_palette(tmp_path, pixels):
    bits = pixels[..., 0] > 127
    image = load_image(saved(tmp_path / "a.png", bits))
    np.testing.assert_array_equal(image[..., 1], bits)
    flat = np.where(bits[..., None], np.uint8([250, 20, 30]), np.uint8([5, 200, 90]))
    palette = Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    image = load_image(saved(tmp_path / "b.png", palette))
    np.testing.assert_allclose(image, flat / 255, atol=1.01 / 255)  # the palette's own rounding


def test_transparency_lies_over_white(tmp_path, pixels, rng):
    alpha = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    image = load_image(saved(tmp_path / "a.png", np.dstack([pixels, alpha])))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(image, pixels / 255 * share + 1 - share, atol=1e-6)


def test_cmyk(tmp_path):
    color = Image.new("CMYK", SHAPE[::-1], (0, 255, 255, 0))
    image = load_image(saved(tmp_path / "a.jpg", color))
    np.testing.assert_allclose(image, np.broadcast_to([1, 0, 0], image.shape), atol=0.02)


def test_tiny_images(tmp_path):
    one = load_image(saved(tmp_path / "a.png", np.full((1, 1, 3), 51, np.uint8)))
    np.testing.assert_allclose(one, np.full((1, 1, 3), 0.2), atol=1e-7)


def bad_files(folder):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "gif", "webp"):
        whole = saved(folder / f"whole.{suffix}", picture).read_bytes()
        (folder / f"truncated.{suffix}").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image " * 50)
    (folder / "folder.jpg").mkdir()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("empty.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("folder.jpg", "folder"),
        ("missing.jpg", "no such file"),
        ("truncated.png", "truncated"),
        ("truncated.jpg", "truncated"),
        ("truncated.gif", "truncated"),
        ("truncated.webp", "."),
        ("nul\0.jpg", "null byte"),
    ],
)
def test_bad_files_name_file_and_cause_in_one_line(tmp_path, name, cause):
    bad_files(tmp_path)
    with pytest.raises(ImageError, match=cause) as caught:
        load_image(tmp_path / name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path))


def test_a_picture_of_400_megapixels_is_refused_unread(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("1", (20_000, 20_000)))
    with warnings.catch_warnings(), pytest.raises(ImageError, match="million pixels; scale"):
        warnings.simplefilter("error")
        load_image(path)
    path = saved(tmp_path / "b.png", Image.new("1", (10_000, 9_000)))  # Pillow itself only warns
    with pytest.raises(ImageError, match="10000 x 9000 is more than 80 million pixels"):
        load_image(path)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (np.full((4, 4, 3), 255.0), "divide 8-bit values by 255"),
        (np.full((4, 4, 3), -0.5), "expected 0 to 1"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 2)), "shape"),
        (np.zeros((0, 4, 3)), "shape"),
        (np.zeros((2, 4, 4, 3)), "shape"),
        (np.zeros(5), "shape"),
    ],
)
def test_bad_arrays(array, cause):
    with pytest.raises(ImageError, match=cause):
        load_image(array)


def test_good_arrays(pixels):
    exact = pixels / 255
    for array in (exact, exact.astype(np.float16), pixels.astype(np.uint16) * 257):
        np.testing.assert_allclose(load_image(array), exact, atol=3e-4)  # float16: 2**-12
    assert load_image(pixels[..., 0] > 9).shape == pixels.shape
    assert load_image(exact[..., :1]).shape == pixels.shape


def test_grey_weights():
    primaries = np.eye(3, dtype=np.float32)[None]
    np.testing.assert_allclose(to_grey(primaries), [[0.299, 0.587, 0.114]], atol=1e-7)
    assert to_grey(np.ones((1, 1, 3), np.float32)).max() <= 1


def test_list_images(tmp_path, pixels):
    for name in ("b.png", "a.JPG", "c.gif"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "none").mkdir()
    files = [tmp_path / name for name in ("a.JPG", "b.png", "c.gif")]
    assert list_images([tmp_path]) == files
    assert list_images([tmp_path / "*.png", str(tmp_path / "a.JPG")]) == [files[1], files[0]]
    assert list_images([files[2], tmp_path]) == [files[2], files[0], files[1]]
    assert list_images([tmp_path / "later.jpg"]) == [tmp_path / "later.jpg"]
    odd = tmp_path / "odd[1].png"
    Image.fromarray(pixels).save(odd)
    assert list_images([odd]) == [odd]  # an existing file is not a pattern
    with pytest.raises(ImageError, match="no image"):
        list_images([tmp_path / "none"])
    with pytest.raises(ImageError, match="no file matches"):
        list_images([tmp_path / "*.tiff"])


def test_crop_on_the_grid_copies(rng):
    image = rng.random((30, 40, 3)).astype(np.float32)
    part, square = crop(image, (5, 7, 20, 20), 20)
    np.testing.assert_array_equal(part, image[7:27, 5:25])
    np.testing.assert_array_equal(square.to_image(np.array([0.0, 0.0])), [5, 7])


def test_reduction_averages_blocks(rng):
    image = rng.random((40, 40)).astype(np.float32)
    part, _ = crop(image, (4, 8, 30, 30), 10)
    blocks = image[8:38, 4:34].reshape(10, 3, 10, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(part, blocks, atol=1e-6)


def test_enlargement_and_shift_are_bilinear(rng):
    image = rng.random((20, 20)).astype(np.float32)
    part, square = crop(image, (3.3, 5.6, 8, 8), 23)
    columns, rows = np.meshgrid(np.arange(23), np.arange(23))
    column, row = square.to_image(np.stack([columns, rows], -1).reshape(-1, 2)).T
    left, top = np.floor(column).astype(int), np.floor(row).astype(int)
    u, v = column - left, row - top
    naive = (image[top, left] * (1 - u) + image[top, left + 1] * u) * (1 - v)
    naive += (image[top + 1, left] * (1 - u) + image[top + 1, left + 1] * u) * v
    np.testing.assert_allclose(part, naive.reshape(23, 23), atol=1e-6)


def test_reduction_by_any_factor_integrates_areas(rng):
    image = rng.random((50, 50)).astype(np.float32)
    box, size = (2.25, 3.75, 41.5, 41.5), 7
    part, square = crop(image, box, size)
    fine = np.kron(image, np.ones((100, 100)))  # areas to a hundredth of a pixel
    naive = np.empty((size, size))
    bounds_x = np.rint((box[0] + np.arange(size + 1) * square.step) * 100).astype(int)
    bounds_y = np.rint((box[1] + np.arange(size + 1) * square.step) * 100).astype(int)
    for i in range(size):
        for j in range(size):
            rows = slice(bounds_y[i], bounds_y[i + 1])
            naive[i, j] = fine[rows, bounds_x[j] : bounds_x[j + 1]].mean()
    # Footprints are rounded to 1/100 of a pixel, of which one holds 5.9: at most 0.4 %.
    np.testing.assert_allclose(part, naive, atol=4e-3)


def test_crop_repeats_the_border():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    part, _ = crop(image, (-2, -1, 8, 8), 8)
    np.testing.assert_array_equal(part, np.pad(image, ((1, 4), (2, 2)), mode="edge"))


def test_crop_of_a_huge_box_is_cheap_and_even():
    part, _ = crop(np.full((9, 9, 3), 0.25, np.float32), (-1e8, -1e8, 2e8, 2e8), 5)
    np.testing.assert_allclose(part, 0.25, atol=1e-6)


numbers = st.floats(-1e3, 1e3)


@given(numbers, numbers, st.floats(1, 1e4), st.integers(1, 500))
def test_maps_of_a_crop_are_inverse_and_keep_corners(x, y, side, size):
    square = Crop(x, y, side, size)
    corners = np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]])
    at = square.to_image(corners)
    np.testing.assert_allclose(at, [[x - 0.5, y - 0.5], [x + side - 0.5, y + side - 0.5]])
    np.testing.assert_allclose(square.to_crop(at), corners, atol=1e-6)
    assert square.at(7) == Crop(x, y, side, 7)


@pytest.mark.parametrize(
    ("box", "cause"),
    [
        ((0, 0, 0, 0), "positive"),
        ((0, 0, -3, -3), "positive"),
        ((np.nan, 0, 5, 5), "finite"),
        ((0, 0, np.inf, np.inf), "finite"),
        ((0, 0, 5, 6), "square"),
        ((20, 0, 5, 5), "outside the image of 10 x 8"),
        ((0, -5, 5, 5), "outside"),
    ],
)
def test_impossible_boxes(box, cause):
    with pytest.raises(ValueError, match=cause):
        crop(np.zeros((8, 10), np.float32), box, 4)


def test_the_limit_holds_for_arrays_too(monkeypatch):
    monkeypatch.setattr(imaging, "MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="4 x 3 is more than"):
        load_image(np.zeros((3, 4)))
