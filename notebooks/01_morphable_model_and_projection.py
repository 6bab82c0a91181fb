# %% [markdown]
# # A face in 290 numbers
#
# **A morphable model turns 284 numbers into a face, six more place it before the
# camera; whoever finds these 290 numbers in a photograph has reconstructed it.**
#
# *Afterwards you can* build faces from coefficients, say what a standard deviation of
# one does, project vertices to pixels by hand, and tell what a photograph cannot show.
# *Paper:* sections 3.1 and 3.2.1; Eqs. (1), (2) and (10), with the image formation of
# Eqs. (8) and (9); Figure 2. *Time:* half a minute on two CPU cores (`full`: a little
# longer). *Data:* the morphable model that ships with the package. Nothing is
# downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full": section 2 samples ten times as many faces
seed = 0  # of the sampled faces
output_dir = "runs/morphable_model"  # where figures and result.json go

# %% tags=["imports"]
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np

from facerecon import MorphableModel, camera, lighting, mesh, rasterize, render, repro
from facerecon.views import explorer, viz
import torch  # after facerecon, which tells its threads how to wait

# %%
model = MorphableModel.default()
n_id, n_exp = model.n_identity, model.n_expression
generator = torch.Generator().manual_seed(seed)
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)
print(f"{model.n_vertices:,} vertices, {len(model.triangles):,} triangles,")
print(f"{n_id} identity, {n_exp} expression and {model.n_albedo} albedo coefficients")

# %% [markdown]
# ## 1 A linear space of faces
#
# "To model the facial geometries we use a 3D morphable model [3], where an additional
# blendshape basis is used to model expressions [...]. This results in the following
# linear representation
# $$S = \mu_S + A_{id}\alpha_{id} + A_{exp}\alpha_{exp}. \qquad (1)$$
# Where $\mu_S$ is the average 3D face, $A_{id}$ is the principal component basis,
# $A_{exp}$ is the blendshape basis" (3.1). $S$ lists the corners of a mesh. Every face
# has the same triangles, and a vertex means the same place (the tip of the nose, say)
# on all of them: without this correspondence, adding faces would have no meaning.

# %%
A = model.basis.unflatten(1, (-1, 3))  # (coefficient, vertex, xyz), mm
A_id, A_exp = A[:n_id], A[n_id:]
alpha = torch.randn(3, n_id + n_exp, generator=generator)  # three faces
S = (
    model.mean
    + torch.einsum("bi,ivk->bvk", alpha[:, :n_id], A_id)
    + torch.einsum("be,evk->bvk", alpha[:, n_id:], A_exp)
)  # Eq. (1)

# %% tags=["check"]
error = (S - model.vertices(alpha)).abs().max()
print(f"shape {tuple(S.shape)}, largest difference {error:.1e} mm")
# float32, sums of hundreds of terms up to some ten mm
assert error < 1e-3, f"{error:.1e} mm, not below 1e-3"
other = (S - model.vertices(alpha.flip(1))).abs().max()
assert other > 1, (
    f"the order of coefficients matters by {other:.1e} mm, above 1 expected"
)
off = (model.vertices(torch.zeros(1, n_id + n_exp))[0] - model.mean).abs().max()
assert off == 0, f"alpha = 0 is {off:.1e} mm from the mean face, 0 expected"

# %% [markdown]
# $\alpha = 0$ is the average face. Of it, the frame (docs/conventions.md): mm, $x$ to
# the viewer's right, $y$ up, $z$ toward the viewer.
#
# The paper's bases "are collected from the Bosphorus dataset", scans that one has to
# apply for. Ours come from the MakeHuman project's sculpted shapes, which anyone may
# use; the file says how it was made.


# %%
def surfaces(r, size=160):
    """Grey pictures of a batch of faces, white where there is none."""
    maps = render.render(model, r, size)
    normals = torch.where(maps.mask, maps.normals, torch.nan)
    return [viz.shaded(n.numpy()) for n in normals.permute(0, 2, 3, 1)]


def posed(alpha, *angles):
    """r of faces turned by pitch, yaw, roll in degrees."""
    pose = torch.zeros(len(alpha), 6)
    pose[:, :3] = torch.deg2rad(torch.tensor(angles)) / camera.POSE_UNITS[:3]
    return camera.join(alpha, pose)


# %%
for key in ("source", "licence", "builder", "n_samples", "n_expression_samples"):
    print(f"{key:22}{model.provenance.get(key)}")
average = torch.zeros(1, n_id + n_exp)
views = {"0°": 0.0, "yaw 40°": 40.0, "yaw 80°": 80.0}
pictures = [surfaces(posed(average, 0.0, yaw, 0.0), 240)[0] for yaw in views.values()]
viz.gallery(pictures, list(views), columns=3, inches=2.4)

# %% [markdown]
# ## 2 What a standard deviation is
#
# Each row of $A_{id}$ is the displacement, in mm, that one standard deviation of its
# coefficient makes among the people from whom the model was made. So a random person
# is $\alpha_{id} \sim N(0, I)$, $|\alpha_i| > 3$ is next to nobody, and a vertex
# varies by $\sigma_v = (\sum_i \|A_{i,v}\|^2)^{1/2}$ mm. We sample people to see
# whether that holds.

# %%
n_people = {"quick": 2000, "full": 20_000}[preset]
people = torch.randn(n_people, n_id, generator=generator)
at_landmarks = A_id[:, model.landmarks]
sampled = torch.einsum("bi,ivk->bvk", people, at_landmarks)
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
# The first components, at two standard deviations down (top) and up (middle). Below,
# how far each vertex moves for one: bright where most, with that most in the title.
# Some change the outline, some the depth, which a frontal picture hardly shows. The
# curve after that tells how many components are worth having: the share of variance
# that the first $n$ keep, each vertex weighted by how much it matters
# (`model.geometry_metric`; chapter 3 trains with it).

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
# $A_{exp}$ is no PCA: each of its 84 rows is a movement with a name, an *activation* of
# 1 being all of it. Zero is the face at rest. To count in standard deviations as well,
# the activation is divided by its spread over plausible faces, `model.expression_std`.
# *Left* is the person's left: the viewer's right. The lower row shows activation $-1$,
# which nobody can make: the space is linear, faces are not. So random expressions are
# sampled as activations in $[0, 1]$, a few at a time (`model.sample`), not as
# $N(0, I)$.

# %%
units = ["jawOpen", "mouthSmileLeft", "mouthPucker", "cheekPuff", "mouthLeft"]
units += ["browInnerUp", "eyeBlinkLeft"]
faces = torch.zeros(len(units), n_id + n_exp)
for face, name in zip(faces, units, strict=True):
    i = model.expression_index(name)
    face[i] = 1 / model.expression_std[i - n_id]  # activation 1
r = camera.join(torch.cat([faces, -faces]), torch.zeros(2 * len(units), 6))
figure = viz.gallery(surfaces(r), units, columns=len(units), inches=1.4)
figure.savefig(output / "expressions.png", dpi=90)
figure

# %% tags=["check"]
smile = model.vertices(faces[[units.index("mouthSmileLeft")]])[0] - model.mean
right, left = smile.norm(dim=1)[model.landmarks[[48, 54]]].tolist()  # mouth's corners
print(f"mouthSmileLeft: left corner {left:.1f} mm, right corner {right:.1f} mm")
assert left > 5 * right, f"left {left:.1f} mm, not above 5 times {right:.1f}"
side = model.mean[model.landmarks[54], 0]
assert side > 0, f"the left corner is at x = {side:.1f} mm, above 0 expected"
sampled = model.sample(1000, generator)[:, n_id:] * model.expression_std
active = (sampled > 0).sum(dim=1).float().mean()
print(f"activations: {sampled.min():.2f} to {sampled.max():.2f}, {active:.1f} per face")
low, high = sampled.aminmax()
assert 0 <= low <= high <= 1, f"{low:.2f} to {high:.2f}, not within 0 to 1"
resting = (sampled == 0).all(dim=1).sum()
assert resting > 0, f"{resting} of {len(sampled)} faces are at rest, above 0 expected"

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
# "For projecting the 3D model to the image plane, we assume a parallel weak perspective
# projection" (3.1):
# $$\begin{bmatrix} p_x \\ p_y \end{bmatrix} = \begin{bmatrix} f & 0 & 0 \\ 0 & f & 0
# \end{bmatrix} [R\,|\,t] \begin{bmatrix} P_x \\ P_y \\ P_z \\ 1 \end{bmatrix}. \qquad
# (2)$$
# "Hence, the face alignment is modeled using only 6 parameters: 3 Euler angles, a 2D
# translation vector and a scale." The depth part of $t$ drops out. The paper leaves the
# order of rotations open; here it is yaw first, then pitch, then roll, about the
# camera's axes: $R = R_z R_x R_y$. The code's last line goes on to the pixel grid.

# %%
pose = torch.randn(1, 6, generator=generator, dtype=torch.float64)
pitch, yaw, roll, t_x, t_y, log_f = (pose[0] * camera.POSE_UNITS).tolist()
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
package = camera.project(torch.from_numpy(P)[None], pose, size)
error = np.abs(np.stack([column, row], 1) - package[0, :, :2].numpy()).max()
print(f"largest difference {error:.1e} pixels")
assert error < 1e-9, f"{error:.1e} pixels, not below 1e-9"
off = max(np.abs(R @ R.T - np.eye(3)).max(), abs(np.linalg.det(R) - 1))
assert off < 1e-9, f"R is off a rotation by {off:.1e}, not below 1e-9"
other = np.abs(R - R_y @ R_x @ R_z).max()
assert other > 1e-3, f"another order changes R by {other:.1e}, above 1e-3 expected"
lost = np.abs(camera.unproject(package, pose, size)[0].numpy() - P).max()
assert lost < 1e-9, f"the way back loses {lost:.1e} mm, not below 1e-9"

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
# $r$." A network that answers "nothing to correct" then answers zeros, and one unit of
# each number is about equally surprising. At zero, 214 mm (`camera.CROP_MM`) fill the
# crop: from the hairline to a little below the chin of the mean face.

# %% tags=["check"]
units = zip(camera.POSE_NAMES, camera.POSE_UNITS.tolist(), strict=True)
print("one unit:", ", ".join(f"{name} {unit:.4g}" for name, unit in units))
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
# **Landmarks** are vertices with a number. Projecting them is how a face is compared
# with detected points; those on the far side of the turned face show that projection
# knows nothing of visibility.

# %%
views = {"at zero": (0.0, 0.0, 0.0), "turned": (10.0, 45.0, -10.0)}
figure, axes = plt.subplots(1, 2, figsize=(8, 4.1), layout="constrained")
for axis, (title, angles) in zip(axes, views.items(), strict=True):
    r = posed(people[1:2], *angles)
    points = render.render(model, r, 400).projected[0, model.landmarks, :2]
    axis.imshow(surfaces(r, 400)[0], cmap="gray", vmin=0, vmax=1)
    axis.plot(*points.T, ".", color="#00a060", markersize=4)
    for number in (0, 8, 16, 19, 24, 27, 30, 36, 45, 48, 54):
        axis.annotate(str(number), points[number], color="#c03000", fontsize=9)
    axis.set(title=title, xlim=(0, 399), ylim=(399, 0))
    axis.set_axis_off()
figure.savefig(output / "landmarks.png", dpi=80)
plt.show()

# %% [markdown]
# **Size cannot be seen.** Multiply a face by $k$ and divide $f$ by $k$: Eq. (2) gives
# the same pixels. The model therefore holds no size, and a reconstruction's mm mean "if
# this head had the average size".

# %% tags=["check"]
k = 1.25
pose, smaller = torch.zeros(1, 6), torch.zeros(1, 6)
smaller[0, 5] = -np.log(k) / camera.POSE_UNITS[5]  # f / k
S = model.vertices(at_rest[:1])
small, large = camera.project(S, pose, size), camera.project(k * S, smaller, size)
moved = (small - large).abs()[0].amax(dim=0)
print(f"pixels differ by at most {moved[:2].max():.1e}, depths by {moved[2]:.0f} mm")
assert moved[:2].max() < 1e-3, f"{moved[:2].max():.1e} pixels, not below 1e-3"
error = (large[..., 2] - k * small[..., 2]).abs().max()
assert error < 2e-3, f"depths are off k times by {error:.1e} mm, not below 2e-3"

# %%
# Two heads of one picture, and what weak perspective leaves out: nearness.
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.8), layout="constrained")
middle = S[0][model.mean[:, 0].abs() < 0.5]
for scaled in (1, k):
    axes[0].plot(*(scaled * middle[:, 1:].flip(1)).T, ".", markersize=1.5)
axes[0].set(aspect="equal", xlim=(-70, 70), title=f"profiles of S, {k} S (mm)")
distances = {"from 2 m": 2000, "from 40 cm": 400, "from 20 cm": 200}
for axis, (title, distance) in zip(axes[1:], distances.items(), strict=True):
    near = S[0].clone()
    near[:, :2] *= distance / (distance - near[:, 2:])  # perspective division
    normals = viz.mesh_normals(near.numpy(), model.triangles.numpy(), size=240)
    axis.imshow(viz.shaded(normals), cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 5 What CoarseNet is shown: PNCC and normals
#
# Coefficients and pose say little to a convolutional network, pictures do. The PNCC "is
# computed by first normalizing the average face and painting the RGB channels of the
# current vertices with the x, y and z coordinates of the corresponding vertex on the
# average model"; in the normal map "each vertex is associated with its normal
# coordinates. These normal values are then rendered as RGB values" (3.2.1).

# %%
least, most = model.mean.min(dim=0).values, model.mean.max(dim=0).values
pncc = (model.mean - least) / (most - least)
corner = S[0][model.triangles]  # (triangle, corner, xyz)
outward = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
normals = torch.zeros_like(S[0])
for i in range(3):  # each corner adds its triangle's normal times twice its area
    normals.index_add_(0, model.triangles[:, i], outward)
normals = torch.nn.functional.normalize(normals, dim=1)

# %% tags=["check"]
assert torch.equal(pncc, model.pncc), f"off by {(pncc - model.pncc).abs().max()}, not 0"
cosine = (normals * mesh.vertex_normals(S, model.triangles)[0]).sum(dim=1)
print(f"smallest cosine {cosine.min():.6f}")
assert cosine.min() > 1 - 1e-5, f"{cosine.min():.6f}, not above 0.99999"
tip = normals[model.landmarks[30], 2]
assert tip > 0.5, f"the tip of the nose looks at the viewer by {tip:.2f}, above 0.5"

# %% [markdown]
# As in Figure 2, for two synthetic faces instead of photographs: the picture, cut out
# where the mesh is; the PNCC; the normals. The PNCC gives every vertex a color of its
# own, so it tells *which part of the face* a pixel shows. The normals show the shape.

# %%
turned = [posed(people[2:3], -5.0, 35.0, 8.0), posed(people[5:6], 10.0, -25.0, -12.0)]
feedback = []
for r in turned:
    maps = render.render(model, r, size)
    rgb = rasterize.interpolate(
        model.albedo_mean[None], maps.fragments, model.triangles
    )
    one = torch.ones_like(maps.depth)
    shading = lighting.shade(one, torch.tensor([[0.7, -0.4, 0.3, 0.7]]), maps.normals)
    for picture in (rgb * shading, maps.pncc, 0.5 + 0.5 * maps.normals):
        on_white = torch.where(maps.mask, picture, 1.0)[0]
        feedback.append(on_white.permute(1, 2, 0).numpy())
figure = viz.gallery(feedback, [f"({c})" for c in "abcdef"], columns=3, inches=2)
figure.savefig(output / "feedback.png", dpi=90)
figure

# %% tags=["check"]
# The landmarks on the ridge of the nose have the same colors in (b) and (e).
nose = model.landmarks[27:31]
for r in turned:
    maps = render.render(model, r, size)
    column, row, _ = maps.projected[0, nose].round().long().T
    error = (maps.pncc[0, :, row, column].T - model.pncc[nose]).abs().max()
    print(f"largest difference {error:.3f} of 1")
    # Half a pixel is 0.5 mm of at least 144, more on a slope.
    assert error < 0.03, f"{error:.3f}, not below 0.03"

# %% [markdown]
# ## 6 Albedo and light
#
# Albedo is linear, too. The paper makes it recoverable by "limiting the space of
# possible albedos to a low dimensional 3DMM texture subspace.
# $$\rho \approx T = \mu_T + A_T\alpha_T. \qquad (10)$$
# [...] In our implementation, 10 coefficients were used." Under a light $\vec l$ of
# four numbers, a point with the normal $n$ then shows $\rho\,\langle\vec l, (1, n_x,
# n_y, n_z)\rangle$, which is what Eqs. (8) and (9) compare with a photograph. The
# albedo of our model is painted by a procedure (`facerecon.synthetic.skin`), not
# photographed.

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
# Albedo components at two standard deviations down and up (skin tone first), then the
# average albedo under light from the left, the right, above, below and ahead. A dark
# skin under a bright light, or a pale one under a dim one? The grey values alone cannot
# tell: chapter 5 has to choose.

# %%
sign = torch.eye(model.n_albedo)[:5]
maps = render.render(model, torch.zeros(10, n_id + n_exp + 6), 160)
rgb = model.albedo(torch.cat([-2 * sign, 2 * sign]))
rgb = rasterize.interpolate(rgb, maps.fragments, model.triangles)
lights = [(-0.8, 0, 0.6), (0.8, 0, 0.6), (0, 0.8, 0.6), (0, -0.8, 0.6), (0, 0, 1)]
pictures = [rgb]
for direction in lights:
    l = torch.tensor([[0.6, *direction]])
    shading = lighting.shade(torch.ones_like(maps.depth[:1]), l, maps.normals[:1])
    pictures.append(shading * 0.5 * (rgb[:1] + rgb[5:6]))
pictures = torch.where(maps.mask[:1], torch.cat(pictures), 1.0).permute(0, 2, 3, 1)
figure = viz.gallery(list(pictures.numpy()), [str(i + 1) for i in range(5)], columns=5)
figure.savefig(output / "albedo_and_light.png", dpi=70)
figure

# %% [markdown]
# ## 7 Move the sliders
#
# The button opens a live view: the crop with the face above it, thinned to at most
# 10,000 vertices, to be turned with the mouse. Its sliders set identity, expression,
# pose, albedo and light. Below it, the same sliders for readers without a running
# kernel: each row moves one of them, from end to end.

# %%
explore = explorer.Explorer(model)
button = widgets.Button(description="open the live view")
place = widgets.VBox()
button.on_click(lambda _: setattr(place, "children", [explore.live()]))
widgets.VBox([button, place])

# %%
rows = [("identity", "identity 1"), ("identity", "identity 2"), ("expression", "smile")]
rows += [("pose", "yaw °"), ("albedo", "albedo 1"), ("light", "right")]
pictures, titles = [], []
for group, name in rows:
    slider = explore.sliders[group][name]
    for value in np.linspace(slider.min, slider.max, 7):
        slider.value = value
        pictures.append(explore.picture())
        titles.append(f"{name}: {value:+.2g}")
    explore.reset()
figure = viz.gallery(pictures, titles, columns=7, inches=1.4)
figure.savefig(output / "sliders.png", dpi=60)
figure

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
# **1.** A detector gives the eyes. Find the pose that differs from a given one only in
# its two translations and puts the midpoint of the eyes (the mean of landmarks 36 to
# 47) into the middle of the crop.


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
example = MorphableModel.default()
face = example.sample(1, torch.Generator().manual_seed(1))
before = torch.tensor([[0.3, -0.8, 0.5, 1.0, -2.0, 0.7]])
after = center_eyes(example, face, before, 120)
projected = camera.project(example.vertices(face), after, 120)
eyes = projected[0, example.landmarks[36:48], :2].mean(dim=0)
print(f"the eyes are at {eyes.numpy().round(2)}, expected [59.5 59.5]")
assert torch.allclose(eyes, torch.tensor([59.5, 59.5]), atol=1e-3), f"{eyes}, not 59.5"
kept = after[0, [0, 1, 2, 5]], before[0, [0, 1, 2, 5]]
assert torch.equal(*kept), f"only t_x and t_y may change, but {kept}"
assert not torch.equal(after, before), f"{after} is still {before}"

# %% [markdown]
# **2.** Mirror a face at the plane $x = 0$, so that vertex by vertex it is again a face
# of the model: the left corner of the mouth must stay the left corner. The mirror
# image of vertex $v$ of the mean face is vertex `mirror[v]`.


# %% tags=["exercise"]
def mirrored(vertices, mirror):
    """Vertices (V, 3) of the mirrored face."""
    ### BEGIN SOLUTION
    return vertices[mirror] * torch.tensor([-1.0, 1.0, 1.0])
    ### END SOLUTION


# %% tags=["check"]
example = MorphableModel.default()
wink = torch.zeros(2, example.n_coefficients)
for one, name in zip(wink, ("eyeBlinkLeft", "eyeBlinkRight"), strict=True):
    one[example.expression_index(name)] = 5.0
left, right = example.vertices(wink)
answer = mirrored(left, example.mirror)
error = (answer - right).norm(dim=1).max()
print(f"a left wink becomes a right one up to {error:.2f} mm")
assert error < 0.5, f"{error:.2f} mm, not below 0.5"  # the units are not quite alike
back = (mirrored(answer, example.mirror) - left).abs().max()
assert back == 0, f"mirrored twice it is off by {back:.2f} mm, 0 expected"
change = (answer - left).norm(dim=1).max()
assert change > 2, f"the mirror moved points by {change:.2f} mm, above 2 expected"

# %% [markdown]
# **3.** Find the coefficients of a scan. Its vertices $s$ (already in correspondence,
# flattened) are Eq. (1) plus noise of $\sigma$ mm, and $\alpha \sim N(0, I)$; so the
# most likely coefficients minimize
# $$\|\mu + A^T\alpha - s\|^2 / \sigma^2 + \|\alpha\|^2.$$


# %% tags=["exercise"]
def fit(scan, mean, basis, sigma):
    """Coefficients (n,) of a scan (3 V,); basis (n, 3 V), sigma in mm."""
    ### BEGIN SOLUTION
    gram = basis @ basis.T / sigma**2 + torch.eye(len(basis), dtype=basis.dtype)
    return torch.linalg.solve(gram, basis @ (scan - mean) / sigma**2)
    ### END SOLUTION


# %% tags=["check"]
noise = torch.Generator().manual_seed(2)
basis = torch.randn(5, 30, generator=noise, dtype=torch.float64)
mean, scan = torch.randn(2, 30, generator=noise, dtype=torch.float64)
for sigma in (0.1, 2.0, 50.0):
    # The same as plain least squares with one more equation, alpha_i = 0, for each i.
    rows = torch.cat([basis.T / sigma, torch.eye(5, dtype=basis.dtype)])
    values = torch.cat([(scan - mean) / sigma, torch.zeros(5, dtype=basis.dtype)])
    expected = torch.linalg.lstsq(rows, values[:, None]).solution[:, 0]
    answer = fit(scan, mean, basis, sigma)
    print(sigma, answer.numpy().round(3), "expected", expected.numpy().round(3))
    assert torch.allclose(answer, expected, atol=1e-9), f"{answer}, expected {expected}"

# %%
# What your `fit` makes of a synthetic face with noise of 1 mm, when it sees all
# vertices, only the landmarks, or trusts the landmarks too much (sigma = 0.01 mm).
truth = S[0]
noise = torch.randn(truth.shape, generator=generator)
everything, marks = torch.arange(model.n_vertices), model.landmarks
pictures = [at_rest[0]]
for used, sigma in [(everything, 1.0), (marks, 1.0), (marks, 0.01)]:
    scan, mean = (truth + noise)[used].double(), model.mean[used].double()
    basis = A_id[:, used].flatten(1).double()
    found = torch.zeros(n_id + n_exp)
    found[:n_id] = fit(scan.flatten(), mean.flatten(), basis, sigma).float()
    pictures.append(found)
r = camera.join(torch.stack(pictures), torch.zeros(4, 6))
titles = ["truth", "all vertices", "68 landmarks", "68, noise ignored"]
viz.gallery(surfaces(r, 240), titles, columns=4, inches=2)

# %% [markdown]
# ## What we did not reproduce
#
# - **The bases.** Bosphorus scans need a licence. Our identities come from sculpted
#   shapes and a sampling that we chose; the components, and what they look like, are
#   not the paper's. The numbers of coefficients (200, 84, 10) are.
# - **Units of the pose.** The paper says that zero is a centered frontal face, but not
#   by what the six numbers are divided. Ours are in docs/conventions.md.
# - **Figure 2** shows photographs; here the faces are synthetic. Chapter 7 shows the
#   same maps for photographs.

# %% [markdown]
# ## Review questions
#
# 1. Why must all faces share their triangles before Eq. (1) makes sense?
# 2. Multiply $A_{id}$ by 2 and halve $\alpha_{id}$: what would change?
# 3. Why is $N(0, I)$ right for identities, and wrong for expressions?
# 4. Which entries of $[R\,|\,t]$ has no pixel of Eq. (2) ever seen?
# 5. A face is photographed from 20 cm. What will a weak-perspective fit get wrong?
# 6. Does the PNCC of a vertex change when the person smiles? When the head turns?
# 7. Which of the sliders could you move without a change of the *normal map*?

# %% tags=["record"]
record = repro.Recorder(output, preset, seed)
record("vertices", model.n_vertices)
record("coefficients", [n_id, n_exp, model.n_albedo])
record("landmark_std_mm", vertex_std[model.landmarks].mean().item())
record("drawn_over_computed_std", [ratio.min().item(), ratio.max().item()])
for percent, n in needed.items():
    record(f"components_for_{percent}_percent", n)
record("mean_face_px_of_200", [high, wide])
print(record.path.read_text()[:600])

# %% [markdown]
# ## Further reading
#
# - V. Blanz, T. Vetter. *A morphable model for the synthesis of 3D faces.* SIGGRAPH
#   1999: the first 3DMM. B. Egger et al. *3D morphable face models: past, present and
#   future.* ACM TOG 2020: what became of it.
# - A. Savran et al. *Bosphorus database for 3D face analysis.* BIOID 2008.
# - X. Zhu et al. *Face alignment across large poses: A 3D solution.* CVPR 2016: PNCC.
# - R. Ramamoorthi, P. Hanrahan. *An efficient representation for irradiance environment
#   maps.* SIGGRAPH 2001: why four or nine numbers of light are nearly enough.
