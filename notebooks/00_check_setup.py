# %% [markdown]
# # Is everything here?
#
# Before an experiment, one checks the instruments. This short chapter looks at the
# Python that runs it, the packages, the model and the weights, and ends with a first
# reconstruction: a photograph goes in, a face in three dimensions comes out. If it runs
# to its end, all other chapters will run, too. If it does not, it says what is missing
# and how to mend it.
#
# **What you will be able to do.** Choose the right kernel, and repair an incomplete
# installation. Say with what your results were made, which anybody needs who compares
# theirs with yours.
#
# **Before you start.** You need nothing but the installation that the
# [README](../README.md) describes, and have started JupyterLab with `.venv/bin/jupyter
# lab` in the repository's folder. Reading and working through it takes 60 minutes if
# you do the exercise and look up the conventions; the cells run in fifteen seconds.
# Nothing is downloaded: the portrait of astronaut Eileen Collins (NASA, public domain)
# comes with scikit-image.
#
# **In the paper.** None of its equations. Section 4 runs the pipeline of Figure 3 once.

# %% tags=["parameters"]
preset = "quick"  # "full" does the same
seed = 0  # of the faces that compare the backends
output_dir = "runs/check_setup"  # where result.json goes

# %% [markdown]
# ## First, what can go wrong
#
# A notebook is only text until a *kernel* runs its cells. A kernel is a Python program,
# and a computer often has several of them, each with its own packages. The commonest
# trouble in any course is a notebook that runs in the wrong one: it then says `No
# module named 'numpy'`, although NumPy was installed an hour ago, for another Python.
#
# So the first cell imports nothing but what every Python has. It looks for the packages
# without loading them, and tells you what to do if some are missing. In JupyterLab the
# kernel's name stands in the upper right corner; a click on it, or *Kernel*, *Change
# Kernel...* in the menu, shows the others. Started as above, the right one is called
# *Python 3 (ipykernel)*. In VS Code, choose *Select Kernel* and the interpreter
# `.venv/bin/python` of this repository.

# %% tags=["check"]
import sys
from importlib.util import find_spec

NEEDED = "facerecon torch numpy numba cv2 trimesh matplotlib skimage plotly anywidget"
absent = [name for name in (NEEDED + " ipywidgets").split() if find_spec(name) is None]


class NotReady(ImportError):
    def _render_traceback_(self):  # Jupyter shows this instead of a traceback
        return [str(self)]


print("this kernel is", sys.executable, "with Python", sys.version.split()[0])
if absent or sys.version_info < (3, 10):
    raise NotReady(
        f"This kernel ({sys.executable}) lacks: {', '.join(absent) or 'Python 3.10'}.\n"
        "1. Choose another kernel: menu Kernel, Change Kernel..., and run this again.\n"
        "2. Or start JupyterLab in the repository: .venv/bin/jupyter lab\n"
        f'3. Or install: "{sys.executable}" -m pip install -e ".[notebooks]"'
    )

# %% tags=["imports"]
import os
import platform
import time
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import skimage

from facerecon import MorphableModel, Reconstructor, camera, lighting, render, repro
from facerecon import weights
from facerecon.course import Exercise
from facerecon.views import concepts, viz
import torch  # after facerecon, which tells its threads how to wait

# %% [markdown]
# The drawing shows what a cell needs. From left to right, each box is the condition of
# the one before: the notebook needs a kernel, the kernel needs packages, and the
# packages need their files. The sections of this chapter go through the last two.

# %%
concepts.setup()

# %% [markdown]
# **Notation.** This chapter has hardly any: $H$ and $W$ are the height and width of an
# image in pixels, an RGB image is an array $(H, W, 3)$ with values from 0 to 1, and
# depth is in mm, larger when nearer. All frames, units and signs of the project are in
# [docs/conventions.md](../docs/conventions.md). The exercise will send you there.

# %% [markdown]
# ## 1 Versions
#
# A computation that is repeated elsewhere gives the same result only if the same code
# does it. Two machines agree to the last digit only with the same versions, the same
# processor and the same number of threads, since sums of floating-point numbers depend
# on their order. To a few digits they agree anyway. That is why a published number
# should come with the versions that made it, and why every chapter ends by writing them
# into a file, `result.json`.

# %%
output = repro.start(output_dir)
packages = ["facerecon", "torch", "numpy", "numba", "opencv-python-headless", "trimesh"]
packages += ["matplotlib", "scikit-image", "plotly", "anywidget", "ipywidgets"]
print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
for package in packages:
    print(f"{package:24}{metadata.version(package)}")

# %% [markdown]
# ## 2 Threads and backends
#
# PyTorch uses one thread per core unless the environment variable `OMP_NUM_THREADS`
# says otherwise. More threads are not always faster: small tensors lose more to
# coordination than they win, and on a shared machine the threads wait for each other.
#
# Faces are *rasterized*, which means turned from triangles into pixels, by one of three
# programs. `numba` is compiled loops on the CPU, `torch` is tensor operations on any
# device, and [nvdiffrast](https://github.com/NVlabs/nvdiffrast), for NVIDIA GPUs, is
# optional. Chapter 4 explains what they do.

# %%
cores, threads = os.cpu_count(), torch.get_num_threads()
wanted = os.environ.get("OMP_NUM_THREADS", "is not set")
has_gpu = torch.cuda.is_available()
gpu = torch.cuda.get_device_name() if has_gpu else "none: everything runs on the CPU"
print(f"{cores} cores, {threads} threads; OMP_NUM_THREADS {wanted}")
print(
    f"GPU: {gpu}; nvdiffrast:", "there" if find_spec("nvdiffrast") else "not installed"
)

# %% [markdown]
# Two programs for one task are a good test of each other. The check renders two random
# faces with both. They must agree exactly on *which* pixels show a face, because that
# is a decision, made by the same comparisons in both. The depths are sums, which the
# two add up in another order, so they may differ in the last digits.
#
# It also measures the time. Each backend runs once before the clock starts, because the
# first call of a compiled loop takes seconds and later ones milliseconds.

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
first, second = pictures.values()
assert torch.equal(first.mask, second.mask), (
    f"{(first.mask != second.mask).sum()} differ"
)
gap = (first.depth - second.depth).abs().max()
assert gap < 2e-3, f"depths differ by {gap:.1e} mm, at most 2e-3"

# %% [markdown]
# ## 3 The morphable model and the weights
#
# Two kinds of files ship with the package, and the results depend on them as much as on
# the code. The *morphable model* says what faces can look like; chapter 1 is about it.
# The *weights* are what the networks have learned; chapters 3 and 6 are about those.
# Each file carries a card that says where it comes from and on how many samples of
# which data it was trained. A reader of your results wants to know, because a network
# is good at what it has seen.

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
# Everything in one line: `Reconstructor.from_pretrained()` loads model and weights, and
# calling it with a photograph gives a `Reconstruction`. Inside, a detector finds the
# face, CoarseNet finds the 290 numbers of a coarse face in four looks, and a second
# stage adds the detail that a morphable model does not have.
#
# From left to right: the photograph with the detected box and the 68 landmarks, the
# coarse shape, the detailed shape, and the same from the side. The view from the side
# is the honest one. A shape that is wrong in depth can look right from the front, but
# not from there.

# %%
photograph = skimage.data.astronaut()[:260, 90:350]
reconstructor = Reconstructor.from_pretrained()
start = time.perf_counter()
face = reconstructor(photograph)
seconds["reconstruction"] = time.perf_counter() - start
print(f"{seconds['reconstruction']:.2f} s, {len(face.vertices):,} vertices")
viz.preview(face, size=300)

# %% [markdown]
# What can be checked without knowing the truth? That the result covers a face's share
# of the picture, that no number is missing, that the relief from ear to nose is that of
# a head, and that nose and chin are where they belong. Such checks find gross errors
# only. Whether the shape is that of this person is another question, and chapter 8 is
# about how to measure it.

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
# Exercises have their own checks. As long as your function raises
# `NotImplementedError`, the check says that it is not solved yet, and the notebook runs
# on. A right answer gets a short line. A wrong one gets a sentence on what is wrong
# with it and a hint; `exercise.hint()` in a new cell prints the next hint.
#
# **1.** The networks see grey photographs. Write the grey value of an RGB image as
# [docs/conventions.md](../docs/conventions.md) defines it, in the section on
# CoarseNet's input.


# %% tags=["exercise"]
def grey(image):
    """Grey values (H, W) of an RGB image (H, W, 3) in [0, 1]."""
    ### BEGIN SOLUTION
    return image @ np.array([0.299, 0.587, 0.114])
    ### END SOLUTION


# %% tags=["check"]
exercise = Exercise(
    "0.1",
    "grey is a weighted sum of the three channels; the conventions give the weights.",
    "the channels are the last axis; a matrix product sums over it.",
)
picture = np.random.default_rng(0).random((4, 5, 3))
expected = sum(weight * picture[..., i] for i, weight in enumerate(lighting.LUMA))
bgr = sum(weight * picture[..., 2 - i] for i, weight in enumerate(lighting.LUMA))
exercise.equal(
    "the grey value", lambda: grey(picture), expected, {
        "the three colors count alike.": picture.mean(axis=2),
        "red and blue are exchanged; OpenCV stores them so, this image does not.": bgr,
        "the channels are the last axis.": picture.mean(axis=0),
    },
)  # fmt: skip
exercise.passed("green counts most, because the eye is most sensitive to it.")

# %% [markdown]
# ## What we did not reproduce
#
# Nothing of the paper is measured here. The seconds above are this machine's, and one
# photograph says little about speed and nothing about accuracy.

# %% [markdown]
# ## Summary
#
# 1. A notebook runs in a kernel, and the kernel's Python must have the packages.
# 2. Results depend on versions, threads, processor, model and weights; write them down.
# 3. Two implementations of one task test each other.
# 4. Compile before you measure time.
# 5. A reconstruction is one call; whether it is right is the subject of the course.

# %% [markdown]
# ## Review questions
#
# 1. Which of the printed facts belong beside a number that you publish?
# 2. Why do both backends have to agree on the *mask* exactly, but on depth only nearly?
# 3. Why is the first call of a compiled function no measure of its speed?
# 4. What would you look at first if this notebook passes here and fails elsewhere?
# 5. The weights name their training data. Why does a reader want to know?

# %% tags=["record"]
measured_on = "a portrait from an installed package"
record = repro.Recorder(output, preset, seed, data=measured_on)
record("threads", threads)
record("gpu", gpu)
for name, value in seconds.items():
    record.timing(name, value)
record("relief_mm", round(float(relief), 2))
print("wrote", record.path)

# %% [markdown]
# ## Further reading
#
# - [The learning path](index.ipynb): all chapters, with times and prerequisites.
# - [docs/conventions.md](../docs/conventions.md): frames, units, orders and signs.
# - [docs/equations.md](../docs/equations.md): which function implements which equation.
# - [JupyterLab's documentation](https://jupyterlab.readthedocs.io/): kernels, cells,
#   menus.
# - [Chapter 1](01_morphable_model_and_projection.ipynb): the morphable model and the
#   camera.
