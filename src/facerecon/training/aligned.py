"""Supervised training of the network of [34] on synthetic faces that are aligned already."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from facerecon.camera import POSE_UNITS, join, split
from facerecon.coarsenet import CoarseNet
from facerecon.losses import gmse
from facerecon.methods.aligned_net import AlignedNet, aligned_input, iterate_aligned
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.synthetic.sampling import mixed_seed
from facerecon.synthetic.world import SyntheticWorld, intermediate
from facerecon.training.prefetch import prefetched
from facerecon.training.presets import AlignedTraining
from facerecon.training.processes import Processes


class _Batches(Dataset):
    """Image, true r, r_t in the pose that the landmarks would give, and the network's input.

    Every process renders the whole batch and keeps its share.
    """

    def __init__(self, world: SyntheticWorld, config: AlignedTraining, share: slice):
        self.world, self.config, self.share = world, config, share

    @torch.no_grad()
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        config, world = self.config, self.world
        generator = world.generator(mixed_seed("aligned", config.seed, index))
        faces = world.render(config.images_per_batch, generator)
        pose = given_pose(faces.r, config, generator)
        coefficients = split(faces.r, world.model.n_coefficients)[0]
        chance = split(world.sample(len(faces.r), generator), world.model.n_coefficients)[0]
        beta = torch.rand(len(pose), 1, generator=generator, device=generator.device)
        start = intermediate(coefficients, chance, beta)
        zero = torch.rand(len(pose), 1, generator=generator, device=generator.device)
        r_t = join(torch.where(zero < config.p_zero_start, 0.0, start), pose)
        image, r, r_t = (part[self.share] for part in (faces.image, faces.r, r_t))
        return image, r, r_t, aligned_input(world.model, image, r_t)


def given_pose(r: Tensor, config: AlignedTraining, generator: torch.Generator) -> Tensor:
    """The pose that alignment by landmarks gives a face: its angles with errors, its place known.

    The crop is cut by the landmarks, so the given shift and scale are zero by construction; the
    world samples the true ones with the spread of that alignment.
    """
    pose = split(r, r.shape[1] - len(POSE_UNITS))[1]
    spread = torch.tensor([config.pitch_error, config.yaw_error, config.roll_error]).to(pose)
    noise = torch.randn(len(r), 3, generator=generator, device=generator.device)
    angles = pose[:, :3] + noise * spread / POSE_UNITS[:3].to(pose)
    return torch.cat([angles, torch.zeros_like(angles)], dim=1)


class AlignedTask:
    """The training problem of [34] for the engine; see `training.coarse.CoarseTask`.

    Args:
        config: AlignedTraining; device: where to render and train; workers:
            processes that render batches ahead on a CPU; start: CoarseNet whose weights a new run
            begins with, and whose architecture it takes, instead of random ones; processes: that
            share every batch.

    Raises:
        ValueError: the processes cannot share a batch evenly.
    """

    name = "aligned"
    data_description = "synthetic photographs of the default morphable model, aligned"

    def __init__(
        self,
        model: MorphableModel,
        config: AlignedTraining,
        device: torch.device,
        workers: int = 1,
        start: CoarseNet | None = None,
        processes: Processes | None = None,
    ):
        self.processes, self.waited = processes or Processes(), 0.0
        if start is not None:
            config = replace(config, network=start.config)
        self.model, self.config, self.device = model.to(device), config, device
        self.workers = 0 if device.type != "cpu" else workers
        torch.manual_seed(config.seed)  # initial weights
        if start is not None:
            network = AlignedNet.from_coarsenet(start)
        else:
            network = AlignedNet(model.n_coefficients, config.network)
        self.networks = nn.ModuleDict({"alignednet": network})
        self.networks.to(device=device, memory_format=torch.channels_last)
        self.trained = self.processes.parallel(network)
        self.total, self.effective_batch = config.samples, config.images_per_batch
        self.share = self.processes.share(config.images_per_batch, "images of a batch")
        self.world = SyntheticWorld(self.model, config.data)
        self.metric = self.model.geometry_metric()
        generator = self.world.generator(config.seed + 1)
        faces = self.world.render(config.validation_faces, generator)
        self.held_out = (faces.image, faces.r, given_pose(faces.r, config, generator))
        coefficients = split(faces.r, model.n_coefficients)[0]
        self.first_gmse = gmse(torch.zeros_like(coefficients), coefficients, self.metric).item()

    def parameter_groups(self) -> list[dict]:
        """All weights, at one learning rate."""
        return [{"params": list(self.networks.parameters()), "lr": self.config.learning_rate}]

    def batches(self, start: int) -> Iterable:
        """Batches, prefetched by the workers."""
        batches = _Batches(self.world, self.config, self.share)
        return prefetched(batches, start, self.workers)

    def losses(self, batch: Sequence[Tensor]) -> Iterator[dict[str, Tensor]]:
        """First from r_t of Eq. (3), then from the network's own answers."""
        image, r_gt, r, maps = batch
        truth, pose = (
            split(r_gt, self.model.n_coefficients)[0],
            split(r, self.model.n_coefficients)[1],
        )
        for number in range(self.config.passes):
            if number:
                maps = aligned_input(self.model, image, r)
            with torch.autocast(
                self.device.type, dtype=torch.bfloat16, enabled=self.config.bfloat16
            ):
                predicted = self.trained(maps)
            r = join(predicted.detach(), pose)
            error = gmse(predicted, truth, self.metric)
            yield {"loss": error / self.first_gmse, "gmse": error}

    def validate(self, networks: nn.ModuleDict) -> dict[str, float]:
        """GMSE on held-out faces after each of four iterations, beside the mean face's."""
        image, r_gt, pose = self.held_out
        truth = split(r_gt, self.model.n_coefficients)[0]
        metrics = {"gmse_mm2_mean_face": self.first_gmse}
        steps = iterate_aligned(networks["alignednet"], self.model, image, pose)
        for number, r in enumerate(steps[1:], start=1):
            found = split(r, self.model.n_coefficients)[0]
            metrics[f"gmse_mm2_{number}"] = gmse(found, truth, self.metric).item()
        return metrics

    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Eight held-out faces: photograph, feedback after each iteration, truth."""
        image, r_gt, pose = (part[:8] for part in self.held_out)
        steps = iterate_aligned(networks["alignednet"], self.model, image, pose)
        columns = [image]
        for r in [*steps, r_gt]:
            columns.append(render(self.model, r, image.shape[-1]).normals[:, 2:])
        sheet = torch.cat(columns, dim=3).expand(-1, 3, -1, -1)
        return {"iterations": torch.cat(list(sheet), dim=1).clamp(0, 1)}
