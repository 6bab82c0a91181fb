"""Trained weights as float16 safetensors that carry their own model card."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from facerecon.coarsenet import CoarseNet
from facerecon.files import write_file
from facerecon.finenet import FineNet
from facerecon.messages import OneLine, cause_of
from facerecon.normalnet import NormalNet

Network = TypeVar("Network", bound=nn.Module)
"""A network whose class says how it is built from a file: `config_class`, the dataclass of its
`config`, and `sizes`, the names of whole numbers beside it that are attributes and arguments."""


class WeightsError(OneLine, ValueError):
    """A weights file is missing, damaged, or another network's; the message says what to do."""


@dataclass(frozen=True)
class ModelCard:
    """How the weights came to be."""

    task: str
    preset: str
    data: str
    samples: int
    seed: int
    hours: float
    commit: str
    config: dict
    metrics: dict
    started_from: str = "random weights"
    effective_batch: int | None = None  # samples per optimizer step, of all processes together
    processes: int = 1
    command: str = ""

    @classmethod
    def of(
        cls, run, preset: str, metrics: dict[str, float], started_from: Path | None = None
    ) -> "ModelCard":
        """The card of an `engine.Run`, which may have begun with the weights of an earlier one."""
        return cls(
            task=run.task.name,
            preset=preset,
            data=run.task.data_description,
            samples=run.samples,
            seed=run.task.config.seed,
            hours=round(run.seconds / 3600, 3),
            commit=commit(),
            config=asdict(run.task.config),
            metrics={name: round(value, 5) for name, value in metrics.items()},
            effective_batch=run.task.effective_batch,
            processes=run.processes.count,
            **({"started_from": lineage(started_from)} if started_from else {}),
        )


def lineage(path: Path) -> str:
    """For the card of a network that starts with these weights: how they were trained."""
    card = read_card(path)
    before = card.get("started_from", "random weights")
    return f"weights that had seen {card['samples']:,} samples, starting from {before}"


def commit() -> str:
    """The commit of the repository that this package runs from, "unknown" outside of one.

    "-dirty" is added where what decides numbers was changed since: not for results or docs.
    """
    # `describe --dirty` would write: it refreshes the index, and leaves its lock behind if killed.
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    name = ["describe", "--always", "--abbrev=12"]
    places = [f":(top){name}" for name in ("src", "notebooks", "data_scripts", "benchmarks/*.py")]
    changes = ["status", "--porcelain", "--untracked-files=no", "--", *places]
    try:
        found, changed = (
            subprocess.run([*git, *ask], capture_output=True, text=True, check=True, timeout=10)
            for ask in (name, changes)
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def save_weights(path: str | Path, network: nn.Module, card: ModelCard) -> None:
    """Write a network in float16 with its configuration and card, atomically.

    Raises:
        WeightsError: the folder cannot be written.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    metadata = {
        "format": "facerecon-weights/1",
        "network": type(network).__name__,
        "config": json.dumps(asdict(network.config)),
        "card": json.dumps(asdict(card)),
        "sha256": digest_of(tensors),
        **{name: str(getattr(network, name)) for name in network.sizes},
    }
    try:
        write_file(Path(path), save(tensors, metadata))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: the weights could not be written ({error})") from error


def load_weights(kind: type[Network], path: str | Path | None, asset: str) -> Network:
    """A network in eval mode from a file.

    Args:
        kind: class of the network. path: the file; None: the asset of this name that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    path = Path(path) if path is not None else shipped(asset)
    tensors, metadata = _read(path)
    if metadata.get("format") != "facerecon-weights/1" or metadata.get("network") != kind.__name__:
        found = metadata.get("network", "no facerecon network")
        raise WeightsError(f"{path}: holds {found}, expected {kind.__name__} written by facerecon")
    try:
        values = json.loads(metadata["config"])
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        sizes = {name: int(metadata[name]) for name in kind.sizes}
        network = kind(**sizes, config=kind.config_class(**values))
    except Exception as error:  # of JSON, or of a network that is no network
        cause = cause_of(error)
        raise WeightsError(
            f"{path}: its {kind.__name__} configuration cannot be read ({cause})"
        ) from error
    _fill(path, network, tensors)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file."""
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file. Train them with `facerecon train`, or leave the "
            "option out to use those that ship."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:  # of safetensors, torch or the disk
        cause = cause_of(error)
        raise WeightsError(f"{path}: not a readable safetensors file ({cause})") from error
    # Files that older versions wrote carry no checksum.
    if metadata.get("sha256", digest := digest_of(tensors)) != digest:
        raise WeightsError(f"{path}: its weights were altered or damaged; copy the file again")
    return tensors, metadata


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _fill(path: Path, network: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    if any(not torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point()):
        raise WeightsError(f"{path}: contains NaN or infinite weights")
    try:
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise WeightsError(
            f"{path}: the weights do not fit their network's configuration ({reason})"
        ) from error


def shipped(name: str) -> Path:
    """Path of an asset of the package."""
    return Path(str(resources.files("facerecon") / "assets" / name))


def load_coarsenet(path: str | Path | None = None) -> CoarseNet:
    """CoarseNet in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return load_weights(CoarseNet, path, "coarsenet.safetensors")


def load_finenet(path: str | Path | None = None) -> FineNet:
    """FineNet in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return load_weights(FineNet, path, "finenet.safetensors")


def load_normalnet(path: str | Path | None = None) -> NormalNet:
    """NormalNet in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return load_weights(NormalNet, path, "normalnet.safetensors")


def read_card(path: str | Path) -> dict:
    """The model card inside a weights file.

    Raises:
        WeightsError: missing or damaged file.
    """
    with suppress(WeightsError, KeyError, ValueError):
        return json.loads(_read(Path(path))[1]["card"])
    raise WeightsError(f"{path}: no model card found; is it a facerecon weights file?")


def _batch_lines(card: dict) -> list[str]:
    if card.get("effective_batch") is None:
        return []
    return [f"- effective batch {card['effective_batch']}, processes: {card['processes']}"]


def _command(card: dict) -> str:
    task = card["task"].replace("-supervised", " --supervised")
    task = task.replace("-mixed", " --supervised --photos FOLDER")
    return card.get("command") or f"facerecon train {task} --preset {card['preset']}"


def write_card(path: str | Path) -> Path:
    """Write the model card of a weights file as Markdown beside it; returns the card's path."""
    path = Path(path)
    card = read_card(path)
    lines = [
        f"# {path.stem}",
        "",
        f"- trained by: `{_command(card)}`",
        f"- data: {card['data']}",
        f"- samples seen: {card['samples']:,} in {card['hours']} h, seed {card['seed']}, "
        f"commit {card['commit']}",
        *_batch_lines(card),
        f"- started from {card.get('started_from', 'random weights')}",
        "- stored as float16 safetensors; averaged weights",
        "",
        "| measured at export | value |",
        "|---|---|",
        *(f"| {name} | {value:g} |" for name, value in card["metrics"].items()),
        "",
        "Configuration:",
        "",
        "```json",
        json.dumps(card["config"], indent=2),
        "```",
        "",
    ]
    target = path.with_suffix(".md")
    target.write_text("\n".join(lines))
    return target
