"""Trained weights as float16 safetensors that carry their own model card."""

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from facerecon.coarsenet import CoarseNet
from facerecon.config import CoarseNetConfig, DetectionNetConfig, FineNetConfig
from facerecon.detection.network import DetectionNet
from facerecon.finenet import FineNet
from facerecon.methods.aligned_net import AlignedNet
from facerecon.normalnet import NormalNet, NormalNetConfig

_CONFIGS = {
    "CoarseNet": CoarseNetConfig,
    "FineNet": FineNetConfig,
    "AlignedNet": CoarseNetConfig,
    "DetectionNet": DetectionNetConfig,
    "NormalNet": NormalNetConfig,
}

_Network = TypeVar("_Network", CoarseNet, AlignedNet, FineNet, DetectionNet, NormalNet)
_REGRESSORS = CoarseNet, AlignedNet  # built for a number of coefficients


class WeightsError(ValueError):
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
    effective_batch: int | None = None  # samples per optimiser step, of all processes together
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
    """What a network that starts with these weights owes to earlier training, for its card."""
    card = read_card(path)
    before = card.get("started_from", "random weights")
    return f"weights that had seen {card['samples']:,} samples, starting from {before}"


def commit() -> str:
    """The commit of the repository that this package runs from, "unknown" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            [*command, "--abbrev=12"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def save_weights(path: str | Path, network: nn.Module, card: ModelCard) -> None:
    """Write a network in float16 with its configuration and card, atomically.

    Raises:
        WeightsError: the folder cannot be written.
    """
    path = Path(path)
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    metadata = {
        "format": "facerecon-weights/1",
        "network": type(network).__name__,
        "config": json.dumps(asdict(network.config)),
        "card": json.dumps(asdict(card)),
    }
    if isinstance(network, _REGRESSORS):
        metadata["n_coefficients"] = str(network.n_coefficients)
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise WeightsError(f"{path}: the weights could not be written ({error})") from error


def _read(path: Path, expected: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file. Train them with `facerecon train`, or leave the "
            "option out to use those that ship."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if metadata.get("format") != "facerecon-weights/1" or metadata.get("network") != expected:
        found = metadata.get("network", "no facerecon network")
        raise WeightsError(f"{path}: holds {found}, expected {expected} written by facerecon")
    return tensors, metadata


def _config(path: Path, metadata: dict[str, str], expected: str):
    try:
        values = json.loads(metadata["config"])
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return _CONFIGS[expected](**values)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: its {expected} configuration cannot be read ({error})"
        ) from error


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
    return _load(CoarseNet, path, "coarsenet.safetensors")


def load_alignednet(path: str | Path | None = None) -> AlignedNet:
    """The compared network of Richardson et al. 2016 in eval mode, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return _load(AlignedNet, path, "alignednet.safetensors")


def load_finenet(path: str | Path | None = None) -> FineNet:
    """FineNet in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return _load(FineNet, path, "finenet.safetensors")


def load_normalnet(path: str | Path | None = None) -> NormalNet:
    """NormalNet in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return _load(NormalNet, path, "normalnet.safetensors")


def load_detector(path: str | Path | None = None) -> DetectionNet:
    """The face detector's network in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return _load(DetectionNet, path, "detector.safetensors")


def _load(kind: type[_Network], path: str | Path | None, asset: str) -> _Network:
    path = Path(path) if path is not None else shipped(asset)
    tensors, metadata = _read(path, kind.__name__)
    numbers = (_n_coefficients(path, metadata),) if issubclass(kind, _REGRESSORS) else ()
    network = kind(*numbers, _config(path, metadata, kind.__name__))
    _fill(path, network, tensors)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _n_coefficients(path: Path, metadata: dict[str, str]) -> int:
    try:
        return int(metadata["n_coefficients"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: does not say how many coefficients it predicts") from error


def read_card(path: str | Path) -> dict:
    """The model card inside a weights file.

    Raises:
        WeightsError: missing or damaged file.
    """
    path = Path(path)
    for network in _CONFIGS:
        with suppress(WeightsError):
            return json.loads(_read(path, network)[1]["card"])
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
