"""Detailed 3D face reconstruction from a single photograph.

    from facerecon import Reconstructor
    face = Reconstructor.from_pretrained()("photo.jpg")
    face.save("face.glb")

The names below are loaded when first used, so `import facerecon` alone is quick.
"""

from importlib import import_module

__version__ = "0.1.0"

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
