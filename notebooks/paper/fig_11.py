# %% [markdown]
# # Figure 11: input scaling
#
# > **The paper, section 5:** “Input Scaling. (a) is the input image and (b) is the
# > coarse depth map from CoarseNet. In (c) the output of FineNet for a 200x200 input is
# > presented, while in (d) a 400x400 input is used.”
#
# In the text: “although our network was trained only on 200×200 images it gracefully
# scales up for 400×400 inputs.” Here: the paper's FineNet, one network for both sizes,
# and beside it our detail stage, which is not the paper's. What to see: the same face
# in (c) and (d), with finer and sharper detail in (d), if the photograph has the
# pixels: the crop of Grace Hopper's portrait is 269 pixels wide, and a simulated
# subject is photographed at 640 × 480.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_11"
photos = []  # files to use instead
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""  # FineNet's
normals_weights = ""  # NormalNet's

# %% tags=["imports"]
from pathlib import Path

import numpy as np

from facerecon import Reconstructor, imaging, repro, weights
from facerecon.simulated_scans.cache import cached_photograph
from facerecon.views import viz
from facerecon.views.portraits import LONDON, people, portraits

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
fine_file = fine_weights or weights.shipped("finenet.safetensors")
normals_file = normals_weights or weights.shipped("normalnet.safetensors")
stages = {"FineNet": ("finenet", fine_file), "ours": ("normals", normals_file)}
by_stage = {
    stage: [
        Reconstructor.from_pretrained(coarse_file, file, size=size, refine=refine)
        for size in (200, 400)
    ]
    for stage, (refine, file) in stages.items()
}
images = {Path(file).stem: imaging.load_image(file) for file in photos}
if not photos:
    images["grace_hopper"] = portraits()["grace_hopper"]
    images |= people("neutral")
    for index in {"quick": (4,), "full": (4, 5, 6, 7)}[preset]:
        photograph = cached_photograph(repro.cache_folder(), index, seed)
        images[f"subject {index}"] = photograph.scan.image
pairs = {
    (name, stage): [reconstructor(image) for reconstructor in sizes]
    for name, image in images.items()
    for stage, sizes in by_stage.items()
}

# %%
pictures = []
for name in images:
    first = pairs[name, "FineNet"][0]
    width = first.crop.side * first.mm_per_pixel
    meshes = [(first.coarse_vertices, first.coarse_faces)]
    for stage in stages:
        meshes += [(face.vertices, face.faces) for face in pairs[name, stage]]
    pictures.append(first.crop.at(400).cut(first.image))
    pictures += [
        viz.shaded(viz.mesh_normals(*mesh, size=400, width_mm=width)) for mesh in meshes
    ]
titles = ["(a) photograph", "(b) coarse", "(c) FineNet, 200 × 200"]
titles += ["(d) FineNet, 400 × 400", "ours, 200 × 200", "ours, 400 × 400"]
figure = viz.gallery(pictures, titles, columns=6, inches=2.4)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# The detail is what a stage adds to the coarse depth, on the photograph's own pixels.
# “Gracefully” should mean: the two sizes agree on it, and the larger one has more of it
# at the finest scale. We measure the correlation of the two details, and the RMS of the
# difference between neighboring pixels.


# %% tags=["check"]
def detail(face):
    return face.depth_mm - face.coarse_depth_mm


numbers = {}
for key, faces in pairs.items():
    name = ", ".join(key)
    known = faces[0].mask & faces[1].mask
    fields = [np.where(known, detail(face), np.nan) for face in faces]
    agreement = np.corrcoef(*(field[known] for field in fields))[0, 1]
    steps = [np.sqrt(np.nanmean(np.diff(f, axis=1) ** 2)) for f in fields]
    numbers[name] = agreement, *steps
    print(f"{name}: correlation {agreement:.2f}; RMS step {steps[0]:.3f} and", end=" ")
    print(f"{steps[1]:.3f} mm between pixels")
    good = agreement > 0.2 or photos  # of your own nothing is asserted
    assert good, f"sizes disagree: {agreement:.2f}, not above 0.2"

# %% tags=["record"]
files = [coarse_file, fine_file, normals_file]
shown = f"Grace Hopper (US Navy); three persons of the {LONDON}"
shown += "; a simulated subject of facerecon-bench"
record = repro.Recorder(output, preset, seed, weights=files, data=shown)
for name, (agreement, low, high) in numbers.items():
    record(f"{name}/correlation", round(float(agreement), 3))
    record(f"{name}/step_200_mm", round(float(low), 4))
    record(f"{name}/step_400_mm", round(float(high), 4))
text, gains = [], {}
for stage in stages:
    rows = [row for name, row in numbers.items() if name.endswith(f", {stage}")]
    gains[stage] = min(high / low for _, low, high in rows)
    least = min(agreement for agreement, *_ in rows)
    text.append(
        f"{stage}: the two details correlate by {least:.2f} or more, the depth steps"
        f" between neighboring pixels at 400 are {gains[stage]:.2f} times those at 200"
    )
record.outcome("; ".join(text))

# %% tags=["record"]
repro.judge_item("fig_11", output)
