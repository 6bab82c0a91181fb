# %% [markdown]
# # FineNet, and learning from rendered normals
#
# A morphable model has a few hundred numbers for a face, and none of them is a wrinkle.
# Whoever wants the wrinkles has to read them off the photograph, pixel by pixel. The
# paper trains a network for that, *FineNet*, without ever showing it a true surface: the
# network's surface only has to explain the photograph. That works where the photograph
# can be explained by shape alone, and fails where a dark spot is just a dark spot. The
# second half of the chapter therefore teaches another network with rendered faces, whose
# true normals are known, and compares the two on real people.
#
# **What you will be able to do.** Take a hypercolumn apart. Explain what each term of the
# criterion does, and why the criterion is not enough on real skin. Train a small FineNet
# and a small NormalNet. Turn normals into depth.
#
# **Before you start.** You need convolutions, gradient descent and least squares, depth
# maps ([chapter 4](04_differentiable_rendering.ipynb)), and light and albedo ([chapter
# 5](05_lighting_and_albedo.ipynb)). Reading takes 50 minutes, working through it with the
# exercises 100 to 120. The cells need about 90 seconds on two CPU cores (`full`: twenty
# minutes). Nothing is downloaded. Run all cells once from the top; after that you may run
# each of them again in any order.
#
# **In the paper.** Sections 4.2 and 4.3; Eqs. (8), (13) and (14); Figure 3. Sections 10
# to 16 are ours. *Data:* two public-domain portraits that come with scikit-image and
# matplotlib; if you have it, Extended Yale B.

# %% tags=["parameters"]
preset = "quick"  # "full": longer optimization and training
seed = 0  # of the synthetic faces and of the small network's first weights
output_dir = "runs/finenet"  # where figures and result.json go
fine_weights = ""  # file of FineNet weights instead of those that ship
yale_folder = ""  # of CroppedYale's people; "": yale in the folder FACERECON_DATA names

# %% tags=["imports"]
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from facerecon import Reconstructor, camera, coarsenet, depth, finenet, imaging
from facerecon import integration, lighting, losses, normalnet, rasterize, render
from facerecon import repro, sfs, shading_refinement, weights as weight_files
from facerecon.appearance import estimate_light_and_albedo, model_maps, shading_target
from facerecon.course import Exercise
from facerecon.detection import detect
from facerecon.evaluation import detail, detail_report, measured_normals, yale
from facerecon.evaluation.yale_methods import yale_methods
from facerecon.synthetic import studio, world as synthetic
from facerecon.synthetic.detail import detail_config
from facerecon.training import presets
from facerecon.views import concepts, portraits, viz
import torch  # after facerecon, which tells its threads how to wait
import torch.nn.functional as F

# %%
torch.set_grad_enabled(False)
used_weights = Path(fine_weights or weight_files.shipped("finenet.safetensors"))
reconstructor = Reconstructor.from_pretrained(fine=used_weights, refine="finenet")
model, network, size = reconstructor.model, reconstructor.finenet, 200
settings = presets.FineTraining()  # weights of Eq. (14); what the paper leaves open
steps = {"quick": 100, "full": 1000}[preset]  # of every optimization
output = repro.start(output_dir)


# %%
def dice():
    """Random numbers that are the same whenever a cell is run."""
    return torch.Generator().manual_seed(seed)


def lit(n, mask):
    """Normals (1, 3, H, W) as a shaded grey surface, white outside of the mask."""
    return viz.shaded(torch.where(mask, n, torch.nan)[0].permute(1, 2, 0).numpy())


def clay(z, mm_per_pixel, mask):
    """A depth map in the same way."""
    return lit(depth.normals_from_depth(z, mm_per_pixel, mask), mask)


# %% [markdown]
# ## First, the phenomenon
#
# On the left are two photographs. Beside each
# of them is the coarse face that CoarseNet finds (chapter 3), shown as grey clay. It
# has the right proportions, and it is smooth: a morphable model of a few hundred
# numbers holds no wrinkle. The next two pictures add detail to the same coarse face.
# The first is FineNet, which the paper describes; the second is the stage that this
# package uses by default. There is no true surface for these people, so look with care.
# Is a line of the relief also a line of the photograph? Is it a crease of the skin, or
# only a strand of hair, the frame of a pair of glasses, or a shadow?

# %%
photos, pictures = portraits.portraits(), []
ours = Reconstructor.from_pretrained(refine="normals")
for photo in photos.values():
    papers_face, our_face = reconstructor(photo), ours(photo)
    crop, pixel_mm = papers_face.crop, papers_face.mm_per_pixel
    meshes = [(papers_face.coarse_vertices, papers_face.coarse_faces)]
    meshes += [(each.vertices, each.faces) for each in (papers_face, our_face)]
    pictures.append(crop.at(400).cut(papers_face.image).clip(0, 1))
    for mesh in meshes:  # as large as in the photograph
        normals = viz.mesh_normals(*mesh, 400, width_mm=crop.side * pixel_mm)
        pictures.append(viz.shaded(normals))
titles = ["photograph", "coarse", "FineNet, the paper's", "normals, ours"]
figure = viz.gallery(pictures, titles, columns=4, inches=2.2)
figure.savefig(output / "stages.png", dpi=100)
figure

# %% [markdown]
# A surface with more relief looks more convincing, whether it is right or wrong. That
# is the difficulty of this chapter, and it is why every section ends with a number.
# Sections 1 to 9 take the paper's stage apart. Section 10 shows where its criterion
# must fail, and sections 11 to 16 build the other stage and measure both. The drawing
# shows the two ways. Black arrows are what happens when a photograph is reconstructed;
# red arrows are needed only while the network is trained.

# %%
concepts.two_detail_stages()

# %% [markdown]
# **Notation.**
#
# | symbol | meaning | unit |
# |---|---|---|
# | $I$ | grey photograph, a crop of 200 × 200 pixels | 0 to 1 |
# | $z_0$, $\hat z$ | coarse depth; detailed depth, the network's answer | mm |
# | $n$; $p$, $q$ | unit normal; slopes of the depth to the right and up | none |
# | $\rho$, $\vec l$, $Y$ | albedo, light, harmonics of the normal (chapter 5) | none |
# | $E_{sh}$, $E_f$, $E_{sm}$ | shading, fidelity and smoothness terms | section 4 |
# | $\lambda$ | weight of a term | none |
# | $\sigma$ | error of a normal that the network expects | radians |
#
# Both stages start from the same things, as in chapters 5 and 7: a crop of the
# photograph, four steps of CoarseNet, its depth map, and the light and the albedo that
# explain the crop. The cell prepares them for both portraits.

# %%
images, maps, rs = {}, {}, {}
for name, photo in photos.items():
    crop, _ = imaging.crop(photo, detect.detect_faces(photo)[0].crop_box(), size)
    images[name] = torch.from_numpy(imaging.to_grey(crop))[None, None]
    rs[name] = coarsenet.iterate(reconstructor.coarsenet, model, images[name], 4)[-1]
    maps[name] = model_maps(model, rs[name], size)

# %% [markdown]
# ## 1 The hypercolumn
#
# To decide whether a dark line is a wrinkle, a network needs to see the line sharply
# *and* to know where on the face it lies. Early layers of a network see sharply, late
# layers know the place. The paper uses both at once: "The main idea behind this
# architecture is to generate a per-pixel feature map which incorporates both structural
# and semantic data. This is achieved by concatenating the output responses from several
# convolution layers along the path of the network." The stack of all responses above
# one pixel is its *hypercolumn* (Hariharan et al.).
#
# The path is that of VGG-Face, truncated "before the third pooling layer". Two channels
# go in, grey and depth. The maps of the second and third block are half and a quarter
# as wide, because each block begins by halving its input; "cascaded 2-strided 2×2
# up-convolution layers" bring them back to full width. Per pixel that makes 2 inputs +
# 64 + 128 + 256 = 450 channels, the paper's "200 × 200 × 450". The network that ships
# is narrower, since it had to be trained on a processor: `config.width` says how wide.
# The cell below is the whole forward pass, layer by layer.

# %%
I, face = images["grace_hopper"], maps["grace_hopper"]
level = face.depth[face.mask].mean()
relief = (face.depth - level) / (finenet.DEPTH_STD * face.mm_per_pixel)
relief = torch.where(face.mask, relief, 0.0)  # in units of 20 pixels
inputs = torch.cat([(I - finenet.GREY_MEAN) / finenet.GREY_STD, relief], dim=1)
relu, halve = torch.relu, F.max_pool2d
net = network
block1 = relu(net.conv1_2(relu(net.conv1_1(inputs))))
block2 = relu(net.conv2_2(relu(net.conv2_1(halve(block1, 2)))))
block3 = relu(net.conv3_2(relu(net.conv3_1(halve(block2, 2)))))
block3 = relu(net.conv3_3(block3))
up2, up3 = net.up2(block2), net.up3_2(net.up3_1(block3))
column = torch.cat([inputs, block1, up2, up3], dim=1)
hidden = relu(net.regress2(relu(net.regress1(column))))
by_hand = face.depth + net.regress3(hidden) * face.mm_per_pixel  # pixels to mm
detailed = net(I, face.depth, face.mask, face.mm_per_pixel)  # the same by the package

# %% tags=["check"]
in_package = net.hypercolumn(inputs)
print("hypercolumn", tuple(column.shape), "from", tuple(block2.shape), "and others")
channels = 2 + 7 * net.config.width
assert column.shape[1] == channels, f"{column.shape[1]} channels, expected {channels}"
off = (column - in_package).abs().max() / in_package.abs().max()
assert off < 1e-5, f"off by {off:.1e} of the largest value, not below 1e-5"
off = (by_hand - detailed)[face.mask].abs().max()
print(f"FineNet by hand: largest difference {off:.1e} mm")
assert off < 1e-3, f"{off:.1e} mm, not below 1e-3"

# %% [markdown]
# The figure shows, for each scale, the six channels that vary most over the face. At
# full resolution they mark edges and strands; at a half, folds and features; at a
# quarter, parts of a face. The third row looks blocky because it has been brought up by
# two learned up-convolutions, which are the subject of the next section.

# %%
pictures, titles = [], []
scales = {"block 1": block1, "block 2, brought up": up2, "block 3, brought up": up3}
for name, features in scales.items():
    inside_face = features[0][:, face.mask[0, 0]]
    titles += [name, *5 * [""]]
    for k in inside_face.std(dim=1).argsort(descending=True)[:6].tolist():
        low, high = inside_face[k].quantile(torch.tensor([0.02, 0.98]))
        channel = ((features[0, k] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        pictures.append(torch.where(face.mask[0, 0], channel, 1.0).numpy())
figure = viz.gallery(pictures, titles, columns=6, inches=1.5)
figure.savefig(output / "hypercolumn.png", dpi=100)
figure

# %% [markdown]
# ## 2 Up-convolutions
#
# A 2 × 2 up-convolution of stride 2 turns each pixel into a block of four,
# $y_{2i+k,2j+l} = W_{kl}\,x_{ij}$, with one matrix $W_{kl}$ per place in the block.
# Unlike bilinear interpolation, "the interpolation is now also part of the learning
# process". It has one well-known fault. If the four matrices differ at random, then
# every block shows the same pattern, and the picture is covered by a *checkerboard*
# (Odena et al. show many). Our weights start as four identities, which only repeat each
# pixel, so that a pattern appears only where learning wants one. The cell measures the
# share of the variance that repeats in each block. (Exercise 6.1 writes the layer.)


# %%
def checkerboard(y):
    """Share of the variance that repeats in each block of four pixels."""
    phases = [y[..., k::2, l::2].mean(dim=(2, 3)) for k in range(2) for l in range(2)]
    share = torch.stack(phases).var(0) / y.var(dim=(2, 3)).clamp(min=1e-9)
    return share.mean().item()


# %% tags=["check"]
W = net.up2.weight  # (in, out, 2, 2)
start = torch.randn(W.shape, generator=dice()) / W.shape[0] ** 0.5
boards = {"random start": checkerboard(F.conv_transpose2d(block2, start, stride=2))}
boards["identities"] = checkerboard(F.interpolate(block2, scale_factor=2))
boards["learned"] = checkerboard(up2)
added = torch.where(face.mask, detailed - face.depth, 0.0)
boards["FineNet's answer"] = checkerboard(added)
for name, share in boards.items():
    print(f"{name:18} {share:.5f}")
random, none, learned, last = boards.values()
assert none < 1e-6, f"identities: {none:.1e}, not below 1e-6"
assert 1e-6 < learned < 0.5 * random, f"learned {learned:.4f}, random {random:.4f}"
assert last < 2e-3, f"FineNet's answer: {last:.1e}, not below 2e-3"

# %% [markdown]
# ## 3 Fold it
#
# A hypercolumn of 450 channels at every pixel is large, and most of the work is
# avoidable. The up-convolutions and the first 1 × 1 convolution of the regressor are
# linear, and there is nothing between them. So their product can be applied to each
# scale *before* it grows: of the 256 channels at a quarter of the size, only what the
# regressor makes of them is brought up, and the 450 channels never exist. The result is
# the same function of the same parameters (`FineNet(folded=True)`, the default), with
# a fraction of the arithmetic and of the memory. The cell compares answers and times.

# %% tags=["check"]
seconds = {}
for side in (200, 400):
    big = [F.interpolate(m.float(), (side, side)) for m in (I, face.depth, face.mask)]
    known = big[0], big[1], big[2] > 0.5, face.mm_per_pixel * size / side
    results = {}
    for net.folded in (False, True):
        net(*known)  # the first call allocates
        start = time.perf_counter()
        results[net.folded] = net(*known)
        seconds[side, net.folded] = time.perf_counter() - start
    off = (results[True] - results[False]).abs().max()
    print(side, "px, unfolded and folded:", f"difference {off:.1e} mm;", end=" ")
    print(", ".join(f"{seconds[side, folded]:.2f} s" for folded in (False, True)))
    assert off < 1e-3, f"{off:.1e} mm, not below 1e-3"

# %% [markdown]
# Folding is worth knowing beyond this network. Whenever two linear layers follow each
# other without a nonlinearity, they are one linear layer, and one may choose the order
# in which they are applied. Enlarging commutes with a 1 × 1 convolution, so it pays to
# shrink the number of channels first and to enlarge afterwards. The larger the map, the
# more it saves, as the two lines printed above show for 200 and for 400 pixels.
#
# ## 4 The criterion and its units
#
# How can a network learn a surface that nobody has measured? The paper's idea is to ask
# for consistency instead of for the truth. Chapter 5 found light and albedo. With them
# one can render the network's surface and compare the result with the photograph; "we
# can calculate $E_{sh}$", Eq. (8). Many surfaces explain a photograph equally well, so
# "[t]o regularize the solution, a fidelity and smoothness terms are added",
# $$E_f = \|\hat z - z_0\|_2^2, \quad E_{sm} = \|\Delta\hat z\|_1, \qquad (13)$$
# $$L = \lambda_{sh}E_{sh} + \lambda_f E_f + \lambda_{sm}E_{sm}. \qquad (14)$$
# *Fidelity* holds the answer near the coarse depth; *smoothness*, with the Laplacian
# $\Delta$, holds neighboring pixels together.
#
# The paper gives the weights: $\lambda_{sh} = 1$, $\lambda_f = 5\cdot10^{-3}$ and
# $\lambda_{sm} = 1$. It does not say in which units depth and intensity are, and the
# balance of the terms depends on them. Ours are 8-bit grey levels for intensity and
# 1/128 of a pixel's width for depth; all terms are means over the face. Section 6 tries
# other units. The cell calculates the three terms by hand for FineNet's answer, and the
# check compares them with the package.

# %%
explained, goal = {}, {}
for name, image in images.items():
    found = estimate_light_and_albedo(image, maps[name], 1)
    known = image, maps[name], found.albedo, found.light, settings.detail_bounds
    explained[name], goal[name] = found, shading_target(*known)
# The goal is the photograph as far as detail can explain it: chapter 5, and
# `sfs.detail_target`.
goal_image, goal_albedo, light = goal["grace_hopper"][:3]
unit = face.mm_per_pixel / 128  # mm per unit of depth
n = depth.normals_from_depth(detailed, face.mm_per_pixel, face.mask)
Y = torch.cat([torch.ones_like(n[:, :1]), n], dim=1)
shading = (light[:, :, None, None] * Y).sum(dim=1, keepdim=True)
E_sh = (255 * (goal_albedo * shading - goal_image))[face.mask].square().mean()
E_f = ((detailed - face.depth) / unit)[face.mask].square().mean()

# %% tags=["check"]
z = F.pad(detailed, (1, 1, 1, 1))  # the four neighbors minus four times the pixel
neighbors = z[..., :-2, 1:-1] + z[..., 2:, 1:-1] + z[..., 1:-1, :-2] + z[..., 1:-1, 2:]
laplacian = (neighbors - 4 * detailed)[losses.five_point_interior(face.mask)]
E_sm = (laplacian / unit).abs().mean()
by_hand_terms = (E_sh + 5e-3 * E_f + E_sm, E_sh, E_f, E_sm)
in_package = losses.finenet_loss(detailed, face.depth, goal["grace_hopper"])
for name, mine, theirs in zip(
    in_package._fields, by_hand_terms, in_package, strict=True
):
    print(f"{name:11} {mine:9.3f} {theirs:9.3f}")
    assert torch.isclose(mine, theirs, rtol=1e-3), f"{name}: {mine}, expected {theirs}"

# %% [markdown]
# ## 5 The gradient
#
# "The gradient of $L$ with respect to $\hat z$ is then calculated and used for
# backpropagation." Autograd does this for us, and a finite difference tells whether it
# is right: we move the depth of one pixel up and down by a thousandth of a pixel, in
# double precision, and divide the change of the energy by the way. Whoever writes a
# criterion of her own should make this test first, since a wrong gradient still
# trains, only badly.

# %%
double_goal = losses.ShadedImage(
    *(m.double() if m.is_floating_point() else m for m in goal["grace_hopper"])
)
leaf = detailed.double().requires_grad_()
with torch.enable_grad():
    losses.shading_energy(leaf, double_goal).backward()

# %% tags=["check"]
here = losses.five_point_interior(face.mask)[0, 0].nonzero()
here = here[torch.randperm(len(here), generator=dice())[:12]]
for row, col in here.tolist():
    nudge = torch.zeros_like(leaf)
    nudge[0, 0, row, col] = 1e-3 * face.mm_per_pixel.item()
    moved = [losses.shading_energy(leaf + s * nudge, double_goal) for s in (1, -1)]
    slope, from_autograd = (moved[0] - moved[1]) / (2 * nudge.sum()), leaf.grad
    from_autograd = from_autograd[0, 0, row, col]
    same = torch.isclose(slope, from_autograd, rtol=1e-3, atol=1e-12)
    assert same, f"at {row, col}: {from_autograd:.4e}, expected {slope:.4e}"
print(f"12 pixels agree; the last: {slope:.3e} and {from_autograd:.3e}")

# %% [markdown]
# The middle picture below shows the gradient. Shading depends on slopes, so the
# gradient of one pixel's residual is a *dipole*: it raises one neighbor and lowers the
# other. Plain gradient descent has to build broad folds out of such grains, which takes
# very many steps. `facerecon train fine --photos` therefore divides the gradient's
# spectrum by $k_0^2 + k^2$, where $k$ is the spatial frequency
# (`losses.sobolev_gradient`; Neuberger's book has the theory). Fine grain is damped and
# broad change is not. The minimum is the same one, but it is reached along a smooth
# way, as the right picture shows.

# %%
plain = leaf.grad.float()
smooth = losses.sobolev_gradient(plain, settings.gradient_cutoff)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
views = {"photograph": I, "dE/dz": plain, "dE/dz, Sobolev": smooth}
for axis, (title, picture) in zip(axes, views.items(), strict=True):
    limit = 3 * picture[face.mask].std()
    colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    axis.imshow(picture[0, 0], **({"cmap": "gray"} if picture is I else colors))
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig(output / "gradient.png", dpi=100)
plt.show()

# %% [markdown]
# Read the middle picture once more with the formula in mind. Where the rendered surface
# is too bright, the criterion would like a steeper slope away from the light, and it
# gets one by pushing a pixel down and its neighbor up. Beside the frame of the glasses
# and at the rim of the cap these pushes are strongest, although neither is skin. The
# criterion cannot know that; this is a first sign of what section 10 is about.
#
# ## 6 One term at a time
#
# What does each term do? To answer that, we need a face whose true surface we know. We
# take a face of the model with synthetic wrinkles (chapter 2) and light it at first
# order. Light and albedo are given, so that nothing but the criterion is tested. Then
# we minimize Eq. (14) over the depth map itself, without any network, starting at the
# smooth face (`sfs.refine_depth`): once with all terms, and then with some of them
# switched off; once for a clean photograph, and once for a noisy one. To save time,
# only a window of brows and forehead takes part.

# %%
bare = detail_config(size, detail_report.STRENGTH, bare=True)  # no hair, no glasses
world = synthetic.SyntheticWorld(model, bare)
r = torch.zeros(1, 290)
r[0, model.expression_index("browInnerUp")] = 2.0
r[0, -1] = 0.8  # larger
head, rendering = model_maps(model, r, size), render.render(model, r, size)
old = world.relief.sample(camera.split(r)[0], torch.ones(1, 1), dice())
height = world.chart.sample(old, world.chart.at(rendering.fragments))
surface = head.depth, head.normals, head.mask, height, head.mm_per_pixel
wrinkled_head = synthetic.displace(*surface)
lamp = torch.tensor([[0.35, 0.25, 0.3, 0.55]])
clean = lighting.shade(head.albedo_mean, lamp, wrinkled_head.normals)
grain = torch.randn(clean.shape, generator=dice())

# %%
window = np.s_[:, :, 25:105, 50:150]
mm, albedo = head.mm_per_pixel, head.albedo_mean[window]
smooth_z, inside, true_z, true_n, skin = (
    m[window] for m in (head.depth, head.mask, *wrinkled_head, head.skin)
)
counted = (skin > 0.5) & losses.five_point_interior(inside)


def against_truth(z):
    """Mean angle between normals in degrees, and rms depth error in mm, on skin."""
    chord = depth.normals_from_depth(z, mm, inside) - true_n
    angle = 2 * torch.asin((chord.norm(dim=1, keepdim=True) / 2).clamp(max=1))
    return angle[counted].rad2deg().mean().item(), (z - true_z)[counted].std().item()


# %%
off = {"shading": 0.0}, {"fidelity": 0.0}, {"smoothness": 0.0}
variants = {"all terms": {}, "no shading": off[0], "no fidelity": off[1]}
variants |= {"no smoothness": off[2], "only shading": off[1] | off[2]}
refined = {"start": smooth_z}
noises = {"clean": 0.002, "noisy": 0.02}
photographed = {name: (clean + s * grain)[window] for name, s in noises.items()}
for photo, image in photographed.items():
    shaded_image = losses.ShadedImage(image, albedo, lamp, inside, mm)
    for name, without in variants.items():
        known = smooth_z, shaded_image, losses.CriterionWeights(**without)
        refined[f"{name}, {photo}"] = sfs.refine_depth(*known, steps=2 * steps)

# %% tags=["check"]
scores = {name: against_truth(z) for name, z in refined.items()}
for name, (angle, error) in scores.items():
    print(f"{name:22} normals off by {angle:5.2f}°, depth by {error:.2f} mm")
angle, error = ({name: score[i] for name, score in scores.items()} for i in (0, 1))
first, flat = angle["start"], angle["no shading, clean"]
assert flat > first, f"without shading only flatter: {flat:.2f}°, start {first:.2f}"
found = angle["no smoothness, clean"]
assert found < first, f"wrinkles: {found:.2f}°, not below {first:.2f}"
calm, rough = angle["all terms, noisy"], angle["no smoothness, noisy"]
assert calm < 0.7 * rough, f"noise: {calm:.2f}°, not below 0.7 of {rough:.2f}"
held, free = error["all terms, clean"], error["no fidelity, clean"]
assert held < free + 0.02, f"depth: {held:.3f} mm, without fidelity {free:.3f}"

# %%
pictures = [photographed["noisy"][0, 0].numpy()]
pictures += [clay(z, mm, inside) for z in (true_z, *refined.values())]
titles = ["photograph, noisy", "truth", *refined]
figure = viz.gallery(pictures, titles, 5, inches=1.8)
figure.savefig(output / "terms.png", dpi=100)
figure

# %% [markdown]
# Compare the pictures with the numbers. Shading finds the wrinkles, and it finds the
# noise as well, since to the criterion both are brightness. Smoothness takes the noise
# away, and with it everything that is finer than the noise. Its norm is an L1 norm, so
# that a few pixels may bend much; still, on a clean photograph the paper's weight costs
# more than it saves. Fidelity holds what shading cannot see, which is slow drift of the
# whole surface. Without shading there is nothing to gain, and the surface only becomes
# flatter.
#
# **Why these units?** The weights 1, 0.005 and 1 mean nothing without units. With
# images in [0, 1] instead of grey levels, the squared residual is 65,000 times smaller
# beside the same smoothness. With depth in whole pixels, the smoothness is 128 times
# smaller beside the same residual. The cell refines the noisy photograph again in three
# sets of units. When you read a paper whose loss has several terms, look for the units
# first.

# %% tags=["check"]
unit_sets = {
    "grey levels, 1/128 pixel": {},
    "[0, 1], pixels": {"intensity_unit": 1.0, "depth_unit": 1.0},
    "grey levels, pixels": {"depth_unit": 1.0},
}
noisy = losses.ShadedImage(photographed["noisy"], albedo, lamp, inside, mm)
by_units = {}
for name, units in unit_sets.items():
    known = smooth_z, noisy, losses.CriterionWeights(**units)
    by_units[name] = against_truth(sfs.refine_depth(*known, steps=2 * steps))[0]
    print(f"{name:26} normals off by {by_units[name]:.2f}°")
best, *others = by_units.values()
assert best < min(others), f"{best:.2f}°, not below {min(others):.2f} of other units"

# %% [markdown]
# ## 7 The network against the optimization
#
# The paper's gain is "transforming the problem from an online optimization problem to a
# regression one" (4.3). What the optimization finds in hundreds of steps, given light
# and albedo, a network can learn to say at once, and it needs neither of the two when
# it is used.
#
# The network that ships learned as the paper has it: from photographs, without labels,
# by the shading alone. One thing is changed. On real skin Eq. (14) is badly
# conditioned, as section 10 will show, and so the network's criterion is a *linear*
# relative of it (`losses.linear_finenet_loss`). It compares logarithms of brightness,
# in which the albedo is an offset that a local mean can take up; it trusts pixels less
# that no shape explains; and it is quadratic in the change of the depth, so that there
# is one minimum and no other. Section 14 writes this criterion down, where our own
# stage uses it, too. The network was therefore never asked for a small value of Eq.
# (14), and its energy in the table below may well be larger than that of the coarse
# face. Read the numbers with that in mind.

# %%
energies, surfaces, spent = {}, {}, {}
for name, each in maps.items():
    start = time.perf_counter()
    fine = network(images[name], each.depth, each.mask, each.mm_per_pixel)
    middle = time.perf_counter()
    minimized = sfs.refine_depth(each.depth, goal[name], steps=steps)
    spent[name] = middle - start, time.perf_counter() - middle
    surfaces[name] = {"coarse": each.depth, "FineNet": fine, "minimized": minimized}
    energies[name] = {
        k: losses.finenet_loss(z, each.depth, goal[name])
        for k, z in surfaces[name].items()
    }

# %% tags=["check"]
for name, of in energies.items():
    one, many = spent[name]
    print(f"{name}: network {one:.2f} s, {steps} steps {many:.1f} s")
    for key, loss in of.items():
        terms = {k: round(v.item(), 1) for k, v in loss._asdict().items()}
        print(f"   {key:10} {terms}")
    first, last = of["coarse"].total, of["minimized"].total
    assert last < first, f"{name}: {last:.1f}, not below {first:.1f}"
    assert one < many, f"{name}: {one:.2f} s, not below {many:.2f} of {steps} steps"

# %%
pictures = []
for name, found in surfaces.items():
    width = maps[name].mm_per_pixel, maps[name].mask
    pictures.append(images[name][0, 0].numpy())
    pictures += [clay(z, *width) for z in found.values()]
titles = ["photograph", "coarse", "FineNet", f"minimized, {steps} steps"]
figure = viz.gallery(pictures, titles, columns=4, inches=2.2)
figure.savefig(output / "network_and_optimization.png", dpi=100)
figure

# %% [markdown]
# In these pictures the optimization writes more of the photograph into the surface than
# the network does, and some of it is skin and not surface: compare the edges of lips
# and brows, which are changes of albedo. The network's relief is fainter. Which of the
# two is nearer to the truth cannot be seen here; section 9 asks it of faces whose truth
# is known.
#
# ## 8 A training run
#
# Now we train as the paper does. A FineNet of the width that ships learns from the two
# portraits and their mirror images, without any true depth. Eqs. (11) and (12) have
# given light and albedo, once and for all. Then, in each step, a window of each face
# goes through the network, Eq. (14) is calculated, and its gradient goes back through
# the network. That is section 4.3 of the paper as a whole.
#
# In half a minute a network does not learn to be smoother than the coarse mesh, which
# is most of what the paper's weights ask for on these photographs. So the smoothness
# has a tenth of its weight here, and what the small network learns is shading. The
# check asks for just that: the shading term must have fallen.

# %%
both = torch.cat([torch.cat([image, image.flip(3)]) for image in images.values()])
fits = coarsenet.iterate(reconstructor.coarsenet, model, both, 4)[-1]
faces = model_maps(model, fits, size)
found = estimate_light_and_albedo(both, faces, 1)
known = both, faces, found.albedo, found.light, settings.detail_bounds
wanted = shading_target(*known)


def criterion(student, part):
    """Eq. (14) of a network on a part of all crops."""
    maps_of = (both, faces.depth, faces.mask, wanted.image, wanted.albedo)
    photo, z_coarse, mask, image, albedo = (m[part] for m in maps_of)
    z = student(photo, z_coarse, mask, faces.mm_per_pixel)
    shaded = wanted._replace(image=image, albedo=albedo, mask=mask)
    lambdas = losses.CriterionWeights(smoothness=0.1)
    return losses.finenet_loss(z, z_coarse, shaded, lambdas)


# %%
torch.manual_seed(seed)
small = finenet.FineNet(finenet.FineNetConfig(width=16, regressor=(32, 16)))
optimizer = torch.optim.AdamW(small.parameters(), lr=4e-3, betas=(0.9, 0.98))
rounds, random = {"quick": 180, "full": 3000}[preset], dice()
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=rounds)
before, fine_history = criterion(small, np.s_[:]), []
for _ in range(rounds):
    top, left = (30 + torch.randint(50, (2,), generator=random)).tolist()
    with torch.enable_grad():
        loss = criterion(small, np.s_[:, :, top : top + 96, left : left + 96])
    optimizer.zero_grad()
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(small.parameters(), settings.gradient_clip)
    optimizer.step()
    schedule.step()
    fine_history.append(loss.total.item())
after = criterion(small, np.s_[:])

# %% tags=["check"]
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(fine_history, lw=0.6, color="0.6", label="each window")
mean_of_15 = np.convolve(fine_history, np.ones(15) / 15, "valid")
axis.plot(np.arange(len(mean_of_15)) + 7, mean_of_15, label="mean of 15")
axis.set(xlabel="step", ylabel="criterion")
axis.legend()
figure.savefig(output / "training.png", dpi=100)
plt.show()
for name, first, last in zip(after._fields, before, after, strict=True):
    print(f"{name:11} {first:8.2f} before, {last:8.2f} after")
ratio = after.shading / before.shading  # docs/training.md has the spread over seeds
assert ratio < 0.93, f"the shading's term: {ratio:.3f} of before, not below 0.93"

# %% [markdown]
# The curve jumps from step to step because every step sees another window; the mean of
# fifteen shows the trend. In the printed terms, shading falls while fidelity and
# roughness rise: the network buys a better explanation of the photograph with a surface
# that is farther from the coarse one and rougher. The weights of Eq. (14) are the
# prices of this trade, and with other prices the same network would stop elsewhere.
# With two photographs this is a demonstration and not a training: such a network knows
# these two faces and nothing else.
#
# ## 9 Nearer to the truth?
#
# A lower energy is not yet a better surface. `facerecon evaluate detail` measures on
# faces whose wrinkles are known: the depth error, the angle between normals, the
# correlation of the fine part of the depth, and the correlation of what was *added*
# with the wrinkles. It does so for the coarse surface, for FineNet (`fine`) and for the
# optimization (`sfs`), at 200 and 400 pixels, and also on heads of another model. Here
# we take a few faces at 200 pixels. They start from the *true* smooth surface, where
# there is much to lose: whoever adds more noise than wrinkles has the larger angle.
# Read the column `gain`, which may well be negative.

# %% tags=["check"]
few = {"quick": 4, "full": 32}[preset]
nets = {"fine": network, "short training": small}
lambdas, order = settings.criterion_weights, settings.light_order
per_image = detail.ShapeFromShading(settings.detail_bounds, lambdas, order, steps)
refiners = detail_report.Refiners(nets, per_image)
wrinkled = detail.synthetic_faces(world, few, seed)
benchmark, sheet = detail_report.measure_detail(wrinkled, model, refiners)
about = {"faces": "synthetic", "size": size, "start": "true coarse"}
print(detail_report.detail_table([about | row for row in benchmark]))
on_synthetic = {row["method"]: row for row in benchmark}
angles = [row["normals"] for row in benchmark]
assert np.isfinite(angles).all(), f"not all are finite: {angles}"
sheet.convert("RGB").save(output / "known_detail.jpg", quality=80)
sheet

# %% [markdown]
# How to read the table: `depth` is the mean error in mm after the best shift, `normals`
# the mean angle in degrees, `highpass` the correlation of the fine relief with the true
# one, and `detail` the correlation of what was added with the wrinkles. A smooth coarse
# face has a high `highpass` already, because nose and lips dominate it; that is why
# `detail` exists. In the sheet, each row is a face: photograph, truth, start, and then
# what each method made of the start. The number to remember is the gain in the last
# column. A method with a negative gain has made the surface worse than it was, however
# detailed it may look. On these faces every method that listens to the shading loses:
# the start is nearly right, and most changes of brightness on this rendered skin are
# spots, hairs and shadows. A network that is shown the true wrinkles (`facerecon train
# fine --supervised`) does gain here. But it learns the wrinkles of this renderer, and
# on real people it adds next to nothing. This is why the judge in section 16 is made of
# real people.
#
# ## 10 What the criterion cannot see
#
# Everything up to here is the paper's. The rest of this chapter is *ours*: a second
# detail stage, `refine="normals"`, and the reason for it. Eq. (8) has one number for
# each pixel, the product of albedo and shading. In section 6 the albedo was given and
# right. For a photograph, ten coefficients have to stand for it, and they hold neither
# a freckle nor stubble, a scar or a red cheek. Whatever they leave over must become
# shape, because the criterion has nowhere else to put it.
#
# We repeat the cleanest experiment of section 6 with one change: the skin has age
# spots, which are darker by up to a fifth and as flat as the skin around them. The
# criterion is not told about them. It gets the true light and the albedo without spots,
# and smoothness has a tenth of its weight, as in section 8.

# %%
spot = torch.zeros_like(albedo)
down, across = torch.meshgrid(*map(torch.arange, albedo.shape[2:]), indexing="ij")
for row, col, radius in ((22, 30, 3.0), (30, 62, 4.0), (14, 78, 2.0), (44, 84, 2.5)):
    distance = ((down - row) ** 2 + (across - col) ** 2).sqrt()
    spot = torch.maximum(spot, torch.sigmoid(radius - distance))
little, by_skin = losses.CriterionWeights(smoothness=0.1), {}
for name, share in {"without spots": 0.0, "with spots": 0.2}.items():
    spotted = photographed["clean"] * (1 - share * spot)
    unaware = losses.ShadedImage(spotted, albedo, lamp, inside, mm)
    by_skin[name] = sfs.refine_depth(smooth_z, unaware, little, steps=2 * steps)

# %% tags=["check"]
at_spots = (F.max_pool2d(spot, 7, 1, 3) > 0.5) & counted
wrong_by = {}
for name, z in by_skin.items():
    n = depth.normals_from_depth(z, mm, inside)
    angle = (n * true_n).sum(1, keepdim=True).clamp(-1, 1).acos().rad2deg()
    wrong_by[name] = angle[at_spots].mean().item()
    print(f"{name}: normals around them are off by {wrong_by[name]:.1f}°")
good, bad = wrong_by.values()
assert bad > 1.5 * good, f"with spots {bad:.1f}°, not above 1.5 times {good:.1f}"
shapes = {"truth": true_z, **by_skin}
pictures = [spotted[0, 0].numpy(), *(clay(z, mm, inside) for z in shapes.values())]
titles = ["photograph, with spots", *shapes]
figure = viz.gallery(pictures, titles, columns=4, inches=2.2)
figure.savefig(output / "spots.png", dpi=100)
figure

# %% [markdown]
# Flat spots have become ridges. More smoothness would level them, but it would level
# the wrinkles, too: both are changes of brightness over a few pixels, and no weight of
# Eq. (14) can tell them apart. Real skin is full of such changes. Measured against the
# normals of Extended Yale B (chapter 5, section 10), FineNet's surface is a little
# nearer to the truth than the coarse one, and what it adds to the relief is a small
# part of what that relief lacks (`docs/evaluation.md`; section 16 measures it again).
# Even the minimum of its criterion, found for each photograph, leaves most of it
# missing. A person who looks at the photograph is hardly misled.
# She knows more than one pixel's equation: how wrinkles run, that a crease has a lit
# and a shaded side, where lips and lids are, and what an age spot looks like. Such
# knowledge can be learned, where there are enough examples with the truth.
#
# ## 11 NormalNet: inputs, outputs, loss
#
# Real faces with known normals are rare, but a renderer makes as many as we want
# (chapter 2). *NormalNet* is a small U-Net (Ronneberger et al.) that is shown nine
# maps. They are the grey values; their *logarithm*, in which a change of light is an
# offset, and creases in the shade count as much as those in the sun; the three coarse
# normals, which are to be corrected; the three maps of the PNCC, which tell where on a
# face each pixel lies; and the mask.

# %% [markdown]
# It answers with three maps. Two are *tilts*: what the slopes $p = \partial z/\partial
# x$ and $q = \partial z/\partial y$ of the coarse surface lack, times the coarse $n_z$,
# so that steep places do not dominate. The third is the logarithm of $\sigma$, the
# angle by which the network expects its own normal to be wrong. A network that knows
# where it is unsure is worth more than one that does not: section 13 trusts its slopes
# less there. Again we go through the pass by hand first, and the check compares.

# %%
reader, who = weight_files.load_normalnet(), "grace_hopper"
curved, I_who = render.curved_surface(model, rs[who], size), images[who]
parts = curved.vertices, curved.normals, model.pncc, curved.fragments, model.triangles
coarse_n, pncc = rasterize.interpolate_maps(*parts)[1:]
on_face = curved.fragments.mask


def evened(values):
    """Mean 0 and a fixed standard deviation on the face, 0 outside."""
    there = values[on_face]
    scaled = coarsenet.CONTRAST * (values - there.mean()) / there.std(correction=0)
    return torch.where(on_face, scaled, 0.0)


logarithm = I_who.clamp(min=normalnet.DARKEST).log()
stack = evened(I_who), evened(logarithm), coarse_n, pncc, on_face.float()
tilt, log_error = reader(torch.cat(stack, dim=1))
n_z = coarse_n[:, 2:].clamp(min=normalnet.MIN_FACING)
p, q = ((tilt - coarse_n[:, :2]) / n_z).split(1, dim=1)  # slopes, corrected
found_n = F.normalize(torch.cat([-p, -q, torch.ones_like(p)], dim=1), dim=1)

# %% tags=["check"]
says = reader.estimate(I_who, coarse_n, pncc, on_face)
off = (found_n - says.normals)[on_face.expand(-1, 3, -1, -1)].abs().max()
print(f"by hand and by the package: {off:.1e} apart")
assert off < 1e-3, f"{off:.1e}, not below 1e-3"
sigma = log_error.exp().rad2deg()
usual, most = sigma[on_face].median(), sigma[on_face].max()
print(f"expected error: {usual:.0f}° usually, {most:.0f}° at most")
shown = {"grey": 0.5 + stack[0] / 4, "its logarithm": 0.5 + stack[1] / 4}
shown |= {"coarse normals": 0.5 + 0.5 * coarse_n, "PNCC": pncc}
shown |= {"corrected normals": 0.5 + 0.5 * found_n, "expected error": sigma / 45}
pictures = [torch.where(on_face, m, 1.0)[0].permute(1, 2, 0) for m in shown.values()]
pictures = [m.expand(-1, -1, 3).numpy() for m in pictures]
figure = viz.gallery(pictures, list(shown), columns=6, inches=1.6)
figure.savefig(output / "normalnet.png", dpi=100)
figure

# %% [markdown]
# White in the last picture is an expected error of 45 degrees or more. Look where the
# network is unsure: at lids and lips, along hair and glasses, and toward the outline.
#
# **The loss** compares normals. With the angle $\theta$ between the true and the found
# normal at a pixel, and means over all pixels, it is
# $$L = \overline{\theta} + 4\,\overline{(1 - \cos\theta)} + 0.2\,E_r + 0.05\;
# \overline{(\theta/\sigma + \log\sigma)}.$$
# The first term is robust against a few wild pixels; the second cares for large errors.
#
# $E_r$ compares how slopes change from pixel to pixel, so that fine lines count
# although they are few. The last term teaches $\sigma$ and nothing else: it is least at
# $\sigma = \theta$, and where $\theta$ cannot be known, near its mean (Kendall and Gal
# explain such losses). Light and albedo are part of neither the loss nor the input.
#
# ## 12 A training in half a minute
#
# The network that ships saw many thousands of faces with hard lamps, glasses, beards
# and spots (`facerecon train normals`). The principle fits into half a minute. We
# photograph some people of section 6's wrinkled world, all under the same lamp, and let
# *CoarseNet* look at the pictures. Its answers are the starts, with all the mistakes
# that it makes. A small NormalNet then learns the way from these coarse normals to the
# true ones, at half of the size to save time. Four more people are held back.

# %% [markdown]
# With so few examples the network learns them by heart. So the check asks only about
# the faces that the network saw, and about nothing else; on the strangers it may well
# be worse than the start, and the printed numbers say whether it is. The pictures show
# both, beside the answer of the network that ships. This is what overfitting looks like
# when the answer is a surface.

# %%
people = {"quick": 12, "full": 400}[preset]
one_lamp = {"p_key": 1, "key": (0.9, 0.9), "key_azimuth": (-0.6, -0.6), "p_fill": 0}
one_lamp |= {"key_elevation": (0.6, 0.6), "ambient": (0.2, 0.2), "environment_std": 0}
lamp_world, random = studio.turned(world, light=one_lamp), dice()
r_true = lamp_world.sample(people + 4, random)
r_true[:, 285] *= 0.5  # yaw: mostly frontal
rendered = lamp_world.render(people + 4, random, r_true)
answers = coarsenet.iterate(reconstructor.coarsenet, model, rendered.image, 2)[-1]
begin, rendered_n = render.render(model, answers, size), rendered.fine_normals
valid = rendered.rendering.mask & begin.mask
valid &= (rendered_n[:, 2:] > 0.15) & (begin.normals[:, 2:] > 0.15)
whole = [rendered.image, begin.normals, begin.pncc, begin.mask, rendered_n, valid]
lesson = [F.avg_pool2d(m.float(), 2) for m in whole]
lesson[1], lesson[4] = (F.normalize(lesson[k], dim=1) for k in (1, 4))
lesson[3], lesson[5] = (lesson[k] > 0.99 for k in (3, 5))


# %%
def lesson_loss(student, photo, n_0, pncc, mask, n_true, valid):
    """The loss without E_r, and the mean angle in degrees."""
    answer = student.estimate(photo, n_0, pncc, mask)
    cosine = (answer.normals * n_true).sum(1, keepdim=True)[valid]
    theta = cosine.clamp(-0.9999, 0.9999).acos()
    log_sigma = answer.log_error[valid]
    surprise = theta.detach() * (-log_sigma).exp() + log_sigma
    loss = theta.mean() + 4 * (1 - cosine).mean() + 0.05 * surprise.mean()
    return loss, theta.mean().rad2deg()


def mean_angles(student):
    """Degrees between found and true normals of those taught, and of strangers."""
    student.eval()
    halves = {"taught": slice(0, people), "strangers": slice(people, None)}
    return {
        name: lesson_loss(student, *(m[some] for m in lesson))[1].item()
        for name, some in halves.items()
    }


# %%
torch.manual_seed(seed)
pupil = normalnet.NormalNet(normalnet.NormalNetConfig(widths=(16, 32, 64)))
rounds, random = {"quick": 110, "full": 5000}[preset], dice()
optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, rounds, pct_start=0.1)
at_first, normal_history = mean_angles(pupil), []
pupil.train()
for _ in range(rounds):
    some = torch.randperm(people, generator=random)[:8]
    with torch.enable_grad():
        loss, _ = lesson_loss(pupil, *(m[some] for m in lesson))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    normal_history.append(loss.item())
at_last = mean_angles(pupil)

# %% tags=["check"]
for name, angle in at_last.items():
    print(f"{name:9} {at_first[name]:.2f}° before, {angle:.2f}° after")
figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
axis.plot(normal_history, lw=0.8)
axis.set(xlabel="step", ylabel="loss")
figure.savefig(output / "normal_training.png", dpi=100)
plt.show()
first, last = np.mean(normal_history[:10]), np.mean(normal_history[-10:])
assert last < 0.85 * first, f"loss {last:.3f}, not below 0.85 of {first:.3f}"
first, last = at_first["taught"], at_last["taught"]
assert last < 0.9 * first, f"taught: {last:.2f}°, not below 0.9 of {first:.2f}"

# %%
two, pictures = [0, people], []  # one who was taught, and a stranger
half, full = ([m[two] for m in maps_of] for maps_of in (lesson, whole))
steps_of = {"coarse": half[1], "this training": pupil.estimate(*half[:4]).normals}
steps_of |= {"that ships": reader.estimate(*full[:4]).normals, "truth": full[4]}
for k in range(2):
    pictures.append(full[0][k, 0].numpy())
    for n in steps_of.values():
        there = F.interpolate(full[3].float(), n.shape[2:]) > 0.5
        there &= n.norm(dim=1, keepdim=True) > 0.5  # the truth may end before
        pictures.append(lit(n[k : k + 1], there[k : k + 1]))
titles = ["a face it saw", *steps_of, "a stranger", *4 * [""]]
figure = viz.gallery(pictures, titles, columns=5, inches=1.9)
figure.savefig(output / "normals_before_after.png", dpi=100)
figure

# %% [markdown]
# Compare the third and the fifth picture of each row. Of the face that it saw, even this
# small network has learned the wrinkles of the forehead and the shape of the cheeks. Of
# the stranger it has guessed what it knows from the others. The network that ships has
# seen neither person, and its answer is softer than the truth: it has learned what is
# common to many faces. Only more people, more lamps and more kinds of skin help here,
# and a renderer has them for the asking. What it cannot deliver is the certainty that
# rendered skin is like real skin, and so section 16 goes back to people.

# %% [markdown]
# ## 13 From normals to depth
#
# A mesh needs depth, and slopes are only its derivatives. Two slopes for each pixel are
# more than one depth can satisfy: going around any square of pixels, the steps have to
# add up to zero, and estimated ones do not. *Normal integration* (Quéau et al.) asks
# for the depth whose steps come nearest. Slopes also leave open where the face is as a
# whole, and small errors add up over a long way. So a *screen* keeps the depth near the
# coarse one:
# $$\sum_{i\sim j} w_{ij}\,(z_j - z_i - s_{ij})^2 + \left(\tfrac{h}{R}\right)^2 \sum_i
# (z_i - z_{0,i})^2.$$
#
# Here $s_{ij}$ is the slope between neighbors times the way from one to the other, $h$
# is the width of a pixel, and $R$ is the *reach*: over less than $R$ the slopes decide,
# over more the coarse depth does. The weights $w$ are small where NormalNet expects to
# be wrong, and zero at *jumps*, where the coarse depth says that one surface hides
# another, as a nose hides the cheek behind it; there a step is no slope. All terms are
# squares, so the minimum solves one sparse linear system (`integration.integrate`, by
# conjugate gradients). Exercise 6.4 writes it for a single row of pixels.

# %% [markdown]
# We try it on a surface with a formula: a cap with ripples. Its coarse version lacks
# the ripples and is tilted, as a wrong pose tilts a face; its slopes are right but
# noisy. With a short reach the result is the tilted cap, and its ripples are weak; with
# a long one, ripples *and* tilt are repaired. Why not always a long one? On a real face
# the slopes are off by degrees over whole cheeks, and those errors would add up. The
# package's reach is `integration.REACH_MM`. In the last picture the coarse cap has a
# cliff of 30 mm and no tilt. If the cliff is known, it stays; if not, the slopes turn
# it into a ramp.

# %%
cap_px, h, peak = 120, 1.2, 60.0  # pixels; mm per pixel; mm, width of the cap
ticks = (torch.arange(cap_px) - (cap_px - 1) / 2) * h
up, right = torch.meshgrid(-ticks, ticks, indexing="ij")
cap, ripples = 40 * torch.exp(-(right**2 + up**2) / peak**2), torch.sin(right / 3)
exact, level_cap = (cap + ripples)[None, None], (cap + 30.0 * (right > 0))[None, None]
slope_x = -2 * right / peak**2 * cap + torch.cos(right / 3) / 3
slopes = torch.stack([slope_x, -2 * up / peak**2 * cap])[None]
slopes = slopes + 0.08 * torch.randn(slopes.shape, generator=dice())
tilted, integrated, cliffs = (cap + 0.15 * right)[None, None], {}, {}
known = torch.ones_like(exact, dtype=torch.bool), torch.tensor([h])
for reach in (2.0, 50.0, 1000.0):
    integrated[reach] = integration.integrate(slopes, tilted, *known, reach_mm=reach)
for name, most in {"cliff known": integration.MAX_JUMP_MM, "unknown": 1e6}.items():
    limit = {"max_jump_mm": most}
    cliffs[name] = integration.integrate(slopes, level_cap, *known, **limit)

# %% tags=["check"]
rms = {"coarse": (tilted - exact).std().item()}
rms |= {reach: (z - exact).std().item() for reach, z in integrated.items()}
print("depth error, mm:", {k: round(v, 2) for k, v in rms.items()})
falling = rms[1000.0] < rms[50.0] < rms[2.0] < rms["coarse"]
assert falling, f"not falling with the reach: {rms}"
middle = cap_px // 2  # the cliff lies before this column
at_cliff = {k: z[..., middle - 1 : middle + 1].diff() for k, z in cliffs.items()}
at_cliff = {k: step.mean().item() for k, step in at_cliff.items()}
print("height of the cliff, mm:", {k: round(v, 1) for k, v in at_cliff.items()})
stays, melts = at_cliff.values()
assert abs(stays - 30) < 3, f"the known cliff has {stays:.1f} mm, expected 30 ± 3"
assert melts < 15, f"the unknown one still has {melts:.1f} mm, below 15 expected"

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
rows = {f"reach {reach:.0f} mm": z for reach, z in integrated.items()}
lines = [{"truth": exact, "coarse": tilted, "integrated": z} for z in rows.values()]
for axis, title, of in zip(axes, (*rows, "a cliff"), (*lines, cliffs), strict=True):
    for label, z in of.items():
        axis.plot(ticks, z[0, 0, cap_px // 2], lw=1, label=label)
    axis.set(title=title, xlabel="mm to the right")
axes[0].set(ylabel="depth, mm")
axes[0].legend(fontsize=9)
axes[3].legend(fontsize=9)
figure.savefig(output / "integration.png", dpi=100)
plt.show()

# %% [markdown]
# The curves are cross sections through the middle row. In the first picture the green
# curve lies on the orange one, the coarse depth; in the third it has left it for the
# truth. The second is a compromise: it has all ripples, and a part of the tilt. In the
# fourth, both results had the same slopes and the same coarse cap. They differ in one
# thing, namely whether the step between two pixels was taken for a slope or for the
# edge of something that hides something else. Every method that integrates normals has
# to answer this question, and slopes alone cannot answer it.

# %% [markdown]
# ## 14 One linear step of shape from shading on top
#
# NormalNet knows what faces look like, and it smooths away what is finer or rarer than
# what it was taught. The photograph still shows it. Near a surface that is almost
# right, shading is a *linear* problem. In logarithms the product of Eq. (8) is a sum,
# $$\log I = \log\rho + \log\langle\vec l, Y(p, q)\rangle.$$
# The light comes from the surface at hand, as in Eq. (11). The albedo is the local mean
# of what the light leaves over, because skin tone, make-up and soft shadows vary
# slowly. What is still left, $e$, may be relief. A rise $u$ of the depth changes the
# slopes by $u_x$ and $u_y$, and so it changes the right side by $a\,u_x + b\,u_y$, with
# $a = \partial \log\langle\vec l, Y\rangle / \partial p$ and $b$ likewise by $q$.
#
# Exercise 6.3 asks for these derivatives. One step then minimizes, over $u$ alone,
# $$\sum w\,(a\,u_x + b\,u_y - e)^2 + \lambda_1 |\nabla u|^2 + \lambda_2 (\Delta u)^2 +
# \lambda_3 u^2,$$
# which is a sparse linear system again. The last three terms keep $u$ small and smooth,
# and the first of them more so where NormalNet is sure. The weight $w$ is zero off the
# skin, in shadows and where the sensor is full. It is small where the color is not the
# skin's, where the network expects to be wrong, and where $|e|$ is large, because a
# strand of hair is not a fold.

# %% [markdown]
# `refine_by_shading` takes two such steps. Flat spots become relief here as well, only
# less, since the start is near the truth and may hardly be left. Notice that this is
# the classic optimization for each photograph, which the paper set out to *replace* by
# a network. After a network it needs two steps and not hundreds.

# %%
width = maps[who].mm_per_pixel.item()
known = curved.depth, on_face, width, maps[who].skin, says.log_error.exp()
once = shading_refinement.ShadingRefinement(iterations=1)
step = shading_refinement.refine_by_shading(I_who, says.slopes, *known, once)
residuals = []
for slopes_now in (says.slopes, step.slopes):  # what is left of log I
    arriving = lighting.shade(step.albedo, step.light, normalnet.normals_of(slopes_now))
    residuals.append((I_who.clamp(min=0.02) / arriving.clamp(min=0.01)).log())

# %% tags=["check"]
share = step.trust / step.trust.sum()
first, last = ((share * e.square()).sum().sqrt().item() for e in residuals)
print(f"left over of log I: {first:.4f}, after one step {last:.4f}")
print(f"the depth has risen or sunk by {step.rise[on_face].std():.2f} mm rms")
assert last < 0.99 * first, f"{last:.4f}, not below 0.99 of {first:.4f}"
shown = {"photograph": I_who, "left over": 0.5 + residuals[0], "weight": step.trust}
shown |= {"rise, ±0.5 mm": 0.5 + step.rise}
pictures = [torch.where(on_face, m, 1.0)[0, 0].numpy() for m in shown.values()]
for slopes_now in (says.slopes, step.slopes):
    pictures.append(lit(normalnet.normals_of(slopes_now), on_face))
titles = [*shown, "NormalNet", "after the step"]
figure = viz.gallery(pictures, titles, columns=6, inches=1.6)
figure.savefig(output / "shading_step.png", dpi=100)
figure

# %% [markdown]
# ## 15 The shape once more
#
# NormalNet was asked for detail, but most of what it says is about the large shape: a
# cheek is flatter than the coarse face has it, a nose steeper. The model's identity can
# be corrected by it. Take points $x_i$ of its surface with normals $n_i$, and let $c$ be
# the identity coefficients. CoarseNet's answer $c_0$, which may be off by $s$, and the
# seen normals $\hat n_i$, which may be off by $\sigma_i$, together ask for
# $$\min_c \sum_i \frac{|\hat n_i - n_i - J_i (c - c_0)|^2}{\sigma_i^2} +
# \sum_k \frac{(c - c_0)_k^2}{s_k^2},$$
# a linear system in 200 numbers: the least squares of chapter 3, section 5, with normals in
# the place of points. The seen normal belongs to a *pixel*. When the shape changes, the
# surface turns there, and another part of it moves to that pixel, so
# $$J_i = \frac{\partial n_i}{\partial c} - B_i\,\frac{\partial x_i}{\partial c}.$$
# The first term is known in closed form: a triangle's normal is the cross product of two
# edges, and edges are linear in $c$. $B_i$ is the bend of the surface, the change of the
# normal from one pixel to the next.
#
# The code adds what a careful reader would ask for. All is in the model's frame, so the
# pose turns the seen normals back. $\sigma_i$ is NormalNet's error, and 0.1 rad for the
# wrinkles that no face of the model has, and more where the surface bends much. Points on
# eyes and ears, near an outline, hidden or turned away do not count. The expression stays
# as CoarseNet has it: normals within an open mouth are those of teeth.

# %%
shaped = ours.shape(I_who, rs[who])  # ShapeFromNormals with the weights that ship
believed = normalnet.normals_of(shaped.seen.slopes)
angle_to_seen, shapes_by = {}, {}
for state, numbers in {"CoarseNet's": rs[who], "by normals": shaped.r}.items():
    there = render.render(model, numbers, size)
    both = there.mask & on_face & (there.normals[:, 2:] > 0.35)
    cosine = (there.normals * believed).sum(1, keepdim=True)[both].clamp(-1, 1)
    angle_to_seen[state] = cosine.acos().mean().rad2deg().item()
    shapes_by[state] = model.vertices(numbers[:, : model.n_coefficients])[0]
apart = (shapes_by["by normals"] - shapes_by["CoarseNet's"]).norm(dim=1)

# %% tags=["check"]
turned_before, turned_after = angle_to_seen.values()
print(f"to the normals seen: {turned_before:.1f}°, after the step {turned_after:.1f}°")
print(f"vertices have moved by {apart.mean():.1f} mm, at most {apart.max():.1f}")
assert turned_after < turned_before, (
    f"{turned_after:.1f}°, not below {turned_before:.1f}"
)
off = (shaped.r - rs[who])[:, model.n_identity :].abs().max().item()
assert off == 0, f"expression and pose stay, but moved by {off:.1e}"

# %% [markdown]
# The package does this before it integrates, and with the normals that it has: asked
# again from the new shape, NormalNet would correct once more what is already right. On
# real people the coarse normals come nearer to the measured ones, and two photographs
# of one person get shapes that are more alike (`docs/evaluation.md`). On faces of
# CoarseNet's own rendered world the same step makes the shape worse, because NormalNet
# was taught to distrust the model. So the choice was made by real people.

# %% [markdown]
# ## 16 Which one is nearer to real faces?
#
# `Reconstructor.from_pretrained` has both stages: `refine="finenet"` is the paper's,
# `refine="normals"` is sections 11 to 15. Both begin with CoarseNet's answer, and the
# first figure of this chapter shows both. FineNet adds faint lines; ours moves cheeks
# and folds as well. At lids and lips, where NormalNet expects to be wrong, the depth is
# smoothed on purpose, and eyes get back a half of the coarse face's relief, for a
# blurred opening looks shut. The choice between the two is not left to the eye.
#
# Where Extended Yale B is at hand (`yale_folder`, or FACERECON_DATA as in chapter 5),
# the next cell measures both stages on two of its people, one photograph at a time: the
# angle to the measured normals; the correlation of the relief finer than 5 mm; how what
# a stage *added* correlates with what the coarse relief lacked, and its size along it
# (`gain`). Two rows are there for comparison: `integrated` shows no photograph at all,
# but only the coarse face's own smooth normals, and `sfs` is the minimum of FineNet's
# criterion from there, found for each photograph: shading without a network. What it
# gains over `integrated` is what shading alone is worth, and NormalNet gains far more.
# This is why `refine="normals"` is the default. But the people are no untouched judges,
# for NormalNet's training was tuned on them (`docs/evaluation.md`).
#
# Without the data the cell asks about the rendered strangers of section 12, and it may
# rank the stages otherwise. Their shapes are the morphable model's, where CoarseNet is
# at its best; NormalNet was taught with faces bent away from it, as real ones are. So
# whoever judges by rendered faces judges their renderer, too, and nothing is asserted
# there.

# %%
given = Path(yale_folder or Path(os.environ.get("FACERECON_DATA", "."), "yale"))
real = bool(yale_folder) or given.is_dir()
readers = yale_methods(model, reconstructor.coarsenet, network, reader)
if real:
    them = [yale.read_person(place) for place in yale.list_people(given)[:2]]
    lamps = measured_normals.LIGHTS[0], measured_normals.LIGHTS[2]
    judged = measured_normals.evaluate_people(them, readers, lights=lamps)
    judged = measured_normals.means(judged)
    print(measured_normals.table(judged))
    angle_of = {row["method"]: row["normals"] for row in judged}
else:
    angle_of = dict.fromkeys(readers, 0.0)
    for k, name in [(k, name) for k in range(people, people + 4) for name in readers]:
        photo = rendered.image[k, 0, ..., None].expand(-1, -1, 3).numpy()
        n = readers[name](photo, (17.0, 17.0, 166.0, 166.0)).normals
        cosine = (n * rendered_n[k].permute(1, 2, 0).numpy()).sum(-1)
        on = np.isfinite(cosine) & valid[k, 0].numpy()
        angle_of[name] += np.degrees(np.arccos(cosine[on].clip(-1, 1))).mean() / 4

# %% tags=["check"]
for name, angle in angle_of.items():
    print(f"{name:12} normals off by {angle:.2f}°")
first, last = angle_of["finenet"], angle_of["normals+sfs"]
assert last < first or not real, f"ours {last:.2f}°, not below {first:.2f} of FineNet"

# %% [markdown]
# ## Exercises
#
# A check says what is wrong with your answer and gives a hint; `exercise.hint()` gives
# the next one. Nothing here needs the cells above, only the imports.
#
# **6.1** Write the 2 × 2 up-convolution of stride 2 of section 2. *Ten minutes.*


# %% tags=["exercise"]
def up_convolution(x, weight):
    """From x (in, H, W) and weight (in, out, 2, 2) to (out, 2 H, 2 W)."""
    ### BEGIN SOLUTION
    _, height, width = x.shape
    blocks = np.einsum("iokl,ihw->ohkwl", weight, x)
    return blocks.reshape(-1, 2 * height, 2 * width)
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(0)
x_s, W_s = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 2, 2, 2))


def by_torch(weight):
    return F.conv_transpose2d(torch.tensor(x_s)[None], torch.tensor(weight), stride=2)


beside = np.einsum("iokl,ihw->okhlw", W_s, x_s).reshape(2, 8, 10)
swapped = by_torch(W_s.swapaxes(2, 3).copy())[0]
mistakes = {"k counts rows of the block and l columns; yours are swapped.": swapped}
mistakes["The four pixels of a block lie far apart instead of side by side."] = beside


exercise = Exercise(
    "6.1",
    "First fill a small 2 × 2 block for a single pixel, on paper.",
    "An array with the axes (out, row, k, column, l) holds all blocks.",
    "einsum can order the axes; one reshape then merges row with k and column with l.",
)
exercise.equal(
    "the map", lambda: up_convolution(x_s, W_s), by_torch(W_s)[0], mistakes=mistakes
)
exercise.passed("four matrices, one per place in the block, and no loop.")

# %% [markdown]
# **6.2** The smoothness of Eq. (13) for a depth map without a mask: the mean absolute
# five-point Laplacian over the pixels that have four neighbors. *Ten minutes.*


# %% tags=["exercise"]
def roughness(z):
    """Mean |Laplacian| of z (H, W) over its inner pixels."""
    ### BEGIN SOLUTION
    neighbors = z[:-2, 1:-1] + z[2:, 1:-1] + z[1:-1, :-2] + z[1:-1, 2:]
    return np.abs(neighbors - 4 * z[1:-1, 1:-1]).mean()
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(1)
rows, columns = np.mgrid[:6, :7].astype(float)
exercise = Exercise(
    "6.2",
    "What must the Laplacian of a tilted plane be?",
    "Four slices of z, each shifted by one pixel, hold the neighbors of inner pixels.",
)
for z_s in (rng.normal(size=(6, 7)), 3 * rows - columns, rows**2):
    z_map, kernel = torch.tensor(z_s)[None, None], torch.zeros(1, 1, 3, 3).double()
    expected = losses.smoothness(z_map, torch.ones_like(z_map, dtype=torch.bool))
    kernel[0, 0, 1], kernel[0, 0, :, 1] = 1.0, 1.0
    cross = F.conv2d(z_map, kernel)  # the pixel and its four neighbors
    inner = z_map[..., 1:-1, 1:-1]
    wrong = {"the middle counts once; it has four neighbors.": cross - 2 * inner}
    wrong = {text: value.abs().mean() for text, value in wrong.items()}
    squared = (cross - 5 * inner).square().mean()
    wrong["you squared; Eq. (13) is an L1 norm."] = squared
    bends = (cross - 5 * inner).abs()
    wrong["you summed; it is a mean over the inner pixels."] = bends.sum()
    rolled = sum(np.roll(z_s, step, axis) for step in (1, -1) for axis in (0, 1))
    text = "np.roll takes neighbors from the opposite border; use inner pixels alone."
    wrong[text] = np.abs(rolled - 4 * z_s).mean()
    exercise.equal("the mean", lambda: roughness(z_s), expected, mistakes=wrong)
exercise.passed("planes are smooth, and an L1 norm forgives a few sharp bends.")

# %% [markdown]
# **6.3** How does the shading of Eq. (8) change with the slopes? For $n = (-p, -q, 1) /
# \sqrt{1 + p^2 + q^2}$ and a light $l$ of four numbers, give the derivatives of
# $\langle l, Y(n)\rangle$ by $p$ and by $q$. *Twenty minutes, with paper.*


# %% tags=["exercise"]
def shading_slopes(p, q, l):
    """d<l, Y>/dp and d<l, Y>/dq."""
    ### BEGIN SOLUTION
    length = np.sqrt(1 + p**2 + q**2)
    directed = (-l[1] * p - l[2] * q + l[3]) / length
    by_p = (-l[1] - directed * p / length) / length
    return by_p, (-l[2] - directed * q / length) / length
    ### END SOLUTION


# %% tags=["check"]
def derivatives(shading, p, q, h=1e-6):
    """By p and by q, as differences of a function of both."""
    by_p = shading(p + h, q) - shading(p - h, q)
    return np.array([by_p, shading(p, q + h) - shading(p, q - h)]) / (2 * h)


exercise = Exercise(
    "6.3",
    "Write the shading as a fraction and use the quotient rule.",
    "The length below the line depends on p and q, too.",
)
for p_s, q_s, *l_s in np.random.default_rng(2).normal(size=(4, 6)):
    sides, length = np.array(l_s[1:]), np.sqrt(1 + p_s**2 + q_s**2)

    def shading_of(p, q, sign=-1):
        return sides @ [sign * p, sign * q, 1] / np.sqrt(1 + p**2 + q**2)

    mistakes = {"you left out the change of the length.": -sides[:2] / length}
    frozen = derivatives(
        lambda p, q: shading_of(p, q) * np.sqrt(1 + p**2 + q**2), p_s, q_s
    )
    mistakes["you left out the length: n is a unit vector."] = frozen
    other = derivatives(lambda p, q: shading_of(p, q, 1), p_s, q_s)
    mistakes["the normal leans against the slope: n begins with -p and -q."] = other
    mistakes["by q and by p are swapped."] = derivatives(shading_of, p_s, q_s)[::-1]
    exercise.equal(
        "the derivatives by p and q",
        lambda: shading_slopes(p_s, q_s, np.array(l_s)),
        derivatives(shading_of, p_s, q_s),
        mistakes=mistakes,
    )
exercise.passed("these are the a and b of section 14, before the logarithm.")

# %% [markdown]
# **6.4** In section 13 a screen decides between slopes and coarse depth. Write it for a
# row: from the steps (n - 1,) between neighbors, a coarse row (n,) and the weight $a$
# of the screen, return the $z$ (n,) that minimizes
# $\sum (z_{i+1} - z_i - s_i)^2 + a \sum (z_i - z_{0,i})^2$. Try both ends of $a$: with
# a tiny one the steps decide everything but the height of the row, with a huge one the
# coarse row comes back. *Twenty minutes.*


# %% tags=["exercise"]
def integrate_row(steps, coarse, screen):
    """The row (n,) nearest to the steps (n - 1,) and to the coarse row (n,)."""
    ### BEGIN SOLUTION
    D = np.diff(np.eye(len(coarse)), axis=0)
    system = D.T @ D + screen * np.eye(len(coarse))
    return np.linalg.solve(system, D.T @ steps + screen * coarse)
    ### END SOLUTION


# %% tags=["check"]
rng = np.random.default_rng(3)
steps_s, coarse_s = rng.normal(size=8), rng.normal(size=9)


def least_squares(steps, coarse_weight, row_weight):
    """The row, its coarse part weighed with two numbers of which only one is right."""
    rows = np.vstack([np.diff(np.eye(9), axis=0), coarse_weight * np.eye(9)])
    wanted = np.concatenate([steps, row_weight * coarse_s])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


exercise = Exercise(
    "6.4",
    "Write all differences z_(i+1) - z_i at once, as a matrix D times z.",
    "Set the gradient of the sum of squares to zero: the normal equations.",
    "The screen adds to the matrix and to the right side.",
)
for a in (0.5, 1e-6, 1e6):
    root = np.sqrt(a)
    mistakes = {"a is squared in your matrix.": least_squares(steps_s, a, 1.0)}
    text = "a belongs to a square, so a row of equations gets its root."
    mistakes[text] = least_squares(steps_s, a, a)
    text = "the coarse row is not weighed by a on the right side."
    mistakes[text] = least_squares(steps_s, root, 1 / root)
    text = "your steps run from right to left: step i is z_(i+1) - z_i."
    mistakes[text] = least_squares(-steps_s, root, root)
    answer = lambda: integrate_row(steps_s, coarse_s, a)  # noqa: E731
    right = least_squares(steps_s, root, root)
    exercise.equal(f"the row with a = {a:g}", answer, right, mistakes=mistakes)
exercise.passed("integrate of the package solves this system for a whole face.")

# %% [markdown]
# ## What we did not reproduce
#
# - **VGG-Face.** The paper starts from its weights and learns from its photographs:
#   both must be requested. `vgg.load_vgg` reads them, and torchvision's VGG-16,
#   when you have them. Ours began at random; their card says what they saw.
# - **The linear regressor.** The paper's 1 × 1 convolutions are "used as a linear
#   regressor"; ours have ReLUs between them, or they would be a single layer.
# - **The units of Eq. (14)** and `sfs.detail_target`, which keeps cast shadows and hair
#   out of the surface, are ours; the paper states neither.
# - **Figure 11**, crops of 400 pixels, has a notebook of its own (`fig_11`).
# - **Sections 10 to 15** reproduce nothing. They show another method.
#
# ## Summary
#
# 1. A hypercolumn stacks early and late responses, so that each pixel knows both what
#    it looks like and where on the face it lies.
# 2. Eq. (14) trains a network without true surfaces: its answer must explain the
#    photograph, stay near the coarse depth, and be smooth. The units decide the
#    balance.
# 3. The criterion cannot tell flat dark spots from folds, since albedo and shading
#    enter as a product.
# 4. Rendered faces have known normals. A network can learn from them what faces look
#    like, and also how sure it may be.
# 5. Normals become depth by least squares; the reach says how far slopes are believed.

# %% [markdown]
# ## Review questions
#
# 1. Why 450 channels, and which of them know that a pixel lies on a nose?
# 2. Why would a bias in the first of two up-convolutions be a checkerboard?
# 3. Which layer could not be folded, and why?
# 4. A photograph is enlarged twofold. How do $E_{sh}$, $E_f$ and $E_{sm}$ change?
# 5. Why is $E_{sm}$ an L1 norm? What would a squared Laplacian do to a wrinkle?
# 6. The optimization reaches a lower energy. Is its surface nearer to the truth?
# 7. Why does the network need no light and albedo at test time?
# 8. Why can no weight of Eq. (14) tell an age spot from a dimple, and what can?
# 9. What will $\sigma$ be at a place that no photograph shows?
# 10. Which errors of a coarse face does a short reach keep, and which a long one?

# %% tags=["record"]
measured = {f"terms/{name}/angle_deg": score[0] for name, score in scores.items()}
measured |= {f"units/{name}/angle_deg": angle for name, angle in by_units.items()}
measured |= {f"checkerboard/{name}": share for name, share in boards.items()}
for method, row in on_synthetic.items():
    measured |= {f"drawn/{method}/{k}": row[k] for k in ("depth", "normals")}
for name, of in energies.items():
    for key, loss in of.items():
        measured[f"{name}/{key}/energy"] = loss.total.item()

# %% tags=["record"]
other_files = [
    weight_files.shipped(f"{name}.safetensors") for name in ("coarsenet", "normalnet")
]
measured_on = "rendered faces; two portraits"
record = repro.Recorder(
    output, preset, seed, weights=[used_weights, *other_files], data=measured_on
)
for (side_px, folded), value in seconds.items():
    record.timing(f"{'folded' if folded else 'unfolded'}/{side_px}", value)
for name, value in measured.items():
    record(name, float(f"{value:.4g}"))
print(f"{len(record.values)} numbers are in {record.path}")
repro.judge_item("finenet", output)

# %% [markdown]
# ## Further reading
#
# - E. Richardson, M. Sela, R. Or-El, R. Kimmel. [*Learning Detailed Face Reconstruction
#   from a Single Image.*](https://arxiv.org/abs/1611.05053) CVPR 2017: the paper.
# - B. Hariharan et al. [*Hypercolumns for object segmentation and fine-grained
#   localization.*](https://arxiv.org/abs/1411.5752) CVPR 2015.
# - O. Parkhi, A. Vedaldi, A. Zisserman. *Deep face recognition.* BMVC 2015: VGG-Face.
# - A. Odena, V. Dumoulin, C. Olah. [*Deconvolution and checkerboard
#   artifacts.*](https://distill.pub/2016/deconv-checkerboard/) Distill 2016.
# - R. Or-El et al. *RGBD-Fusion.* CVPR 2015: the energies in whose spirit Eq. (14) is.
# - J. Neuberger. *Sobolev gradients and differential equations.* Springer 2010.
# - O. Ronneberger, P. Fischer, T. Brox. [*U-Net.*](https://arxiv.org/abs/1505.04597)
# - A. Kendall, Y. Gal. [*What uncertainties do we need in Bayesian deep learning for
#   computer vision?*](https://arxiv.org/abs/1703.04977) NIPS 2017.
# - Y. Quéau, J.-D. Durou, J.-F. Aujol. [*Normal integration: a
#   survey.*](https://arxiv.org/abs/1709.05940) JMIV 2018.
# - V. Abrevaya et al. [*Cross-modal deep face normals with deactivable skip
#   connections.*](https://arxiv.org/abs/2003.09691) CVPR 2020.
