# %% [markdown]
# # The course, chapter by chapter
#
# This course takes one paper apart and builds it again: [*Learning Detailed Face
# Reconstruction from a Single Image*](https://arxiv.org/abs/1611.05053) by Elad Richardson,
# Matan Sela, Roy Or-El and Ron Kimmel (CVPR 2017). It is meant for a master's student who
# knows linear algebra and has taken one course in deep learning. Nine chapters lead from a
# check of the installation to the measurement of errors. Each begins with something to
# look at, derives the paper's formulas, tests every step, and ends with exercises that
# check your answers.

# %% [markdown]
# | chapter | what you learn | needs | work | runs in |
# |---|---|---|---|---|
# | [0 Is everything here?](00_check_setup.ipynb) | the right kernel, versions, one reconstruction | installation | 60 min | 15 s |
# | [1 A face in 290 numbers](01_morphable_model_and_projection.ipynb) | morphable model, camera, PNCC, albedo and light | 0; PCA | 90 to 120 min | 30 s |
# | [2 Photographs of people who do not exist](02_synthetic_data.ipynb) | rendering training data, and judging it | 1 | 120 min | 1 min |
# | [3 CoarseNet](03_coarsenet.ipynb) | iterated regression, its criterion, its training, its limits | 1, 2; CNNs | 120 min | 90 s |
# | [4 A renderer with gradients](04_differentiable_rendering.ipynb) | z-buffer, barycentric weights, gradients | 1; chain rule | 90 to 120 min | 1 min |
# | [5 Lighting and albedo](05_lighting_and_albedo.ipynb) | spherical harmonics, light and albedo of a photograph | 1, 4 | 120 min | 1 min |
# | [6 FineNet](06_finenet.ipynb) | shape from shading by a network | 4, 5 | 120 min | 90 s |
# | [7 End to end](07_end_to_end.ipynb) | from the photograph to the mesh; your own photograph | 3, 6 | 90 min | 1 min |
# | [8 Evaluation](08_frgc_evaluation.ipynb) | what a table of errors measures | 1 | 90 min | 2 min |

# %% [markdown]
# **Short of time?** Three ways through:
#
# - *An afternoon on the method*: chapters 0, 1, 3 and 7.
# - *Rendering and optimization*: chapters 0, 1, 4 and 5.
# - *How to evaluate*: chapters 0, 1 and 8, then the reproductions of the paper's table and
#   figures in the folder `paper`.
#
# The chapters may be read in any order that respects the column "needs". Each can be run
# on its own; none uses results of another. "Runs in" is the time of *Run All* on two CPU
# cores, "work" includes reading and exercises.
#
# **How to work with a chapter.** Open it, choose *Run*, *Run All Cells*, and read it from the
# top. Cells that check something are part of the text: they say what must be true. In
# the exercises, replace the body of the function and run the check below it. It tells you
# what is wrong with your answer, and `exercise.hint()` in a new cell prints a hint.
# Instructors make the version without solutions with
# `python tools/make_student.py --out student`.
#
# **Where things are.** [Conventions](../docs/conventions.md): frames, units, signs.
# [Equations](../docs/equations.md): which function implements which equation of the paper.
# [Architecture](../docs/architecture.md): where to find what in the code. The paper itself
# is [at the CVF](https://openaccess.thecvf.com/content_cvpr_2017/html/Richardson_Learning_Detailed_Face_CVPR_2017_paper.html).

# %% [markdown]
# Does this kernel have the package? If the next cell fails,
# [chapter 0](00_check_setup.ipynb) says what to do.

# %% tags=["imports"]
import facerecon  # noqa: F401
