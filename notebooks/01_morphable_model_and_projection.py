# %% [markdown]
# # A face in 290 numbers
#
# Look at a stranger for a moment, and you can say what is particular about that face: a
# long chin, eyes set wide apart, a smile. You compare it with the many faces that you
# have seen before. A *3D morphable model* (3DMM) does the same with numbers. It stores
# the average face and a list of directions in which faces differ; 284 numbers say how
# far to go in each of them, and six more say how the camera sees the result. Whoever
# finds these 290 numbers in a photograph has reconstructed the face in it.
#
# **What you will be able to do.** Build faces from coefficients and say what one
# standard deviation of a coefficient does. Project a vertex to a pixel by hand. Say
# which properties of a face no single photograph can show. Fit a model to a scan.
#
# **Before you start.** You need matrices, principal component analysis (PCA), the
# normal distribution, and the setup of [chapter 0](00_check_setup.ipynb). Reading takes
# 40 minutes, working through it with the exercises 90 to 120. The cells run in half a
# minute on two CPU cores (`full`: a little longer). Nothing is downloaded.
#
# **In the paper.** Sections 3.1 and 3.2.1; Eqs. (1), (2) and (10), and Eqs. (8) and (9)
# read as image formation; Figure 2.

# %% tags=["parameters"]
preset = "quick"  # "full": section 2 samples ten times as many faces
seed = 0  # of the sampled faces
output_dir = "runs/morphable_model"  # where figures and result.json go

# %% tags=["imports"]

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

from facerecon import MorphableModel, camera, lighting, mesh, rasterize, render, repro
from facerecon.course import Exercise
from facerecon.views import concepts, explorer, viz
import torch  # after facerecon, which tells its threads how to wait

# %%
model = MorphableModel.default()
n_id, n_exp = model.n_identity, model.n_expression
generator = torch.Generator().manual_seed(seed)
output = repro.start(output_dir)
print(f"{model.n_vertices:,} vertices, {len(model.triangles):,} triangles,")
print(f"{n_id} identity, {n_exp} expression and {model.n_albedo} albedo coefficients")

# %% [markdown]
# ## First, the phenomenon
#
# None of the eight people below exists. Each is a list of 290 random numbers, and ten
# more for the color of the skin. The two functions are all that we need to look at
# faces in this chapter: `portraits` takes color pictures under a fixed light,
# `surfaces` shows the bare shape in grey. How they work is the subject of sections 4 to
# 6.

# %%
DAYLIGHT = torch.tensor([[0.55, -0.3, 0.3, 0.6]])


def portraits(r, alpha_T, size=160):
    """Color pictures of a batch of faces, white where there is none."""
    maps = render.render(model, r, size)
    rgb = rasterize.interpolate(model.albedo(alpha_T), maps.fragments, model.triangles)
    shading = lighting.shade(torch.ones_like(maps.depth), DAYLIGHT, maps.normals)
    picture = torch.where(maps.mask, rgb * shading, 1.0).clamp(0, 1)
    return list(picture.permute(0, 2, 3, 1).numpy())


def surfaces(r, size=160):
    """Grey pictures of a batch of faces, white where there is none."""
    maps = render.render(model, r, size)
    normals = torch.where(maps.mask, maps.normals, torch.nan)
    return [viz.shaded(n.numpy()) for n in normals.permute(0, 2, 3, 1)]


# %%
dice = torch.Generator().manual_seed(seed + 1)
strangers = camera.join(model.sample(8, dice), 0.6 * torch.randn(8, 6, generator=dice))
strangers[:, -1] -= 1.5  # smaller, so that all of them fit
tones = torch.randn(8, model.n_albedo, generator=dice)
viz.gallery(portraits(strangers, tones), columns=4, inches=2)

# %% [markdown]
# They look different from each other, and all of them look like people. That is the
# point of a face model: most triangle meshes look like nothing, and the model can only
# make meshes that look like faces. When a network later answers with 290 numbers, it
# cannot answer with anything else than a face.
#
# The drawing shows the whole chapter in one line. The average face, plus a change that
# makes it one particular person, plus a change that makes this person smile, is a face
# in space. A camera then turns the face into a picture. Sections 1 to 3 are about the
# sums on the left, section 4 is about the arrow on the right.

# %%
smiling = model.expression_index("mouthSmileLeft"), model.expression_index("jawOpen")
states = torch.zeros(5, n_id + n_exp + 6)
states[[1, 3, 4], :n_id] = strangers[0, :n_id]
for unit in smiling:
    states[2:, unit] = 0.6 / model.expression_std[unit - n_id]
states[4, -5] = 1.0  # yaw
concepts.face_equation(portraits(states, torch.zeros(5, model.n_albedo)))

# %% [markdown]
# **Notation.** All symbols of this chapter, in the order in which they appear:
#
# | symbol | what it is | size, unit |
# |---|---|---|
# | $S$ | the vertices of a face | one row $x, y, z$ per vertex, mm |
# | $\mu_S$ | the average face | as $S$ |
# | $A_{id}$, $A_{exp}$ | what one standard deviation of a coefficient adds | 200 and 84 rows, mm |
# | $\alpha_{id}$, $\alpha_{exp}$ | coefficients of identity and expression | standard deviations |
# | $R$, $t$, $f$ | rotation, translation, scale of the camera | $f$ in pixels per mm |
# | $p$ | a vertex in the picture | pixels |
# | $r$ | $\alpha_{id}$, $\alpha_{exp}$ and the pose, in this order | 290 numbers |
# | $T$, $\mu_T$, $A_T$, $\alpha_T$ | albedo, its mean, basis and coefficients | RGB; 10 numbers |
# | $n$, $\vec l$, $\rho$ | normal, light, albedo at a point | unit vector; 4 numbers; 0 to 1 |
#
# The code uses the same names. Frames, units and signs of the whole project have one
# home, [docs/conventions.md](../docs/conventions.md).

# %% [markdown]
# ## 1 A linear space of faces
#
# "To model the facial geometries we use a 3D morphable model [3], where an additional
# blendshape basis is used to model expressions [...]. This results in the following
# linear representation
# $$S = \mu_S + A_{id}\alpha_{id} + A_{exp}\alpha_{exp}. \qquad (1)$$
# Where $\mu_S$ is the average 3D face, $A_{id}$ is the principal component basis,
# $A_{exp}$ is the blendshape basis" (3.1).
#
# Read $S$ as a long list of numbers: the coordinates of all corners of a triangle mesh.
# Adding two such lists only makes sense if entry 7,000 means the same in both. So every
# face has the same triangles, and a vertex stands for the same place, the tip of the
# nose for example, on all of them. This is called *dense correspondence*. Producing it
# is most of the work behind a morphable model: [Blanz and
# Vetter](https://dl.acm.org/doi/10.1145/311535.311556), who introduced such models in
# 1999, computed it between laser scans with a variant of optical flow.
#
# In code, Eq. (1) is two sums over coefficients. The check below it compares with the
# package's own method, and makes sure that the order of the coefficients matters,
# because a check that passes for any order would prove little.

# %%
A = model.basis.unflatten(1, (-1, 3))  # (coefficient, vertex, xyz), mm
A_id, A_exp = A[:n_id], A[n_id:]
coefficients = torch.randn(3, n_id + n_exp, generator=generator)  # three faces
S = (
    model.mean
    + torch.einsum("bi,ivk->bvk", coefficients[:, :n_id], A_id)
    + torch.einsum("be,evk->bvk", coefficients[:, n_id:], A_exp)
)  # Eq. (1)

# %% tags=["check"]
error = (S - model.vertices(coefficients)).abs().max()
print(f"shape {tuple(S.shape)}, largest difference {error:.1e} mm")
# float32, sums of hundreds of terms up to some ten mm
assert error < 1e-3, f"{error:.1e} mm, not below 1e-3"
other = (S - model.vertices(coefficients.flip(1))).abs().max()
assert other > 1, (
    f"the order of coefficients matters by {other:.1e} mm, above 1 expected"
)
off = (model.vertices(torch.zeros(1, n_id + n_exp))[0] - model.mean).abs().max()
assert off == 0, f"alpha = 0 is {off:.1e} mm from the mean face, 0 expected"

# %% [markdown]
# If all coefficients are zero, the sum is the average face. Here it is from three
# sides. The model's frame has its origin near the middle of the head: $x$ points to the
# viewer's right, $y$ up and $z$ toward the viewer, all in mm.
#
# The printed lines say where the numbers come from. The paper's bases "are collected
# from the Bosphorus dataset", scans that one has to apply for. Ours have two sources
# that anyone may use. Half of the variation between identities comes from the sculpted
# heads of the MakeHuman project, the other half from the identities of
# [ICT-FaceKit](https://github.com/ICT-VGL/ICT-FaceKit), a published face model. The
# albedo was learned from portraits.


# %%
def posed(alpha, *angles):
    """r of faces turned by pitch, yaw, roll in degrees."""
    pose = torch.zeros(len(alpha), 6)
    pose[:, :3] = torch.deg2rad(torch.tensor(angles)) / camera.POSE_UNITS[:3]
    pose[:, 5] = -1.2  # a little smaller, so that a turned head fits
    return camera.join(alpha, pose)


# %%
for key in ("source", "licence", "builder", "n_samples", "n_expression_samples"):
    print(f"{key:22}{model.provenance.get(key)}")
at_mean = torch.zeros(1, n_id + n_exp)
sides = {"0°": 0.0, "yaw 40°": 40.0, "yaw 80°": 80.0}
pictures = [surfaces(posed(at_mean, 0.0, yaw, 0.0), 240)[0] for yaw in sides.values()]
viz.gallery(pictures, list(sides), columns=3, inches=2.6)

# %% [markdown]
# ## 2 What a standard deviation is
#
# How far should one go in each direction? PCA answers this. It finds the directions in
# which the training faces differ most, and how much they differ along each. Every row
# of our $A_{id}$ is scaled by that amount: it is the displacement, in mm, that *one
# standard deviation* of its coefficient makes among the people from whom the model was
# made.
#
# So a random person is $\alpha_{id} \sim N(0, I)$. A coefficient between $-1$ and $1$
# is usual, one above 3 is found on about one person in 700. Since the coefficients are
# independent, their effects on a vertex $v$ add up like variances, and the vertex
# varies by
# $$\sigma_v = \Big(\sum_i \|A_{i,v}\|^2\Big)^{1/2}.$$
# We sample people and measure the spread of the 68 landmarks, to see whether that
# holds. The check allows for the uncertainty of a standard deviation that was measured
# from finitely many samples, and for nothing more.

# %%
n_people = {"quick": 2000, "full": 20_000}[preset]
crowd = torch.randn(n_people, n_id, generator=generator)
at_landmarks = A_id[:, model.landmarks]
sampled = torch.einsum("bi,ivk->bvk", crowd, at_landmarks)
measured = sampled.var(dim=0).sum(dim=1).sqrt()  # over people; x, y, z together
vertex_std = A_id.square().sum(dim=(0, 2)).sqrt()  # of every vertex

# %% tags=["check"]
ratio = measured / vertex_std[model.landmarks]
print(f"landmarks vary by {vertex_std[model.landmarks].min():.1f} to", end=" ")
print(f"{vertex_std[model.landmarks].max():.1f} mm; sampled / computed:", end=" ")
print(f"{ratio.min():.3f} to {ratio.max():.3f}")
# The std of n samples is uncertain by 1 / sqrt(2 n); 68 landmarks, so five times that.
off, bound = (ratio - 1).abs().max(), 5 / np.sqrt(2 * n_people)
assert off < bound, f"off by {off:.3f}, not below {bound:.3f}"

# %% [markdown]
# The next figure shows what the first seven components look like: two standard
# deviations down in the first row, two up in the second. The third row shows where each
# of them moves the surface. Bright places move most, and the title gives the largest
# displacement for one standard deviation. Compare the rows. Some components change the
# outline of the face, and you see them at once. Others mostly change the depth, and in
# a picture from the front you hardly see them. This will matter when a network has to
# guess them.

# %%
shown = 7
sign = torch.cat([-torch.eye(n_id + n_exp)[:shown], torch.eye(n_id + n_exp)[:shown]])
pictures = surfaces(camera.join(2 * sign, torch.zeros(2 * shown, 6)))
length = A[:shown].norm(dim=2)  # mm
maps = render.render(model, torch.zeros(shown, n_id + n_exp + 6), 160)
values = rasterize.interpolate(length[..., None], maps.fragments, model.triangles)[:, 0]
most = length.amax(dim=1)
for value, mask, top in zip(values, maps.mask[:, 0], most, strict=True):
    heat = plt.get_cmap("magma")(value / top)[..., :3]
    pictures.append(np.where(mask[..., None], heat, 1.0))
titles = [f"{i + 1}: ≤ {top:.1f} mm" for i, top in enumerate(most)]
figure = viz.gallery(pictures, titles, columns=shown, inches=1.4)
figure.savefig(output / "identity.png", dpi=70)
figure

# %% [markdown]
# How many components are worth having? The curve shows the share of the total variance
# that the first $n$ components keep. Each vertex counts by how much it matters for a
# face: eyes, nose and mouth count more than ears and neck (`model.geometry_metric`,
# with which [chapter 3](03_coarsenet.ipynb) trains). The curve rises steeply and then
# flattens. The last hundred components are fine tuning.

# %%
variance = model.geometry_metric().diagonal()[:n_id]  # mm^2
share = (variance.cumsum(0) / variance.sum()).numpy()
figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
axis.plot(np.arange(1, n_id + 1), 100 * share)
axis.set(xlabel="identity components", ylabel="% of variance", ylim=(0, 101))
axis.grid(alpha=0.3)
plt.show()
needed = {percent: int((share < percent / 100).sum()) + 1 for percent in (50, 90, 99)}
print("; ".join(f"{n} components hold {percent} %" for percent, n in needed.items()))

# %% [markdown]
# ## 3 Expressions have names
#
# PCA directions mix everything: the first may be "larger, rounder, older". For
# expressions, artists prefer directions with names. $A_{exp}$ is such a *blendshape*
# basis. Each of its 84 rows is one movement, and an *activation* of 1 means all of it.
# The names follow the facial action units of the animation industry; *left* means the
# person's left, which is the viewer's right. Zero is the face at rest.
#
# To count in standard deviations as well, the activation is divided by its spread over
# plausible faces, `model.expression_std`. The lower row shows activation $-1$. Nobody
# can make these faces, because a jaw does not open into the head. The linear space
# extends in both directions, real faces do not. Random expressions are therefore
# sampled as activations between 0 and 1, a few at a time (`model.sample`), and not from
# $N(0, I)$.

# %%
units = ["jawOpen", "mouthSmileLeft", "mouthPucker", "cheekPuff", "mouthLeft"]
units += ["browInnerUp", "eyeBlinkLeft"]
moves = torch.zeros(len(units), n_id + n_exp)
for face, name in zip(moves, units, strict=True):
    i = model.expression_index(name)
    face[i] = 1 / model.expression_std[i - n_id]  # activation 1
r = camera.join(torch.cat([moves, -moves]), torch.zeros(2 * len(units), 6))
figure = viz.gallery(surfaces(r), units, columns=len(units), inches=1.4)
figure.savefig(output / "expressions.png", dpi=90)
figure

# %% tags=["check"]
smile = model.vertices(moves[[units.index("mouthSmileLeft")]])[0] - model.mean
right, left = smile.norm(dim=1)[model.landmarks[[48, 54]]].tolist()  # mouth's corners
print(f"mouthSmileLeft: left corner {left:.1f} mm, right corner {right:.1f} mm")
assert left > 5 * right, f"left {left:.1f} mm, not above 5 times {right:.1f}"
side = model.mean[model.landmarks[54], 0]
assert side > 0, f"the left corner is at x = {side:.1f} mm, above 0 expected"
activations = model.sample(1000, generator)[:, n_id:] * model.expression_std
active = (activations > 0).sum(dim=1).float().mean()
rest, full = activations.min(), activations.max()
print(f"activations: {rest:.2f} to {full:.2f}, {active:.1f} per face")
assert 0 <= rest <= full <= 1, f"{rest:.2f} to {full:.2f}, not within 0 to 1"
resting = (activations == 0).all(dim=1).sum()
assert resting > 0, (
    f"{resting} of {len(activations)} faces are at rest, above 0 expected"
)

# %% [markdown]
# Eq. (1) *adds* identity and expression. Anybody can make anybody's expression, and it
# moves the vertices of all people by the same millimeters. That is a simplification: a
# broad face smiles with larger displacements than a narrow one. Bilinear models such as
# [FaceWarehouse](https://doi.org/10.1109/TVCG.2013.249) (Cao et al., 2014) multiply
# instead of adding. Below are eight random people at rest, and the same people with a
# random expression.

# %%
# Eight random people at rest, and below each with a random expression. Eq. (1) adds
# the two: anybody can make anybody's expression.
people = model.sample(8, generator)
at_rest = people.clone()
at_rest[:, n_id:] = 0
r = camera.join(torch.cat([at_rest, people]), torch.zeros(16, 6))
figure = viz.gallery(surfaces(r), columns=8, inches=1.25)
figure.savefig(output / "people.png", dpi=90)
figure

# %% [markdown]
# ## 4 Six numbers for the camera
#
# We have a face in space, and need its picture. "For projecting the 3D model to the
# image plane, we assume a parallel weak perspective projection" (3.1):
# $$\begin{bmatrix} p_x \\ p_y \end{bmatrix} = \begin{bmatrix} f & 0 & 0 \\ 0 & f & 0
# \end{bmatrix} [R\,|\,t] \begin{bmatrix} P_x \\ P_y \\ P_z \\ 1 \end{bmatrix}. \qquad
# (2)$$
# In words: turn the head, drop the depth, multiply by a scale, move. Rays are parallel,
# as if the camera stood infinitely far away and had an infinitely long lens. For a
# portrait from two meters that is nearly right; the end of this section shows when it
# is not. "Hence, the face alignment is modeled using only 6 parameters: 3 Euler angles,
# a 2D translation vector and a scale."
#
# The depth part of $t$ drops out. The paper leaves the order of the rotations open.
# Here it is yaw first, then pitch, then roll, about the camera's axes: $R = R_z R_x
# R_y$. The last line of the code goes on to the pixel grid, and two errors are common
# in it. Rows of an image count downward while $y$ points up. And the *center* of the
# first pixel, not its corner, is (0, 0), so the middle of a picture with 200 columns is
# at 99.5.

# %%
any_pose = torch.randn(1, 6, generator=generator, dtype=torch.float64)
pitch, yaw, roll, t_x, t_y, log_f = (any_pose[0] * camera.POSE_UNITS).tolist()
c, s = np.cos, np.sin
R_x = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
R_y = np.array([[c(yaw), 0, s(yaw)], [0, 1, 0], [-s(yaw), 0, c(yaw)]])
R_z = np.array([[c(roll), -s(roll), 0], [s(roll), c(roll), 0], [0, 0, 1]])
R = R_z @ R_x @ R_y
size = 200  # pixels
f = size / camera.CROP_MM * np.exp(log_f)  # pixels per mm
P = model.vertices(people[:1])[0].double().numpy()
p = f * (P @ R.T)[:, :2] + size * np.array([t_x, t_y])  # Eq. (2)
column, row = (size - 1) / 2 + p[:, 0], (size - 1) / 2 - p[:, 1]

# %% tags=["check"]
# Most errors in such code are a lost flip or half a pixel: rows go down while y goes
# up, and the center of the first pixel, not its corner, is (0, 0).
package = camera.project(torch.from_numpy(P)[None], any_pose, size)
error = np.abs(np.stack([column, row], 1) - package[0, :, :2].numpy()).max()
print(f"largest difference {error:.1e} pixels")
assert error < 1e-9, f"{error:.1e} pixels, not below 1e-9"
off = max(np.abs(R @ R.T - np.eye(3)).max(), abs(np.linalg.det(R) - 1))
assert off < 1e-9, f"R is off a rotation by {off:.1e}, not below 1e-9"
other = np.abs(R - R_y @ R_x @ R_z).max()
assert other > 1e-3, f"another order changes R by {other:.1e}, above 1e-3 expected"
lost = np.abs(camera.unproject(package, any_pose, size)[0].numpy() - P).max()
assert lost < 1e-9, f"the way back loses {lost:.1e} mm, not below 1e-9"

# %% [markdown]
# The three angles, one at a time. Pitch nods, yaw shakes the head, roll tilts it toward
# a shoulder. Beyond about 45 degrees of yaw, half of the face is hidden. No method can
# measure what is hidden, but the model still predicts it, because it has seen both
# halves of many faces.

# %%
angles = {"pitch": (30.0, 0.0, 0.0), "yaw": (0.0, 50.0, 0.0), "roll": (0.0, 0.0, 30.0)}
face = at_rest[:1]
r = [posed(face, *(s * np.array(a))) for s in (-1, 1) for a in angles.values()]
titles = [f"{k}, {s * max(a):+.0f}°" for s in (-1, 1) for k, a in angles.items()]
figure = viz.gallery(surfaces(torch.cat(r)), titles, columns=6)
figure.savefig(output / "pose.png", dpi=90)
figure

# %% [markdown]
# **Zero is a centered face.** "The pose parameters are normalized so that a zero vector
# would correspond to a centralized front facing face. Overall, we have a representation
# of 290 parameters for both geometry and pose. We will denote this representation as
# $r$." There is a practical reason for it. A network that starts out with small weights
# answers with numbers near zero, and then its first answer is already a reasonable face
# in the middle of the picture.
#
# The units are chosen so that one unit of each of the six numbers is about equally
# surprising: 0.5 radians of yaw, for example, but only 0.25 of roll, because people
# tilt their heads less. Then an error of 0.1 in one number costs as much as in another.
# At zero, 214 mm (`camera.CROP_MM`) fill the crop: from the hairline to a little below
# the chin of the mean face.

# %% tags=["check"]
pose_units = zip(camera.POSE_NAMES, camera.POSE_UNITS.tolist(), strict=True)
print("one unit:", ", ".join(f"{name} {unit:.4g}" for name, unit in pose_units))
r = torch.zeros(1, n_id + n_exp + 6)
mask = render.render(model, r, size).mask[0, 0]
high, wide = mask.any(dim=1).sum().item(), mask.any(dim=0).sum().item()
print(f"r: {r.shape[1]} numbers; at zero the face is {wide} x {high} pixels of {size}")
assert r.shape[1] == 290, f"{r.shape[1]} numbers, 290 expected"
assert 0.95 * size <= high <= size, f"{high} rows of {size}, 95 % expected"
assert 0.75 * size < wide < size, f"{wide} columns of {size}, above 75 % expected"
aside = (mask != mask.flip(1)).float().mean()  # only where edges cut pixels
assert aside < 0.005, f"{aside:.2%} of the pixels have no mirror image, below 0.5 %"

# %% tags=["check"]
alpha, pose = camera.split(posed(people, 5.0, 10.0, 15.0))
assert torch.equal(alpha, people), (
    f"{(alpha != people).sum()} coefficients changed, not 0"
)
degrees = torch.rad2deg(pose[0, :3] * camera.POSE_UNITS[:3].float())
wanted = torch.tensor([5.0, 10.0, 15.0])
assert torch.allclose(degrees, wanted), f"{degrees}, expected {wanted}"

# %% [markdown]
# **Landmarks** are vertices with a number. The 68 points below are the usual ones of
# the [iBUG annotations](https://ibug.doc.ic.ac.uk/resources/facial-point-annotations/):
# 0 to 16 along the jaw, 17 to 26 on the brows, 27 to 35 on the nose, 36 to 47 around
# the eyes, 48 to 67 around the mouth. A face is compared with points that someone
# clicked, or that a detector found, by projecting these vertices. On the turned face
# some of them lie on the far side. Projection puts them in the picture anyway, since
# Eq. (2) knows nothing of visibility. [Chapter 4](04_differentiable_rendering.ipynb)
# adds it.

# %%
views = {"at zero": (0.0, 0.0, 0.0), "turned": (10.0, 45.0, -10.0)}
figure, axes = plt.subplots(1, 2, figsize=(8, 4.1), layout="constrained")
for axis, (title, angles) in zip(axes, views.items(), strict=True):
    r = posed(people[1:2], *angles)
    points = render.render(model, r, 400).projected[0, model.landmarks, :2]
    axis.imshow(surfaces(r, 400)[0], cmap="gray", vmin=0, vmax=1)
    axis.plot(*points.T, ".", color="#00a060", markersize=4)
    for number in (0, 8, 16, 19, 24, 27, 30, 36, 48, 54):
        offset = dict(xytext=(3, 2), textcoords="offset points", fontsize=9)
        axis.annotate(str(number), points[number], color="#c03000", **offset)
    axis.set(title=title, xlim=(0, 399), ylim=(399, 0))
    axis.set_axis_off()
figure.savefig(output / "landmarks.png", dpi=80)
plt.show()

# %% [markdown]
# **Size cannot be seen.** Multiply a face by $k$ and divide $f$ by $k$: Eq. (2) gives
# exactly the same pixels. A large head with a short lens and a small head with a long
# one make the same photograph. The model therefore holds no size, and the mm of a
# reconstruction mean "if this head had the average size". The check does the
# multiplication and finds the same pixels, but other depths.

# %% tags=["check"]
k = 1.25
pose, smaller = torch.zeros(1, 6), torch.zeros(1, 6)
smaller[0, 5] = -np.log(k) / camera.POSE_UNITS[5]  # f / k
one_face = model.vertices(at_rest[:1])
small, large = (
    camera.project(k_S, each, size)
    for k_S, each in ((one_face, pose), (k * one_face, smaller))
)
moved = (small - large).abs()[0].amax(dim=0)
print(f"pixels differ by at most {moved[:2].max():.1e}, depths by {moved[2]:.0f} mm")
assert moved[:2].max() < 1e-3, f"{moved[:2].max():.1e} pixels, not below 1e-3"
error = (large[..., 2] - k * small[..., 2]).abs().max()
assert error < 2e-3, f"depths are off k times by {error:.1e} mm, not below 2e-3"

# %% [markdown]
# The left panel of the next figure shows the two heads of that check from the side: two
# profiles that share one photograph. The other panels show what weak perspective leaves
# out, nearness. They are renderings of one head by a pinhole camera from three
# distances. From 20 cm, the distance of a selfie at arm's bend, the nose grows and the
# ears vanish behind the cheeks. A model that knows only Eq. (2) has to explain such a
# picture with another *shape*, and will report a narrow head with a large nose.

# %%
# Two heads of one picture, and what weak perspective leaves out: nearness.
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.8), layout="constrained")
middle = one_face[0][model.mean[:, 0].abs() < 0.5]
for scaled in (1, k):
    axes[0].plot(*(scaled * middle[:, 1:].flip(1)).T, ".", markersize=1.5)
axes[0].set(aspect="equal", xlim=(-70, 70), title=f"profiles of S, {k} S (mm)")
distances = {"from 2 m": 2000, "from 40 cm": 400, "from 20 cm": 200}
for axis, (title, distance) in zip(axes[1:], distances.items(), strict=True):
    near = one_face[0].clone()
    near[:, :2] *= distance / (distance - near[:, 2:])  # perspective division
    seen = viz.mesh_normals(near.numpy(), model.triangles.numpy(), size=240)
    axis.imshow(viz.shaded(seen), cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 5 What CoarseNet is shown: PNCC and normals
#
# CoarseNet, the network of chapter 3, corrects its own answers, so it has to see its
# last answer. How does one show 290 numbers to a convolutional network? As pictures
# that lie exactly on top of the photograph. The paper uses two.
#
# The *projected normalized coordinate code* (PNCC) of [Zhu et
# al.](https://arxiv.org/abs/1511.07212) "is computed by first normalizing the average
# face and painting the RGB channels of the current vertices with the x, y and z
# coordinates of the corresponding vertex on the average model". It is a code: each
# color stands for one place on the face. In the normal map "each vertex is associated
# with its normal coordinates. These normal values are then rendered as RGB values"
# (3.2.1).
#
# The normal of a vertex is the mean of the normals of its triangles, weighted by their
# areas. The cross product of two sides of a triangle has the direction of the normal
# and twice the area as its length, so it is enough to add up cross products.

# %%
least, most = model.mean.min(dim=0).values, model.mean.max(dim=0).values
pncc = (model.mean - least) / (most - least)
corner_xyz = one_face[0][model.triangles]  # (triangle, corner, xyz)
first, second, third = corner_xyz.unbind(dim=1)
outward = torch.linalg.cross(second - first, third - first)
normals = torch.zeros_like(one_face[0])
for i in range(3):  # each corner adds its triangle's normal times twice its area
    normals.index_add_(0, model.triangles[:, i], outward)
normals = torch.nn.functional.normalize(normals, dim=1)

# %% tags=["check"]
assert torch.equal(pncc, model.pncc), f"off by {(pncc - model.pncc).abs().max()}, not 0"
cosine = (normals * mesh.vertex_normals(one_face, model.triangles)[0]).sum(dim=1)
print(f"smallest cosine {cosine.min():.6f}")
assert cosine.min() > 1 - 1e-5, f"{cosine.min():.6f}, not above 0.99999"
tip = normals[model.landmarks[30], 2]
assert tip > 0.5, f"the tip of the nose looks at the viewer by {tip:.2f}, above 0.5"

# %% [markdown]
# As in Figure 2 of the paper, for two synthetic faces: (a) the picture, (b) the PNCC,
# (c) the normals. Follow the tip of the nose. It has the same color in (b) and (e),
# though it lies elsewhere in the picture and the people differ. The PNCC tells the
# network *which part of the face* the current answer puts on a pixel. The normals tell
# how the surface lies there, and change with identity and expression.

# %%
pair = [posed(people[2:3], -5.0, 35.0, 8.0), posed(people[5:6], 10.0, -25.0, -12.0)]
feedback = []
for r in pair:
    maps = render.render(model, r, size)
    feedback += portraits(r, torch.zeros(1, model.n_albedo), size)
    for picture in (maps.pncc, 0.5 + 0.5 * maps.normals):
        on_white = torch.where(maps.mask, picture, 1.0)[0]
        feedback.append(on_white.permute(1, 2, 0).numpy())
figure = viz.gallery(feedback, [f"({c})" for c in "abcdef"], columns=3, inches=2.4)
figure.savefig(output / "feedback.png", dpi=90)
figure

# %% tags=["check"]
# The landmarks on the ridge of the nose have the same colors in (b) and (e).
ridge = model.landmarks[27:31]
for r in pair:
    maps = render.render(model, r, size)
    x, y, _ = maps.projected[0, ridge].round().long().T
    error = (maps.pncc[0, :, y, x].T - model.pncc[ridge]).abs().max()
    print(f"largest difference {error:.3f} of 1")
    # Half a pixel is 0.5 mm of at least 144, more on a slope.
    assert error < 0.03, f"{error:.3f}, not below 0.03"

# %% [markdown]
# ## 6 Albedo and light
#
# What color has a pixel? Two things are multiplied: how much light arrives, and how
# much of it the skin sends back. The second is the *albedo* $\rho$, a number between 0
# and 1 for each of red, green and blue. It belongs to the skin, and does not change
# with the light.
#
# Albedo is modeled by a linear space, too. The paper makes it recoverable by "limiting
# the space of possible albedos to a low dimensional 3DMM texture subspace.
# $$\rho \approx T = \mu_T + A_T\alpha_T. \qquad (10)$$
# [...] In our implementation, 10 coefficients were used." The components of our model
# were learned from 153 computer-generated portraits of people who do not exist. Light
# is described by four numbers $\vec l$: how much comes from everywhere, and a
# direction. A point with the normal $n$ then shows
# $$\rho\,\langle\vec l, (1, n_x, n_y, n_z)\rangle,$$
# which is what Eqs. (8) and (9) of the paper compare with a photograph. These are the
# first four *spherical harmonics*. Ramamoorthi and Hanrahan showed in 2001 that nine of
# them describe the light on a matt surface to about one percent; [chapter
# 5](05_lighting_and_albedo.ipynb) takes this up.

# %%
alpha_T = torch.randn(2, model.n_albedo, generator=generator)
T = model.albedo_mean + torch.einsum("ba,avc->bvc", alpha_T, model.albedo_basis)
n = torch.nn.functional.normalize(torch.randn(2, 3, 8, 8, generator=generator), dim=1)
l = torch.randn(2, 4, generator=generator)
rho = torch.rand(2, 1, 8, 8, generator=generator)
ones = torch.ones(2, 1, 8, 8)
shaded = rho[:, 0] * (torch.cat([ones, n], 1) * l[:, :, None, None]).sum(dim=1)

# %% tags=["check"]
errors = {
    "albedo": (T - model.albedo(alpha_T)).abs().max().item(),
    "light": (shaded - lighting.shade(rho, l, n)[:, 0]).abs().max().item(),
}
print(errors)
assert max(errors.values()) < 1e-5, f"{errors}, not below 1e-5"
other = (T - model.albedo(-alpha_T)).abs().max()
assert other > 0.01, f"-alpha_T changes the albedo by {other:.3f}, above 0.01 expected"

# %% [markdown]
# First row: five albedo components, two standard deviations down. Second row: the same
# components up. The first is the tone of the skin, the others are mixtures of redness,
# brows, lips and beard. Third row: the average albedo under light from five directions.
#
# Compare a dark skin under bright light with a pale skin under dim light. In grey
# values they can be the same. A photograph shows only the product of albedo and light,
# and every method has to decide how to divide it. Chapter 5 is about this decision.

# %%
components = torch.eye(model.n_albedo)[:5]
at_zero = torch.zeros(10, n_id + n_exp + 6)
panels = portraits(at_zero, torch.cat([-2 * components, 2 * components]))
maps = render.render(model, at_zero[:5], 160)
average = model.albedo(torch.zeros(5, model.n_albedo))
rgb = rasterize.interpolate(average, maps.fragments, model.triangles)
lamps = [(-0.8, 0, 0.6), (0.8, 0, 0.6), (0, 0.8, 0.6), (0, -0.8, 0.6), (0, 0, 1)]
directed = torch.tensor([(0.5, *direction) for direction in lamps])
shading = lighting.shade(torch.ones_like(maps.depth), directed, maps.normals)
lit = torch.where(maps.mask, rgb * shading, 1.0).permute(0, 2, 3, 1)
titles = [f"{i + 1}: {sign}2 σ" for sign in "−+" for i in range(5)]
titles += [
    f"from {side}" for side in ("the left", "the right", "above", "below", "ahead")
]
figure = viz.gallery([*panels, *lit.numpy()], titles, columns=5, inches=1.7)
figure.savefig(output / "albedo_and_light.png", dpi=80)
figure

# %% [markdown]
# ## 7 Move the sliders
#
# The button opens a live view: the crop with the face above it in color, thinned to at
# most 10,000 vertices, so that it can be turned with the mouse. Its sliders set
# identity, expression, pose, albedo and light. Try to answer three questions with it.
# Which of the first identity components changes the width of the nose? What does the
# face look like when the light comes from below? Can you hide a smile by turning the
# head?
#
# The figure after it moves the same sliders for readers without a running kernel. Each
# row moves one of them from end to end.

# %%
explore = explorer.Explorer(model)
button = widgets.Button(description="open the live view")
place = widgets.VBox()
button.on_click(lambda _: setattr(place, "children", [explore.live()]))
widgets.VBox([button, place])

# %%
chosen = [
    ("identity", "identity 1"),
    ("identity", "identity 2"),
    ("expression", "smile"),
]
chosen += [("pose", "yaw °"), ("albedo", "albedo 1"), ("light", "right")]
panels, titles = [], []
for group, name in chosen:
    slider = explore.sliders[group][name]
    for value in np.linspace(slider.min, slider.max, 5):
        slider.value = value
        panels.append(explore.picture())
        titles.append(f"{name}: {value:+.2g}")
    explore.reset()
figure = viz.gallery(panels, titles, columns=5, inches=1.7)
figure.savefig(output / "sliders.png", dpi=70)
figure

# %% [markdown]
# The next cell does what a hand on the sliders does, and checks that the view follows:
# the reduced mesh has a vertex near each projected landmark, the yaw that comes out is
# the one that went in, and the reset button undoes it all.

# %% tags=["check"]
# What a hand on the sliders does, without a hand.
explore.sliders["pose"]["yaw °"].value = 30.0
explore.sliders["expression"]["open the jaw"].value = 1.0
view = explore.figure.data[0]
alpha, pose = camera.split(explore.r)
projected = camera.project(model.vertices(alpha), pose, size)[0, model.landmarks]
points = torch.tensor(np.stack([99.5 + np.array(view.x), 99.5 - np.array(view.y)], 1))
gap = torch.cdist(projected[:, :2].double(), points.double()).min(dim=1).values.max()
print(f"{len(view.x):,} vertices; each landmark has one within {gap:.1f} pixels")
assert len(view.x) <= 10_000, f"{len(view.x):,} vertices, above 10,000"
assert gap < 3, f"{gap:.1f} pixels, not below 3"
yaw = np.degrees((pose[0] * camera.POSE_UNITS)[1].item())
assert np.isclose(yaw, 30), f"yaw {yaw:.3f}°, expected 30"
explore.reset()
assert not explore.r.any(), f"after the reset {explore.r.abs().max():.2f}, expected 0"

# %% [markdown]
# ## Exercises
#
# Each exercise is followed by a check. A right answer gets a short line, a wrong one a
# sentence on what is wrong with it and a hint; `exercise.hint()` in a new cell prints
# the next hint. Run the check as often as you like.
#
# **1.** A detector has found the eyes, and you want to use that. Find the pose that
# differs from a given one only in its two translations and puts the midpoint of the
# eyes (the mean of landmarks 36 to 47) into the middle of the crop.


# %% tags=["exercise"]
def center_eyes(model, coefficients, pose, size):
    """The pose (1, 6), moved so that the eyes' midpoint is in the crop's middle."""
    ### BEGIN SOLUTION
    projected = camera.project(model.vertices(coefficients), pose, size)
    column, row, _ = projected[0, model.landmarks[36:48]].mean(dim=0)
    middle = (size - 1) / 2
    moved = pose.clone()
    moved[0, 3] += (middle - column) / size / camera.POSE_UNITS[3]
    moved[0, 4] += (row - middle) / size / camera.POSE_UNITS[4]
    return moved
    ### END SOLUTION


# %% tags=["check"]
exercise = Exercise(
    "1.1",
    "project the face first. How many columns and rows is the midpoint off?",
    "docs/conventions.md says in what unit t_x is, and which way t_y points.",
)
example = MorphableModel.default()
head = example.sample(1, torch.Generator().manual_seed(1))
before = torch.tensor([[0.3, -0.8, 0.5, 1.0, -2.0, 0.7]])


def midpoint(pose):
    places = camera.project(example.vertices(head), pose, 120)
    return places[0, example.landmarks[36:48], :2].mean(dim=0)


def moved(by):
    return before + torch.nn.functional.pad(by[None], (3, 1))


# The midpoint moves in proportion to t: two steps of one unit tell how far.
unit_steps = [midpoint(moved(step)) - midpoint(before) for step in torch.eye(2)]
way = torch.linalg.inv(torch.stack(unit_steps, dim=1))
by = way @ (59.5 - midpoint(before))
exercise.equal(
    "the pose", lambda: center_eyes(example, head, before, 120), moved(by), {
        "the eyes move the wrong way up or down.": moved(by * torch.tensor([1, -1])),
        "the eyes end half a pixel off.": moved(way @ (60 - midpoint(before))),
        "the unit of t is another.": moved(by * camera.POSE_UNITS[3].item()),
        "the unit of t_x is another.": moved(
            by * torch.tensor([camera.POSE_UNITS[3].item(), 1])
        ),
        "t is in pixels; it counts a share of the crop.": moved(
            by * 120 * camera.POSE_UNITS[3].item()
        ),
        "nothing has moved.": before,
    }, atol=1e-3,
)  # fmt: skip
exercise.passed("a detected point fixes two of the six numbers, whatever the shape.")

# %% [markdown]
# **2.** Mirror a face at the plane $x = 0$, so that vertex by vertex it is again a face
# of the model: the left corner of the mouth must stay the left corner. The mirror image
# of vertex $v$ of the mean face is vertex `mirror[v]`. (CoarseNet's training uses this:
# a mirrored photograph is a new example for free.)


# %% tags=["exercise"]
def mirrored(vertices, mirror):
    """Vertices (V, 3) of the mirrored face."""
    ### BEGIN SOLUTION
    return vertices[mirror] * torch.tensor([-1.0, 1.0, 1.0])
    ### END SOLUTION


# %% tags=["check"]
exercise = Exercise(
    "1.2",
    "watch one vertex, the left corner of the mouth. Whose place does it take?",
    "two things change: which vertex is where, and the sign of one coordinate.",
)
example = MorphableModel.default()
wink = torch.zeros(2, example.n_coefficients)
for half, name in zip(wink, ("eyeBlinkLeft", "eyeBlinkRight"), strict=True):
    half[example.expression_index(name)] = 5.0
left, right = example.vertices(wink)  # of a face with one eye closed, and the other
corner = example.landmarks[54]
exercise.true(
    lambda: mirrored(left, example.mirror)[corner, 0] > 0,
    "The left corner of the mouth has changed sides. Only half of the work is done.",
)
once = exercise.equal(
    "a left wink", lambda: mirrored(left, example.mirror), right,
    {"nothing has moved.": left}, atol=0.5, rtol=0,  # the two units are not quite alike
)  # fmt: skip

exercise.equal("mirrored twice", lambda: mirrored(once, example.mirror), left)
exercise.passed("the model is symmetric up to half a millimeter.")

# %% [markdown]
# **3.** Find the coefficients of a scan. Its vertices $s$ (already in correspondence,
# flattened into one vector) are Eq. (1) plus noise of $\sigma$ mm, and $\alpha \sim
# N(0, I)$. The most likely coefficients then minimize
# $$\|\mu + A^T\alpha - s\|^2 / \sigma^2 + \|\alpha\|^2.$$
# The first term asks for a good fit, the second for a plausible face, and $\sigma$
# decides between them. Derive where the gradient vanishes, and solve for $\alpha$.


# %% tags=["exercise"]
def fit(scan, mean, basis, sigma):
    """Coefficients (n,) of a scan (3 V,); basis (n, 3 V), sigma in mm."""
    ### BEGIN SOLUTION
    gram = basis @ basis.T / sigma**2 + torch.eye(len(basis), dtype=basis.dtype)
    return torch.linalg.solve(gram, basis @ (scan - mean) / sigma**2)
    ### END SOLUTION


# %% tags=["check"]
fitting = exercise = Exercise(
    "1.3",
    "set the gradient by alpha to zero. The result is a linear system of n equations.",
    "its matrix has two parts, one from each term; torch.linalg.solve does the rest.",
)
noise = torch.Generator().manual_seed(2)
B = torch.randn(5, 30, generator=noise, dtype=torch.float64)
center, measured_scan = torch.randn(2, 30, generator=noise, dtype=torch.float64)


def stacked(values, sigma, prior=1.0):
    """Plain least squares with one more equation, alpha_i = 0, for each i."""
    system = torch.cat([B.T / sigma, prior * torch.eye(5, dtype=B.dtype)])
    right_side = torch.cat([values / sigma, torch.zeros(5, dtype=B.dtype)])
    return torch.linalg.lstsq(system, right_side[:, None]).solution[:, 0]


offset = measured_scan - center
for sigma in (0.1, 2.0, 50.0):
    exercise.equal(
        f"sigma = {sigma}", lambda: fit(measured_scan, center, B, sigma),
        stacked(offset, sigma), {
            "the mean face was not subtracted.": stacked(measured_scan, sigma),
            "the second term is missing.": stacked(offset, sigma, 0.0),
            "sigma should be squared.": stacked(offset, sigma**0.5),
        }, atol=1e-9,
    )  # fmt: skip
exercise.passed("the prior keeps few or noisy points from making a monster.")

# %% [markdown]
# What your `fit` makes of a synthetic face with 1 mm of noise: when it sees all
# vertices, when it sees only the 68 landmarks, and when it trusts the landmarks too
# much ($\sigma = 0.01$ mm). In the last case the coefficients explain the noise.

# %%
noisy = one_face[0] + torch.randn(one_face[0].shape, generator=generator)
everything, marks = torch.arange(model.n_vertices), model.landmarks
candidates = [at_rest[0]] if fitting.solved else []
for used, sigma in [(everything, 1.0), (marks, 1.0), (marks, 0.01)]:
    if fitting.solved:
        points, base = noisy[used].double(), model.mean[used].double()
        rows = A_id[:, used].flatten(1).double()
        found = torch.zeros(n_id + n_exp)
        found[:n_id] = fit(points.flatten(), base.flatten(), rows, sigma).float()
        candidates.append(found)
titles = ["truth", "all vertices", "68 landmarks", "68, noise ignored"]
if fitting.solved:
    r = camera.join(torch.stack(candidates), torch.zeros(4, 6))
    display(viz.gallery(surfaces(r, 240), titles, columns=4, inches=2.2))

# %% [markdown]
# ## What we did not reproduce
#
# - **The bases.** Bosphorus scans need a licence. Our identities come from sculpted
#   shapes, from the identities of ICT-FaceKit, and a sampling that we chose. The
#   components, and what they look like, are not the paper's. The numbers of
#   coefficients (200, 84, 10) are.
# - **Units of the pose.** The paper says that zero is a centered frontal face, but not
#   by what the six numbers are divided. Ours are in
#   [docs/conventions.md](../docs/conventions.md).
# - **Figure 2** shows photographs; here the faces are synthetic. [Chapter
#   7](07_end_to_end.ipynb) shows the same maps for photographs.

# %% [markdown]
# ## Summary
#
# 1. A morphable model adds 284 weighted displacements to an average face; all faces
#    share their triangles, and a vertex means the same place on each.
# 2. A coefficient counts standard deviations. Identities are normally distributed,
#    expressions are activations between 0 and 1.
# 3. Six numbers place the face under weak perspective. Zero is a centered, frontal
#    face.
# 4. One photograph does not show absolute size, hides depth, and mixes albedo with
#    light.
# 5. PNCC and normals turn the 290 numbers into pictures that a network can read.

# %% [markdown]
# ## Review questions
#
# 1. Why must all faces share their triangles before Eq. (1) makes sense?
# 2. Multiply $A_{id}$ by 2 and halve $\alpha_{id}$: what would change?
# 3. Why is $N(0, I)$ right for identities, and wrong for expressions?
# 4. Which entries of $[R\,|\,t]$ never influence a pixel of Eq. (2)?
# 5. A face is photographed from 20 cm. What will a weak-perspective fit get wrong?
# 6. Does the PNCC color of a vertex change when the person smiles? When the head turns?
# 7. Which of the sliders could you move without a change of the *normal map*?

# %% tags=["record"]
measured_on = "the morphable model that ships"
record = repro.Recorder(output, preset, seed, data=measured_on)
record("vertices", model.n_vertices)
record("coefficients", [n_id, n_exp, model.n_albedo])
record("landmark_std_mm", vertex_std[model.landmarks].mean().item())
record("drawn_over_computed_std", [ratio.min().item(), ratio.max().item()])
for percent, count in needed.items():
    record(f"components_for_{percent}_percent", count)
record("mean_face_px_of_200", [high, wide])
print(record.path.read_text()[:600])
repro.judge_item("morphable_model", output)

# %% [markdown]
# ## Further reading
#
# - V. Blanz, T. Vetter. [*A morphable model for the synthesis of 3D
#   faces.*](https://dl.acm.org/doi/10.1145/311535.311556) SIGGRAPH 1999: the first
#   3DMM.
# - P. Paysan et al. *A 3D face model for pose and illumination invariant face
#   recognition.* AVSS 2009: the [Basel Face Model](https://faces.dmi.unibas.ch/bfm/).
# - B. Egger et al. [*3D morphable face models: past, present and
#   future.*](https://arxiv.org/abs/1909.01815) ACM TOG 2020: what became of the idea.
# - A. Savran et al. *Bosphorus database for 3D face analysis.* BIOID 2008.
# - X. Zhu et al. [*Face alignment across large poses: a 3D
#   solution.*](https://arxiv.org/abs/1511.07212) CVPR 2016: PNCC.
# - R. Ramamoorthi, P. Hanrahan. *An efficient representation for irradiance environment
#   maps.* SIGGRAPH 2001: why four or nine numbers of light are nearly enough.
