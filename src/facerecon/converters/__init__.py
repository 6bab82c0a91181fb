"""Converters of other morphable models into facerecon's file format.

Basel Face Model 2009, 2017 and 2019, FLAME 2020 and 2023, ICT-FaceKit and GNM Head v3. What each
format lacks is carried over from the default model; docs/models.md says what.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

KINDS = ("bfm", "flame", "gnm", "ict")
# What to look for when a folder is given.
_PATTERNS = {
    "bfm": ("01_MorphableModel.mat", "model20*.h5"),
    "flame": ("generic_model.pkl", "flame2023*.pkl"),
    "gnm": ("gnm_head.npz", "gnm/shape/data/versions/v3_0/gnm_head.npz", "v3_0/gnm_head.npz"),
}


def convert(source: str | Path, out: str | Path, kind: str | None = None) -> Path:
    """Convert a model of another format into a file that `MorphableModel.load` reads.

    Args:
        source: the model's file or folder.
        out: file to write; `.npz` is not added. Nothing is left there when something fails.
        kind: one of KINDS; found from the content if None.

    Raises:
        FileNotFoundError: a file is missing. ModelFileError: it is truncated or of another format.
        Both say which file is expected and where it is to be had.
    """
    from facerecon.converters.complete import complete
    from facerecon.morphable_model import MorphableModel, write_arrays

    out = Path(out)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder; make it first")
    kind, path = find(Path(source), kind)
    arrays, provenance = complete(_reader(kind).read(path), MorphableModel.default())
    write_arrays(out, arrays, provenance)
    return out


def find(source: Path, kind: str | None = None) -> tuple[str, Path]:
    """The kind of a model, and the file (ICT-FaceKit: the folder) that holds it.

    Raises:
        FileNotFoundError: there is nothing. ModelFileError: it is none of the known formats, or
        there are several.
    """
    from facerecon.morphable_model import ModelFileError

    kinds = (kind,) if kind else KINDS
    if source.is_dir():
        found = [(name, path) for name in kinds for path in _candidates(source, name)]
    elif source.is_file():
        found = [(name, source) for name in [kind or _kind_of(source)] if name]
    else:
        raise FileNotFoundError(f"{source}: no such file or folder; {_help(kinds)}")
    if not found:
        raise ModelFileError(f"{source}: holds no model of a known format; {_help(kinds)}")
    if len(found) > 1:
        names = ", ".join(path.name for _, path in found)
        raise ModelFileError(f"{source}: holds several models ({names}); name one of them")
    name, path = found[0]
    return name, path.parent if name == "ict" and path.is_file() else path


def _reader(kind: str) -> ModuleType:
    from facerecon.converters import bfm, flame, gnm, ict

    return {"bfm": bfm, "flame": flame, "gnm": gnm, "ict": ict}[kind]


def _help(kinds: Sequence[str]) -> str:
    from facerecon.converters.source import WITHOUT

    families = [_reader(kind).FAMILY for kind in kinds]
    known = "; or ".join(f"{family.file}, to be had at {family.page}" for family in families)
    return f"expected {known}; {WITHOUT}"


def _candidates(folder: Path, kind: str) -> list[Path]:
    if kind == "ict":
        found = [p.parent for p in folder.glob("FaceXModel/*.obj")]
        return sorted({*found, *(p.parent for p in folder.glob("identity*.obj"))})
    return [path for pattern in _PATTERNS[kind] for path in sorted(folder.glob(pattern))]


def _kind_of(path: Path) -> str | None:
    """By the first bytes; an OBJ file, which has none, by its name."""
    with open(path, "rb") as stream:
        start = stream.read(16)
    if start.startswith((b"MATLAB 5.0", b"\x89HDF")):
        return "bfm"
    if start.startswith(b"PK"):
        return "gnm"
    if start.startswith((b"\x80", b"(d")):
        return "flame"
    return "ict" if path.name == "generic_neutral_mesh.obj" else None
