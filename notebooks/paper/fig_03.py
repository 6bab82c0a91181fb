# %% [markdown]
# # Figure 3: the networks
#
# > **The paper, sections 3.3 and 4.2:** “The End-to-End network, composed of CoarseNet,
# > FineNet and the rendering layer.”
#
# Ours, drawn from the modules that ship while they reconstruct a portrait: every slab
# is a layer as high as its maps and as thick as it has channels (on a logarithmic
# scale), every number was read off a tensor. What to see: the paper's FineNet, VGG-16
# before its third pooling and a hypercolumn of 2 + 7 w channels, where the paper's
# width w is 64 and that of the network that ships is 16; and where our CoarseNet is
# smaller. `carry` reads the coefficients of the state before; `field` says where the
# surface belongs (chapter 3, section 5), which the paper's network does not.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_03"
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""

# %% tags=["imports"]

import matplotlib.pyplot as plt

from facerecon import Reconstructor, camera, depth, imaging, repro, weights
from facerecon.coarsenet import feedback, iterate, step
from facerecon.detection import detect
from facerecon.finenet import FineNet
from facerecon.render import render
from facerecon.views import diagrams as draw, viz
from facerecon.views.portraits import portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
fine_file = fine_weights or weights.shipped("finenet.safetensors")
reconstructor = Reconstructor.from_pretrained(coarse_file, fine_file, refine="finenet")
model, coarsenet = reconstructor.model, reconstructor.coarsenet
finenet = reconstructor.finenet
finenet.folded = (
    False  # form the hypercolumn, as the paper does; the result is the same
)
photo = portraits()["grace_hopper"]
box = detect.detect_faces(photo)[0].crop_box()
grey = torch.from_numpy(imaging.to_grey(imaging.crop(photo, box, 200)[0]))[None, None]

# %%
with torch.no_grad():
    before, r = iterate(coarsenet, model, grey)[-2:]
    shown = render(model, r, 200)
    maps = feedback(model, grey, before)
    pixel = 1 / camera.pose_parameters(camera.split(r)[1], 200).scale
    known = grey, shown.depth, shown.mask, pixel
    block = type(coarsenet.body[0])
    coarse_layers = [
        layer._replace(name=layer.name.removesuffix(".0.0"))
        for layer in draw.trace(
            coarsenet, lambda: coarsenet(maps, before, model), [block]
        )
    ]
    fine_layers = draw.trace(finenet, lambda: finenet(*known))
    fine = finenet(*known)
pictures = viz.feedback_pictures(grey, render(model, before, 200))
for layer in (*coarse_layers, *fine_layers):
    print(f"{layer.name:12} {layer.kind:16} {layer.shape!s:18} {layer.parameters:10,}")

# %%
sheet = {"figsize": (8, 7), "height_ratios": (2.7, 4.1), "layout": "constrained"}
figure, (top, bottom) = plt.subplots(2, 1, **sheet)
names = "image", "PNCC", "normals"
for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
    draw.draw_picture(top, picture, (0.02, 0.36 - 0.54 * row), 0.36, name)
draw.draw_arrow(top, (0.42, 0.02), (0.55, 0.02), f"{maps.shape[1]}", above=0.06)
coarse_slabs = draw.draw_layers(top, coarse_layers, 0.6, 1.6)
end = max(slab.right for slab in coarse_slabs.values()) + 0.08
draw.draw_arrow(top, (end, 0), (end + 0.3, 0), f"r: {r.shape[1]}", above=0.08)
layer = "rendering\nlayer,\nEqs. (5), (6)"
draw.draw_box(top, layer, (end + 0.75, 0), 0.78, "#fff2ae", 0.5)
draw.draw_arrow(top, (end + 1.18, 0), (end + 1.31, 0))
surfaces = []
for z in (shown.depth, fine):
    n = torch.where(
        shown.mask, depth.normals_from_depth(z, pixel, shown.mask), torch.nan
    )
    surfaces.append(viz.shaded(n[0].permute(1, 2, 0).numpy()))
draw.draw_picture(top, surfaces[0], (end + 1.35, -0.35), 0.7, "coarse depth")
text = "next iteration: feedback of r"
draw.draw_arrow(top, (end, -1), (0.42, -1), text, bend=-0.03, above=0.1)
draw.canvas(top, end + 2.08, -1.2, 0.85)
total = sum(parameter.numel() for parameter in coarsenet.parameters())
top.set_title(f"CoarseNet, {total:,} parameters, four times", loc="left")
plt.close()  # shown below, with FineNet

# %%
draw.draw_picture(bottom, pictures[0], (0.02, 0.06), 0.42, "image")
draw.draw_picture(bottom, surfaces[0], (0.02, -0.5), 0.42, "coarse depth")
draw.draw_arrow(bottom, (0.48, 0), (0.6, 0), "2", above=0.06)
column = finenet.regress1.in_channels
hypercolumn = draw.TracedLayer("hypercolumn", "concatenation", (column, 200, 200), 0)
place = [layer.name for layer in fine_layers].index("regress1")
listed = [*fine_layers[:place], hypercolumn, *fine_layers[place:]]
slabs = draw.draw_layers(bottom, listed, 0.65)
links = {"conv1_2": "hypercolumn", "conv2_2": "up2", "up2": "hypercolumn"}
for start, goal in (links | {"conv3_3": "up3_1"}).items():
    draw.draw_arrow(bottom, slabs[start].top, slabs[goal].top, bend=-0.25)
end = slabs["regress3"].right + 0.05
draw.draw_arrow(bottom, (end, 0), (end + 0.4, 0), "+ coarse", above=0.08)
draw.draw_picture(bottom, surfaces[1], (end + 0.44, -0.3), 0.6, "detailed depth")
draw.canvas(bottom, end + 1.08, -1.0, 1.3)
plt.close()

# %%
total_fine = sum(parameter.numel() for parameter in finenet.parameters())
title = (
    f"FineNet, {total_fine:,} parameters, hypercolumn of {column} channels per pixel"
)
bottom.set_title(title, loc="left")
patches = [plt.Rectangle((0, 0), 1, 1, fc=color) for color in draw.COLORS.values()]
bottom.legend(patches, draw.COLORS, loc="upper right", fontsize=8)
figure.savefig(output / "figure.png", dpi=100)
figure

# %% [markdown]
# The paper's numbers: the image of 200 × 200 with two feedback maps of three channels;
# 290 numbers out; at the paper's width, a hypercolumn of 450 channels from conv1_2,
# conv2_2 and conv3_3; and networks of which every weight is in the drawing.

# %% tags=["check"]
drawn = {layer.name: layer for layer in fine_layers}
shapes = *maps.shape[1:], r.shape[1]
assert shapes == (7, 200, 200, 290), f"{shapes}, expected 7, 200, 200, 290"
width = finenet.config.width
scales = [drawn[f"conv{n}"].shape[0] for n in ("1_2", "2_2", "3_3")]
wanted = [width, 2 * width, 4 * width]
assert scales == wanted, f"channels {scales}, expected {wanted}"
assert column == 2 + sum(scales), f"{column} channels, expected {2 + sum(scales)}"
papers = FineNet().regress1.in_channels
assert papers == 2 + 64 + 128 + 256, f"{papers} channels, expected 450"
counted = sum(layer.parameters for layer in fine_layers)
assert counted == total_fine, f"{counted:,} parameters, expected {total_fine:,}"
norms = [m for m in coarsenet.modules() if isinstance(m, torch.nn.BatchNorm2d)]
inside = {id(m) for b in coarsenet.body for m in b.modules()}
outside = sum(p.numel() for m in norms if id(m) not in inside for p in m.parameters())
trust = sum(p.numel() for p in coarsenet.parameters(recurse=False))  # in what it says
counted = sum(layer.parameters for layer in coarse_layers) + outside + trust
assert counted == total, f"{counted:,} parameters, expected {total:,}"
off = (step(coarsenet, model, grey, before) - r).abs().max()
assert off < 1e-5 * max(1, r.abs().max()), f"r is off by {off:.1e}, not below 1e-5"

# %% tags=["record"]
files = [coarse_file, fine_file]
record = repro.Recorder(
    output, preset, seed, weights=files, data="the networks that ship"
)
record("coarsenet_parameters", total)
record("finenet_parameters", total_fine)
record("hypercolumn_channels", column)
record(
    "layers", [f"{x.name} {x.kind} {x.shape}" for x in (*coarse_layers, *fine_layers)]
)
text = f"290 numbers; 200×200×{column} hypercolumn; {total / 1e6:.1f} and"
text += f" {total_fine / 1e6:.1f} million parameters"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_03", output)
