# %% [markdown]
# # From one photograph to a detailed face
#
# **Two networks and a renderer between them turn a single photograph into a detailed
# surface; and because the renderer has gradients, the second can teach the first.**
#
# *Afterwards you can* run every stage by hand, say what each adds, follow the gradients
# of both criteria through both networks, reconstruct a photograph of your own and print
# it. *Paper:* sections 3.4, 4 and 4.4; Eqs. (1), (2), (5), (6), (8), (14); Figures 1,
# 3, 4 and 7. *Time:* about a minute on two CPU cores (`full`: a few). *Data:* two
# public-domain portraits that come with scikit-image (astronaut Eileen Collins, NASA)
# and matplotlib (Rear Admiral Grace Hopper, US Navy). Nothing is downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full": section 7 trains for much longer
seed = 0  # of the random numbers in the checks
output_dir = "runs/end_to_end"  # where figures, meshes and result.json go
photos = []  # files to use instead of the two portraits
coarse_weights = ""  # file of CoarseNet weights instead of those that ship
fine_weights = ""  # file of FineNet weights instead of those that ship
normals_weights = ""  # file of NormalNet weights instead of those that ship

# %% tags=["imports"]
import time
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as plotly
from matplotlib.cbook import get_sample_data

from facerecon import Reconstructor, appearance, camera, coarsenet, depth, imaging
from facerecon import lighting, losses, render, repro, solid, weights
from facerecon.detection import detect, recrop
from facerecon.training import presets
from facerecon.views import portraits, viz
import torch  # after facerecon, which tells its threads how to wait

# %%
used_weights = {
    "CoarseNet": Path(coarse_weights or weights.shipped("coarsenet.safetensors")),
    "FineNet": Path(fine_weights or weights.shipped("finenet.safetensors")),
    "NormalNet": Path(normals_weights or weights.shipped("normalnet.safetensors")),
}
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)
networks = [used_weights[name] for name in ("CoarseNet", "FineNet")]
reconstructor = Reconstructor.from_pretrained(
    *networks, refine="finenet"
)  # the paper's
networks = [used_weights[name] for name in ("CoarseNet", "NormalNet")]
default = Reconstructor.from_pretrained(*networks, refine="normals")  # ours
model, size = reconstructor.model, reconstructor.size
for name, path in used_weights.items():
    card = weights.read_card(path)
    print(f"{name} ({path.name}): {card['samples']:,} samples in {card['hours']} h of")
    print(f"  {card['data']}; preset {card['preset']}, seed {card['seed']}")

# %% [markdown]
# Every figure below shows these two photographs and is made with the weights just
# named. Sections 1 to 7 are the paper's method, with FineNet as the detail stage. In
# section 8 our own detail stage, which is the package's default, stands beside it.
#
# ## 1 A photograph becomes a crop
#
# CoarseNet is fed "with a 200×200 image of a face. Such an image can be automatically
# acquired using a standard face detector, such as the Viola-Jones detector" (3.4). The
# detector's box goes from the brows to the chin; the crop is 1.2 times as wide, so that
# the mean head of the morphable model fills it.

# %%
own = {Path(path).stem: imaging.load_image(path) for path in photos}
images = own or portraits.portraits()
boxes = {name: detect.detect_faces(image)[0] for name, image in images.items()}
crops, squares = {}, {}
for name, image in images.items():
    crops[name], squares[name] = imaging.crop(image, boxes[name].crop_box(), 200)


# %%
def show(axis, picture, title=""):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)  # colors stay as they are
    axis.set(title=title, xticks=[], yticks=[])


figure, axes = plt.subplots(len(images), 2, figsize=(7, 7), squeeze=False)
for (left, right), (name, image) in zip(axes, images.items(), strict=True):
    box, square = boxes[name], squares[name]
    show(left, image, f"{name}: detector's box, crop")
    square_in_lime = square.x, square.y, square.side, "lime"
    for x, y, side, color in [(box.x, box.y, box.width, "gold"), square_in_lime]:
        corner = x - 0.5, y - 0.5  # boxes count from edges, imshow from pixel centers
        left.add_patch(plt.Rectangle(corner, side, side, fill=False, ec=color, lw=2))
    show(right, crops[name], f"crop: 200 pixels from {square.side:.0f}")
plt.show()

# %% tags=["check"]
for name, square in squares.items():
    box = boxes[name]
    corners = np.array([[-0.5, -0.5], [199.5, 199.5]])  # of the crop
    (left, top), (right, bottom) = square.to_image(corners) + 0.5
    width, wanted = right - left, 1.2 * max(box.width, box.height)
    assert np.isclose(width, wanted), f"{width:.2f} pixels wide, expected {wanted:.2f}"
    within = left < box.x < box.x + box.width < right
    assert within, f"{box} not between columns {left:.1f} and {right:.1f}"
    within = top < box.y < box.y + box.height < bottom
    assert within, f"{box} not between rows {top:.1f} and {bottom:.1f}"
    back = square.to_crop(square.to_image(corners))
    assert np.allclose(back, corners), f"{back}, expected {corners}"

# %% [markdown]
# ## 2 Four steps of CoarseNet
#
# The state is a vector $r$ of 290 numbers: 200 for identity and 84 for expression,
# which make a face $S = \mu_S + A_{id}\alpha_{id} + A_{exp}\alpha_{exp}$ (Eq. 1), and 6
# for its pose. "The initial parameters vector, $r_0$, is set to zeros, corresponding to
# a centered mean face" (3.4). Each step renders the current face, shows the network the
# photograph masked by it, its PNCC and its normals, and takes the network's answer as
# the next state. So it was trained: on synthetic faces, from states between a random
# one and the truth (Eq. 3), towards the true geometry in mm (Eq. 4) and the true pose.
# If the detector's box was off, the crop is cut anew around the fit, and the four steps
# are repeated (`recrop.fit`; the paper has no such step).

# %%
grey, states, feedback = {}, {}, {}
for name, image in images.items():
    known = reconstructor.coarsenet, model, image, squares[name]
    states[name], squares[name] = recrop.fit(*known, iterations=4)
    crops[name] = squares[name].cut(image)
    grey[name] = torch.from_numpy(imaging.to_grey(crops[name]))[None, None]
    feedback[name] = [render.render(model, r, 200) for r in states[name]]
by_hand = coarsenet.iterate(reconstructor.coarsenet, model, grey[name], iterations=4)
print([tuple(r.shape) for r in by_hand], torch.allclose(by_hand[-1], states[name][-1]))

# %% [markdown]
# As in Figure 4: what the network was shown at each step (columns), from top to bottom
# the masked photograph, the PNCC, and the normals, whose $x$, $y$, $z$ are painted red,
# green, blue. The last column is the result.

# %%
for name, maps in feedback.items():
    figure, axes = plt.subplots(3, 5, figsize=(10, 6.3), layout="constrained")
    for step, (column, shown) in enumerate(zip(axes.T, maps, strict=True)):
        normals = torch.where(shown.mask, 0.5 + 0.5 * shown.normals, 1.0)
        pncc = torch.where(shown.mask, shown.pncc, 1.0)
        show(column[0], (grey[name] * shown.mask)[0, 0], f"{name}, $r_{step}$")
        show(column[1], pncc[0].permute(1, 2, 0))
        show(column[2], normals[0].permute(1, 2, 0))
    figure.savefig(output / f"{name}_iterations.png", dpi=64)
plt.show()

# %% [markdown]
# "This process is repeated until convergence": the steps must become small. We measure
# them where it matters, at the 68 landmarks in the image. And the landmarks below the
# brows must lie in the detector's box (with 5 % to spare), of which the network was
# never told.

# %% tags=["check"]
landmarks, moves = {}, {}
for name, maps in feedback.items():
    track = torch.stack([shown.projected[0, model.landmarks, :2] for shown in maps])
    moves[name] = (track[1:] - track[:-1]).norm(dim=2).mean(dim=1)
    landmarks[name] = squares[name].to_image(track[-1].numpy())
    print(name, "moves by", [f"{move:.2f}" for move in moves[name]], "pixels of 200")
    first, last = moves[name][[0, -1]]
    steady = last < first / 2 or own  # of your own photographs nothing is asserted
    assert steady, f"{last:.2f} pixels, not below half of {first:.2f}"
    box = boxes[name]
    below_brows = landmarks[name][27:] + 0.5  # boxes count from the image's edge
    place = (below_brows - [box.x, box.y]) / [box.width, box.height]
    low, high = place.min(), place.max()
    inside = -0.05 < low < high < 1.05 or own
    assert inside, f"{low:.2f} to {high:.2f} of the box, 0 to 1 expected"

# %%
# The pose, from its units (docs/conventions.md) to degrees, percent, and pixels per mm.
for name, rs in states.items():
    coefficients, pose = camera.split(rs[-1])
    numbers = (pose[0] * camera.POSE_UNITS).tolist()
    angles = ", ".join(
        f"{label} {np.degrees(value):+.1f}°"
        for label, value in zip(camera.POSE_NAMES[:3], numbers[:3], strict=True)
    )
    shift = f"right {100 * numbers[3]:+.1f} %, up {100 * numbers[4]:+.1f} %"
    pixels_per_mm = 200 / camera.CROP_MM * np.exp(numbers[5])
    print(f"{name}: {angles}; {shift}; {pixels_per_mm:.3f} px/mm")

# %% [markdown]
# ## 3 The rendering layer
#
# Between the networks stands the layer of chapter 4. It places the mesh above the image
# plane (Eq. 5), asks of each pixel which triangle it sees, and mixes the depths of its
# corners with barycentric weights, $\tilde z = \lambda_0 z_0 + \lambda_1 z_1 +
# \lambda_2 z_2$ (Eq. 6). Gradients go back with the same weights (Eq. 7).

# %% tags=["check"]
shown = feedback[name][-1]
corners = model.triangles[shown.fragments.triangle.clamp(min=0)]  # (1, 200, 200, 3)
z = shown.projected[0, :, 2][corners]
mixed = (shown.fragments.barycentric * z).sum(dim=3)  # Eq. (6)
error = (mixed - shown.depth[:, 0]).abs()[shown.mask[:, 0]].max()
print(f"largest difference {error:.1e} mm over {shown.mask.sum()} pixels")
assert error < 1e-3, f"{error:.1e} mm, not below 1e-3"

# %% [markdown]
# ## 4 Light and albedo
#
# What does the photograph say that the coarse mesh does not? A face of albedo $\rho$
# under the light $\vec l$ looks like $\rho \langle \vec l, Y \rangle$ (Eq. 8) with $Y =
# (1, n_x, n_y, n_z)$ (Eq. 9). Chapter 5 finds $\vec l$ and $\rho$, by Eqs. (10) to
# (12); here they are needed for the criterion alone. The normals in $Y$ are those of a
# depth map, by central differences. Facets would pass for wrinkles there, so from here
# on the coarse depth is that of the curved surface behind the triangles
# (`render.curved_depth`).

# %%
maps = {key: appearance.model_maps(model, rs[-1], 200) for key, rs in states.items()}
scale = {
    n: camera.pose_parameters(camera.split(rs[-1])[1], 200).scale
    for n, rs in states.items()
}
h = 1 / scale[name].item()  # mm per pixel
surface = maps[name].depth[0, 0].numpy()
z_x = np.gradient(surface, h, axis=1)
z_y = -np.gradient(surface, h, axis=0)  # rows go down, y goes up
n = np.stack([-z_x, -z_y, np.ones_like(z_x)]) / np.sqrt(1 + z_x**2 + z_y**2)

# %% tags=["check"]
lit = {
    key: appearance.estimate_light_and_albedo(grey[key], maps[key], 1) for key in grey
}
inner = losses.five_point_interior(shown.mask)[0, 0]  # all neighbors are on the face
difference = np.abs(n - maps[name].normals[0].numpy())[:, inner].max()
print(f"largest difference {difference:.1e} over {inner.sum()} pixels")
assert difference < 1e-3, f"{difference:.1e}, not below 1e-3"
for key, found in lit.items():
    light = found.light[0].numpy().round(2)
    print(key, "light (ambient, right, up, front):", light)
    lit_in_front = light[3] > 0 or own
    assert lit_in_front, f"{key}: light from the front {light[3]}, not above 0"

# %% [markdown]
# ## 5 FineNet adds the detail
#
# FineNet reads the photograph and the coarse depth $z_0$ and answers with a depth map
# $\hat z$. The paper trains it without any true depth, to make
# $$\lambda_{sh}\left\|\rho\langle\vec l, Y(\hat z)\rangle - I\right\|^2 +
# \lambda_f\left\|\hat z - z_0\right\|^2 + \lambda_{sm}\left\|\Delta\hat z\right\|_1
# \qquad (14)$$
# small on photographs. Light and albedo are part of the criterion only: at test time
# the network needs the photograph and the coarse depth, nothing else (4.3.2). The
# weights that ship learned from synthetic faces whose wrinkles are known, which came
# nearer to the truth of such faces (chapter 6).

# %%
coarse = {name: each.depth for name, each in maps.items()}
mask = {name: each.mask for name, each in maps.items()}
fine = {
    name: reconstructor.finenet(grey[name], coarse[name], mask[name], 1 / scale[name])
    for name in grey
}

# %% [markdown]
# How good is the answer by the paper's criterion? `appearance.shading_target` prepares
# the photograph as in training: what changes slowly over the skin counts as albedo, and
# what is left is bounded, for no detail of a surface explains a cast shadow. Chapter 6
# takes the criterion apart, and compares the network with minimizing it for each
# photograph.

# %%
settings, terms, goal = presets.FineTraining(), {}, {}
for name, found in lit.items():
    goal[name] = appearance.shading_target(
        grey[name], maps[name], found.albedo, found.light, settings.detail_bounds
    )
    surfaces = {"coarse": coarse[name], "FineNet": fine[name]}
    terms[name] = {
        k: losses.finenet_loss(z, coarse[name], goal[name]) for k, z in surfaces.items()
    }
    for key, loss in terms[name].items():
        numbers = "  ".join(f"{k} {v:8.2f}" for k, v in loss._asdict().items())
        print(f"{name:14}{key:10} {numbers}")

# %% tags=["check"]
change = {name: (fine[name] - coarse[name])[mask[name]] for name in fine}
for name, moved in change.items():
    most = moved.abs().max()
    print(f"{name}: depth changed by {moved.std():.2f} mm rms, at most {most:.1f}")
    # Something happened, and it is detail.
    detail = 0.01 < moved.std() < 5 or own
    assert detail, f"{moved.std():.3f} mm, 0.01 to 5 expected"
    outside = (fine[name] != coarse[name])[~mask[name]].sum()
    assert outside == 0, f"{outside} pixels outside of the mask changed, 0 expected"

# %%
for name in grey:
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), layout="constrained")
    show(axes[0], grey[name][0, 0], name)
    surfaces = {"coarse": coarse, "fine": fine}
    for axis, (key, z) in zip(axes[1:3], surfaces.items(), strict=True):
        n = depth.normals_from_depth(z[name], 1 / scale[name], mask[name])
        n = torch.where(mask[name], n, torch.nan)[0].permute(1, 2, 0)
        show(axis, viz.shaded(n.numpy()), key)
    moved = torch.where(mask[name], fine[name] - coarse[name], torch.nan)[0, 0]
    shades = axes[3].imshow(moved, cmap="RdBu_r", vmin=-2, vmax=2)
    axes[3].set(title="difference", xticks=[], yticks=[])
    figure.colorbar(shades, ax=axes[3], label="mm toward the viewer")
    figure.savefig(output / f"{name}_coarse_fine.png", dpi=80)
plt.show()

# %% [markdown]
# ## 6 Figure 7: the criterion flow
#
# "[T]he gradient is backpropagated through the network allowing us to train FineNet and
# fine-tune CoarseNet" (4.4). And "a fidelity criterion is added to CoarseNet's output.
# This criterion is the MSE between the current CoarseNet solution and the original
# one." We take one such pass apart, on copies of the networks. At first CoarseNet's
# answer *is* the original one and the fidelity has no gradient; so we change its
# parameters by a thousandth, and put them back later. We look at the norms of the
# gradients that arrive at each place, with the rendering layer and with the layer cut
# off (`detach`). (`fig_07` draws the figure.)

# %%
pupil, teacher = deepcopy(reconstructor.coarsenet), deepcopy(reconstructor.finenet)
pupil.requires_grad_(True), teacher.requires_grad_(True)
end_to_end = presets.END_TO_END_PRESETS["cpu"]


def arriving(loss, tensors):
    """Norm of a criterion's gradient at some tensors; 0 where none arrives."""
    tensors = [t for t in tensors if t.requires_grad]
    if not tensors:
        return 0.0
    options = {"retain_graph": True, "allow_unused": True}
    gradients = torch.autograd.grad(loss, tensors, **options)
    return sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5


# %%
def flow(name, cut=False):
    """r, coarse and fine depth, Eq. (14) and the weighted fidelity of one photo."""
    with torch.no_grad():
        before = coarsenet.iterate(pupil, model, grey[name], iterations=3)[-1]
    r = coarsenet.step(pupil, model, grey[name], before)
    z_0 = render.render(model, r.detach() if cut else r, 200)
    pixel = 1 / camera.pose_parameters(camera.split(r.detach())[1], 200).scale
    z = teacher(grey[name], z_0.depth, z_0.mask, pixel)
    shaded = goal[name]._replace(mask=z_0.mask & mask[name], mm_per_pixel=pixel)
    criterion = losses.finenet_loss(z, z_0.depth.detach(), shaded).total
    fidelity = (r - states[name][-1]).square().mean()
    return r, z_0.depth, z, criterion, end_to_end.coarse_fidelity_weight * fidelity


# %%
norms = {}
for parameter in pupil.parameters():
    parameter.data.mul_(1.001)
for cut in (False, True):
    r, z_0, z, criterion, fidelity = flow(next(iter(grey)), cut)
    places = {"fine depth": [z], "coarse depth": [z_0], "r": [r]}
    places |= {"FineNet": [*teacher.parameters()], "CoarseNet": [*pupil.parameters()]}
    for source, loss in {"Eq. (14)": criterion, "fidelity": fidelity}.items():
        for place, tensors in places.items():
            norms[source, place, cut] = arriving(loss, tensors)
pupil.load_state_dict(reconstructor.coarsenet.state_dict())

# %% tags=["check"]
for (source, place, cut), norm in norms.items():
    if norm:
        print(f"{source:9} {'cut' if cut else 'whole':6} {place:13} {norm:.3g}")
    assert np.isfinite(norm), f"{source}, {place}: {norm} is not finite"

# %% tags=["check"]
least = min(norms["Eq. (14)", place, False] for place in places)
assert least > 0, f"Eq. (14) reaches every place: {least}, not above 0"
least = min(norms["fidelity", place, False] for place in ("r", "CoarseNet"))
assert least > 0, f"fidelity reaches CoarseNet: {least}, not above 0"
none = norms["fidelity", "FineNet", False]
assert none == 0, f"fidelity in FineNet: {none}, expected 0"
none = norms["Eq. (14)", "CoarseNet", True] + norms["Eq. (14)", "r", True]
assert none == 0, f"Eq. (14) behind the cut: {none}, expected 0"
whole, severed = (norms["Eq. (14)", "FineNet", cut] for cut in (False, True))
same = abs(whole - severed) < 1e-3 * whole
assert same, f"FineNet's own gradient: {severed:.5g}, expected {whole:.5g}"

# %%
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
kinds = {"Eq. (14)": ("Eq. (14)", False), "Eq. (14), layer cut": ("Eq. (14)", True)}
kinds |= {"fidelity": ("fidelity", False)}
for k, (label, (source, cut)) in enumerate(kinds.items()):
    heights = [norms[source, place, cut] for place in places]
    axis.bar(np.arange(len(places)) + 0.27 * (k - 1), heights, 0.25, label=label)
axis.set(yscale="log", ylabel="norm of the gradient", xticks=range(len(places)))
axis.set_xticklabels(places)
axis.legend(fontsize=8)
figure.savefig(output / "criterion_flow.png", dpi=80)
plt.show()

# %% [markdown]
# ## 7 A few steps end to end
#
# Now both networks follow both criteria, on the two portraits. Two photographs and a
# handful of steps cannot make better networks; they show what the criteria do. Eq. (14)
# falls on these photographs, by very little in so few steps, and the fidelity holds
# CoarseNet near its original answer: we measure how far its 68 landmarks move.

# %%
rounds = {"quick": 4, "full": 60}[preset]
slow = 0.1  # of the full rates, as at the beginning of the warm-up
groups = [{"params": teacher.parameters(), "lr": slow * end_to_end.learning_rate}]
rate = slow * end_to_end.coarse_learning_rate
groups += [{"params": pupil.parameters(), "lr": rate}]
optimizer = torch.optim.AdamW(groups)
history = []
for _ in range(rounds):
    passes = [flow(name)[3:] for name in grey]  # Eq. (14) and fidelity of each
    history.append(
        [sum(terms).item() / len(grey) for terms in zip(*passes, strict=True)]
    )
    optimizer.zero_grad()
    sum(map(sum, passes)).backward()
    optimizer.step()

# %%
moved = {}
with torch.no_grad():
    passes = {name: flow(name) for name in grey}
    history.append(
        [sum(p[k].item() for p in passes.values()) / len(grey) for k in (3, 4)]
    )
    for name, (r, *_) in passes.items():
        tuned = render.render(model, r, 200).projected[0, model.landmarks, :2]
        before = feedback[name][-1].projected[0, model.landmarks, :2]
        moved[name] = (tuned - before).norm(dim=1).mean().item()
        print(f"{name}: landmarks have moved by {moved[name]:.3f} pixels of 200")

# %% tags=["check"]
for step, (criterion, fidelity) in enumerate(history):  # 1: the outline may jump
    print(f"after {step} steps: Eq. (14) {criterion:.2f}, fidelity {fidelity:.4f}")
first, last = history[1][0], history[-1][0]
assert last < first or own, f"Eq. (14): {last:.2f}, not below {first:.2f}"
near = max(moved.values()) < 1 or own
assert near, f"landmarks moved by {moved} pixels, not below 1"

# %% [markdown]
# ## 8 All of it in one call
#
# `Reconstructor` does sections 1 to 5 and brings the result back to the photograph's
# own pixels and to a mesh. It knows two detail stages. `refine="finenet"` is the
# paper's and does what the sections above did by hand. `refine="normals"`, the default,
# is ours and *not* the paper's: a network estimates the normals from the photograph and
# the coarse face, two linear steps of shape from shading follow the photograph, and the
# slopes are integrated to depth (chapter 6, sections 11 to 14). CoarseNet, the crop and
# all that comes after are the same. Ours is the default because it is nearer to the
# measured normals of real people, on whom FineNet changes next to nothing
# (`docs/evaluation.md`). Who compares with the paper has to ask for `"finenet"`.

# %%
faces, papers, seconds = {}, {}, {}
for name, image in images.items():
    start = time.perf_counter()
    papers[name] = reconstructor(image)
    between = time.perf_counter()
    faces[name] = default(image)
    seconds[name] = between - start, time.perf_counter() - between
    print("{}: FineNet {:.2f} s, ours {:.2f} s".format(name, *seconds[name]))
    print(f"   {len(faces[name].vertices):,} vertices")

# %% tags=["check"]
for name, face in papers.items():
    off = np.abs(face.iterations[-1] - states[name][-1][0].numpy()).max()
    assert off < 1e-4, f"{name}: r is off by {off:.1e}, not below 1e-4"
    off = np.abs(face.landmarks - landmarks[name]).max()
    assert off < 0.05, f"{name}: landmarks are off by {off:.3f} pixels, not below 0.05"
    off = abs(np.nanmean(face.depth_mm) - fine[name][mask[name]].mean().item())
    assert off < 1, f"{name}: depth is off by {off:.2f} mm, not below 1"
    outside = np.isfinite(face.depth_mm[~face.mask]).sum()
    assert outside == 0, f"{name}: {outside} pixels outside have a depth, 0 expected"
    off = np.abs(faces[name].iterations[-1] - face.iterations[-1]).max()
    assert off == 0, f"{name}: both stages start from the same r, {off:.1e} apart"
    added = {"FineNet": face, "ours": faces[name]}
    added = {k: np.nanstd(m.depth_mm - m.coarse_depth_mm) for k, m in added.items()}
    print(name, "depth changed by", {k: f"{v:.2f} mm" for k, v in added.items()})
    assert min(added.values()) > 0, f"{name}: {added} mm, both above 0 expected"

# %% [markdown]
# The photograph, the coarse face, and both details on it, lit alike as grey clay; the
# last picture is our mesh, turned. Look for lines of the photograph in the relief, and
# for relief that is none in the photograph: a strand of hair, the frame of a pair of
# glasses, the rim of a cap. FineNet, the paper's, adds lines that are fine and faint.
# Ours moves whole cheeks and folds, too, since it was taught the way from CoarseNet's
# normals to the true ones and not wrinkles alone. That a surface looks richer does not
# make it right; chapter 5 shows how the truth can be measured.

# %%
for name, face in faces.items():
    figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
    width = {"width_mm": face.crop.side * face.mm_per_pixel}  # as in the photograph
    meshes = {"coarse": (face.coarse_vertices, face.coarse_faces)}
    meshes["FineNet, the paper's"] = papers[name].vertices, papers[name].faces
    meshes["normals, ours"] = mesh = face.vertices, face.faces
    show(axes[0], np.clip(face.crop.at(300).cut(face.image), 0, 1), name)
    for axis, (key, each) in zip(axes[1:4], meshes.items(), strict=True):
        show(axis, viz.shaded(viz.mesh_normals(*each, size=300, **width)), key)
    turned = viz.mesh_normals(*mesh, size=300, yaw=35, **width)
    show(axes[4], viz.shaded(turned), "ours, 35°")
    figure.savefig(output / f"{name}_mesh.png", dpi=80)
plt.show()

# %% [markdown]
# **Turn it.** The button makes an interactive view, thinned to at most 10,000 vertices.
# The pictures above are the same mesh for readers without a running kernel.


# %%
def show_viewer(button):
    place.children = [plotly.FigureWidget(viz.viewer(faces[choice.value]))]


choice = widgets.Dropdown(options=list(faces), description="photograph")
button = widgets.Button(description="turn the face")
button.on_click(show_viewer)
place = widgets.VBox()
widgets.VBox([widgets.HBox([choice, button]), place])

# %% tags=["check"]
(surface,) = viz.viewer(
    faces[name]
).data  # what the button shows, not sent to the browser
print(f"{len(faces[name].vertices):,} vertices, {len(surface.x):,} in the viewer")
count, last = len(surface.x), max(surface.i.max(), surface.j.max(), surface.k.max())
assert 1000 < count <= min(10_000, len(faces[name].vertices)), f"{count:,} vertices"
assert last < count, f"a triangle names vertex {last}, below {count} expected"

# %% [markdown]
# **Keep it.** The suffix chooses the format: `.glb` with texture, `.obj` with `.mtl`
# and `.png`, `.ply` with colored vertices, `.stl` without color; depth as `.npy`, or
# as 16-bit `.png` with a `.json` that says how to read it.

# %% tags=["check"]
face = faces[name]
with TemporaryDirectory() as folder:
    for suffix in (".glb", ".obj", ".ply", ".stl"):
        for path in face.save(Path(folder) / f"face{suffix}"):
            print(f"{path.name:10} {path.stat().st_size / 1000:8.0f} kB")
    header = (Path(folder) / "face.ply").read_bytes()[:400].decode("latin1")
    wanted = f"element vertex {len(face.vertices)}"
    assert wanted in header, f"{wanted!r} is not in {header!r}"
    face.save_depth(Path(folder) / "depth.npy")
    stored = np.load(Path(folder) / "depth.npy")
same = np.array_equal(stored, face.depth_mm, equal_nan=True)
assert same, f"depth.npy: {np.nanmean(stored)} mm, expected {np.nanmean(face.depth_mm)}"

# %% [markdown]
# **Print it.** A slicer needs a volume; the face is a sheet with a ragged border.
# `save_solid` keeps its largest piece, gives it a back, flat on the printer's bed or
# hollow as a mask, and walls along the border. Every edge must lie between exactly two
# triangles, once in each direction. (One photograph does not know its scale: "mm" are
# those of a head of mean size. Slicers can enlarge.)

# %% tags=["check"]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for column, hollow in enumerate((False, True)):
    closed = solid.close_surface(face.vertices, face.faces, 4.0, hollow)
    f = closed.faces
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    once = {tuple(edge) for edge in edges.tolist()}
    open_ = len(edges) - len(once & {(b, a) for a, b in once})
    assert open_ == 0, f"{open_} edges of {len(edges)} are open, 0 expected"
    corners = closed.vertices[f] - closed.vertices.mean(0)
    volume = np.linalg.det(corners).sum() / 6  # mm^3, positive if turned outward
    print(f"hollow {hollow}: {len(f):,} triangles, {volume / 1000:.0f} cm^3")
    assert volume > 0, f"{volume:.0f} mm^3, not above 0"
    for axis, yaw in zip(axes[2 * column :], (35, 150), strict=False):
        show(axis, viz.shaded(viz.mesh_normals(*closed, size=300, yaw=yaw)), f"{yaw}°")

# %% [markdown]
# ## 9 Your own photograph
#
# Choose a file. It stays on this computer; the mesh and a solid for a printer go to
# `output_dir`. Without a running kernel, give the file as a parameter: `facerecon
# reproduce end_to_end -p photos me.jpg --out mine` runs this whole notebook on it.


# %%
def reconstruct_upload(change):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(change["new"][0]["content"])
        try:
            own = default(path)
        except ValueError as error:  # not an image, no face, or a fit gone astray
            message.value = str(error).replace(str(path), change["new"][0]["name"])
            return
    picture.value = viz.figure_png(viz.preview(own))
    saved = own.save(output / "your_face.glb")
    saved += own.save_solid(output / "your_face.stl")
    message.value = "saved: " + ", ".join(map(str, saved))


# %%
upload = widgets.FileUpload(accept="image/*", description="photograph")
upload.observe(reconstruct_upload, "value")
picture, message = widgets.Image(format="png"), widgets.Label()
widgets.VBox([upload, message, picture])


# %% tags=["check"]
# What the button does, without a hand: a text file, a photo without face, a portrait.
def pretend(name, content):
    picture.value, message.value = b"", ""
    reconstruct_upload({"new": [{"name": name, "content": content}]})
    return bytes(picture.value), message.value


shown, said = pretend("letter.txt", b"not a photograph")
refused = shown == b"" and "letter.txt" in said and "not an image" in said
assert refused, f"{len(shown)} bytes shown, said {said!r}"
shown, said = pretend("wall.png", viz.figure_png(plt.Figure()))
assert shown == b"" and "no face" in said, f"{len(shown)} bytes shown, said {said!r}"

# %% tags=["check"]
portrait = get_sample_data("grace_hopper.jpg", asfileobj=False)
shown, said = pretend("hopper.jpg", Path(portrait).read_bytes())
made = shown.startswith(b"\x89PNG") and (output / "your_face.stl").is_file()
assert made, f"{len(shown)} bytes shown, said {said!r}"

# %% [markdown]
# ## Exercises
#
# **1.** Table 1 of the paper compares methods by their "Ave. Depth Err." and "90% Depth
# Err.", "on pixels which were denoted as valid by all the methods". Write that measure
# for an estimate and a truth, both in mm with NaN where they are not valid: the mean
# absolute error, and the error that 90 % of the pixels stay below.


# %% tags=["exercise"]
def depth_errors(estimate, truth):
    """Mean and 90 % quantile of the absolute error, mm, where both maps are valid."""
    ### BEGIN SOLUTION
    error = np.abs(estimate - truth)
    error = error[np.isfinite(error)]
    return error.mean(), np.quantile(error, 0.9)
    ### END SOLUTION


# %% tags=["check"]
truth = np.arange(-50.0, 51.0)  # -50 ... 50 mm
mean, most = depth_errors(np.zeros(101), truth)
print(f"mean {mean:.2f} (expected 25.25), 90 % {most:.2f} (expected 45)")
right = np.isclose(mean, 2550 / 101) and np.isclose(most, 45)
assert right, f"{mean:.3f} and {most:.3f}, expected 25.248 and 45"
half = np.where(truth > 0, truth, np.nan)
mean, most = depth_errors(np.where(truth < 11, 0, np.nan), half)
print(f"where both are valid: mean {mean:.2f} (expected 5.5), 90 % {most:.2f} (9.1)")
right = np.isclose(mean, 5.5) and np.isclose(most, 9.1)
assert right, f"{mean:.3f} and {most:.3f}, expected 5.5 and 9.1"

# %% [markdown]
# **2.** Write the image of Eq. (8), $\rho\langle\vec l, Y(z)\rangle$, for an albedo (H,
# W), a light of four numbers and normals (3, H, W).


# %% tags=["exercise"]
def relit(albedo, light, normals):
    """The image of a surface under a first-order light, (H, W)."""
    ### BEGIN SOLUTION
    n_x, n_y, n_z = normals
    return albedo * (light[0] + light[1] * n_x + light[2] * n_y + light[3] * n_z)
    ### END SOLUTION


# %% tags=["check"]
generator = torch.Generator().manual_seed(0)
rho = torch.rand(5, 7, generator=generator)
random_normals = torch.nn.functional.normalize(
    torch.randn(3, 5, 7, generator=generator), dim=0
)
l = torch.randn(4, generator=generator)
expected = lighting.shade(rho[None, None], l[None], random_normals[None])[0, 0]
answer = relit(rho, l, random_normals)
off = (answer - expected).abs().max()
print(f"shape {tuple(answer.shape)}, largest error {off:.1e}")
assert off < 1e-5, f"off by {off:.1e}, not below 1e-5"

# %% [markdown]
# ## What we did not reproduce
#
# - **The data.** The paper's bases come from the Bosphorus scans; its FineNet starts
#   from VGG-Face and learns from that network's photographs. We have none of these: our
#   model is made of open data, the model cards name what the networks learned from, and
#   FineNet learned from synthetic wrinkles. The default's detail is ours (section 8).
# - **Table 1.** FRGC needs a licence; nothing here was measured against true depth.
# - **Figures 8 and 10**, the comparisons with other methods.
# - **End-to-end training at scale.** Section 7 shows the mechanism on two photographs;
#   whether it helps needs many, and another set to measure on (`facerecon train
#   end-to-end`).
# - **Many people.** Two portraits show that the pipeline works, not how often.

# %% [markdown]
# ## Review questions
#
# 1. Why does CoarseNet see the photograph *masked* by its own current estimate?
# 2. Which of the six pose numbers does Eq. (5) leave out of the depth, and why may it?
# 3. Why is the light found with the average albedo first, and not both at once?
# 4. What would FineNet do if $\lambda_f$ and $\lambda_{sm}$ were zero? If huge?
# 5. Where does a dark brow go in Eq. (8): into $\rho$, into $\vec l$, or into $\hat z$?
# 6. Which pose numbers can FineNet's criterion reach in CoarseNet, and why only those?
# 7. A photograph is enlarged twofold. What happens to $f$, to the mesh in mm, to $Y$?

# %% tags=["record"]
record = repro.Recorder(output, preset, seed, weights=used_weights.values())
for name in images:
    angles = np.degrees(faces[name].pose[:3] * camera.POSE_UNITS[:3].numpy())
    record(f"{name}/pitch_yaw_roll_deg", angles.round(2))
    record(f"{name}/landmark_moves_px", moves[name].double().numpy().round(3))
    record(f"{name}/landmarks_moved_by_tuning_px", round(moved[name], 4))
    record(f"{name}/depth_change_rms_mm", round(change[name].std().item(), 4))
    for key, loss in terms[name].items():
        for term, value in loss._asdict().items():
            record(f"{name}/criterion/{key}/{term}", round(value.item(), 3))
    for stage, value in zip(("finenet", "normals"), seconds[name], strict=True):
        record.timing(f"{name}/{stage}", value)
for (source, place, cut), norm in norms.items():
    record(f"flow/{source}{', layer cut' * cut}/{place}", float(f"{norm:.3g}"))
record("tuning/criterion_before_and_after", [round(history[k][0], 3) for k in (0, -1)])
print(record.path.read_text()[:600])

# %% [markdown]
# ## Further reading
#
# - E. Richardson, M. Sela, R. Or-El, R. Kimmel. *Learning Detailed Face Reconstruction
#   from a Single Image.* CVPR 2017: the paper.
# - X. Zhu et al. *Face alignment across large poses: A 3D solution.* CVPR 2016: PNCC.
# - R. Or-El et al. *RGBD-Fusion: Real-time high precision depth recovery.* CVPR 2015:
#   the energies in whose spirit Eq. (14) is made.
# - I. Kemelmacher-Shlizerman, R. Basri. *3D face reconstruction from a single image
#   using a single reference face shape.* PAMI 2011: where Eq. (11) comes from.
