"""Statistics of images against closed forms, two-sample tests by hand, and a whole report."""

import json

import numpy as np
import pytest
import skimage.data
from PIL import Image

from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK
from facerecon.evaluation.sheets import image_grid
from facerecon.realism.report import compare_images
from facerecon.realism.statistics import (
    OCTAVES,
    band_power,
    face_ellipse,
    image_statistics,
    power_spectrum,
)
from facerecon.realism.two_sample import area_under_curve, compare, discriminate, halves

SIZE = 200
ROW, COLUMN = np.mgrid[:SIZE, :SIZE]


def statistics(image) -> dict[str, float]:
    found = image_statistics(np.asarray(image, dtype=np.float32)[None])
    return {name: values.item() for name, values in found.items()}


def test_ellipse_has_the_area_of_an_ellipse():
    assert face_ellipse(SIZE).mean() == pytest.approx(np.pi * 0.28 * 0.38, rel=0.01)
    assert face_ellipse(SIZE)[100, 45] and not face_ellipse(SIZE)[100, 43]
    assert face_ellipse(SIZE)[25, 100] and not face_ellipse(SIZE)[22, 100]


def test_a_ramp():
    found = statistics(0.1 + 0.002 * COLUMN + 0.001 * ROW)
    assert found["crop_mean"] == pytest.approx(0.1 + 0.003 * 99.5, rel=1e-4)
    assert found["crop_std"] == pytest.approx(np.sqrt(5e-6 * (SIZE**2 - 1) / 12), rel=1e-4)
    assert found["crop_gradient"] == pytest.approx(np.sqrt(5e-6), rel=1e-3)
    assert found["crop_gradient_across"] == pytest.approx(np.log10(4), abs=0.01)
    assert found["crop_laplacian"] == pytest.approx(-8, abs=0.01)  # none
    assert found["crop_noise"] == pytest.approx(-4, abs=0.01)
    # Half an ellipse of half width a has its centroid at 4 a / (3 pi).
    middle = 0.1 + 0.003 * 99.5
    across = 2 * 4 * 0.28 * SIZE / (3 * np.pi) * 0.002
    down = 2 * 4 * 0.38 * SIZE / (3 * np.pi) * 0.001
    assert found["left_right"] == pytest.approx(across / middle, rel=0.01)
    assert found["mirror_difference"] == pytest.approx(across / middle, rel=0.01)
    assert found["top_bottom"] == pytest.approx(-down / middle, rel=0.01)


def test_white_noise(rng):
    sigma = 0.02
    found = statistics(rng.normal(0.5, sigma, (SIZE, SIZE)))
    for region in ("face", "crop"):
        assert found[f"{region}_std"] == pytest.approx(sigma, rel=0.03)
        assert found[f"{region}_noise"] == pytest.approx(np.log10(sigma), abs=0.01)
        assert found[f"{region}_laplacian"] == pytest.approx(np.log10(20 * sigma**2), abs=0.03)
        assert found[f"{region}_gradient_kurtosis"] == pytest.approx(np.log10(3), abs=0.03)
        # Central differences have the deviation sigma / sqrt(2); their length is Rayleigh.
        expected = sigma / np.sqrt(2) * np.sqrt(np.pi / 2)
        assert found[f"{region}_gradient"] == pytest.approx(expected, rel=0.03)
        low, high = (found[f"{region}_level_{name}"] for name in ("05", "95"))
        assert high - low == pytest.approx(2 * 1.645 * sigma, rel=0.05)
    image = rng.normal(0, 1, (SIZE, SIZE))
    # Fewer cells, more chance: a band has at least 70 of them here.
    np.testing.assert_allclose(band_power(image)[3:], 1, rtol=0.1)


def test_edges_are_not_noise(rng):
    stripes = 0.3 + 0.4 * (COLUMN // 20 % 2) + rng.normal(0, 0.01, (SIZE, SIZE))
    assert statistics(stripes)["crop_noise"] == pytest.approx(-2, abs=0.01)
    assert statistics(stripes)["crop_gradient_kurtosis"] > np.log10(6)


def test_a_wave_lies_in_its_octave():
    for cycles in (2, 5, 9, 18, 36, 75):  # per crop
        image = 0.5 + 0.1 * np.sin(2 * np.pi * cycles * COLUMN / SIZE)
        power = band_power(image)
        frequency = cycles / SIZE
        expected = np.searchsorted(OCTAVES, frequency) - 1
        # A band's power is a mean over its cells, and large bands have more of them.
        assert power.argmax() == expected


def test_power_adds_up_to_the_variance(rng):
    image = rng.normal(0, 1, (64, 64))
    window = np.outer(np.hanning(66)[1:-1], np.hanning(66)[1:-1])
    level = (image * window).sum() / window.sum()
    variance = (((image - level) * window) ** 2).sum() / (window**2).sum()
    assert power_spectrum(image)[1].sum() / 64**2 == pytest.approx(variance)  # Parseval


def test_parts_of_the_crop():
    image = np.full((SIZE, SIZE), 0.5)
    image[face_ellipse(SIZE)] = 0.4
    image[:, :10] = 1.0  # white: 5 %
    image[150:153, 100:110] = 0.0  # in the face
    image[76:92, 60:80] = image[76:92, 120:140] = 0.2  # eyes
    found = statistics(image)
    assert 10 ** found["crop_share_white"] - 1e-3 == pytest.approx(0.05, rel=1e-3)
    assert 10 ** found["face_share_white"] - 1e-3 == pytest.approx(0, abs=1e-9)
    black = 30 / face_ellipse(SIZE).sum()
    assert 10 ** found["face_share_black"] - 1e-3 == pytest.approx(black, rel=1e-3)
    assert found["face_level_50"] == pytest.approx(0.4)
    # 36 x 18 pixels are an eye's box, 20 x 16 of them dark and the rest skin.
    eyes = 0.4 - 0.2 * 20 * 16 / (36 * 18)
    assert found["eyes_below_cheeks"] == pytest.approx((0.4 - eyes) / found["face_mean"], rel=1e-3)
    assert found["cheeks_std"] == pytest.approx(0, abs=1e-6)
    face = found["face_mean"]
    assert found["below_minus_face"] == pytest.approx(0.05 * 1 + 0.95 * 0.5 - face, abs=1e-3)
    assert found["above_minus_face"] == pytest.approx(0.05 * 1 + 0.95 * 0.5 - face, abs=1e-3)
    beside = (10 * 1.0 + 22 * 0.5) / 32  # columns 0-15 and 184-199
    assert found["beside_minus_face"] == pytest.approx(beside - face, abs=1e-3)


def test_two_samples_by_hand():
    reference, other = np.array([0.0, 1.0, 2.0]), np.array([1.5, 3.0, 4.0])
    unit = np.sqrt(2 / 3)
    found = compare(reference, other)
    assert found.ks == pytest.approx(2 / 3)  # just below 1.5: two of three against none
    assert found.wasserstein == pytest.approx((1.5 + 2 + 2) / 3 / unit)
    assert found.shift == pytest.approx((8.5 / 3 - 1) / unit)
    assert found.p == pytest.approx(0.6)  # 12 of the 20 ways to mix 3 and 3 go as far apart
    assert compare(other, reference).shift < 0
    assert compare(np.zeros(5), np.ones(5)).wasserstein == 1  # without a spread: as it is


def test_area_under_the_curve_by_hand():
    score, label = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    assert area_under_curve(score, label) == pytest.approx(3 / 4)
    assert area_under_curve(np.ones(4), label) == 0.5


def test_discriminator_sees_what_there_is_and_nothing_else(rng):
    def sample(n, mean=0.0, std=1.0):
        return {"a": rng.normal(mean, std, n), "b": rng.normal(0, 3, n)}

    same = [discriminate(sample(200), sample(300), rng) for _ in range(4)]
    assert np.mean(same) == pytest.approx(0.5, abs=0.05)
    assert discriminate(sample(200), sample(300, mean=6), rng) > 0.999
    # Two normal distributions two deviations apart: AUC = Phi(sqrt(2)).
    assert discriminate(sample(600), sample(600, mean=2), rng) == pytest.approx(0.921, abs=0.03)
    assert discriminate(sample(300), sample(300, std=5), rng) > 0.8  # by the squares
    with pytest.raises(ValueError, match="at least 5 images"):
        discriminate(sample(4), sample(100), rng)


def test_halves_share_nothing(rng):
    first, second = halves(11, rng)
    assert sorted([*first, *second]) == list(range(11)) and len(first) == 5


def test_comparison_ranks_what_was_changed(rng):
    def images(n, noise):
        light = rng.uniform(0.3, 0.6, (n, 1, 1)) + rng.normal(0, 5e-4, (n, 1, 1)) * COLUMN[:64, :64]
        return (light + rng.normal(0, noise, (n, 64, 64))).clip(0, 1).astype(np.float32)

    found = compare_images(images(60, 0.01), images(60, 0.03))
    assert found.auc > 0.99
    assert 0.35 < found.null_auc < 0.65
    worst = list(found.differences)[:8]
    assert {"crop_noise", "face_noise", "crop_laplacian", "crop_gradient"} <= set(worst)
    assert found.differences["crop_noise"].ks == 1 > found.null["crop_noise"].ks
    assert found.differences["crop_mean"].ks < 0.35
    same = compare_images(images(60, 0.01), images(60, 0.01))
    assert 0.35 < same.auc < 0.65


def test_image_grid_keeps_the_pixels(tmp_path):
    images = np.arange(6, dtype=np.float32).reshape(3, 1, 2).repeat(2, 1) / 10
    (tmp_path / "sheet.png").write_bytes(image_grid(images, columns=2))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")) / 255
    expected = [[0, 0.1, 0.2, 0.3]] * 2 + [[0.4, 0.5, 1, 1]] * 2
    np.testing.assert_allclose(sheet, expected, atol=0.003)


@pytest.mark.slow
def test_report_from_the_command_line(tmp_path, rng, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    portrait = skimage.data.astronaut()[30:200, 140:310] / 255
    for number in range(34):
        level, slope = rng.uniform(0.5, 1.0), rng.uniform(-0.3, 0.3)
        light = level * (1 + slope * np.linspace(-1, 1, 170))[None, :, None]
        picture = np.rint((portrait * light).clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(picture).save(photos / f"{number}.png")
    Image.new("RGB", (80, 80)).save(photos / "blank.png")
    options = ["--photos", str(photos), "--count", "32", "--seed", "2", "--quiet"]
    assert main(["data", "report", *options, "--out", str(out)]) == OK
    names = {path.name for path in out.iterdir()}
    pictures = {f"{n}.png" for n in ("photographs", "synthetic", "histograms", "spectra")}
    assert names == {"report.json", "report.md"} | pictures
    report = json.loads((out / "report.json").read_text())
    assert report["photographs"]["without_a_face"] == ["blank.png"]
    assert report["photographs"]["used"] == 34 and report["seed"] == 2
    assert report["auc"] > 0.9  # one portrait against many synthetic faces
    distances = [entry["ks"] for entry in report["statistics"].values()]
    assert distances == sorted(distances, reverse=True)
    table = (out / "report.md").read_text()
    assert all(f"| {name} |" in table for name in report["statistics"])
    with Image.open(out / "synthetic.png") as sheet:
        assert sheet.size == (1600, 800)
    assert "AUC" in capsys.readouterr().out

    few = ["--photos", str(photos), "--limit", "3", "--quiet", "--out", str(tmp_path / "none")]
    assert main(["data", "report", *few]) == FAILED
    assert "a report needs at least 32" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
