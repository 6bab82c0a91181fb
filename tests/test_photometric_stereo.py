"""Photometric stereo on rendered spheres and faces, with planted shadows and highlights."""

import numpy as np
import pytest
import torch

from facerecon.evaluation.photometric_stereo import photometric_stereo
from facerecon.evaluation.yale import direction
from facerecon.morphable_model import MorphableModel
from facerecon.render import render

LIGHTS = np.stack(
    [
        direction(f"A{azimuth:+04d}E{elevation:+03d}")
        for azimuth in (-60, -35, -15, 0, 15, 35, 60)
        for elevation in (-30, 0, 30)
    ]
)
SIZE = 64


def sphere() -> tuple[np.ndarray, np.ndarray]:
    """Normals of a ball, and its disc."""
    row, column = np.mgrid[:SIZE, :SIZE]
    x, y = (column - 31.5) / 34, (31.5 - row) / 34
    inside = x**2 + y**2 < 0.8
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0.0))
    return np.where(inside[..., None], np.stack([x, y, z], -1), [0.0, 0.0, 1.0]), inside


def photographs(normals: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    shading = np.einsum("hwk,mk->mhw", normals, LIGHTS).clip(0)
    return np.rint((albedo * shading).clip(0, 255))


def degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1, 1)))


def test_a_matte_sphere():
    normals, inside = sphere()
    albedo = np.where(np.arange(SIZE) < 32, 120.0, 200.0) * np.ones((SIZE, 1))
    found = photometric_stereo(photographs(normals, albedo), LIGHTS)
    assert degrees(found.normals, normals)[inside].mean() < 0.3  # of 8-bit grey levels
    assert np.abs(found.albedo / albedo - 1)[inside].mean() < 0.01
    assert found.residual[inside].mean() < 1
    seen = (normals @ LIGHTS.T * 120 > 6.5).sum(-1)
    assert np.abs(found.count - seen)[inside & (albedo == 120)].max() <= 1


def test_planted_shadows_and_highlights_are_left_out():
    normals, inside = sphere()
    images = photographs(normals, np.full((SIZE, SIZE), 160.0))
    rng = np.random.default_rng(0)
    spoiled = images.copy()
    for image, light in zip(spoiled, LIGHTS, strict=True):
        half = light + np.array([0.0, 0.0, 1.0])
        gloss = (normals @ (half / np.linalg.norm(half))).clip(0) ** 60
        image += 140 * gloss
        y, x = rng.integers(8, SIZE - 24, 2)
        image[y : y + 16, x : x + 16] *= 0.25  # a cast shadow, not black: light comes from around
    spoiled = np.rint(spoiled.clip(0, 255))
    robust = degrees(photometric_stereo(spoiled, LIGHTS).normals, normals)[inside].mean()
    scaled = np.linalg.lstsq(LIGHTS, spoiled.reshape(len(LIGHTS), -1), rcond=None)[0].T
    plain = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    plain = degrees(plain.reshape(normals.shape), normals)[inside].mean()
    assert plain > 5
    assert robust < plain / 4


def test_a_rendered_face():
    """Attached shadows of nose, lids and lips."""
    model = MorphableModel.default()
    face = render(model, torch.zeros(1, model.n_coefficients + 6), 100)
    normals = face.normals[0].permute(1, 2, 0).numpy().astype(np.float64)
    mask = face.mask[0, 0].numpy() & (normals[..., 2] > 0.5)
    normals = np.where(mask[..., None], normals, [0.0, 0.0, 1.0])
    found = photometric_stereo(photographs(normals, np.full(mask.shape, 180.0)), LIGHTS)
    assert degrees(found.normals, normals)[mask].mean() < 0.3
    assert found.normals.dtype == np.float32


@pytest.mark.parametrize("lights", [LIGHTS[:2], LIGHTS[[1, 4, 7, 10]]])
def test_lights_that_tell_no_normal_are_refused(lights):
    """Two of them, or four in one plane with the camera."""
    with pytest.raises(ValueError, match="do not lie in a plane"):
        photometric_stereo(np.full((len(lights), 4, 4), 100.0), lights)
