"""Training of NormalNet on rendered faces whose normals are known."""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.batch import joined
from facerecon.coarsenet import CoarseNet
from facerecon.morphable_model import MorphableModel
from facerecon.normalnet import (
    NormalEstimate,
    NormalNet,
    corrected,
    normal_input,
    slopes_of,
)
from facerecon.synthetic.sampling import Sampler, mixed_seed
from facerecon.training.engine import computes_bfloat16
from facerecon.training.normal_faces import NormalFaces, NormalWorld, RenderedFaces, mirrored_faces
from facerecon.training.presets import NormalTraining
from facerecon.training.processes import Processes

_AGAIN_AFTER = 5  # batches until a group is used for the second time
_STEEPEST_SLOPE = 1.5  # of the relief term; steeper ones are rims


class NormalTask:
    """NormalNet's training problem for the engine.

    Half of every batch is rendered for it; the other half was rendered some batches earlier and
    comes again with another start, mirrored, from another camera: rendering a face costs as much
    as learning from it.

    Args:
        coarsenet: whose answers are corrected.
        start: NormalNet whose weights a new run begins with.
        world: of the faces; made as the configuration says if None.
    """

    name = "normals"
    data_description = "rendered faces of the default morphable model, with their true normals"

    def __init__(
        self,
        model: MorphableModel,
        coarsenet: CoarseNet,
        config: NormalTraining,
        device: torch.device,
        start: NormalNet | None = None,
        world: NormalWorld | None = None,
    ):
        self.config, self.device, self.waited = config, device, 0.0
        self.processes = Processes()
        self.bfloat16 = config.bfloat16 and computes_bfloat16(device)
        self.world = world or NormalWorld(
            model, coarsenet, config.seed, config.window,
            config.p_own, config.p_strobe, config.p_large,
        )  # fmt: skip
        torch.manual_seed(config.seed)  # initial weights
        network = NormalNet(config.network)
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.networks = nn.ModuleDict({"normalnet": network})
        self.networks.to(device=device, memory_format=torch.channels_last)
        self.total, self.effective_batch = config.samples, config.batch
        self._groups: dict[int, RenderedFaces] = {}
        self._held_out: list[NormalFaces] | None = None

    def parameter_groups(self) -> list[dict]:
        """All weights, at one learning rate."""
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start: int) -> Iterable[NormalFaces]:
        """Batches from an index on, each a function of the seed and the index."""
        index = start
        while True:
            yield self._batch(index)
            index += 1

    def _group(self, index: int) -> RenderedFaces:
        if index not in self._groups:
            self._groups[index] = self.world.group(index, self.config.batch // 2)
        for old in [known for known in self._groups if known < index - _AGAIN_AFTER]:
            del self._groups[old]
        return self._groups[index]

    def _batch(self, index: int) -> NormalFaces:
        generator = torch.Generator().manual_seed(mixed_seed("camera", self.config.seed, index))
        again = self.world.start(self._group(max(index - _AGAIN_AFTER, 0)), 1)
        new = self.world.start(self._group(index), 0)
        both = joined([new, mirrored_faces(again)])
        return both._replace(image=rephotographed(both.image, generator))

    def losses(self, batch: NormalFaces) -> Iterator[dict[str, Tensor]]:
        """One step."""
        batch = self._moved(batch)
        yield self.criterion(self._estimate(self.networks["normalnet"], batch), batch)

    def _moved(self, batch: NormalFaces) -> NormalFaces:
        return NormalFaces(*(each.to(self.device) for each in batch))

    def _estimate(self, network: nn.Module, batch: NormalFaces) -> NormalEstimate:
        maps = normal_input(
            batch.image, batch.start_normals, batch.start_pncc, batch.start_mask, network.config
        )
        bfloat16 = self.bfloat16 and torch.is_grad_enabled()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            tilt, log_error = network(maps)
        return corrected(batch.start_normals, tilt.float(), log_error.float())

    def criterion(self, estimate: NormalEstimate, batch: NormalFaces) -> dict[str, Tensor]:
        """Terms of the loss; angles in degrees are for the record."""
        config, valid = self.config, batch.valid.float()
        angle, cosine = _angle(estimate.normals, batch.normals)
        surprise = angle.detach() * (-estimate.log_error).exp() + estimate.log_error

        def mean(values: Tensor) -> Tensor:
            return (values * valid).sum() / valid.sum().clamp(min=1)

        relief = _relief_error(estimate.slopes, slopes_of(batch.normals), batch.valid)
        loss = mean(angle) + config.squared_weight * mean(1 - cosine)
        loss = loss + config.relief_weight * relief + config.likelihood_weight * mean(surprise)
        with torch.no_grad():
            start = mean(_angle(batch.start_normals, batch.normals)[0])
        return {
            "loss": loss,
            "relief": relief.detach(),
            "surprise": mean(surprise).detach(),
            "start_degrees": start * (180 / math.pi),
            "degrees": mean(angle).detach() * (180 / math.pi),
        }

    @torch.no_grad()
    def validate(self, networks: nn.ModuleDict) -> dict[str, float]:
        """Terms on faces that are never trained on."""
        if self._held_out is None:
            groups = range(self.config.validation_faces // 4)
            held_out = (self.world.group(g, 4, "validation") for g in groups)
            self._held_out = [self.world.start(group, 0) for group in held_out]
        totals: dict[str, float] = {}
        for batch in map(self._moved, self._held_out):
            terms = self.criterion(self._estimate(networks["normalnet"], batch), batch)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.item() / len(self._held_out)
        return totals

    @torch.no_grad()
    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Held-out faces: photograph, and coarse, estimated and true normals."""
        batch = self._moved(self._held_out[0])
        found = self._estimate(networks["normalnet"], batch).normals
        shown = [batch.start_normals, torch.where(batch.start_mask, found, 0), batch.normals]
        columns = [batch.image.expand(-1, 3, -1, -1), *(0.5 + 0.5 * each for each in shown)]
        return {"normals": torch.cat(list(torch.cat(columns, 3)), dim=1).clamp(0, 1)}


def rephotographed(
    image: Float[Tensor, "batch 1 size size"], generator: torch.Generator
) -> Float[Tensor, "batch 1 size size"]:
    """The same faces from another camera: tone curve, softness and noise."""
    sampler = Sampler(len(image), generator)
    image = image.clamp(min=1e-4) ** (0.25 * sampler.normal()).exp()
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.lerp(image, soft, sampler.uniform(-0.3, 0.6))  # below 0 it sharpens
    noise = sampler.normal(*image.shape[1:]) * sampler.uniform(0, 0.015)
    return (image + noise * sampler.chance(0.5)).clamp(0, 1)


def _angle(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The angle between unit vectors in rad, and its cosine."""
    cosine = (one * other).sum(1, keepdim=True).clamp(-1, 1)
    return torch.acos(cosine.clamp(-0.9999, 0.9999)), cosine


def _relief_error(
    slopes: Float[Tensor, "batch 2 height width"],
    true: Float[Tensor, "batch 2 height width"],
    valid: Tensor,
) -> Float[Tensor, ""]:
    """Mean squared error of how the slopes change over one and over five pixels."""
    flat = valid & (true.abs() < _STEEPEST_SLOPE).all(1, keepdim=True)
    error = (slopes - true).clamp(-_STEEPEST_SLOPE, _STEEPEST_SLOPE)
    total = slopes.new_zeros(())
    for lag in (1, 5):
        for dim in (2, 3):
            count = error.shape[dim] - lag
            both = flat.narrow(dim, 0, count) & flat.narrow(dim, lag, count)
            change = error.narrow(dim, lag, count) - error.narrow(dim, 0, count)
            total = total + (change.square() * both).sum() / both.sum().clamp(min=1)
    return total
