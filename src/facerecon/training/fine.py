"""Training of FineNet on photographs (4.3) or known detail, and of both networks together (4.4)."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.appearance import FaceMaps, albedo_of, model_maps, shading_target
from facerecon.batch import rows
from facerecon.camera import pose_parameters, split
from facerecon.coarsenet import CoarseNet, feedback, iterate
from facerecon.depth import normals_from_depth
from facerecon.evaluation.sheets import clay
from facerecon.finenet import FineNet
from facerecon.losses import (
    FineNetLoss,
    LinearShading,
    ShadedImage,
    detail_loss,
    finenet_loss,
    linear_finenet_loss,
    sobolev_gradient,
)
from facerecon.morphable_model import MorphableModel
from facerecon.normalnet import slopes_of
from facerecon.rasterize import interpolate_maps
from facerecon.render import curved_surface
from facerecon.shading_refinement import linear_shading
from facerecon.synthetic.detail import DetailSample, SyntheticDetail
from facerecon.synthetic.sampling import mixed_seed
from facerecon.training.engine import computes_bfloat16
from facerecon.training.faces import (
    COARSE_SIZE,
    FaceCrops,
    FittedCrops,
    PhotographedFaces,
    collect_faces,
)
from facerecon.training.presets import FineTraining
from facerecon.training.processes import Processes
from facerecon.vgg import load_vgg

VALIDATION_FACES = 16
MIN_SKIN = 0.5  # weight at the middle of a training window

Refine = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From image, depth, mask and mm per pixel to a refined depth, as FineNet does."""


class FineData(NamedTuple):
    """What FineNet learns from.

    photos: a folder. cache: a file that keeps its crops. supervised: synthetic faces with known
    detail, instead of photographs or beside them. quiet: no progress bar.
    """

    photos: Path | None = None
    cache: Path | None = None
    supervised: bool = False
    quiet: bool = False


class Batch(NamedTuple):
    """What one step learns from: windows of photographs, or of synthetic faces.

    index: of the batch. faces: which photographs; None: synthetic faces. size: of the whole crops.
    places: of the windows, in [0, 1).
    """

    index: int
    faces: Tensor | None
    size: int
    places: Tensor


def _loss_terms(loss: FineNetLoss) -> dict[str, Tensor]:
    """Its terms by name; `loss` is the weighted sum."""
    return {"loss": loss.total, **{name: getattr(loss, name) for name in loss._fields[1:]}}


class FineTask:
    """FineNet's training problem for the engine; with `coarse_learning_rate` > 0 CoarseNet's, too.

    With photographs alone it is the paper's; with synthetic faces alone its alternative; with both,
    `supervised_share` of the batches are synthetic.

    Args:
        coarsenet: trained.
        start: FineNet to start from, instead of fresh weights. vgg: file to initialize the
            convolutions from. processes: that share every batch.

    Raises:
        ValueError: an unknown criterion, nothing to learn from, no usable face in the folder, or
            the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        model: MorphableModel,
        coarsenet: CoarseNet,
        config: FineTraining,
        data: FineData,
        device: torch.device,
        start: FineNet | None = None,
        vgg: Path | None = None,
        processes: Processes | None = None,
    ):
        self.config, self.device, self.waited = config, device, 0.0
        self.processes = processes or Processes()
        self.share = self.processes.share(config.batch, "crops of a batch")
        self.bfloat16 = config.bfloat16 and computes_bfloat16(device)
        self._shadings: dict[tuple[int, bytes], list[Tensor]] = {}
        self.end_to_end = config.coarse_learning_rate > 0
        if config.criterion not in ("paper", "linear"):
            raise ValueError(f"criterion must be 'paper' or 'linear', got {config.criterion!r}")
        if data.photos is None and (self.end_to_end or not data.supervised):
            raise ValueError("training needs a folder of photographs, or synthetic supervision")
        self.name = "end-to-end" if self.end_to_end else "fine"
        self.faces, self.detail, described = None, None, []
        if data.photos is not None:
            crops = self._collect(data, model, coarsenet)
            self.faces = PhotographedFaces(crops, model.to(device), config.light_order)
            described.append(f"{len(self.faces)} unlabeled photographs of faces")
        self.model = model.to(device)
        if data.supervised:
            self.name += "-supervised" if data.photos is None else "-mixed"
            self.detail = {
                size: SyntheticDetail(self.model, config.seed, size) for size in config.face_sizes
            }
            described.append("synthetic faces with known detail")
        self.data_description = ", ".join(described)
        torch.manual_seed(config.seed)  # initial weights
        finenet = start or FineNet(config.network)
        if vgg is not None:
            load_vgg(vgg, finenet)
        self.networks = nn.ModuleDict({"finenet": finenet.requires_grad_(True)})
        if self.end_to_end:
            self.networks["coarsenet"] = coarsenet.requires_grad_(True)
        self.networks.to(device)
        self.trained = {name: self.processes.parallel(n) for name, n in self.networks.items()}
        self.total, self.effective_batch = config.crops, config.batch

    def _collect(self, data: FineData, model: MorphableModel, coarsenet: CoarseNet) -> FaceCrops:
        """The folder's faces; the other processes wait, and read what the first one stored."""
        if not self.processes.first:
            self.processes.decision(True, self.device)
        faces = collect_faces(
            data.photos,
            model,
            coarsenet,
            self.config.iterations,
            max(self.config.face_sizes),
            data.cache,
            data.quiet or not self.processes.first,
        )
        if self.processes.first:
            self.processes.decision(True, self.device)
        return faces

    def parameter_groups(self) -> list[dict]:
        """FineNet, and CoarseNet at its own rate when it is trained, too."""
        fine = self.networks["finenet"].parameters()
        groups = [{"params": list(fine), "lr": self.config.learning_rate}]
        if self.end_to_end:
            coarse = self.networks["coarsenet"].parameters()
            groups.append({"params": list(coarse), "lr": self.config.coarse_learning_rate})
        return groups

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
                chosen = torch.randint(len(self.faces), (config.batch,), generator=generator)
                yield Batch(index, chosen[self.share], size, places)
            index += 1

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step of 4.3, or end to end of 4.4 with the gradient through the last iteration."""
        config = self.config
        if batch.faces is None:
            number = batch.index // config.windows_per_face
            sample = rows(self.detail[batch.size].batch(number, config.batch), self.share)
            yield self.supervised_criterion(self.trained["finenet"], sample, batch.places)
            return
        faces = self.faces.crops(batch.faces, batch.size)
        original = faces.r
        if self.end_to_end:
            coarsenet = self.networks["coarsenet"].eval()  # keep the statistics of its own training
            small = F.interpolate(faces.image, size=(COARSE_SIZE, COARSE_SIZE), mode="area")
            with torch.no_grad():
                r = iterate(coarsenet, self.model, small, config.iterations - 1)[-1]
            maps = feedback(self.model, small, r, coarsenet.config)
            r = self.trained["coarsenet"](maps, r, self.model).r
            faces = faces._replace(r=r)
        terms = self.criterion(self.trained["finenet"], faces, batch.places)
        if self.end_to_end:
            terms["coarse_fidelity"] = (faces.r - original).square().mean()
            terms["loss"] = terms["loss"] + config.coarse_fidelity_weight * terms["coarse_fidelity"]
        yield terms

    def criterion(
        self, refine: Refine, faces: FittedCrops, places: Float[Tensor, " batch"] | None = None
    ) -> dict[str, Tensor]:
        """Terms of Eq. (14) on one window per face, at these places of it; else on all of it."""
        config = self.config
        start = model_maps(self.model, faces.r, faces.image.shape[-1])
        coarse = start.depth.detach()
        if config.criterion == "linear":
            return self._linear_criterion(refine, faces, start, places)
        with torch.no_grad():
            albedo = albedo_of(start, faces.albedo)
            goal = shading_target(
                faces.image, start, albedo, faces.light, config.detail_bounds, faces.even
            )
        maps = [faces.image, start.depth, coarse, start.mask, goal.image, goal.albedo]
        maps = self._cut(maps, start.skin, places)
        image, depth, coarse, mask, goal_image, albedo = maps
        # Light and albedo were read at the original pose; its scale is not theirs to change.
        mm_per_pixel = start.mm_per_pixel.detach()
        fine = self._refined(refine, image, depth, mask, mm_per_pixel)
        if config.gradient_cutoff > 0 and fine.requires_grad:
            fine.register_hook(lambda g: sobolev_gradient(g, config.gradient_cutoff))
        shaded = ShadedImage(goal_image, albedo, faces.light, mask, mm_per_pixel)
        return _loss_terms(finenet_loss(fine, coarse, shaded, config.criterion_weights))

    def _linear_criterion(
        self,
        refine: Refine,
        faces: FittedCrops,
        start: FaceMaps,
        places: Float[Tensor, " batch"] | None,
    ) -> dict[str, Tensor]:
        known = faces.image, faces.r, start.depth, start.mask, start.skin * faces.even
        shading = [
            self._linear_shading(*(each[i : i + 1] for each in known)) for i in range(len(faces.r))
        ]
        shading = [torch.cat(each) for each in zip(*shading, strict=True)]
        maps = [faces.image, start.depth, start.mask, *shading]
        image, depth, mask, *shading = self._cut(maps, start.skin, places)
        fine = self._refined(refine, image, depth, mask, start.mm_per_pixel)
        loss = linear_finenet_loss(
            fine, depth, LinearShading(*shading), mask, start.mm_per_pixel,
            self.config.linear_weights,
        )  # fmt: skip
        return _loss_terms(loss)

    def _linear_shading(
        self, image: Tensor, r: Tensor, depth: Tensor, mask: Tensor, skin: Tensor
    ) -> LinearShading:
        """Of one face; kept, since it depends on the photograph alone."""
        size = image.shape[-1]
        key = size, r.cpu().numpy().tobytes()
        if key not in self._shadings:
            surface = curved_surface(self.model, r, size)
            maps = surface.vertices, surface.normals, self.model.pncc
            normals = interpolate_maps(*maps, surface.fragments, self.model.triangles)[1]
            mm = 1 / pose_parameters(split(r, self.model.n_coefficients)[1], size).scale.item()
            found = linear_shading(image, slopes_of(normals), depth, mask, mm, skin)
            self._shadings[key] = [each.half() for each in found]
        return LinearShading(*(each.float() for each in self._shadings[key]))

    def supervised_criterion(
        self, refine: Refine, sample: DetailSample, places: Float[Tensor, " batch"] | None = None
    ) -> dict[str, Tensor]:
        """Distance to a known surface, on windows as in `criterion`."""
        config, start = self.config, sample.start
        maps = [sample.image, start.depth, start.mask, sample.depth, sample.normals, sample.valid]
        image, depth, mask, truth, normals, valid = self._cut(maps, start.skin, places)
        loss = detail_loss(
            self._refined(refine, image, depth, mask, start.mm_per_pixel),
            truth,
            normals,
            mask,
            valid,
            start.mm_per_pixel,
            config.normal_weight,
            config.squared_normal_weight,
            config.depth_weight,
        )
        return {
            "loss": loss.total,
            "normals_deg": loss.normals,
            "normals_deg2": loss.squared_normals,
            "depth_px2": loss.depth,
        }

    def _refined(
        self, refine: Refine, image: Tensor, depth: Tensor, mask: Tensor, mm_per_pixel: Tensor
    ) -> Tensor:
        bfloat16 = self.bfloat16 and torch.is_grad_enabled()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return refine(image, depth, mask, mm_per_pixel).float()

    def _cut(self, maps: list[Tensor], skin: Tensor, places: Tensor | None) -> list[Tensor]:
        """The same window of every map, centered on a pixel of skin: at this share of them all."""
        side, size = self.config.crop_size, skin.shape[-1]
        if places is None or side >= size:
            return maps
        corners = []
        for face, place in zip((skin[:, 0] > MIN_SKIN).cpu(), places.tolist(), strict=True):
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
        coarse = self._validation_terms(lambda image, depth, mask, mm_per_pixel: depth)
        metrics = self._validation_terms(networks["finenet"])
        return metrics | {f"coarse_{name}": value for name, value in coarse.items()}

    def _validation_terms(self, refine: Refine) -> dict[str, float]:
        terms = {}
        if self.detail is not None:
            sample = self._validation_detail(VALIDATION_FACES // 2)
            terms |= self.supervised_criterion(refine, sample)
        if self.faces is not None:
            faces = self.faces.crops(slice(VALIDATION_FACES), COARSE_SIZE)
            terms |= self.criterion(refine, faces)
        return {name: value.item() for name, value in terms.items()}

    def _validation_detail(self, count: int) -> DetailSample:
        return self.detail[min(self.config.face_sizes)].batch(0, count, "validation")

    @torch.no_grad()
    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Four faces: photograph, coarse and fine surface."""
        if self.faces is not None:
            image, _, r, *_ = self.faces.crops(slice(4), COARSE_SIZE)
            start = model_maps(self.model, r, COARSE_SIZE)
        else:
            image, start, *_ = self._validation_detail(4)
        mm = start.mm_per_pixel
        fine = networks["finenet"](image, start.depth, start.mask, mm)
        surfaces = (start.normals, normals_from_depth(fine, mm, start.mask))
        columns = [image, *(clay(normals, start.mask) for normals in surfaces)]
        sheet = torch.cat(columns, dim=3)
        return {"surfaces": torch.cat(list(sheet), dim=1).expand(3, -1, -1)}
