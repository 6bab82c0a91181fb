# %% [markdown]
# # Figure 2: feedback representation
#
# > **The paper, section 3.2.1:** “Feedback Representation. (a,d) are masked input
# > images, (b,e) are the corresponding PNCCs of the network's output and (c,f) are the
# > resulting normal maps.”
#
# Ours: the same three maps after the last step of CoarseNet, for two public-domain
# portraits that come with installed packages. What to see: the face alone is left of
# the photograph; the PNCC gives each point of the face its own color, the same for
# every person and pose; the normals show what the PNCC does not, local shape.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_02"
coarse_weights = ""  # file of CoarseNet weights instead of those that ship

# %% tags=["imports"]


from facerecon import Reconstructor, imaging, repro, weights
from facerecon.coarsenet import iterate
from facerecon.detection import detect
from facerecon.render import render
from facerecon.views import viz
from facerecon.views.portraits import CREDITS, portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
reconstructor = Reconstructor.from_pretrained(coarse_file)
model = reconstructor.model
pictures, shown = [], {}
for name, photo in portraits().items():
    box = detect.detect_faces(photo)[0].crop_box()
    face, _ = imaging.crop(photo, box, 200)
    grey = torch.from_numpy(imaging.to_grey(face))[None, None]
    with torch.no_grad():
        r = iterate(reconstructor.coarsenet, model, grey)[-1]
        shown[name] = render(model, r, 200)
    pictures += viz.feedback_pictures(grey, shown[name])
letters = [f"({letter})" for letter in "abcdef"]
figure = viz.gallery(pictures, letters, columns=3, inches=2.4)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# The PNCC names points: the tip of the nose has the same color in (b) and (e), though
# the two faces differ in place, size and pose. The normals are unit vectors.

# %% tags=["check"]
tip, corner = model.landmarks[30], model.landmarks[36]
for rendering in shown.values():
    for vertex in (tip, corner):
        column, row = rendering.projected[0, vertex, :2].round().long().tolist()
        color = rendering.pncc[0, :, row, column]
        print(color.numpy().round(3), "expected", model.pncc[vertex].numpy().round(3))
        off = (color - model.pncc[vertex]).abs().max()  # half a pixel
        assert off < 0.03, f"{off:.3f}, not below 0.03"
    length = rendering.normals.norm(dim=1, keepdim=True)[rendering.mask]
    off = (length - 1).abs().max()
    assert off < 1e-4, f"normals' lengths are off 1 by {off:.1e}, not below 1e-4"

# %% tags=["record"]
people = "two portraits: " + " and ".join(CREDITS.values())
record = repro.Recorder(output, preset, seed, weights=[coarse_file], data=people)
for name, rendering in shown.items():
    record(f"{name}/face_share", round(rendering.mask.float().mean().item(), 3))
    turn = torch.rad2deg(
        rendering.normals[0, :, rendering.mask[0, 0]].mean(1)[0].asin()
    )
    record(f"{name}/mean_normal_to_the_right_deg", round(turn.item(), 2))
record.outcome("the same maps, from the network's own output")

# %% tags=["record"]
repro.judge_item("fig_02", output)
