import math

import pytest
import torch
from torch.autograd import gradcheck

from facerecon.depth import (
    depth_to_mesh,
    five_point_interior,
    laplacian,
    normals_from_depth,
)
from facerecon.mesh import vertex_normals


def ragged(height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 1, height, width, generator=generator) < 0.7


def random_depth(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def grid(height: int, width: int, mm: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """x to the right and y up of every pixel, mm."""
    x = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) * mm
    y = ((height - 1) / 2 - torch.arange(height, dtype=torch.float64)) * mm
    y, x = torch.meshgrid(y, x, indexing="ij")
    return x[None, None], y[None, None]


def test_plane_has_its_exact_normal_up_to_the_border():
    mm = 0.5
    x, y = grid(7, 9, mm)
    normals = normals_from_depth(0.3 * x - 0.8 * y + 2, torch.tensor([mm], dtype=torch.float64))
    expected = torch.tensor([-0.3, 0.8, 1.0], dtype=torch.float64) / math.sqrt(1 + 0.09 + 0.64)
    torch.testing.assert_close(normals, expected.view(1, 3, 1, 1).expand_as(normals))


def test_normals_of_a_sphere():
    radius, mm = 80.0, 0.5
    x, y = grid(161, 161, mm)
    mask = x**2 + y**2 < 40**2
    depth = (radius**2 - x**2 - y**2).clamp(min=0).sqrt()
    normals = normals_from_depth(depth, torch.tensor([mm], dtype=torch.float64), mask)
    expected = torch.cat([x, y, depth], 1) / radius
    error = (normals - expected).norm(dim=1, keepdim=True)
    # Central differences: h^2 z''' / 6 with z''' < 3 / radius^2 here, in both directions;
    # one-sided: h z'' / 2 with z'' < 2 / radius.
    assert error[five_point_interior(mask)].max() < mm**2 * 3 / radius**2 / 6 * 2
    assert error[mask].max() < mm / radius * 2
    assert (normals * ~mask == 0).all()
    torch.testing.assert_close(
        normals.norm(dim=1, keepdim=True)[mask], torch.ones(int(mask.sum())).double()
    )


def test_normals_agree_with_a_loop_over_pixels():
    height, width = 9, 8
    depth, mask = random_depth(2, 1, height, width), ragged(height, width, 2)
    mm = torch.tensor([0.5, 2.0], dtype=torch.float64)

    def slope(item: int, row: int, column: int, step: tuple[int, int]) -> float:
        differences = []
        for sign in (1, -1):
            r, c = row + sign * step[0], column + sign * step[1]
            if 0 <= r < height and 0 <= c < width and mask[item, 0, r, c]:
                change = depth[item, 0, r, c] - depth[item, 0, row, column]
                differences.append(sign * change.item() / mm[item].item())
        return sum(differences) / len(differences) if differences else 0.0

    expected = torch.zeros(2, 3, height, width, dtype=torch.float64)
    for item, _, row, column in mask.nonzero().tolist():
        direction = torch.tensor(
            [-slope(item, row, column, (0, 1)), slope(item, row, column, (1, 0)), 1.0],
            dtype=torch.float64,
        )
        expected[item, :, row, column] = direction / direction.norm()
    torch.testing.assert_close(normals_from_depth(depth, mm, mask), expected)


def test_normals_do_not_depend_on_the_unit_of_length():
    depth, mask = random_depth(1, 1, 6, 6), ragged(6, 6)
    one = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(
        normals_from_depth(10 * depth, 10 * one, mask), normals_from_depth(depth, one, mask)
    )


@pytest.mark.parametrize("function", ["normals", "laplacian"])
def test_gradients(function):
    mask = ragged(5, 6)
    mm = torch.tensor([0.7], dtype=torch.float64)
    depth = random_depth(1, 1, 5, 6).requires_grad_()
    if function == "normals":
        assert gradcheck(lambda z: normals_from_depth(z, mm, mask), depth)
    else:
        assert gradcheck(lambda z: laplacian(z, mask), depth)


def test_nan_outside_the_mask_reaches_neither_values_nor_gradients():
    mask = ragged(8, 8)
    depth = torch.where(mask, random_depth(1, 1, 8, 8), torch.nan).requires_grad_()
    normals = normals_from_depth(depth, torch.ones(1, dtype=torch.float64), mask)
    curvature = laplacian(depth, mask)
    (normals.sum() + curvature.sum()).backward()
    assert normals.isfinite().all() and curvature.isfinite().all() and depth.grad.isfinite().all()


def test_laplacian_of_a_quadratic():
    x, y = grid(6, 7)
    result = laplacian(x**2 + 3 * y**2 + x * y + 5)
    torch.testing.assert_close(result[..., 1:-1, 1:-1], torch.full((1, 1, 4, 5), 8.0).double())
    result[..., 1:-1, 1:-1] = 0
    assert (result == 0).all()


def test_laplacian_agrees_with_a_loop_and_needs_all_five_pixels():
    height, width = 12, 11
    depth, mask = random_depth(1, 1, height, width), ragged(height, width)
    mask[..., 4:9, 4:9] = True
    expected, interior = torch.zeros_like(depth), torch.zeros_like(mask)
    z, m = depth[0, 0], mask[0, 0]
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            cross = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)]
            if m[row, column] and all(m[p] for p in cross):
                expected[0, 0, row, column] = sum(z[p] for p in cross) - 4 * z[row, column]
                interior[0, 0, row, column] = True
    torch.testing.assert_close(laplacian(depth, mask), expected)
    assert (five_point_interior(mask) == interior).all() and interior.sum() >= 9


def test_mesh_of_a_plane_covers_it_once():
    height, width, mm = 5, 7, 0.5
    x, y = grid(height, width, mm)
    depth = (0.2 * x + 0.1 * y)[0, 0]
    mesh = depth_to_mesh(depth, torch.ones(height, width, dtype=torch.bool), mm)
    assert mesh.vertices.shape == (35, 3) and mesh.triangles.shape == (2 * 4 * 6, 3)
    torch.testing.assert_close(mesh.vertices[:, 0], x.flatten())
    torch.testing.assert_close(mesh.vertices[:, 1], y.flatten())
    torch.testing.assert_close(mesh.vertices[:, 2], depth.flatten())
    a, b, c = mesh.vertices[mesh.triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a)[:, 2] / 2
    assert (area > 0).all()  # counter-clockwise for the viewer
    assert area.sum().item() == pytest.approx((height - 1) * (width - 1) * mm**2)


def test_normals_of_mesh_and_depth_map_agree():
    x, y = grid(9, 9)
    depth = 0.3 * x - 0.2 * y
    mesh = depth_to_mesh(depth[0, 0], torch.ones(9, 9, dtype=torch.bool), 1.0)
    of_mesh = vertex_normals(mesh.vertices[None], mesh.triangles)[0]
    of_map = normals_from_depth(depth, torch.ones(1, dtype=torch.float64))[0].flatten(1).T
    torch.testing.assert_close(of_mesh, of_map)


def test_texture_coordinates_are_pixel_centres_with_v_upward():
    mesh = depth_to_mesh(torch.zeros(4, 8), torch.ones(4, 8, dtype=torch.bool), 1.0)
    torch.testing.assert_close(mesh.uv[0], torch.tensor([0.5 / 8, 1 - 0.5 / 4]))
    torch.testing.assert_close(mesh.uv[-1], torch.tensor([7.5 / 8, 0.5 / 4]))


def test_missing_corner_leaves_one_triangle_and_missing_pixels_leave_no_vertex():
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        mask = torch.ones(2, 2, dtype=torch.bool)
        mask[row, column] = False
        depth = torch.zeros(2, 2)
        depth[row, column] = torch.nan
        mesh = depth_to_mesh(depth, mask, 1.0)
        assert mesh.triangles.shape == (1, 3) and mesh.vertices.isfinite().all()
        assert len(mesh.vertices) == 3
        a, b, c = mesh.vertices[mesh.triangles[0]]
        assert torch.linalg.cross(b - a, c - a)[2] > 0


def test_no_triangle_spans_a_jump():
    depth = torch.zeros(6, 6)
    depth[:, 3:] = 12.0
    everywhere = torch.ones(6, 6, dtype=torch.bool)
    assert len(depth_to_mesh(depth, everywhere, 1.0, max_jump_mm=13.0).triangles) == 50
    mesh = depth_to_mesh(depth, everywhere, 1.0, max_jump_mm=11.0)
    assert len(mesh.triangles) == 40
    heights = mesh.vertices[:, 2][mesh.triangles]
    assert (heights.amax(1) == heights.amin(1)).all()


def test_the_cut_follows_the_smaller_difference():
    depth = torch.tensor([[0.0, 5.0], [5.0, 20.0]])  # the ridge runs between the two fives
    mesh = depth_to_mesh(depth, torch.ones(2, 2, dtype=torch.bool), 1.0, max_jump_mm=100.0)
    assert all({1, 2} <= set(triangle) for triangle in mesh.triangles.tolist())


def test_empty_mask_and_wrong_arguments():
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    mesh = depth_to_mesh(torch.zeros(3, 3), nothing, 1.0)
    assert mesh.vertices.shape == (0, 3) and mesh.triangles.shape == (0, 3)
    with pytest.raises(ValueError, match="must be positive"):
        depth_to_mesh(torch.zeros(3, 3), nothing, 0.0)
