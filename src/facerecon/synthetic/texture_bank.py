"""A bank of skin textures made from photographs: its file, and sampling from it."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from facerecon.files import read_npz, write_file
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel

FORMAT = "facerecon-textures/1"


class TextureBankError(OneLine, ValueError):
    """A file is not a usable bank of textures."""


@dataclass(frozen=True, eq=False)
class TextureBank:
    """Albedo textures in a model's chart (`chart.Chart`), one for each photograph.

    Attributes:
        albedo: RGB as displayed, complete over the chart, 0 outside it.
        known: the texels that the photograph shows; the others are filled in.
        names: of the photographs. licence: under which those are published.
        topology: `topology_digest` of the model whose chart this is.
        weights: digest of the network that registered the photographs.
    """

    albedo: UInt8[np.ndarray, "n texels texels 3"]
    known: Bool[np.ndarray, "n texels texels"]
    names: tuple[str, ...]
    licence: str
    topology: str
    weights: str

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: str | Path) -> None:
        """Write the bank, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        data = io.BytesIO()
        np.savez_compressed(
            data,
            format=np.array(FORMAT),
            albedo=self.albedo,
            known=np.packbits(self.known, axis=2),
            names=np.array(self.names),
            licence=np.array(self.licence),
            topology=np.array(self.topology),
            weights=np.array(self.weights),
        )
        write_file(Path(path), data.getvalue())

    @classmethod
    def load(cls, path: str | Path, model: MorphableModel) -> "TextureBank":
        """Read a bank that was made in this model's chart.

        Raises:
            FileNotFoundError: there is no such file.
            TextureBankError: the file is damaged, not a bank, or of another chart.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such texture bank; make one with data_scripts/make_texture_bank.py"
            )
        try:
            arrays = read_npz(path)
            if str(arrays.get("format", "missing")) != FORMAT:
                raise ValueError(f"its `format` is not {FORMAT}")
            albedo = arrays["albedo"]
            if albedo.ndim != 4 or albedo.dtype != np.uint8 or albedo.shape[3] != 3:
                raise ValueError(f"`albedo` has type {albedo.dtype} and shape {albedo.shape}")
            names = tuple(arrays["names"].tolist())
            known = np.unpackbits(arrays["known"], axis=2, count=albedo.shape[2]).astype(bool)
            if known.shape != albedo.shape[:3] or len(names) != len(albedo) or not names:
                raise ValueError("its arrays do not fit each other")
            text = [str(arrays[name]) for name in ("licence", "topology", "weights")]
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise TextureBankError(
                f"{path}: not a readable texture bank ({error}); make it again"
            ) from error
        bank = cls(albedo, known, names, *text)
        if bank.topology != topology_digest(model):
            raise TextureBankError(
                f"{path}: made in the chart of another model; make it again with this one"
            )
        return bank


def topology_digest(model: MorphableModel) -> str:
    """SHA-256 of a model's triangles and texture coordinates, which fix its chart."""
    digest = hashlib.sha256()
    for array in (model.triangles, model.uv_triangles, model.uv, model.mirror):
        digest.update(array.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
