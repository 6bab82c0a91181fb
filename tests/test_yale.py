"""Reader of CroppedYale and the scores of single photographs, on small made files."""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from facerecon.appearance import model_maps
from facerecon.camera import N_POSE
from facerecon.evaluation.lamps import lamp_means, lamp_rows, lamp_table, measured_slopes
from facerecon.evaluation.measured_normals import (
    MARGIN,
    Surface,
    continued,
    cut,
    evaluate_people,
    means,
    score,
    slopes,
    table,
)
from facerecon.evaluation.yale import (
    YaleError,
    YaleWarning,
    direction,
    list_people,
    read_person,
)
from facerecon.lighting import shade
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction

DATA = os.environ.get("FACERECON_DATA")
LAMPS = [
    f"A{azimuth:+04d}E{elevation:+03d}"
    for azimuth in (-50, -35, -20, 0, 20, 35, 50)
    for elevation in (-20, 0, 10, 15, 20, 40)
]
SHAPE = (192, 168)


def truth() -> np.ndarray:
    """Normals of a bumpy egg that fills the picture."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    x, y = (column - 84) / 84, (96 - row) / 96
    bumps = gaussian_filter(np.random.default_rng(1).normal(0, 1, SHAPE), 2.5)
    depth = 70 * np.sqrt(1.6 - x**2 - 0.5 * y**2) + 0.8 * bumps / bumps.std()
    down, right = np.gradient(depth)
    normals = np.stack([-right, down, np.ones(SHAPE)], -1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def write_person(folder: Path, lamps: list[str] = LAMPS) -> np.ndarray:
    normals = truth()
    folder.mkdir(parents=True)
    for lamp in lamps:
        image = 200 * (normals @ direction(lamp)).clip(0)
        picture = Image.fromarray(np.rint(image).astype(np.uint8))
        picture.save(folder / f"{folder.name}_P00{lamp}.pgm")
    return normals


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("CroppedYale")
    write_person(root / "yaleB01")
    return root


def test_lamps_on_the_viewers_left_have_positive_azimuths():
    np.testing.assert_allclose(direction("A+090E+00"), [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(direction("A+000E+90"), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(direction("A-060E-30"), [0.75, -0.5, 0.43301], atol=1e-5)


def test_a_person_is_read_and_measured(people):
    person = read_person(people / "yaleB01")
    assert person.name == "yaleB01"
    assert person.images.shape == (len(LAMPS), *SHAPE)
    assert person.image("A+000E+10").max() > 190
    assert person.image("A+000E+90") is None
    angle = np.degrees(np.arccos(np.clip((person.measured.normals * truth()).sum(-1), -1, 1)))
    assert angle[person.skin].mean() < 0.5
    assert person.skin.mean() > 0.7


def test_dark_pixels_are_no_skin(tmp_path):
    folder = tmp_path / "yaleB02"
    write_person(folder)
    for path in folder.iterdir():
        image = np.asarray(Image.open(path)).copy()
        image[40:50, 30:60] = image[40:50, 30:60] // 4  # a brow
        Image.fromarray(image).save(path)
    skin = read_person(folder).skin
    assert not skin[40:50, 30:60].any()
    assert skin[60:70, 30:60].all()


def test_damaged_photographs_are_left_out_by_name(tmp_path):
    folder = tmp_path / "yaleB05"
    write_person(folder, LAMPS[:8])
    names = [f"yaleB05_P00{lamp}.pgm" for lamp in LAMPS[:4]]
    (folder / names[0]).write_bytes(b"P5\n168 192\n255\nshort")
    striped = np.asarray(Image.open(folder / names[1])).copy()
    striped[::2] //= 2
    Image.fromarray(striped).save(folder / names[1])
    Image.fromarray(np.full((9, 9), 99, np.uint8)).save(folder / names[2])
    (folder / f"{names[3]}.bad").write_bytes((folder / names[3]).read_bytes())
    (folder / names[3]).unlink()
    (folder / "yaleB05_P00_Ambient.pgm").write_bytes(b"")
    (folder / "yaleB05_P00.info").write_text("a list of names")
    with pytest.warns(YaleWarning) as caught:
        person = read_person(folder)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 3
    for name, cause in zip(names[:3], ("cannot be read", "garbage", "pixels"), strict=True):
        assert sum(name in message and cause in message for message in messages) == 1
    assert sorted(person.lights) == sorted(LAMPS[4:8])


def test_folders_that_are_no_yale_are_refused(tmp_path):
    with pytest.raises(YaleError, match="no folder of a person"):
        list_people(tmp_path)
    (tmp_path / "yaleB09").mkdir()
    with pytest.raises(YaleError, match="0 usable photographs"):
        read_person(tmp_path / "yaleB09")
    with pytest.raises(YaleError, match="no such folder"):
        read_person(tmp_path / "yaleB10")


def surface(normals: np.ndarray, mm: float = 1.0) -> Surface:
    return Surface(normals.astype(np.float32), mm)


def smooth(normals: np.ndarray, sigma: float = 12) -> np.ndarray:
    flat = np.stack([gaussian_filter(slopes(normals)[..., k], sigma) for k in range(2)], -1)
    found = np.concatenate([-flat, np.ones((*SHAPE, 1))], -1)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    mixed = slopes(first) + share * (slopes(second) - slopes(first))
    found = np.concatenate([-mixed, np.ones((*SHAPE, 1))], -1)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_scores_of_surfaces_whose_distance_is_known(people):
    person = read_person(people / "yaleB01")
    true = person.measured.normals.astype(np.float64)
    coarse = smooth(true)
    exact = score(surface(true), surface(coarse), person)
    assert exact["normals"] < 0.1
    assert exact["relief"] == pytest.approx(1)
    assert exact["added"] == pytest.approx(1)
    assert exact["gain"] == pytest.approx(1)
    half = score(surface(between(coarse, true, 0.5)), surface(coarse), person)
    assert half["added"] == pytest.approx(1, abs=1e-3)
    assert half["gain"] == pytest.approx(0.5, abs=1e-2)
    wrong = score(surface(between(coarse, true, -0.5)), surface(coarse), person)
    assert wrong["gain"] == pytest.approx(-0.5, abs=1e-2)
    assert wrong["normals"] > score(surface(coarse), surface(coarse), person)["normals"]
    nothing = score(surface(coarse), surface(coarse), person)
    assert np.isnan(nothing["added"]) and np.isnan(nothing["gain"])


def test_a_turned_surface_is_off_by_its_angle(people):
    person = read_person(people / "yaleB01")
    angle = np.radians(7)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    true = person.measured.normals.astype(np.float64)
    found = score(surface(true @ turn.T), surface(true), person)
    # Turned about x: a normal moves by the angle times the sine of its own angle to x.
    moved = 2 * np.arcsin(np.sin(angle / 2) * np.sqrt(1 - true[person.skin][:, 0] ** 2))
    assert found["normals"] == pytest.approx(np.degrees(moved).mean(), abs=0.05)


def test_methods_see_one_continued_photograph_and_are_averaged(people):
    person = read_person(people / "yaleB01")
    seen = []

    def method(share: float):
        def found(photo, box):
            seen.append((photo, box))
            normals = between(smooth(person.measured.normals), person.measured.normals, share)
            whole = np.pad(normals.astype(np.float32), (*MARGIN, (0, 0)), "edge")
            return Surface(whole, 1.0)

        return found

    lights = ("A+000E+10", "A-035E+15", "A+000E+90")  # the last is missing
    rows = evaluate_people([person], {"coarse": method(0), "fine": method(0.5)}, lights=lights)
    assert [(row["method"], row["lamp"]) for row in rows] == [
        (name, lamp) for lamp in lights[:2] for name in ("coarse", "fine")
    ]
    photo, _ = seen[0]
    np.testing.assert_allclose(photo[90:-90, 80:-80, 1] * 255, person.image("A+000E+10"), atol=1e-4)
    coarse, fine = means(rows)
    assert fine["photographs"] == 2
    assert fine["normals"] < coarse["normals"]
    assert fine["gain"] == pytest.approx(0.5, abs=0.01)
    assert coarse["added"] is None
    lines = table([coarse, fine]).splitlines()
    assert lines[1].split()[-1] == "-" and f"{fine['normals']:.2f}" in lines[2]


def test_the_margin_is_cut_off_again():
    image = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint64).reshape(SHAPE) % 251
    photo = continued(image.astype(np.uint8))
    found = cut(Surface(photo, 1.0)).normals
    np.testing.assert_allclose(found[..., 0] * 255, image, atol=1e-4)


@pytest.mark.skipif(not DATA, reason="FACERECON_DATA is not set: no photographs of Yale B")
def test_real_people_are_measured():
    """Lambertian residuals and plausible faces: noses point at the camera."""
    folder = Path(DATA) / "yale"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", YaleWarning)
        person = read_person(folder / "yaleB01")
    assert person.images.shape == (64, *SHAPE)
    assert 0.7 < person.skin.mean() < 0.97
    assert person.measured.residual[person.skin].mean() < 15
    normals = person.measured.normals
    left, right = normals[80:120, 20:40, 0].mean(), normals[80:120, -40:-20, 0].mean()
    assert left < -0.2 and right > 0.2
    assert abs(normals[person.skin][:, 0].mean()) < 0.1


def test_the_lamp_is_found_with_the_right_average_albedo(model, people):
    person, lamps = read_person(people / "yaleB01"), ("A-035E+15", "A+000E+40", "A+000E+90")
    r = torch.zeros(1, model.n_coefficients + N_POSE)
    maps = model_maps(model, r, 100)
    known = iter(lamps)

    class Planted(Reconstructor):
        """Sees the mean face under the next lamp, in place of the person."""

        def __init__(self):
            self.model = model

        def __call__(self, photo, box):
            light = torch.tensor([[0.3, *(0.3 * direction(next(known)))]], dtype=torch.float32)
            face = object.__new__(Reconstruction)
            seen = shade(maps.albedo_mean, light, maps.normals)[0, 0, ..., None].expand(-1, -1, 3)
            crop = SimpleNamespace(size=100, cut=lambda image: image)
            numbers = {"coefficients": r[0, :-N_POSE].numpy(), "pose": r[0, -N_POSE:].numpy()}
            for name, value in {**numbers, "image": seen.numpy(), "crop": crop}.items():
                object.__setattr__(face, name, value)
            return face

    averages = {"model's": None, "even": torch.ones(model.n_vertices)}
    rows = lamp_rows([person], Planted(), averages, lamps)  # the last is missing
    assert [(row["albedo"], row["lamp"]) for row in rows] == [
        (name, lamp) for lamp in lamps[:2] for name in averages
    ]
    right, even = lamp_means(rows)
    assert right["photographs"] == 2 and right["mean"] < 1
    assert even["median"] > 3
    assert f"{even['median']:.1f}" in lamp_table([right, even])


def test_measured_albedo_that_brightens_upward(tmp_path):
    folder = tmp_path / "yaleB03"
    normals = write_person(folder)
    for path in folder.iterdir():
        image = np.asarray(Image.open(path)) * np.exp(0.3 * (normals[..., 1] - 1))
        Image.fromarray(np.rint(image).astype(np.uint8)).save(path)
    found = measured_slopes(read_person(folder))
    assert found["up"] == pytest.approx(0.3, abs=0.03)
    assert abs(found["right"]) < 0.03 and found["share"] > 0.8
