"""The nvdiffrast backend: against a strict stand-in anywhere, against the others on a GPU."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import fake_nvdiffrast
import pytest
import torch
from meshes import TinyModel, head

from facerecon.backends import choose, rasterize_nvdiffrast
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import antialias, interpolate, rasterize
from facerecon.render import render


@pytest.fixture
def fake(monkeypatch):
    """nvdiffrast, as far as facerecon can tell, for float32 tensors on the CPU."""
    package = ModuleType("nvdiffrast")
    package.__spec__ = ModuleSpec("nvdiffrast", None)
    package.torch = fake_nvdiffrast
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", fake_nvdiffrast)
    monkeypatch.setattr(fake_nvdiffrast, "calls", [])
    monkeypatch.setattr(rasterize_nvdiffrast._contexts, "by_device", {}, raising=False)
    float32 = lambda _, tensors: all(t.dtype == torch.float32 for t in tensors)  # noqa: E731
    monkeypatch.setattr(choose, "_suits", float32)
    choose.nvdiffrast_problem.cache_clear()
    yield fake_nvdiffrast
    choose.nvdiffrast_problem.cache_clear()


def scene(height: int = 23, width: int = 31) -> tuple[torch.Tensor, torch.Tensor]:
    """Two heads, turned, off center, the second partly outside; rows and columns differ."""
    vertices, triangles = head(9, 8)
    angle = torch.tensor([0.5, -0.9])
    c, s, o, e = angle.cos(), angle.sin(), torch.zeros(2), torch.ones(2)
    turn = torch.stack([c, o, s, o, e, o, -s, o, c], 1).view(2, 3, 3)
    projected = vertices @ turn.transpose(1, 2) * torch.tensor([0.13, -0.1, 1.0])
    shift = torch.tensor([[0.45 * width, 0.47 * height, 0], [4.3, height - 9.2, 50]])
    return projected + shift[:, None], triangles


def test_ids_weights_and_depth_are_those_of_numba(fake):
    projected, triangles = scene()
    triangles[::5] = triangles[::5].flip(1)  # back faces in front of others, in one image each
    expected = rasterize(projected, triangles, 23, 31, "numba")
    got = rasterize(projected, triangles, 23, 31, "nvdiffrast")
    assert 0.2 < expected.mask.float().mean() < 0.9
    assert torch.equal(got.triangle, expected.triangle)  # so rows, columns, depth order, culling
    torch.testing.assert_close(got.barycentric, expected.barycentric, atol=1e-4, rtol=0)
    depth = [interpolate(projected[..., 2:], f, triangles, "numba") for f in (got, expected)]
    torch.testing.assert_close(*depth, atol=1e-2, rtol=0)
    assert fake.calls == ["rasterize"]


@pytest.mark.parametrize("shared", [True, False])
def test_interpolation_and_its_gradients_are_those_of_numba(fake, shared):
    projected, triangles = scene()
    attributes = torch.randn(1 if shared else 2, projected.shape[1], 5)
    weight = torch.randn(2, 5, 23, 31)
    results = []
    for name in ("numba", "nvdiffrast"):
        leaves = attributes.clone().requires_grad_(), projected.clone().requires_grad_()
        fragments = rasterize(leaves[1], triangles, 23, 31, "numba", "full")
        image = interpolate(leaves[0], fragments, triangles, name)
        (image * weight).sum().backward()
        results.append((image.detach(), *(leaf.grad for leaf in leaves)))
    torch.testing.assert_close(*results, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("gradient", ["fixed", "full"])
def test_layer_gradients_are_those_of_numba(fake, gradient):
    vertices, triangles = head(9, 8)
    model = TinyModel(vertices, triangles, 3, torch.Generator().manual_seed(0))
    r = torch.randn(2, 9, generator=torch.Generator().manual_seed(5))
    results = []
    for name in ("numba", "nvdiffrast"):
        leaf = r.clone().requires_grad_()
        maps = render(model, leaf, 24, name, gradient)
        (maps.depth.square().mean() * 1e-2 + maps.normals[:, 0].exp().mean()).backward()
        results.append((maps.depth.detach(), maps.normals.detach(), maps.pncc, leaf.grad))
    assert results[0][3][:, 6:].abs().min() > 0 or gradient == "fixed"
    torch.testing.assert_close(*results, atol=2e-3, rtol=1e-3)
    assert fake.calls == ["rasterize", *["interpolate"] * 3]


def test_antialiasing_reaches_the_outline(fake):
    projected, triangles = scene()
    projected.requires_grad_()
    fragments = rasterize(projected, triangles, 23, 31, "nvdiffrast", "full")
    smooth = antialias(fragments.mask.float(), fragments, projected, triangles, "nvdiffrast")
    assert smooth.shape == (2, 1, 23, 31)
    smooth.sum().backward()
    assert projected.grad[..., :2].abs().min() > 0 and (projected.grad[..., 2] == 0).all()
    model = TinyModel(*head(9, 8), 3, torch.Generator().manual_seed(0))
    maps = render(model, torch.zeros(1, 9), 20, "nvdiffrast", "full", smooth=True)
    assert maps.depth.shape == (1, 1, 20, 20) and maps.pncc.shape == (1, 3, 20, 20)
    assert fake.calls[-2:] == ["antialias", "interpolate"]  # the second checks the first's depth


def test_gradients_of_triangles_that_are_small_in_a_large_map(fake):
    projected = torch.tensor([[[250.2, 250.3, 1], [250.4, 251.8, 5], [251.7, 250.1, -3.0]]])
    triangles, weight = torch.tensor([[0, 1, 2]]), torch.tensor([1.0, -2.0, 3.0])
    results = []
    for name in ("numba", "nvdiffrast"):
        leaf = projected.clone().requires_grad_()
        fragments = rasterize(leaf, triangles, 512, 512, name, "full")
        assert fragments.mask.sum() == 1
        (fragments.barycentric * weight).sum().backward()
        results.append((fragments.barycentric.detach(), leaf.grad))
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-3)


def test_one_context_serves_all_calls_of_a_thread(fake):
    projected, triangles = scene()
    before = fake.RasterizeCudaContext.made
    for _ in range(3):
        rasterize(projected, triangles, 8, 8, "nvdiffrast")
    assert fake.RasterizeCudaContext.made == before + 1


def test_depths_stay_inside_clip_space(fake):
    mesh = torch.tensor(
        [[[1.0, 2, -1e4], [3, 4, 1e4], [5, 6, 7]], [[1, 2, 9], [3, 4, 9], [5, 6, 9]]]
    )
    clip = rasterize_nvdiffrast.to_clip(mesh, 10, 20)
    clip = clip / clip[..., 3:]
    assert (clip[..., 2].abs() < 1).all()
    assert clip[0, 0, 2] > clip[0, 2, 2] > clip[0, 1, 2]  # the smaller is the nearer
    corner = rasterize_nvdiffrast.to_clip(torch.tensor([[[-0.5, -0.5, 0.0]]]), 10, 20)
    x, y, _, w = corner[0, 0].tolist()
    assert x == y == -w < 0


def test_too_many_triangles_and_nothing_to_draw(fake):
    vertices, triangles = head(5, 5)
    many = triangles[:1].expand(1 << 20, 3)
    with pytest.raises(ValueError, match="16 meshes of 1048576; render fewer"):
        rasterize(vertices.expand(16, -1, -1), many, 8, 8, "nvdiffrast")
    for mesh, faces in ((vertices[:0], triangles), (vertices, triangles[:0])):
        fragments = rasterize(mesh, faces, 4, 6, "nvdiffrast")
        assert fragments.triangle.shape == (len(mesh), 4, 6) and not fragments.mask.any()
        assert (interpolate(mesh, fragments, faces, "nvdiffrast") == 0).all()
        smooth = antialias(torch.ones(len(mesh), 2, 4, 6), fragments, mesh, faces, "nvdiffrast")
        assert (smooth == 1).all()
    assert fake.calls == []


# What follows needs the real one. Corners rounded to 1/16 of a pixel, and depths to 32 bits of the
# mesh's range, decide differently along outlines and where two surfaces nearly touch.


@pytest.mark.gpu
def test_gpu_maps_are_those_of_numba(model):
    pytest.importorskip("nvdiffrast.torch", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    r = torch.cat([model.sample(4, generator), torch.randn(4, 6, generator=generator)], dim=1)
    expected = render(model, r, 200, "numba")
    got = render(MorphableModel.default().cuda(), r.cuda(), 200, "nvdiffrast")
    same = got.fragments.triangle.cpu() == expected.fragments.triangle
    inner = eroded(expected.mask) | eroded(~expected.mask)
    changed = ~same[inner[:, 0]]
    assert changed.float().mean() < 0.05  # a neighbor across an edge that was rounded away
    both = inner & got.mask.cpu() & expected.mask
    error = (got.depth.cpu() - expected.depth)[both].abs()
    assert error.median() < 1e-3 and error.quantile(0.999) < 1.0
    assert ((got.mask.cpu() != expected.mask) & inner).float().mean() < 5e-4


@pytest.mark.gpu
@pytest.mark.parametrize("gradient", ["fixed", "full"])
def test_gpu_gradients_are_those_of_torch(model, gradient):
    pytest.importorskip("nvdiffrast.torch", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    r = torch.cat([model.sample(2, generator), torch.randn(2, 6, generator=generator)], dim=1)
    on_gpu, gradients = MorphableModel.default().cuda(), []
    for name in ("torch", "nvdiffrast"):
        leaf = r.cuda().requires_grad_()
        maps = render(on_gpu, leaf, 200, name, gradient)
        inner = eroded(maps.mask.cpu()).cuda()
        maps.depth[inner].square().mean().backward()
        gradients.append(leaf.grad.cpu())
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert difference < 0.02


def eroded(mask: torch.Tensor) -> torch.Tensor:
    """True where the eight neighbors are, too."""
    return torch.nn.functional.max_pool2d((~mask).float(), 3, 1, 1) == 0
