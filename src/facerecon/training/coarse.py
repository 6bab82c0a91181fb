"""Supervised training of CoarseNet on synthetic faces (3.2, 3.3)."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from facerecon.camera import split
from facerecon.coarsenet import CoarseEstimate, CoarseNet, feedback, iterate
from facerecon.displacements import (
    DISPLACEMENT_MM,
    Points,
    place_points,
    seen,
    spread_points,
)
from facerecon.evaluation.coarse import HeldOut, coarse_metrics, held_out_faces
from facerecon.evaluation.heads.kinds import KINDS, turned
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.table import head_metrics
from facerecon.evaluation.heads.views import Heads
from facerecon.losses import gmse, identity_confusion, pose_mse
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.shards import StoredFaces
from facerecon.synthetic.texture_bank import TextureBank
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.engine import computes_bfloat16
from facerecon.training.prefetch import prefetched
from facerecon.training.presets import CoarseTraining
from facerecon.training.processes import Processes

_MEASURED = 256  # points on the surface whose mean distance is the vertex distance
VALIDATION_HEADS = 64  # photographs of other heads at each validation

VALIDATION_KINDS = {"heads": "whole", "cut_heads": "face alone"}
"""Prefix in the history: kind of heads (`evaluation.heads.kinds`)."""

_Batch = Sequence[Tensor]  # image, r_gt, r_t, feedback maps of r_t


class _Pairs(Dataset):
    """This process's share of two batches that train in turns.

    A batch is rendered in parts, each a function of the seed, the index and the part alone.
    """

    def __init__(
        self,
        world: SyntheticWorld,
        config: CoarseTraining,
        stored: StoredFaces | None,
        processes: Processes,
    ):
        self.world, self.config, self.stored = world, config, stored
        self.size, rest = divmod(config.images_per_batch, config.parts)
        if rest:
            raise ValueError(
                f"{config.images_per_batch} images per batch are not {config.parts} equal parts"
            )
        self.parts = range(config.parts)[processes.share(config.parts, "parts of a batch")]

    def __getitem__(self, index: int) -> tuple[_Batch, _Batch]:
        return self._batch(2 * index), self._batch(2 * index + 1)

    @torch.no_grad()
    def _batch(self, index: int) -> _Batch:
        rendered = [self._part(index, part) for part in self.parts]
        image, r, r_t = (torch.cat(parts) for parts in zip(*rendered, strict=True))
        return image, r, r_t, feedback(self.world.model, image, r_t, self.config.network)

    def _part(self, index: int, part: int) -> tuple[Tensor, Tensor, Tensor]:
        number = index * self.config.parts + part
        generator = self.world.generator(mixed_seed("training", self.config.seed, number))
        if self.stored is None:
            r = self.world.sample(self.size, generator)
            if self.config.identity_loss > 0:
                r = _everyone_twice(r, self.world.model.n_identity)
            image, r = self.world.photographs(self.size, generator, r)
        else:
            chosen = slice(part * self.size, (part + 1) * self.size)
            image, r = (all_[chosen].to(generator.device) for all_ in self.stored[index])
        r_t = self.world.feedback(r, generator, self.config.p_zero_start, self.config.beta)
        return image, r, r_t


def _begin_with(network: CoarseNet, start: CoarseNet) -> None:
    """Take over the weights of another network; those of a field that it lacks stay random.

    Its calibration is left out: it belongs to the weights as they were.

    Raises:
        RuntimeError: the rest is of another architecture.
    """
    new = network.state_dict() if not start.config.points else {}
    kept = {k: v for k, v in new.items() if k not in start.state_dict()}
    state = start.state_dict()
    state.pop("calibration", None)
    network.load_state_dict(state | kept)


def _everyone_twice(r: Tensor, n_identity: int) -> Tensor:
    """The persons of the first half once more in the second, with its expressions and poses."""
    half = len(r) // 2
    r[half : 2 * half, :n_identity] = r[:half, :n_identity]
    return r


class CoarseTask:
    """CoarseNet's training problem for the engine.

    The criterion is Eq. (4) for the geometry and the MSE of the pose, weighed so that both are 1/2
    at the start (3.3); with `vertex_loss` > 0 also the distance of posed vertices, which makes the
    two work together on where the face is. With `identity_loss` > 0 everyone is photographed twice,
    and the two estimates must be told from those of the others.

    Args:
        config: CoarseTraining; device: where to render and train; workers:
            processes that render batches ahead on a CPU (0: the training process itself, as on a
            GPU).
        start: CoarseNet whose weights a new run begins with, instead of random ones.
        data: folder that `facerecon data write` made, to train on its faces, at their size, instead
            of faces rendered during training.
        heads: file of another head model (`load_heads`); its photographs join the validation.
        textures: skin of photographed people that a share of the synthetic faces wears.
        processes: that share every batch.

    Raises:
        ValueError: `start` has another architecture than the preset; `data` is not usable, of
            another model, or comes with `textures`, which only new faces can wear; the processes
            cannot share a batch evenly.
    """

    name = "coarse"
    data_description = "synthetic photographs of the default morphable model"

    def __init__(
        self,
        model: MorphableModel,
        config: CoarseTraining,
        device: torch.device,
        workers: int = 1,
        start: CoarseNet | None = None,
        data: Path | None = None,
        heads: Path | None = None,
        textures: TextureBank | None = None,
        processes: Processes | None = None,
    ):
        self.stored, self.waited = None, 0.0
        self.processes = processes or Processes()
        if textures is not None:
            if data is not None:
                raise ValueError("stored faces have their skin already: leave --textures out")
            self.data_description += (
                f", some with the skin of {len(textures)} photographs ({textures.licence})"
            )
        if data is not None:
            self.stored = StoredFaces(data, config.images_per_batch, config.seed)
            self.stored.require_model(model)
            config = replace(config, data=replace(config.data, size=self.stored.size))
            self.data_description = self.stored.description
        self.model, self.config = model.to(device), config
        self.device, self.workers = device, 0 if device.type != "cpu" else workers
        torch.manual_seed(config.seed)  # initial weights
        network = CoarseNet(model.n_coefficients, config.network)
        if start is not None:
            try:
                _begin_with(network, start)
            except RuntimeError as error:
                raise ValueError(
                    "the weights to start from have another architecture than the preset's "
                    f"{config.network}; choose the preset that they were trained with"
                ) from error
        network.set_points(model)
        self.networks = nn.ModuleDict({"coarsenet": network})
        self.networks.to(device=device, memory_format=torch.channels_last)
        self.estimate = self.processes.parallel(network)
        self.total, self.effective_batch = config.samples, config.images_per_batch
        self.bfloat16 = config.bfloat16 and computes_bfloat16(device)
        self.world = SyntheticWorld(self.model, config.data, textures)
        self.pairs = _Pairs(self.world, config, self.stored, self.processes)
        self.metric = self.model.geometry_metric()
        self.heads = {}
        if heads is not None and self.processes.first:
            source = Heads(load_heads(heads), self.model, config.data.size)
            self.heads = {
                prefix: source.render(VALIDATION_HEADS, seed=0, kind=KINDS[kind])
                for prefix, kind in VALIDATION_KINDS.items()
            }
        probe = self.world.sample(1000, self.world.generator(config.seed))
        coefficients, pose = split(probe, model.n_coefficients)
        self.first_gmse = gmse(torch.zeros_like(coefficients), coefficients, self.metric).item()
        self.first_pose = pose_mse(torch.zeros_like(pose), pose).item()
        chosen = network.points if config.network.points else spread_points(model, _MEASURED)
        self.points = Points.of(self.model, chosen)
        zero = torch.zeros_like(probe)
        self.first_vertex = self._vertex_distance(zero, probe).item()

    @cached_property
    def held_out(self) -> HeldOut:
        """Faces of the validation; only the first process renders them."""
        return held_out_faces(self.world, self.config.validation_faces, self.config.seed + 1)

    def parameter_groups(self) -> list[dict]:
        """All weights, at one learning rate."""
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start: int) -> Iterable:
        """Pairs of batches, prefetched by the workers."""
        return prefetched(self.pairs, start, self.workers)

    def losses(self, batch: Sequence[_Batch]) -> Iterator[dict[str, Tensor]]:
        """Train on two batches in turns: while one trains, the other is rendered."""
        pair = [list(one) for one in batch]
        with ThreadPoolExecutor(1) as renderer:
            waiting = [None, None]
            for number in range(self.config.passes):
                for i, (image, r_gt, r, maps) in enumerate(pair):
                    if number > 0:
                        began = time.monotonic()
                        maps = waiting[i].result()
                        self.waited += time.monotonic() - began
                    with torch.autocast(
                        self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16
                    ):
                        estimate = self.estimate(maps, r, self.model)
                    if number + 1 < self.config.passes:
                        pair[i][2] = estimate.r.detach()
                        waiting[i] = renderer.submit(
                            feedback, self.model, image, pair[i][2], self.config.network
                        )
                    terms = self.estimate_criterion(estimate, r, r_gt)
                    start = "from_own_output" if number else "from_eq3"
                    yield {**terms, f"loss_{start}": terms["loss"].detach()}

    def estimate_criterion(
        self, estimate: CoarseEstimate, r_t: Tensor, r_gt: Tensor
    ) -> dict[str, Tensor]:
        """`criterion` of the network's estimate for r_t, with the loss of its displacements."""
        terms = self.criterion(estimate.r, r_gt)
        if self.config.identity_loss > 0:
            n = self.model.n_identity
            terms["confusion"] = identity_confusion(
                estimate.r[:, :n], r_gt[:, :n], self.metric[:n, :n], self.config.identity_width
            )
            terms["loss"] = terms["loss"] + self.config.identity_loss * terms["confusion"]
        if estimate.displacement is not None:
            regression = self.criterion(estimate.regressed, r_gt)
            error, likelihood = self._displacement_error(estimate, r_t, r_gt)
            terms |= {"displacement": error, "regressed_gmse": regression["gmse"]}
            terms["loss"] = (
                terms["loss"]
                + self.config.regression_loss * regression["loss"]
                + self.config.displacement_loss * (error + 0.05 * likelihood)
            )
        return terms

    def criterion(self, r: Tensor, r_gt: Tensor) -> dict[str, Tensor]:
        """Terms of the loss and their weighted sum `loss`."""
        n = self.model.n_coefficients
        (coefficients, pose), (coefficients_gt, pose_gt) = split(r, n), split(r_gt, n)
        terms = {
            "gmse": gmse(coefficients, coefficients_gt, self.metric),
            "pose": pose_mse(pose, pose_gt),
        }
        loss = 0.5 * terms["gmse"] / self.first_gmse + 0.5 * terms["pose"] / self.first_pose
        if self.config.vertex_loss > 0:
            terms["vertex"] = self._vertex_distance(r, r_gt)
            loss = loss + self.config.vertex_loss * terms["vertex"] / self.first_vertex
        return {"loss": loss, **terms}

    def _vertex_distance(self, r: Tensor, r_gt: Tensor) -> Tensor:
        """Mean distance of posed vertices in mm at the mean scale of the crop."""
        difference = place_points(self.points, r) - place_points(self.points, r_gt)
        return (difference.square().sum(2) + 1e-4).sqrt().mean()

    def _displacement_error(
        self, estimate: CoarseEstimate, r_t: Tensor, r_gt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean error of the displacements of the points that are seen, and of what they expect.

        The second is the negative logarithm of the errors' likelihood (Laplace), which teaches the
        expectation alone.
        """
        places = place_points(self.points, r_t)
        missing = place_points(self.points, r_gt) - places
        distance = (estimate.displacement - missing / DISPLACEMENT_MM).abs()
        surprise = distance.detach() * (-estimate.log_error).exp() + estimate.log_error
        weight = seen(self.points, r_t, places)
        # A mean per image first: processes that share a batch then share the mean, too.
        count = 3 * weight.sum((1, 2)).clamp(min=1)
        return tuple(((v * weight).sum((1, 2)) / count).mean() for v in (distance, surprise))

    def validate(self, networks: nn.ModuleDict) -> dict[str, float]:
        """`coarse_metrics` on the held-out faces; `head_metrics` and `turned` on the heads."""
        network = networks["coarsenet"]
        metrics = coarse_metrics(network, self.model, self.held_out)
        if self.heads:
            metrics |= head_metrics(network, self.model, self.heads["heads"])
        for prefix, views in self.heads.items():
            found = turned(network, self.model, views).measures
            metrics |= {f"{prefix}_{name}": value for name, value in found.items()}
        return metrics

    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Eight held-out faces: photograph, normals after each iteration, true normals."""
        image, r_gt = self.held_out.image[:8], self.held_out.r[:8]
        steps = iterate(networks["coarsenet"], self.model, image)
        columns = [image.expand(-1, 3, -1, -1)]
        for r in [*steps[1:], r_gt]:
            maps = render(self.model, r, image.shape[-1])
            columns.append(torch.where(maps.mask, 0.5 + 0.5 * maps.normals, 1.0))
        sheet = torch.cat(columns, dim=3)  # (8, 3, S, S * columns)
        return {"iterations": torch.cat(list(sheet), dim=1).clamp(0, 1)}
