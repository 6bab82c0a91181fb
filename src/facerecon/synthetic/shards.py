"""A fixed set of synthetic faces on disk, in shards: written resumably, verified, read at random.

A shard is a safetensors file with `image` (N, S, S) uint8 and `r` (N, 290) float32, r_gt. The
estimate r_t of Eq. (3) is not stored: it is sampled whenever a face is used. Nothing is
compressed: that would save 30 % of the space, but cost the reading of single faces from anywhere in
a file. `manifest.json` says what was rendered, and the SHA-256 of every finished shard.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from facerecon.files import OutputError, remove_partial, require_writable, write_file
from facerecon.imaging import to_bytes
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.world import SyntheticWorld
from facerecon.weights import commit

FORMAT = "facerecon-faces/1"
MANIFEST = "manifest.json"
BLOCK = 32
"""Faces rendered at once. Face i is image i % BLOCK of block i // BLOCK, which depends on the seed
alone: neither on how many faces and shards there are nor on interruptions."""


class DatasetError(OneLine, ValueError):
    """A folder is not a usable data set, or not the expected one; the message names the cure."""


def module_digest(module: nn.Module) -> str:
    """SHA-256 of the arrays of a morphable model or a network."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def config_digest(config: SyntheticConfig) -> str:
    """SHA-256 of a configuration's values."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()


def write_shards(
    folder: Path,
    world: SyntheticWorld,
    count: int,
    shards: int,
    seed: int = 0,
    quiet: bool = False,
) -> dict:
    """Render `count` faces into a folder, or finish what an earlier same call began.

    Shards that are there and have the right checksum are kept, all others are rendered. The faces
    are functions of (seed, index), so the files do not depend on interruptions.

    Args:
        folder: for the shards and the manifest; created if missing.

    Returns:
        The manifest.

    Raises:
        DatasetError: the folder holds another data set, or was begun by a program that renders
        other
            faces from the same seed.
        OutputError: the disk is full or the folder cannot be written; finished shards stay.
    """
    if not 1 <= shards <= count:
        raise DatasetError(f"{count} faces in {shards} shards: needs 1 <= shards <= faces")
    require_writable(folder)
    first = _block(world, seed, 0)
    wanted = {
        "format": FORMAT,
        "count": count,
        "shards": shards,
        "seed": seed,
        "config_sha256": config_digest(world.config),
        "model_sha256": module_digest(world.model),
        "first_block_sha256": hashlib.sha256(_serialized(*first)).hexdigest(),
    }
    manifest = {
        **wanted,
        "config": asdict(world.config),
        "commit": commit(),
        "torch": torch.__version__,
        "files": {},
    }
    if (folder / MANIFEST).exists():
        manifest = _read_manifest(folder)
        for key, value in wanted.items():
            if manifest.get(key) != value:
                raise DatasetError(
                    f"{folder}: holds another data set ({key} {manifest.get(key)} instead of"
                    f" {value}); choose another folder or delete this one"
                )
    remove_partial(folder)
    missing = [k for k in range(shards) if _fault(folder, manifest, k)]
    bounds = [k * count // shards for k in range(shards + 1)]
    missing_faces = sum(bounds[k + 1] - bounds[k] for k in missing)
    _require_space(folder, missing_faces * (first[0][0].numel() + 4 * first[1].shape[1]))
    with tqdm(
        total=count, initial=count - missing_faces, desc="faces", unit="face", disable=quiet
    ) as progress:
        for k in missing:
            parts = []
            for image, r in _faces(world, seed, bounds[k], bounds[k + 1]):
                parts.append((image, r))
                progress.update(len(r))
            data = _serialized(*(torch.cat(part) for part in zip(*parts, strict=True)))
            record = {
                "count": bounds[k + 1] - bounds[k],
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            manifest["files"] = dict(sorted({**manifest["files"], _name(k): record}.items()))
            try:
                write_file(folder / _name(k), data)
                write_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
            except OutputError as error:
                raise OutputError(
                    f"{error}; the finished shards stay, give the same command again when that is"
                    " mended"
                ) from None
    return manifest


def verify_shards(folder: Path) -> list[str]:
    """What is wrong with a data set, one line per shard; empty if nothing is.

    Raises:
        DatasetError: the folder is not a data set.
    """
    manifest = _read_manifest(folder)
    faults = (_fault(folder, manifest, k) for k in range(manifest["shards"]))
    return [fault for fault in faults if fault]


class StoredFaces(Dataset):
    """Shuffled batches of a data set without end; each a function of (seed, index) alone.

    Every epoch uses each face at most once, in an order of its own; what does not fill a batch
    at the end of an epoch is left out. Item i is (image (B, 1, S, S) in [0, 1], r (B, 290)).

    Args:
        folder: of the shards, which are all verified first.
        batch: faces per batch.
        seed: of the orders.

    Raises:
        DatasetError: not a data set, shards are missing or damaged, or too few faces.
    """

    def __init__(self, folder: Path, batch: int, seed: int = 0):
        self.folder, self.batch, self.seed = Path(folder), batch, seed
        self.manifest = _read_manifest(self.folder)
        faults = verify_shards(self.folder)
        if faults:
            raise DatasetError(
                f"{faults[0]} ({len(faults)} of {self.manifest['shards']} shards are unusable);"
                " give the same `facerecon data write` again to mend that"
            )
        files = self.manifest["files"]
        counts = [files[_name(k)]["count"] for k in range(self.manifest["shards"])]
        self.count, self.ends = sum(counts), np.cumsum(counts)
        self.size = self.manifest["config"]["size"]
        if self.count < batch:
            raise DatasetError(f"{folder}: {self.count} faces do not fill a batch of {batch}")
        self._order = (-1, np.arange(0))
        self._open: dict[int, safe_open] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}  # every process opens the files for itself

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self.count // self.batch

    def __getitem__(
        self, index: int
    ) -> tuple[Float[Tensor, "batch 1 size size"], Float[Tensor, "batch n"]]:
        epoch, number = divmod(index, len(self))
        if self._order[0] != epoch:
            rng = np.random.default_rng(mixed_seed("order", self.seed, epoch))
            self._order = (epoch, rng.permutation(self.count))
        chosen = self._order[1][number * self.batch : (number + 1) * self.batch]
        faces = [self.face(int(i)) for i in chosen]
        image, r = (torch.stack(part) for part in zip(*faces, strict=True))
        return image[:, None].float() / 255, r

    def face(self, index: int) -> tuple[UInt8[Tensor, "size size"], Float[Tensor, " n"]]:
        """One face as it is stored."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / _name(shard), framework="pt")
        place = index - (int(self.ends[shard - 1]) if shard else 0)
        image, r = (self._open[shard].get_slice(name)[place] for name in ("image", "r"))
        return image, r

    @property
    def description(self) -> str:
        """What the faces are, for a model card."""
        seed, size = self.manifest["seed"], self.size
        return f"{self.count:,} stored synthetic photographs of {size} pixels (seed {seed})"

    def require_model(self, model: MorphableModel) -> None:
        """Check that the faces are those of this morphable model.

        Raises:
            DatasetError: they are another's.
        """
        ours, theirs = module_digest(model), self.manifest["model_sha256"]
        if ours != theirs:
            raise DatasetError(
                f"{self.folder}: made with another morphable model ({theirs[:12]}) than the one in"
                f" training ({ours[:12]}); pass that one with --model, or write the data set again"
            )


def _faces(
    world: SyntheticWorld, seed: int, start: int, stop: int
) -> Iterator[tuple[UInt8[Tensor, "n size size"], Float[Tensor, "n r"]]]:
    """The faces start .. stop - 1, in pieces of at most a block."""
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        used = slice(max(start - block * BLOCK, 0), min(stop - block * BLOCK, BLOCK))
        image, r = _block(world, seed, block)
        yield image[used], r[used]


@torch.no_grad()
def _block(world: SyntheticWorld, seed: int, block: int) -> tuple[Tensor, Tensor]:
    image, r = world.photographs(BLOCK, world.generator(mixed_seed("data", seed, block)))
    return torch.from_numpy(to_bytes(image[:, 0].cpu().numpy())), r.cpu()


def _serialized(image: UInt8[Tensor, "n size size"], r: Float[Tensor, "n r"]) -> bytes:
    # One entry of metadata, because the order of several is not fixed.
    tensors = {"image": image.contiguous(), "r": r.contiguous()}
    return safetensors.torch.save(tensors, {"format": FORMAT})


def _name(shard: int) -> str:
    return f"shard_{shard:05d}.safetensors"


def _read_manifest(folder: Path) -> dict:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({(error.strerror or 'error').lower()}); is {folder} a folder"
            " that `facerecon data write` made?"
        ) from None
    except ValueError:
        raise DatasetError(f"{path}: damaged; delete the folder and write it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DatasetError(f"{path}: its format is not {FORMAT}; write the data set again")
    return manifest


def _fault(folder: Path, manifest: dict, shard: int) -> str | None:
    """Why a shard cannot be used; None if it can."""
    path, record = folder / _name(shard), manifest["files"].get(_name(shard))
    if record is None or not path.is_file():
        return f"{path}: not written yet"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if digest == record["sha256"] else f"{path}: damaged (its checksum differs)"


def _require_space(folder: Path, needed: int) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OutputError(
            f"{folder}: {needed / 1e9:.1f} GB are to be written, but only {free / 1e9:.1f} GB are"
            " free; choose another folder or fewer faces"
        )
