"""The methods of a comparison, by name: callables from a photograph to its depth.

A method takes RGB (H, W, 3) in [0, 1] and gives an `Estimate`, or only the depth map: mm on the
photograph's pixels, larger is nearer, NaN outside the face. It raises a ValueError when it finds
no face. `register` adds one; any importable callable can be named as "module:callable", too.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from facerecon.methods.compared import Compared
from facerecon.methods.estimate import Estimate
from facerecon.methods.face_mesh import FaceMesh, network_files
from facerecon.methods.kazemi2014 import PREDICTOR
from facerecon.on_photo import model_on_photo
from facerecon.pipeline import Reconstructor
from facerecon.reconstruction import Reconstruction
from facerecon.weights import read_card, shipped

Image = Float[np.ndarray, "height width 3"]
Method = Callable[[Image], Estimate | np.ndarray]

MORPHABLE_MODEL = "morphable_model.npz"

_TITLES = {
    "ours (shape)": "ours, shape from normals",
    "ours (finenet)": "ours, FineNet",
    "ours (coarse)": "ours, coarse",
    "kemelmacher2011": "[20] Kemelmacher 2011",
    "richardson2016": "[34] Richardson 2016",
    "zhu2015": "[47] Zhu 2015",
    "mediapipe": "MediaPipe",
}


@dataclass(frozen=True)
class MethodSettings:
    """What our own methods are built from; None: the weights that ship."""

    coarse: str | None = None
    fine: str | None = None  # FineNet's
    size: int = 200
    device: str = "cpu"
    normals: str | None = None


@dataclass(frozen=True)
class _Entry:
    build: Callable[[MethodSettings], Method]
    files: Callable[[MethodSettings], Sequence[Path]]
    optional: bool = False


_METHODS: dict[str, _Entry] = {}


def register(
    name: str,
    build: Callable[[MethodSettings], Method],
    files: Callable[[MethodSettings], Sequence[Path]] = lambda settings: (),
    optional: bool = False,
) -> None:
    """Add a method.

    Args:
        name: as in the table.
        build: makes the callable, once per process.
        files: what its results depend on beside the code: weights, models.
        optional: needs a package that facerecon does not bring; compared only when named.

    Raises:
        ValueError: the name is taken.
    """
    if name in _METHODS:
        raise ValueError(f"there is already a method {name!r}")
    _METHODS[name] = _Entry(build, files, optional)


def method_names() -> tuple[str, ...]:
    """The methods that can be compared in every installation."""
    return tuple(name for name, entry in _METHODS.items() if not entry.optional)


def method_title(name: str) -> str:
    """How a picture labels a method: with the paper's number, where it has one."""
    return _TITLES.get(name, name)


def check_methods(names: Sequence[str]) -> None:
    """Raise unless all these methods exist, each named once.

    Raises:
        ValueError: with the names that do.
    """
    unknown = [name for name in names if name not in _METHODS and ":" not in name]
    if unknown or not names or len(set(names)) < len(names):
        what = f"unknown method {unknown[0]!r}" if unknown else "name each method once"
        known = ", ".join(map(repr, _METHODS))
        raise ValueError(f"{what}; there are {known}, and module:callable")


@lru_cache(maxsize=16)
def build_method(name: str, settings: MethodSettings) -> Callable[[Image], Estimate]:
    """A method ready to be called; kept for the next time.

    Raises:
        ValueError: an unknown name.
        WeightsError: its weights cannot be read.
    """
    check_methods([name])
    method = _METHODS[name].build(settings) if name in _METHODS else _imported(name)

    def estimate(image: Image) -> Estimate:
        result = method(image)
        return result if isinstance(result, Estimate) else Estimate(result)

    return estimate


def method_card(name: str, settings: MethodSettings) -> dict[str, str]:
    """What a method's numbers depend on: `hash` of its files and settings, and their training.

    Raises:
        ValueError: an unknown name.
        WeightsError: a file without model card.
    """
    check_methods([name])
    digest = hashlib.sha256(f"{name} {settings.size}".encode())
    card: dict[str, str] = {}
    if name in _METHODS:
        files = _METHODS[name].files(settings)
    else:
        _imported(name)
        source = getattr(import_module(name.partition(":")[0]), "__file__", None)
        files = [Path(source)] if source and Path(source).is_file() else []
    for path in files:
        digest.update(path.read_bytes())
        if path.suffix == ".safetensors":
            training = read_card(path)
            text = f"{training['preset']}, {training['samples']} samples, seed {training['seed']}"
            card[training["task"]] = text
    return {"hash": digest.hexdigest()[:16], **card}


def _imported(name: str) -> Method:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"method {name!r} cannot be imported ({error})") from None


class _Ours:
    """Our pipeline; methods that differ only in what they take from it share its last result."""

    def __init__(self, settings: MethodSettings, refine: str | None) -> None:
        fine = settings.normals if refine == "normals" else settings.fine
        self._reconstructor = Reconstructor.from_pretrained(
            settings.coarse, fine, settings.device, size=settings.size, refine=refine
        )
        self._image: np.ndarray | None = None
        self._face: Reconstruction | None = None

    def face(self, image: Image) -> Reconstruction:
        if self._face is None or image is not self._image:
            self._face = None
            self._face, self._image = self._reconstructor(image), image
        return self._face

    def fine(self, image: Image) -> Estimate:
        face = self.face(image)
        return self._estimate(face, face.depth_mm)

    def coarse(self, image: Image) -> Estimate:
        face = self.face(image)
        return self._estimate(face, face.coarse_depth_mm)

    def mean_face(self, image: Image) -> Estimate:
        """The mean face in CoarseNet's pose: what knowing nobody's shape costs."""
        face = self.face(image)
        depth = self._model_depth(face, np.zeros_like(face.coefficients))
        return Estimate(depth, face.mm_per_pixel)

    def _estimate(self, face: Reconstruction, depth: np.ndarray) -> Estimate:
        on_face = np.isfinite(self._model_depth(face, face.coefficients))
        return Estimate(np.where(on_face, depth, np.nan), face.mm_per_pixel)

    def _model_depth(self, face: Reconstruction, coefficients: np.ndarray) -> np.ndarray:
        model = self._reconstructor.model
        r = torch.from_numpy(np.concatenate([coefficients, face.pose]))[None].to(model.mean)
        return model_on_photo(model, r, face.crop, face.mask.shape)


@lru_cache(maxsize=4)
def _ours(settings: MethodSettings, refine: str | None = "normals") -> _Ours:
    return _Ours(settings, refine)


@lru_cache(maxsize=1)
def _compared() -> Compared:
    return Compared()


def _compared_files(settings: MethodSettings) -> list[Path]:
    return [shipped(MORPHABLE_MODEL), shipped(PREDICTOR)]


def _richardson_files(settings: MethodSettings) -> list[Path]:
    return [*_compared_files(settings), shipped("alignednet.safetensors")]


def _coarse_files(settings: MethodSettings) -> list[Path]:
    coarse = Path(settings.coarse) if settings.coarse else shipped("coarsenet.safetensors")
    return [coarse, shipped(MORPHABLE_MODEL)]


def _fine_files(settings: MethodSettings) -> list[Path]:
    fine = Path(settings.fine) if settings.fine else shipped("finenet.safetensors")
    return [*_coarse_files(settings), fine]


def _normals_files(settings: MethodSettings) -> list[Path]:
    normals = Path(settings.normals) if settings.normals else shipped("normalnet.safetensors")
    return [*_coarse_files(settings), normals]


# Ours with our detail stage, the model's shape below it, with the paper's stage, and without any.
register("ours", lambda settings: _ours(settings).fine, _normals_files)
register("ours (shape)", lambda settings: _ours(settings).coarse, _normals_files)
register("ours (finenet)", lambda settings: _ours(settings, "finenet").fine, _fine_files)
register("ours (coarse)", lambda settings: _ours(settings, None).coarse, _coarse_files)
register("mean face", lambda settings: _ours(settings, None).mean_face, _coarse_files)
# The methods that the paper compares with, from their publications (docs/methods.md).
register("kemelmacher2011", lambda settings: _compared().kemelmacher2011, _compared_files)
register("richardson2016", lambda settings: _compared().richardson2016, _richardson_files)
register("zhu2015", lambda settings: _compared().zhu2015, _compared_files)
# An optional peer that the paper does not compare with.
register("mediapipe", lambda settings: FaceMesh(), lambda settings: network_files(), optional=True)
