# %% [markdown]
# # Figure 10: methods side by side
#
# > **The paper, section 5:** “Qualitative Results. Input images are presented alongside
# > the reconstruction results of different methods from two different viewpoints. Note
# > that unlike the other methods, the proposed approach is robust to pose and
# > expression variations, while still capturing subtle facial details.”
#
# Ours: the methods that are registered in `facerecon.methods`, each as its registry
# entry describes it, on two public-domain portraits and on simulated subjects of
# facerecon-bench (`-p frgc DIR`: on FRGC's first scans). What to see: what the paper
# claims, “our method exposes the fine facial details as opposed to [47, 34] and is more
# robust to expressions and different poses than [20]”.

# %% tags=["parameters"]
preset = "quick"
seed = 0
output_dir = "runs/fig_10"
photos = []  # files to use instead
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
from facerecon.methods.registry import MethodSettings, build_method, method_names
from facerecon.scans.frgc import find_frgc, read_frgc
from facerecon.scans.protocol import common_pixels, errors
from facerecon.scans.scan import mm_per_pixel
from facerecon.simulated_scans.cache import cached_photograph
from facerecon.views import viz
from facerecon.views.portraits import portraits
import torch  # after facerecon, which tells its threads how to wait

# %%
output = repro.start(output_dir)
settings = MethodSettings(
    coarse_weights or None, fine_weights or None, normals=normals_weights or None
)
methods = [name for name in method_names() if name != "mean face"]
images = {Path(file).stem: imaging.load_image(file) for file in photos} or portraits()
scans = {}
if frgc:
    scans = {file.name: read_frgc(file) for file in find_frgc(frgc)[:3]}
elif not photos:
    turns = (
        [(3, None), (1, 35)] if preset == "quick" else [(3, None), (1, 35), (6, -50)]
    )
    for index, yaw in turns:
        photograph = cached_photograph(repro.cache_folder(), index, seed, yaw)
        scans[f"subject {index}"] = photograph.scan
images |= {name: scan.image for name, scan in scans.items()}

# %%
estimates, failures = {}, {}
for name, image in images.items():
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
titles = ["photograph"] + [t for method in methods for t in (method, "turned by 40°")]
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


measured = {method: [] for method in methods}
for name, scan in scans.items():
    found = {m: estimates[name, m] for m in methods if (name, m) in estimates}
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
        measured[method].append((float(error), angle))
        print(f"{name:12} {method:16} {error:5.2f} mm {angle:5.1f}°")
        assert error < 30, f"this is no face: {error:.1f} mm, not below 30"
        assert angle < 45, f"this is no face: {angle:.1f}°, not below 45"

# %% tags=["record"]
files = [coarse_weights or weights.shipped("coarsenet.safetensors")]
files.append(fine_weights or weights.shipped("finenet.safetensors"))
files.append(normals_weights or weights.shipped("normalnet.safetensors"))
kind = "FRGC v2" if frgc else "simulated subjects of facerecon-bench"
people = "given photographs" if photos else f"two portraits; {kind}"
record = repro.Recorder(output, preset, seed, weights=files, data=people)
record("methods", list(methods))
for method, values in measured.items():
    record(f"{method}/depth_mm_and_normals_deg", np.round(values, 3))
record("failures", [f"{method} on {name}" for name, method in failures])
means = {m: np.mean(values, axis=0) for m, values in measured.items() if values}
text = "; ".join(f"{m} {mm:.1f} mm, {angle:.1f}°" for m, (mm, angle) in means.items())
record.outcome(text)

# %% tags=["record"]
repro.judge_item("fig_10", output)
