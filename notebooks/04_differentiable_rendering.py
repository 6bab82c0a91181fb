# %% [markdown]
# # A renderer with gradients
#
# Suppose that a face opens its mouth a little more than it should. In the depth map, a
# few hundred pixels around the mouth are wrong, and everywhere else all is well.
# Looking at these pixels you would say at once: close the jaw. A *differentiable
# renderer* lets a computer say the same. It turns the 290 numbers of a face into a
# depth map, and it can be run backwards: from an error at the pixels to the change of
# each number that would reduce it. In the paper this layer connects the two networks,
# so that they can be trained together.
#
# **What you will be able to do.** Write a z-buffer. Interpolate with barycentric
# weights. Follow a gradient from one pixel to the coefficients by hand. Say what the
# paper's fixed weights leave out, and what follows from it. Fit a face to a depth map.
#
# **Before you start.** You need [chapter 1](01_morphable_model_and_projection.ipynb),
# the chain rule for functions of several variables, and some practice with `backward()`
# in PyTorch. Reading takes 40 minutes, working through it with the exercises 90 to 120.
# The cells run in a minute on two CPU cores (`full`: a few). Nothing is downloaded.
#
# **In the paper.** Section 4.1; Eqs. (5), (6) and (7); Figure 5.

# %% tags=["parameters"]
preset = "quick"  # "full": section 7 fits with larger maps and for longer
seed = 0  # of the face and of the random numbers in the checks
output_dir = "runs/differentiable_rendering"  # where figures and result.json go

# %% tags=["imports"]
import time

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np

from facerecon import MorphableModel, camera, rasterize, repro
from facerecon.backends import choose
from facerecon.course import Exercise
from facerecon.render import render
from facerecon.views import concepts, viz
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
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
# ## First, the phenomenon
#
# Below is one person twice, with the jaw closed and a little open, and the difference
# of the two depth maps. *One* number has changed, the activation of `jawOpen`. It has
# moved the vertices around the mouth, and these have changed the depth of many pixels.
# Going from left to right is rendering. This chapter is about the way back: given the
# picture on the right, which of the 290 numbers should change, and by how much?

# %%
jaw = model.expression_index("jawOpen")
opened = r.clone()
opened[0, jaw] += 0.3 / model.expression_std[jaw - model.n_identity]
closed_maps, open_maps = render(model, r, size), render(model, opened, size)
change = torch.where(closed_maps.mask, open_maps.depth - closed_maps.depth, torch.nan)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
for axis, each in zip(axes, (closed_maps, open_maps), strict=False):
    axis.imshow(shaded(each), cmap="gray")
shown = axes[2].imshow(change[0, 0], cmap="RdBu_r", vmin=-8, vmax=8)
figure.colorbar(shown, ax=axes[2], label="mm")
for axis, title in zip(axes, ("r", "jaw 0.3 more", "change of depth"), strict=True):
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The drawing shows the stations. From left to right, the numbers become vertices by Eq.
# (5), and the vertices of a triangle are mixed to the depth of a pixel by Eq. (6). Any
# criterion $E$ then looks at the depth map. On the way back, in red, each station
# passes on its share of the gradient. There are two ways to make a picture of
# triangles: follow a ray from each pixel into the scene, or go through the triangles
# and ask which pixels each of them covers. The second is *rasterization*. It is what
# graphics cards do, and what we do here, since the faces have a fixed number of
# triangles and nothing is mirrored or transparent. Sections 1 to 3 go forward, sections
# 4 and 5 backward, and section 6 asks what was left out.

# %%
concepts.forward_and_backward()

# %% [markdown]
# **Notation.** A tilde marks what belongs to a pixel; plain letters belong to vertices.
#
# | symbol | what it is | unit |
# |---|---|---|
# | $r$, $S$, $R$, $t$, $f$ | as in chapter 1: numbers, vertices, camera | |
# | $p_i = (p_x, p_y, p_z)_i$ | a vertex over the picture: column, row, depth | pixels, pixels, mm |
# | $e_0, e_1, e_2$ | twice the areas that a pixel spans with the edges of a triangle | pixels² |
# | $\lambda_0, \lambda_1, \lambda_2$ | barycentric weights of the pixel, of sum 1 | |
# | $z_i$, $\tilde z$ | depth of a vertex, depth at a pixel | mm |
# | $E$ | a criterion, a number that should become small | |
# | $s$ | slope of the surface at a pixel | mm per pixel |
#
# Rows of an image go down, and the larger depth is nearer to the viewer.
# [docs/conventions.md](../docs/conventions.md) has a picture of the frames.

# %% [markdown]
# ## 1 A mesh above the image plane
#
# "First the 3D mesh is calculated from the geometry parameters and positioned above the
# image plane" (4.1),
# $$(p_x, p_y, p_z)^T = \mathrm{diag}(f, f, 1)\,R\,S + (t_x, t_y, 0)^T. \qquad (5)$$
# This is Eq. (2) of chapter 1 with one more row. The image plane needs only two
# coordinates, but we keep the depth, because it decides what hides what. It is not
# multiplied by $f$ and stays in mm.
#
# Chapter 1 built this step by hand. Its result here is a column, a row and a depth for
# each vertex. The left panel shows all triangles, the right one a piece of the cheek,
# with the centers of the pixels as dots. There, a triangle contains the centers of some
# pixels. Around the eyes and on the lips the triangles are much smaller, and some
# contain no center at all: no pixel will see them.

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
columns, rows = np.meshgrid(np.arange(-6, 7) + cheek[0], np.arange(-6, 7) + cheek[1])
close.plot(columns, rows, ".k", ms=4)
close.set(xlim=(cheek[0] - 6.5, cheek[0] + 6.5), ylim=(cheek[1] + 6.5, cheek[1] - 6.5))
close.set(title="on the cheek; pixel centers")
figure.savefig(output / "mesh.png", dpi=60)
plt.show()

# %% [markdown]
# ## 2 Which triangle does a pixel see?
#
# A triangle covers a pixel if the center of the pixel lies inside, which means on the
# same side of all three edges. On which side of an edge is a point? Take the edge from
# corner $j$ to corner $k$, with coordinates relative to the pixel. The cross product
# $$e_i = y_j x_k - x_j y_k$$
# is twice the area of the triangle that the edge spans with the pixel. Its sign changes
# when the pixel crosses the edge. This is the *edge function* that graphics hardware
# has used since [Pineda (1988)](https://dl.acm.org/doi/10.1145/54852.378457).
#
# An example with numbers. A pixel at the origin, corners at (2, 1), (-1, 1) and (0,
# -2), as (column, row). The edge opposite to corner 0 runs from corner 1 to corner 2,
# so $e_0 = y_1 x_2 - x_1 y_2 = 1 \cdot 0 - (-1)(-2) = -2$. In the same way $e_1 = y_2
# x_0 - x_2 y_0 = -4$ and $e_2 = y_0 x_1 - x_0 y_1 = -3$. All have the same sign, so the
# pixel is inside. All are negative, so we see this triangle from behind.
#
# For a triangle that faces us all three signs are positive inside: rows go down, so its
# corners, counter-clockwise as seen from outside, run clockwise on the grid. A triangle
# that we see from behind has a negative area. It lies on the far side of the head, and
# is never rasterized.


# %%
def edges(corners, column, row):
    """Twice the areas that a pixel spans with the edges opposite to corners 0, 1, 2."""
    (x0, x1, x2), (y0, y1, y2) = corners[:, 0] - column, corners[:, 1] - row
    return np.array([y1 * x2 - x1 * y2, y2 * x0 - x2 * y0, y0 * x1 - x0 * y1])


# %% [markdown]
# For a single triangle, each of the first three panels shows in blue where one edge
# function is positive: a half plane. The last panel shows where all of them are. That
# is the triangle, as far as pixels can show it.

# %%
corners = np.array([[1.2, 8.3, 0], [9.1, 6.2, 0], [3.4, 0.7, 0]])
e = [[edges(corners, column, row) for column in range(11)] for row in range(10)]
e = np.array(e)  # (row, column, 3)
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.7), layout="constrained")
for axis, inside in zip(axes, [e[..., 0], e[..., 1], e[..., 2], e.min(2)], strict=True):
    axis.imshow(inside >= 0, cmap="Blues", vmin=-0.5, vmax=2)
    axis.fill(*corners[:, :2].T, fill=False, ec="crimson", lw=2)
for axis, title in zip(axes, ["$e_0$", "$e_1$", "$e_2$", "all three"], strict=True):
    axis.set(title=f"{title} ≥ 0", xticks=[], yticks=[])
figure.savefig(output / "edges.png", dpi=60)
plt.show()

# %% [markdown]
# A pixel can lie in more than one triangle: the nose covers the cheek. "When a single
# pixel resides in more than one triangle, the one that is closest to the image plane is
# chosen" (4.1), in our frame the one of larger depth.
#
# The *z-buffer* algorithm finds it without sorting. It goes through the triangles in
# any order, and keeps for every pixel the largest depth so far and whose it was. A
# triangle that comes later and is nearer overwrites the entry. For each triangle we
# need only look at the pixels of its bounding box. The function below is meant to be
# read, not to be fast: Python needs seconds for what compiled code does in
# milliseconds.


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


# %% [markdown]
# Does it find the same triangles as the package? The check counts the pixels that
# differ. Only ties could: a pixel center exactly on an edge belongs to two triangles,
# and rounding then decides. Both use the same edge functions in double precision, so
# there should be next to none.

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

# %% [markdown]
# The left panel stops the algorithm halfway, so to speak: it has seen every other
# triangle only. Through the holes one sees the background and not the far side of the
# head, since triangles that face away were never rasterized. In the middle is the
# finished depth buffer, on the right the triangle that won each pixel, in random
# colors.

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
# The z-buffer already needed the depth of a triangle at a pixel. Divided by their sum,
# the three edge functions are the *barycentric weights*
# $$\lambda_i = \frac{e_i}{e_0 + e_1 + e_2}.$$
# They are positive inside, their sum is one, and the weighted mean of the corners is
# the pixel itself, $\sum_i \lambda_i p_i$. At corner 0 they are (1, 0, 0), at the
# middle of the triangle a third each. The same weighted mean gives every other quantity
# that lives on vertices. "The value of each pixel is determined by interpolating the
# z-values of the mesh face using barycentric coordinates"
# $$\tilde z = \lambda_0 z_0 + \lambda_1 z_1 + \lambda_2 z_2. \qquad (6)$$
# Replace $z$ by the normal, the color, or the PNCC, and the same line of code renders
# all the maps that CoarseNet sees.

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
agree = fragments.triangle[0].numpy()[tuple(seen.T)] == visible[tuple(seen.T)]
off = np.abs(weights[agree] - package[agree]).max()
assert off < 1e-6, f"weights differ by {off:.1e}, not below 1e-6"
depth = rasterize.interpolate(projected.double()[..., 2:], fragments, triangles)
error = np.abs(z_tilde - depth[0, 0].numpy()[tuple(seen.T)])
print(f"{len(seen):,} pixels; Eq. (6) differs by at most {error.max():.1e} mm")
assert error.max() < 1e-6, f"{error.max():.1e} mm, not below 1e-6"

# %% [markdown]
# Here are these maps, made from $r$ in one call. On the left, the weights themselves as
# red, green and blue: each triangle of the enlarged cheek has one red, one green and
# one blue corner.

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
figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.4), layout="constrained")
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
# Let a criterion $E$ look at the depth map, for example its mean distance from another
# depth map. Autograd hands us $dE/d\tilde z$ at each pixel: how much $E$ grows if this
# pixel comes nearer by a millimeter. How does that reach the vertices?
#
# Which triangle a pixel sees is a decision, and decisions have no derivative. But the
# mean of Eq. (6) has one: if corner $i$ rises by one millimeter, the pixel rises by
# $\lambda_i$. "During back-propagation the gradients are passed from each pixel to the
# matching vertex, weighted by the corresponding coordinate,
# $$\frac{dE}{dz_i} = \frac{dE}{d\tilde z}\frac{d\tilde z}{dz_i} =
# \frac{dE}{d\tilde z}\lambda_i, \qquad (7)$$
# [...] Note that we assume that the barycentric coordinates are fixed. [...] In
# addition, no gradients are propagated to hidden vertices."
#
# There is another way to see it. Once the triangles are chosen, Eq. (6) is a matrix: it
# maps the depths of all vertices to the depths of all pixels, and each row has three
# entries, the weights. The derivative of a linear map is the map itself, and the chain
# rule applies its *transpose*. Eq. (7) is that transpose. Forward, each pixel gathers
# from three vertices. Backward, each pixel scatters to the same three.
#
# A vertex collects from all pixels of all its triangles, so the code has to *add*.
# `np.add.at` does, where `by_hand[corner_ids] += ...` would keep only the last of
# several contributions to one vertex. The check compares with autograd for random
# gradients, in double precision, and makes sure that hidden vertices get exactly
# nothing.

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

# %% [markdown]
# Nearly half of the vertices are hidden and get no gradient. The view from above shows
# which. The camera is at the top of this picture; blue vertices are seen and learn
# something from the depth map, grey ones do not. This is the price of rendering: what
# is not in the picture cannot be corrected by it, except through the model, whose
# coefficients move visible and hidden vertices together.

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
# then propagated back to the morphable model representation." We take the simplest
# criterion, $E = \tilde z$ at one pixel on the cheek, go the whole way by hand, and
# then ask autograd for the same.
#
# - **The pixel** has a triangle $t$ and weights $\lambda$.
# - **The vertices** of this triangle get $dE/dz_i = \lambda_i$, all others nothing.
# - **The coefficients.** By Eq. (5), $z_i = (R S)_z$ at vertex $i$, and $S$ is linear
#   in $\alpha$. So $dz_i / d\alpha_k$ is the third row of $R$ times row $k$ of the
#   basis at that vertex: how far does one standard deviation of coefficient $k$ bring
#   this vertex toward the camera?
#
# The product of the three is one number for each of the 284 coefficients.

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
off = (by_autograd[:284] - dE_dalpha).abs().max()
print(f"pixel {column, row}, triangle {t}, weights {lambda_.numpy().round(2)}")
print(f"largest difference {off:.1e} mm of {dE_dalpha.abs().max():.2f} mm")
assert off < 1e-4, f"{off:.1e} mm, not below 1e-4"
assert dE_dalpha.abs().max() > 0.1, f"{dE_dalpha.abs().max():.2f} mm, not above 0.1"

# %% [markdown]
# The same three steps as pictures: where the pixel is; its triangle, with the share of
# the gradient that each corner gets; and how many mm the pixel would come nearer for
# one more standard deviation of each coefficient. The first identity coefficients stand
# out, since they move everything. Among the expressions, those that move jaw and cheek
# do. Note that no renderer was needed for the last step: it is a product of two
# matrices.

# %%
here = projected[0, triangles[t]]  # the three corners
flow, (on_face, close_up, numbers) = plt.subplots(
    1, 3, figsize=(9.5, 3.2), layout="constrained"
)
on_face.imshow(shaded(maps), cmap="gray")
on_face.set(title="a pixel ...", xticks=[], yticks=[])
close_up.triplot(x, y, triangles, color="0.8", lw=0.6)
close_up.scatter(here[:, 0], here[:, 1], s=900 * lambda_, color="C0", alpha=0.7)
for (px, py, _), share in zip(here.tolist(), lambda_.tolist(), strict=True):
    close_up.annotate(f"   {share:.2f}", (px, py), fontsize=11)
close_up.set(xlim=(column - 2.8, column + 2.8), ylim=(row + 2.8, row - 2.8))
close_up.set(aspect="equal", title="... gives its triangle's corners ...")
for axis in (on_face, close_up):
    axis.plot(column, row, "s", mec="crimson", mfc="none", ms=9, mew=2)
numbers.plot(dE_dalpha, lw=0.8)
numbers.axvline(model.n_identity, color="0.6", ls=":")
numbers.set(title="... and they the coefficients", ylabel="mm per σ")
numbers.set(xlabel="identity 0 to 199, then expression")
flow.savefig(output / "gradient_flow.png", dpi=70)
plt.show()

# %% [markdown]
# Which numbers would bring this pixel nearer? The four strongest expressions, and the
# six numbers of the pose:

# %%
order = dE_dalpha[model.n_identity :].abs().argsort(descending=True)[:4]
named = {model.expression_names[k]: dE_dalpha[model.n_identity + k] for k in order}
named |= dict(zip(camera.POSE_NAMES, by_autograd[284:], strict=True))
for name, gain in named.items():
    print(f"{name:24} {gain.item():+.2f} mm per unit")

# %% [markdown]
# ## 6 What fixed weights leave out
#
# The last lines show something odd: roll, translation and scale get no gradient at all.
# They move vertices sideways and leave depths alone, and Eq. (7) knows depths only. If
# the whole face sits five pixels too far to the left, the depth map is wrong almost
# everywhere, but the gradient says nothing about moving it. "Alternatively, one could
# derive the coordinates with respect to $x_i$ and $y_i$."
#
# That derivative is simpler than it looks. Think of a tilted board under a fixed pixel.
# Push the board to the right by one column: the pixel now sees a point of the board
# that was one column to its left. If the board rises to the right by $s_x$ mm per
# column, the depth at the pixel falls by $s_x$. Now move only corner $m$ by $\delta$.
# The board moves under the pixel by its weight, $\lambda_m\delta$. With the slope of
# the interpolated surface, $s = (\partial\tilde z/\partial x, \partial\tilde z/\partial
# y)$, hence
# $$\frac{\partial\tilde z}{\partial(x_m, y_m)} = -\lambda_m s.$$

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
with_xy = rasterize.rasterize(moving, triangles, size, size, gradient="full")
image = rasterize.interpolate(moving[..., 2:], with_xy, triangles)
image[0, 0, row, column].backward()
at_corners = moving.grad[0, triangles[t]].numpy()
print(f"slope {slope.round(2)} mm per pixel; the corners get\n{at_corners.round(3)}")
off_xy = np.abs(at_corners[:, :2] - np.asarray(dE_dxy)).max()
off_z = np.abs(at_corners[:, 2] - np.asarray(lambda_)).max()
assert off_xy < 1e-4, f"columns, rows: {off_xy:.1e}, not below 1e-4"
assert off_z < 1e-4, f"depth, Eq. (7): {off_z:.1e}, not below 1e-4"

# %% [markdown]
# Now for the whole image and a shift $t_x$ of the face. What is the truth? A finite
# difference: render twice, a fifth of a pixel apart, and divide. Against it we set the
# full gradient, by forward differentiation of the `torch` backend, and the fixed one,
# which is zero everywhere. The pixels fall into three groups: those that see the same
# triangle in all renderings, those that pass from one triangle to another, and those on
# the outline, where the face gives way to the background.


# %%
def shifted(t_x, gradient="full"):
    to_pose = torch.nn.functional.pad(t_x.view(1, 1), (3, 2))
    return render(model, camera.join(alpha, pose + to_pose), size, "torch", gradient)


def depth_at(t_x, gradient="full"):
    return shifted(t_x, gradient).depth[0, 0]


zero, unit = torch.zeros(()), torch.ones(())
nudge = 0.1 / (size / 16) * unit  # a tenth of a pixel, in units of the pose
truth = (depth_at(nudge) - depth_at(-nudge)).detach() / (2 * nudge)
full = torch.autograd.functional.jvp(depth_at, zero, unit)[1]
fixed = torch.autograd.functional.jvp(lambda t: depth_at(t, "fixed"), zero, unit)[1]

# %%
ids = torch.stack([shifted(t).fragments.triangle[0] for t in (-nudge, zero, nudge)])
face = (ids >= 0).any(0)
same = face & (ids == ids[1]).all(0)
outline = face & (ids < 0).any(0)
groups = {"same triangle": same, "another": face & ~same & ~outline, "outline": outline}
missed, error = {}, full - truth
for name, where in groups.items():
    missed[name] = (error[where].norm() / truth[where].norm()).item()
    energy, share = (error[where].norm() / error[face].norm()) ** 2, where.sum()
    print(f"{name}: {share / face.sum():.1%} of pixels, {energy:.2%} of the error;")
    print(f"    {missed[name]:.3%} of their change is missed")

# %% tags=["check"]
within, another, outside = missed.values()
assert within < 1e-3 < another < outside, f"not in this order of size: {missed}"
assert (fixed == 0).all(), f"fixed weights: {fixed.abs().max():.1e}, 0 expected"
share = same.sum() / face.sum()
assert share > 0.7, f"{share:.1%} keep their triangle, above 70 % expected"

# %%
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.9), layout="constrained")
limit = 3 * full[same].abs().median().item()
three = {"finite difference": truth, "full": full, "fixed": fixed}
for axis, (title, picture) in zip(axes, three.items(), strict=False):
    axis.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.axhline(nose[1], color="0.4", lw=0.6, ls=":")
    axis.set(title=title, xticks=[], yticks=[])
for (title, picture), style in zip(three.items(), ("k", "C0", "C3"), strict=True):
    axes[3].plot(picture[nose[1]], style, lw=2.5 if style == "k" else 1, label=title)
axes[3].set(ylim=(-8 * limit, 8 * limit), title="along the dotted row", xlabel="column")
axes[3].legend(fontsize=9)
figure.savefig(output / "fixed_and_full.png", dpi=80)
plt.show()

# %% [markdown]
# What the full gradient misses is a change of the *visible triangle*, and only that.
# Where all three renderings see the same triangle, it agrees with the finite difference
# to the last digits of float32. That is four fifths of the pixels. Where the face ends
# or begins within the step, the depth jumps by the whole distance to the background.
# Those few pixels are the spikes in the right panel, and hold nearly all of the squared
# error.
#
# Between these two groups are pixels that step over an edge of the mesh. On smooth skin
# the slope has a kink there; where the nose hides the cheek, the depth jumps. The
# gradient of one triangle cannot know of the next one. A renderer that blends pixels
# across an outline gives it a gradient: [Soft
# Rasterizer](https://arxiv.org/abs/1904.01786) (2019) blurs every triangle,
# [nvdiffrast](https://arxiv.org/abs/2011.03277) (2020) antialiases the outlines, as
# section 8 does with `smooth=True`.
#
# The paper's choice is enough for its training. CoarseNet learns its pose from
# synthetic data, where the true pose is known. What FineNet's criterion adds through
# this layer is about shape, and shape acts on depth.

# %% [markdown]
# ## 7 A fit by gradient descent
#
# A gradient that is right at one point need not lead anywhere useful, so here is the
# layer at work. The depth map of a stranger is given. We start from the mean face in
# the middle of the image, and descend with Adam on the mean absolute difference of the
# two depth maps, over the pixels that both faces cover. Twenty identity coefficients
# and the pose are free. We do this twice, with fixed and with full weights. Before you
# run it, write down what you expect of each.
#
# Two choices in the code deserve a remark. The criterion is the absolute difference and
# not the squared one, because a few pixels at the rim of the nose may be off by
# centimeters and would dominate a sum of squares. And all numbers are counted in
# standard deviations or in units of the pose, so one step size suits all of them. In
# millimeters and radians, the same step would turn the head wildly and leave the nose
# as it is. The view below is updated every ten steps while the cell after it runs: the
# target, the current fit, and their difference, red where the fit is too near.

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
    fits[gradient][2].savefig(output / f"fit_{gradient}.png", dpi=80)
    plt.show()
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for gradient, (_, history, _) in fits.items():
    axis.semilogy(history, label=f"{gradient} weights")
axis.set(xlabel="step", ylabel="mean |difference|, mm")
axis.legend()
figure.savefig(output / "fit.png", dpi=80)
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
# With fixed weights only pitch and yaw can improve, and the fit does what it can: it
# bends the *shape* until it explains a face that merely sits elsewhere in the image.
# The result is a wrong person in the wrong place, and still the error falls to a
# quarter. With full weights both pose and shape are found. Nothing asks the outlines to
# match, because the criterion looks only at pixels that both faces cover; here the
# overlap of the surfaces is enough.
#
# The printed numbers make the difference precise. With fixed weights, roll, translation
# and scale end where they began, at zero, which is as far from the truth as they were.
# With full weights no number of the pose is off by more than a tenth of its unit.
#
# Keep this experiment in mind when you read about "analysis by synthesis". Whether such
# a fit succeeds depends on what its gradient can see.

# %% [markdown]
# ## 8 The same on a GPU
#
# nvdiffrast is NVIDIA's rasterizer, for research and evaluation only
# ([docs/gpu.md](../docs/gpu.md) says how to install it). It gives the weights with a
# gradient in $x$ and $y$; cutting that gradient off gives Eq. (7). Its `antialias`
# blends across outlines, so that they feel a gradient, too. The cell does nothing
# without an NVIDIA GPU.

# %%
problem = choose.nvdiffrast_problem()
if torch.cuda.is_available() and problem is None:
    on_gpu, there = MorphableModel.default().cuda(), r.cuda()
    drawn = render(on_gpu, there, size, "nvdiffrast")
    both = maps.mask & drawn.mask.cpu()
    print(
        "largest depth difference", (drawn.depth.cpu() - maps.depth)[both].abs().max()
    )
    leaf = there.clone().requires_grad_()
    render(on_gpu, leaf, size, "nvdiffrast", "full", smooth=True).depth.sum().backward()
    print("gradient to scale, outline included:", leaf.grad[0, 289].item())
else:
    print("no NVIDIA GPU here" if problem is None else f"nvdiffrast: {problem}")

# %% [markdown]
# ## Exercises
#
# Each exercise is followed by its check. A wrong answer gets a sentence on what is
# wrong with it and a hint; `exercise.hint()` in a new cell prints the next hint.
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
exercise = Exercise(
    "4.1",
    "the weight of a corner is the area opposite to it, as a share of the whole.",
    "at corner a the first weight is one: which triangle has the full area there?",
)
rng = np.random.default_rng(0)
for _ in range(20):
    p, *three_corners = rng.normal(size=(4, 2))
    # The weights solve: their mean of the corners is p, and their sum is one.
    system = np.vstack([np.transpose(three_corners), np.ones(3)])
    expected = np.linalg.solve(system, [*p, 1])
    exercise.equal(
        "the weights", lambda: barycentric(p, *three_corners), expected, {
            "their sum is not one: divide by the whole area.": expected
            * np.linalg.det(system),
            "a weight is never negative here: areas need their sign.": np.abs(expected),
        },
    )  # fmt: skip
exercise.passed("three signed areas interpolate anything that lives on vertices.")

# %% [markdown]
# **2.** Write Eq. (7) for a whole image with tensors: the gradient of every vertex's
# depth, given `dE_dz` (H, W), and for each pixel its triangle (H, W), -1 in the
# background, and weights (H, W, 3). Many pixels give to the same vertex.


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
exercise = Exercise(
    "4.2",
    "take the pixels that see a triangle; each gives to three vertices.",
    "`+=` with an index counts a vertex once; look for a method that adds.",
)
noise = torch.Generator().manual_seed(0)
mesh_xyz = torch.rand(1, 30, 3, generator=noise) * 12
soup = torch.randint(30, (25, 3), generator=noise)
what = rasterize.rasterize(mesh_xyz, soup, 10, 14)
per_pixel = torch.randn(10, 14, generator=noise)
given = per_pixel, what.triangle[0], what.barycentric[0], soup, 30
z_only = mesh_xyz[..., 2:].clone().requires_grad_()
(rasterize.interpolate(z_only, what, soup)[0, 0] * per_pixel).sum().backward()

total = per_pixel[what.triangle[0] >= 0].sum()
exercise.true(
    lambda: torch.isclose(to_vertices(*given).sum(), total, rtol=1e-3),
    "The sum over the vertices differs from the sum over the pixels that see something:"
    " a share is lost, or counted twice.",
)
expected = z_only.grad[0, :, 0]
seen_there = what.triangle[0, ..., None] >= 0
thirds = torch.where(seen_there, per_pixel[..., None] / 3, 0).expand(-1, -1, 3)
corners_of = soup[what.triangle[0].clamp(min=0).long()]
equal = torch.zeros(30).index_add_(0, corners_of.flatten(), thirds.flatten())
mistakes = {"a pixel gives to each corner by its weight, not a third.": equal}
answer = lambda: to_vertices(*given)  # noqa: E731
exercise.equal("the gradient", answer, expected, mistakes, atol=1e-5)
exercise.passed("the backward pass of interpolation is a weighted sum over pixels.")

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
exercise = Exercise(
    "4.3",
    "push the board of section 6 to the right: does the pixel see more or less depth?",
    "one row for each corner; a corner that weighs nothing changes nothing.",
)


def solve(corners):
    """The weights at the pixel (1, 2), and the value there."""
    system = np.vstack([corners[:, :2].T, np.ones(3)])
    solution = np.linalg.solve(system, [1, 2, 1])
    return solution, solution @ corners[:, 2]


flat = np.array([[0.0, 0, 5], [4, 0, 1], [0, 4, 13]])  # z = 5 - x + 2 y
expected = np.zeros((3, 2))
for corner, axis in np.ndindex(3, 2):  # by finite differences
    push = 1e-6 * np.outer(np.eye(3)[corner], np.eye(3)[axis])
    expected[corner, axis] = (solve(flat + push)[1] - solve(flat - push)[1]) / 2e-6

everyone = np.tile(expected.sum(axis=0), (3, 1))
exercise.equal(
    "the derivative",
    lambda: to_corners(solve(flat)[0], np.array([-1.0, 2.0])),
    expected,
    {"each corner moves the surface by its own share only.": everyone},
)
exercise.passed("moving a corner is moving the pixel the other way, by its weight.")

# %% [markdown]
# ## What we did not reproduce
#
# - **The authors' layer.** Its code is not public; ours follows section 4.1, and the
#   paper says nothing of ties, back faces or pixels exactly on an edge.
# - **Speed.** The paper gives none for the layer. Ours is in
#   [docs/performance.md](../docs/performance.md).
# - **Training through the layer.** FineNet's criterion reaches CoarseNet through it
#   (4.4); [chapter 7](07_end_to_end.ipynb) shows the result, not the training.

# %% [markdown]
# ## Summary
#
# 1. A z-buffer keeps the nearest triangle of each pixel; edge functions say what is
#    inside.
# 2. Barycentric weights interpolate depth, normals, colors and PNCC alike, by Eq. (6).
# 3. Backwards, a pixel gives each corner of its triangle its weight's share, by Eq.
#    (7).
# 4. Fixed weights carry no gradient to translation, roll and scale; full weights do.
# 5. Neither knows that another triangle may come into sight; antialiasing helps there.

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
measured_on = "the morphable model that ships"
record = repro.Recorder(output, preset, seed, data=measured_on)
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
# - E. Richardson, M. Sela, R. Or-El, R. Kimmel. [*Learning Detailed Face Reconstruction
#   from a Single Image.*](https://arxiv.org/abs/1611.05053) CVPR 2017: the paper.
# - J. Pineda. [*A parallel algorithm for polygon
#   rasterization.*](https://dl.acm.org/doi/10.1145/54852.378457) SIGGRAPH 1988.
# - M. Loper, M. Black. *OpenDR: an approximate differentiable renderer.* ECCV 2014.
# - S. Liu et al. [*Soft Rasterizer.*](https://arxiv.org/abs/1904.01786) ICCV 2019:
#   blurs which triangle is seen.
# - S. Laine et al. [*Modular primitives for high-performance differentiable
#   rendering.*](https://arxiv.org/abs/2011.03277) SIGGRAPH Asia 2020: nvdiffrast.
