"""The compared methods on a photograph: landmarks near the truth, depth maps that are faces."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from facerecon.camera import POSE_UNITS, project, split
from facerecon.detection.detect import NoFaceError
from facerecon.evaluation.heads.models import load_heads
from facerecon.methods.compared import align
from facerecon.methods.contour import Contour
from facerecon.methods.kazemi2014 import MIRROR, default_predictor
from facerecon.methods.registry import MethodSettings, build_method, method_card, method_names
from facerecon.methods.zhu2015 import fit_landmarks
from facerecon.on_photo import detail_on_photo, model_on_photo, pixel_width
from facerecon.simulated_scans.shapes import Subjects
from facerecon.simulated_scans.subjects import subject
from facerecon.weights import shipped

METHODS = [name for name in method_names() if name[-4:].isdigit()]


@pytest.fixture(scope="module")
def shot():
    subjects = Subjects(load_heads(shipped("morphable_model.npz")))
    return subject(subjects, 7, 0)[0]


def test_mirror_of_landmarks_is_the_models(model):
    mirrored = model.mirror[model.landmarks]
    assert torch.equal(mirrored, model.landmarks[list(MIRROR)])


def test_landmarks_near_the_truth(shot):
    found = default_predictor()(shot.image)
    off = np.linalg.norm(found - shot.landmarks, axis=1)
    width = np.ptp(shot.landmarks[:, 0])
    assert off[17:].mean() < 0.03 * width and off.mean() < 0.05 * width


def test_landmarks_follow_the_photograph(shot):
    """Moved by 31 and 17 pixels, and at half the size."""
    predictor = default_predictor()
    found = predictor(shot.image)
    moved = predictor(np.roll(shot.image, (17, 31), axis=(0, 1)))
    assert np.abs(moved - found - (31, 17)).mean() < 2
    mirrored = predictor(np.ascontiguousarray(shot.image[:, ::-1]))[list(MIRROR)]
    mirrored[:, 0] = shot.image.shape[1] - 1 - mirrored[:, 0]
    assert np.abs(mirrored - found).mean() < 4
    half = predictor(shot.image[::2, ::2])
    assert np.abs(half * 2 - found).mean() < 4


@pytest.mark.parametrize("name", METHODS)
def test_depth_is_a_face(shot, name):
    estimate = build_method(name, MethodSettings())(shot.image)
    mask = np.isfinite(estimate.depth_mm)
    assert mask.shape == shot.image.shape[:2]
    # About as large as the face, where it is, and with relief of the right size and sign.
    column, row = shot.landmarks[30]
    assert mask[round(row), round(column)]
    extent = np.ptp(shot.landmarks, axis=0).prod()
    assert 0.7 < mask.sum() / extent < 2
    both = mask & np.isfinite(shot.points[..., 2])
    truth, depth = shot.points[both][:, 2], estimate.depth_mm[both]
    assert np.corrcoef(truth, depth)[0, 1] > 0.8
    error = depth - truth
    assert np.abs(error - np.median(error)).mean() < 8
    true_width = 1 / shot.camera.focal * -np.median(truth)
    assert estimate.mm_per_pixel == pytest.approx(true_width, rel=0.2)
    assert set(method_card(name, MethodSettings())) >= {"hash"}


@pytest.mark.parametrize("name", METHODS)
def test_no_face_is_said(name):
    with pytest.raises(NoFaceError):
        build_method(name, MethodSettings())(np.full((120, 160, 3), 0.5, np.float32))


def test_aligned_crop_centers_the_pose(model):
    """The same vertices lie at the same places of the photograph, and shift and scale are zero."""
    pose = torch.tensor([[0.3, -0.5, 0.4, 1.0, -0.7, 0.6]])
    vertices = model.mean[None]
    landmarks = project(vertices, pose, 300)[0, model.landmarks, :2].double().numpy()
    landmarks = landmarks + np.array([40, 25])
    fit = fit_landmarks(model, Contour(model), landmarks, shape=False)
    r, crop = align(fit, model.n_coefficients)
    coefficients, aligned = split(r, model.n_coefficients)
    assert not coefficients.any() and not aligned[:, 3:].any()
    fitted = split(fit.r, model.n_coefficients)[1]
    before = fit.crop.to_image(project(vertices, fitted, fit.crop.size)[0, ::50, :2].numpy())
    after = crop.to_image(project(vertices, aligned, crop.size)[0, ::50, :2].numpy())
    np.testing.assert_allclose(before, after, atol=1e-2)
    scale = 300 / 214 * float(torch.exp(pose[0, 5] * POSE_UNITS[5]))
    assert pixel_width(r, crop) == pytest.approx(pixel_width(fit.r, fit.crop), rel=1e-4)
    assert pixel_width(fit.r, fit.crop) == pytest.approx(1 / scale, rel=0.02)


def test_maps_of_a_crop_lie_on_the_photograph(model):
    pose = torch.zeros(1, 6)
    landmarks = project(model.mean[None], pose, 200)[0, model.landmarks, :2].double().numpy()
    fit = fit_landmarks(model, Contour(model), landmarks + np.array([30, 10]), shape=False)
    r, crop = align(fit, model.n_coefficients, 100)
    depth = model_on_photo(model, r, crop, (240, 260))
    column, row = (landmarks[30] + np.array([30, 10])).round().astype(int)
    assert depth[row, column] == pytest.approx(model.mean[model.landmarks[30], 2].item(), abs=2)
    ramp = torch.arange(100.0).expand(1, 1, 100, 100)
    mask = torch.ones(1, 1, 100, 100, dtype=torch.bool)
    lifted = detail_on_photo(ramp, mask, crop, (240, 260))
    expected = crop.to_crop(np.array([column, row], float))[0]
    assert lifted[row, column] == pytest.approx(expected, abs=1e-3)
    assert np.isnan(lifted[0, -1])


def test_without_dlib_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['dlib'] = None\n"
        "from facerecon.methods.registry import MethodSettings, build_method\n"
        "try: build_method('zhu2015', MethodSettings())\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "facerecon[compare]" in done.stdout
