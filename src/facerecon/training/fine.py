"""Training of FineNet on photographs (4.3) or known detail, and of both networks together (4.4)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.appearance import (
    FaceMaps,
    albedo_of,
    estimate_light_and_albedo,
    model_maps,
    shading_target,
)
from facerecon.coarsenet import CoarseNet, feedback, iterate
from facerecon.depth import normals_from_depth
from facerecon.finenet import FineNet
from facerecon.lighting import shade
from facerecon.losses import ShadedImage, detail_loss, finenet_loss, sobolev_gradient
from facerecon.synthetic.detail import DetailSample, SyntheticDetail
from facerecon.synthetic.draws import mixed_seed
from facerecon.training.engine import computes_bfloat16
from facerecon.training.faces import COARSE_SIZE, collect_faces
from facerecon.training.presets import FineTraining
from facerecon.training.processes import Processes
from facerecon.vgg import load_vgg

VALIDATION_FACES = 16
LEAST_SKIN = 0.5  # weight at the middle of a training window


class Batch(NamedTuple):
    """What one step learns from: windows of photographs, or of synthetic faces.

    index: of the batch. faces: which photographs; None: synthetic faces. size: of the whole crops.
    places: of the windows, in [0, 1).
    """

    index: int
    faces: Tensor | None
    size: int
    places: Tensor


class FineTask:
    """FineNet's training problem for the engine; with `coarse_learning_rate` > 0 CoarseNet's, too.

    With photographs alone it is the paper's; with `supervised` alone its alternative; with both,
    `supervised_share` of the batches are synthetic.

    Args:
        model: MorphableModel. coarsenet: trained. config: FineTraining. photos: folder, or None.
        folder: of the run (keeps the crops).
        finenet: to start from, instead of fresh weights. vgg: file to initialise the convolutions
            from.
        supervised: learn from synthetic faces with known detail. processes: that share every batch.

    Raises:
        ValueError: nothing to learn from, no usable face in the folder, or the processes cannot
            share a batch evenly.
    """

    def __init__(
        self,
        model: nn.Module,
        coarsenet: CoarseNet,
        config: FineTraining,
        photos: Path | None,
        folder: Path | None,
        device: torch.device,
        finenet: FineNet | None = None,
        vgg: Path | None = None,
        quiet: bool = False,
        supervised: bool = False,
        processes: Processes | None = None,
    ):
        self.config, self.device, self.waited = config, device, 0.0
        self.processes = processes or Processes()
        self.share = self.processes.share(config.batch, "crops of a batch")
        self.bfloat16 = config.bfloat16 and computes_bfloat16(device)
        self.end_to_end = config.coarse_learning_rate > 0
        if photos is None and (self.end_to_end or not supervised):
            raise ValueError("training needs a folder of photographs, or synthetic supervision")
        self.name = "end-to-end" if self.end_to_end else "fine"
        self.faces, self.detail, described = None, None, []
        if photos is not None:
            cache = folder / "faces.npz" if folder else None
            known = photos, model, coarsenet, config.iterations, max(config.face_sizes), cache
            if self.processes.first:
                self.faces = collect_faces(*known, quiet)
            self.processes.decision(True, device)  # the others wait, and read what it stored
            if not self.processes.first:
                self.faces = collect_faces(*known, quiet)
            described.append(f"{len(self.faces.r)} unlabelled photographs of faces")
        self.model = model.to(device)
        if supervised:
            self.name += "-supervised" if photos is None else "-mixed"
            self.detail = {
                size: SyntheticDetail(self.model, config.seed, size) for size in config.face_sizes
            }
            described.append("synthetic faces with known detail")
        self.data_description = ", ".join(described)
        torch.manual_seed(config.seed)  # initial weights
        finenet = finenet or FineNet(config.network)
        if vgg is not None:
            load_vgg(vgg, finenet)
        self.networks = nn.ModuleDict({"finenet": finenet.requires_grad_(True)})
        if self.end_to_end:
            self.networks["coarsenet"] = coarsenet.requires_grad_(True)
        self.networks.to(device)
        self.trained = {name: self.processes.parallel(n) for name, n in self.networks.items()}
        self.total, self.effective_batch = config.crops, config.batch
        if self.faces is not None:
            self.light, self.albedo = self._explain_faces()

    def parameter_groups(self) -> list[dict]:
        """FineNet, and CoarseNet at its own rate when it is trained, too."""
        fine = self.networks["finenet"].parameters()
        groups = [{"params": list(fine), "lr": self.config.learning_rate}]
        if self.end_to_end:
            coarse = self.networks["coarsenet"].parameters()
            groups.append({"params": list(coarse), "lr": self.config.coarse_learning_rate})
        return groups

    @torch.no_grad()
    def _explain_faces(self) -> tuple[Tensor, Tensor]:
        """Light (N, terms) and albedo coefficients (N, K) of every face: Eqs. (11), (12), once."""
        lights, albedos = [], []
        for start in range(0, len(self.faces.r), 16):
            image, _, r = self._faces(slice(start, start + 16), COARSE_SIZE)
            maps = model_maps(self.model, r, COARSE_SIZE)
            found = estimate_light_and_albedo(image, maps, self.config.light_order)
            lights.append(found.light)
            albedos.append(found.albedo_coefficients)
        return torch.cat(lights), torch.cat(albedos)

    def _faces(self, chosen: slice | Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Grey crops (B, 1, size, size), their trust in even pigment, and their r."""
        chosen = chosen.numpy() if isinstance(chosen, Tensor) else chosen
        maps = torch.stack(
            [torch.from_numpy(each[chosen]) for each in (self.faces.grey, self.faces.even)], 1
        ).to(self.device)
        maps = F.interpolate(maps.float() / 255, size=(size, size), mode="area")
        return maps[:, :1], maps[:, 1:], torch.from_numpy(self.faces.r[chosen]).to(self.device)

    def batches(self, start: int) -> Iterable[Batch]:
        """Batches of the run from the index `start` on; each depends on seed and index alone."""
        config, index = self.config, start
        while True:
            generator = torch.Generator().manual_seed(mixed_seed("crops", config.seed, index))
            share = config.supervised_share if self.faces is not None else 1.0
            synthetic = float(torch.rand(1, generator=generator)) < share
            sizes = config.face_sizes
            size = sizes[index // config.windows_per_face % len(sizes)]
            places = torch.rand(config.batch, generator=generator)[self.share]
            if self.detail is not None and synthetic:
                yield Batch(index, None, size, places)
            else:
                count = len(self.faces.r)
                chosen = torch.randint(count, (config.batch,), generator=generator)
                yield Batch(index, chosen[self.share], size, places)
            index += 1

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step of 4.3, or end to end of 4.4 with the gradient through the last iteration."""
        config = self.config
        if batch.faces is None:
            detail, number = self.detail[batch.size], batch.index // config.windows_per_face
            drawn = detail.batch(number, config.batch)
            sample = drawn.part(self.share)
            yield self.supervised_criterion(sample, batch.places)
            return
        image, even, original = self._faces(batch.faces, batch.size)
        r = original
        if self.end_to_end:
            coarsenet = self.networks["coarsenet"].eval()  # keep the statistics of its own training
            small = F.interpolate(image, size=(COARSE_SIZE, COARSE_SIZE), mode="area")
            with torch.no_grad():
                r = iterate(coarsenet, self.model, small, config.iterations - 1)[-1]
            maps = feedback(self.model, small, r, coarsenet.config)
            r = self.trained["coarsenet"](maps, r, self.model).r
            fidelity = (r - original).square().mean()
        light, albedo = self.light[batch.faces], self.albedo[batch.faces]
        terms = self.criterion(image, even, r, light, albedo, batch.places)
        if self.end_to_end:
            terms["coarse_fidelity"] = fidelity
            terms["loss"] = terms["loss"] + config.coarse_fidelity_weight * fidelity
        yield terms

    def criterion(
        self,
        image: Tensor,
        even: Tensor,
        r: Tensor,
        light: Tensor,
        albedo_coefficients: Tensor,
        places: Float[Tensor, " batch"] | None = None,
    ) -> dict[str, Tensor]:
        """Terms of Eq. (14) on one window per face, at these places of it; else on all of it."""
        config = self.config
        start = model_maps(self.model, r, image.shape[-1])
        coarse = start.depth.detach()
        with torch.no_grad():
            albedo = albedo_of(start, albedo_coefficients)
            goal = shading_target(image, start, albedo, light, config.detail_bounds, even)
        maps = [image, start.depth, coarse, start.mask, goal.image, goal.albedo]
        maps = self._cut(maps, start.skin, places)
        image, depth, coarse, mask, goal_image, albedo = maps
        # Light and albedo were read at the original pose; its scale is not theirs to change.
        mm_per_pixel = start.mm_per_pixel.detach()
        fine = self._refine(image, depth, mask, mm_per_pixel, places is not None)
        if config.gradient_cutoff > 0 and fine.requires_grad:
            fine.register_hook(lambda g: sobolev_gradient(g, config.gradient_cutoff))
        shaded = ShadedImage(goal_image, albedo, light, mask, mm_per_pixel)
        loss = finenet_loss(fine, coarse, shaded, config.criterion_weights)
        return {
            "loss": loss.total,
            "shading": loss.shading,
            "fidelity": loss.fidelity,
            "smoothness": loss.smoothness,
        }

    def supervised_criterion(
        self, sample: DetailSample, places: Float[Tensor, " batch"] | None = None
    ) -> dict[str, Tensor]:
        """Distance to a known surface, on windows as in `criterion`."""
        config, start = self.config, sample.start
        maps = [sample.image, start.depth, start.mask, sample.depth, sample.normals, sample.valid]
        image, depth, mask, truth, normals, valid = self._cut(maps, start.skin, places)
        fine = self._refine(image, depth, mask, start.mm_per_pixel, places is not None)
        weights = config.normal_weight, config.squared_normal_weight, config.depth_weight
        loss = detail_loss(fine, truth, normals, mask, valid, start.mm_per_pixel, *weights)
        return {
            "loss": loss.total,
            "normals_deg": loss.normals,
            "normals_deg2": loss.squared_normals,
            "depth_px2": loss.depth,
        }

    def _refine(
        self, image: Tensor, depth: Tensor, mask: Tensor, mm_per_pixel: Tensor, shared: bool
    ) -> Tensor:
        """FineNet's answer."""
        bfloat16 = self.bfloat16 and torch.is_grad_enabled()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            finenet = self.trained["finenet"] if shared else self.networks["finenet"]
            return finenet(image, depth, mask, mm_per_pixel).float()

    def _cut(self, maps: list[Tensor], skin: Tensor, places: Tensor | None) -> list[Tensor]:
        """The same window of every map, centred on a pixel of skin: at this share of them all."""
        side, size = self.config.crop_size, skin.shape[-1]
        if places is None or side >= size:
            return maps
        corners = []
        for face, place in zip((skin[:, 0] > LEAST_SKIN).cpu(), places.tolist(), strict=True):
            pixels = face.nonzero()
            if not len(pixels):
                pixels = torch.tensor([[size // 2, size // 2]])
            pick = pixels[int(place * len(pixels))]
            corners.append((pick - side // 2).clamp(0, size - side).tolist())
        return [
            torch.stack(
                [m[:, y : y + side, x : x + side] for m, (y, x) in zip(each, corners, strict=True)]
            )
            for each in maps
        ]

    @torch.no_grad()
    def validate(self, networks: nn.ModuleDict) -> dict[str, float]:
        """The terms of each criterion on a few faces, and of their coarse surfaces (`coarse_*`)."""
        metrics = self._terms()
        last = networks["finenet"].regress3
        kept = last.weight.detach().clone(), last.bias.detach().clone()
        last.weight.zero_()
        last.bias.zero_()  # FineNet with a zero last layer returns the coarse depth
        coarse = self._terms()
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])
        return metrics | {f"coarse_{name}": value for name, value in coarse.items()}

    def _terms(self) -> dict[str, float]:
        terms = {}
        if self.detail is not None:
            sample = self._validation_detail(VALIDATION_FACES // 2)
            terms |= self.supervised_criterion(sample)
        if self.faces is not None:
            image, even, r = self._faces(slice(VALIDATION_FACES), COARSE_SIZE)
            shading = self.light[:VALIDATION_FACES], self.albedo[:VALIDATION_FACES]
            terms |= self.criterion(image, even, r, *shading)
        return {name: value.item() for name, value in terms.items()}

    def _validation_detail(self, count: int) -> DetailSample:
        return self.detail[min(self.config.face_sizes)].batch(0, count, "validation")

    @torch.no_grad()
    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Four faces: photograph, coarse and fine surface."""
        if self.faces is not None:
            image, _, r = self._faces(slice(4), COARSE_SIZE)
            start = model_maps(self.model, r, COARSE_SIZE)
        else:
            image, start, *_ = self._validation_detail(4)
        mm = start.mm_per_pixel
        fine = networks["finenet"](image, start.depth, start.mask, mm)
        columns = [image, _clay(start, start.depth), _clay(start, fine)]
        sheet = torch.cat(columns, dim=3)
        return {"surfaces": torch.cat(list(sheet), dim=1).expand(3, -1, -1)}


def _clay(start: FaceMaps, depth: Tensor) -> Tensor:
    """Grey pictures of depth maps under one light, white outside."""
    light = depth.new_tensor([[0.25, -0.3, 0.3, 0.6]]).expand(len(depth), 4)
    normals = normals_from_depth(depth, start.mm_per_pixel, start.mask)
    return torch.where(start.mask, shade(torch.ones_like(depth), light, normals).clamp(0, 1), 1.0)
