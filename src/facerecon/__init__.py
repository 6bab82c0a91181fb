"""Detailed 3D face reconstruction from a single photograph.

    from facerecon import Reconstructor
    face = Reconstructor.from_pretrained()("photo.jpg")
    face.save("face.glb")

The names below are loaded when first used, so `import facerecon` alone is quick.

Import it before torch: the OpenMP runtime reads its settings once, when torch loads it.
"""

import os
from importlib import import_module

__version__ = "0.1.0"

# Threads that spin while they wait for each other stall on a core that another program uses.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_HOME = {
    "Box": "detect",
    "Crop": "data",
    "ImageError": "data",
    "MorphableModel": "morphable_model",
    "NoFaceError": "detect",
    "Reconstruction": "reconstruction",
    "Reconstructor": "pipeline",
    "crop": "data",
    "detect_faces": "detect",
    "load_image": "data",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"facerecon.{_HOME[name]}"), name)
    raise AttributeError(f"module 'facerecon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
