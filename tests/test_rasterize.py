import inspect
import threading
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import grid_triangles, head
from torch import Tensor

from facerecon.backends import rasterize_torch
from facerecon.camera import project
from facerecon.rasterize import (
    GRADIENTS,
    MIN_LENGTH,
    Fragments,
    antialias,
    interpolate,
    interpolate_maps,
    interpolate_unit,
    rasterize,
)

BACKENDS = ["numba", "torch"]
both = pytest.mark.parametrize("backend", BACKENDS)


def one_triangle(*corners: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    return torch.tensor([corners], dtype=torch.float32), torch.tensor([[0, 1, 2]])


def random_soup(
    seed: int, integer: bool, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Two images of 12 x 17 pixels and 15 random triangles; integer corners if asked."""
    rng = np.random.default_rng(seed)
    n = 20
    if integer:
        vertices = rng.integers(-3, 20, (2, n, 3)).astype(float)
    else:
        vertices = rng.uniform(-3, 20, (2, n, 3))
    triangles = rng.permutation(np.array(list(combinations(range(n), 3))))[:15]  # no duplicates
    triangles = rng.permuted(triangles, axis=1)
    return torch.from_numpy(vertices).to(dtype), torch.from_numpy(triangles)


def naive(mesh: np.ndarray, triangles: np.ndarray, height: int, width: int):
    """Per pixel and triangle, by solving for the weights; also how clear the decision was."""
    triangle = np.full((height, width), -1)
    weights = np.zeros((height, width, 3))
    clear = np.full((height, width), np.inf)
    for row in range(height):
        for column in range(width):
            nearest = -np.inf
            for t, corners in enumerate(mesh[triangles]):
                (x0, y0, _), (x1, y1, _), (x2, y2, _) = corners
                if (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) >= 0:
                    continue  # counter-clockwise in space is clockwise on a grid with rows down
                system = np.array([[x0, x1, x2], [y0, y1, y2], [1, 1, 1]])
                weight = np.linalg.solve(system, [column, row, 1])
                clear[row, column] = min(clear[row, column], abs(weight).min())
                if weight.min() < 0:
                    continue
                depth = weight @ corners[:, 2]
                clear[row, column] = min(clear[row, column], abs(depth - nearest))
                if depth > nearest:
                    nearest = depth
                    triangle[row, column], weights[row, column] = t, weight
    return triangle, weights, clear


@both
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_triangles_against_a_naive_loop(backend, seed):
    vertices, triangles = random_soup(seed, integer=False)
    fragments = rasterize(vertices, triangles, 12, 17, backend)
    attributes = torch.randn(2, vertices.shape[1], 4, generator=torch.Generator().manual_seed(seed))
    image = interpolate(attributes, fragments, triangles, backend)
    for item in range(2):
        expected, weights, clear = naive(vertices[item].double().numpy(), triangles.numpy(), 12, 17)
        # Undecided within float32: centers that close to an edge, or surfaces that close in depth.
        decided = clear > 1e-4
        assert decided.mean() > 0.9
        assert (fragments.triangle[item].numpy() == expected)[decided].all()
        got = fragments.barycentric[item].double().numpy()
        # Slivers amplify float32's 1e-6 px by their length over their width.
        np.testing.assert_allclose(got[decided], weights[decided], atol=1e-3)
        corners = attributes[item].double().numpy()[triangles.numpy()[expected]]
        value = np.einsum("hwk,hwkc->chw", weights, corners)
        np.testing.assert_allclose(image[item].numpy()[:, decided], value[:, decided], atol=1e-2)


@both
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_integer_triangles_exactly_with_all_ties(backend, seed):
    """On small integers every edge function is exact, so even ties have one right answer."""
    vertices, triangles = random_soup(seed, integer=True)
    vertices = vertices[:1, triangles].flatten(1, 2)  # a depth of its own for each triangle
    vertices[..., 2] = vertices[:, ::3, 2].repeat_interleave(3, dim=1) // 4
    triangles = torch.arange(len(triangles) * 3).view(-1, 3)
    got = rasterize(vertices, triangles, 12, 17, backend).triangle[0]
    points = vertices[0].long().tolist()
    for row in range(12):
        for column in range(17):
            winner, nearest = -1, -(10**9)
            for t in range(len(triangles)):
                a, b, c = points[3 * t : 3 * t + 3]
                sides = [
                    (p[1] - row) * (q[0] - column) - (p[0] - column) * (q[1] - row)
                    for p, q in ((b, c), (c, a), (a, b))
                ]
                if min(sides) >= 0 and sum(sides) > 0 and a[2] > nearest:
                    winner, nearest = t, a[2]
            assert got[row, column] == winner


# Coordinates on a lattice of 1/64 pixel: float64 evaluates their edge functions without rounding.
STEP = 64
near = st.integers(-4 * STEP, 20 * STEP)
center = st.integers(-2, 18).map(lambda n: n * STEP)
far = st.sampled_from([-4096, -700, 900, 4096]).map(lambda n: n * STEP)
height_mm = st.integers(-200, 200)


def corners(x: st.SearchStrategy, y: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(*[st.tuples(x, y, height_mm)] * 3)


def sliver(base: tuple, offset: int) -> tuple:
    """Two corners as they are, the third within a few 1/64 pixel of the line through them."""
    (x0, y0, _), (x1, y1, _), (_, _, z) = base
    return (*base[:2], ((x0 + x1) // 2 + offset, (y0 + y1) // 2, z))


kinds = st.one_of(
    corners(near, near),
    corners(center, center),  # corners and edges exactly on pixel centers
    corners(far, far),  # larger than the image, or far outside
    st.builds(sliver, corners(near, near), st.integers(-3, 3)),
    corners(near, near).map(lambda c: (c[0], c[0], c[1])),  # a line: no area
    corners(near, near).map(lambda c: (c[0], c[0], c[0])),  # a point
)


@both
@settings(max_examples=40)
@given(mesh=st.lists(kinds, min_size=1, max_size=6))
def test_any_triangles_against_exact_arithmetic(backend, mesh):
    """The pixel's triangle covers its center, faces the viewer, and no other such one is nearer."""
    points = torch.tensor(mesh, dtype=torch.float64).flatten(0, 1)
    points[:, :2] /= STEP
    triangles = torch.arange(len(points)).view(-1, 3)
    fragments = rasterize(points[None], triangles, 7, 9, backend)
    got, weights = fragments.triangle[0].tolist(), fragments.barycentric[0]
    for row in range(7):
        for column in range(9):
            depths = {}
            for t, triangle in enumerate(mesh):
                (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (
                    (x - column * STEP, y - row * STEP, z) for x, y, z in triangle
                )
                edges = by * cx - bx * cy, cy * ax - cx * ay, ay * bx - ax * by
                if min(edges) >= 0 and sum(edges) > 0:
                    z = sum(e * z for e, z in zip(edges, (az, bz, cz), strict=True))
                    depths[t] = Fraction(z, sum(edges))
            seen = got[row][column]
            assert (seen >= 0) == bool(depths)
            if depths:
                # Depths are compared in float32, so those within a few roundings are as good.
                assert depths[seen] >= max(depths.values()) - Fraction(1, 10_000)
                assert weights[row, column].sum().item() == pytest.approx(1, abs=1e-12)
                place = weights[row, column] @ points[3 * seen : 3 * seen + 3]
                reach = points[3 * seen : 3 * seen + 3].abs().max().item()
                assert place[0].item() == pytest.approx(column, abs=1e-12 * reach)
                assert place[1].item() == pytest.approx(row, abs=1e-12 * reach)
                assert place[2].item() == pytest.approx(float(depths[seen]), abs=1e-9)


@both
@settings(max_examples=25)
@given(
    bad=st.sets(st.integers(0, 4), min_size=1),
    vertex=st.integers(0, 24),
    axis=st.integers(0, 2),
    value=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)
def test_broken_vertices_are_named_by_batch_item(backend, bad, vertex, axis, value):
    vertices, triangles = head(5, 5)
    vertices = vertices.repeat(5, 1, 1)
    vertices[sorted(bad), vertex, axis] = value
    with pytest.raises(ValueError) as error:
        rasterize(vertices, triangles, 8, 8, backend)
    assert str(error.value).endswith(f"in batch items {sorted(bad)}")


@both
def test_coordinates_that_overflow_their_sum_are_fine(backend):
    vertices, triangles = one_triangle((-3e38, 3e38, 1.0), (3e38, 3e38, 1.0), (-3e38, -3e38, 1.0))
    rasterize(vertices, triangles, 4, 4, backend)


def embree(mesh: np.ndarray, triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and depths by one ray per pixel center, against the front faces alone."""
    scenes = pytest.importorskip(
        "embreex.rtcore_scene", reason="needs embreex, of the extra 'dev'", exc_type=ImportError
    )
    from embreex.mesh_construction import TriangleMesh

    x, y, _ = np.moveaxis(mesh[triangles], 2, 0)
    area = (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0]) - (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0])
    front = np.flatnonzero(area > 0)
    scene = scenes.EmbreeScene()
    TriangleMesh(scene, mesh, triangles[front].astype(np.int32))
    row, column = np.mgrid[:size, :size]
    start = mesh[:, 2].max() + 10
    origins = np.stack([column, row, np.full_like(row, start)], axis=-1).reshape(-1, 3)
    down = np.tile(np.float32([0, 0, -1]), (len(origins), 1))
    hits = scene.run(origins.astype(np.float32), down, output=1)
    ids = np.where(hits["primID"] >= 0, front[hits["primID"]], -1)
    depth = np.where(ids >= 0, origins[0, 2] - hits["tfar"], 0)
    return ids.reshape(size, size), depth.reshape(size, size)


def inner(mask: Tensor) -> Tensor:
    """Pixels whose eight neighbors are all seen or all background: an outline's border is not."""
    share = torch.nn.functional.avg_pool2d(mask.float(), 3, 1, 1, count_include_pad=False)
    return (share == 0) | (share == 1)


@both
def test_ids_and_depth_against_embree(backend, model):
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(4, 6, generator=generator)
    projected = project(model.vertices(model.sample(4, generator)), pose, 200)
    fragments = rasterize(projected, model.triangles, 200, 200, backend)
    depth = interpolate(projected[..., 2:], fragments, model.triangles, backend)
    for item, mesh in enumerate(projected.numpy()):
        ids, expected = embree(mesh, model.triangles.numpy(), 200)
        away = inner(fragments.mask[item : item + 1])[0, 0].numpy()
        assert 0.2 < (ids >= 0).mean() < 0.9 and away.mean() > 0.9
        same = ids == fragments.triangle[item].numpy()
        assert (~same[away]).mean() <= 5e-4
        # On an edge either neighbor is right, and gives the same depth.
        error = np.abs(depth[item, 0].numpy() - expected)[away]
        assert error.max() < 1e-3


@pytest.mark.slow
def test_large_images(model):
    projected = project(model.vertices(torch.zeros(1, 284)), torch.zeros(1, 6), 2048)
    images = [rasterize(projected, model.triangles, 2048, 1500, backend) for backend in BACKENDS]
    assert torch.equal(images[0].triangle, images[1].triangle)
    assert images[0].mask[:, :, -40:].any() and images[0].mask[..., -40:].any()
    ids, _ = embree(projected[0].numpy(), model.triangles.numpy(), 2048)
    assert (ids[:, :1500] != images[0].triangle[0].numpy()).mean() < 5e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_agree_on_every_pixel(dtype):
    vertices, triangles = head(60, 60)
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 3, 3, generator=generator)).Q
    turn = turn * turn.det()[:, None, None]  # rotations only
    projected = (vertices @ turn.transpose(1, 2) * torch.tensor([0.6, -0.6, 1.0])).to(dtype)
    projected[..., :2] += 60
    a, b = (rasterize(projected, triangles, 110, 130, backend) for backend in BACKENDS)
    assert 0.05 < a.mask.float().mean() < 0.95
    assert torch.equal(a.triangle, b.triangle)
    assert torch.equal(a.barycentric, b.barycentric)
    for seed in range(20):
        soup, faces = random_soup(seed, integer=seed % 2 == 0, dtype=dtype)
        a, b = (rasterize(soup, faces, 12, 17, backend) for backend in BACKENDS)
        assert torch.equal(a.triangle, b.triangle)


@both
def test_asymmetric_shape_lands_where_it_should(backend):
    # An L: upright bar 1 x 3 with a foot to the right, built from squares around pixel centers.
    squares, triangles = [], []
    for column, row in ((1, 1), (1, 2), (1, 3), (2, 3)):
        n = len(squares)
        for dx, dy in ((-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, -0.5)):
            squares.append((column + dx, row + dy, 0.0))
        triangles += [(n, n + 1, n + 2), (n, n + 2, n + 3)]
    fragments = rasterize(torch.tensor([squares]), torch.tensor(triangles), 5, 6, backend)
    rows = ["".join("#" if seen else "." for seen in row) for row in fragments.mask[0, 0]]
    assert rows == ["......", ".#....", ".#....", ".##...", "......"]


@both
def test_tilted_plane_has_its_analytic_depth(backend):
    n = 12
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.meshgrid(
        torch.linspace(45, -5, n), torch.linspace(-5, 65, n), indexing="ij"
    )
    xy = torch.stack([columns, rows], dim=-1).view(1, -1, 2)
    xy = xy + torch.rand(xy.shape, generator=generator)
    depth = 2.5 * xy[..., :1] - 1.25 * xy[..., 1:] + 40
    triangles = grid_triangles(n, n)
    fragments = rasterize(torch.cat([xy, depth], 2), triangles, 40, 60, backend)
    assert fragments.mask.all()
    image = interpolate(depth, fragments, triangles, backend)[0, 0]
    row, column = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    # float32 depths of up to 200 mm: ulp 1.5e-5, a few of them.
    torch.testing.assert_close(image, 2.5 * column - 1.25 * row + 40, atol=1e-4, rtol=0)


@both
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_holes_between_triangles(backend, seed):
    rng = np.random.default_rng(seed)
    n = 14
    columns, rows = np.meshgrid(np.linspace(-2, 32, n), np.linspace(32, -2, n))
    grid = np.stack([columns, rows, np.zeros((n, n))], axis=-1)
    grid[1:-1, 1:-1, :2] += rng.uniform(-0.6, 0.6, (n - 2, n - 2, 2))
    half = rng.random((n, n)) < 0.3  # some vertices exactly on centers or between them
    grid[half] = np.round(grid[half] * 2) / 2
    vertices = torch.from_numpy(grid.reshape(1, -1, 3)).float()
    fragments = rasterize(vertices, grid_triangles(n, n), 31, 31, backend)
    assert fragments.mask.all()
    assert (fragments.barycentric >= 0).all()
    total = fragments.barycentric.sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


@both
def test_triangle_much_larger_than_the_image(backend):
    for reach in (1e3, 1e6, 1e12):
        corners = (-reach, reach, 1.0), (reach, reach, 2.0), (0.0, -reach, 3.0)
        vertices, triangles = one_triangle(*corners)
        fragments = rasterize(vertices, triangles, 7, 9, backend)
        assert (fragments.triangle == 0).all()


@both
def test_triangles_that_draw_nothing(backend):
    front = [(1.0, 8.0, 0.0), (8.0, 8.0, 0.0), (1.0, 1.0, 0.0)]
    cases = {
        "back face": front[::-1],
        "left of the image": [(x - 100, y, z) for x, y, z in front],
        "far below": [(x, y + 1e25, z) for x, y, z in front],
        "a line": [(1.0, 1.0, 0.0), (5.0, 5.0, 0.0), (9.0, 9.0, 0.0)],
        "a point on a center": [(4.0, 4.0, 0.0)] * 3,
        "between the centers": [(4.1, 4.9, 0.0), (4.9, 4.9, 0.0), (4.1, 4.1, 0.0)],
    }
    for name, corners in cases.items():
        fragments = rasterize(*one_triangle(*corners), 10, 10, backend)
        assert (fragments.triangle == -1).all(), name
        assert (fragments.barycentric == 0).all(), name
    assert rasterize(*one_triangle(*front), 10, 10, backend).mask.sum() == 36


@both
def test_corners_on_pixel_centers_belong_to_the_triangle(backend):
    corners = (2.0, 6.0, 0.0), (6.0, 6.0, 0.0), (2.0, 2.0, 0.0)
    fragments = rasterize(*one_triangle(*corners), 10, 10, backend)
    assert fragments.mask.sum() == 15  # 5 + 4 + 3 + 2 + 1, the edges included
    for corner, (column, row, _) in enumerate(corners):
        expected = torch.eye(3)[corner]
        assert torch.equal(fragments.barycentric[0, int(row), int(column)], expected)


@both
def test_nearest_wins_down_to_the_last_bit_and_ties_go_to_the_lowest_id(backend):
    square = torch.tensor([[-1.0, 9, 0], [9, 9, 0], [9, -1, 0], [-1, -1, 0]])
    depths = [1000.0, float(np.nextafter(np.float32(1000), np.float32(2000))), 1000.0, -1e4]
    vertices = torch.cat([square + torch.tensor([0.0, 0.0, depth]) for depth in depths])[None]
    one = torch.tensor([[0, 1, 2], [0, 2, 3]])
    triangles = torch.cat([one + 4 * copy for copy in range(4)])
    assert (rasterize(vertices, triangles, 8, 8, backend).triangle // 2 == 1).all()
    equal = rasterize(vertices[:, :4].repeat(1, 3, 1), triangles[:6], 8, 8, backend).triangle
    row = torch.arange(1, 8)
    assert (equal < 2).all() and (equal[0, row, 8 - row] == 0).all()  # the centers on the diagonal
    below_zero = vertices - torch.tensor([0.0, 0.0, 2000.0])
    below_zero[:, 4:8, 2] += 1
    assert (rasterize(below_zero, triangles, 8, 8, backend).triangle // 2 == 1).all()


@both
def test_hidden_vertices_get_no_gradient(backend):
    square = torch.tensor([[1.0, 6, 0], [6, 6, 0], [6, 1, 0], [1, 1, 0]])
    hidden = torch.tensor([[2.0, 5, -9], [5, 5, -9], [5, 2, -9], [2, 2, -9]])
    vertices = torch.cat([hidden, square])[None]
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    depth = vertices[..., 2:].clone().requires_grad_()
    fragments = rasterize(vertices, triangles, 8, 8, backend)
    interpolate(depth, fragments, triangles, backend).sum().backward()
    assert (depth.grad[0, :4] == 0).all()
    assert (depth.grad[0, 4:] > 0).all()
    # Eq. (7): all weights of a pixel sum to one, so the gradients sum to the number of pixels.
    assert depth.grad.sum().item() == pytest.approx(fragments.mask.sum().item(), rel=1e-5)


@both
@pytest.mark.parametrize("shared", [True, False])
def test_interpolation_gradients(backend, shared):
    vertices, triangles = random_soup(3, integer=False, dtype=torch.float64)
    fragments = rasterize(vertices, triangles, 6, 7, backend)
    attributes = torch.randn(1 if shared else 2, 20, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a: interpolate(a, fragments, triangles, backend), (attributes,)
    )


def smooth_surface(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two meshes over 12 x 14 pixels with no pixel center near an edge, and a hidden triangle."""
    vertices, triangles = head(5, 5)
    projected = vertices.to(dtype) * torch.tensor([0.06, -0.05, 1.0]) + torch.tensor(
        [6.13, 5.71, 0]
    )
    hidden = torch.tensor([[4.0, 7, -300], [8, 7, -300], [8, 4, -300]], dtype=dtype)[None]
    projected = torch.cat([projected, hidden], dim=1).repeat(2, 1, 1)
    projected[1, :, :2] += torch.tensor([0.31, 0.17])
    n = projected.shape[1]
    return projected, torch.cat([triangles, torch.tensor([[n - 3, n - 2, n - 1]])])


@both
def test_full_gradient_of_weights_and_images(backend):
    projected, triangles = smooth_surface()
    projected.requires_grad_()
    attributes = torch.randn(2, projected.shape[1], 2, dtype=torch.float64, requires_grad=True)

    def image(projected: Tensor, attributes: Tensor) -> Tensor:
        fragments = rasterize(projected, triangles, 12, 14, backend, "full")
        return interpolate(attributes, fragments, triangles, backend)

    seen = rasterize(projected, triangles, 12, 14, backend).mask
    assert 60 < seen.sum() < 300
    assert torch.autograd.gradcheck(image, (projected, attributes))
    (gradient,) = torch.autograd.grad(image(projected, attributes).sum(), projected)
    assert (gradient[:, -3:] == 0).all()  # hidden
    assert (gradient[..., 2] == 0).all() and (gradient[..., :2] != 0).any()


@both
@pytest.mark.parametrize("shared", [True, False])
def test_unit_vectors(backend, shared):
    projected, triangles = smooth_surface()
    fragments = rasterize(projected, triangles, 12, 14, backend)
    vectors = torch.randn(1 if shared else 2, projected.shape[1], 3, dtype=torch.float64)
    image = interpolate_unit(vectors, fragments, triangles, backend)
    mixed = interpolate(vectors, fragments, triangles, backend)
    torch.testing.assert_close(image * mixed.norm(dim=1, keepdim=True), mixed)
    length = image.norm(dim=1, keepdim=True)
    torch.testing.assert_close(length, fragments.mask.double(), atol=1e-12, rtol=0)
    short = interpolate_unit(vectors * MIN_LENGTH / 100, fragments, triangles, backend)
    torch.testing.assert_close(short, mixed / 100)  # as good as zero: in proportion
    assert (interpolate_unit(0 * vectors, fragments, triangles, backend) == 0).all()


@both
@pytest.mark.parametrize("scale", [1.0, MIN_LENGTH / 100])
def test_gradient_of_unit_vectors(backend, scale):
    projected, triangles = smooth_surface()
    projected = projected.requires_grad_()
    vectors = torch.randn(1, projected.shape[1], 3, dtype=torch.float64, requires_grad=True)

    def image(vectors: Tensor, projected: Tensor) -> Tensor:
        fragments = rasterize(projected, triangles, 12, 14, backend, "full")
        return interpolate_unit(scale * vectors, fragments, triangles, backend)

    assert torch.autograd.gradcheck(image, (vectors, projected))


@both
def test_maps_of_a_face_are_what_interpolation_gives_one_by_one(backend):
    projected, triangles = smooth_surface()
    fragments = rasterize(projected, triangles, 12, 14, backend)
    vertices = torch.randn(*projected.shape, dtype=torch.float64)
    normals, pncc = torch.randn_like(vertices), torch.rand_like(vertices[0])
    depth, unit, color = interpolate_maps(vertices, normals, pncc, fragments, triangles, backend)
    assert torch.equal(depth, interpolate(vertices[..., 2:], fragments, triangles, backend))
    assert torch.equal(color, interpolate(pncc[None], fragments, triangles, backend))
    torch.testing.assert_close(unit, interpolate_unit(normals, fragments, triangles, backend))


@both
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("scale", [1.0, MIN_LENGTH / 100])
def test_gradient_of_the_maps_of_a_face(backend, gradient, scale):
    projected, triangles = smooth_surface()
    projected = projected.requires_grad_(gradient == "full")
    vertices = torch.randn(*projected.shape, dtype=torch.float64, requires_grad=True)
    normals = torch.randn_like(vertices).requires_grad_()
    pncc = torch.rand_like(vertices[0])

    def maps(vertices: Tensor, normals: Tensor, projected: Tensor) -> tuple[Tensor, ...]:
        fragments = rasterize(projected, triangles, 12, 14, backend, gradient)
        return interpolate_maps(vertices, scale * normals, pncc, fragments, triangles, backend)

    count = 3 if gradient == "full" else 2  # with fixed weights the PNCC does not change
    inputs = (vertices, normals, projected)
    assert torch.autograd.gradcheck(lambda *given: maps(*given)[:count], inputs, fast_mode=True)
    assert maps(*inputs)[2].requires_grad == (gradient == "full")
    (alone,) = torch.autograd.grad(maps(*inputs)[0].sum(), normals, allow_unused=True)
    assert alone is None or (alone == 0).all()  # depth without the other maps


@both
def test_moving_the_mesh_is_moving_the_picture(backend):
    """On a tilted plane, the full gradient to a shift is minus the plane's slope."""
    corners = (-50.0, 60.0, 0.0), (70.0, 60.0, 240.0), (-50.0, -60.0, -36.0)
    vertices, triangles = one_triangle(*corners)  # z grows by 2 mm a column and 0.3 mm a row
    shift = torch.zeros(2, requires_grad=True)
    projected = vertices + torch.nn.functional.pad(shift, (0, 1))
    fragments = rasterize(projected, triangles, 8, 9, backend, "full")
    depth = interpolate(vertices[..., 2:], fragments, triangles, backend)
    depth.mean().backward()
    torch.testing.assert_close(shift.grad, torch.tensor([-2.0, -0.3]), rtol=1e-4, atol=0)


@both
def test_fixed_weights_let_nothing_through(backend):
    projected, triangles = smooth_surface()
    projected.requires_grad_()
    assert not rasterize(projected, triangles, 12, 14, backend).barycentric.requires_grad
    assert not rasterize(projected, triangles, 12, 14, backend, "fixed").barycentric.requires_grad
    assert rasterize(projected, triangles, 12, 14, backend, "full").barycentric.requires_grad


@pytest.mark.parametrize("shared", [True, False])
def test_full_gradients_of_the_backends_agree(shared):
    projected, triangles = smooth_surface(torch.float32)
    attributes = torch.randn(1 if shared else 2, projected.shape[1], 6)
    weight = torch.randn(2, 6, 12, 14)
    results = []
    for backend in BACKENDS:
        leaves = projected.clone().requires_grad_(), attributes.clone().requires_grad_()
        fragments = rasterize(leaves[0], triangles, 12, 14, backend, "full")
        (interpolate(leaves[1], fragments, triangles, backend) * weight).sum().backward()
        results.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*results, atol=1e-3, rtol=1e-4)  # float32, divided by small areas


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc")
def test_memory_stays_flat():
    projected, triangles = smooth_surface(torch.float32)
    projected = projected.repeat(8, 1, 1).requires_grad_()
    attributes = torch.randn(16, projected.shape[1], 6, requires_grad=True)

    def resident_bytes(steps: int) -> int:
        for _ in range(steps):
            fragments = rasterize(projected, triangles, 100, 100, "numba", "full")
            image = interpolate(attributes, fragments, triangles, "numba")
            torch.autograd.grad(image.sum(), (projected, attributes))
        return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

    before = resident_bytes(20)
    # Every step makes maps of 6 MB: one that stayed alive in each would be 240 MB.
    assert resident_bytes(40) - before < 30e6


def test_interpolation_backends_agree():
    vertices, triangles = head(40, 40)
    projected = vertices * torch.tensor([0.3, -0.3, 1.0]) + torch.tensor([32.0, 32.0, 0.0])
    fragments = rasterize(projected.repeat(3, 1, 1), triangles, 64, 64)
    for batch in (1, 3):
        weight = torch.randn(3, 5, 64, 64)
        values, gradients = [], []
        attributes = torch.randn(batch, vertices.shape[1], 5)
        for backend in BACKENDS:
            leaf = attributes.clone().requires_grad_()
            values.append(interpolate(leaf, fragments, triangles, backend))
            (values[-1] * weight).sum().backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(values[0], values[1])
        # Sums of some hundred float32 terms in different orders.
        torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_result_does_not_depend_on_chunks_or_threads(monkeypatch):
    vertices, triangles = random_soup(5, integer=False)
    vertices = vertices.repeat(3, 1, 1) * torch.linspace(0.5, 1, 6)[:, None, None]
    expected = rasterize(vertices, triangles, 12, 17)
    monkeypatch.setattr(rasterize_torch, "CANDIDATES_PER_CHUNK", 50)
    chunked = rasterize(vertices, triangles, 12, 17, "torch")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        threaded = rasterize(vertices, triangles, 12, 17)
        torch.set_num_threads(1)
        single = rasterize(vertices, triangles, 12, 17)
    finally:
        torch.set_num_threads(threads)
    for other in (chunked, threaded, single):
        assert torch.equal(other.triangle, expected.triangle)
        assert torch.equal(other.barycentric, expected.barycentric)


def test_background_threads_while_the_main_thread_computes():
    vertices, triangles = head(40, 40)
    projected = (vertices * torch.tensor([0.3, -0.3, 1.0]) + 32).repeat(4, 1, 1)
    expected = rasterize(projected, triangles, 64, 64).triangle
    results = []

    def work() -> None:
        for _ in range(5):
            results.append(rasterize(projected, triangles, 64, 64).triangle)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        torch.randn(200, 200) @ torch.randn(200, 200)
        results.append(rasterize(projected, triangles, 64, 64).triangle)
    for worker in workers:
        worker.join()
    assert len(results) == 25 and all(torch.equal(result, expected) for result in results)


@both
def test_empty_batch_and_empty_mesh(backend):
    vertices, triangles = head(5, 5)
    assert rasterize(vertices[:0], triangles, 4, 6, backend).triangle.shape == (0, 4, 6)
    fragments = rasterize(vertices, triangles[:0], 4, 6, backend)
    assert (fragments.triangle == -1).all() and not fragments.mask.any()
    assert (interpolate(vertices, fragments, triangles, backend) == 0).all()


@both
def test_errors(backend):
    vertices, triangles = head(5, 5)
    vertices = vertices.repeat(3, 1, 1)
    vertices[1, 3, 0] = float("nan")
    vertices[2, 4, 2] = float("inf")
    with pytest.raises(ValueError, match=r"NaN or infinity in batch items \[1, 2\]"):
        rasterize(vertices, triangles, 8, 8, backend)
    with pytest.raises(ValueError, match="height and width must be positive"):
        rasterize(vertices[:1], triangles, 0, 8, backend)
    fragments = rasterize(vertices[:1], triangles, 8, 8, backend)
    fragments = Fragments(*(part.repeat_interleave(3, dim=0) for part in fragments))
    with pytest.raises(ValueError, match="batch size 1 or 3, got 2"):
        interpolate(vertices[:2], fragments, triangles, backend)
    with pytest.raises(ValueError, match="projected must have shape"):
        inspect.unwrap(rasterize)(vertices[0], triangles, 8, 8, backend)
    with pytest.raises(ValueError, match="gradient must be one of fixed, full, got 'none'"):
        rasterize(vertices[:1], triangles, 8, 8, backend, "none")
    image = torch.zeros(3, 2, 8, 8)
    with pytest.raises(ValueError, match=f"needs the backend nvdiffrast, and {backend} was chosen"):
        antialias(image, fragments, vertices, triangles, backend)


def test_indices_out_of_range_are_an_error_not_a_crash():
    vertices, triangles = head(5, 5)
    fragments = rasterize(vertices, triangles, 8, 8)
    for wrong in (triangles + 1, triangles - 1):
        with pytest.raises(ValueError, match="triangles point outside of the 25 vertices"):
            rasterize(vertices, wrong, 8, 8, "numba")
        with pytest.raises(ValueError, match="triangles point outside of the 25 vertices"):
            interpolate(vertices, fragments, wrong, "numba")
