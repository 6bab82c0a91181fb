# %% [markdown]
# # From one photograph to a detailed face
#
# **Two networks and a renderer between them turn a single photograph into a detailed
# surface: CoarseNet finds a morphable model's face in four steps, FineNet adds what no
# morphable model spans.**
#
# *Afterwards you can* run every stage by hand, say what each adds, and reconstruct a
# photograph of your own. *Paper:* sections 3.4, 4 and 4.4; Eqs. (1), (2), (5), (6), (8)
# to (14); Figures 1, 3, 4, 6 and 11. *Time:* about a minute on two CPU cores (`full`: a
# few). *Data:* two public-domain portraits that come with scikit-image (astronaut
# Eileen Collins, NASA) and matplotlib (Rear Admiral Grace Hopper, US Navy). Nothing is
# downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full": section 5 minimises Eq. (14) for much longer
seed = 0  # of the random numbers in the checks
output_dir = "../runs/end_to_end"  # where figures, meshes and result.json go
photos = []  # files to use instead of the two portraits
coarse_weights = ""  # file of CoarseNet weights instead of those that ship
fine_weights = ""  # file of FineNet weights instead of those that ship

# %% tags=["imports"]
import time
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as plotly
import torch
from matplotlib.cbook import get_sample_data

from facerecon import Reconstructor, camera, coarsenet, config, data, depth, detect
from facerecon import lighting, losses, render, repro, sfs, viz, weights
from facerecon.portraits import portraits

# %%
assets = files("facerecon") / "assets"
used_weights = {
    "CoarseNet": Path(coarse_weights or str(assets / "coarsenet.safetensors")),
    "FineNet": Path(fine_weights or str(assets / "finenet.safetensors")),
}
output = Path(output_dir)
output.mkdir(parents=True, exist_ok=True)
reconstructor = Reconstructor.from_pretrained(*used_weights.values())
model, size = reconstructor.model, reconstructor.size
for name, path in used_weights.items():
    card = weights.read_card(path)
    print(f"{name} ({path.name}): {card['samples']:,} samples in {card['hours']} h of")
    print(f"  {card['data']}; preset {card['preset']}, seed {card['seed']}")

# %% [markdown]
# Every figure below shows these two photographs and is made with the weights just
# named.
#
# ## 1 A photograph becomes a crop
#
# CoarseNet is fed "with a 200×200 image of a face. Such an image can be automatically
# acquired using a standard face detector, such as the Viola-Jones detector" (3.4). The
# detector's box goes from the brows to the chin; the crop is 1.2 times as wide, so that
# the mean head of the morphable model fills it.

# %%
images = {Path(path).stem: data.load_image(path) for path in photos} or portraits()
boxes = {name: detect.detect_faces(image)[0] for name, image in images.items()}
crops, squares = {}, {}
for name, image in images.items():
    crops[name], squares[name] = data.crop(image, boxes[name].crop_box(), 200)


# %%
def show(axis, picture, title=""):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)  # colours stay as they are
    axis.set(title=title, xticks=[], yticks=[])


figure, axes = plt.subplots(len(images), 2, figsize=(7, 7), squeeze=False)
for (left, right), (name, image) in zip(axes, images.items(), strict=True):
    box, square = boxes[name], squares[name]
    show(left, image, f"{name}: detector's box, crop")
    square_in_lime = square.x, square.y, square.side, "lime"
    for x, y, side, color in [(box.x, box.y, box.width, "gold"), square_in_lime]:
        corner = x - 0.5, y - 0.5  # boxes count from edges, imshow from pixel centres
        left.add_patch(plt.Rectangle(corner, side, side, fill=False, ec=color, lw=2))
    show(right, crops[name], f"crop: 200 pixels from {square.side:.0f}")
plt.show()

# %% tags=["check"]
for name, square in squares.items():
    box = boxes[name]
    corners = np.array([[-0.5, -0.5], [199.5, 199.5]])  # of the crop
    (left, top), (right, bottom) = square.to_image(corners) + 0.5
    assert np.isclose(right - left, 1.2 * max(box.width, box.height))
    assert left < box.x < box.x + box.width < right, (left, right, box)
    assert top < box.y < box.y + box.height < bottom, (top, bottom, box)
    assert np.allclose(square.to_crop(square.to_image(corners)), corners)

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

# %%
grey = {
    n: torch.from_numpy(data.to_grey(face))[None, None] for n, face in crops.items()
}
states, feedback = {}, {}
for name, image in grey.items():
    states[name] = coarsenet.iterate(
        reconstructor.coarsenet, model, image, iterations=4
    )
    feedback[name] = [render.render(model, r, 200) for r in states[name]]
print([tuple(r.shape) for r in states[name]])

# %% [markdown]
# As in Figure 4: what the network was shown at each step (columns), from top to bottom
# the masked photograph, the PNCC, and the normals, whose $x$, $y$, $z$ are painted red,
# green, blue. The last column is the result.

# %%
for name, maps in feedback.items():
    figure, axes = plt.subplots(3, 5, figsize=(10, 6.3), layout="constrained")
    for step, (column, shown) in enumerate(zip(axes.T, maps, strict=True)):
        pictures = viz.feedback_pictures(grey[name], shown)
        for axis, picture in zip(column, pictures, strict=True):
            show(axis, picture)
        column[0].set_title(f"{name}, $r_{step}$")
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
    assert moves[name][-1] < moves[name][0] / 2, moves[name]
    box = boxes[name]
    below_brows = landmarks[name][27:] + 0.5  # boxes count from the image's edge
    place = (below_brows - [box.x, box.y]) / [box.width, box.height]
    assert (place > -0.05).all() and (place < 1.05).all(), (place.min(0), place.max(0))

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
# ## 3 The mesh above the image plane
#
# A weak-perspective camera scales and shifts the rotated vertices, but leaves their
# depth alone,
# $$(p_x, p_y, p_z)^T = \mathrm{diag}(f, f, 1)\,R\,S + (t_x, t_y, 0)^T. \qquad (5)$$
# With $R = R_z R_x R_y$ and the image plane's origin in the middle of the pixel grid,
# that is all. We write it down once, check it against the package, and then use that.

# %%
coefficients, pose = camera.split(states[name][-1])
pitch, yaw, roll, t_x, t_y, log_f = (pose[0] * camera.POSE_UNITS).tolist()
c, s = np.cos, np.sin
R_x = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
R_y = np.array([[c(yaw), 0, s(yaw)], [0, 1, 0], [-s(yaw), 0, c(yaw)]])
R_z = np.array([[c(roll), -s(roll), 0], [s(roll), c(roll), 0], [0, 0, 1]])
f = 200 / camera.CROP_MM * np.exp(log_f)  # pixels per mm

S = model.vertices(coefficients)[0].numpy()  # Eq. (1)
p = S @ (R_z @ R_x @ R_y).T * [f, f, 1] + [200 * t_x, 200 * t_y, 0]  # Eq. (5)
p = np.stack([99.5 + p[:, 0], 99.5 - p[:, 1], p[:, 2]], axis=1)  # column, row, depth

# %% tags=["check"]
package = camera.project(model.vertices(coefficients), pose, size=200)[0].numpy()
difference = np.abs(p - package).max()
print(
    f"largest difference {difference:.1e} pixels or mm, of {np.ptp(p, axis=0).round()}"
)
assert difference < 1e-3  # float32 against float64
assert np.abs(p[model.landmarks, :2] - package[model.landmarks + 1, :2]).max() > 0.1

# %% [markdown]
# The rendering layer then asks of each pixel which triangle it sees, and mixes the
# depths of its corners with barycentric weights, $\tilde z = \lambda_0 z_0 + \lambda_1
# z_1 + \lambda_2 z_2$ (Eq. 6). Gradients go back with the same weights (Eq. 7), which
# is what lets FineNet's criterion train CoarseNet (4.4).

# %% tags=["check"]
shown = feedback[name][-1]
corners = model.triangles[shown.fragments.triangle.clamp(min=0)]  # (1, 200, 200, 3)
z = shown.projected[0, :, 2][corners]
mixed = (shown.fragments.barycentric * z).sum(dim=3)  # Eq. (6)
error = (mixed - shown.depth[:, 0]).abs()[shown.mask[:, 0]].max()
print(f"largest difference {error:.1e} mm over {shown.mask.sum()} pixels")
assert error < 1e-3

# %% [markdown]
# ## 4 Light and albedo
#
# What does the photograph say that the coarse mesh does not? A face of albedo $\rho$
# under the light $\vec l$ looks like $\rho \langle \vec l, Y \rangle$ (Eq. 8) with $Y =
# (1, n_x, n_y, n_z)$ (Eq. 9). The normals are those of the coarse depth; the light is a
# least-squares fit with the average albedo (Eq. 11), and then the albedo, in the
# ten-dimensional space $\rho = \mu_T + A_T\alpha_T$ (Eq. 10), one with that light (Eq.
# 12). First the normals of a depth map, by central differences.

# %%
scale = {
    n: camera.pose_parameters(camera.split(rs[-1])[1], 200).scale
    for n, rs in states.items()
}
h = 1 / scale[name].item()  # mm per pixel
surface = shown.depth[0, 0].numpy()
z_x = np.gradient(surface, h, axis=1)
z_y = -np.gradient(surface, h, axis=0)  # rows go down, y goes up
n = np.stack([-z_x, -z_y, np.ones_like(z_x)]) / np.sqrt(1 + z_x**2 + z_y**2)

# %% tags=["check"]
normals = {
    key: depth.normals_from_depth(maps[-1].depth, 1 / scale[key], maps[-1].mask)
    for key, maps in feedback.items()
}
inner = losses.five_point_interior(shown.mask)[
    0, 0
]  # all four neighbours are on the face
difference = np.abs(n - normals[name][0].numpy())[:, inner].max()
print(f"largest difference {difference:.1e} over {inner.sum()} pixels")
assert difference < 1e-3
for key, maps in feedback.items():
    length = normals[key].norm(dim=1)[maps[-1].mask[:, 0]]
    assert torch.allclose(length, torch.ones(()), atol=1e-5)

# %%
# On skin alone: the albedo model knows neither eyes nor the inside of the mouth.
regions = model.regions
eyes = torch.maximum(regions["eye_left"], regions["eye_right"])
skin_vertices = regions["face"] * (1 - regions["mouth_interior"]) * (1 - eyes)
skin, recovered = {}, {}
for name, maps in feedback.items():
    fragments = maps[-1].fragments
    on_skin = render.interpolate(
        skin_vertices[None, :, None], fragments, model.triangles
    )
    skin[name] = on_skin > 0.5
    albedo_mean, albedo_basis = sfs.albedo_maps(model, fragments)
    recovered[name] = sfs.recover(
        grey[name], albedo_mean, albedo_basis, normals[name], skin[name]
    )

# %% tags=["check"]
# Eq. (11) by hand, for the last photograph.
usable = lighting.well_exposed(grey[name], skin[name])
rows = (albedo_mean * lighting.sh_basis(normals[name])).permute(0, 2, 3, 1)[
    usable[:, 0]
]
light = torch.linalg.lstsq(
    rows.double(), grey[name][usable].double()[:, None]
).solution[:, 0]
print("light (ambient, right, up, front):", light.numpy().round(3))
assert torch.allclose(light.float(), recovered[name].light[0], atol=1e-3)

# %% [markdown]
# As in Figure 6: the photograph, the recovered albedo, and that albedo under the
# recovered light, which is what Eq. (8) compares with the photograph. A fringe or a hat
# is in neither model: least squares can only blame the light for a dark forehead.

# %%
shape = {"squeeze": False, "layout": "constrained"}
figure, axes = plt.subplots(len(grey), 3, figsize=(7, 5), **shape)
for row, (name, image) in zip(axes, grey.items(), strict=True):
    found = recovered[name]
    rendered = (found.albedo * found.shading).clamp(0, 1)
    pictures = {name: image, "albedo": found.albedo, "albedo × light": rendered}
    for axis, (title, picture) in zip(row, pictures.items(), strict=True):
        show(axis, torch.where(skin[name], picture, 1.0)[0, 0], title)
figure.savefig(output / "light_and_albedo.png", dpi=80)
plt.show()

# %% tags=["check"]
explained = {}
for name, image in grey.items():
    found, usable = recovered[name], lighting.well_exposed(image, skin[name])
    variance = image[usable].var()
    residual = (found.albedo * found.shading - image)[usable]
    explained[name] = 1 - (residual.square().mean() / variance).item()
    print(f"{name}: {explained[name]:.0%} of the variance of the skin's grey values")
    assert explained[name] > 0.05
    assert found.light[0, 3] > 0, found.light  # portraits are lit from the front
    assert (found.albedo[skin[name]] > 0).all()

# %% [markdown]
# ## 5 FineNet adds the detail
#
# FineNet reads the photograph and the coarse depth $z_0$ and answers with a depth map
# $\hat z$. It was trained without any true depth, to make
# $$\lambda_{sh}\left\|\rho\langle\vec l, Y(\hat z)\rangle - I\right\|^2 +
# \lambda_f\left\|\hat z - z_0\right\|^2 + \lambda_{sm}\left\|\Delta\hat z\right\|_1
# \qquad (14)$$
# small on photographs. Light and albedo are part of the criterion only: at test time
# the network needs the photograph and the coarse depth, nothing else (4.3.2).

# %%
coarse = {name: maps[-1].depth for name, maps in feedback.items()}
mask = {name: maps[-1].mask for name, maps in feedback.items()}
fine = {
    name: reconstructor.finenet(grey[name], coarse[name], mask[name], 1 / scale[name])
    for name in grey
}

# %% [markdown]
# The alternative that the network replaces is to minimise Eq. (14) for each photograph.
# We do that, too (with few steps in the quick preset), to see how near the network
# comes. As in training, the light is found again with weights that give hair and hats
# no say, below the brows; what changes slowly over the skin then counts as albedo, and
# what is left is bounded (`sfs.detail_target`): no detail of the surface explains a
# cast shadow.

# %%
robust = {}
for name, image in grey.items():
    rendering = feedback[name][-1]
    brows = rendering.projected[0, model.landmarks[17:27], 1].min() - 8 * scale[name]
    bare = skin[name] & (torch.arange(image.shape[-1])[:, None] > brows)
    maps = sfs.albedo_maps(model, rendering.fragments)
    robust[name] = sfs.recover_robustly(image, *maps, normals[name], bare)

setting, target = config.FineTraining(), {}
for name, (light, _, albedo, _) in robust.items():
    trust, radius = skin[name].float(), setting.detail_radius * grey[name].shape[-1]
    known = (grey[name], albedo, light, normals[name], mask[name], trust)
    target[name] = sfs.detail_target(*known, radius, setting.detail_limit)


# %%
steps = {"quick": 60, "full": 1000}[preset]
terms = {}
for name, (image, albedo) in target.items():
    start, light, pixel = coarse[name], robust[name].light, 1 / scale[name]
    minimised = sfs.refine_depth(
        image, start, mask[name], pixel, albedo, light, steps=steps
    )
    surfaces = {"coarse": start, "FineNet": fine[name], "minimised": minimised}
    known = (start, image, albedo, light, mask[name], pixel)
    terms[name] = {k: losses.finenet_loss(z, *known) for k, z in surfaces.items()}
    for key, loss in terms[name].items():
        numbers = "  ".join(f"{k} {v:8.2f}" for k, v in loss._asdict().items())
        print(f"{name:14}{key:10} {numbers}")

# %% tags=["check"]
change = {name: (fine[name] - coarse[name])[mask[name]] for name in fine}
for name, moved in change.items():
    most = moved.abs().max()
    print(f"{name}: depth changed by {moved.std():.2f} mm rms, at most {most:.1f}")
    assert 0.01 < moved.std() < 5  # something happened, and it is detail
    assert torch.equal(fine[name][~mask[name]], coarse[name][~mask[name]])
    assert terms[name]["FineNet"].shading < terms[name]["coarse"].shading
total = {k: sum(t[k].total for t in terms.values()) for k in ("FineNet", "coarse")}
assert total["FineNet"] < total["coarse"]

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
# ## 6 All of it in one call
#
# `Reconstructor` does sections 1 to 5 and brings the result back to the photograph's
# own pixels and to a mesh.

# %% tags=["check"]
faces, seconds = {}, {}
for name, image in images.items():
    start = time.perf_counter()
    faces[name] = reconstructor(image)
    seconds[name] = time.perf_counter() - start
    print(f"{name}: {seconds[name]:.2f} s, {len(faces[name].vertices):,} vertices")
    assert np.allclose(faces[name].iterations[-1], states[name][-1][0], atol=1e-4)
    assert np.abs(faces[name].landmarks - landmarks[name]).max() < 0.05
    by_hand = fine[name][mask[name]]
    assert abs(faces[name].vertices[:, 2].mean() - by_hand.mean().item()) < 0.5
    assert np.isnan(faces[name].depth_mm[~faces[name].mask]).all()

# %%
for name, face in faces.items():
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
    meshes = {
        "coarse": (face.coarse_vertices, face.coarse_faces),
        "fine": (face.vertices, face.faces),
    }
    views = [("coarse", 0), ("coarse", 35), ("fine", 0), ("fine", 35)]
    for axis, (key, yaw) in zip(axes, views, strict=True):
        seen = viz.mesh_normals(*meshes[key], size=300, yaw=yaw)
        show(axis, viz.shaded(seen), f"{name}, {key}, {yaw}°")
    figure.savefig(output / f"{name}_mesh.png", dpi=80)
plt.show()

# %% [markdown]
# **Size.** FineNet is convolutional, so it takes larger crops as they are; Figure 11
# shows that "it gracefully scales up for 400×400 inputs". That helps only where the
# photograph has the pixels.

# %%
large = Reconstructor(model, reconstructor.coarsenet, reconstructor.finenet, size=400)
for name in [key for key, square in squares.items() if square.side > 200]:
    pair = {"200 × 200": faces[name], "400 × 400": large(images[name])}
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
    for axis, (title, face) in zip(axes, pair.items(), strict=True):
        seen = viz.mesh_normals(face.vertices, face.faces, size=400)
        show(axis, viz.shaded(seen), f"{name}, {title}")
    figure.savefig(output / f"{name}_sizes.png", dpi=80)
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
assert 1000 < len(surface.x) <= min(10_000, len(faces[name].vertices))
assert max(surface.i.max(), surface.j.max(), surface.k.max()) < len(surface.x)

# %% [markdown]
# **Keep it.** The suffix chooses the format: `.glb` with texture, `.obj` with `.mtl`
# and `.png`, `.ply` with coloured vertices, `.stl` without colour; depth as `.npy`, or
# as 16-bit `.png` with a `.json` that says how to read it.

# %% tags=["check"]
face = faces[name]
with TemporaryDirectory() as folder:
    for suffix in (".glb", ".obj", ".ply", ".stl"):
        for path in face.save(Path(folder) / f"face{suffix}"):
            print(f"{path.name:10} {path.stat().st_size / 1000:8.0f} kB")
    header = (Path(folder) / "face.ply").read_bytes()[:400].decode("latin1")
    assert f"element vertex {len(face.vertices)}" in header
    face.save_depth(Path(folder) / "depth.npy")
    stored = np.load(Path(folder) / "depth.npy")
assert np.array_equal(stored, face.depth_mm, equal_nan=True)

# %% [markdown]
# ## 7 Your own photograph
#
# Choose a file. It stays on this computer; the mesh goes to `output_dir`.


# %%
def reconstruct_upload(change):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(change["new"][0]["content"])
        try:
            own = reconstructor(path)
        except ValueError as error:  # not an image, no face, or a fit gone astray
            message.value = str(error).replace(folder, "")
            return
    picture.value = viz.figure_png(viz.preview(own))
    message.value = f"saved as {own.save(output / 'your_face.glb')[0]}"


# %%
upload = widgets.FileUpload(accept="image/*", description="photograph")
upload.observe(reconstruct_upload, "value")
picture, message = widgets.Image(format="png"), widgets.Label()
widgets.VBox([upload, message, picture])


# %% tags=["check"]
# What the button does, without a hand to press it: first a text file, then a portrait.
def pretend(content):
    picture.value, message.value = b"", ""
    reconstruct_upload({"new": [{"content": content}]})
    return bytes(picture.value), message.value


shown, said = pretend(b"not a photograph")
assert shown == b"" and "not an image" in said, said
portrait = get_sample_data("grace_hopper.jpg", asfileobj=False)
shown, said = pretend(Path(portrait).read_bytes())
assert shown.startswith(b"\x89PNG") and (output / "your_face.glb").is_file(), said
(output / "your_face.glb").unlink()
picture.value, message.value = b"", ""

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
assert np.isclose(mean, 2550 / 101) and np.isclose(most, 45)
half = np.where(truth > 0, truth, np.nan)
mean, most = depth_errors(np.where(truth < 11, 0, np.nan), half)
print(f"where both are valid: mean {mean:.2f} (expected 5.5), 90 % {most:.2f} (9.1)")
assert np.isclose(mean, 5.5) and np.isclose(most, 9.1)

# %% [markdown]
# **2.** Write the image of Eq. (8), $\rho\langle\vec l, Y(z)\rangle$, for an albedo (H,
# W), a light of four numbers and normals (3, H, W). Then change the light.


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
print(
    "shape",
    tuple(answer.shape),
    "largest error",
    (answer - expected).abs().max().item(),
)
assert torch.allclose(answer, expected, atol=1e-6)

# %%
lights = {"left": [0.4, -1, 0.2], "above": [0.4, 0, 1], "right": [0.4, 1, 0.2]}
figure, axes = plt.subplots(len(fine), 3, figsize=(7, 5), **shape)
for row, name in zip(axes, fine, strict=True):
    n = depth.normals_from_depth(fine[name], 1 / scale[name], mask[name])[0]
    for axis, (side, l) in zip(row, lights.items(), strict=True):
        picture = relit(recovered[name].albedo[0, 0], torch.tensor([*l, 0.9]), n)
        on_white = torch.where(skin[name][0, 0], picture.clamp(0, 1), 1.0)
        show(axis, on_white, f"light from {side}")
plt.show()

# %% [markdown]
# ## What we did not reproduce
#
# - **The data.** The paper's bases come from the Bosphorus scans; its FineNet starts
#   from VGG-Face and learns from that network's photographs. We have none of these: our
#   model is made of open data, and the model cards name what the networks learned from.
# - **Table 1.** FRGC needs a licence; nothing here was measured against true depth.
# - **Figures 8 and 10**, the comparisons with other methods.
# - **Many people.** Two portraits show that the pipeline works, not how often.

# %% [markdown]
# ## Review questions
#
# 1. Why does CoarseNet see the photograph *masked* by its own current estimate?
# 2. Which of the six pose numbers does Eq. (5) leave out of the depth, and why may it?
# 3. Why is the light found with the average albedo first, and not both at once?
# 4. What would FineNet do if $\lambda_f$ and $\lambda_{sm}$ were zero? If huge?
# 5. Where does a dark brow go in Eq. (8): into $\rho$, into $\vec l$, or into $\hat z$?
# 6. FineNet needs neither light nor albedo at test time. Where did they go?
# 7. A photograph is enlarged twofold. What happens to $f$, to the mesh in mm, to $Y$?

# %% tags=["record"]
record = repro.Recorder(output, preset, seed, weights=used_weights.values())
record("photographs", list(images))
for name in images:
    angles = np.degrees(faces[name].pose[:3] * camera.POSE_UNITS[:3].numpy())
    record(f"{name}/pitch_yaw_roll_deg", angles.round(2))
    record(f"{name}/landmark_moves_px", moves[name].double().numpy().round(3))
    record(f"{name}/explained_variance", round(explained[name], 4))
    record(f"{name}/depth_change_rms_mm", round(change[name].std().item(), 4))
    for key, loss in terms[name].items():
        for term, value in loss._asdict().items():
            record(f"{name}/criterion/{key}/{term}", round(value.item(), 3))
    record.timing(name, seconds[name])
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
