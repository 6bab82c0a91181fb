# %% [markdown]
# # Is everything here?
#
# **Versions, threads, backends, the morphable model, the weights, and one small
# reconstruction: if this notebook runs to its end, the other chapters will run, too.**
#
# *Afterwards you can* say with what your results were made, which a comparison with
# others' needs. *Paper:* none of its equations; Figure 3 is the pipeline that section 4
# runs once. *Time:* ten seconds on two CPU cores. *Data:* a public-domain portrait of
# astronaut Eileen Collins (NASA) that comes with scikit-image. Nothing is downloaded.

# %% tags=["parameters"]
preset = "quick"  # "full" does the same
seed = 0  # of the faces that compare the backends
output_dir = "runs/check_setup"  # where result.json goes

# %% tags=["imports"]
import os
import platform
import sys
import time
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import skimage

from facerecon import MorphableModel, Reconstructor, camera, lighting, render, repro
from facerecon import weights
from facerecon.views import viz
import torch  # after facerecon, which tells its threads how to wait

# %% [markdown]
# ## 1 Versions
#
# Two machines agree to the last digit only with the same versions, the same processor
# and the same number of threads; to a few digits they agree anyway. An entry "not
# installed" below means that this part of the notebooks will not run:
# `pip install "facerecon[notebooks]"`.


# %%
def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


packages = ["facerecon", "torch", "numpy", "numba", "opencv-python-headless", "trimesh"]
packages += ["matplotlib", "scikit-image", "plotly", "anywidget", "ipywidgets"]
versions = {package: version(package) for package in packages}
print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
for package, number in versions.items():
    print(f"{package:24}{number}")

# %% tags=["check"]
assert sys.version_info >= (3, 10), f"Python {sys.version}, at least 3.10 needed"
missing = [package for package, number in versions.items() if number == "not installed"]
assert not missing, f"install {missing}"

# %% [markdown]
# ## 2 Threads and backends
#
# PyTorch uses one thread per core unless `OMP_NUM_THREADS` says otherwise. Faces are
# rasterized by compiled loops on the CPU ("numba") or by tensor operations on any
# device ("torch"); nvdiffrast, for NVIDIA GPUs, is optional. The first call of a
# compiled loop takes seconds, later ones milliseconds.

# %%
cores = os.cpu_count()
threads = torch.get_num_threads()
has_gpu = torch.cuda.is_available()
gpu = torch.cuda.get_device_name() if has_gpu else "none: everything runs on the CPU"
print(f"{cores} cores, {threads} threads; OMP_NUM_THREADS", end=" ")
print(os.environ.get("OMP_NUM_THREADS", "is not set"))
print(f"GPU: {gpu}")
nvdiffrast = "installed" if find_spec("nvdiffrast") else "not installed (optional)"
print(f"nvdiffrast: {nvdiffrast}")

# %% tags=["check"]
model = MorphableModel.default()
generator = torch.Generator().manual_seed(seed)
r = camera.join(model.sample(2, generator), torch.randn(2, 6, generator=generator))
pictures, seconds = {}, {}
for backend in ("numba", "torch"):
    render.render(model, r, 64, backend)  # compiles
    start = time.perf_counter()
    pictures[backend] = render.render(model, r, 64, backend)
    seconds[backend] = time.perf_counter() - start
    print(f"{backend}: {1000 * seconds[backend]:.0f} ms for two faces of 64 x 64")
one, other = pictures.values()
assert torch.equal(one.mask, other.mask), f"{(one.mask != other.mask).sum()} pixels"
gap = (one.depth - other.depth).abs().max()
assert gap < 2e-3, f"depths differ by {gap:.1e} mm, at most 2e-3"

# %% [markdown]
# ## 3 The morphable model and the weights
#
# Both ship with the package. Each file says where it comes from; results depend on it
# as much as on the code.

# %%
assets = files("facerecon") / "assets"
counts = f"{model.n_identity} identity, {model.n_expression} expression coefficients"
print(f"morphable model: {model.n_vertices:,} vertices, {counts};")
print(f"  {model.provenance.get('source')}")
cards = {}
for name in ("coarsenet", "finenet"):
    path = Path(str(assets / f"{name}.safetensors"))
    card = cards[name] = weights.read_card(path)
    print(f"{name}: {path.stat().st_size / 1e6:.1f} MB, preset {card['preset']},")
    print(f"  {card['samples']:,} samples of {card['data']}")

# %% tags=["check"]
numbers = model.n_coefficients + len(camera.POSE_NAMES)
assert numbers == 290, f"{numbers} numbers, 290 expected"
finite = torch.isfinite(model.basis)
assert finite.all(), f"{(~finite).sum()} of {finite.numel()} numbers are not finite"
samples = {name: card["samples"] for name, card in cards.items()}
assert min(samples.values()) > 0, f"a network has seen nothing: {samples}"

# %% [markdown]
# ## 4 One reconstruction
#
# The photograph is cut to the head. From left to right: detected box and
# landmarks, coarse shape, detailed shape, the same from the side.

# %%
photograph = skimage.data.astronaut()[:260, 90:350]
reconstructor = Reconstructor.from_pretrained()
start = time.perf_counter()
face = reconstructor(photograph)
seconds["reconstruction"] = time.perf_counter() - start
print(f"{seconds['reconstruction']:.2f} s, {len(face.vertices):,} vertices")
viz.preview(face, size=300)

# %% tags=["check"]
height, width = photograph.shape[:2]
depth, share = face.depth_mm, face.mask.mean()
assert depth.shape == (height, width), f"{depth.shape}, photo {height, width}"
assert share > 0.1, (
    f"the face covers {share:.0%} of the photograph, above 10 % expected"
)
lost = (~np.isfinite(depth[face.mask])).sum() + (~np.isfinite(face.vertices)).sum()
assert lost == 0, f"{lost} numbers are not finite, 0 expected"
relief = np.ptp(face.depth_mm[face.mask])
nose, jaw = face.landmarks[30], face.landmarks[8]
print(f"relief {relief:.0f} mm, nose at {nose.round()}, chin at {jaw.round()}")
assert 30 < relief < 200, f"{relief:.0f} mm is no face: 30 to 200 expected"
inside = face.box.x < nose[0] < face.box.x + face.box.width
assert inside and nose[1] < jaw[1], f"nose {nose}, chin {jaw}, box {face.box}"

# %% [markdown]
# ## Exercises
#
# **1.** The networks see grey photographs. Write the grey value of an RGB image as
# docs/conventions.md defines it, then compare with `lighting.LUMA`.


# %% tags=["exercise"]
def grey(image):
    """Grey values (H, W) of an RGB image (H, W, 3) in [0, 1]."""
    ### BEGIN SOLUTION
    return image @ np.array([0.299, 0.587, 0.114])
    ### END SOLUTION


# %% tags=["check"]
picture = np.random.default_rng(0).random((4, 5, 3))
expected = sum(weight * picture[..., i] for i, weight in enumerate(lighting.LUMA))
answer = np.asarray(grey(picture))
print("shape", answer.shape, "largest error", np.abs(answer - expected).max())
assert answer.shape == (4, 5), f"shape {answer.shape}, expected (4, 5)"
assert np.allclose(answer, expected, atol=1e-6), f"{answer}, expected {expected}"

# %% [markdown]
# ## What we did not reproduce
#
# Nothing of the paper is measured here. The seconds above are this machine's, and one
# photograph says little about speed and nothing about accuracy.

# %% [markdown]
# ## Review questions
#
# 1. Which of the printed facts belong beside a number that you publish?
# 2. Why do both backends have to agree on the *mask* exactly, but on depth only nearly?
# 3. Why is the first call of a compiled function no measure of its speed?
# 4. What would you look at first if this notebook passes here and fails elsewhere?
# 5. The weights name their training data. Why does a reader want to know?

# %% tags=["record"]
record = repro.Recorder(output_dir, preset, seed)
record("threads", threads)
record("gpu", gpu)
for name, value in seconds.items():
    record.timing(name, value)
record("relief_mm", round(float(relief), 2))
print(record.path.read_text()[:400])

# %% [markdown]
# ## Further reading
#
# - [docs/conventions.md](../docs/conventions.md): frames, units, orders and signs.
# - [docs/equations.md](../docs/equations.md): which function implements which equation.
# - Chapter 1: the morphable model and the camera.
