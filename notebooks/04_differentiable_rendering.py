# %% [markdown]
# # A renderer with gradients
#
# **A z-buffer turns the 290 numbers of a face into a depth map; run backwards, it tells
# each of the numbers how the depth map would like it to change.**
#
# *Afterwards you can* write a z-buffer, mix depths with barycentric weights, follow a
# gradient from one pixel to the coefficients, say what the paper's fixed weights leave
# out, and fit a face to a depth map. *Paper:* section 4.1; Eqs. (5), (6) and (7);
# Figure 5. *Time:* a minute on two CPU cores (`full`: a few). *Data:* the morphable
# model that ships with the package. Nothing is downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full": section 7 fits with larger maps and for longer
seed = 0  # of the face and of the random numbers in the checks
output_dir = "runs/differentiable_rendering"  # where figures and result.json go

# %% tags=["imports"]
import time
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np

from facerecon import MorphableModel, camera, rasterize, repro
from facerecon.backends import choose
from facerecon.render import render
from facerecon.views import viz
import torch  # after facerecon, which tells its threads how to wait

# %%
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)
generator = torch.Generator().manual_seed(seed)
model = MorphableModel.default()
triangles, size = model.triangles, 200
alpha = model.sample(1, generator)  # identity and expression
pose = torch.tensor([[0.2, 0.9, 0.1, 1.2, 0.0, -0.4]])  # in camera.POSE_UNITS
r = camera.join(alpha, pose)
print("on this machine the renderer runs on:", choose.choose_backend("auto", r))


def shaded(maps):
    """The face as a grey surface."""
    normals = torch.where(maps.mask, maps.normals, torch.nan)[0]
    return viz.shaded(normals.detach().permute(1, 2, 0).numpy())


# %% [markdown]
# ## 1 A mesh above the image plane
#
# "First the 3D mesh is calculated from the geometry parameters and positioned above the
# image plane" (4.1),
# $$(p_x, p_y, p_z)^T = \mathrm{diag}(f, f, 1)\,R\,S + (t_x, t_y, 0)^T. \qquad (5)$$
# Chapter 1 built this step by hand. Its result here: a column, a row and a depth for
# each vertex. Pixels have their centers at whole columns and rows, rows go down, and
# the larger depth is nearer (`docs/conventions.md` has a picture of it).

# %%
projected = camera.project(model.vertices(alpha), pose, size)  # Eq. (5)
x, y, z = projected[0].T
marks = projected[0, model.landmarks, :2]
nose = marks[30].round().int().tolist()  # its tip: column, row
cheek = marks[[3, 31, 48]].mean(0).round().int().tolist()  # of jaw, nose and mouth

# %%
figure, (whole, close) = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for axis, width in ((whole, 0.1), (close, 0.8)):
    axis.triplot(x, y, triangles, color="steelblue", lw=width)
    axis.set(aspect="equal", xlabel="column", ylabel="row")
whole.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), title="the mesh")
column, row = np.meshgrid(np.arange(-6, 7) + cheek[0], np.arange(-6, 7) + cheek[1])
close.plot(column, row, ".k", ms=4)
close.set(xlim=(cheek[0] - 6.5, cheek[0] + 6.5), ylim=(cheek[1] + 6.5, cheek[1] - 6.5))
close.set(title="on the cheek; pixel centers")
figure.savefig(output / "mesh.png", dpi=60)
plt.show()

# %% [markdown]
# ## 2 Which triangle does a pixel see?
#
# A triangle covers a pixel if the pixel's center lies inside: on the same side of all
# three edges. For the edge from corner $j$ to corner $k$, seen from the pixel, the side
# is the sign of
# $$e_i = y_j x_k - x_j y_k,$$
# twice the area that the edge spans with the pixel. For a triangle that faces us all
# three are positive: rows go down, so its corners, counter-clockwise from outside, run
# clockwise on the grid. Back faces have a negative area and are never rasterized.


# %%
def edges(corners, column, row):
    """Twice the areas that a pixel spans with the edges opposite to corners 0, 1, 2."""
    (x0, x1, x2), (y0, y1, y2) = corners[:, 0] - column, corners[:, 1] - row
    return np.array([y1 * x2 - x1 * y2, y2 * x0 - x2 * y0, y0 * x1 - x0 * y1])


# %%
corners = np.array([[1.2, 8.3, 0], [9.1, 6.2, 0], [3.4, 0.7, 0]])
e = [[edges(corners, column, row) for column in range(11)] for row in range(10)]
e = np.array(e)  # (row, column, 3)
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
for axis, side in zip(axes, [e[..., 0], e[..., 1], e[..., 2], e.min(2)], strict=True):
    axis.imshow(side >= 0, cmap="Blues", vmin=-0.5, vmax=2)
    axis.fill(*corners[:, :2].T, fill=False, ec="crimson", lw=2)
for axis, title in zip(axes, ["$e_0$", "$e_1$", "$e_2$", "all three"], strict=True):
    axis.set(title=f"{title} ≥ 0", xticks=[], yticks=[])
figure.savefig(output / "edges.png", dpi=60)
plt.show()

# %% [markdown]
# "When a single pixel resides in more than one triangle, the one that is closest to
# the image plane is chosen" (4.1), in our frame the one of larger depth. The *z-buffer*
# does so one triangle after the other: it remembers the depth seen so far at every
# pixel. For a triangle we need only look at the pixels of its bounding box.


# %%
def z_buffer(points, triangles, height, width):
    """The visible triangle of every pixel, -1 where there is none."""
    visible = np.full((height, width), -1)
    nearest = np.full((height, width), -np.inf)
    for t, corners in enumerate(points[triangles]):
        first = np.ceil(corners[:, :2].min(0).clip(0)).astype(int)
        last = np.floor(corners[:, :2].max(0).clip(max=(width - 1, height - 1)))
        for row in range(first[1], int(last[1]) + 1):
            for column in range(first[0], int(last[0]) + 1):
                e = edges(corners, column, row)
                if e.min() >= 0 and e.sum() > 0:
                    depth = e @ corners[:, 2] / e.sum()  # Eq. (6), soon
                    if depth > nearest[row, column]:
                        nearest[row, column], visible[row, column] = depth, t
    return visible, nearest


# %% tags=["check"]
points, start = projected[0].double().numpy(), time.perf_counter()
visible, nearest = z_buffer(points, triangles.numpy(), size, size)
by_hand_seconds = time.perf_counter() - start
fragments = rasterize.rasterize(projected.double(), triangles, size, size)
start = time.perf_counter()
fragments = rasterize.rasterize(projected.double(), triangles, size, size)
compiled = time.perf_counter() - start
print(f"by hand {by_hand_seconds:.1f} s, the package {compiled * 1e3:.1f} ms")
different = (fragments.triangle[0].numpy() != visible).mean()
print(f"{different:.4%} of the pixels differ")
assert different < 1e-4, f"{different:.4%}, not below 0.01 %"

# %%
half = z_buffer(points, triangles.numpy()[::2], size, size)[1]
kept = np.where(visible < 0, np.nan, visible)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for axis, picture, title, cmap in (
    (axes[0], half, "depth buffer, every other triangle", "viridis"),
    (axes[1], nearest, "depth buffer, all of them", "viridis"),
    (axes[2], kept * 2654435761 % 256, "triangle ids, as colors", "prism"),
):
    shown = np.where(np.isfinite(picture), picture, np.nan)
    axis.imshow(shown, cmap=cmap, interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig(output / "z_buffer.png", dpi=64)
plt.show()

# %% [markdown]
# ## 3 Barycentric weights and Eq. (6)
#
# Divided by their sum, the three edge functions are the *barycentric weights*
# $\lambda_i = e_i / (e_0 + e_1 + e_2)$: positive, of sum one, and the pixel is the
# weighted mean of the corners, $\sum_i \lambda_i p_i$. The same mean gives every other
# quantity that lives on vertices: "The value of each pixel is determined by
# interpolating the z-values of the mesh face using barycentric coordinates
# $$\tilde z = \lambda_0 z_0 + \lambda_1 z_1 + \lambda_2 z_2, \qquad (6)"$$
# the normal, the color, or the PNCC, the feedback of CoarseNet.

# %%
seen = np.argwhere(visible >= 0)  # rows, columns
corner_ids = triangles.numpy()[visible[tuple(seen.T)]]  # (n, 3)
corner_points = points[corner_ids]  # (n, 3 corners, 3)
pairs = zip(corner_points, seen, strict=True)
e = np.array([edges(corners, column, row) for corners, (row, column) in pairs])
weights = e / e.sum(1, keepdims=True)
z_tilde = (weights * corner_points[..., 2]).sum(1)  # Eq. (6)

# %% tags=["check"]
mean = np.einsum("nc,nck->nk", weights, corner_points)
off = np.abs(mean[:, :2] - seen[:, ::-1]).max()  # from the pixel itself: column, row
assert off < 1e-6, f"{off:.1e} pixels, not below 1e-6"
package = fragments.barycentric[0].numpy()[tuple(seen.T)]
same = fragments.triangle[0].numpy()[tuple(seen.T)] == visible[tuple(seen.T)]
off = np.abs(weights[same] - package[same]).max()
assert off < 1e-6, f"weights differ by {off:.1e}, not below 1e-6"
depth = rasterize.interpolate(projected.double()[..., 2:], fragments, triangles)
error = np.abs(z_tilde - depth[0, 0].numpy()[tuple(seen.T)])
print(f"{len(seen):,} pixels; Eq. (6) differs by at most {error.max():.1e} mm")
assert error.max() < 1e-6, f"{error.max():.1e} mm, not below 1e-6"


# %%
maps = render(model, r, size)  # everything at once, from r
large = camera.project(model.vertices(alpha), pose, 10 * size)
large = rasterize.rasterize(large, triangles, 10 * size, 10 * size).barycentric[0]
window = tuple(slice(10 * c - 55, 10 * c + 55) for c in cheek[::-1])  # rows, columns
normals, pncc = (torch.where(maps.mask, m, 1.0) for m in (maps.normals, maps.pncc))
pictures = {
    "λ, cheek, enlarged": large[window],
    "depth": torch.where(maps.mask, maps.depth, torch.nan)[0, 0],
    "normals": (normals[0] / 2 + 0.5).permute(1, 2, 0),
    "PNCC": pncc[0].permute(1, 2, 0),
}

# %%
figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
for axis, (title, picture) in zip(axes, pictures.items(), strict=False):
    axis.imshow(picture, interpolation="nearest")
    axis.set(title=title, xticks=[], yticks=[])
axes[4].imshow(shaded(maps), cmap="gray")
axes[4].set(title="shaded", xticks=[], yticks=[])
figure.savefig(output / "maps.png", dpi=64)
plt.show()

# %% [markdown]
# ## 4 Backwards: Eq. (7)
#
# Let a criterion $E$ look at the depth map. Which triangle a pixel sees is a decision
# without a derivative, but the mean of Eq. (6) has one: "During back-propagation the
# gradients are passed from each pixel to the matching vertex, weighted by the
# corresponding coordinate,
# $$\frac{dE}{dz_i} = \frac{dE}{d\tilde z}\frac{d\tilde z}{dz_i} =
# \frac{dE}{d\tilde z}\lambda_i, \qquad (7)$$
# [...] Note that we assume that the barycentric coordinates are fixed. [...] In
# addition, no gradients are propagated to hidden vertices." A vertex collects from all
# pixels of all its triangles.

# %%
dE_dz = torch.randn(1, 1, size, size, generator=generator, dtype=torch.float64)
by_hand = np.zeros(model.n_vertices)
arriving = dE_dz[0, 0].numpy()[tuple(seen.T)]
np.add.at(by_hand, corner_ids, weights * arriving[:, None])  # Eq. (7)

# %% tags=["check"]
z_leaf = projected.double()[..., 2:].clone().requires_grad_()
image = rasterize.interpolate(z_leaf, fragments, triangles)
(image * dE_dz).sum().backward()
error = np.abs(z_leaf.grad[0, :, 0].numpy() - by_hand)
print(f"largest difference {error.max():.1e} of {np.abs(by_hand).max():.1f}")
assert error.max() < 1e-9, f"{error.max():.1e}, not below 1e-9"
reached = by_hand != 0
print(f"{reached.mean():.0%} of the vertices get a gradient")
others = reached[np.setdiff1d(np.arange(model.n_vertices), corner_ids)].sum()
assert others == 0, f"{others} vertices that are not seen get one, 0 expected"

# %%
# From above: the image plane lies below, and what it cannot see gets nothing.
figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for mask, color, label in (
    (~reached, "0.7", "no gradient"),
    (reached, "C0", "gradient"),
):
    axis.scatter(points[mask, 0], points[mask, 2], s=0.6, color=color, label=label)
axis.set(aspect="equal", xlabel="column", ylabel="depth, mm (up: towards the viewer)")
axis.legend(markerscale=8, loc="lower right")
figure.savefig(output / "hidden_vertices.png", dpi=70)
plt.show()

# %% [markdown]
# ## 5 Figure 5, for one pixel
#
# "Gradients from FineNet are first propagated to the depth map, and then propagated
# from each pixel to the matching vertices. The gradients on the triangular mesh are
# then propagated back to the morphable model representation." We take $E = \tilde z$ at
# one pixel on the cheek, go the whole way by hand, and ask autograd for the same.
#
# The pixel: its triangle $t$ and weights $\lambda$. The vertices: $dE/dz_i =
# \lambda_i$. The coefficients: by Eq. (5), $z_i = (R S)_z$ of vertex $i$, and $S$ is
# linear, so $dz_i / d\alpha_k$ is the third row of $R$ times row $k$ of the basis at
# that vertex.

# %%
left, top = cheek[0] - 5, cheek[1] - 5
near = maps.fragments.barycentric[0, top : top + 10, left : left + 10].amin(2)
row, column = divmod(near.argmax().item(), 10)  # well inside its triangle
column, row = left + column, top + row
t = int(maps.fragments.triangle[0, row, column])
lambda_ = maps.fragments.barycentric[0, row, column]  # pixel to vertices, Eq. (7)
basis = model.basis.unflatten(1, (-1, 3))[:, triangles[t]]  # (284, 3 corners, xyz)
R = camera.pose_parameters(pose, size).rotation[0]
dz_dalpha = basis @ R[2]  # vertices to coefficients, Eq. (5): (284, 3 corners)
dE_dalpha = dz_dalpha @ lambda_

# %% tags=["check"]
leaf = r.clone().requires_grad_()
render(model, leaf, size).depth[0, 0, row, column].backward()
by_autograd = leaf.grad[0]
difference = (by_autograd[:284] - dE_dalpha).abs().max()
print(f"pixel {column, row}, triangle {t}, weights {lambda_.numpy().round(2)}")
print(f"largest difference {difference:.1e} mm of {dE_dalpha.abs().max():.2f} mm")
assert difference < 1e-4, f"{difference:.1e} mm, not below 1e-4"
assert dE_dalpha.abs().max() > 0.1, f"{dE_dalpha.abs().max():.2f} mm, not above 0.1"

# %% [markdown]
# The same three steps as pictures: where the pixel is; its triangle, with the share of
# the gradient that each corner gets; and how many mm the pixel would come nearer for
# one more standard deviation of each coefficient.

# %%
here = projected[0, triangles[t]]  # the three corners
flow, axes = plt.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
axes[0].imshow(shaded(maps), cmap="gray")
axes[0].set(title="a pixel ...", xticks=[], yticks=[])
axes[1].triplot(x, y, triangles, color="0.8", lw=0.6)
axes[1].scatter(here[:, 0], here[:, 1], s=900 * lambda_, color="C0", alpha=0.7)
for (px, py, _), share in zip(here.tolist(), lambda_.tolist(), strict=True):
    axes[1].annotate(f"   {share:.2f}", (px, py), fontsize=11)
axes[1].set(xlim=(column - 2.8, column + 2.8), ylim=(row + 2.8, row - 2.8))
axes[1].set(aspect="equal", title="... gives its triangle's corners ...")
for axis in axes[:2]:
    axis.plot(column, row, "s", mec="crimson", mfc="none", ms=9, mew=2)
plt.close()  # shown below, with its third part

# %%
axes[2].plot(dE_dalpha, lw=0.8)
axes[2].axvline(model.n_identity, color="0.6", ls=":")
axes[2].set(title="... and they the coefficients", ylabel="mm per standard deviation")
axes[2].set(xlabel="identity 0 to 199, then expression")
flow.savefig(output / "gradient_flow.png", dpi=70)
flow

# %%
order = dE_dalpha[model.n_identity :].abs().argsort(descending=True)[:4]
for k in order.tolist():
    change = dE_dalpha[model.n_identity + k].item()
    print(f"{model.expression_names[k]:24} {change:+.2f} mm")
for name, change in zip(camera.POSE_NAMES, by_autograd[284:].tolist(), strict=True):
    print(f"{name:24} {change:+.2f} mm per unit")

# %% [markdown]
# ## 6 What fixed weights leave out
#
# The last lines show it: roll, translation and scale get no gradient at all. They move
# vertices sideways and leave depths alone, and Eq. (7) knows depths only.
# "Alternatively, one could derive the coordinates with respect to $x_i$ and $y_i$."
#
# That derivative is simpler than it looks. Move corner $m$ by $\delta$, and the weights
# change as if the pixel had moved by $-\lambda_m\delta$ instead. With the slope of the
# interpolated surface, $s = (\partial\tilde z/\partial x, \partial\tilde z/\partial
# y)$, hence $$\frac{\partial\tilde z}{\partial(x_m, y_m)} = -\lambda_m s.$$
# A vertex that moves right lets the pixel see what was to its left.

# %%
(x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = here.double().tolist()
area = (y1 - y0) * (x2 - x0) - (x1 - x0) * (y2 - y0)  # e0 + e1 + e2
slope = (
    np.array(
        [
            (y2 - y1) * z0 + (y0 - y2) * z1 + (y1 - y0) * z2,
            (x1 - x2) * z0 + (x2 - x0) * z1 + (x0 - x1) * z2,
        ]
    )
    / area
)  # mm per column, mm per row
dE_dxy = -lambda_.numpy()[:, None] * slope  # (3 corners, 2)

# %% tags=["check"]
moving = projected.double().clone().requires_grad_()
full = rasterize.rasterize(moving, triangles, size, size, gradient="full")
image = rasterize.interpolate(moving[..., 2:], full, triangles)
image[0, 0, row, column].backward()
by_autograd = moving.grad[0, triangles[t]].numpy()
print(f"slope {slope.round(2)} mm per pixel; the corners get\n{by_autograd.round(3)}")
off = [
    np.abs(by_autograd[:, :2] - np.asarray(dE_dxy)).max(),
    np.abs(by_autograd[:, 2] - np.asarray(lambda_)).max(),
]
assert off[0] < 1e-4, f"columns, rows: {off[0]:.1e}, not below 1e-4"
assert off[1] < 1e-4, f"depth, Eq. (7): {off[1]:.1e}, not below 1e-4"

# %% [markdown]
# Now for the whole image and a shift $t_x$ of the face. The truth is a finite
# difference: render twice, a fifth of a pixel apart. The full gradient is forward
# differentiation of the `torch` backend. The fixed one is zero everywhere.


# %%
def shifted(t_x, gradient="full"):
    moved = pose + torch.nn.functional.pad(t_x.view(1, 1), (3, 2))
    return render(model, camera.join(alpha, moved), size, "torch", gradient)


def depth_at(t_x, gradient="full"):
    return shifted(t_x, gradient).depth[0, 0]


zero, one = torch.zeros(()), torch.ones(())
step = 0.1 / (size / 16) * one  # a tenth of a pixel, in units of the pose
difference = (depth_at(step) - depth_at(-step)).detach() / (2 * step)
full = torch.autograd.functional.jvp(depth_at, zero, one)[1]
fixed = torch.autograd.functional.jvp(lambda t: depth_at(t, "fixed"), zero, one)[1]

# %%
ids = torch.stack([shifted(t).fragments.triangle[0] for t in (-step, zero, step)])
face = (ids >= 0).any(0)
same = face & (ids == ids[1]).all(0)
outline = face & (ids < 0).any(0)
groups = {"same triangle": same, "another": face & ~same & ~outline, "outline": outline}
missed, error = {}, full - difference
for name, where in groups.items():
    missed[name] = (error[where].norm() / difference[where].norm()).item()
    energy = (error[where].norm() / error[face].norm()) ** 2
    print(
        f"{name}: {where.sum() / face.sum():.1%} of pixels, {energy:.2%} of the error;"
    )
    print(f"    {missed[name]:.3%} of their change is missed")

# %% tags=["check"]
inside, another, outside = missed.values()
assert inside < 1e-3 < another < outside, f"not in this order of size: {missed}"
assert (fixed == 0).all(), f"fixed weights: {fixed.abs().max():.1e}, 0 expected"
share = same.sum() / face.sum()
assert share > 0.7, f"{share:.1%} keep their triangle, above 70 % expected"

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
limit = 3 * full[same].abs().median().item()
three = {"finite difference": difference, "full": full, "fixed": fixed}
for axis, (title, picture) in zip(axes, three.items(), strict=False):
    axis.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.axhline(nose[1], color="0.4", lw=0.6, ls=":")
    axis.set(title=title, xticks=[], yticks=[])
for (title, picture), style in zip(three.items(), ("k", "C0", "C3"), strict=True):
    axes[3].plot(picture[nose[1]], style, lw=2.5 if style == "k" else 1, label=title)
axes[3].set(ylim=(-8 * limit, 8 * limit), title="along the dotted row", xlabel="column")
axes[3].legend(fontsize=7)
figure.savefig(output / "fixed_and_full.png", dpi=70)
plt.show()

# %% [markdown]
# What the full gradient misses is a change of the *visible triangle*, and that alone.
# Where all three renders see the same triangle, four fifths of the pixels, it agrees
# with the finite difference to float32's last digits. Where the face ends or begins
# within the step, the depth jumps by the whole distance to the background: those few
# pixels are the spikes, and hold nearly all of the squared error. Between them come
# pixels that step over an edge of the mesh. On smooth skin the slope has a kink there;
# where the nose hides the cheek, the depth jumps, too. A jump belongs to neither side,
# so no gradient of a visible triangle can show it. Only a renderer that blends pixels
# across an outline can; nvdiffrast does so with `smooth=True`, see section 8.
# The paper's choice is enough for training: CoarseNet learns its pose from synthetic
# data; what FineNet's criterion adds through the layer is shape, which acts on depth.

# %% [markdown]
# ## 7 A fit by gradient descent
#
# The layer at work: a stranger's depth map is given, and from the mean face in the
# middle of the image we descend on the mean absolute difference of the depths, over the
# pixels that both faces cover. Twenty identity coefficients and the pose are free.

# %%
steps, side = {"quick": (100, 100), "full": (400, 200)}[preset]
is_free = (torch.arange(290) < 20) | (torch.arange(290) >= 284)
stranger = is_free * torch.randn(1, 290, generator=generator)
stranger[0, 284:] = torch.tensor([0.4, -0.5, 0.3, 0.4, -0.5, 0.6])
with torch.no_grad():
    target = render(model, stranger, side)
view = widgets.Image(format="png")
view


# %%
def show(found, title):
    """Put target, fit and difference into the live view above; returns the figure."""
    both = found.mask & target.mask
    difference = torch.where(both, found.depth - target.depth, torch.nan).detach()
    figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.7), layout="constrained")
    axes[0].imshow(shaded(target), cmap="gray", vmin=0, vmax=1)
    axes[1].imshow(shaded(found), cmap="gray", vmin=0, vmax=1)
    axes[2].imshow(difference[0, 0], cmap="RdBu_r", vmin=-10, vmax=10)
    for axis, name in zip(axes, ("target", title, "difference, ±10 mm"), strict=True):
        axis.set(title=name, xticks=[], yticks=[])
    view.value = viz.figure_png(figure)
    return figure


# %%
def fit(gradient):
    free, history = torch.zeros(1, 290, requires_grad=True), []
    optimizer = torch.optim.Adam([free], lr=0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        found = render(model, free * is_free, side, gradient=gradient)
        loss = (found.depth - target.depth)[found.mask & target.mask].abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        if step % 10 == 0:
            plt.close(show(found, f"{gradient}, step {step}"))
    return (free * is_free).detach(), history, show(found, f"{gradient}, step {steps}")


# %%
fits = {}
for gradient in ("fixed", "full"):
    fits[gradient] = fit(gradient)
    fits[gradient][2].savefig(output / f"fit_{gradient}.png", dpi=70)
    plt.show()
figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
for gradient, (_, history, _) in fits.items():
    axis.semilogy(history, label=f"{gradient} weights")
axis.set(xlabel="step", ylabel="mean |difference|, mm")
axis.legend()
figure.savefig(output / "fit.png", dpi=70)
plt.show()

# %% tags=["check"]
for gradient, (found, history, _) in fits.items():
    off = (found - stranger)[0, 284:].tolist()
    print(f"{gradient}: {history[0]:.1f} to {history[-1]:.2f} mm; pose off by")
    for name, value in zip(camera.POSE_NAMES, off, strict=True):
        print(f"   {name:10} {value:+.2f}")
found, history, _ = fits["full"]
assert history[-1] < 0.05 * history[0], (
    f"{history[0]:.1f} to {history[-1]:.2f} mm, not 5 %"
)
off = (found - stranger)[0, 284:].abs().max()
assert off < 0.1, f"pose off by {off:.3f}, not below 0.1"
# With fixed weights four of the six pose numbers never leave zero.
without = fits["fixed"][0][0, 284:]
kept = (without[2:] == 0).all() and (without[:2] != 0).all()
assert kept, f"pitch and yaw alone may change: {without}"

# %% [markdown]
# With fixed weights the fit bends the *shape* until it explains a face that merely sits
# elsewhere in the image. With full weights pose and shape are found. Nothing tells the
# outlines to match: the overlap of the surfaces is enough here.

# %% [markdown]
# ## 8 The same on a GPU
#
# nvdiffrast is NVIDIA's rasterizer, for research and evaluation only (`docs/gpu.md`).
# It gives the weights with a gradient in x and y; cutting that gradient off gives Eq.
# (7). Its `antialias` blends across outlines, so that they feel a gradient, too. The
# cell does nothing without an NVIDIA GPU.

# %%
problem = choose.nvdiffrast_problem()
if torch.cuda.is_available() and problem is None:
    on_gpu, there = MorphableModel.default().cuda(), r.cuda()
    same = render(on_gpu, there, size, "nvdiffrast")
    both = maps.mask & same.mask.cpu()
    print("largest depth difference", (same.depth.cpu() - maps.depth)[both].abs().max())
    leaf = there.clone().requires_grad_()
    render(on_gpu, leaf, size, "nvdiffrast", "full", smooth=True).depth.sum().backward()
    print("gradient to scale, outline included:", leaf.grad[0, 289].item())
else:
    print("no NVIDIA GPU here" if problem is None else f"nvdiffrast: {problem}")

# %% [markdown]
# ## Exercises
#
# **1.** Write the barycentric weights of a point in a triangle of the plane. Outside of
# the triangle one of them is negative; they sum to one everywhere.


# %% tags=["exercise"]
def barycentric(p, a, b, c):
    """The weights (3,) of corners a, b, c, each (2,), for which their mean is p."""

    ### BEGIN SOLUTION
    def area(u, v, w):
        return (v[0] - u[0]) * (w[1] - u[1]) - (w[0] - u[0]) * (v[1] - u[1])

    return np.array([area(p, b, c), area(a, p, c), area(a, b, p)]) / area(a, b, c)
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(0)
for _ in range(20):
    p, *corners = rng.normal(size=(4, 2))
    answer = barycentric(p, *corners)
    expected = np.linalg.solve(np.vstack([np.transpose(corners), np.ones(3)]), [*p, 1])
    print("answer", np.round(answer, 3), "expected", expected.round(3))
    assert np.shape(answer) == (3,), f"shape {np.shape(answer)}, expected (3,)"
    assert np.allclose(answer, expected), f"{answer}, expected {expected}"

# %% [markdown]
# **2.** Write Eq. (7) for a whole image with tensors: the gradient of every vertex's
# depth, given `dE_dz` (H, W), and for each pixel its triangle (H, W), -1 in the
# background, and weights (H, W, 3). Hint: `index_add_`, as `+=` would count a vertex
# once.


# %% tags=["exercise"]
def to_vertices(dE_dz, triangle, weights, triangles, n_vertices):
    """dE/dz of each vertex, (n_vertices,)."""
    ### BEGIN SOLUTION
    seen = triangle >= 0
    vertex = triangles[triangle[seen].long()]  # (n, 3)
    share = weights[seen] * dE_dz[seen][:, None]
    return torch.zeros(n_vertices).index_add_(0, vertex.flatten(), share.flatten())
    ### END SOLUTION


# %% tags=["check"]
noise = torch.Generator().manual_seed(0)
mesh_xyz = torch.rand(1, 30, 3, generator=noise) * 12
faces = torch.randint(30, (25, 3), generator=noise)
what = rasterize.rasterize(mesh_xyz, faces, 10, 14)
arriving = torch.randn(10, 14, generator=noise)
leaf = mesh_xyz[..., 2:].clone().requires_grad_()
(rasterize.interpolate(leaf, what, faces)[0, 0] * arriving).sum().backward()
answer = to_vertices(arriving, what.triangle[0], what.barycentric[0], faces, 30)
print("largest difference", (answer - leaf.grad[0, :, 0]).abs().max().item())
off = (answer - leaf.grad[0, :, 0]).abs().max()
assert off < 1e-5 * leaf.grad.abs().max().clamp(min=1), (
    f"off by {off:.1e}, not below 1e-5"
)

# %% [markdown]
# **3.** Section 6: how does the value at a pixel change as the corners of its triangle
# move sideways? Given the weights (3,) and the slope of the surface (2,).


# %% tags=["exercise"]
def to_corners(weights, slope):
    """The derivative (3, 2) of the pixel's value by the corners' x and y."""
    ### BEGIN SOLUTION
    return -np.outer(weights, slope)
    ### END SOLUTION


# %% tags=["check"]
def solve(corners):
    """The weights at the pixel (1, 2), and the value there."""
    system = np.vstack([corners[:, :2].T, np.ones(3)])
    weights = np.linalg.solve(system, [1, 2, 1])
    return weights, weights @ corners[:, 2]


flat = np.array([[0.0, 0, 5], [4, 0, 1], [0, 4, 9]])  # z = 5 - x + y
answer = to_corners(solve(flat)[0], np.array([-1.0, 1.0]))
for corner, axis in np.ndindex(3, 2):
    nudge = 1e-6 * np.outer(np.eye(3)[corner], np.eye(3)[axis])
    expected = (solve(flat + nudge)[1] - solve(flat - nudge)[1]) / 2e-6
    print(f"{corner, axis}: {answer[corner, axis]:+.3f}, expected {expected:+.3f}")
    one = answer[corner, axis]
    assert np.isclose(one, expected, atol=1e-6), f"{one}, expected {expected}"

# %% [markdown]
# ## What we did not reproduce
#
# - **The authors' layer.** Its code is not public; ours follows section 4.1, and the
#   paper says nothing of ties, back faces or pixels exactly on an edge.
# - **Speed.** The paper gives none for the layer. Ours is in `docs/performance.md`.
# - **Training through the layer.** FineNet's criterion reaches CoarseNet through it
#   (4.4); chapter 7 shows the result, not the training.

# %% [markdown]
# ## Review questions
#
# 1. Why does a triangle seen from behind never cover a pixel in `z_buffer`?
# 2. Two triangles share an edge that runs through a pixel's center. Who gets the pixel?
# 3. A pixel's three weights sum to one. What does that say about the sum of the
#    gradients that Eq. (7) hands to the vertices?
# 4. Which of the six pose numbers can Eq. (7) improve, and why those?
# 5. A flat wall faces the camera. What is its full gradient to $t_x$? To pitch?
# 6. Why do the identity coefficients go astray in the fit with fixed weights?
# 7. Where would a criterion on the *normals* send gradients, even with fixed weights?

# %% tags=["record"]
record = repro.Recorder(output, preset, seed)
record("pixels_that_differ_from_the_loop", float(different))
record("vertices_with_gradient", round(float(reached.mean()), 4))
for name, share in missed.items():
    record(f"shift/missed/{name.replace(' ', '_')}", round(share, 4))
for gradient, (found, history, _) in fits.items():
    record(f"fit/{gradient}/depth_error_mm", round(history[-1], 4))
    off = (found - stranger)[0, 284:].double().numpy()
    record(f"fit/{gradient}/pose_error", off.round(3))
print(record.path.read_text()[:600])

# %% [markdown]
# ## Further reading
#
# - E. Richardson, M. Sela, R. Or-El, R. Kimmel. *Learning Detailed Face Reconstruction
#   from a Single Image.* CVPR 2017: the paper.
# - J. Pineda. *A parallel algorithm for polygon rasterization.* SIGGRAPH 1988: edge
#   functions.
# - M. Loper, M. Black. *OpenDR: an approximate differentiable renderer.* ECCV 2014.
# - S. Liu et al. *Soft Rasterizer.* ICCV 2019: blurs which triangle is seen.
# - S. Laine et al. *Modular primitives for high-performance differentiable rendering.*
#   SIGGRAPH Asia 2020: nvdiffrast.
