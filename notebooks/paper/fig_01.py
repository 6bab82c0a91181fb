# %% [markdown]
# # Figure 1: results
#
# > **The paper, section 5:** “Results of the proposed network. Reconstructed geometries
# > are shown next to the corresponding input images.”
#
# Ours: two public-domain portraits that come with installed packages, three persons of
# the Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0), neutral and
# smiling, and simulated subjects of facerecon-bench, whose faces are not of the
# training world and whose true shape is known. Each photograph is followed by the
# geometry of the paper's method (CoarseNet and FineNet), then by that of our detail
# stage, which is not the paper's (`refine="normals"`), from the front and turned. What
# to see: proportions, pose and expression of the photograph in the geometry, and folds
# where it has folds.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_01"
photos = []  # files to use instead
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""  # FineNet's
normals_weights = ""  # NormalNet's

# %% tags=["imports"]
from pathlib import Path

import numpy as np

from facerecon import Reconstructor, imaging, repro, weights
from facerecon.methods.estimate import Estimate
from facerecon.scans.protocol import errors
from facerecon.simulated_scans.cache import cached_photograph
from facerecon.views import viz
from facerecon.views.portraits import LONDON, people, portraits

# %%
output = repro.start(output_dir)
coarse_file = coarse_weights or weights.shipped("coarsenet.safetensors")
fine_file = fine_weights or weights.shipped("finenet.safetensors")
normals_file = normals_weights or weights.shipped("normalnet.safetensors")
stages = {"normals": normals_file, "finenet": fine_file}
reconstructors = {
    (refine, size): Reconstructor.from_pretrained(
        coarse_file, file, size=size, refine=refine
    )
    for refine, file in stages.items()
    for size in (200, 400)
}
known = {}
if not photos:
    for index in range({"quick": 4, "full": 14}[preset]):
        known[f"subject {index}"] = cached_photograph(repro.cache_folder(), index, seed)
images = {Path(file).stem: imaging.load_image(file) for file in photos}
images = images or portraits() | people()
images |= {name: photograph.scan.image for name, photograph in known.items()}

# %%
faces, finenets = {}, {}
for name, image in images.items():
    faces[name] = reconstructors["normals", 200](image)
    size = 400 if faces[name].crop.side > 200 else 200  # as the photograph has pixels
    faces[name] = reconstructors["normals", size](image)
    finenets[name] = reconstructors["finenet", size](image)

# %%
pictures = []
for name, face in faces.items():
    width, papers_face = face.crop.side * face.mm_per_pixel, finenets[name]
    pictures.append(face.crop.at(400).cut(face.image))
    normals = viz.mesh_normals(
        papers_face.vertices, papers_face.faces, 400, width_mm=width
    )
    pictures.append(viz.shaded(normals))
    for yaw in (0, -35 if face.pose[1] > 0 else 35):
        normals = viz.mesh_normals(face.vertices, face.faces, 400, yaw, width_mm=width)
        pictures.append(viz.shaded(normals))
titles = 2 * ["photograph", "with FineNet", "ours", "ours, turned"]
figure = viz.gallery(pictures, titles, columns=8, inches=1.9)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# For the simulated subjects: the depth error where both are valid, after a shift along
# z, and the landmarks' distance in percent of the width between the outer eye corners.

# %% tags=["check"]
measured = {}
for name, photograph in known.items():
    face, scan = faces[name], photograph.scan
    both = face.mask & scan.mask
    error = errors(scan, Estimate(face.depth_mm, face.mm_per_pixel), both)
    eyes = np.linalg.norm(photograph.landmarks[45] - photograph.landmarks[36])
    off = np.linalg.norm(face.landmarks - photograph.landmarks, axis=1).mean() / eyes
    measured[name] = error.mean(), np.quantile(error, 0.9), 100 * off
    print(
        f"{name}: {error.mean():.2f} mm, 90 % below {measured[name][1]:.2f} mm;", end=""
    )
    print(f" landmarks {100 * off:.1f} %")
    assert error.mean() < 10, f"not this face: {error.mean():.1f} mm, not below 10"
    assert off < 0.2, f"not this face: landmarks {off:.0%}, not below 20 %"

# %% tags=["record"]
files = [coarse_file, fine_file, normals_file]
shown = f"two portraits; three persons of the {LONDON}; {len(known)} simulated subjects"
shown = "given photographs" if photos else f"{shown} of facerecon-bench"
record = repro.Recorder(output, preset, seed, weights=files, data=shown)
for name, (mean, high, off) in measured.items():
    record(f"{name}/depth_mm", [round(float(mean), 3), round(float(high), 3)])
    record(f"{name}/landmarks_percent", round(float(off), 2))
text = f"{len(faces)} faces"
if measured:
    mean = np.mean([mean for mean, *_ in measured.values()])
    text += f"; depth error of the simulated ones {mean:.1f} mm"
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_01", output)
