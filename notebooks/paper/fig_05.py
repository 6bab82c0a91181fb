# %% [markdown]
# # Figure 5: gradient flow
#
# > **The paper, section 4.1:** “Gradient Flow. Gradients from FineNet are first
# > propagated to the depth map, and then propagated from each pixel to the matching
# > vertices. The gradients on the triangular mesh are then propagated back to the
# > morphable model representation.”
#
# Ours are the real gradients: of Eq. (14), through FineNet, for one portrait. What to
# see: each pixel hands its gradient to the three corners of its triangle, in shares
# that sum to one (Eq. 7); vertices that no pixel sees get none.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_05"
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""

# %% tags=["imports"]

import matplotlib.pyplot as plt

from facerecon import Reconstructor, camera, depth, imaging, losses, rasterize, repro
from facerecon import sfs, weights
from facerecon.coarsenet import iterate
from facerecon.detection import detect
from facerecon.render import render
from facerecon.views.portraits import CREDITS, portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
fine_file = fine_weights or weights.shipped("finenet.safetensors")
reconstructor = Reconstructor.from_pretrained(coarse_file, fine_file, refine="finenet")
model, size = reconstructor.model, 200
photo = portraits()["grace_hopper"]
box = detect.detect_faces(photo)[0].crop_box()
grey = torch.from_numpy(imaging.to_grey(imaging.crop(photo, box, size)[0]))[None, None]
with torch.no_grad():
    estimate = iterate(reconstructor.coarsenet, model, grey)[-1]
    seen = render(model, estimate, size)
    pixel = 1 / camera.pose_parameters(camera.split(estimate)[1], size).scale
    normals = depth.normals_from_depth(seen.depth, pixel, seen.mask)
    maps = sfs.albedo_maps(model, seen.fragments)
    found = sfs.robust_shading(grey, *maps, normals, seen.mask)


# %%
def criterion(surface):
    """Eq. (14) after FineNet, as a function of the coarse depth map that enters it."""
    fine = reconstructor.finenet(grey, surface, seen.mask, pixel)
    shaded = losses.ShadedImage(grey, found.albedo, found.light, seen.mask, pixel)
    return losses.finenet_loss(fine, seen.depth, shaded).total


# %% [markdown]
# The rendering layer step by step, so that the gradient can be read between the steps:
# representation $r$, vertices in the camera's frame (Eq. 5), depth map (Eq. 6).

# %%
r = estimate.clone().requires_grad_()
coefficients, pose = camera.split(r)
vertices = camera.to_camera(model.vertices(coefficients), pose)
z = vertices[..., 2:]
surface = rasterize.interpolate(z, seen.fragments, model.triangles)
for tensor in (z, surface):
    tensor.retain_grad()
energy = criterion(surface)
energy.backward()
at_pixels, at_vertices, at_r = surface.grad[0, 0], z.grad[0, :, 0], r.grad[0]

# %% tags=["check"]
# Eq. (7) by hand: every pixel gives its triangle's corners its gradient times lambda.
visible = seen.mask[0, 0]
corners = model.triangles[seen.fragments.triangle[0][visible]]  # (pixels, 3)
shares = seen.fragments.barycentric[0][visible] * at_pixels[visible][:, None]
by_hand = torch.zeros_like(at_vertices).index_add_(
    0, corners.flatten(), shares.flatten()
)
gap = (by_hand - at_vertices).abs().max() / at_vertices.abs().max()
hidden = torch.ones(len(at_vertices), dtype=bool)
hidden[corners.flatten()] = False
print(f"Eq. (7): off by {gap:.1e} of the largest; {hidden.sum()} vertices are hidden")
assert gap < 1e-4, f"{gap:.1e}, not below 1e-4"
most = at_vertices[hidden].abs().max()
assert most == 0, f"hidden vertices get {most:.1e}, expected 0"
again = estimate.clone().requires_grad_()
criterion(render(model, again, size).depth).backward()
gap = (again.grad[0] - at_r).abs().max() / at_r.abs().max()
assert gap < 1e-4, f"at once: off by {gap:.1e}, not below 1e-4"

# %%
sheet = {"figsize": (9, 6), "height_ratios": (3.2, 2), "layout": "constrained"}
figure, panels = plt.subplot_mosaic("abc;dde", **sheet)
axes = list(panels.values())
limit = at_pixels.abs().quantile(0.995).item()
colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
axes[0].imshow(torch.where(visible, at_pixels, torch.nan), **colors)
axes[0].set(title="(a) on the depth map", xticks=[], yticks=[])
x, y, _ = seen.projected[0].T
points = model.landmarks[17:60]  # brows, nose, eyes, mouth: where most happens
point = points[at_vertices[points].abs().argmax()]
column, row = seen.projected[0, point, :2].round().long().tolist()
around = slice(row - 4, row + 5), slice(column - 4, column + 5)
edges = column - 4.5, column + 4.5, row + 4.5, row - 4.5
local = at_pixels[around].abs().max().item()
there = {"cmap": "RdBu_r", "vmin": -local, "vmax": local}
axes[1].imshow(at_pixels[around], extent=edges, alpha=0.7, **there)
seen_here = model.triangles[seen.fragments.triangle[0][around].unique()]
axes[1].triplot(x, y, seen_here, color="0.5", lw=0.8)
axes[1].set(xlim=edges[:2], ylim=edges[2:], xticks=[], yticks=[])
axes[1].set_title("(b) from pixels to vertices")
plt.close()  # shown below

# %%
most = at_vertices.abs().quantile(0.98).item()
shades = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
used = seen_here.unique()
axes[1].scatter(
    x[used], y[used], c=at_vertices[used], s=45, ec="0.3", zorder=3, **there
)
front = model.triangles[seen.fragments.triangle[0][visible].unique()]
axes[2].tripcolor(x, y, at_vertices, triangles=front, shading="gouraud", **shades)
axes[2].set(aspect="equal", xlim=(-1, size), ylim=(size, -1), xticks=[], yticks=[])
axes[2].set_title("(c) on the triangular mesh")
groups = {"identity": at_r[:200], "expression": at_r[200:284], "pose": at_r[284:]}
for name, start in {"identity": 0, "expression": 200}.items():
    places = range(start, start + len(groups[name]))
    axes[3].bar(places, groups[name], width=1.0, label=name)
axes[3].set(title="(d) on the coefficients of r", xlabel="number of the coefficient")
axes[3].set_ylabel("gradient of the energy")
axes[3].legend(loc="upper right")
axes[4].bar(camera.POSE_NAMES, groups["pose"], color="C2")
axes[4].set_title("(e) on the pose of r")
axes[4].tick_params(axis="x", rotation=45)
for axis in axes[3:]:
    axis.axhline(0, color="0.3", lw=0.8)
figure.savefig(output / "figure.png", dpi=90)
figure

# %% [markdown]
# Panels (d) and (e) have scales of their own: one number of the pose moves the whole
# face, one coefficient a part of it, so that the pose gets the larger gradients. Four of
# the six pose numbers get nothing: with the weights fixed, a roll, a shift or a scale of
# the picture moves no vertex in depth. Pitch and yaw do.

# %% tags=["check"]
for name, value in zip(camera.POSE_NAMES, groups["pose"].tolist(), strict=True):
    print(f"{name:10} {value:+.4f}")
shift, turn = groups["pose"][3:5].abs().max(), groups["pose"][:2].abs().min()
assert shift == 0, f"t_x, t_y get {shift:.1e}, expected 0"
assert turn > 0, f"pitch, yaw get {turn:.1e}, above 0 expected"

# %% tags=["record"]
files = [coarse_file, fine_file]
people = CREDITS["grace_hopper"]
record = repro.Recorder(output, preset, seed, weights=files, data=people)
record("energy", round(energy.item(), 2))
record("eq_7_relative_difference_below", 1e-4)
record("vertices_without_gradient", int(hidden.sum()))
for name, values in groups.items():
    record(f"gradient_norm/{name}", float(f"{values.norm().item():.3g}"))
text = f"drawn from the real gradients; {int(hidden.sum()):,} hidden vertices get none"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_05", output)
