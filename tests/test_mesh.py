import inspect
from collections import Counter

import pytest
import torch
from meshes import grid_triangles, head, sphere
from scipy.spatial.transform import Rotation

from facerecon import mesh

BACKENDS = ["numba", "torch"]
TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_sphere_normals_point_along_the_radius(backend):
    vertices, triangles = sphere(50.0, 60, 60)
    normals = mesh.vertex_normals(vertices, triangles, backend)
    inner = torch.zeros(60, 60, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    cosine = (normals * vertices / 50).sum(-1)[0][inner.flatten()]
    # Vertices are 0.05 rad apart; a chord's normal is off by less than half of that.
    assert cosine.min() > torch.tensor(0.025).cos()


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_are_weighted_by_area(backend):
    # Two triangles at a right angle share the edge 0-1; areas 1/2 (normal z) and 3/2 (normal -y).
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]]])
    triangles = torch.tensor([[0, 1, 2], [0, 1, 3]])
    normals = mesh.vertex_normals(vertices, triangles, backend)[0]
    shared = torch.tensor([0.0, -3, 1]) / 10**0.5
    expected = torch.stack([shared, shared, torch.tensor([0.0, 0, 1]), torch.tensor([0.0, -1, 0])])
    torch.testing.assert_close(normals, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_vertex_without_area_has_zero_normal_and_finite_gradient(backend):
    vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 9, 9]]], requires_grad=True)
    normals = mesh.vertex_normals(vertices, torch.tensor([[0, 1, 2]]), backend)
    assert torch.equal(normals, torch.zeros(1, 4, 3))
    normals.sum().backward()
    assert vertices.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_turn_with_the_mesh(backend):
    vertices, triangles = head(20, 20)
    turn = torch.from_numpy(Rotation.from_euler("xyz", [0.3, -1.0, 2.0]).as_matrix()).float()
    turned = mesh.vertex_normals(5 * vertices @ turn.T + 7, triangles, backend)
    expected = mesh.vertex_normals(vertices, triangles, backend) @ turn.T
    # float32; the shift by 7 costs a few bits in edges of about 10 mm.
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_backends_agree_in_value_and_gradient():
    vertices, triangles = head(30, 30)
    vertices = vertices.double() + torch.randn(3, *vertices.shape[1:], dtype=torch.float64)
    weight = torch.randn(vertices.shape, dtype=torch.float64)
    results = []
    for backend in BACKENDS:
        leaf = vertices.clone().requires_grad_()
        normals = mesh.vertex_normals(leaf, triangles, backend)
        (normals * weight).sum().backward()
        results.append((normals.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend):
    vertices, triangles = sphere(1.0, 4, 5)
    jitter = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0)).double()
    vertices = (vertices + 0.05 * jitter).repeat(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: mesh.vertex_normals(v, triangles, backend), (vertices,)
    )


def test_non_contiguous_input():
    vertices, triangles = head(10, 10)
    strided = vertices.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    expected = mesh.vertex_normals(vertices, triangles)
    assert torch.equal(mesh.vertex_normals(strided, triangles), expected)


def test_edges():
    assert mesh.edges(TETRAHEDRON).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    triangles = grid_triangles(5, 7)
    assert 5 * 7 - len(mesh.edges(triangles)) + len(triangles) == 1  # Euler, a disc


def test_edges_know_how_many_triangles_have_them():
    triangles = grid_triangles(5, 7)
    expected = Counter(
        tuple(sorted(pair)) for a, b, c in triangles.tolist() for pair in ((a, b), (b, c), (c, a))
    )
    found, count = mesh.counted_edges(triangles)
    assert dict(zip(map(tuple, found.tolist()), count.tolist(), strict=True)) == expected
    assert set(count.tolist()) == {1, 2}
    nothing, none = mesh.counted_edges(triangles[:0])
    assert nothing.shape == (0, 2) and len(none) == 0


def test_errors():
    with pytest.raises(ValueError, match="backend must be one of"):
        mesh.vertex_normals(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]), "opengl")
    with pytest.raises(ValueError, match="needs float32 or float64"):
        mesh.vertex_normals(torch.zeros(1, 3, 3).half(), torch.tensor([[0, 1, 2]]), "numba")
    with pytest.raises(ValueError, match="vertices must have shape"):
        inspect.unwrap(mesh.vertex_normals)(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
