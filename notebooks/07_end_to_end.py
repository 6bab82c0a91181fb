# %% [markdown]
# # From one photograph to a detailed face
#
# Six chapters have built the parts: a face model, rendered training data, a network that
# corrects itself, a renderer with gradients, light and albedo, and detail. In this one
# they become a pipeline. A photograph goes in at one end, and at the other end comes out
# a surface that you can turn, light and print. First you see the whole, then you walk
# through it stage by stage and do each by hand. In the end you reconstruct a photograph
# of your own.
#
# **What you will be able to do.** Run every stage by hand, and say what each of them
# adds. Follow the gradients of both criteria through both networks. Reconstruct your own
# face, look at it from all sides, and save it for a viewer or a 3D printer.
#
# **Before you start.** You need [chapter 3](03_coarsenet.ipynb) (CoarseNet), [chapter
# 4](04_differentiable_rendering.ipynb) (the rendering layer) and [chapter
# 6](06_finenet.ipynb) (detail), at least their summaries. Reading takes 40 minutes,
# working through it with the exercises 60 to 90. The cells need about a minute on two CPU
# cores (`full`: a few). Nothing is downloaded. Run all cells once from the top; after
# that you may run each of them again in any order.
#
# **In the paper.** Sections 3.4, 4 and 4.4; Eqs. (1), (2), (5), (6), (8), (14); Figures
# 1, 3, 4 and 7. *Data:* two public-domain portraits that come with scikit-image
# (astronaut Eileen Collins, NASA) and matplotlib (Rear Admiral Grace Hopper, US Navy).

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

import matplotlib.pyplot as plt
import numpy as np
from facerecon import Reconstructor, appearance, camera, coarsenet, depth, imaging
from facerecon import lighting, losses, render, repro, solid, weights
from facerecon.course import Exercise
from facerecon.detection import detect, recrop
from facerecon.training import presets
from facerecon.views import concepts, face_viewer, portraits, viz
import torch  # after facerecon, which tells its threads how to wait

# %%
files = {"coarsenet": coarse_weights, "finenet": fine_weights}
files["normalnet"] = normals_weights
used_weights = {
    name: Path(file or weights.shipped(f"{name}.safetensors"))
    for name, file in files.items()
}
output = repro.start(output_dir)
coarse_file, fine_file, normals_file = used_weights.values()
reconstructor = Reconstructor.from_pretrained(coarse_file, fine_file, refine="finenet")
default = Reconstructor.from_pretrained(coarse_file, normals_file, refine="normals")
model = reconstructor.model
for name, path in used_weights.items():
    card = weights.read_card(path)
    print(f"{name}: learned from {card['samples']:,} samples in {card['hours']} h:")
    print(f"  {card['data']}")

# %% [markdown]
# ## First, the phenomenon
#
# The first picture of each row is all that the computer is given: a photograph from one
# side, by one camera. The others are what it makes of it, seen from the left, from the
# front and from the right. Nobody has measured these heads. What lies behind the cheek is
# guessed from what the model knows of other people; what lies on the cheek is read off
# the photograph.

# %%
own = {Path(path).stem: imaging.load_image(path) for path in photos}
images = own or portraits.portraits()
faces, papers, seconds, pictures = {}, {}, {}, []
for name, image in images.items():
    start = time.perf_counter()
    papers[name] = reconstructor(image)  # with the paper's detail stage
    between = time.perf_counter()
    faces[name] = face = default(image)  # with ours
    seconds[name] = between - start, time.perf_counter() - between
    width = face.crop.side * face.mm_per_pixel  # as large as in the photograph
    pictures.append(face.crop.at(300).cut(face.image).clip(0, 1))
    for yaw in (-35, 0, 35):
        mesh = face.vertices, face.faces, 300, yaw
        pictures.append(viz.shaded(viz.mesh_normals(*mesh, width_mm=width)))
titles = ["photograph", "from the left", "from the front", "from the right"]
viz.gallery(pictures, titles, columns=4, inches=2.3)

# %% [markdown]
# **Turn it yourself.** The button makes an interactive view, thinned to at most 10,000
# vertices, with the photograph's colors or as clay. Drag with the mouse, and use the
# wheel to come nearer. Look at the same face in both ways: the colors persuade us of much
# that the shape does not have. (It needs a running kernel and sends some megabytes to
# your browser.)

# %%
face_viewer.FaceViewer(faces).live()

# %% [markdown]
# The drawing shows the way from the photograph to the mesh. Black arrows are followed
# when a photograph is reconstructed. The red ones, backward, exist while the networks are
# trained together; sections 6 and 7 follow them.

# %%
concepts.pipeline()

# %% [markdown]
# **Notation.**
#
# | symbol | meaning | size, unit |
# |---|---|---|
# | $r_t$ | state after step $t$: identity, expression, pose | 290 numbers |
# | $S$ | vertices of the face, Eq. (1) | mm |
# | $f$, $t_x$, $t_y$ | scale and shift of the camera, Eq. (2) | pixels per mm; pixels |
# | $\lambda_i$ | barycentric weights of a pixel in its triangle, Eq. (6) | sum 1 |
# | $z_0$, $\hat z$ | coarse and detailed depth | mm, larger is nearer |
# | $\rho$, $\vec l$, $Y$ | albedo, light, harmonics of the normals, Eq. (8) | chapter 5 |
#
# Sections 1 to 7 are the paper's method, with FineNet as the detail stage, made with the
# weights named above. In section 8 our own detail stage, which is the package's default
# and made the pictures above, stands beside it.
#
# ## 1 A photograph becomes a crop
#
# A network expects a face in the middle of a small square. CoarseNet is fed "with a
# 200×200 image of a face. Such an image can be automatically acquired using a standard
# face detector, such as the Viola-Jones detector" (3.4). Our detector is a small network.
# Its box goes from the brows to the chin, and the crop is 1.2 times as wide, so that the
# mean head of the morphable model fills it. A crop remembers its place in the photograph,
# since everything that is found in it has to be brought back there in the end.

# %%
boxes = {name: detect.detect_faces(image)[0] for name, image in images.items()}
first_crops = {
    name: imaging.square_crop(box.crop_box(), images[name].shape[:2], 200)
    for name, box in boxes.items()
}


def show(axis, picture, title=""):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)  # colors stay as they are
    axis.set(title=title, xticks=[], yticks=[])


# %%
figure, axes = plt.subplots(len(images), 2, figsize=(7, 7), squeeze=False)
for (left, right), (name, image) in zip(axes, images.items(), strict=True):
    box, square = boxes[name], first_crops[name]
    show(left, image, f"{name}: detector's box, crop")
    lime = square.x, square.y, square.side, "lime"
    for x, y, side, color in [(box.x, box.y, box.width, "gold"), lime]:
        corner = x - 0.5, y - 0.5  # boxes count from edges, imshow from pixel centers
        left.add_patch(plt.Rectangle(corner, side, side, fill=False, ec=color, lw=2))
    show(right, square.cut(image), f"crop: 200 pixels from {square.side:.0f}")
plt.show()

# %% tags=["check"]
for name, square in first_crops.items():
    box, corners = boxes[name], np.array([[-0.5, -0.5], [199.5, 199.5]])  # of the crop
    (left, top), (right, bottom) = square.to_image(corners) + 0.5
    width, wanted = right - left, 1.2 * max(box.width, box.height)
    assert np.isclose(width, wanted), f"{width:.2f} pixels wide, expected {wanted:.2f}"
    within = left < box.x < box.x + box.width < right
    within &= top < box.y < box.y + box.height < bottom
    assert within, f"{box} not within {left:.1f}, {top:.1f}, {right:.1f}, {bottom:.1f}"
    back = square.to_crop(square.to_image(corners))
    assert np.allclose(back, corners), f"{back}, expected {corners}"

# %% [markdown]
# Two kinds of coordinates meet here, and they are a common source of errors. Boxes are
# counted from the left edge of the first pixel, as detectors do; pictures are drawn with
# the *center* of the first pixel at zero. The two differ by half a pixel, which is 0.5 mm
# on a face of this size. The check goes from the crop to the photograph and back.
#
# ## 2 Four steps of CoarseNet
#
# The state is a vector $r$ of 290 numbers: 200 for identity and 84 for expression, which
# make a face $S = \mu_S + A_{id}\alpha_{id} + A_{exp}\alpha_{exp}$ (Eq. 1), and 6 for its
# pose. "The initial parameters vector, $r_0$, is set to zeros, corresponding to a
# centered mean face" (3.4). Each step renders the current face, shows the network the
# photograph masked by it, its PNCC and its normals, and takes the network's answer as the
# next state. So it was trained: on synthetic faces, from states between a random one and
# the truth (Eq. 3), towards the true geometry in mm (Eq. 4) and the true pose.
#
# If the detector's box was off, the crop is cut anew around the fit, and the four steps
# are repeated. The paper has no such step. It matters for photographs in which the
# detector's box shows too much of the hair or cuts off the chin.

# %%
states, squares, grey, feedback = {}, {}, {}, {}
for name, image in images.items():
    known = reconstructor.coarsenet, model, image, first_crops[name]
    with torch.no_grad():
        states[name], squares[name] = recrop.fit(*known, iterations=4)
        feedback[name] = [render.render(model, r, 200) for r in states[name]]
    cut = imaging.to_grey(squares[name].cut(image))
    grey[name] = torch.from_numpy(cut)[None, None]

# %% [markdown]
# As in Figure 4 of the paper, the next figure shows what the network was shown at each
# step (columns). From top to bottom these are the masked photograph, the PNCC, and the
# normals, whose $x$, $y$, $z$ are painted red, green, blue. The last column is the
# result. Most of the way is done in the first step; the later ones correct the outline
# and the mouth.

# %%
for name, each_step in feedback.items():
    pictures = [viz.feedback_pictures(grey[name], one) for one in each_step]
    pictures = [column[kind] for kind in range(3) for column in pictures]
    titles = [f"{name}, $r_{t}$" for t in range(5)]
    figure = viz.gallery(pictures, titles, columns=5, inches=1.8)
    figure.savefig(output / f"{name}_iterations.png", dpi=100)
figure

# %% [markdown]
# "This process is repeated until convergence": the steps must become small. We measure
# them where it matters, at the 68 landmarks in the image. And the landmarks below the
# brows must lie in the detector's box (with 10 % to spare), of which the network was
# never told. With photographs of your own (the parameter `photos`) nothing is asserted
# about such facts; the numbers are printed all the same.

# %% tags=["check"]
landmarks, moves = {}, {}
for name, each_step in feedback.items():
    track = torch.stack([one.projected[0, model.landmarks, :2] for one in each_step])
    moves[name] = (track[1:] - track[:-1]).norm(dim=2).mean(dim=1)
    landmarks[name] = squares[name].to_image(track[-1].numpy())
    print(name, "moves by", [f"{move:.2f}" for move in moves[name]], "pixels of 200")
    first, last = moves[name][[0, -1]]
    steady = last < first / 2 or own
    assert steady, f"{last:.2f} pixels, not below half of {first:.2f}"
    box = boxes[name]
    below_brows = landmarks[name][27:] + 0.5  # boxes count from the image's edge
    within = (below_brows - [box.x, box.y]) / [box.width, box.height]
    inside = -0.1 < within.min() < within.max() < 1.1 or own
    assert inside, (
        f"{within.min():.2f} to {within.max():.2f} of the box, 0 to 1 expected"
    )

# %% [markdown]
# Six of the 290 numbers can be read without a model. The cell turns the pose from its
# units (`docs/conventions.md`) to degrees, percent of the crop, and pixels per mm. Hold
# the numbers against the photographs: is the head turned to the side that they say?

# %%
for name, rs in states.items():
    coefficients, pose = camera.split(rs[-1])
    numbers = (pose[0] * camera.POSE_UNITS).tolist()
    print(f"{name}:", end=" ")
    for label, value in zip(camera.POSE_NAMES[:3], numbers[:3], strict=True):
        print(f"{label} {np.degrees(value):+.1f}°", end=", ")
    pixels_per_mm = 200 / camera.CROP_MM * np.exp(numbers[5])
    print(f"right {100 * numbers[3]:+.1f} %, up {100 * numbers[4]:+.1f} %;", end=" ")
    print(f"{pixels_per_mm:.3f} px/mm")

# %% [markdown]
# ## 3 The rendering layer
#
# Between the networks stands the layer of chapter 4. It places the mesh above the image
# plane (Eq. 5), asks of each pixel which triangle it sees, and mixes the depths of its
# corners with barycentric weights, $\tilde z = \lambda_0 z_0 + \lambda_1 z_1 + \lambda_2
# z_2$ (Eq. 6). Gradients go back with the same weights (Eq. 7). The check mixes by hand.

# %% tags=["check"]
subject = next(iter(images))  # the face that sections 3 to 6 take apart
found = feedback[subject][-1]
corners = model.triangles[found.fragments.triangle.clamp(min=0)]  # (1, 200, 200, 3)
z_corners = found.projected[0, :, 2][corners]
mixed = (found.fragments.barycentric * z_corners).sum(dim=3)  # Eq. (6)
off = (mixed - found.depth[:, 0]).abs()[found.mask[:, 0]].max()
print(f"largest difference {off:.1e} mm over {found.mask.sum()} pixels")
assert off < 1e-3, f"{off:.1e} mm, not below 1e-3"

# %% [markdown]
# A difference of zero, or nearly so, is no surprise: the layer is this sum and nothing
# else. What makes it worth a section of the paper is the way back. Each pixel knows the
# three vertices that it came from and their shares, so it can tell each of them how its
# depth should change; and the vertices depend on the 290 numbers by Eq. (1) and Eq. (5).
#
# ## 4 Light and albedo
#
# What does the photograph say that the coarse mesh does not? A face of albedo $\rho$
# under the light $\vec l$ looks like $\rho \langle \vec l, Y \rangle$ (Eq. 8) with $Y =
# (1, n_x, n_y, n_z)$ (Eq. 9). Chapter 5 finds $\vec l$ and $\rho$, by Eqs. (10) to (12);
# here they are needed for the criterion alone. The normals in $Y$ are those of a depth
# map, by central differences. The facets of the mesh would pass for wrinkles there, so
# from here on the coarse depth is that of the curved surface behind the triangles
# (`render.curved_depth`). The check computes the normals once more with NumPy.

# %%
maps, lit = {}, {}
with torch.no_grad():
    for name, rs in states.items():
        maps[name] = appearance.model_maps(model, rs[-1], 200)
        lit[name] = appearance.estimate_light_and_albedo(grey[name], maps[name], 1)
        print(name, "light (ambient, right, up, front):", lit[name].light[0].numpy())

# %% tags=["check"]
h, z_0 = maps[subject].mm_per_pixel.item(), maps[subject].depth[0, 0].numpy()
z_x = np.gradient(z_0, h, axis=1)
z_y = -np.gradient(z_0, h, axis=0)  # rows go down, y goes up
n = np.stack([-z_x, -z_y, np.ones_like(z_x)]) / np.sqrt(1 + z_x**2 + z_y**2)
inner = losses.five_point_interior(maps[subject].mask)[0, 0]  # has all neighbors
off = np.abs(n - maps[subject].normals[0].numpy())[:, inner].max()
print(f"largest difference {off:.1e} over {inner.sum()} pixels")
assert off < 1e-3, f"{off:.1e}, not below 1e-3"
for name, reading in lit.items():
    front = reading.light[0, 3].item()
    assert front > 0 or own, f"{name}: light from the front {front:.2f}, not above 0"

# %% [markdown]
# ## 5 FineNet adds the detail
#
# FineNet reads the photograph and the coarse depth $z_0$ and answers with a depth map
# $\hat z$. The paper trains it without any true depth, to make
# $$\lambda_{sh}\left\|\rho\langle\vec l, Y(\hat z)\rangle - I\right\|^2 +
# \lambda_f\left\|\hat z - z_0\right\|^2 + \lambda_{sm}\left\|\Delta\hat z\right\|_1
# \qquad (14)$$
# small on photographs. Light and albedo are part of the criterion only: at test time the
# network needs the photograph and the coarse depth, and nothing else (4.3.2).
#
# How good is the answer by the paper's criterion? `appearance.shading_target` prepares
# the photograph as in training: what changes slowly over the skin counts as albedo, and
# what is left is bounded, for no detail of a surface explains a cast shadow.
#
# **Read the printed numbers with care.** The total of Eq. (14) may well be *larger* with
# FineNet's detail than without it. The weights that ship did not learn to make Eq. (14)
# small: they learned, from photographs and without labels, by a linear relative of it
# that suits real skin better (chapter 6, section 7). On people whose normals are known
# that came nearer to the truth. For photographs a criterion is no measure of truth, and
# here you see the two go apart.

# %%
settings, terms, goal, fine = presets.FineTraining(), {}, {}, {}
for name, each in maps.items():
    known = grey[name], each, lit[name].albedo, lit[name].light, settings.detail_bounds
    goal[name] = appearance.shading_target(*known)
    with torch.no_grad():
        known = grey[name], each.depth, each.mask, each.mm_per_pixel
        fine[name] = reconstructor.finenet(*known)
    terms[name] = {
        key: losses.finenet_loss(z, each.depth, goal[name])
        for key, z in {"coarse": each.depth, "FineNet": fine[name]}.items()
    }
    for key, loss in terms[name].items():
        numbers = "  ".join(f"{k} {v:8.2f}" for k, v in loss._asdict().items())
        print(f"{name:14}{key:10} {numbers}")

# %% tags=["check"]
change = {name: (fine[name] - each.depth)[each.mask] for name, each in maps.items()}
for name, moved in change.items():
    most = moved.abs().max()
    print(f"{name}: depth changed by {moved.std():.2f} mm rms, at most {most:.1f}")
    # Something happened, and it is detail.
    detail = 0.01 < moved.std() < 5 or own
    assert detail, f"{moved.std():.3f} mm, 0.01 to 5 expected"
    outside = (fine[name] != maps[name].depth)[~maps[name].mask].sum()
    assert outside == 0, f"{outside} pixels outside of the mask changed, 0 expected"

# %%
for name, each in maps.items():
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
    show(axes[0], grey[name][0, 0], name)
    surfaces = {"coarse": each.depth, "with FineNet": fine[name]}
    for axis, (key, z) in zip(axes[1:3], surfaces.items(), strict=True):
        n = depth.normals_from_depth(z, each.mm_per_pixel, each.mask)
        n = torch.where(each.mask, n, torch.nan)[0].permute(1, 2, 0)
        show(axis, viz.shaded(n.numpy()), key)
    moved = torch.where(each.mask, fine[name] - each.depth, torch.nan)[0, 0]
    shades = axes[3].imshow(moved, cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    axes[3].set(title="difference", xticks=[], yticks=[])
    figure.colorbar(shades, ax=axes[3], label="mm toward the viewer")
    figure.savefig(output / f"{name}_coarse_fine.png", dpi=100)
plt.show()

# %% [markdown]
# The two clay pictures hardly differ, and the difference on the right has a scale of half
# a millimeter. That is the size of wrinkles: a fold on a forehead is some tenths of a
# millimeter deep. It is visible because a small depth over a short way is a steep slope,
# and brightness depends on slopes.
#
# ## 6 Figure 7: the criterion flow
#
# "[T]he gradient is backpropagated through the network allowing us to train FineNet and
# fine-tune CoarseNet" (4.4). And "a fidelity criterion is added to CoarseNet's output.
# This criterion is the MSE between the current CoarseNet solution and the original one."
# We take one such pass apart, on copies of the networks. At first CoarseNet's answer *is*
# the original one and the fidelity has no gradient; so we change its parameters by a
# thousandth. We look at the norms of the gradients that arrive at each place, with the
# rendering layer and with the layer cut off (`detach`). (`fig_07` draws the figure.)

# %%
end_to_end = presets.END_TO_END_PRESETS["cpu"]


def copies(factor=1.0):
    """Both networks, CoarseNet's parameters times a factor."""
    pair = deepcopy(reconstructor.coarsenet), deepcopy(reconstructor.finenet)
    for parameter in pair[0].parameters():
        parameter.data.mul_(factor)
    return [network.requires_grad_(True) for network in pair]


# %%
def flow(pair, name, cut=False):
    """r, coarse and fine depth, Eq. (14) and the weighted fidelity of one photo."""
    with torch.no_grad():
        before = coarsenet.iterate(pair[0], model, grey[name], iterations=3)[-1]
    r = coarsenet.step(pair[0], model, grey[name], before)
    face = render.render(model, r.detach() if cut else r, 200)
    pixel = 1 / camera.pose_parameters(camera.split(r.detach())[1], 200).scale
    z = pair[1](grey[name], face.depth, face.mask, pixel)
    both = face.mask & maps[name].mask
    shaded = goal[name]._replace(mask=both, mm_per_pixel=pixel)
    criterion = losses.finenet_loss(z, face.depth.detach(), shaded).total
    fidelity = (r - states[name][-1]).square().mean()
    return r, face.depth, z, criterion, end_to_end.coarse_fidelity_weight * fidelity


# %%
def arriving(loss, tensors):
    """Norm of a criterion's gradient at some tensors; 0 where none arrives."""
    tensors = [t for t in tensors if t.requires_grad]
    if not tensors:
        return 0.0
    options = {"retain_graph": True, "allow_unused": True}
    gradients = torch.autograd.grad(loss, tensors, **options)
    return sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5


norms, pair = {}, copies(1.001)
for cut in (False, True):
    r, coarse_z, fine_z, criterion, fidelity = flow(pair, subject, cut)
    places = {"fine depth": [fine_z], "coarse depth": [coarse_z], "r": [r]}
    places |= {"FineNet": [*pair[1].parameters()], "CoarseNet": [*pair[0].parameters()]}
    for source, loss in {"Eq. (14)": criterion, "fidelity": fidelity}.items():
        for place, tensors in places.items():
            norms[source, place, cut] = arriving(loss, tensors)

# %% tags=["check"]
for where, norm in norms.items():
    assert np.isfinite(norm), f"{where}: {norm} is not finite"
least = min(norms["Eq. (14)", place, False] for place in places)
assert least > 0, f"Eq. (14) reaches every place: {least}, not above 0"
least = min(norms["fidelity", place, False] for place in ("r", "CoarseNet"))
assert least > 0, f"fidelity reaches CoarseNet: {least}, not above 0"
none = norms["fidelity", "FineNet", False]
assert none == 0, f"fidelity in FineNet: {none}, expected 0"
none = norms["Eq. (14)", "CoarseNet", True] + norms["Eq. (14)", "r", True]
assert none == 0, f"Eq. (14) behind the cut: {none}, expected 0"
whole, severed = (norms["Eq. (14)", "FineNet", cut] for cut in (False, True))
alike = abs(whole - severed) < 1e-3 * whole
assert alike, f"FineNet's own gradient: {severed:.5g}, expected {whole:.5g}"

# %%
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
kinds = {"Eq. (14)": ("Eq. (14)", False), "Eq. (14), layer cut": ("Eq. (14)", True)}
kinds |= {"fidelity": ("fidelity", False)}
for k, (label, (source, cut)) in enumerate(kinds.items()):
    heights = [norms[source, place, cut] for place in places]
    axis.bar(np.arange(len(places)) + 0.27 * (k - 1), heights, 0.25, label=label)
axis.set(yscale="log", ylabel="norm of the gradient", xticks=range(len(places)))
axis.set_xticklabels(places)
axis.legend()
figure.savefig(output / "criterion_flow.png", dpi=100)
plt.show()

# %% [markdown]
# The first three places lie on the gradient's way back; the last two are the weights that
# it changes. Eq. (14) arrives everywhere. With the layer cut, it stops at the coarse
# depth: FineNet is still trained as before, and CoarseNet learns nothing from the detail.
# The fidelity arrives at CoarseNet alone. A missing bar is a zero, which a logarithmic
# axis cannot show.
#
# ## 7 A few steps end to end
#
# Now both networks follow both criteria, on the same photographs. Two photographs and a
# handful of steps cannot make better networks; they only show what the criteria do. Eq.
# (14) falls on these photographs, since FineNet is trained for it here at ten times its
# usual rate; CoarseNet moves slowly, and the fidelity holds it near its original answer.
# We measure how far its 68 landmarks have moved.

# %%
rounds = {"quick": 4, "full": 60}[preset]
students = copies(1.001)
fast, slow = 10 * end_to_end.learning_rate, 0.1 * end_to_end.coarse_learning_rate
groups = [{"params": students[1].parameters(), "lr": fast}]
groups += [{"params": students[0].parameters(), "lr": slow}]
optimizer, history = torch.optim.AdamW(groups), []
for turn in range(rounds + 1):
    passes = {name: flow(students, name) for name in grey}
    sums = [sum(p[k] for p in passes.values()) / len(grey) for k in (3, 4)]
    history.append([value.item() for value in sums])
    if turn < rounds:
        optimizer.zero_grad()
        (len(grey) * sum(sums)).backward()
        optimizer.step()

# %% tags=["check"]
wandered = {}
for name, (r, *_) in passes.items():
    with torch.no_grad():
        tuned = render.render(model, r, 200).projected[0, model.landmarks, :2]
    before = feedback[name][-1].projected[0, model.landmarks, :2]
    wandered[name] = (tuned - before).norm(dim=1).mean().item()
    print(f"{name}: landmarks have moved by {wandered[name]:.3f} pixels of 200")
for turn, (criterion, fidelity) in enumerate(history):
    print(f"after {turn} steps: Eq. (14) {criterion:.2f}, fidelity {fidelity:.4f}")
first, last = history[0][0], history[-1][0]
assert last < first - 0.5 or own, f"Eq. (14): {last:.2f}, not below {first:.2f} - 0.5"
near = max(wandered.values()) < 1.5 or own
assert near, f"landmarks moved by {wandered} pixels, not below 1.5"

# %% [markdown]
# If you compare the two numbers of each line, you see the two forces. Eq. (14) pulls both
# networks toward surfaces that explain the photographs; the fidelity grows as soon as
# CoarseNet leaves its old answer, and pulls it back. With a much larger rate the fidelity
# would lose: try it in a copy of the cell, and watch the landmarks wander.
#
# ## 8 All of it in one call
#
# `Reconstructor` does sections 1 to 5 and brings the result back to the photograph's own
# pixels and to a mesh. It knows two detail stages. `refine="finenet"` is the paper's and
# does what the sections above did by hand. `refine="normals"`, the default, is ours and
# *not* the paper's: a network estimates the normals from the photograph and the coarse
# face, these correct the model's shape, two linear steps of shape from shading follow the
# photograph, and the slopes are integrated to depth (chapter 6, sections 11 to 15).
# CoarseNet, the crop and all that comes after are the same. Ours is the default because it
# is nearer to the measured normals of real people, on whom FineNet changes next to
# nothing (`docs/evaluation.md`). Who compares with the paper asks for `"finenet"`.

# %% tags=["check"]
for name, face in papers.items():
    off = np.abs(face.iterations[-1] - states[name][-1][0].numpy()).max()
    assert off < 1e-4, f"{name}: r is off by {off:.1e}, not below 1e-4"
    off = np.abs(face.landmarks - landmarks[name]).max()
    assert off < 0.05, f"{name}: landmarks are off by {off:.3f} pixels, not below 0.05"
    off = abs(np.nanmean(face.depth_mm) - fine[name][maps[name].mask].mean().item())
    assert off < 1, f"{name}: depth is off by {off:.2f} mm, not below 1"
    outside = np.isfinite(face.depth_mm[~face.mask]).sum()
    assert outside == 0, f"{name}: {outside} pixels outside have a depth, 0 expected"
    off = np.abs(faces[name].iterations[-1] - face.iterations[-1]).max()
    assert off == 0, f"{name}: CoarseNet answers both stages alike, {off:.1e} apart"
    added = {"FineNet": face, "ours": faces[name]}
    added = {k: np.nanstd(m.depth_mm - m.coarse_depth_mm) for k, m in added.items()}
    print(
        name, "depth changed by", {k: f"{v:.2f} mm" for k, v in added.items()}, end=""
    )
    print(" in {:.1f} and {:.1f} s".format(*seconds[name]))
    assert min(added.values()) > 0, f"{name}: {added} mm, both above 0 expected"

# %% [markdown]
# The photograph, the coarse face, and both details on it, lit alike as grey clay; the
# last picture is our mesh, turned. Look for lines of the photograph in the relief, and
# for relief that is none in the photograph: a strand of hair, the frame of a pair of
# glasses, the rim of a cap. FineNet, the paper's, adds lines that are fine and faint.
# Ours moves whole cheeks and folds, too, since it was taught the way from CoarseNet's
# normals to the true ones and not wrinkles alone. That a surface looks richer does not
# make it right; chapter 5 shows how the truth can be measured.
#
# The turned picture is the stricter test. Seen from the front, a wrong depth of the nose
# hides behind its own outline; from the side it shows. Turn your viewer above to the same
# side and compare the profile with that of the person, as far as you know it.

# %%
for name, face in faces.items():
    figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), layout="constrained")
    width = {"width_mm": face.crop.side * face.mm_per_pixel}  # as in the photograph
    ours = face.vertices, face.faces
    meshes = {"coarse": (face.coarse_vertices, face.coarse_faces)}
    meshes["FineNet, the paper's"] = papers[name].vertices, papers[name].faces
    meshes["normals, ours"] = ours
    show(axes[0], np.clip(face.crop.at(300).cut(face.image), 0, 1), name)
    for axis, (key, mesh) in zip(axes[1:4], meshes.items(), strict=True):
        show(axis, viz.shaded(viz.mesh_normals(*mesh, size=300, **width)), key)
    aside = viz.mesh_normals(*ours, size=300, yaw=35, **width)
    show(axes[4], viz.shaded(aside), "ours, 35°")
    figure.savefig(output / f"{name}_mesh.png", dpi=100)
plt.show()

# %% [markdown]
# **Keep it.** `face.save(path)` writes the mesh, and the suffix chooses the format.
# `.glb` holds the texture and is read by most viewers, web pages and game engines; `.obj`
# comes with `.mtl` and `.png`; `.ply` has colored vertices; `.stl` has no color and is
# what printers read. Depth goes to `.npy`, or to a 16-bit `.png` with a `.json` that says
# how to read it. The check saves into a temporary folder and reads back.

# %% tags=["check"]
sample = faces[subject]
(surface,) = viz.viewer(sample).data  # what the viewer shows, not sent to the browser
count, last = len(surface.x), max(surface.i.max(), surface.j.max(), surface.k.max())
print(f"{len(sample.vertices):,} vertices, {count:,} in the viewer")
assert 1000 < count <= min(10_000, len(sample.vertices)), f"{count:,} vertices"
assert last < count, f"a triangle names vertex {last}, below {count} expected"
with TemporaryDirectory() as folder:
    for suffix in (".glb", ".obj", ".ply", ".stl"):
        for path in sample.save(Path(folder) / f"face{suffix}"):
            print(f"{path.name:20} {path.stat().st_size / 1000:8.0f} kB")
    header = (Path(folder) / "face.ply").read_bytes()[:400].decode("latin1")
    sample.save_depth(Path(folder) / "depth.npy")
    stored = np.load(Path(folder) / "depth.npy")
wanted = f"element vertex {len(sample.vertices)}"
assert wanted in header, f"{wanted!r} is not in {header!r}"
same = np.array_equal(stored, sample.depth_mm, equal_nan=True)
assert same, (
    f"depth.npy: {np.nanmean(stored)} mm, expected {np.nanmean(sample.depth_mm)}"
)

# %% [markdown]
# **Print it.** A slicer needs a volume, but the face is a sheet with a ragged border.
# `save_solid` keeps its largest piece, gives it a back, flat on the printer's bed or
# hollow as a mask, and walls along the border. Every edge must then lie between exactly
# two triangles, once in each direction; that is what "closed" means for a mesh. (One
# photograph does not know its scale: "mm" are those of a head of mean size. Slicers can
# enlarge.)

# %% tags=["check"]
pictures = []
for hollow in (False, True):
    closed = solid.close_surface(sample.vertices, sample.faces, 4.0, hollow)
    f = closed.faces
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    once = {tuple(edge) for edge in edges.tolist()}
    open_ = len(edges) - len(once & {(b, a) for a, b in once})
    assert open_ == 0, f"{open_} edges of {len(edges)} are open, 0 expected"
    corners = closed.vertices[f] - closed.vertices.mean(0)
    volume = np.linalg.det(corners).sum() / 6  # mm^3, positive if turned outward
    print(f"hollow {hollow}: {len(f):,} triangles, {volume / 1000:.0f} cm^3")
    assert volume > 0, f"{volume:.0f} mm^3, not above 0"
    for yaw in (35, 150):
        pictures.append(viz.shaded(viz.mesh_normals(*closed, size=300, yaw=yaw)))
titles = ["relief, 35°", "its back, 150°", "mask, 35°", "its back, 150°"]
viz.gallery(pictures, titles, columns=4, inches=2.3)

# %% [markdown]
# ## 9 Your own photograph
#
# Choose a file, or take a picture with the camera of your computer. (Browsers offer the
# camera to pages of this computer and of https; they ask you first.) The bar shows what
# is being done; after some seconds you see the face in 3D, with the photograph's colors
# or as clay, and below it the same as a still picture: the photograph with the detector's
# box and the 68 landmarks, the coarse face, the detailed face, and the detailed face
# turned.
# Two links download it: a GLB for viewers, and a closed STL for a printer. The photograph
# stays where the kernel runs, which is this computer if you started Jupyter on it; both
# files are also written to `output_dir`.

# %%
own_photo = face_viewer.OwnPhoto(default, output)
own_photo.live()

# %% [markdown]
# Good photographs are sharp, at least 300 pixels wide at the face, evenly lit, and show
# the face from the front or slightly turned, with a neutral or smiling mouth. Try a bad
# one, too: in hard light from the side, with hair in the face, or with the mouth wide
# open. Which stage fails, and can you tell from the pictures of sections 2 and 5? Without
# a running kernel, give the file as a parameter: `facerecon reproduce end_to_end -p
# photos me.jpg --out mine` runs this whole notebook on it. The check tries the button
# without a hand: with a text file, and with a photograph that shows no face.

# %% tags=["check"]
for letter, content in {
    "letter.txt": b"not a photograph",
    "wall.png": viz.figure_png(viz.Gallery(figsize=(2, 2))),
}.items():
    trial = face_viewer.OwnPhoto(default, output)
    refused = trial.open(letter, content) is None
    print(trial.message.value)
    polite = refused and trial.message.value.startswith(letter)
    assert polite, f"shown {not refused}, said {trial.message.value!r}"

# %% [markdown]
# ## Exercises
#
# A check says what is wrong with your answer and gives a hint; `exercise.hint()` gives
# the next one. Nothing here needs the cells above, only the imports.
#
# **7.1** Table 1 of the paper compares methods by their "Ave. Depth Err." and "90% Depth
# Err.", "on pixels which were denoted as valid by all the methods". Write that measure
# for an estimate and a truth, both in mm with NaN where they are not valid: the mean
# absolute error, and the error that 90 % of the pixels stay below. *Ten minutes.*


# %% tags=["exercise"]
def depth_errors(estimate, truth):
    """Mean and 90 % quantile of the absolute error, mm, where both maps are valid."""
    ### BEGIN SOLUTION
    error = np.abs(estimate - truth)
    error = error[np.isfinite(error)]
    return error.mean(), np.quantile(error, 0.9)
    ### END SOLUTION


# %% tags=["check"]
ramp = np.arange(-50.0, 51.0)  # -50 ... 50 mm
half, few = np.where(ramp > 0, ramp, np.nan), np.where(ramp < 11, 0, np.nan)
exercise = Exercise(
    "7.1",
    "The difference of two maps is NaN where one of them is.",
    "Leave out what is not finite before you take the mean.",
)
mistakes = {
    "the differences keep their sign, and cancel in the mean.": [0, 40],
    "you took the 95 % quantile.": [2550 / 101, 48],
    "you squared the differences: that is the rms error.": [np.sqrt(850), 45],
}
answer = lambda: depth_errors(np.zeros(101), ramp)  # noqa: E731
exercise.equal("mean and 90 %", answer, [2550 / 101, 45], mistakes=mistakes)
text = "pixels that are not valid count as right."
mistakes = {text: [55 / 101, np.quantile([*91 * [0], *range(1, 11)], 0.9)]}
answer = lambda: depth_errors(few, half)  # noqa: E731
exercise.equal("where both are valid", answer, [5.5, 9.1], mistakes=mistakes)
exercise.passed("chapter 8 adds what Table 1 needs beyond this.")

# %% [markdown]
# **7.2** Write the image of Eq. (8), $\rho\langle\vec l, Y(z)\rangle$, for an albedo (H,
# W), a light of four numbers and normals (3, H, W). *Five minutes.*


# %% tags=["exercise"]
def relit(albedo, light, normals):
    """The image of a surface under a first-order light, (H, W)."""
    ### BEGIN SOLUTION
    n_x, n_y, n_z = normals
    return albedo * (light[0] + light[1] * n_x + light[2] * n_y + light[3] * n_z)
    ### END SOLUTION


# %% tags=["check"]
random = torch.Generator().manual_seed(0)
rho_s, l_s = torch.rand(5, 7, generator=random), torch.randn(4, generator=random)
n_s = torch.randn(3, 5, 7, generator=random)
n_s = torch.nn.functional.normalize(n_s, dim=0)


def by_package(light, normals, albedo=rho_s):
    return lighting.shade(albedo[None, None], light[None], normals[None])[0, 0]


mistaken = {
    "the ambient light is missing.": by_package(l_s * torch.tensor([0, 1, 1, 1]), n_s),
    "the albedo is missing.": by_package(l_s, n_s, torch.ones_like(rho_s)),
    "y points up: the third number is light from above.": by_package(
        l_s * torch.tensor([1, 1, -1, 1]), n_s
    ),
    "right and up are exchanged.": by_package(l_s[[0, 2, 1, 3]], n_s),
    "the albedo is added, but it is a share.": rho_s
    + by_package(l_s, n_s, torch.ones_like(rho_s)),
}


exercise = Exercise(
    "7.2",
    "Y has four entries, and the first of them is 1 everywhere.",
    "Albedo is a share: it multiplies what arrives.",
)
answer = lambda: relit(rho_s, l_s, n_s)  # noqa: E731
exercise.equal("the image", answer, by_package(l_s, n_s), mistakes=mistaken, atol=1e-5)
exercise.passed("this is what Eq. (14) compares with the photograph.")

# %% [markdown]
# ## What we did not reproduce
#
# - **The data.** The paper's bases come from the Bosphorus scans; its FineNet starts
#   from VGG-Face and learns from that network's photographs. We have none of these: our
#   model is made of open data, the model cards name what the networks learned from, and
#   FineNet's criterion is a linear relative of Eq. (14), and the default's detail is ours
#   (section 8).
# - **True depth.** Nothing in this chapter was measured against a scan. Table 1 is the
#   subject of chapter 8 and of the notebook `table_01`; Figures 8 and 10, the comparisons
#   with other methods, have notebooks of their own (`fig_08`, `fig_10`), on other data.
# - **End-to-end training at scale.** Section 7 shows the mechanism on two photographs;
#   whether it helps needs many, and another set to measure on (`facerecon train
#   end-to-end`).
# - **Many people.** Two portraits show that the pipeline works, not how often.

# %% [markdown]
# ## Summary
#
# 1. A detector finds the face, and a crop that knows its place in the photograph goes to
#    the networks.
# 2. CoarseNet is applied four times, each time to a picture of its last answer; the
#    steps become small.
# 3. The renderer between the networks has gradients, and so the criterion on the detail
#    can teach both networks. Fidelity terms hold them near what they knew.
# 4. Detail is tenths of a millimeter deep, and a low value of Eq. (14) is no proof that
#    it is right.
# 5. The result is a depth map on the photograph's pixels and a mesh, in mm of a head of
#    mean size, because one photograph has no scale.
#
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
measured_on = f"{len(images)} portraits"
record = repro.Recorder(
    output, preset, seed, weights=used_weights.values(), data=measured_on
)
for name in images:
    turned = np.degrees(faces[name].pose[:3] * camera.POSE_UNITS[:3].numpy())
    record(f"{name}/pitch_yaw_roll_deg", turned.round(2))
    record(f"{name}/landmark_moves_px", moves[name].double().numpy().round(3))
    record(f"{name}/landmarks_moved_by_tuning_px", round(wandered[name], 4))
    record(f"{name}/depth_change_rms_mm", round(change[name].std().item(), 4))
    for key, loss in terms[name].items():
        for term, value in loss._asdict().items():
            record(f"{name}/criterion/{key}/{term}", round(value.item(), 3))
    for stage, value in zip(("finenet", "normals"), seconds[name], strict=True):
        record.timing(f"{name}/{stage}", value)
for (source, place, cut), norm in norms.items():
    record(f"flow/{source}{', layer cut' * cut}/{place}", float(f"{norm:.3g}"))
record("tuning/criterion_before_and_after", [round(history[k][0], 3) for k in (0, -1)])
print(f"{len(record.values)} numbers are in {record.path}")
repro.judge_item("end_to_end", output)

# %% [markdown]
# ## Further reading
#
# - E. Richardson, M. Sela, R. Or-El, R. Kimmel. [*Learning Detailed Face Reconstruction
#   from a Single Image.*](https://arxiv.org/abs/1611.05053) CVPR 2017: the paper.
# - V. Blanz, T. Vetter. [*A morphable model for the synthesis of 3D
#   faces.*](https://doi.org/10.1145/311535.311556) SIGGRAPH 1999.
# - X. Zhu et al. [*Face alignment across large poses: A 3D
#   solution.*](https://arxiv.org/abs/1511.07212) CVPR 2016: PNCC.
# - Y. Feng et al. [*Learning an animatable detailed 3D face model from in-the-wild
#   images.*](https://arxiv.org/abs/2012.04012) SIGGRAPH 2021: DECA, a later method that
#   learns detail from photographs.
# - B. Egger et al. [*3D morphable face models: past, present and
#   future.*](https://arxiv.org/abs/1909.01815) ACM TOG 2020: a survey.
