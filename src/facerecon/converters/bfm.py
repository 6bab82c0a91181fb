"""Basel Face Model: the 2009 .mat file, and the .h5 files of 2009, 2017 and 2019."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from facerecon.converters.source import Family, SourceModel

FAMILY = Family(
    kind="bfm",
    file="01_MorphableModel.mat (2009), model2017-1_*.h5 (2017) or model2019_*.h5 (2019)",
    page="https://faces.dmi.unibas.ch/bfm/",
    licence="after registration with the University of Basel, non-commercial, not to be passed on",
)
MICROMETERS = 1e-3  # mm, of the 2009 .mat file; the .h5 files are in mm
MAT, HDF5 = b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n"
ARRAYS_2009 = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")


def read(path: Path) -> SourceModel:
    """Read a Basel Face Model, told apart by its content.

    Raises:
        ModelFileError: not one of the files above, or truncated.
        ImportError: the package h5py, which .h5 files need, is not installed.
    """
    with open(path, "rb") as stream:
        start = stream.read(16)
    if start.startswith(MAT):
        return _read_2009(path)
    if start.startswith(HDF5):
        return _read_h5(path)
    raise FAMILY.error(path, "neither a MATLAB 5 nor an HDF5 file")


def _read_2009(path: Path) -> SourceModel:
    try:
        file = loadmat(path, variable_names=ARRAYS_2009)
        mean, basis, std, color, colors, color_std, corners = (
            np.asarray(file[name], np.float32) for name in ARRAYS_2009
        )
        n = mean.size // 3
        return SourceModel(
            name="Basel Face Model 2009",
            family=FAMILY,
            files=(path,),
            vertices=mean.reshape(n, 3).astype(np.float64) * MICROMETERS,
            triangles=corners.astype(np.int64) - 1,
            # shapeEV and texEV hold standard deviations, in spite of their name.
            identity=_modes(basis, std.ravel() * MICROMETERS, n),
            expression=np.zeros((0, n, 3), np.float32),
            expression_names=(),
            albedo=(color.reshape(n, 3) / 255, _modes(colors, color_std.ravel() / 255, n)),
        )
    except KeyError as error:
        raise FAMILY.error(path, f"the array {error} is missing") from None
    except (ValueError, TypeError, OSError, EOFError, MatReadError) as error:
        raise FAMILY.error(path, f"damaged or truncated ({error})") from error


def _read_h5(path: Path) -> SourceModel:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{path}: .h5 files need the package h5py; pip install "facerecon[models]"'
        ) from error
    try:
        with h5py.File(path, "r") as file:
            mean, identity = _component(file, "shape")
            color, colors = _component(file, "color")
            corners = np.asarray(file["shape/representer/cells"], np.int64)
            if "expression" in file:
                shift, expression = _component(file, "expression")
                mean = mean + shift
            else:
                expression = np.zeros((0, *mean.shape), np.float32)
    except KeyError as error:
        raise FAMILY.error(path, f"an array is missing ({error.args[0]})") from None
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise FAMILY.error(path, f"damaged or truncated ({error})") from error
    if corners.shape[1] != 3:
        corners = corners.T
    year = next((year for year in ("2009", "2017", "2019") if year in path.name), "")
    return SourceModel(
        name=f"Basel Face Model {year}".strip(),
        family=FAMILY,
        files=(path,),
        vertices=mean,
        triangles=corners,
        identity=identity,
        expression=expression,
        expression_names=[f"expression_{i:03d}" for i in range(len(expression))],
        albedo=(color, colors),
    )


def _component(file, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean (v, 3) and basis per standard deviation (n, v, 3) of one of the file's models."""
    mean = np.asarray(file[f"{name}/model/mean"], np.float64).reshape(-1, 3)
    std = np.sqrt(np.asarray(file[f"{name}/model/pcaVariance"], np.float32).ravel())
    basis = np.asarray(file[f"{name}/model/pcaBasis"], np.float32)
    return mean, _modes(basis, std, len(mean))


def _modes(columns: np.ndarray, std: np.ndarray, n: int) -> np.ndarray:
    """(modes, n, 3) displacements per standard deviation from unit columns (3 n, modes)."""
    if columns.shape != (3 * n, len(std)):
        raise ValueError(f"a basis of shape {columns.shape} for {n} vertices, {len(std)} modes")
    return (columns * std).T.reshape(len(std), n, 3)
