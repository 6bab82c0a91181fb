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
    "Box": "detection.detect",
    "Crop": "imaging",
    "ImageError": "imaging",
    "MorphableModel": "morphable_model",
    "NoFaceError": "detection.detect",
    "Reconstruction": "reconstruction",
    "Reconstructor": "pipeline",
    "crop": "imaging",
    "detect_faces": "detection.detect",
    "load_image": "imaging",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"facerecon.{_HOME[name]}"), name)
    raise AttributeError(f"module 'facerecon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
