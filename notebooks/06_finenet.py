# %% [markdown]
# # FineNet, and learning from rendered normals
#
# **A network adds detail to a coarse face. The paper's learns from an energy, without
# any true surface; ours learns from rendered faces, whose normals are known.**
#
# *Afterwards you can* take a hypercolumn apart, say what each term of the criterion
# does and why it is not enough on real skin, train a small FineNet and a small
# NormalNet, and integrate normals. *Paper:* sections 4.2 and 4.3; Eqs. (8), (13) and
# (14); Figure 3. Sections 10 to 15 are ours. *Time:* about 90 seconds on two CPU cores
# (`full`: twenty minutes). *Data:* what ships; two public-domain portraits from
# scikit-image and matplotlib; if you have it, Extended Yale B. Nothing is downloaded.

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
from facerecon.detection import detect
from facerecon.evaluation import detail, detail_report, measured_normals, yale
from facerecon.evaluation.yale_methods import yale_methods
from facerecon.synthetic import studio, world as synthetic
from facerecon.synthetic.detail import detail_config
from facerecon.training import presets
from facerecon.views import portraits, viz
import torch  # after facerecon, which tells its threads how to wait
import torch.nn.functional as F

# %%
torch.set_grad_enabled(False)
used_weights = Path(fine_weights or weight_files.shipped("finenet.safetensors"))
reconstructor = Reconstructor.from_pretrained(fine=used_weights, refine="finenet")
model, network, size = reconstructor.model, reconstructor.finenet, 200
settings = presets.FineTraining()  # weights of Eq. (14); what the paper leaves open
generator = torch.Generator().manual_seed(seed)
steps = {"quick": 100, "full": 1000}[preset]  # of every optimization
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)


# %%
def lit(n, mask):
    """Normals (1, 3, H, W) as a shaded grey surface, white outside of the mask."""
    return viz.shaded(torch.where(mask, n, torch.nan)[0].permute(1, 2, 0).numpy())


def clay(z, like):
    """A depth map in the same way."""
    return lit(depth.normals_from_depth(z, like.mm_per_pixel, like.mask), like.mask)


# %% [markdown]
# The two portraits, as in chapters 5 and 7: a crop, four steps of CoarseNet, its depth
# map, and the light and albedo that explain the crop.

# %%
photos, images, maps, rs = portraits.portraits(), {}, {}, {}
for name, photo in photos.items():
    face, _ = imaging.crop(photo, detect.detect_faces(photo)[0].crop_box(), size)
    images[name] = torch.from_numpy(imaging.to_grey(face))[None, None]
    rs[name] = coarsenet.iterate(reconstructor.coarsenet, model, images[name], 4)[-1]
    maps[name] = model_maps(model, rs[name], size)

# %% [markdown]
# ## 1 The hypercolumn
#
# "The main idea behind this architecture is to generate a per-pixel feature map which
# incorporates both structural and semantic data. This is achieved by concatenating the
# output responses from several convolution layers along the path of the network." The
# path is that of VGG-Face, truncated "before the third pooling layer"; two channels go
# in, grey and depth. The maps of the second and third block are half and a quarter as
# wide; "cascaded 2-strided 2×2 up-convolution layers" bring them back. Per pixel: 2
# inputs + 64 + 128 + 256 = 450 channels, the paper's "200 × 200 × 450". The network
# that ships is narrower, for a processor had to train it: see `config.width`.

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

# %% tags=["check"]
package = net.hypercolumn(inputs)
parts = [tuple(b.shape) for b in (block2, block3)]
print("hypercolumn", tuple(column.shape), "from", parts)
channels = 2 + 7 * net.config.width
assert column.shape[1] == channels, f"{column.shape[1]} channels, expected {channels}"
off = (column - package).abs().max() / package.abs().max()
assert off < 1e-5, f"off by {off:.1e} of the largest value, not below 1e-5"
hidden = relu(net.regress2(relu(net.regress1(column))))
by_hand = face.depth + net.regress3(hidden) * face.mm_per_pixel  # pixels to mm
answer = net(I, face.depth, face.mask, face.mm_per_pixel)
difference = (by_hand - answer)[face.mask].abs().max()
print(f"FineNet by hand: largest difference {difference:.1e} mm")
assert difference < 1e-3, f"{difference:.1e} mm, not below 1e-3"

# %% [markdown]
# The four channels of each scale that vary most over the face: edges and strands at
# full resolution, folds and features at a half, parts of a face at a quarter. The third
# row has been brought up by two learned up-convolutions.

# %%
pictures, scales = [], {"block 1": block1, "block 2, up": up2, "block 3, up": up3}
for features in scales.values():
    inside = features[0][:, face.mask[0, 0]]
    strongest = inside.std(dim=1).argsort(descending=True)[:6]
    for k in strongest.tolist():
        low, high = inside[k].quantile(torch.tensor([0.02, 0.98]))
        channel = (features[0, k] - low) / (high - low).clamp(min=1e-6)
        pictures.append(torch.where(face.mask[0, 0], channel, 1.0).clamp(0, 1).numpy())
figure = viz.gallery(pictures, columns=6, inches=1.5)
figure.savefig(output / "hypercolumn.png", dpi=65)
figure

# %% [markdown]
# ## 2 Up-convolutions
#
# A 2 × 2 up-convolution of stride 2 turns each pixel into a block of four, $y_{2i+k,
# 2j+l} = W_{kl}\,x_{ij}$, with one matrix per place in the block. Unlike bilinear
# interpolation "the interpolation is now also part of the learning process". Its
# vice: if the four matrices differ at random, each block gets the same pattern, a
# *checkerboard*. Ours start as four identities (nearest neighbor), so that a pattern
# appears only where learning wants one. (Exercise 1 writes one by hand.)


# %%
def checkerboard(y):
    """Share of the variance that repeats in each block of four pixels."""
    phases = [y[..., k::2, l::2].mean(dim=(2, 3)) for k in range(2) for l in range(2)]
    share = torch.stack(phases).var(0) / y.var(dim=(2, 3)).clamp(min=1e-9)
    return share.mean().item()


# %% tags=["check"]
W = net.up2.weight  # (in, out, 2, 2)
start = torch.randn(W.shape, generator=generator) / W.shape[0] ** 0.5
boards = {"random start": checkerboard(F.conv_transpose2d(block2, start, stride=2))}
boards["identities"] = checkerboard(F.interpolate(block2, scale_factor=2))
boards["learned"] = checkerboard(up2)
added = answer - face.depth
boards["FineNet's answer"] = checkerboard(torch.where(face.mask, added, 0.0))
for name, share in boards.items():
    print(f"{name:18} {share:.5f}")
random, none, learned, ours = boards.values()
assert none < 1e-6, f"identities: {none:.1e}, not below 1e-6"
assert 1e-6 < learned < 0.5 * random, f"learned {learned:.4f}, random {random:.4f}"
assert ours < 1e-3, f"FineNet's answer: {ours:.1e}, not below 1e-3"

# %% [markdown]
# ## 3 Fold it
#
# Up-convolutions and the first 1 × 1 convolution are linear, with nothing between them.
# So their product can be applied to each scale *before* it grows: of 256 channels at a
# quarter of the size only the regressor's first 128 are brought up, and the 450
# channels never exist. The same function of the same parameters
# (`FineNet(folded=True)`, the default), with a fraction of the arithmetic and the
# memory.

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
    difference = (results[True] - results[False]).abs().max()
    print(side, "px, unfolded and folded:", f"difference {difference:.1e} mm;", end=" ")
    print(", ".join(f"{seconds[side, folded]:.2f} s" for folded in (False, True)))
    assert difference < 1e-3, f"{difference:.1e} mm, not below 1e-3"

# %% [markdown]
# ## 4 The criterion and its units
#
# Chapter 5 found light and albedo. With them "we can calculate $E_{sh}$", Eq. (8), and
# "[t]o regularize the solution, a fidelity and smoothness terms are added",
# $$E_f = \|\hat z - z_0\|_2^2, \quad E_{sm} = \|\Delta\hat z\|_1, \qquad (13)$$
# $$L = \lambda_{sh}E_{sh} + \lambda_f E_f + \lambda_{sm}E_{sm}, \qquad (14)$$
# with $\lambda_{sh} = 1$, $\lambda_f = 5\cdot10^{-3}$, $\lambda_{sm} = 1$. The paper
# does not say in which units, and the balance depends on them. Ours: intensity in 8-bit
# grey levels, depth in 1/128 of a pixel's width; all terms as means over the face.

# %%
bounds = settings.detail_bounds
explained = {
    name: estimate_light_and_albedo(images[name], maps[name], 1) for name in images
}
goal = {
    name: shading_target(images[name], maps[name], found.albedo, found.light, bounds)
    for name, found in explained.items()
}  # the photograph as far as detail can explain it: chapter 5, and `sfs.detail_target`
goal_image, goal_albedo, light = goal["grace_hopper"][:3]
z_0, z = face.depth, answer
p = face.mm_per_pixel / 128  # mm per unit of depth
n = depth.normals_from_depth(z, face.mm_per_pixel, face.mask)
Y = torch.cat([torch.ones_like(n[:, :1]), n], dim=1)
shading = (light[:, :, None, None] * Y).sum(dim=1, keepdim=True)
E_sh = (255 * (goal_albedo * shading - goal_image))[face.mask].square().mean()
E_f = ((z - z_0) / p)[face.mask].square().mean()

# %% tags=["check"]
q = F.pad(z, (1, 1, 1, 1))  # the four neighbors minus four times the pixel
neighbors = q[..., :-2, 1:-1] + q[..., 2:, 1:-1] + q[..., 1:-1, :-2] + q[..., 1:-1, 2:]
laplacian = (neighbors - 4 * z)[losses.five_point_interior(face.mask)]
E_sm = (laplacian / p).abs().mean()
L = E_sh + 5e-3 * E_f + E_sm
package = losses.finenet_loss(z, z_0, goal["grace_hopper"])
for name, mine, theirs in zip(
    package._fields, (L, E_sh, E_f, E_sm), package, strict=True
):
    print(f"{name:11} {mine:9.3f} {theirs:9.3f}")
    assert torch.isclose(mine, theirs, rtol=1e-3), f"{name}: {mine}, expected {theirs}"

# %% [markdown]
# ## 5 The gradient
#
# "The gradient of $L$ with respect to $\hat z$ is then calculated and used for
# backpropagation." Autograd does it; a finite difference tells whether it is right. At
# each of some pixels we move the depth by a thousandth of a pixel, in double precision.

# %%
double = losses.ShadedImage(
    *(m.double() if m.is_floating_point() else m for m in goal["grace_hopper"])
)


def energy(z):
    """E_sh of Eq. (8)."""
    return losses.shading_energy(z, double)


with torch.enable_grad():
    leaf = z.double().requires_grad_()
    energy(leaf).backward()

# %% tags=["check"]
here = losses.five_point_interior(face.mask)[0, 0].nonzero()
here = here[torch.randperm(len(here), generator=generator)[:12]]
for row, col in here.tolist():
    nudge = torch.zeros_like(leaf)
    nudge[0, 0, row, col] = 1e-3 * face.mm_per_pixel.item()
    slope = (energy(leaf + nudge) - energy(leaf - nudge)) / (2 * nudge.sum())
    ours = leaf.grad[0, 0, row, col]
    same = torch.isclose(slope, ours, rtol=1e-3, atol=1e-12)
    assert same, f"at {row, col}: {ours:.4e}, expected {slope:.4e}"
print(f"12 pixels agree; the last: {slope:.3e} and {ours:.3e}")

# %% [markdown]
# Shading depends on slopes, so the gradient of one pixel's residual is a *dipole*:
# raise one neighbor, lower the other. Plain gradient descent builds folds out of such
# grains very slowly. `facerecon train fine --photos` divides the gradient's spectrum by
# $k_0^2 + k^2$ (`losses.sobolev_gradient`): the same minimum, reached along a smooth
# way.

# %%
plain = leaf.grad.float()
smooth = losses.sobolev_gradient(plain, settings.gradient_cutoff)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
views = {"photograph": I, "dE/dz": plain, "dE/dz, Sobolev": smooth}
for axis, (title, picture) in zip(axes, views.items(), strict=True):
    limit = 3 * picture[face.mask].std()
    colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    axis.imshow(picture[0, 0], **({"cmap": "gray"} if picture is I else colors))
    axis.set(title=title, xticks=[], yticks=[])
figure.savefig(output / "gradient.png", dpi=70)
plt.show()

# %% [markdown]
# ## 6 One term at a time
#
# What does each term do? We need a face whose true surface we know: a model's face
# with synthetic wrinkles (chapter 2), lit at first order. Light and albedo are given,
# and we minimize Eq. (14) over the depth map itself, starting at the smooth face
# (`sfs.refine_depth`): with all terms, and with some switched off; for a clean
# photograph and for a noisy one. To save time only a window of brows and forehead takes
# part.

# %%
bare = detail_config(size, detail_report.STRENGTH, bare=True)  # no hair, no glasses
world = synthetic.SyntheticWorld(model, bare)
r = torch.zeros(1, 290)
r[0, model.expression_index("browInnerUp")] = 2.0
r[0, -1] = 0.8  # larger
whole, rendering = model_maps(model, r, size), render.render(model, r, size)
old = world.relief.sample(camera.split(r)[0], torch.ones(1, 1), generator)
height = world.chart.sample(old, world.chart.at(rendering.fragments))
surface = whole.depth, whole.normals, whole.mask, height, whole.mm_per_pixel
true = synthetic.displace(*surface)
lamp = torch.tensor([[0.35, 0.25, 0.3, 0.55]])
clean = lighting.shade(whole.albedo_mean, lamp, true.normals)
grain = torch.randn(clean.shape, generator=generator)

# %%
window = np.s_[:, :, 25:105, 50:150]
mm, albedo = whole.mm_per_pixel, whole.albedo_mean[window]
smooth_z, inside, true_z, true_n, skin = (
    m[window] for m in (whole.depth, whole.mask, *true, whole.skin)
)


def against_truth(z):
    """Mean angle between normals in degrees, and rms depth error in mm, on skin."""
    on = (skin > 0.5) & losses.five_point_interior(inside)
    chord = depth.normals_from_depth(z, mm, inside) - true_n
    angle = 2 * torch.asin((chord.norm(dim=1, keepdim=True) / 2).clamp(max=1))
    return angle[on].rad2deg().mean().item(), (z - true_z)[on].std().item()


# %%
off = {"shading": 0.0}, {"fidelity": 0.0}, {"smoothness": 0.0}
variants = {"all terms": {}, "no shading": off[0], "no fidelity": off[1]}
variants |= {"no smoothness": off[2], "only shading": off[1] | off[2]}
refined = {"start": smooth_z}
noises = {"clean": 0.002, "noisy": 0.02}
photographed = {name: (clean + s * grain)[window] for name, s in noises.items()}
for photo, image in photographed.items():
    for name, without in variants.items():
        shaded = losses.ShadedImage(image, albedo, lamp, inside, mm)
        lambdas = losses.CriterionWeights(**without)
        refined[f"{name}, {photo}"] = sfs.refine_depth(
            smooth_z, shaded, lambdas, steps=2 * steps
        )

# %% tags=["check"]
scores = {name: against_truth(z) for name, z in refined.items()}
for name, (angle, error) in scores.items():
    print(f"{name:22} normals off by {angle:5.2f}°, depth by {error:.2f} mm")
angle, error = ({name: score[i] for name, score in scores.items()} for i in (0, 1))
start, flat = angle["start"], angle["no shading, clean"]
assert flat > start, f"without shading only flatter: {flat:.2f}°, start {start:.2f}"
found = angle["no smoothness, clean"]
assert found < start, f"wrinkles: {found:.2f}°, not below {start:.2f}"
smooth, rough = angle["all terms, noisy"], angle["no smoothness, noisy"]
assert smooth < 0.7 * rough, f"noise: {smooth:.2f}°, not below 0.7 of {rough:.2f}"
held, free = error["all terms, clean"], error["no fidelity, clean"]
assert held < free + 0.02, f"depth: {held:.3f} mm, without fidelity {free:.3f}"

# %%
shown = {"photograph, noisy": photographed["noisy"], "truth": true_z} | refined
pictures = []
for name, z in shown.items():
    n = depth.normals_from_depth(z, mm, inside)[0].permute(1, 2, 0).numpy()
    pictures.append(z[0, 0].numpy() if "photograph" in name else viz.shaded(n))
figure = viz.gallery(pictures, list(shown), 5, inches=2.1)
figure.savefig(output / "terms.png", dpi=65)
figure

# %% [markdown]
# Shading finds the wrinkles, and the noise. Smoothness takes the noise away and with it
# what is finer than the noise; the L1 norm lets a few pixels bend much, but on a clean
# photograph the paper's weight costs more than it saves. Fidelity holds what shading
# cannot see, slow drift. Without shading the surface only flattens.
#
# **Why these units?** With images in [0, 1] the residual is 65,000 times smaller
# beside the same smoothness, and with depth in whole pixels the smoothness is 128 times
# smaller beside the same residual. The noisy photograph, in other units:

# %% tags=["check"]
unit_sets = {
    "grey levels, 1/128 pixel": {},
    "[0, 1], pixels": {"intensity_unit": 1.0, "depth_unit": 1.0},
    "grey levels, pixels": {"depth_unit": 1.0},
}
noisy = losses.ShadedImage(photographed["noisy"], albedo, lamp, inside, mm)
by_units = {}
for name, units in unit_sets.items():
    lambdas = losses.CriterionWeights(**units)
    found = sfs.refine_depth(smooth_z, noisy, lambdas, steps=2 * steps)
    by_units[name] = against_truth(found)[0]
    print(f"{name:26} normals off by {by_units[name]:.2f}°")
ours, *others = by_units.values()
assert ours < min(others), f"{ours:.2f}°, not below {min(others):.2f} of other units"

# %% [markdown]
# ## 7 The network against the optimization
#
# "[T]ransforming the problem from an online optimization problem to a regression one"
# (4.3): what the optimization finds in hundreds of steps, given light and albedo, a
# network can learn to say at once. The weights that ship learned otherwise. The paper
# needs its criterion as "there is no known model that captures the diversity of fine
# facial details"; with synthetic wrinkles (chapter 2) a network can be shown the
# answer (`facerecon train fine --supervised`). Where wrinkles are known, it comes
# nearer to the truth than one that learned Eq. (14) from photographs, and than
# minimizing it (`docs/evaluation.md`). So compare the pictures: the network was not
# asked for a small energy.

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
    print(
        f"{name}: network {spent[name][0]:.2f} s, {steps} steps {spent[name][1]:.1f} s"
    )
    for key, loss in of.items():
        terms = {k: round(v.item(), 1) for k, v in loss._asdict().items()}
        print(f"   {key:10} {terms}")
    first, last = of["coarse"].total, of["minimized"].total
    assert last < first, f"{name}: {last:.1f}, not below {first:.1f}"
    one, many = spent[name]
    assert one < many, f"{name}: {one:.2f} s, not below {many:.2f} of {steps} steps"

# %%
pictures = []
for name, found in surfaces.items():
    pictures += [
        images[name][0, 0].numpy(),
        *(clay(z, maps[name]) for z in found.values()),
    ]
titles = ["photograph", "coarse", "FineNet", f"minimized, {steps} steps"]
figure = viz.gallery(pictures, titles, columns=4, inches=2.4)
figure.savefig(output / "network_and_optimization.png", dpi=70)
figure

# %% [markdown]
# ## 8 A training run
#
# A FineNet of the width that ships learns from the two portraits and their
# mirror images, without any true depth: Eqs. (11) and (12) gave light and albedo, once;
# then, in each step, a window of each face goes through the network, Eq. (14) is
# calculated, and its gradient goes back. That is 4.3 as a whole.
# In half a minute a network does not learn to be smoother than the coarse mesh, which
# is most of what the paper's weights ask for on these photographs (section 7). So the
# smoothness has a tenth of its weight here, and what is learned is shading.

# %%
both = torch.cat([torch.cat([image, image.flip(3)]) for image in images.values()])
fits = coarsenet.iterate(reconstructor.coarsenet, model, both, 4)[-1]
faces = model_maps(model, fits, size)
found = estimate_light_and_albedo(both, faces, 1)
wanted = shading_target(both, faces, found.albedo, found.light, bounds)
torch.manual_seed(seed)
small = finenet.FineNet(finenet.FineNetConfig(width=16, regressor=(32, 16)))
optimizer = torch.optim.AdamW(small.parameters(), lr=4e-3, betas=(0.9, 0.98))
rounds = {"quick": 180, "full": 3000}[preset]
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=rounds)


# %%
def criterion(window):
    """Eq. (14) of the small network on a window of all crops."""
    maps_of = (both, faces.depth, faces.mask, wanted.image, wanted.albedo)
    photo, z_0, mask, image, albedo = (m[window] for m in maps_of)
    z = small(photo, z_0, mask, faces.mm_per_pixel)
    shaded = wanted._replace(image=image, albedo=albedo, mask=mask)
    return losses.finenet_loss(z, z_0, shaded, losses.CriterionWeights(smoothness=0.1))


# %%
before, history, start = criterion(np.s_[:]), [], time.perf_counter()
for _ in range(rounds):
    top, left = (30 + torch.randint(50, (2,), generator=generator)).tolist()
    with torch.enable_grad():
        loss = criterion(np.s_[:, :, top : top + 96, left : left + 96])
    optimizer.zero_grad()
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(small.parameters(), settings.gradient_clip)
    optimizer.step()
    schedule.step()
    history.append(loss.total.item())
after = criterion(np.s_[:])
print(f"{rounds} steps in {time.perf_counter() - start:.0f} s")

# %% tags=["check"]
figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
axis.plot(history, lw=0.6, color="0.6")
axis.plot(np.convolve(history, np.ones(15) / 15, "valid"))
axis.set(xlabel="step", ylabel="criterion, windows")
figure.savefig(output / "training.png", dpi=80)
plt.show()
for name, first, last in zip(after._fields, before, after, strict=True):
    print(f"{name:11} {first:8.2f} before, {last:8.2f} after")
ratio = after.shading / before.shading  # docs/training.md has the spread over seeds
assert ratio < 0.93, f"the shading's term: {ratio:.3f} of before, not below 0.93"

# %% [markdown]
# ## 9 Nearer to the truth?
#
# A lower energy is not yet a better surface. `facerecon evaluate detail` measures on
# faces whose wrinkles are known: depth error, angle between normals, correlation of the
# fine part of the depth, and of what was *added* with the wrinkles, for the coarse
# surface, FineNet (`fine`) and the optimization (`sfs`), at 200 and 400 pixels, also on
# heads of another model. Here a few faces at 200 pixels. They start from the *true*
# smooth surface, where there is much to lose: whoever adds more noise than wrinkles has
# the larger angle. Read the `gain`, which may well be negative.

# %% tags=["check"]
few = {"quick": 4, "full": 32}[preset]
nets = {"fine": network, "short training": small}
lambdas, order = settings.criterion_weights, settings.light_order
per_image = detail.ShapeFromShading(settings.detail_bounds, lambdas, order, steps)
refiners = detail_report.Refiners(nets, per_image)
wrinkled = detail.synthetic_faces(world, few, seed)
benchmark, sheet = detail_report.measure_detail(wrinkled, model, refiners)
about = {"faces": "synthetic", "size": size, "start": "true coarse"}
rows = [about | row for row in benchmark]
print(detail_report.detail_table(rows))
on_synthetic = {row["method"]: row for row in benchmark}
# What it adds is, if little, the wrinkles.
added = on_synthetic["sfs"]["detail"]
assert added > 0, f"correlation with the wrinkles {added:.3f}, above 0 expected"
angles = [row["normals"] for row in benchmark]
assert np.isfinite(angles).all(), f"not all are finite: {angles}"
sheet.convert("RGB").save(output / "known_detail.jpg", quality=80)
sheet

# %% [markdown]
# ## 10 What the criterion cannot see
#
# Everything up to here is the paper's. The rest of this chapter is *ours*: a second
# detail stage, `refine="normals"`, and the reason for it. Eq. (8) has one number for
# each pixel, the product of albedo and shading. In section 6 the albedo was given and
# right. In a photograph ten coefficients stand for it, and they hold neither a freckle
# nor stubble, a scar or a red cheek. Whatever they leave over must become shape, for
# the criterion has nowhere else to put it. We repeat the cleanest experiment of section
# 6 with one change: the skin has age spots, which are darker by up to a fifth and as
# flat as the skin around them. The criterion is not told. It gets the true light and
# the albedo without spots, and smoothness has a tenth of its weight, as in section 8.

# %%
spot = torch.zeros_like(albedo)
down, across = torch.meshgrid(*map(torch.arange, albedo.shape[2:]), indexing="ij")
for row, column, radius in ((22, 30, 3.0), (30, 62, 4.0), (14, 78, 2.0), (44, 84, 2.5)):
    distance = ((down - row) ** 2 + (across - column) ** 2).sqrt()
    spot = torch.maximum(spot, torch.sigmoid(radius - distance))
little, by_skin = losses.CriterionWeights(smoothness=0.1), {}
for name, share in {"without spots": 0.0, "with spots": 0.2}.items():
    photo = photographed["clean"] * (1 - share * spot)
    unaware = losses.ShadedImage(photo, albedo, lamp, inside, mm)
    by_skin[name] = sfs.refine_depth(smooth_z, unaware, little, steps=2 * steps)
n_of = {k: depth.normals_from_depth(z, mm, inside) for k, z in by_skin.items()}

# %% tags=["check"]
at_spots = (F.max_pool2d(spot, 7, 1, 3) > 0.5) & (skin > 0.5)
at_spots &= losses.five_point_interior(inside)
wrong_by = {}
for name, n in n_of.items():
    angle_there = (n * true_n).sum(1, keepdim=True).clamp(-1, 1).acos().rad2deg()
    wrong_by[name] = angle_there[at_spots].mean().item()
    print(f"{name}: normals around them are off by {wrong_by[name]:.1f}°")
good, bad = wrong_by.values()
assert bad > 1.5 * good, f"with spots {bad:.1f}°, not above 1.5 times {good:.1f}"
pictures = [photo[0, 0].numpy(), *(lit(n, inside) for n in (true_n, *n_of.values()))]
titles = ["photograph, with spots", "truth", *n_of]
figure = viz.gallery(pictures, titles, columns=4, inches=2.2)
figure.savefig(output / "spots.png", dpi=70)
figure

# %% [markdown]
# Flat spots have become ridges. More smoothness would level them, and the wrinkles with
# them: both are changes of brightness over a few pixels, and no weight of Eq. (14) can
# tell them apart. Real skin is full of such changes. Measured against the normals of
# Extended Yale B (chapter 5, section 10), what FineNet adds to the coarse relief has
# little to do with what that relief lacks, and a FineNet that learned Eq. (14) from
# photographs is no better on wrinkles that are known (`docs/evaluation.md`; section 15
# measures it again). A person who looks at the photograph is hardly misled, for she
# knows more than one pixel's equation: how wrinkles run, that a crease has a lit and a
# shaded side, where lips and lids are, and what an age spot looks like. Such knowledge
# of faces can be learned, where there are enough examples with the truth.

# %% [markdown]
# ## 11 NormalNet: inputs, outputs, loss
#
# Real faces with known normals are rare, but a renderer makes as many as we want
# (chapter 2). *NormalNet* is a small U-Net that is shown nine maps: the grey values and
# their *logarithm*, in which a change of light is an offset and creases in the shade
# count as much as those in the sun; the coarse normals, which are to be corrected; the
# PNCC, which tells where on a face each pixel lies; and the mask. It answers with three
# maps. Two are *tilts*: what the slopes $p = \partial z/\partial x$ and $q = \partial
# z/\partial y$ of the coarse surface lack, times the coarse $n_z$, so that steep places
# do not dominate. The third is the logarithm of $\sigma$, the angle by which the
# network expects its own normal to be wrong. First by hand:

# %%
reader, who = weight_files.load_normalnet(), "grace_hopper"
curved, I = render.curved_surface(model, rs[who], size), images[who]
parts = curved.vertices, curved.normals, model.pncc, curved.fragments, model.triangles
coarse_n, pncc = rasterize.interpolate_maps(*parts)[1:]
mask = curved.fragments.mask


def evened(values):
    """Mean 0 and a fixed standard deviation on the face, 0 outside."""
    there = values[mask]
    scaled = coarsenet.CONTRAST * (values - there.mean()) / there.std(correction=0)
    return torch.where(mask, scaled, 0.0)


logarithm = I.clamp(min=normalnet.DARKEST).log()
stack = evened(I), evened(logarithm), coarse_n, pncc, mask.float()
tilt, log_error = reader(torch.cat(stack, dim=1))
n_z = coarse_n[:, 2:].clamp(min=normalnet.MIN_FACING)
p, q = ((tilt - coarse_n[:, :2]) / n_z).split(1, dim=1)  # slopes, corrected
found_n = F.normalize(torch.cat([-p, -q, torch.ones_like(p)], dim=1), dim=1)

# %% tags=["check"]
says = reader.estimate(I, coarse_n, pncc, mask)
off_by = (found_n - says.normals)[mask.expand(-1, 3, -1, -1)].abs().max()
print(f"by hand and by the package: {off_by:.1e} apart")
assert off_by < 1e-3, f"{off_by:.1e}, not below 1e-3"
sigma = log_error.exp().rad2deg()
usual, most = sigma[mask].median(), sigma[mask].max()
print(f"expected error: {usual:.0f}° usually, {most:.0f}° at most")
shown = {"grey": 0.5 + stack[0] / 4, "its logarithm": 0.5 + stack[1] / 4}
shown |= {"coarse normals": 0.5 + 0.5 * coarse_n, "PNCC": pncc}
shown |= {"corrected normals": 0.5 + 0.5 * found_n, "expected error": sigma / 45}
pictures = [torch.where(mask, m, 1.0)[0].permute(1, 2, 0) for m in shown.values()]
pictures = [m.expand(-1, -1, 3).numpy() for m in pictures]
figure = viz.gallery(pictures, list(shown), columns=6, inches=1.8)
figure.savefig(output / "normalnet.png", dpi=70)
figure

# %% [markdown]
# White in the last picture is an expected error of 45 degrees or more. The network is
# unsure at lids and lips, along hair and glasses, and toward the outline.
#
# **The loss** compares normals. With the angle $\theta$ between the true and the found
# normal at a pixel, and means over all pixels,
# $$L = \overline{\theta} + 4\,\overline{(1 - \cos\theta)} + 0.2\,E_r + 0.05\;
# \overline{(\theta/\sigma + \log\sigma)}.$$
# The first term is robust, the second cares for large errors. $E_r$ compares how slopes
# change from pixel to pixel, so that fine lines count although they are few. The last
# term teaches $\sigma$ alone: it is least at $\sigma = \theta$, and where $\theta$
# cannot be known, at its mean. Light and albedo are part of neither $L$ nor the input.

# %% [markdown]
# ## 12 A training in half a minute
#
# The network that ships saw many thousands of faces with hard lamps, glasses, beards
# and spots (`facerecon train normals`). The principle fits into half a minute. We
# photograph some people of section 6's wrinkled world, all under the same lamp, and let
# *CoarseNet* look at the pictures. Its answers are the starts, with all the mistakes
# that it makes. A small NormalNet then learns the way from these coarse normals to the
# true ones, at half of the size to save time. Four more people are held back. With so
# few examples the network learns them by heart, so what it makes of the faces that it
# saw is asserted, and nothing else. On the strangers it may well be worse than the
# start. The pictures show both, beside the answer of the network that ships.

# %%
people = {"quick": 12, "full": 400}[preset]
one_lamp = {"p_key": 1, "key": (0.9, 0.9), "key_azimuth": (-0.6, -0.6), "p_fill": 0}
one_lamp |= {"key_elevation": (0.6, 0.6), "ambient": (0.2, 0.2), "environment_std": 0}
lamp_world = studio.turned(world, light=one_lamp)
r_true = lamp_world.sample(people + 4, generator)
r_true[:, 285] *= 0.5  # yaw: mostly frontal
rendered = lamp_world.render(people + 4, generator, r_true)
answers = coarsenet.iterate(reconstructor.coarsenet, model, rendered.image, 2)[-1]
begin, true = render.render(model, answers, size), rendered.fine_normals
valid = rendered.rendering.mask & begin.mask
valid &= (true[:, 2:] > 0.15) & (begin.normals[:, 2:] > 0.15)
whole = [rendered.image, begin.normals, begin.pncc, begin.mask, true, valid]
lesson = [F.avg_pool2d(m.float(), 2) for m in whole]
lesson[1], lesson[4] = (F.normalize(lesson[k], dim=1) for k in (1, 4))
lesson[3], lesson[5] = (lesson[k] > 0.99 for k in (3, 5))


# %%
def lesson_loss(photo, n_0, pncc, mask, n_true, valid):
    """The loss without E_r, and the mean angle in degrees."""
    answer = pupil.estimate(photo, n_0, pncc, mask)
    cosine = (answer.normals * n_true).sum(1, keepdim=True)[valid]
    theta = cosine.clamp(-0.9999, 0.9999).acos()
    log_sigma = answer.log_error[valid]
    surprise = theta.detach() * (-log_sigma).exp() + log_sigma
    loss = theta.mean() + 4 * (1 - cosine).mean() + 0.05 * surprise.mean()
    return loss, theta.mean().rad2deg()


def mean_angle(some):
    """Degrees between found and true normals of some people."""
    pupil.eval()
    angle = lesson_loss(*(m[some] for m in lesson))[1].item()
    pupil.train()
    return angle


# %%
torch.manual_seed(seed)
pupil = normalnet.NormalNet(normalnet.NormalNetConfig(widths=(16, 32, 64)))
rounds = {"quick": 110, "full": 5000}[preset]
optimizer = torch.optim.AdamW(pupil.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, rounds, pct_start=0.1)
groups = {"taught": slice(0, people), "strangers": slice(people, None)}
at_first = {name: mean_angle(some) for name, some in groups.items()}
history, start = [], time.perf_counter()
for _ in range(rounds):
    some = torch.randperm(people, generator=generator)[:8]
    with torch.enable_grad():
        loss, _ = lesson_loss(*(m[some] for m in lesson))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    history.append(loss.item())
print(f"{rounds} steps in {time.perf_counter() - start:.0f} s")

# %% tags=["check"]
at_last = {name: mean_angle(some) for name, some in groups.items()}
for name, angle_there in at_last.items():
    print(f"{name:9} {at_first[name]:.2f}° before, {angle_there:.2f}° after")
figure, axis = plt.subplots(figsize=(5, 2.2), layout="constrained")
axis.plot(history, lw=0.8)
axis.set(xlabel="step", ylabel="loss")
figure.savefig(output / "normal_training.png", dpi=80)
plt.show()
first, last = np.mean(history[:10]), np.mean(history[-10:])
assert last < 0.85 * first, f"loss {last:.3f}, not below 0.85 of {first:.3f}"
first, last = at_first["taught"], at_last["taught"]
assert last < 0.9 * first, f"taught: {last:.2f}°, not below 0.9 of {first:.2f}"

# %%
pupil.eval()
two, pictures = [0, people], []  # one who was taught, and a stranger
half, full = ([m[two] for m in maps_of] for maps_of in (lesson, whole))
steps_of = {"coarse": half[1], "this training": pupil.estimate(*half[:4]).normals}
steps_of |= {"that ships": reader.estimate(*full[:4]).normals, "truth": full[4]}
for k in range(2):
    pictures.append(full[0][k, 0].numpy())
    for n in steps_of.values():
        on_face = F.interpolate(full[3].float(), n.shape[2:]) > 0.5
        on_face &= n.norm(dim=1, keepdim=True) > 0.5  # the truth may end before
        pictures.append(lit(n[k : k + 1], on_face[k : k + 1]))
titles = ["taught above, a stranger below", *steps_of]
figure = viz.gallery(pictures, titles, columns=5, inches=2.1)
figure.savefig(output / "normals_before_after.png", dpi=70)
figure

# %% [markdown]
# ## 13 From normals to depth
#
# A mesh needs depth, and slopes are its derivatives. Two slopes for each pixel are more
# than one depth can satisfy: going around any square of pixels, the steps have to add
# up to zero, and estimated ones do not. *Normal integration* asks for the depth whose
# steps come nearest. Slopes also leave open where the face is as a whole, and small
# errors add up over a long way. So a *screen* keeps the depth near the coarse one:
# $$\sum_{i\sim j} w_{ij}\,(z_j - z_i - s_{ij})^2 + \left(\tfrac{h}{R}\right)^2 \sum_i
# (z_i - z_{0,i})^2,$$
# where $s_{ij}$ is the slope between neighbors, $h$ the width of a pixel and $R$ the
# *reach*: over less than $R$ the slopes decide, over more the coarse depth does.

# %% [markdown]
# The weights $w$ are small where NormalNet expects to be wrong, and zero at *jumps*,
# where the coarse depth says that one surface hides another, as a nose hides the cheek
# behind it; there a step is no slope. All terms are squares, so the minimum solves one
# sparse linear system (`integration.integrate`, by conjugate gradients; exercise 4
# writes it for a row). We try it on a surface with a formula: a cap with ripples. Its
# coarse version lacks the ripples and is tilted, as a wrong pose tilts a face, and its
# slopes are right but noisy. With a short reach the result is the tilted cap and its
# ripples are weak; with a long one ripples *and* tilt are repaired. On a real face the
# slopes are off by degrees over whole cheeks and their errors would add up, so the
# package's reach is 50 mm. In the last picture the coarse cap has a cliff of 30 mm and
# no tilt. If the cliff is known, it stays; if not, the slopes turn it into a ramp.

# %%
side, h, peak = 120, 1.2, 60.0  # pixels; mm per pixel; mm, width of the cap
x = (torch.arange(side) - (side - 1) / 2) * h
up, right = torch.meshgrid(-x, x, indexing="ij")
cap, ripples = 40 * torch.exp(-(right**2 + up**2) / peak**2), torch.sin(right / 3)
exact = (cap + ripples)[None, None]
slope_x = -2 * right / peak**2 * cap + torch.cos(right / 3) / 3
slopes = torch.stack([slope_x, -2 * up / peak**2 * cap])[None]
slopes = slopes + 0.08 * torch.randn(slopes.shape, generator=generator)
tilted = (cap + 0.15 * right)[None, None]
known = torch.ones_like(exact, dtype=torch.bool), torch.tensor([h])
integrated, cliffs = {}, {}
level_cap = (cap + 30.0 * (right > 0))[None, None]
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
middle = side // 2  # the cliff lies before this column
at_cliff = {k: z[..., middle - 1 : middle + 1].diff() for k, z in cliffs.items()}
at_cliff = {k: step.mean().item() for k, step in at_cliff.items()}
print("height of the cliff, mm:", {k: round(v, 1) for k, v in at_cliff.items()})
stays, melts = at_cliff.values()
assert abs(stays - 30) < 3, f"the known cliff has {stays:.1f} mm, expected 30 ± 3"
assert melts < 15, f"the unknown one still has {melts:.1f} mm, below 15 expected"

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), layout="constrained")
for axis, (reach, z) in zip(axes, integrated.items(), strict=False):
    for label, line in {"truth": exact, "coarse": tilted, "integrated": z}.items():
        axis.plot(x, line[0, 0, side // 2], lw=1, label=label)
    axis.set(title=f"reach {reach:.0f} mm", xlabel="mm")
for name, z in cliffs.items():
    axes[3].plot(x, z[0, 0, side // 2], lw=1, label=name)
axes[3].set(title="a cliff of 30 mm", xlabel="mm")
axes[0].legend(fontsize=7)
axes[3].legend(fontsize=7)
figure.savefig(output / "integration.png", dpi=80)
plt.show()

# %% [markdown]
# ## 14 One linear step of shape from shading on top
#
# NormalNet knows what faces look like, and smooths what is finer or rarer than its
# lessons. The photograph still shows it. Near a surface that is almost right, shading
# is a *linear* problem. In logarithms the product of Eq. (8) is a sum,
# $$\log I = \log\rho + \log\langle\vec l, Y(p, q)\rangle.$$
# The light comes from the surface at hand, as in Eq. (11). The albedo is the local mean
# of what the light leaves over, for skin tone, make-up and soft shadows vary slowly.
# What is still left, $e$, may be relief. A rise $u$ of the depth changes the slopes by
# $u_x$ and $u_y$, hence the right side by $a\,u_x + b\,u_y$ with $a = \partial
# \log\langle\vec l, Y\rangle / \partial p$ and $b$ likewise by $q$ (exercise 3).

# %% [markdown]
# So one step minimizes, over $u$ alone,
# $$\sum w\,(a\,u_x + b\,u_y - e)^2 + \lambda_1 |\nabla u|^2 + \lambda_2 (\Delta u)^2 +
# \lambda_3 u^2,$$
# again a sparse linear system. The last three terms keep $u$ small and smooth, and the
# first of them more so where NormalNet is sure. The weight $w$ is zero off the skin, in
# shadows and where the sensor is full; it is small where the color is not the skin's,
# where the network expects to be wrong, and where $|e|$ is large: a strand of hair is
# not a fold. `refine_by_shading` takes two such steps. Flat spots become relief here as
# well, only less, since the start is near the truth and may hardly be left. And this is
# the classic optimization for each photograph that the paper set out to *replace* by a
# network. After a network it needs two steps and not hundreds.

# %%
width = maps[who].mm_per_pixel.item()
known = curved.depth, mask, width, maps[who].skin, says.log_error.exp()
once = shading_refinement.ShadingRefinement(iterations=1)
step = shading_refinement.refine_by_shading(I, says.slopes, *known, once)


def left_over(slopes):
    """What light and albedo leave of log I at a surface with these slopes."""
    arriving = lighting.shade(step.albedo, step.light, normalnet.normals_of(slopes))
    return (I.clamp(min=0.02) / arriving.clamp(min=0.01)).log()


before_it, after_it = left_over(says.slopes), left_over(step.slopes)

# %% tags=["check"]
share = step.trust / step.trust.sum()
first, last = ((share * e.square()).sum().sqrt().item() for e in (before_it, after_it))
print(f"left over of log I: {first:.4f}, after one step {last:.4f}")
print(f"the depth has risen or sunk by {step.rise[mask].std():.2f} mm rms")
assert last < 0.99 * first, f"{last:.4f}, not below 0.99 of {first:.4f}"
shown = {"photograph": I, "left over": 0.5 + before_it, "weight": step.trust}
shown |= {"rise, ±0.5 mm": 0.5 + step.rise}
pictures = [torch.where(mask, m, 1.0)[0, 0].numpy() for m in shown.values()]
pictures += [lit(normalnet.normals_of(s), mask) for s in (says.slopes, step.slopes)]
titles = [*shown, "NormalNet", "after the step"]
figure = viz.gallery(pictures, titles, columns=6, inches=1.8)
figure.savefig(output / "shading_step.png", dpi=70)
figure

# %% [markdown]
# ## 15 Which one is nearer to real faces?
#
# `Reconstructor.from_pretrained` has both stages: `refine="finenet"` is the paper's,
# `refine="normals"` is sections 11 to 14. Both begin with the same coarse face. Below
# are the two portraits as clay. There is no truth for them, so look with care. Is a
# line of the relief also a line of the photograph? Is it a crease, or a strand of hair,
# a frame of glasses, a shadow? FineNet adds faint lines; ours moves cheeks and folds as
# well. At lids and lips, where NormalNet expects to be wrong, the depth is smoothed on
# purpose, and eyes get back a half of the coarse face's relief, for a blurred opening
# looks shut. A surface with more relief looks more convincing, right or wrong, so a
# choice between the two is not left to the eye.

# %%
ours, pictures = Reconstructor.from_pretrained(refine="normals"), []
for photo in photos.values():
    papers, other = reconstructor(photo), ours(photo)
    meshes = [(papers.coarse_vertices, papers.coarse_faces)]
    meshes += [(each.vertices, each.faces) for each in (papers, other)]
    pictures.append(papers.crop.at(400).cut(papers.image).clip(0, 1))
    for mesh in meshes:
        wide = papers.crop.side * papers.mm_per_pixel  # as large as in the photograph
        pictures.append(viz.shaded(viz.mesh_normals(*mesh, 400, width_mm=wide)))
titles = ["photograph", "coarse", "FineNet, the paper's", "normals, ours"]
figure = viz.gallery(pictures, titles, columns=4, inches=2.5)
figure.savefig(output / "stages.png", dpi=80)
figure

# %% [markdown]
# Where Extended Yale B is at hand (`yale_folder`, or FACERECON_DATA as in chapter 5),
# the next cell measures both stages on two of its people, one photograph at a time: the
# angle to the measured normals; the correlation of the relief finer than 5 mm; how what
# a stage *added* correlates with what the coarse relief lacked, and its size along it
# (`gain`). FineNet adds next to nothing there: it learned wrinkles, and CoarseNet's
# normals are wrong by far more. This is why `refine="normals"` is the default; but the
# people are no untouched judges, for NormalNet's training was tuned on them
# (`docs/evaluation.md`). Without the data the cell asks about the rendered strangers of
# section 12, and may rank the stages otherwise. Their shapes are the morphable model's,
# where CoarseNet is at its best; NormalNet was taught with faces bent away from it, as
# real ones are. So who judges by rendered faces judges their renderer, too, and nothing
# is asserted there.

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
        found = readers[name](photo, (17.0, 17.0, 166.0, 166.0)).normals
        cosine = (found * true[k].permute(1, 2, 0).numpy()).sum(-1)
        on = np.isfinite(cosine) & valid[k, 0].numpy()
        angle_of[name] += np.degrees(np.arccos(cosine[on].clip(-1, 1))).mean() / 4

# %% tags=["check"]
for name, angle_there in angle_of.items():
    print(f"{name:12} normals off by {angle_there:.2f}°")
papers, other = angle_of["finenet"], angle_of["normals+sfs"]
assert other < papers or not real, (
    f"ours {other:.2f}°, not below {papers:.2f} of FineNet"
)

# %% [markdown]
# ## Exercises
#
# **1.** Write the 2 × 2 up-convolution of stride 2 of section 2.


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
answer = up_convolution(x_s, W_s)
expected = F.conv_transpose2d(torch.tensor(x_s)[None], torch.tensor(W_s), stride=2)[0]
print("shape", answer.shape, "expected", tuple(expected.shape))
assert answer.shape == (2, 8, 10), f"shape {answer.shape}, expected (2, 8, 10)"
assert np.allclose(answer, expected), f"{answer}, expected {expected}"

# %% [markdown]
# **2.** The smoothness of Eq. (13) for a depth map without a mask: the mean absolute
# five-point Laplacian over the pixels that have four neighbors.


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
for z_s in (rng.normal(size=(6, 7)), 3 * rows - columns, rows**2):
    answer = roughness(z_s)
    as_map = torch.tensor(z_s)[None, None]
    expected = losses.smoothness(
        as_map, torch.ones_like(as_map, dtype=torch.bool)
    ).item()
    print(f"answer {answer:.4f}, expected {expected:.4f}")
    assert np.isclose(answer, expected), f"{answer:.5f}, expected {expected:.5f}"

# %% [markdown]
# **3.** How does the shading of Eq. (8) change with the slopes? For $n = (-p, -q, 1) /
# \sqrt{1 + p^2 + q^2}$ and light $l$ (4,), give the derivatives of $\langle l,
# Y(n)\rangle$ by $p$ and by $q$.


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
def shading_of(p, q, l):
    n = np.array([-p, -q, 1]) / np.sqrt(1 + p**2 + q**2)
    return l[0] + l[1:] @ n


rng, h = np.random.default_rng(2), 1e-6
for p_s, q_s, *l_s in rng.normal(size=(4, 6)):
    l_s, answer = np.array(l_s), shading_slopes(p_s, q_s, np.array(l_s))
    by_p = (shading_of(p_s + h, q_s, l_s) - shading_of(p_s - h, q_s, l_s)) / (2 * h)
    by_q = (shading_of(p_s, q_s + h, l_s) - shading_of(p_s, q_s - h, l_s)) / (2 * h)
    print("answer", np.round(answer, 4), "expected", np.round((by_p, by_q), 4))
    wanted = by_p, by_q
    assert np.allclose(answer, wanted, atol=1e-6), f"{answer}, expected {wanted}"

# %% [markdown]
# **4.** In section 13 a screen decides between slopes and coarse depth. Write it for a
# row: from the steps (n - 1,) between neighbors, a coarse row (n,) and the weight $a$
# of the screen, return the $z$ (n,) that minimizes
# $\sum (z_{i+1} - z_i - s_i)^2 + a \sum (z_i - z_{0,i})^2$. Try both ends of $a$: with
# a tiny one the steps decide everything but the height of the row, with a huge one the
# coarse row comes back.


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
true_s, coarse_s = np.cumsum(rng.normal(size=9)), rng.normal(size=9)
lifted = true_s - true_s.mean() + coarse_s.mean()
for screen_s, expected in ((1e-7, lifted), (1e7, coarse_s)):
    answer = integrate_row(np.diff(true_s), coarse_s, screen_s)
    print(
        f"screen {screen_s:.0e}: {np.round(answer[:3], 3)}, {np.round(expected[:3], 3)}"
    )
    assert np.allclose(answer, expected, atol=1e-4), f"{answer}, expected {expected}"
answer, root = integrate_row(np.diff(true_s), coarse_s, 0.5), np.sqrt(0.5)
rows_s = np.vstack([np.diff(np.eye(9), axis=0), root * np.eye(9)])
wanted = np.concatenate([np.diff(true_s), root * coarse_s])
expected = np.linalg.lstsq(rows_s, wanted, rcond=None)[0]
assert np.allclose(answer, expected), f"{answer}, expected {expected}"

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
record = repro.Recorder(output, preset, seed, weights=[used_weights])
measured = {f"terms/{name}/angle_deg": score[0] for name, score in scores.items()}
measured |= {f"units/{name}/angle_deg": angle for name, angle in by_units.items()}
measured |= {f"checkerboard/{name}": share for name, share in boards.items()}
for (side, folded), value in seconds.items():
    record.timing(f"{'folded' if folded else 'unfolded'}/{side}", value)
for method, row in on_synthetic.items():
    measured |= {f"drawn/{method}/{k}": row[k] for k in ("depth", "normals")}
for name, of in energies.items():
    for key, loss in of.items():
        measured[f"{name}/{key}/energy"] = loss.total.item()
for name, value in measured.items():
    record(name, float(f"{value:.4g}"))
print(record.path.read_text()[:600])

# %% [markdown]
# ## Further reading
#
# - B. Hariharan et al. *Hypercolumns for object segmentation and fine-grained
#   localization.* CVPR 2015.
# - O. Parkhi, A. Vedaldi, A. Zisserman. *Deep face recognition.* BMVC 2015: VGG-Face.
# - R. Or-El et al. *RGBD-Fusion.* CVPR 2015: the energies in whose spirit Eq. (14) is.
# - A. Odena, V. Dumoulin, C. Olah. *Deconvolution and checkerboard artifacts.* Distill
#   2016.
# - J. Neuberger. *Sobolev gradients and differential equations.* Springer 2010.
# - Y. Quéau, J.-D. Durou, J.-F. Aujol. *Normal integration: a survey.* JMIV 2018.
# - V. Abrevaya et al. *Cross-modal deep face normals.* CVPR 2020: networks for normals
#   of real faces.
