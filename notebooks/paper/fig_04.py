# %% [markdown]
# # Figure 4: progress through iterations
#
# > **The paper, section 3.4:** “Progress through iterations. For each iteration the
# > following are shown from top to bottom: The cropped input image, the PNCC and the
# > normal map.”
#
# Ours: the mean face $r_0 = 0$ and four steps of CoarseNet, left to right, as what the
# network is shown at each step: the photograph masked by the current face, its PNCC and
# its normals. What to see: pose and size settle in the first step, the mask then fits
# the face, and the last steps change little (“This process is repeated until
# convergence”).

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_04"
photos = []  # files to use instead of the two portraits
iterations = 4
coarse_weights = ""  # file of CoarseNet weights instead of those that ship

# %% tags=["imports"]
from pathlib import Path


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
images = {Path(file).stem: imaging.load_image(file) for file in photos} or portraits()
pictures, tracks = [], {}
for name, photo in images.items():
    box = detect.detect_faces(photo)[0].crop_box()
    face, _ = imaging.crop(photo, box, 200)
    grey = torch.from_numpy(imaging.to_grey(face))[None, None]
    with torch.no_grad():
        steps = iterate(reconstructor.coarsenet, model, grey, iterations)
        shown = [render(model, r, 200) for r in steps]
    columns = [viz.feedback_pictures(grey, rendering) for rendering in shown]
    pictures += [picture for row in zip(*columns, strict=True) for picture in row]
    tracks[name] = torch.stack([s.projected[0, model.landmarks, :2] for s in shown])
titles = [f"$r_{step}$" for step in range(len(steps))]
figure = viz.gallery(pictures, titles, columns=len(steps), inches=1.6)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# How far the 68 landmarks move in each step, in pixels of the 200 of the crop:

# %% tags=["check"]
moves = {}
for name, track in tracks.items():
    moves[name] = (track[1:] - track[:-1]).norm(dim=2).mean(dim=1)
    print(name, [f"{move:.2f}" for move in moves[name].tolist()])
    first, last = moves[name][[0, -1]]
    settles = last < first / 3 or photos  # of your own nothing is asserted
    assert settles, f"it does not settle: {first:.2f} to {last:.2f} pixels"

# %% tags=["record"]
people = " and ".join(CREDITS[n] for n in images if n in CREDITS) or "given photographs"
record = repro.Recorder(output, preset, seed, weights=[coarse_file], data=people)
for name, steps in moves.items():
    record(f"{name}/landmark_moves_px", steps.double().numpy().round(2))
last = max(steps[-1].item() for steps in moves.values())
text = f"four steps; the landmarks move by {last:.1f} of 200 pixels or less in the last"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_04", output)
