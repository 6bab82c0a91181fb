# %% [markdown]
# # Figure 10: methods side by side
#
# > **The paper, section 5:** “Qualitative Results. Input images are presented alongside
# > the reconstruction results of different methods from two different viewpoints. Note
# > that unlike the other methods, the proposed approach is robust to pose and
# > expression variations, while still capturing subtle facial details.”
#
# Ours: the methods that are registered in `facerecon.methods`, each as its registry
# entry describes it, on two public-domain portraits, on three persons of the Face
# Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0) and on simulated subjects
# of facerecon-bench (`-p frgc DIR`: on FRGC's first scans). What to see: what the paper
# claims, “our method exposes the fine facial details as opposed to [47, 34] and is more
# robust to expressions and different poses than [20]”.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_10"
photos = []  # files to use instead
subjects = 0  # that are compared by numbers; 0: as the preset says
frgc = ""  # folder of FRGC v2, whose scans are used instead of the simulated subjects
coarse_weights = ""  # files of weights instead of those that ship
fine_weights = ""  # FineNet's
normals_weights = ""  # NormalNet's

# %% tags=["imports"]
from pathlib import Path

import numpy as np

from facerecon import imaging, repro, weights
from facerecon.depth import normals_from_depth
from facerecon.evaluation import metrics
from facerecon.methods.registry import (
    MethodSettings,
    build_method,
    method_names,
    method_title,
)
from facerecon.scans.frgc import find_frgc, read_frgc
from facerecon.scans.protocol import common_pixels, errors, paired_interval
from facerecon.scans.scan import mm_per_pixel
from facerecon.simulated_scans.cache import cached_photograph
from facerecon.views import viz
from facerecon.views.portraits import LONDON, people, portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
settings = MethodSettings(
    coarse_weights or None, fine_weights or None, normals=normals_weights or None
)
methods = [name for name in method_names() if name != "mean face"]
images = {Path(file).stem: imaging.load_image(file) for file in photos}
images = images or portraits() | people("neutral")
scans, compared = {}, {}
if frgc:
    scans = {file.name: read_frgc(file) for file in find_frgc(frgc)[:3]}
    compared = scans
elif not photos:
    turns = (
        [(3, None), (1, 35)] if preset == "quick" else [(3, None), (1, 35), (6, -50)]
    )
    for index, yaw in turns:
        photograph = cached_photograph(repro.cache_folder(), index, seed, yaw)
        scans[f"subject {index}"] = photograph.scan
images |= {name: scan.image for name, scan in scans.items()}

# %%
# Compared by numbers are more subjects than are shown.
count = subjects or {"quick": 30, "full": 100}[preset]
if not (frgc or photos):
    for index in range(count):
        photograph = cached_photograph(repro.cache_folder(), index, seed)
        compared[f"subject {index}, frontal"] = photograph.scan
    for index in range(max(1, count // 6)):
        photograph = cached_photograph(repro.cache_folder(), index, seed, 35)
        compared[f"subject {index}, turned"] = photograph.scan

# %%
estimates, failures = {}, {}
for name, image in (
    images | {key: scan.image for key, scan in compared.items()}
).items():
    for method in methods:
        try:
            estimates[name, method] = build_method(method, settings)(image)
        except ValueError as error:
            failures[name, method] = str(error)
print(failures)

# %%
size, blank = 260, np.ones((260, 260))
pictures = []
for name, image in images.items():
    ours = estimates.get((name, methods[0]))
    shown = np.isfinite(ours.depth_mm) if ours else np.ones(image.shape[:2], bool)
    rows, columns = (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    side = 1.25 * max(np.ptp(rows), np.ptp(columns))
    corner = columns.mean() - side / 2, rows.mean() - side / 2
    pictures.append(imaging.Crop(*corner, side, size).cut(image))
    for method in methods:
        found = estimates.get((name, method))
        views = [blank, blank]
        if found is not None:
            # As large as in the photograph, whatever the method takes for a mm.
            pixel = found.mm_per_pixel if found.mm_per_pixel > 0 else ours.mm_per_pixel
            views = viz.depth_views(found.depth_mm, pixel, (0, 40), size, side * pixel)
        pictures += views
titles = ["photograph"]
titles += [t for m in methods for t in (method_title(m), "turned by 40°")]
figure = viz.gallery(pictures, titles, columns=len(titles), inches=1.7)
figure.savefig(output / "figure.jpg", pil_kwargs={"quality": 88})
figure

# %% [markdown]
# Pictures persuade, numbers compare: where the truth is known, the mean depth error on
# the pixels that all methods hold valid, after a shift along z, and the mean angle
# between the normals and the true ones. The first is dominated by the shape of the
# face, the second also feels wrinkles and noise.


# %% tags=["check"]
def normals_of(depth_mm, pixel):
    depth = torch.from_numpy(np.nan_to_num(depth_mm))[None, None]
    inside = torch.from_numpy(np.isfinite(depth_mm))[None, None]
    return normals_from_depth(depth, torch.tensor([pixel]).to(depth), inside)


measured = {(method, view): [] for method in methods for view in ("frontal", "turned")}
for name, scan in compared.items():
    found = {m: estimates[name, m] for m in methods if (name, m) in estimates}
    if len(found) < len(methods):
        continue  # compared are faces that all methods find
    view = "turned" if name.endswith("turned") else "frontal"
    common = common_pixels(scan, found)
    pixel, valid = (
        mm_per_pixel(scan.points, common),
        torch.from_numpy(common)[None, None],
    )
    truth = normals_of(scan.depth_mm, pixel)
    for method, found_depth in found.items():
        error = errors(scan, found_depth, common).mean()
        mine = normals_of(found_depth.depth_mm, pixel).to(truth)
        angle = metrics.normal_error(mine, truth, valid).item()
        measured[method, view].append((float(error), angle))
        assert error < 30, f"this is no face: {error:.1f} mm, not below 30"
        assert angle < 45, f"this is no face: {angle:.1f}°, not below 45"

# %%
means = {
    key: np.mean(values, axis=0) for key, values in measured.items() if len(values)
}
for (method, view), (mm, angle) in means.items():
    many = len(measured[method, view])
    print(f"{method:16} {view} ({many}) {mm:5.2f} mm {angle:5.1f}°")

# %% [markdown]
# Does a method come nearer to the true normals than the coarse face? The mean difference
# of their angles over the frontal subjects, with an interval from resampled subjects.

# %%
coarse = "ours (coarse)"
against_coarse = {}
if means and coarse in methods:
    angles = {m: np.array(measured[m, "frontal"])[:, 1] for m in methods}
    for method in methods:
        difference = angles[method] - angles[coarse]
        interval = paired_interval(difference, list(range(len(difference))))
        against_coarse[method] = [interval.value, interval.low, interval.high]
        low, high = interval.low, interval.high
        print(f"{method:16} {interval.value:+5.1f}° ({low:+.1f} to {high:+.1f})")

# %% tags=["record"]
files = [coarse_weights or weights.shipped("coarsenet.safetensors")]
files.append(fine_weights or weights.shipped("finenet.safetensors"))
files.append(normals_weights or weights.shipped("normalnet.safetensors"))
kind = "FRGC v2" if frgc else "simulated subjects of facerecon-bench"
shown = f"two portraits; three persons of the {LONDON}; {kind}"
shown = "given photographs" if photos else shown
record = repro.Recorder(output, preset, seed, weights=files, data=shown)
record("methods", list(methods))
for (method, view), values in measured.items():
    record(f"{method}/{view}/depth_mm_and_normals_deg", np.round(values, 3))
for method, interval in against_coarse.items():
    record(f"{method}/angle_minus_coarse_deg", np.round(interval, 3))
record("failures", [f"{method} on {name}" for name, method in failures])
text = "; ".join(
    f"{method} {mm:.1f} mm, {angle:.1f}°"
    for (method, view), (mm, angle) in means.items()
    if view == "frontal"
)
counts = [len(measured[methods[0], view]) for view in ("frontal", "turned")]
record.outcome(f"{text}; {counts[0]} frontal subjects" if text else "pictures")

# %% tags=["record"]
repro.judge_item("fig_10", output)
