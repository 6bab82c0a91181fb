# %% [markdown]
# # Figure 7: criterion flow
#
# > **The paper, section 4.4:** “Criterion Flow. Gradients from both loss criteria are
# > propagated back to CoarseNet.”
#
# Ours is drawn from a real training step of both networks on a portrait: the numbers
# are the norms of the gradients at each place. Red comes from FineNet's criterion, Eq.
# (14), blue from the fidelity criterion, the MSE between CoarseNet's current answer and
# its original one, with its weight. At the very first step the two answers are equal
# and blue is zero; so we look after a few steps.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_07"
steps = 5  # of training before the look
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""

# %% tags=["imports"]

import matplotlib.pyplot as plt

from facerecon import Reconstructor, camera, depth, imaging, losses, repro, sfs, weights
from facerecon.coarsenet import iterate, step
from facerecon.detection import detect
from facerecon.render import render
from facerecon.training import presets
from facerecon.views import diagrams as draw, viz
from facerecon.views.portraits import CREDITS, portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
fine_file = fine_weights or weights.shipped("finenet.safetensors")
reconstructor = Reconstructor.from_pretrained(coarse_file, fine_file, refine="finenet")
model, size = reconstructor.model, 200
coarsenet = reconstructor.coarsenet.requires_grad_(True)
finenet = reconstructor.finenet.requires_grad_(True)
settings = presets.END_TO_END_PRESETS["paper"]
photo = portraits()["grace_hopper"]
box = detect.detect_faces(photo)[0].crop_box()
grey = torch.from_numpy(imaging.to_grey(imaging.crop(photo, box, size)[0]))[None, None]
with torch.no_grad():
    original = iterate(coarsenet, model, grey, settings.iterations)[-1]
    seen = render(model, original, size)
    pixel = 1 / camera.pose_parameters(camera.split(original)[1], size).scale
    normals = depth.normals_from_depth(seen.depth, pixel, seen.mask)
    maps = sfs.albedo_maps(model, seen.fragments)
    found = sfs.robust_shading(grey, *maps, normals, seen.mask)


# %%
def forward():
    """One pass of 4.4: what lies between the networks, and the two criteria."""
    with torch.no_grad():
        before = iterate(coarsenet, model, grey, settings.iterations - 1)[-1]
    r = step(coarsenet, model, grey, before)
    shown = render(model, r, size)
    fine = finenet(grey, shown.depth, shown.mask, pixel)
    shaded = losses.ShadedImage(grey, found.albedo, found.light, shown.mask, pixel)
    shading = losses.finenet_loss(fine, shown.depth.detach(), shaded).total
    fidelity = settings.coarse_fidelity_weight * (r - original).square().mean()
    return r, shown, fine, shading, fidelity


# %%
groups = [
    {"params": finenet.parameters(), "lr": settings.learning_rate},
    {"params": coarsenet.parameters(), "lr": settings.coarse_learning_rate},
]
optimizer = torch.optim.AdamW(groups)
for number in range(steps):
    *_, shading, fidelity = forward()
    optimizer.zero_grad()
    (shading + fidelity).backward()
    optimizer.step()
    print(
        f"step {number}: Eq. (14) {shading.item():8.2f}  fidelity {fidelity.item():.4f}"
    )

# %%
r, shown, fine, shading, fidelity = forward()
coarse_parameters = list(coarsenet.parameters())
places = {"fine": [fine], "depth": [shown.depth], "r": [r]}
places |= {"CoarseNet": coarse_parameters, "FineNet": list(finenet.parameters())}


def norms(loss):
    """The norm of a criterion's gradient at every place; 0 where there is none."""
    found = {}
    for name, tensors in places.items():
        options = {"retain_graph": True, "allow_unused": True}
        gradients = torch.autograd.grad(loss, tensors, **options)
        reached = [g.norm() for g in gradients if g is not None]
        found[name] = torch.stack(reached).norm().item() if reached else 0.0
    return found


red, blue = norms(shading), norms(fidelity)
for name in places:
    print(
        f"{name:10} from Eq. (14) {red[name]:10.4g}   from fidelity {blue[name]:10.4g}"
    )

# %% tags=["check"]
assert min(red.values()) > 0, f"the criterion does not reach every place: {red}"
least = min(blue["r"], blue["CoarseNet"])
assert least > 0, f"fidelity reaches CoarseNet by {least:.1e}, above 0 expected"
most = max(blue["FineNet"], blue["depth"], blue["fine"])
assert most == 0, f"fidelity reaches FineNet by {most:.1e}, 0 expected"
by_hand = 2 * settings.coarse_fidelity_weight * (r - original) / r.numel()
norm, wanted = by_hand.norm().item(), blue["r"]
assert abs(norm - wanted) < 1e-4 * wanted, f"{norm:.6g}, expected {wanted:.6g}"

# %%
figure, axis = plt.subplots(figsize=(13, 4.3), layout="constrained")
draw.draw_picture(axis, grey[0, 0].numpy(), (0, -0.25), 0.5, "photograph")
draw.draw_box(axis, "CoarseNet", (1.25, 0), 0.7, "#6baed6")
draw.draw_box(axis, f"r\n({r.shape[1]})", (2.35, 0), 0.3)
draw.draw_box(axis, "rendering\nlayer", (3.25, 0), 0.6, "#fff2ae")
unit = {"coarse depth": shown.depth, "detailed depth": fine}
for (title, surface), left in zip(unit.items(), (4.0, 6.1), strict=True):
    n = depth.normals_from_depth(surface.detach(), pixel, shown.mask)
    n = torch.where(shown.mask, n, torch.nan)[0].permute(1, 2, 0)
    draw.draw_picture(axis, viz.shaded(n.numpy()), (left, -0.25), 0.5, title)
draw.draw_box(axis, "FineNet", (5.3, 0), 0.6, "#9ecae1")
draw.draw_box(axis, "Eq. (14)", (7.5, 0), 0.6, "#fdd0a2")
draw.draw_box(axis, r"$\|r - r_{original}\|^2$", (2.35, 0.95), 0.9, "#fdd0a2")
ends = [(0.54, 0.86), (1.64, 2.15), (2.56, 2.9), (3.6, 3.96), (4.54, 4.96)]
for start, end in (*ends, (5.66, 6.06), (6.64, 7.16)):
    draw.draw_arrow(axis, (start, 0.05), (end, 0.05))
draw.draw_arrow(axis, (2.27, 0.16), (2.27, 0.8))
plt.close()  # shown below, with the gradients


# %%
def rounded(norm):
    """Three digits, and no power of ten."""
    return f"{float(f'{norm:.3g}'):,g}"


# %%
thick = {"color": "crimson", "width": 2}
back = {"fine": (7.4, 6.4), "depth": (5.2, 4.3), "r": (3.2, 2.4)}
for name, (start, end) in back.items():
    text = rounded(red[name])
    draw.draw_arrow(axis, (start, -0.3), (end, -0.3), text, above=-0.1, **thick)
draw.draw_arrow(
    axis, (2.3, -0.3), (1.25, -0.3), rounded(red["CoarseNet"]), above=-0.1, **thick
)
draw.draw_arrow(
    axis, (6.3, -0.62), (5.3, -0.62), rounded(red["FineNet"]), above=-0.1, **thick
)
thick["color"] = "royalblue"
draw.draw_arrow(axis, (2.43, 0.8), (2.43, 0.16), **thick)
axis.text(2.5, 0.45, rounded(blue["r"]), color="royalblue", fontsize=8)
text = rounded(blue["CoarseNet"])
draw.draw_arrow(axis, (2.2, 0.3), (1.3, 0.3), text, above=0.1, **thick)
axis.text(5.3, -0.88, "to FineNet's weights", ha="center", fontsize=8, color="crimson")
axis.text(
    1.25, -0.55, "to CoarseNet's weights", ha="center", fontsize=8, color="crimson"
)
draw.canvas(axis, 8, -1.0, 1.3)
figure.savefig(output / "figure.png", dpi=80)
figure

# %% tags=["record"]
files = [coarse_file, fine_file]
people = f"{CREDITS['grace_hopper']}; step {steps} of a training on it"
record = repro.Recorder(output, preset, seed, weights=files, data=people)
for name in places:
    record(f"{name}/from_criterion", float(f"{red[name]:.3g}"))
    record(f"{name}/from_fidelity", float(f"{blue[name]:.3g}"))
shading, fidelity = rounded(red["CoarseNet"]), rounded(blue["CoarseNet"])
text = f"both reach CoarseNet: gradient norms {shading} from Eq. (14)"
text += f" and {fidelity} from fidelity"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_07", output)
