import inspect

import pytest
import torch
from meshes import TinyModel, head, sphere

from facerecon import mesh
from facerecon.camera import POSE_NAMES, join, pose_parameters, project, split, to_camera
from facerecon.rasterize import interpolate
from facerecon.render import FaceModel, curved_depth, place, render

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
def test_gradients_of_each_stage(backend):
    """In float64: decode (Eq. 1), pose (Eqs. 2 and 5) and normals."""
    model = tiny()
    r = torch.randn(2, 10, dtype=torch.float64, requires_grad=True)
    coefficients, pose = split(r, 4)
    vertices = model.vertices(coefficients)
    assert torch.autograd.gradcheck(model.vertices, (coefficients,))
    pick = slice(0, None, 9)  # of the vertices, which are all alike
    assert torch.autograd.gradcheck(lambda v, p: project(v[:, pick], p, 20), (vertices, pose))
    few, triangles = head(4, 4)
    few = few.double().repeat(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: mesh.vertex_normals(v, triangles, backend), (few,))


@both
@pytest.mark.parametrize("gradient", ["fixed", "full"])
def test_gradcheck_of_the_whole_layer(backend, gradient):
    """Nothing is patched in "full": steps of 1e-6 move no edge over a pixel center here.

    "fixed" holds for what does not move sideways: a basis along z under a frontal pose.
    """
    model = tiny()
    r = zero_r(model, yaw=0.4, pitch=-0.3, roll=0.5, t_x=0.2, log_scale=-0.5)
    r[:, :4] = torch.tensor([0.5, -1.0, 0.3, 0.8])
    if gradient == "fixed":
        model.basis.view(4, -1, 3)[..., :2] = 0
        r[:, 4:] = 0

    def maps(coefficients, pose):
        rendering = render(model, join(coefficients, pose), 9, backend, gradient)
        return rendering.depth, rendering.normals, rendering.pncc

    coefficients, pose = (part.clone() for part in split(r, 4))
    coefficients.requires_grad_()
    pose.requires_grad_(gradient == "full")
    assert torch.autograd.gradcheck(maps, (coefficients, pose))


@both
def test_full_gradient_of_a_depth_loss_is_its_finite_difference(backend):
    """Over steps that take pixels across edges: the surface is continuous, and so is the loss."""
    model = tiny()
    r = zero_r(model, yaw=0.3, pitch=0.2, roll=0.1)
    r[:, :4] = torch.tensor([0.5, -1.0, 0.3, 0.8])
    seen = render(model, r, 40).mask
    inside = -torch.nn.functional.max_pool2d(-seen.double(), 7, 1, 3)  # off the outline
    weight = torch.randn(1, 1, 40, 40, dtype=torch.float64) * inside

    def loss(r, gradient="fixed"):
        return (render(model, r, 40, backend, gradient).depth * weight).sum()

    gradients = {}
    for gradient in ("fixed", "full"):
        leaf = r.clone().requires_grad_()
        (gradients[gradient],) = torch.autograd.grad(loss(leaf, gradient), leaf)
    step = 1e-3
    difference = torch.empty_like(r)
    for index in range(r.shape[1]):
        moved = torch.zeros_like(r)
        moved[0, index] = step
        difference[0, index] = (loss(r + moved) - loss(r - moved)) / (2 * step)
    error = {name: (g - difference).norm() / difference.norm() for name, g in gradients.items()}
    assert error["full"] < 0.02 and error["fixed"] > 0.5, error
    # The paper's gradient knows nothing of roll, translation and scale, which move only x and y.
    assert (gradients["fixed"][0, 6:] == 0).all() and (gradients["full"][0, 6:] != 0).all()


def test_pose_and_identity_from_a_depth_map(model):
    n_identity, size = 10, 64
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 290)
    truth[:, :n_identity] = torch.randn(1, n_identity, generator=generator)
    truth[:, 284:] = torch.tensor([0.4, -0.5, 0.3, 0.4, -0.5, 0.6])
    with torch.no_grad():
        target = render(model, truth, size)
    free = torch.zeros(1, n_identity + 6, requires_grad=True)
    rest = torch.zeros(1, 284 - n_identity)
    optimizer = torch.optim.Adam([free], lr=0.1)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 120)
        r = torch.cat([free[:, :n_identity], rest, free[:, n_identity:]], dim=1)
        found = render(model, r, size, gradient="full")
        both = found.mask & target.mask
        loss = (found.depth - target.depth)[both].abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Found: 0.16 mm in depth, 0.03 units in pose, 0.6 mm of 4.2 mm in shape; the ten identities
    # are not equally visible, and more steps would find more.
    assert loss < 0.3
    assert (r - truth)[0, 284:].abs().max() < 0.1
    shapes = [to_camera(model.vertices(x[:, :284]), x[:, 284:]) for x in (r, truth)]
    start = to_camera(model.vertices(0 * truth[:, :284]), truth[:, 284:])
    error, before = ((shape - shapes[1]).norm(dim=2).mean() for shape in (shapes[0], start))
    assert error < 0.3 * before, (error, before)


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
    model = tiny()  # float64: a matrix product of another batch size rounds otherwise
    r = torch.randn(3, 10, generator=torch.Generator().manual_seed(1)).double()
    together = render(model, r, 50, backend)
    for item in range(3):
        alone = render(model, r[item : item + 1], 50, backend)
        torch.testing.assert_close(alone.depth[0], together.depth[item], atol=1e-8, rtol=0)
        assert (alone.mask[0] == together.mask[item]).all()


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
    with pytest.raises(ValueError, match="gradient must be one of"):
        render(model, r, 30, gradient="none")
    with pytest.raises(ValueError, match="need the gradient 'full'"):
        render(model, r, 30, smooth=True)
    with pytest.raises(ValueError, match="needs the backend nvdiffrast, and numba was chosen"):
        render(model, zero_r(model), 30, "numba", "full", smooth=True)


def test_curved_depth_is_that_of_the_sphere_behind_its_facets():
    radius, size = 80.0, 107
    model = TinyModel(*sphere(radius, 24, 24), 1, torch.Generator().manual_seed(0))
    r = zero_r(model)
    rendering = render(model, r, size)
    normals = (model.mean / radius)[None]  # exact
    curved = curved_depth(model.mean[None], normals, rendering.fragments, model.triangles)
    scale = pose_parameters(r[:, 1:], size).scale.item()
    center = (size - 1) / 2
    row, column = torch.meshgrid(2 * [torch.arange(size, dtype=torch.float64)], indexing="ij")
    squared = ((row - center) / scale) ** 2 + ((column - center) / scale) ** 2
    true = (radius**2 - squared).clamp(min=0).sqrt()
    inside = rendering.mask[0, 0] & (squared < (0.7 * radius) ** 2)
    flat, bent = ((d[0, 0] - true)[inside].abs().max() for d in (rendering.depth, curved))
    assert bent < 0.05 * flat, (flat, bent)
    assert (curved[~rendering.mask] == 0).all()


def test_curved_depth_leaves_a_plane_as_it_is():
    model, r = tiny(), zero_r(tiny(), yaw=0.4)
    x, y, _ = place(model, r, 60)[0].unbind(2)
    plane = torch.stack([x, y, 0.2 * x - 0.1 * y + 5], 2)
    normals = torch.tensor([-0.2, 0.1, 1.0], dtype=torch.float64)
    normals = (normals / normals.norm()).expand_as(plane).contiguous()
    fragments = render(model, r, 60).fragments
    flat = interpolate(plane[..., 2:].contiguous(), fragments, model.triangles)
    curved = curved_depth(plane, normals, fragments, model.triangles)
    assert fragments.mask.any() and (curved - flat).abs().max() < 1e-9
