import inspect
import threading
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import grid_triangles, head
from torch import Tensor

from facerecon import rasterize_torch
from facerecon.rasterize import Fragments, interpolate, rasterize

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
        # Undecided within float32: centres that close to an edge, or surfaces that close in depth.
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
    # An L: upright bar 1 x 3 with a foot to the right, built from squares around pixel centres.
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
    half = rng.random((n, n)) < 0.3  # some vertices exactly on centres or between them
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
        "a point on a centre": [(4.0, 4.0, 0.0)] * 3,
        "between the centres": [(4.1, 4.9, 0.0), (4.9, 4.9, 0.0), (4.1, 4.1, 0.0)],
    }
    for name, corners in cases.items():
        fragments = rasterize(*one_triangle(*corners), 10, 10, backend)
        assert (fragments.triangle == -1).all(), name
        assert (fragments.barycentric == 0).all(), name
    assert rasterize(*one_triangle(*front), 10, 10, backend).mask.sum() == 36


@both
def test_corners_on_pixel_centres_belong_to_the_triangle(backend):
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
    assert (equal < 2).all() and (equal[0, row, 8 - row] == 0).all()  # the centres on the diagonal
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
