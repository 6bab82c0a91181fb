# %% [markdown]
# # Light and albedo
#
# Why is one cheek darker than the other? Perhaps less light falls on it; perhaps the skin
# is darker there. The photograph holds one number for the pixel, the product of both, and
# nothing in that number says how to divide it. Yet you never hesitate when you look at a
# face, because you know what faces look like. This chapter gives a computer the same
# advantage: with the coarse face of chapter 3 and the skin colors of a morphable model,
# light and albedo of a photograph follow from two small linear systems. Then we look for
# the cases in which the answer is wrong, and for a way to measure the truth.
#
# **What you will be able to do.** Write spherical harmonics with the right order, scale
# and sign. Solve for the light and the albedo of a photograph. Name the pictures that
# have more than one answer. Measure the normals of a face with many lamps. Light a
# photograph anew.
#
# **Before you start.** You need least squares, normals and depth maps ([chapter
# 4](04_differentiable_rendering.ipynb)) and the coefficients of a face ([chapter
# 1](01_morphable_model_and_projection.ipynb)). Reading takes 50 minutes, working through
# it with the exercises 100 to 120. The cells need about a minute on two CPU cores.
# Nothing is downloaded. Run all cells once from the top; after that you may run each of
# them again in any order.
#
# **In the paper.** Section 4.3.1; Eqs. (8) to (12); Figure 6. *Data:* the model and the
# weights that ship; two public-domain portraits that come with scikit-image (astronaut
# Eileen Collins, NASA) and matplotlib (Rear Admiral Grace Hopper, US Navy); if you have
# it, Extended Yale B (section 10).

# %% tags=["parameters"]
preset = "quick"  # "full": sections 6 and 8 measure on eight times as many faces
seed = 0  # of the synthetic faces
output_dir = "runs/lighting_and_albedo"  # where figures and result.json go
yale_folder = ""  # of CroppedYale's people; "": yale in the folder FACERECON_DATA names

# %% tags=["imports"]
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from facerecon import MorphableModel, Reconstructor, camera, coarsenet, depth, imaging
from facerecon import lighting, losses, rasterize, render, repro, rim, sfs, weights
from facerecon.course import Exercise
from facerecon.detection import detect
from facerecon.evaluation import measured_normals, photometric_stereo, rendered_yale
from facerecon.evaluation import yale
from facerecon.evaluation.lamps import toward_light
from facerecon.synthetic import world as synthetic
from facerecon.views import concepts, portraits, viz
from facerecon.views.relighter import Relighter, ball_normals
import torch  # after facerecon, which tells its threads how to wait

# %%
torch.set_grad_enabled(False)
model, size = MorphableModel.default(), 200
count = {"quick": 24, "full": 192}[preset]  # synthetic faces to measure errors on
output = repro.start(output_dir)


def dice(number=0):
    """Random numbers that are the same whenever a cell is run."""
    return torch.Generator().manual_seed(seed + number)


def grey(maps, mask):
    """A map (1, 1, H, W) as a picture, white outside of the mask."""
    return torch.where(mask, maps, 1.0)[0, 0].clamp(0, 1).numpy()


# %% [markdown]
# ## First, the phenomenon
#
# Below is one face, the average of the morphable model, with the average skin, in four
# lights. Nothing but the light has changed from picture to picture. Still, the second one
# looks friendly and the third one looks like a film poster, and each pixel has another
# value in each. A network that is to read the shape off such pictures has to cope with
# all of this. Cover three of the pictures with your hand and ask yourself what you would
# say about the shape of the nose from the fourth one alone; then uncover them.

# %%
mean_face = render.render(model, torch.zeros(1, 290), size)
mean_albedo, mean_basis = sfs.albedo_maps(model, mean_face.fragments)
lights = {
    "flat": [0.9, 0.0, 0.0, 0.0],
    "from the front": [0.2, 0.0, 0.0, 0.8],
    "from the right": [0.4, 0.7, 0.0, 0.3],
    "from above left": [0.4, -0.4, 0.5, 0.4],
}
n_x, n_y, n_z = mean_face.normals.unbind(1)
shadings = {
    name: (l[0] + l[1] * n_x + l[2] * n_y + l[3] * n_z)[:, None]
    for name, l in lights.items()
}
lit = {name: grey(mean_albedo * s, mean_face.mask) for name, s in shadings.items()}
figure = viz.gallery(list(lit.values()), list(lit), columns=4, inches=2.2)
figure.savefig(output / "lights.png", dpi=100)
figure

# %% [markdown]
# Now the difficulty, in the drawing below. The upper row explains the third picture as it
# was made: an even face, lit from the right. The lower row explains *the same picture* by
# an even light on a face that is painted darker on one side. Both products agree in every
# pixel, so no camera could tell them apart. You prefer the upper row because nobody's
# skin looks like the lower left picture. That preference is all that helps, and sections
# 3 and 4 turn it into an equation.

# %%
one_light = torch.where(mean_face.mask, shadings["from the right"].clamp(0, 0.99), 1.0)
painted = grey(mean_albedo * one_light / 0.6, mean_face.mask)
pair = grey(mean_albedo, mean_face.mask), one_light[0, 0].numpy()
concepts.light_times_albedo(*pair, painted)

# %% [markdown]
# **Notation.**
#
# | symbol | meaning | size |
# |---|---|---|
# | $I$ | grey photograph, 0 to 1 | a number per pixel |
# | $z_0$; $n$ | coarse depth; unit normal, $x$ right, $y$ up, $z$ to the viewer | a map; 3 |
# | $\rho$ | albedo, the share of the light that skin sends back | a number per pixel |
# | $\vec l$ | light: ambient, from the right, from above, from the front | 4 numbers |
# | $Y$ | spherical harmonics of a normal | 4 numbers, or 9 |
# | $\mu_T$, $A_T$, $\alpha_T$ | average albedo, its basis, coefficients | maps; 10 numbers |
# | $\langle a, b\rangle$ | scalar product; $\langle \vec l, Y\rangle$ is the *shading* | |
#
# ## 1 Few numbers hold the light
#
# A matt surface sends the light that it receives to all sides alike, so its brightness
# depends on the direction $n$ that it faces and on nothing else. For a given light, the
# brightness is therefore a function on the sphere of directions. Such functions can be
# written as sums of *spherical harmonics*, which are to the sphere what sine waves are to
# the circle. Light that arrives from everywhere changes slowly with $n$, and so the
# slowest four functions are enough for the paper:
# $$Y = (1, n_x, n_y, n_z). \qquad (9)$$

# %% [markdown]
# Three conventions cause most mistakes with them. **Order:** as written; others sort them
# differently. **Scale:** textbooks multiply by $\frac{1}{2\sqrt{\pi}}$ and $\frac{\sqrt
# 3}{2\sqrt\pi}$; we leave the factors out, so that $l_0$ is the mean brightness.
# **Sign:** $x$ is to the viewer's right, $y$ up, $z$ toward the viewer
# (`docs/conventions.md`), so a positive $l_1$ is light *from the right*. Second order
# adds five products of two components, which we need for comparison only. The figure
# shows all nine, on a ball and on the average face; red is positive, blue negative.

# %%
ball, ball_inside = ball_normals(size)
names = "1", "x", "y", "z", "xy", "xz", "yz", "x²-y²", "3z²-1"
basis = [lighting.sh_basis(n, 2)[0] for n in (ball, mean_face.normals)]
figure, axes = plt.subplots(2, 9, figsize=(10, 2.6), layout="constrained")
for row, functions, mask in zip(
    axes, basis, (ball_inside, mean_face.mask), strict=True
):
    for axis, function, name in zip(row, functions, names, strict=True):
        most = function.abs().max()
        shown = torch.where(mask[0, 0], function, torch.nan)
        axis.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set(title=name, xticks=[], yticks=[])
figure.savefig(output / "basis.png", dpi=100)
plt.show()

# %% [markdown]
# Are these nine functions independent of each other, as harmonics must be? Over the whole
# sphere the mean of the product of two of them must be zero. And how much of a lamp do
# they hold? Lambert's law for a lamp in direction $\omega$ is $\max(0, \langle \omega,
# n\rangle)$: the dark half of the sphere makes it a function with a kink, which four
# smooth functions cannot follow exactly. Basri and Jacobs found that one, four and nine
# harmonics hold 37.5, 87.5 and 99.2 % of its energy. We measure both claims by brute
# force, with many random directions.

# %% tags=["check"]
everywhere_n = torch.randn(400_000, 3, generator=dice()).double()
everywhere_n = torch.nn.functional.normalize(everywhere_n, dim=1)
sphere_Y = lighting.sh_basis(everywhere_n.T[None, :, :, None], order=2)[0, :, :, 0].T
gram = sphere_Y.T @ sphere_Y / len(sphere_Y)
scale = gram.diag().sqrt()
correlation = (gram / scale / scale[:, None]).fill_diagonal_(0).abs().max()
print(f"largest correlation of two of them {correlation:.4f}")
# 400,000 random directions: chance is 1 / sqrt of that.
assert correlation < 0.01, f"correlation {correlation:.4f}, not below 0.01"
lamp = (sphere_Y[:, 1:4] @ torch.tensor([0.6, 0.0, 0.8]).double()).clamp(min=0)
for terms, expected in ((1, 0.375), (4, 0.875), (9, 0.992)):
    some = sphere_Y[:, :terms]
    fit = some @ torch.linalg.lstsq(some, lamp).solution
    share = 1 - (fit - lamp).square().mean() / lamp.square().mean()
    print(f"{terms} terms hold {share:.1%} of a lamp's energy")
    assert abs(share - expected) < 0.002, f"{share:.4f}, expected {expected} ± 0.002"

# %% [markdown]
# The first harmonic alone, a constant, holds little more than a third of a lamp. Three
# more numbers, the direction, bring this close to nine tenths. The remaining eighth is
# what the paper gives up: it is the sharp border between the lit and the dark side. For
# soft light, such as that of a window or a cloudy sky, the loss is far smaller, because
# many lamps from many directions blur this border.
#
# ## 2 The image: light times albedo
#
# Eq. (8) compares the photograph with $\rho\,\langle\vec l, Y(n)\rangle$: at each pixel,
# the albedo $\rho$ times the light that arrives there, the *shading*. The first cell of
# this chapter calculated exactly this. Signs are the usual trap, so the check looks at
# the pictures: under light from the right the right cheek must be brighter, and under
# light from above the forehead must be, although rows of a picture are counted downward.

# %% tags=["check"]
for name, l in lights.items():
    package = lighting.shade(mean_albedo, torch.tensor([l]), mean_face.normals)
    off = (package - mean_albedo * shadings[name]).abs().max()
    assert off < 1e-5, f"{name}: {off:.1e}, not below 1e-5"
cheeks = lit["from the right"][90:120]
left, right = cheeks[:, 60:85].mean(), cheeks[:, 115:140].mean()
print(f"lit from the right: left cheek {left:.2f}, right cheek {right:.2f}")
assert right > 1.5 * left, f"right {right:.2f}, not above 1.5 times {left:.2f}"
middle = lit["from above left"][:, 90:110]
above, below = middle[40:60].mean(), middle[165:170].mean()
assert above > below, f"above {above:.2f}, not more than below {below:.2f}"

# %% [markdown]
# ## 3 Eq. (11): the light
#
# If albedo and shape were known, the light would be easy. The paper simply pretends that
# they are: "[T]he global lighting can be correctly recovered by assuming the average
# facial albedo, $\hat\rho = \mu_T$, using the coarse depth map":
# $$\vec l^* = \mathrm{argmin}_{\vec l}\ \|\hat\rho\,\langle\vec l, Y(z_0)\rangle -
# I\|^2. \qquad (11)$$
# Ten thousand pixels of skin are ten thousand linear equations for four unknowns, so that
# errors of single pixels hardly count. With the rows $a = \hat\rho\,Y$ the minimum solves
# the *normal equations* $A^TA\,\vec l = A^T I$: sums over pixels, then a system of four
# equations. First we need the two photographs, as in chapter 7: detector, crop, four
# steps of CoarseNet, and the normals of its depth map.

# %%
reconstructor, crops, images, rs = Reconstructor.from_pretrained(), {}, {}, {}
for name, photo in portraits.portraits().items():
    crops[name], _ = imaging.crop(photo, detect.detect_faces(photo)[0].crop_box(), size)
    images[name] = torch.from_numpy(imaging.to_grey(crops[name]))[None, None]
    rs[name] = coarsenet.iterate(reconstructor.coarsenet, model, images[name], 4)[-1]

# %% [markdown]
# Only bare skin may vote on the light: no eyes, no mouth, and nothing above the brows,
# where hair may hang. The model knows which of its vertices belong to these parts, and
# `pixels_of` tells where they are in the picture.

# %%
regions, height = model.regions, model.mean[:, 1]
head = regions["face"] * (1 - regions["mouth_interior"])
head = head * (1 - regions["eye_left"]) * (1 - regions["eye_right"])
bare = head * (height < model.mean[model.landmarks[17:27], 1].max() + 8)


def pixels_of(part, maps):
    """Where a part of the model, a weight per vertex, is seen."""
    part = part[None, :, None]
    return rasterize.interpolate(part, maps.fragments, model.triangles) > 0.5


surfaces, normals, skin = {}, {}, {}
for name, r in rs.items():
    surfaces[name] = render.render(model, r, size)
    pixel = 1 / camera.pose_parameters(camera.split(r)[1], size).scale
    known = surfaces[name].depth, pixel, surfaces[name].mask
    normals[name] = depth.normals_from_depth(*known)
    skin[name] = pixels_of(bare, surfaces[name])

# %%
I, n_0, on_skin = images["astronaut"], normals["astronaut"], skin["astronaut"]
mu_T, A_T = sfs.albedo_maps(model, surfaces["astronaut"].fragments)
used = on_skin & (I >= 0.02) & (I <= 0.98)  # neither cast shadow nor clipped highlight
Y_0 = torch.cat([torch.ones_like(n_0[:, :1]), n_0], dim=1)  # Eq. (9)
A = (mu_T * Y_0)[0][:, used[0, 0]].T.double()  # (pixels, 4)
b = I[used].double()
l_star = torch.linalg.solve(A.T @ A, A.T @ b)  # Eq. (11)

# %% tags=["check"]
package = lighting.estimate_light(I, mu_T, n_0, on_skin)[0]
off = (package - l_star).abs().max()
print("light (ambient, right, up, front):", l_star.numpy().round(3))
print(f"{len(b):,} equations; largest difference to the package {off:.1e}")
assert off < 1e-4, f"{off:.1e}, not below 1e-4"
around = l_star[None] + 0.01 * torch.randn(200, 4, generator=dice()).double()
least = (A @ around.T - b[:, None]).square().sum(0).min()
here = (A @ l_star - b).square().sum()
assert least > here, f"around it is {least:.4f}, not above {here:.4f}"

# %% [markdown]
# Read the four numbers as a photographer would. The first one, the ambient light, is what
# the face would get in a white room. The other three are an arrow: its length says how
# strong the directed light is, its direction where it comes from. The last two lines of
# the check do what one should always do after solving for a minimum. They take two
# hundred random steps away from the solution and make sure that each of them is worse;
# a wrong sign or a forgotten factor would be found here at once.
#
# ## 4 Eqs. (10) and (12): the albedo
#
# With the light known, the albedo seems to be $\rho = I / \langle\vec l, Y\rangle$. But
# this quotient explains any image with any shape, so it explains nothing: it is the lower
# row of the drawing. The paper allows only albedos that faces have, "limiting the space
# of possible albedos to a low dimensional 3DMM texture subspace",
# $$\rho \approx T = \mu_T + A_T\alpha_T, \qquad (10)$$
# of ten coefficients. "Given the lighting coefficients, the albedo can also be easily
# recovered",
# $$\alpha_T^* = \mathrm{argmin}_{\alpha_T}\ \|(\mu_T + A_T\alpha_T)\,\langle\vec l^*,
# Y(z_0)\rangle - I\|^2. \qquad (12)$$
# That is linear again. Where the light hardly reaches, the data say little, so the
# package adds a prior: one standard deviation of a coefficient costs as much as a
# residual of 1 % (`ALBEDO_RIDGE`).

# %%
shading_star = (l_star @ Y_0[0].double().flatten(1)).view(1, 1, size, size)
B = (A_T * shading_star)[0][:, used[0, 0]].T  # (pixels, 10)
c = (I - mu_T * shading_star)[used]
prior = sfs.ALBEDO_RIDGE * len(c) * torch.eye(10)
alpha_T = torch.linalg.solve(B.T @ B + prior, B.T @ c)  # Eq. (12)
rho_T = mu_T + torch.einsum("k,bkhw->bhw", alpha_T, A_T.double())[:, None]  # Eq. (10)

# %% tags=["check"]
package = sfs.estimate_albedo(I, mu_T, A_T, l_star[None].float(), n_0, on_skin)[0]
off = (package - alpha_T).abs().max()
print("coefficients, in standard deviations:", alpha_T.numpy().round(2))
assert off < 2e-3, f"{off:.1e}, not below 2e-3"
before = (mu_T * shading_star - I)[used].square().mean().sqrt()
after = (rho_T * shading_star - I)[used].square().mean().sqrt()
print(f"residual {before:.4f} with the average albedo, {after:.4f} with this one")
assert after < before, f"{after:.4f}, not below {before:.4f}"

# %% [markdown]
# The coefficients are in standard deviations of the people from whom the model learned,
# so values between -2 and 2 are ordinary skin. Much larger ones would be a warning that
# something else was taken for skin: hair, make-up, or a shadow. Notice that the residual
# does not vanish. Ten coefficients cannot paint every pixel, and this weakness is on
# purpose: what they cannot explain is left over for the shape of chapter 6.
#
# ## 5 Figure 6
#
# We now read both photographs in three ways. *Plain*: Eqs. (11) and (12) as they stand.
# *Robust*: the same, three times more, with a smaller weight where the residual $e$ is
# large, $1 / (1 + (e/0.06)^2)$, so that hair, glasses and cast shadows count less.
# *Second order*: robust, with nine harmonics. Each row of the figure is a photograph;
# beside it are the recovered albedo, the light on a white face, and the product of both,
# which is what Eq. (8) compares with the photograph. A light is shown up to a factor: its
# median on the skin is a middle grey in every picture.

# %%
readings, explained = {}, {}
for name, image in images.items():
    known = *sfs.albedo_maps(model, surfaces[name].fragments), normals[name], skin[name]
    readings[name] = {
        "plain": sfs.estimate_shading(image, *known),
        "robust": sfs.robust_shading(image, *known),
        "second order": sfs.robust_shading(image, *known, order=2),
    }
    spread = image[skin[name]].var()
    for key, found in readings[name].items():
        residual = (found.albedo * found.shading - image)[skin[name]]
        explained[name, key] = 1 - (residual.square().median() / spread).item()
        print(name, key, f"{explained[name, key]:.0%}", found.light[0].numpy().round(1))

# %%
pictures = []
for name, image in images.items():
    of, on = readings[name], skin[name]
    shown = {key: found.shading for key, found in of.items()}
    shown = {key: 0.6 * s / s[on].median() for key, s in shown.items()}  # no white-out
    best = of["robust"]
    row = [image, best.albedo, *shown.values(), best.albedo * best.shading]
    (top, left), (bottom, right) = (f(0).tolist() for f in (
        on[0, 0].nonzero().amin, on[0, 0].nonzero().amax))  # fmt: skip
    pictures += [grey(m, on)[top:bottom, left:right] for m in row]
titles = ["photograph", "albedo (robust)", *(f"light ({key})" for key in shown)]
figure = viz.gallery(pictures, [*titles, "albedo × light"], columns=6, inches=1.6)
figure.savefig(output / "light_and_albedo.png", dpi=100)
figure

# %% tags=["check"]
for name, of in readings.items():
    least = min(explained[name, key] for key in of)
    assert least > 0.2, f"{name}: {least:.0%} explained, above 20 % expected"
    front = of["robust"].light[0, 3]  # portraits are lit from the front
    assert front > 0, f"{name}: light from the front {front:.2f}, not above 0"

# %% [markdown]
# The printed share is a robust one (the median squared residual against the variance), so
# that a strand of hair does not spoil it. Look at the albedo: it has brows, lips and
# shaded eye sockets, but not the person's freckles or glasses, for ten coefficients know
# no more. The first four numbers of the second order differ from those of the first: on
# the half of the sphere that a camera sees, $z$ and $3z^2-1$ nearly coincide, and the fit
# plays one off against the other.
#
# Look also at the third number of the astronaut's light, "up". If it is negative, Eq.
# (11) believes that she is lit from below, which no photographer would do. Her hair hangs
# into the forehead and shades it, and her cheeks and chin shine; with an average albedo,
# a dark top and a bright bottom can mean nothing else than light from below. The sum of
# squares is small, and the answer is wrong all the same. This is a good moment to ask how
# wrong such answers are in general.
#
# ## 6 How far off is it?
#
# For photographs nobody knows the truth. So we render faces whose light and albedo we
# know: random identity, expression, pose and albedo coefficients, a first-order light
# from a random side, and the image clipped to [0, 1] as a camera would. We give the
# equations the true normals and ask for the direction of the light and, up to a factor,
# for its shading.

# %%
world = synthetic.SyntheticWorld(model)
r_faces = world.sample(count, dice())
r_faces[:, 285] /= 2  # yaw: most faces within 35 degrees
faces = render.render(model, r_faces, size)
faces_mu, faces_A = sfs.albedo_maps(model, faces.fragments)
alpha = torch.randn(count, model.n_albedo, generator=dice(1))
rho = (faces_mu + torch.einsum("bk,bkhw->bhw", alpha, faces_A)[:, None]).clamp(0, 1)
where = pixels_of(bare, faces)
sideways, upward = torch.rand(2, count, generator=dice(2))
sideways, upward = 1.2 * (2 * sideways - 1), 1.2 * upward - 0.1  # radians
flat = upward.cos()
towards = [sideways.sin() * flat, upward.sin(), sideways.cos() * flat]
to_lamp = torch.stack(towards, dim=1)  # unit vectors, one for each face


def photographed(strength=0.5, ambient=0.5, albedo=rho):
    """Image and shading of the faces, lit from `to_lamp` at a first order."""
    light = torch.cat([torch.full((count, 1), ambient), strength * to_lamp], dim=1)
    shading = lighting.shade(torch.ones_like(albedo), light, faces.normals)
    return (albedo * shading).clamp(0, 1), shading


# %%
def lamp_angle(light):
    """Angles in degrees between the found and the true directions."""
    found = torch.nn.functional.normalize(light[:, 1:4], dim=1)
    return torch.acos((found * to_lamp).sum(1).clamp(-1, 1)).rad2deg()


def errors(found, shading):
    """Angle of the light, degrees; relative error of the shading up to a factor; it."""
    a, b = (torch.where(where, m, 0.0).flatten(1) for m in (found.shading, shading))
    factor = (a * b).sum(1, keepdim=True) / a.square().sum(1, keepdim=True)
    return lamp_angle(found.light), (factor * a - b).norm(dim=1) / b.norm(dim=1), factor


# %%
below_nose = regions["face"] * (height < model.mean[model.landmarks[33], 1] - 4)
beard = below_nose * (1 - regions["lips"]) * (model.mean[:, 2] > -15)
cases = {
    "as rendered": photographed(),
    "average albedo": photographed(albedo=faces_mu),
    "flat light": photographed(strength=0.1, ambient=0.9),
    "dark skin": photographed(albedo=0.25 * rho),
    "beard": photographed(albedo=torch.where(pixels_of(beard, faces), 0.4 * rho, rho)),
}
table, answers = {}, {}
for name, (image, shading) in cases.items():
    known = image, faces_mu, faces_A, faces.normals, where
    answers[name] = sfs.robust_shading(*known)
    table[name] = errors(answers[name], shading)
    values = [float(e.quantile(q)) for e in table[name][:2] for q in (0.5, 0.9)]
    print("{:15} {:4.1f}° (90 %: {:5.1f}°)  {:.1%} ({:.1%})".format(name, *values))

# %% tags=["check"]
middle = {name: [e.median().item() for e in each] for name, each in table.items()}
bounds = {"average albedo": (2, 0.02), "as rendered": (8, 0.05)}  # degrees, shading
for name, most in bounds.items():
    below = middle[name][0] < most[0] and middle[name][1] < most[1]
    assert below, f"{name}: {middle[name]}, not below {most}"
known = (middle[name][0] for name in ("as rendered", "flat light", "beard"))
first, no_side, bearded = known
assert no_side > 1.5 * first, f"flat light: {no_side:.1f}°, not above 1.5 × {first:.1f}"
assert bearded > first, f"beards: {bearded:.1f}°, not above {first:.1f}"

# %% [markdown]
# How to read the printed lines: first the angle between the found and the true direction
# of the light, its median over the faces and the value that 90 % of the faces stay below;
# then the same two values for the relative error of the shading. The direction matters
# for questions such as "where is the window?". For the detail of chapter 6 only the
# shading matters, and it may be right although the direction is not.
#
# Each row of the next figure is one face. Compare the second with the third picture, and
# the fourth with the fifth: what is wrong in the albedo is missing in the light, and the
# other way round, since their product is nearly right in any case.

# %%
pictures, titles = [], []
for name, i in (("as rendered", 2), ("flat light", 3), ("beard", 3)):
    k, (image, shading), found = table[name][2][i].item(), cases[name], answers[name]
    row = image, rho, found.albedo / k, shading / 1.2, k * found.shading / 1.2
    pictures += [grey(m[i : i + 1], where[i : i + 1]) for m in row]
    titles += [name, "true albedo", "found albedo", "true light", "found light"]
figure = viz.gallery(pictures, titles, columns=5, inches=1.8)
figure.savefig(output / "known_truth.png", dpi=100)
figure

# %% [markdown]
# When the skin is average, the light is exact; so the equation itself is right. A
# person's own albedo costs some degrees: a pale forehead looks like light from above.
# Flat light has next to no direction, so that the angle says little there, while the
# shading stays right. A beard passes for light from above.

# %% [markdown]
# The row "dark skin" deserves a sentence of its own. Its errors are counted up to a
# factor, and so they look harmless. The factor itself is wrong: Eq. (11) assumes average
# skin and finds a dim light, and then Eq. (12) finds nearly average skin. For the shape
# this does not matter, since only the product enters the criterion of chapter 6. For a
# program that reports somebody's skin color it would matter a great deal, and it would
# be wrong for the same people each time: for those who are far from the model's average.
#
# ## 7 The same image twice
#
# Two ambiguities have a name, and it is good to know them. **A factor.** $(\rho / c,
# c\,\vec l)$ gives the same image for every $c$: dark skin in bright light looks like
# bright skin in dim light. Eq. (11) decides by *assuming* the average albedo. In color,
# a factor of each channel can hide in the same way: reddish light and reddish skin cannot
# be told apart. **A bend.** Worse, even the *shape* can hide. Belhumeur, Kriegman and
# Yuille showed it for $z' = \lambda z + \mu x + \nu y$, the *generalized bas-relief*
# transformation, which flattens a face and tilts it.
#
# With the slopes $\tilde n = (-z_x, -z_y, 1)$, let
# $$G = \begin{pmatrix}\lambda & 0 & -\mu \\ 0 & \lambda & -\nu \\ 0 & 0 &
# 1\end{pmatrix}, \quad \tilde n' = G\tilde n, \quad \rho' = \rho\,\frac{|\tilde
# n'|}{|\tilde n|}, \quad \vec l' = G^{-T}\vec l.$$
# Then the image under a single lamp, $\rho\,\langle\vec l, \tilde n\rangle / |\tilde n|$,
# stays what it was, because $G^{-T}$ and $G$ cancel in the scalar product and the two
# lengths cancel in the rest. Sculptors have used this for millennia: a relief on a coin
# is a few tenths of a millimeter deep and looks like a whole head. For the pictures from
# the side, `rim.cut_mesh` leaves out what turns away from the camera, the same pixels of
# all three shapes: one pixel there is many millimeters deep.

# %%
mm = torch.tensor([camera.CROP_MM / size])
across = (torch.arange(size) - (size - 1) / 2) * mm
y, x = (a[None, None] for a in torch.meshgrid(-across, across, indexing="ij"))


def bas_relief(lamp, flatter, x_tilt, y_tilt):
    """Depth, albedo, light and normals of a face of the same image under a lamp."""
    z = flatter * mean_face.depth + x_tilt * x + y_tilt * y
    depths = mean_face.depth, z
    n, bent = (depth.normals_from_depth(d, mm, mean_face.mask) for d in depths)
    stretch = n[:, 2:] / bent[:, 2:]  # |n'| / |n|: both have n_z = 1 / length
    G = torch.tensor([[flatter, 0, -x_tilt], [0, flatter, -y_tilt], [0, 0, 1.0]])
    light = torch.cat([lamp[:1], torch.linalg.solve(G.T, lamp[1:])])[None]
    return z, mean_albedo * stretch.nan_to_num(), light, bent


# %%
of_mean_face = mean_face.depth[0, 0], mean_face.mask[0, 0]
level = rim.rim_level(*of_mean_face, torch.zeros(size, size), mm.item())
reliefs = {"a face": (1, 0, 0), "half as deep": (0.5, 0, 0), "bent": (0.8, 0.3, -0.1)}
pictures, titles, same = [], [], {}
for ambient in (0.0, 0.4):
    for name, change in reliefs.items():
        alone = torch.tensor([ambient, 0.35, 0.3, 0.9])
        z, albedo, light, n = bas_relief(alone, *change)
        same[ambient, name] = lighting.shade(albedo, light, n)
        if not ambient:
            mesh = depth.depth_to_mesh(z[0, 0], mean_face.mask[0, 0], mm.item())
            mesh = rim.cut_mesh(mesh, level)
            side = viz.mesh_normals(*(m.numpy() for m in mesh[:2]), 200, 60)
            front = grey(same[ambient, name], mean_face.mask)
            pictures += [front, grey(albedo, mean_face.mask), viz.shaded(side)]
            titles += [f"image: {name}", "albedo", "shape, from the side"]
figure = viz.gallery(pictures, titles, 3, inches=1.9)
figure.savefig(output / "bas_relief.png", dpi=100)
figure

# %% tags=["check"]
far, gap = losses.five_point_interior(mean_face.mask), {}
for (ambient, name), image in same.items():
    difference = (image - same[ambient, "a face"])[far]
    gap[ambient, name] = difference.square().mean().sqrt().item()
    print(f"ambient {ambient}: {name:13} differs by {gap[ambient, name]:.1e}")
most = max(gap[0.0, name] for name in reliefs)
assert most < 1e-5, f"three shapes, one image: {most:.1e} apart, not below 1e-5"
least = min(gap[0.4, name] for name in ("half as deep", "bent"))
assert least > 0.01, f"with ambient light {least:.3f} apart, above 0.01 expected"

# %% [markdown]
# With the lamp alone, three surfaces give one image. Two things save us. Real light has
# an ambient part, and then the images differ (the second three numbers). And the albedo
# that hides the bend must be a face's: "limiting the space of possible albedos", Eq.
# (10). How much of the disguised albedo can the model explain? The curve shows it for
# faces that are flatter or deeper than the true one.

# %%
counted = pixels_of(bare, mean_face) & losses.five_point_interior(mean_face.mask)
flatness, unlike = np.linspace(0.4, 1.8, 15), []
columns = torch.cat([mean_albedo, mean_basis], dim=1)  # a factor, ten coefficients
for flatter in flatness.tolist():
    albedo = bas_relief(torch.tensor([0.0, 0.35, 0.3, 0.9]), flatter, 0, 0)[1]
    fit = lighting.weighted_least_squares(columns, albedo, counted.float(), 1e-6)
    rest = torch.einsum("bk,bkhw->bhw", fit, columns)[:, None] - albedo
    unlike.append((rest[counted].norm() / albedo[counted].norm()).item())
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.plot(flatness, 100 * np.array(unlike), "o-")
axis.set(xlabel="depth, relative to the truth", ylabel="not a face's albedo, %", ylim=0)
figure.savefig(output / "finite_ambiguity.png", dpi=100)
plt.show()

# %% tags=["check"]
best, nearest = flatness[np.argmin(unlike)], flatness[np.abs(flatness - 1).argmin()]
assert best == nearest, f"best at a depth of {best:.1f}, expected {nearest:.1f}"
assert min(unlike) < 0.01, f"{min(unlike):.2%} is not a face's, below 1 % expected"

# %% [markdown]
# The minimum is at the truth, but it is shallow: a surface that is too flat by a fifth
# leaves only a few percent unexplained, and real skin is farther than that from ten
# coefficients (section 4). The last safeguard is the coarse shape, which comes from
# CoarseNet and not from shading. So the paper's order of work is no accident: first the
# shape as a whole, from a network that knows faces; then light and albedo, which need
# that shape; and only then the detail, which needs all three. Each step removes an
# ambiguity that the next one could not resolve.
#
# ## 8 Shadows, highlights, hair
#
# Eq. (8) is linear. It knows neither the shadow where a lamp does not reach, nor the
# value 1 above which a sensor is full. Pixels of both kinds say nothing of their normals;
# `lighting.well_exposed` leaves out those below 0.02 and above 0.98. Hair is darkness of
# another kind. We spoil the faces in three ways, and solve each in four.

# %%
cosine = torch.einsum("bk,bkhw->bhw", to_lamp, faces.normals)[:, None]
brows = faces.projected[:, model.landmarks[17:27], 1].amin(1).view(-1, 1, 1, 1)
fringe = torch.arange(size).view(1, 1, size, 1) < brows
spoilt = {
    "attached shadow": faces_mu * (0.9 * cosine).clamp(min=0),  # Lambert's lamp alone
    "overexposed": (2.2 * faces_mu * (0.5 + 0.5 * cosine)).clamp(0, 1),
    "hair": torch.where(fringe, 0.05, faces_mu * (0.5 + 0.5 * cosine)),
}
everywhere = pixels_of(head, faces)
pictures = [torch.where(everywhere, m, 1.0)[3, 0].numpy() for m in spoilt.values()]
viz.gallery(pictures, list(spoilt), columns=3, inches=2)

# %%
no_limits, angles = {"darkest": -1.0, "brightest": 9.0}, {}
for name, image in spoilt.items():
    known, n = (image, faces_mu, faces_A, faces.normals), faces.normals
    solutions = {
        "all pixels": lighting.estimate_light(
            image, faces_mu, n, everywhere, **no_limits
        ),
        "limits": lighting.estimate_light(image, faces_mu, n, everywhere),
        "robust": sfs.robust_shading(*known, everywhere).light,
        "below the brows": sfs.robust_shading(*known, where).light,
    }
    for key, light in solutions.items():
        angles[name, key] = lamp_angle(light).median().item()
    print(f"{name:15}", {key: f"{angles[name, key]:.1f}°" for key in solutions})

# %% tags=["check"]
for name in ("attached shadow", "overexposed"):
    few, every = angles[name, "limits"], angles[name, "all pixels"]
    assert few < 0.2 * every, f"{name}: {few:.1f}°, not below 0.2 of {every:.1f}"
least = min(angles["hair", k] for k in ("all pixels", "limits", "robust"))
assert least > 15, f"hair misleads by {least:.1f}°, above 15 expected"
below = angles["hair", "below the brows"]
assert below < 10, f"below the brows {below:.1f}°, not below 10"

# %% [markdown]
# Limits repair what is only shadow and saturation. Against a head of hair no weights
# help: when half of the pixels are dark, the robust fit takes the *skin* for the outlier.
# The fit must not see the hair in the first place. So the light is read below the brows,
# and the weights take care of what is left there: a strand, or a pair of glasses.
#
# There is a lesson in this beyond faces. Robust weights work as long as the outliers are
# a minority. When they are the majority, the same weights make matters worse, because
# they trust what most pixels say. No formula inside of the fit can notice that; it takes
# knowledge from outside, here the knowledge of where a face ends and hair may begin.
#
# ## 9 First or second order?
#
# A lamp has 12 % of its energy beyond the first order (section 1). Nine coefficients
# could hold that, if they can be found. We try two lights, a hard lamp with little sky
# and the soft one of section 6; and two situations, the albedo known, and found as it
# would have to be found for a photograph.

# %%
hard, ones = 0.15 + 0.85 * cosine.clamp(min=0), torch.ones_like(rho)
kinds = {"hard": (hard * rho, hard), "soft": cases["as rendered"]}
held = {}
for kind, (image, truth) in kinds.items():
    for order in (1, 2):
        known = image, faces_mu, faces_A, faces.normals, where
        found = sfs.robust_shading(*known, order=order)
        light = lighting.estimate_light(image, rho, faces.normals, where, order=order)
        shading = lighting.shade(ones, light, faces.normals)
        given = found._replace(light=light, shading=shading)
        for key, each in {"known": given, "found": found}.items():
            held[kind, key, order] = errors(each, truth)[1].median().item()

# %% tags=["check"]
for kind in kinds:
    for key in ("known", "found"):
        first, second = held[kind, key, 1], held[kind, key, 2]
        print(f"{kind} light, albedo {key}: {first:.1%}, second order {second:.1%}")
one, two = held["hard", "known", 1], held["hard", "known", 2]
assert two < 0.6 * one, f"hard, known: {two:.1%}, not below 0.6 of {one:.1%}"
one, two = held["hard", "found", 1], held["hard", "found", 2]
assert two < one, f"hard, found: {two:.1%}, not below {one:.1%}"
one, two = held["soft", "found", 1], held["soft", "found", 2]
assert two > one, f"soft, found: {two:.1%}, not above {one:.1%}"

# %% [markdown]
# Under a hard lamp the second order is worth its five unknowns. Under soft light they are
# five more ways to take skin for light. The paper stays with the first order, and so do
# we, with the second as an option (`order=2`). More parameters fit better; whether they
# *explain* better depends on what else could have caused the same pixels.
#
# ## 10 Photometric stereo: true normals of a real face
#
# Sections 6 to 9 know the truth because they rendered it. Can the true normals of a
# *real* face be known? One photograph gives each pixel one equation for three unknowns:
# the albedo and the two angles of the normal. But somebody who holds still while one lamp
# after the other flashes gives as many equations as there are lamps. The camera stands
# still, too, so a pixel always shows the same piece of skin.
#
# If the skin is matt and lamp $k$ lies in the known direction $l_k$, then
# $$I_k = \rho\,\langle n, l_k\rangle = \langle m, l_k\rangle, \qquad m = \rho\,n,$$
# which is *linear* in the vector $m$. Three lamps are enough if their directions do not
# lie in one plane; more of them make a least-squares problem of three unknowns for each
# pixel. The length of $m$ is the albedo $\rho$, and its direction is the normal $n$. This
# method is *photometric stereo* (Woodham 1980). It uses no face model, no network and no
# prior, so it may judge all three.

# %% [markdown]
# The photographs are those of the *Extended Yale Face Database B*: 38 people under 64
# lamps each, whose directions stand in the names of the files. We read the first person
# in the folder `yale_folder`, or in `yale` below the folder that the environment variable
# FACERECON_DATA names. The database is free for research, but it does not ship here and
# nothing is downloaded. Without it we photograph a *rendered* person under twenty lamps.
# He has wrinkles, a nose that casts shadows, oily skin that shines, and a camera with a
# tone curve: everything that the equation above leaves out. His true normals are known,
# so that the method itself can be judged. Every cell below runs on either person.


# %%
folder = Path(yale_folder or Path(os.environ.get("FACERECON_DATA", "."), "yale"))
real = bool(yale_folder) or folder.is_dir()
if real:
    person, true_normals = yale.read_person(yale.list_people(folder)[0]), None
else:
    person, true_normals = rendered_yale.rendered_person(world, seed + 3)
one_out = "A-035E+15"  # a lamp from the viewer's right, whose photograph is used later
near = person.directions[:, 2] > np.cos(np.radians(yale.MAX_LAMP_DEGREES))
levels, lamps = person.images[near].astype(float), person.directions[near]
print(f"{person.name}: {len(levels)} photographs of {levels.shape[1:]} pixels")

# %% [markdown]
# **Plain least squares** believes every photograph alike. All pixels share one matrix,
# whose rows are the lamps, so that a single call solves tens of thousands of problems.
# **Robust least squares** knows that the equation can fail. Where a nose shades the
# cheek, $I_k$ is almost zero whatever the normal is; where skin mirrors the lamp, $I_k$
# is far too large; a sensor that is full says 255 for anything beyond. These errors are
# not small noise around the truth, and a sum of squares follows the largest of them. So
# `photometric_stereo` leaves out levels below 6 and above 250, and weighs the others by
# $1 / (1 + (e / s)^2)$, where $e$ is the residual and $s$ grows with the pixel's usual
# one. It solves again with the new weights, twelve times in all. Most pixels keep far
# more than the three lamps that they need, so a photograph that does not fit can be given
# up without loss.

# %%
m = np.linalg.lstsq(lamps, levels.reshape(len(lamps), -1), rcond=None)[0].T
m = m.reshape(*levels.shape[1:], 3)
plain_albedo = np.linalg.norm(m, axis=-1)
plain_normals = m / np.maximum(plain_albedo, 1e-6)[..., None]
measured, bare_skin = person.measured, person.skin  # all of it robust


def misses(normals, albedo):
    """What a matt surface leaves of every photograph, in grey levels."""
    return levels - albedo * np.einsum("hwi,ki->khw", normals, lamps)


def apart(one, other):
    """Angles in degrees between two maps of normals."""
    return np.degrees(np.arccos(np.clip((one * other).sum(-1), -1, 1)))


# %% tags=["check"]
solved = {"plain": (plain_normals, plain_albedo)}
solved["robust"] = measured.normals, measured.albedo
usual, wrong_by = {}, {}
for name, solution in solved.items():
    usual[name] = np.median(np.abs(misses(*solution))[:, bare_skin])
    print(f"{name}: usual residual {usual[name]:.2f} of 255 grey levels")
    if not real:
        wrong_by[name] = apart(solution[0], true_normals)[bare_skin].mean()
        print(f"   normals off by {wrong_by[name]:.1f}° on average")
assert usual["robust"] < usual["plain"], f"{usual}: robust not below plain"
better = real or wrong_by["robust"] < 0.8 * wrong_by["plain"]
assert better, f"{wrong_by}: robust not below 0.8 of plain"

# %% [markdown]
# The residual of the plain solution is larger although plain least squares minimizes just
# that residual. This is no contradiction: it minimizes the sum of the *squares*, over
# all photographs of a pixel, and what is printed is the usual (median) residual. A few
# shadowed photographs have pulled the plain solution away from the many good ones.
#
# The residual shows where the equation fails. Below is one pixel, chosen where plain and
# robust normals differ most among well-seen skin. Each dot is a photograph: to the right
# what the robust solution predicts, upward what the camera saw. A matt surface lies on
# the dashed line. Dots at the bottom are shadows, where the prediction is positive and
# the camera sees nearly black; dots high above the line are highlights.
#
# The maps show the whole face: normals as colors ($x$ red, $y$ green, $z$ blue, as in
# chapter 3), the albedo, which holds brows, lips and spots but no shading, and the
# weighted residual, which is largest where the equation fails most often: at the edges of
# shadows, in highlights, and wherever few lamps reach.

# %%
differ = np.where(bare_skin, apart(plain_normals, measured.normals), 0)
row, column = np.unravel_index(np.argmax(differ), differ.shape)
figure, axes = plt.subplots(1, 5, figsize=(10, 2.5), layout="constrained")
predicted = measured.albedo[row, column] * lamps @ measured.normals[row, column]
axes[0].plot(predicted, levels[:, row, column], ".")
axes[0].plot([0, predicted.max()], [0, predicted.max()], "k--", lw=0.8)
axes[0].set(xlabel="predicted", ylabel="seen", title="one pixel, all lamps")
axes[1].imshow(person.image(one_out), cmap="gray")
axes[1].plot(column, row, "o", mec="red", mfc="none")
axes[2].imshow(np.where(bare_skin[..., None], 0.5 + 0.5 * measured.normals, 1.0))
axes[3].imshow(np.where(bare_skin, measured.albedo, np.nan), cmap="gray")
axes[4].imshow(np.where(bare_skin, measured.residual, np.nan), cmap="magma", vmin=0)
titles = "a photograph", "normals", "albedo", "residual"
for axis, title in zip(axes[1:], titles, strict=True):
    axis.set(title=title, xticks=[], yticks=[])
if not real:  # files of the output may be published, photographs of Yale B may not
    figure.savefig(output / "photometric_stereo.png", dpi=100)
plt.show()

# %% [markdown]
# How can such normals be trusted where no truth is known? They must predict what was not
# used. We leave one photograph out, solve again, and light the result from the direction
# of the missing lamp: $\rho\,\max(0, \langle n, l\rangle)$. The error of this picture is
# compared with that of the nearest thing without normals, the mean of all other
# photographs.
#
# Then we ask the question of section 3 with known answers. The photograph that was left
# out goes through CoarseNet, and Eq. (11) finds the light from the coarse surface and the
# average albedo. The same equation also gets the measured normals with one albedo for all
# skin, and with the measured albedo. The lamp's true direction is in the file's name, so
# the three errors tell which assumption costs what.

# %%
kept = near & (np.array(person.lights) != one_out)
apart_from_it = person.images[kept], person.directions[kept]
others = photometric_stereo.photometric_stereo(*apart_from_it)
seen, true_lamp = person.image(one_out).astype(float), yale.direction(one_out)
relit_skin = others.albedo * np.maximum(others.normals @ true_lamp, 0)
mean_skin = person.images[kept].mean(0)
mean_skin *= seen[bare_skin].mean() / mean_skin[bare_skin].mean()
wider = measured_normals.continued(person.image(one_out))  # with a wider margin
box = measured_normals.BOX if real else (97.0, 107.0, 166.0, 166.0)
coarse_face = reconstructor(wider, box=box, refine=False)
surface = measured_normals.Surface(coarse_face.normals, coarse_face.mm_per_pixel)
coarse_normals = measured_normals.cut(surface).normals
common_skin = bare_skin & np.isfinite(coarse_normals[..., 0])

# %% tags=["check"]
wrong = [np.median(np.abs(m - seen)[bare_skin]) for m in (relit_skin, mean_skin)]
print(
    f"unseen photograph: off by {wrong[0]:.1f} grey levels, its mean by {wrong[1]:.1f}"
)
assert wrong[0] < 0.7 * wrong[1], f"{wrong[0]:.1f}, not below 0.7 of {wrong[1]:.1f}"
miss = apart(coarse_normals, measured.normals)[common_skin].mean()
print(f"coarse normals are off by {miss:.1f}°")
assert 0 < miss < 40, f"CoarseNet's surface is off by {miss:.1f}°, 0 to 40 expected"

# %%
I_s, where_s = (torch.from_numpy(m)[None, None] for m in (seen / 255, common_skin))
n_s = torch.from_numpy(measured.normals).permute(2, 0, 1)[None].double()
albedos = {"even": torch.ones_like(I_s)}
albedos["measured"] = torch.from_numpy(measured.albedo).double()[None, None] / 255
lamp_found = {"coarse face, average albedo": toward_light(coarse_face, model)}
for name, albedo in albedos.items():
    found = lighting.estimate_light(I_s, albedo, n_s, where_s)[0, 1:4]
    lamp_found[f"measured normals, {name} albedo"] = (found / found.norm()).numpy()

# %% tags=["check"]
aside = {}
for name, toward in lamp_found.items():
    aside[name] = np.degrees(np.arccos(np.clip(toward @ true_lamp, -1, 1)))
    print(f"{name:34} light off by {aside[name]:4.1f}°")
best, worst = aside["measured normals, measured albedo"], max(aside.values())
assert best <= min(worst, 12), f"{best:.1f}°, not below 12 and the worst {worst:.1f}"

# %%
maps_of = measured.normals, np.where(common_skin[..., None], coarse_normals, np.nan)
clays = [viz.shaded(np.where(bare_skin[..., None], n, np.nan)) for n in maps_of]
colors = [np.nan_to_num(0.5 + 0.5 * n, nan=1.0) for n in maps_of]
colors = [np.where(bare_skin[..., None], n, 1.0) for n in colors]
titles = ["left out", "predicted", "measured, as clay", "CoarseNet, as clay"]
shown = [seen / 255, relit_skin / 255, *clays, *colors]
figure = viz.gallery(shown, [*titles, "measured", "CoarseNet"], columns=6, inches=1.6)
if not real:
    figure.savefig(output / "measured_normals.png", dpi=100)
figure

# %% [markdown]
# With the right shape and the right albedo, Eq. (11) finds the lamp; so the equation is
# sound, and what it is given limits it. Compare the two clay pictures. The measured one
# shows lids, folds beside the nose and the skin's own unevenness; the coarse one is the
# smooth face of a model with few coefficients. The mean angle between the two is printed
# above, and a detail stage has to bring it down. This is the measure of `facerecon
# evaluate yale` (`docs/evaluation.md`), and chapter 6 uses it to ask which of two detail
# stages is nearer to real people.
#
# A second look at the three printed angles is worth the time. The step from the first to
# the second is the price of the coarse shape and of the average skin; the step from the
# second to the third is the price of assuming one albedo for brows, lips and cheeks. If
# you had to improve only one of the two, these numbers tell which.
#
# %% [markdown]
# The measure has limits of its own. Skin is not quite matt, light bounces between nose
# and cheek, lids twitch between two flashes, and brows, beards and nostrils are left out.
# The predicted picture lacks the shadow that a nose casts, because normals alone do not
# know what stands in the light's way.
#
# ## 11 Light it anew
#
# Once $\vec l$ is known, we may replace it. `Relighter` multiplies the photograph by the
# ratio of new and old shading, which keeps each hair and pore (Shashua and Riklin-Raviv
# call the idea a *quotient image*); beyond the face the ratio fades out. Or it shows the
# recovered albedo under the new light, Eq. (8). Move the sliders; the ball in the corner
# shows the light. This needs a running kernel; below is the same as a picture.
#
# Things to try: turn the light to the side until one half of the face is dark, and watch
# the nose, which throws no shadow, because Eq. (8) knows none. Set the ambient light to
# zero and look for the border between light and dark; on a real face under one lamp it
# is sharper. Switch to "light alone" and see how smooth the coarse face is. In the view
# of the photograph, wrinkles stay where they are but do not change with the light: they
# are part of the picture and not of the coarse shape. Chapter 6 gives the surface these
# wrinkles; light on its normals would move them, too.

# %%
relighters = {}
for name, each in surfaces.items():
    found, maps_of = readings[name]["robust"], sfs.albedo_maps(model, each.fragments)
    whole = torch.einsum("bk,bkhw->bhw", found.albedo_coefficients, maps_of[1])[:, None]
    whole = (maps_of[0] + whole).clamp(0, 1)  # of eyes and hair, too
    found = found._replace(albedo=whole)
    relighters[name] = Relighter(crops[name], each.normals, each.mask, found)
relighters["astronaut"].live()

# %%
pictures, titles = [], []
settings = {"own light": {}, "from the right": {"right °": 70, "strength": 0.9}}
settings |= {"from below": {"right °": 0, "above °": -60, "strength": 1.0}}
for relighter in relighters.values():
    chosen = relighter.view.value
    for view in ("photograph", "albedo × light"):
        relighter.view.value = view
        for name, sliders in settings.items():
            relighter.reset()
            for slider, value in sliders.items():
                relighter.sliders[slider].value = value
            pictures.append(relighter.picture())
            titles.append(name if view == "photograph" else f"albedo, {name}")
    relighter.reset()
    relighter.view.value = chosen
figure = viz.gallery(pictures, titles, columns=6, inches=1.6)
figure.savefig(output / "relit.jpg", dpi=100, pil_kwargs={"quality": 80})
figure

# %% tags=["check"]
for name, relighter in relighters.items():
    chosen, relighter.view.value = relighter.view.value, "photograph"
    relighter.reset()
    off = np.abs(relighter.picture() - crops[name])[
        :150, :150
    ].mean()  # without the ball
    print(f"{name} in its own light differs by {off:.4f}")
    assert off < 0.01, f"{off:.4f}, not below 0.01"
    relighter.sliders["right °"].value = 70
    ratio = relighter.picture().mean(2) / crops[name].mean(2).clip(0.05)
    right, left = ratio[90:130, 120:140].mean(), ratio[90:130, 60:80].mean()
    assert right > left, f"brighter by {right:.2f} on the right, not above {left:.2f}"
    relighter.reset()
    relighter.view.value = chosen

# %% [markdown]
# ## Exercises
#
# A check says what is wrong with your answer and gives a hint; `exercise.hint()` gives
# the next one. Nothing here needs the cells above, only the imports.
#
# **5.1** A far lamp of strength 1 in direction $\omega$ gives $\max(0, \langle\omega,
# n\rangle)$. Which first-order light comes nearest, over the whole sphere? *Fifteen
# minutes, with paper.*


# %% tags=["exercise"]
def lamp_coefficients(omega):
    """The four coefficients of a lamp in direction omega, (3,), a unit vector."""
    ### BEGIN SOLUTION
    return np.concatenate([[1 / 4], np.asarray(omega) / 2])
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(0)
n_all = rng.normal(size=(100_000, 3))
n_all /= np.linalg.norm(n_all, axis=1, keepdims=True)
exercise = Exercise(
    "5.1",
    "The four functions are independent of each other, so each has its own equation.",
    "The first one is the mean of the lamp: what is the mean of max(0, c), with c even "
    "between -1 and 1?",
    "The mean of the square of one component of n is a third.",
)
for omega in ([0.0, 0.0, 1.0], [0.6, -0.8, 0.0]):
    rows = np.column_stack([np.ones(len(n_all)), n_all])
    expected = np.linalg.lstsq(rows, np.maximum(0, n_all @ omega), rcond=None)[0]
    mistakes = {"the dark half of the sphere counts in the mean.": [0.5, *expected[1:]]}
    text = "you projected a lamp that gives negative light behind."
    mistakes[text] = np.array([expected[0], *(2 * expected[1:])])
    answer = lambda: lamp_coefficients(omega)  # noqa: E731
    exercise.equal("the light", answer, expected, mistakes=mistakes, atol=0.01, rtol=0)
exercise.passed("a lamp always has half as much ambient light as directed light.")

# %% [markdown]
# **5.2** Eq. (11) with weights: pixels with a weight of 0 do not count, those of 1/2
# count half. Minimize $\sum w\,(\rho\langle\vec l, Y\rangle - I)^2$ over pixels, given as
# flat arrays. *Fifteen minutes.*


# %% tags=["exercise"]
def weighted_light(intensity, albedo, normals, weight):
    """The light (4,), from arrays (N,), (N,), (N, 3) and (N,)."""
    ### BEGIN SOLUTION
    rows = albedo[:, None] * np.column_stack([np.ones(len(normals)), normals])
    gram = rows.T @ (weight[:, None] * rows)
    return np.linalg.solve(gram, rows.T @ (weight * intensity))
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(1)
n_500 = rng.normal(size=(500, 3))
n_500 /= np.linalg.norm(n_500, axis=1, keepdims=True)
Y_500 = np.column_stack([np.ones(500), n_500])
rho_500, w_500 = rng.uniform(0.2, 0.7, 500), rng.uniform(0, 1, 500)
I_500 = rho_500 * (Y_500 @ [0.5, 0.2, -0.1, 0.4]) + 0.05 * rng.normal(size=500)
w_500[:100], I_500[:100] = 0, 1.0  # saturated, and without a say


def least_squares(rows, root):
    return np.linalg.lstsq(rows * root[:, None], I_500 * root, rcond=None)[0]


rows, root = rho_500[:, None] * Y_500, np.sqrt(w_500)
right_only = np.linalg.solve(rows.T @ rows, rows.T @ (w_500 * I_500))
left_only = np.linalg.solve(rows.T @ (w_500[:, None] * rows), rows.T @ I_500)
mistakes = {
    "the weights are squared: each squared residual gets w once.": (rows, w_500),
    "the weights are not used.": (rows, np.ones(500)),
    "the albedo is not used: a row is the albedo times Y.": (Y_500, root),
}
mistakes = {text: least_squares(*known) for text, known in mistakes.items()}
mistakes["the weights are missing in the matrix."] = right_only
mistakes["the weights are missing on the right side."] = left_only
exercise = Exercise(
    "5.2",
    "Set the gradient of the sum to zero; the weight stays in every term.",
    "Multiplying each row and each intensity by the root of its weight does the same.",
)
answer = lambda: weighted_light(I_500, rho_500, n_500, w_500)  # noqa: E731
exercise.equal("the light", answer, least_squares(rows, root), mistakes=mistakes)
exercise.passed("the robust fit of section 5 is this, with weights from the residuals.")

# %% [markdown]
# **5.3** The bas-relief of section 7 for one pixel: from its slopes $(z_x, z_y)$, albedo
# and lamp (3,), with $z' = \lambda z + \mu x + \nu y$, return slopes, albedo and lamp of
# the other surface with the same image. *Fifteen minutes.*


# %% tags=["exercise"]
def other_surface(slopes, albedo, lamp, flatter, mu, nu):
    """Slopes (2,), albedo and lamp (3,) after the transformation."""
    ### BEGIN SOLUTION
    bent = flatter * np.asarray(slopes) + [mu, nu]
    stretch = np.sqrt((1 + bent @ bent) / (1 + np.dot(slopes, slopes)))
    G = np.array([[flatter, 0, -mu], [0, flatter, -nu], [0, 0, 1]])
    return bent, albedo * stretch, np.linalg.solve(G.T, lamp)
    ### END SOLUTION


# %% tags=["check"]
rng, lamp_s = np.random.default_rng(2), np.array([0.2, 0.3, 0.9])
pixels = rng.normal(size=(6, 2))
bent_pixels = 0.7 * pixels + [0.2, -0.1]


def leaning(slopes):
    """(-z_x, -z_y, 1) of each pixel, and its length."""
    n = np.column_stack([-slopes, np.ones(len(slopes))])
    return n, np.linalg.norm(n, axis=1)


(n_before, long), (n_after, longer) = leaning(pixels), leaning(bent_pixels)
albedo_s = 0.5 * longer / long
image_s = 0.5 * (n_before @ lamp_s) / long  # by the lamp of before
per_lamp = albedo_s[:, None] * n_after / longer[:, None]
turned_s = np.linalg.lstsq(per_lamp, image_s, rcond=None)[0]  # the lamp that gives it
G_s = np.array([[0.7, 0, -0.2], [0, 0.7, 0.1], [0, 0, 1]])


exercise = Exercise(
    "5.3",
    "First differentiate z' by x and by y.",
    "The image must not change: which lengths enter Lambert's law on either side?",
    "The lamp is the same for all pixels, and its scalar product with n must not change.",
)
for slopes_s, bent_s, rho_s in zip(pixels, bent_pixels, albedo_s, strict=True):
    given_s = slopes_s, 0.5, lamp_s, 0.7, 0.2, -0.1
    named = [lambda k=k: other_surface(*given_s)[k] for k in range(3)]
    text = "they are scaled and tilted; you did one of the two."
    mistakes = {text: 0.7 * slopes_s}
    exercise.equal("the slopes", named[0], bent_s, mistakes=mistakes)
    mistakes = {"a steeper patch gets less light and needs a larger albedo.": 0.5}
    mistakes["your factor is upside down."] = 0.25 / rho_s
    exercise.equal("the albedo", named[1], rho_s, mistakes=mistakes)
    mistakes = {"you turned the lamp like the normals.": G_s @ lamp_s}
    mistakes["you inverted G, but did not transpose it."] = np.linalg.solve(G_s, lamp_s)
    exercise.equal("the lamp", named[2], turned_s, mistakes=mistakes)
exercise.passed("six pixels, two surfaces, one picture.")

# %% [markdown]
# **5.4** Photometric stereo for one pixel (section 10), with weights: from intensities
# (K,), directions of the lamps (K, 3) and weights (K,), return the unit normal and the
# albedo. A weight of 0 leaves a shadowed photograph out, and one of 1/2 counts half.
# Three photographs with a weight are enough, but their lamps must not lie in a plane.
# *Ten minutes.*


# %% tags=["exercise"]
def normal_and_albedo(intensity, lamps, weight):
    """Unit normal (3,) and albedo, by weighted least squares."""
    ### BEGIN SOLUTION
    gram = lamps.T @ (weight[:, None] * lamps)
    scaled = np.linalg.solve(gram, lamps.T @ (weight * intensity))
    albedo = np.linalg.norm(scaled)
    return scaled / albedo, albedo
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(3)
lamps_s = rng.normal(size=(12, 3)) * [0.5, 0.5, 0.1] + [0, 0, 1]
lamps_s /= np.linalg.norm(lamps_s, axis=1, keepdims=True)
n_true, w_s = np.array([0.36, -0.48, 0.8]), rng.uniform(0.5, 1, 12)
clean_s = 0.6 * lamps_s @ n_true
clean_s[:3], w_s[:3] = 0, 0  # in shadow, and without a say
noisy_s = clean_s + 0.05 * rng.normal(size=12)  # now the other weights count, too


def solved_with(levels, root):
    return np.linalg.lstsq(root[:, None] * lamps_s, root * levels, rcond=None)[0]


exercise = Exercise(
    "5.4",
    "Solve for the product of albedo and normal first; it is linear.",
    "The length of this vector is the albedo; what is left has length 1.",
)
for levels_s in (clean_s, noisy_s):
    m_s, unweighted = (
        solved_with(levels_s, np.sqrt(w_s)),
        solved_with(levels_s, w_s > -1),
    )
    length = np.linalg.norm(m_s)
    given_s = levels_s, lamps_s, w_s
    named = [lambda k=k: normal_and_albedo(*given_s)[k] for k in range(2)]
    mistakes = {"it is not of length 1: it still holds the albedo.": m_s}
    text = "the weights are not used: photographs in shadow have a say."
    mistakes[text] = unweighted / np.linalg.norm(unweighted)
    exercise.equal("the normal", named[0], m_s / length, mistakes=mistakes)
    exercise.equal("the albedo", named[1], length)
exercise.passed("with such weights for each pixel, section 10 measured a whole face.")

# %% [markdown]
# ## What we did not reproduce
#
# - **Figure 6's people.** The paper shows other photographs; its albedo space is that
#   of a scanned model, and ours was learned from open data (`facerecon info` and the
#   model's card name them).
# - **Shadows as light.** The paper says nothing of cast shadows, clipped pixels or
#   hair. The limits, the robust weights and the prior are ours.
# - **Color.** Like the paper we use intensities; photographs are not linearized.
# - **Photometric stereo** is not in the paper, which shows its light and albedo without
#   a truth to hold them against.

# %% [markdown]
# ## Summary
#
# 1. A matt face under far light is nearly a sum of four known pictures, weighed by the
#    four coefficients of the light.
# 2. Light and albedo enter as a product. Eq. (11) fixes the light by assuming an average
#    albedo, and Eq. (12) then allows only albedos that faces have.
# 3. Hair, beards, shadows and highlights break the equations; the first two have to be
#    kept away from them, the others can be recognized by their values.
# 4. Under a single lamp even the shape is ambiguous; ambient light and knowledge of
#    faces decide.
# 5. Many lamps measure normals without any assumption on faces, and so they can judge
#    what was estimated from one photograph.
#
# ## Review questions
#
# 1. Why is the set of all images of a matt face under all far lights nearly a plane of
#    nine dimensions? What would mirror-like skin change?
# 2. Which of the four coefficients can a photograph of a flat wall determine?
# 3. Why solve for light first and albedo then, and not for both at once?
# 4. A person with dark skin: what do Eqs. (11) and (12) return, and is Eq. (8) wrong?
# 5. Why does the bas-relief ambiguity need $l_0 = 0$?
# 6. Which pixels should not vote on the light, and how would you notice them?
# 7. Where does a beard go: into $\vec l$, $\rho$ or the residual?
# 8. Why can lamps whose directions lie in one plane not tell a normal?

# %% tags=["record"]
measured_on = "rendered faces; two portraits"
coarse_file = weights.shipped("coarsenet.safetensors")
record = repro.Recorder(output, preset, seed, weights=[coarse_file], data=measured_on)
record("faces", count)
for name, (angle, shading_error, factor) in table.items():
    record(f"{name}/light_angle_deg_median", round(angle.median().item(), 2))
    record(f"{name}/light_angle_deg_90", round(angle.quantile(0.9).item(), 2))
    record(f"{name}/shading_error_median", round(shading_error.median().item(), 4))
    record(f"{name}/factor_median", round(factor.median().item(), 3))
rest = {f"bas_relief/ambient_{a}/{k}": value for (a, k), value in gap.items()}
rest |= {f"spoilt/{k}/{way}/angle_deg": value for (k, way), value in angles.items()}
for (kind, key, order), value in held.items():
    rest[f"{kind}/albedo_{key}/order_{order}/shading_error"] = value
for name, value in rest.items():
    record(name, float(f"{value:.4g}"))
print(f"{len(record.values)} numbers are in {record.path}")
repro.judge_item("lighting_and_albedo", output)

# %% [markdown]
# ## Further reading
#
# - R. Basri, D. Jacobs. [*Lambertian reflectance and linear
#   subspaces.*](https://doi.org/10.1109/TPAMI.2003.1177153) PAMI 2003: why nine numbers
#   are enough.
# - R. Ramamoorthi, P. Hanrahan. [*An efficient representation for irradiance environment
#   maps.*](https://doi.org/10.1145/383259.383317) SIGGRAPH 2001: the same for renderers.
# - I. Kemelmacher-Shlizerman, R. Basri. [*3D face reconstruction from a single image
#   using a single reference face shape.*](https://doi.org/10.1109/TPAMI.2010.63) PAMI
#   2011: Eqs. (11) and (12) come from there.
# - P. Belhumeur, D. Kriegman, A. Yuille. *The bas-relief ambiguity.* IJCV 1999.
# - A. Shashua, T. Riklin-Raviv. [*The quotient
#   image.*](https://doi.org/10.1109/34.908964) PAMI 2001: relighting by ratios.
# - R. Woodham. [*Photometric method for determining surface orientation from multiple
#   images.*](https://doi.org/10.1117/12.7972479) Optical Engineering 1980.
# - A. Georghiades, P. Belhumeur, D. Kriegman. [*From few to
#   many.*](https://doi.org/10.1109/34.927464) PAMI 2001; K.-C. Lee, J. Ho, D. Kriegman.
#   [*Acquiring linear subspaces.*](https://doi.org/10.1109/TPAMI.2005.92) PAMI 2005:
#   Extended Yale B.
