import inspect

import pytest
import torch
from meshes import TinyModel, head, sphere

from facerecon.camera import POSE_NAMES, pose_parameters
from facerecon.render import FaceModel, render

BACKENDS = ["numba", "torch"]
both = pytest.mark.parametrize("backend", BACKENDS)


def tiny(n_coefficients: int = 4, dtype: torch.dtype = torch.float64) -> TinyModel:
    vertices, triangles = head(14, 13)  # the middle column of vertices is the nose's ridge
    generator = torch.Generator().manual_seed(0)
    return TinyModel(vertices.to(dtype), triangles, n_coefficients, generator)


def zero_r(model: TinyModel, **pose: float) -> torch.Tensor:
    r = torch.zeros(1, model.n_coefficients + 6, dtype=model.mean.dtype)
    for name, value in pose.items():
        r[0, model.n_coefficients + POSE_NAMES.index(name)] = value
    return r


def test_the_tiny_model_has_the_interface():
    assert isinstance(tiny(), FaceModel)


@both
def test_sphere_depth_normals_and_pncc_are_analytic(backend):
    radius, size = 80.0, 107
    vertices, triangles = sphere(radius, 150, 150)
    model = TinyModel(vertices, triangles, 1, torch.Generator().manual_seed(0))
    rendering = render(model, zero_r(model, t_x=0.5, t_y=0.25, yaw=0.3), size, backend)
    scale = pose_parameters(zero_r(model)[:, 1:], size).scale.item()
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row, column = row.double(), column.double()
    x = (column - (size - 1) / 2 - 0.5 * size / 16) / scale
    y = ((size - 1) / 2 - row - 0.25 * size / 16) / scale
    # The rotated half sphere still faces us here, and it is seen away from its rim.
    inner = (x**2 + y**2 < (0.8 * radius) ** 2) & (x > -0.5 * radius)
    assert rendering.mask[0, 0][inner].all()
    z = (radius**2 - x**2 - y**2).clamp(min=0).sqrt()
    # The sagitta of flat triangles with a diagonal of 2.3 mm, seen under a slope of up to 0.6.
    assert ((z - rendering.depth[0, 0])[inner].abs() < 2.3**2 / (8 * radius) / 0.6).all()
    expected = torch.stack([x, y, z]) / radius
    cosine = (rendering.normals[0] * expected).sum(0)[inner]
    assert cosine.min() > torch.tensor(0.02).cos()
    length = rendering.normals[0].norm(dim=0)
    torch.testing.assert_close(length, rendering.mask[0, 0].double(), atol=1e-9, rtol=0)
    # PNCC tells which model point is seen: rotate the seen point back and compare.
    turn = pose_parameters(zero_r(model, yaw=0.3)[:, 1:], size).rotation[0]
    seen = torch.einsum("ij,ihw->jhw", turn, torch.stack([x, y, z]))
    low, high = model.mean.amin(0)[:, None, None], model.mean.amax(0)[:, None, None]
    assert ((seen - low) / (high - low) - rendering.pncc[0])[:, inner].abs().max() < 1e-3


@both
def test_directions_in_the_image(backend):
    model = tiny(dtype=torch.float32)

    def nose(**pose: float) -> tuple[int, int]:
        depth = render(model, zero_r(model, **pose), 100, backend).depth[0, 0]
        return divmod(int(depth.argmax()), 100)

    row, column = nose()
    assert abs(column - 49.5) <= 3
    assert nose(yaw=0.6)[1] > column + 8
    assert nose(pitch=0.6)[0] > row + 8
    assert nose(t_x=2.0)[1] == pytest.approx(column + 12.5, abs=1)
    assert nose(t_y=2.0)[0] == pytest.approx(row - 12.5, abs=1)
    normals = render(model, zero_r(model), 100, backend).normals[0]
    assert normals[0, 50, 75] > 0.3 and normals[0, 50, 25] < -0.3  # x to the viewer's right
    assert normals[1, 20, 50] > 0.3 and normals[1, 80, 50] < -0.3  # y up
    assert normals[2, 20, 20:80].max() > 0.5
    small = render(model, zero_r(model), 100, backend).mask.sum()
    assert render(model, zero_r(model, log_scale=1.0), 100, backend).mask.sum() > 1.2 * small


def test_backends_agree_in_maps_and_gradients():
    model = tiny()
    r = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    results = []
    for backend in BACKENDS:
        leaf = r.clone().requires_grad_()
        rendering = render(model, leaf, 40, backend)
        (rendering.depth.square().sum() * 1e-3 + rendering.normals[:, 0].exp().sum()).backward()
        maps = rendering.depth, rendering.normals, rendering.pncc, rendering.mask
        results.append((*(part.detach() for part in maps), leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-8, rtol=1e-8)


@both
def test_gradients_with_fixed_visibility(backend, monkeypatch):
    """Eqs. (6) and (7) hold visibility and weights fixed; so do the finite differences here."""
    model = tiny()
    r = zero_r(model, yaw=0.4, pitch=-0.3, roll=0.5, t_x=0.2, log_scale=-0.5)
    r[:, :4] = torch.tensor([0.5, -1.0, 0.3, 0.8])
    fragments = render(model, r, 9, backend).fragments
    assert 20 < fragments.mask.sum() < 81
    monkeypatch.setattr("facerecon.render.rasterize", lambda *arguments: fragments)
    r.requires_grad_()
    assert torch.autograd.gradcheck(lambda r: render(model, r, 9, backend).depth, (r,))
    assert torch.autograd.gradcheck(lambda r: render(model, r, 9, backend).normals, (r,))
    assert torch.autograd.gradcheck(lambda r: render(model, r, 9, backend).projected, (r,))


def test_depth_gradient_is_complete_where_nothing_moves_sideways():
    """With a basis along z and a frontal pose, fixed weights are exact: no patch is needed."""
    model = tiny()
    model.basis.view(4, -1, 3)[..., :2] = 0
    r = zero_r(model).requires_grad_()
    pixels = render(model, r, 12).depth
    (gradient,) = torch.autograd.grad(pixels.sum(), r)
    step = 1e-5
    for index in range(4):
        moved = r.detach().clone()
        moved[0, index] += step
        difference = (render(model, moved, 12).depth.sum() - pixels.sum().detach()) / step
        torch.testing.assert_close(gradient[0, index], difference, rtol=1e-6, atol=1e-6)
    assert (gradient[0, 7:] == 0).all()  # translation and scale do not change a vertex's depth


@both
def test_batch_items_are_independent(backend):
    model = tiny(dtype=torch.float32)
    r = torch.randn(3, 10, generator=torch.Generator().manual_seed(1))
    together = render(model, r, 50, backend)
    for item in range(3):
        alone = render(model, r[item : item + 1], 50, backend)
        torch.testing.assert_close(alone.depth[0], together.depth[item], atol=1e-3, rtol=0)
        assert (alone.mask[0] != together.mask[item]).float().mean() < 0.005


@both
def test_face_outside_the_image(backend):
    model = tiny()
    r = zero_r(model, t_x=40.0).requires_grad_()
    rendering = render(model, r, 30, backend)
    assert not rendering.mask.any()
    for part in (rendering.depth, rendering.normals, rendering.pncc):
        assert (part == 0).all()
    (rendering.depth.sum() + rendering.normals.sum()).backward()
    assert (r.grad == 0).all()


def test_errors():
    model = tiny()
    with pytest.raises(ValueError, match="r must have shape"):
        inspect.unwrap(render)(model, torch.zeros(1, 11, dtype=torch.float64), 30)
    r = zero_r(model)
    r[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity"):
        render(model, r, 30)
