import inspect
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from facerecon import camera

SIZE = 200


def one_pose(**units: float) -> torch.Tensor:
    pose = torch.zeros(1, camera.N_POSE, dtype=torch.float64)
    for name, value in units.items():
        pose[0, camera.POSE_NAMES.index(name)] = value
    return pose


def random_poses(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, camera.N_POSE, dtype=torch.float64, generator=generator)


def test_positive_angles_turn_as_documented():
    nose = torch.tensor([[[0.0, 0.0, 100.0]]], dtype=torch.float64)
    down = camera.to_camera(nose, one_pose(pitch=1.0))[0, 0]
    right = camera.to_camera(nose, one_pose(yaw=1.0))[0, 0]
    torch.testing.assert_close(
        down, 100 * torch.tensor([0.0, -math.sin(0.3), math.cos(0.3)], dtype=torch.float64)
    )
    torch.testing.assert_close(
        right, 100 * torch.tensor([math.sin(0.5), 0.0, math.cos(0.5)], dtype=torch.float64)
    )
    ear = torch.tensor([[[80.0, 0.0, 0.0]]], dtype=torch.float64)
    rolled = camera.to_camera(ear, one_pose(roll=1.0))[0, 0]
    torch.testing.assert_close(
        rolled, 80 * torch.tensor([math.cos(0.25), math.sin(0.25), 0.0], dtype=torch.float64)
    )


def test_rotation_order_against_scipy():
    angles = random_poses(20)[:, :3]
    pitch, yaw, roll = angles.unbind(1)
    # Upper case: intrinsic rotations, so the matrices multiply in this order.
    expected = Rotation.from_euler("ZXY", torch.stack([roll, pitch, yaw], 1).numpy()).as_matrix()
    torch.testing.assert_close(camera.rotation_matrix(angles), torch.from_numpy(expected))


def test_zero_pose_is_centered_frontal_and_fills_the_crop():
    vertices = torch.tensor([[[0.0, 0.0, 7.0], [107.0, 107.0, -3.0]]], dtype=torch.float64)
    projected = camera.project(vertices, one_pose(), SIZE)
    # 107 mm is half the crop: the upper right corner of the top right pixel.
    expected = torch.tensor([[[99.5, 99.5, 7.0], [199.5, -0.5, -3.0]]], dtype=torch.float64)
    torch.testing.assert_close(projected, expected)


def test_units_of_translation_and_scale():
    parameters = camera.pose_parameters(one_pose(t_x=1.0, t_y=-2.0, log_scale=1.0), SIZE)
    torch.testing.assert_close(
        parameters.translation, torch.tensor([[12.5, -25.0]], dtype=torch.float64)
    )
    assert parameters.scale.item() == pytest.approx(SIZE / 214 * math.exp(0.15), rel=1e-12)
    vertices = torch.tensor([[[10.0, 20.0, 30.0]]], dtype=torch.float64)
    column, row, depth = camera.project(vertices, one_pose(t_x=1.0, t_y=1.0), 214)[0, 0]
    assert column.item() == pytest.approx(106.5 + 10 + 214 / 16)
    assert row.item() == pytest.approx(106.5 - 20 - 214 / 16)
    assert depth.item() == pytest.approx(30)


def test_depth_is_the_rotated_z_whatever_scale_and_translation():
    vertices = torch.randn(3, 50, 3, dtype=torch.float64)
    pose = random_poses(3)
    torch.testing.assert_close(
        camera.project(vertices, pose, SIZE)[..., 2], camera.to_camera(vertices, pose)[..., 2]
    )


def test_unproject_inverts_project():
    vertices = 100 * torch.randn(4, 30, 3, dtype=torch.float64)
    pose = random_poses(4)
    back = camera.unproject(camera.project(vertices, pose, SIZE), pose, SIZE)
    torch.testing.assert_close(back, vertices)


def test_larger_crop_is_a_resize_with_pixel_centers():
    vertices, pose = 100 * torch.randn(2, 30, 3, dtype=torch.float64), random_poses(2)
    small, large = camera.project(vertices, pose, 100), camera.project(vertices, pose, 300)
    torch.testing.assert_close(large[..., :2], (small[..., :2] + 0.5) * 3 - 0.5)


def test_split_inverts_join():
    coefficients, pose = torch.randn(2, 284), torch.randn(2, 6)
    r = camera.join(coefficients, pose)
    assert r.shape == (2, 290)
    for part, expected in zip(camera.split(r), (coefficients, pose), strict=True):
        assert torch.equal(part, expected)


def test_dtype_follows_the_input():
    for dtype in (torch.float32, torch.float64):
        vertices, pose = torch.randn(1, 5, 3, dtype=dtype), torch.randn(1, 6, dtype=dtype)
        assert camera.project(vertices, pose, SIZE).dtype == dtype
        assert camera.unproject(vertices, pose, SIZE).dtype == dtype


def test_gradients():
    vertices = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    pose = random_poses(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: camera.rotation_matrix(p[:, :3]), (pose,))
    assert torch.autograd.gradcheck(lambda v, p: camera.project(v, p, 20), (vertices, pose))
    assert torch.autograd.gradcheck(lambda v, p: camera.unproject(v, p, 20), (vertices, pose))


def test_wrong_shapes_are_named():
    # unwrap: past the type checker that the tests install, to what a user meets.
    to_camera, split = inspect.unwrap(camera.to_camera), inspect.unwrap(camera.split)
    with pytest.raises(ValueError, match=r"pose must have shape \(any, 6\), got \(1, 7\)"):
        to_camera(torch.zeros(1, 3, 3), torch.zeros(1, 7))
    with pytest.raises(ValueError, match="vertices must have shape"):
        to_camera(torch.zeros(2, 3, 3), torch.zeros(1, 6))
    with pytest.raises(ValueError, match="size must be a positive"):
        camera.project(torch.zeros(1, 3, 3), torch.zeros(1, 6), 0)
    with pytest.raises(ValueError, match=r"r must have shape \(any, 290\), got \(1, 289\)"):
        split(torch.zeros(1, 289))
    with pytest.raises(ValueError, match="coefficients must have shape"):
        inspect.unwrap(camera.join)(torch.zeros(2, 284), torch.zeros(1, 6))


def test_perspective_is_a_pinhole_and_far_away_weak_perspective():
    """Against a 3x4 pinhole matrix in homogeneous coordinates."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 60, (2, 50, 3))
    distance = np.array([400.0, 1500.0])
    found = camera.in_perspective(torch.from_numpy(points), torch.from_numpy(distance))
    for item, d in enumerate(distance):
        # Focal length d, pinhole at (0, 0, d) looking along -z: origin's plane keeps its size.
        matrix = np.array([[d, 0, 0, 0], [0, d, 0, 0], [0, 0, -1, d]])
        image = np.c_[points[item], np.ones(50)] @ matrix.T
        np.testing.assert_allclose(found[item, :, :2], image[:, :2] / image[:, 2:], rtol=1e-12)
        np.testing.assert_array_equal(found[item, :, 2], points[item, :, 2])
    far = camera.in_perspective(
        torch.from_numpy(points), torch.full((2,), 1e9, dtype=torch.float64)
    )
    torch.testing.assert_close(far, torch.from_numpy(points), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="inside the head"):
        camera.in_perspective(torch.from_numpy(points), torch.full((2,), 10.0, dtype=torch.float64))
