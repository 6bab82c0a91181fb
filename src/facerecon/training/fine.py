"""Unsupervised training of FineNet on photographs (4.3), and of both networks end to end (4.4)."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from facerecon.camera import pose_parameters, split
from facerecon.coarsenet import CoarseNet, feedback, iterate
from facerecon.config import FineTraining
from facerecon.data import ImageError, crop, list_images, load_image, to_grey
from facerecon.depth import normals_from_depth
from facerecon.detect import NoFaceError, detect_faces
from facerecon.finenet import FineNet, load_vgg
from facerecon.lighting import LUMA, shade
from facerecon.losses import finenet_loss, sobolev_gradient
from facerecon.rasterize import interpolate
from facerecon.render import render
from facerecon.sfs import albedo_maps, detail_target, recover_robustly
from facerecon.synthetic.draws import mixed_seed
from facerecon.training.engine import computes_bfloat16
from facerecon.training.processes import Processes

COARSE_SIZE = 200  # CoarseNet's input (3.4)
BARE_FOREHEAD_MM = 8.0  # above the brows; higher up, hair and hats would pass for shading
MAX_LAST_MOVE = 0.5  # pose units in the last iteration; a fit that still moves more has failed


class FaceCrops(NamedTuple):
    """Faces of a folder of photographs, as the networks see them."""

    grey: np.ndarray  # (N, S, S) uint8
    r: np.ndarray  # (N, 290) CoarseNet's answer


def collect_faces(
    photos: Path,
    model: nn.Module,
    coarsenet: CoarseNet,
    iterations: int,
    size: int,
    cache: Path | None = None,
    quiet: bool = False,
) -> FaceCrops:
    """Detect the largest face of every photograph, crop it and fit it with CoarseNet.

    Photographs without a face and fits that have not settled are left out.

    Args:
        photos: folder; size: side of the crops in pixels; cache: .npz that keeps the result for
            these photographs and weights.

    Raises:
        ValueError: no usable face in the folder.
    """
    paths = list_images([photos])
    digest = hashlib.sha256(f"{size} {iterations}".encode())
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    for value in coarsenet.state_dict().values():
        digest.update(value.detach().cpu().numpy().tobytes())
    fingerprint = digest.hexdigest()
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) == fingerprint:
                return FaceCrops(stored["grey"], stored["r"])

    greys, fits = [], []
    for path in tqdm(paths, desc="faces", unit="photo", disable=quiet):
        try:
            image = load_image(path)
            box = detect_faces(image)[0].crop_box()
            large, square = crop(to_grey(image), box, size)
            small = square.at(COARSE_SIZE).cut(to_grey(image))
        except (ImageError, NoFaceError, ValueError):
            continue
        with torch.no_grad():
            steps = iterate(coarsenet, model, torch.from_numpy(small)[None, None], iterations)
        moved = split(steps[-1] - steps[-2], model.n_coefficients)[1].abs().max()
        if moved < MAX_LAST_MOVE:
            greys.append(np.rint(large * 255).clip(0, 255).astype(np.uint8))
            fits.append(steps[-1][0].numpy())
    if not fits:
        raise ValueError(f"{photos}: no face that CoarseNet could fit in {len(paths)} photographs")
    faces = FaceCrops(np.stack(greys), np.stack(fits))
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name("partial_" + cache.name)
        np.savez(partial, fingerprint=np.array(fingerprint), **faces._asdict())
        partial.replace(cache)
    return faces


class FineTask:
    """FineNet's training problem for the engine; with `coarse_learning_rate` > 0 CoarseNet's, too.

    Args:
        model: MorphableModel. coarsenet: trained. config: FineTraining. photos: folder. folder: of
            the run (keeps the crops).
        finenet: to start from, instead of fresh weights. vgg: file to initialise the convolutions
            from. processes: that share every batch.

    Raises:
        ValueError: no usable face in the folder, or the processes cannot share a batch evenly.
    """

    def __init__(
        self,
        model: nn.Module,
        coarsenet: CoarseNet,
        config: FineTraining,
        photos: Path,
        folder: Path | None,
        device: torch.device,
        finenet: FineNet | None = None,
        vgg: Path | None = None,
        quiet: bool = False,
        processes: Processes | None = None,
    ):
        self.config, self.device, self.waited = config, device, 0.0
        self.processes = processes or Processes()
        self.share = self.processes.share(config.batch, "crops of a batch")
        self.bfloat16 = config.bfloat16 and computes_bfloat16(device)
        self.end_to_end = config.coarse_learning_rate > 0
        self.name = "end-to-end" if self.end_to_end else "fine"
        size = max(config.face_sizes)
        cache = folder / "faces.npz" if folder else None
        faces = photos, model, coarsenet, config.iterations, size, cache, quiet
        if self.processes.first:
            self.faces = collect_faces(*faces)
        self.processes.decision(True, device)  # the others wait, and read what the first stored
        if not self.processes.first:
            self.faces = collect_faces(*faces)
        self.data_description = f"{len(self.faces.r)} unlabelled photographs of faces"
        self.model = model.to(device)
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
        regions = model.regions
        skin = regions["face"] * (1 - regions["mouth_interior"])
        self.skin = (skin * (1 - regions["eye_left"]) * (1 - regions["eye_right"]))[None, :, None]
        brows = model.mean[model.landmarks[17:27], 1].max() + BARE_FOREHEAD_MM
        self.below_brows = (model.mean[:, 1] < brows).float()[None, :, None]
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
        """Light (N, 4) and albedo coefficients (N, K) of every face: Eqs. (11) and (12), once."""
        lights, albedos = [], []
        for start in range(0, len(self.faces.r), 16):
            image, r = self._faces(slice(start, start + 16), COARSE_SIZE)
            rendering = render(self.model, r, COARSE_SIZE)
            normals = normals_from_depth(rendering.depth, self._pixel_mm(r, COARSE_SIZE))
            below_brows = interpolate(
                self.skin * self.below_brows, rendering.fragments, self.model.triangles
            )
            skin = below_brows > 0.5
            found = recover_robustly(
                image, *albedo_maps(self.model, rendering.fragments), normals, skin
            )
            lights.append(found.light)
            albedos.append(found.albedo_coefficients)
        return torch.cat(lights), torch.cat(albedos)

    def _faces(self, chosen: slice | Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Grey crops (B, 1, size, size) and their r."""
        chosen = chosen.numpy() if isinstance(chosen, Tensor) else chosen
        grey = torch.from_numpy(self.faces.grey[chosen])[:, None].to(self.device)
        image = F.interpolate(grey.float() / 255, size=(size, size), mode="area")
        return image, torch.from_numpy(self.faces.r[chosen]).to(self.device)

    def _pixel_mm(self, r: Tensor, size: int) -> Tensor:
        pose = split(r, self.model.n_coefficients)[1]
        return 1 / pose_parameters(pose, size).scale.detach()

    def batches(self, start: int) -> Iterable[tuple[Tensor, int, Tensor]]:
        """(indices of the faces, size of their crops, places of their windows in [0, 1))."""
        index = start
        while True:
            generator = torch.Generator().manual_seed(mixed_seed("crops", self.config.seed, index))
            chosen = torch.randint(len(self.faces.r), (self.config.batch,), generator=generator)
            sizes = self.config.face_sizes
            size = sizes[int(torch.randint(len(sizes), (1,), generator=generator))]
            places = torch.rand(self.config.batch, generator=generator)
            yield chosen[self.share], size, places[self.share]
            index += 1

    def losses(self, batch) -> Iterator[dict[str, Tensor]]:
        """One step of 4.3, or end to end of 4.4 with the gradient through the last iteration."""
        chosen, size, places = batch
        image, original = self._faces(chosen, size)
        r = original
        if self.end_to_end:
            coarsenet = self.networks["coarsenet"].eval()  # keep the statistics of its own training
            small = F.interpolate(image, size=(COARSE_SIZE, COARSE_SIZE), mode="area")
            with torch.no_grad():
                r = iterate(coarsenet, self.model, small, self.config.iterations - 1)[-1]
            maps = feedback(self.model, small, r, coarsenet.config)
            r = self.trained["coarsenet"](maps, r)
            fidelity = (r - original).square().mean()
        terms = self.criterion(image, r, self.light[chosen], self.albedo[chosen], places)
        if self.end_to_end:
            terms["coarse_fidelity"] = fidelity
            terms["loss"] = terms["loss"] + self.config.coarse_fidelity_weight * fidelity
        yield terms

    def criterion(
        self,
        image: Tensor,
        r: Tensor,
        light: Tensor,
        albedo_coefficients: Tensor,
        places: Float[Tensor, " batch"] | None = None,
    ) -> dict[str, Tensor]:
        """Terms of Eq. (14) on one window per face, at these places of it; else on all of it."""
        config, size = self.config, image.shape[-1]
        rendering = render(self.model, r, size)
        mm_per_pixel = self._pixel_mm(r, size)
        coarse = rendering.depth.detach()
        with torch.no_grad():
            grey = self.model.albedo(albedo_coefficients) @ coarse.new_tensor(LUMA)[:, None]
            albedo = interpolate(grey.clamp(0, 1), rendering.fragments, self.model.triangles)
            trust = interpolate(self.skin, rendering.fragments, self.model.triangles)
            normals = normals_from_depth(coarse, mm_per_pixel, rendering.mask)
            target, albedo = detail_target(
                image,
                albedo,
                light,
                normals,
                rendering.mask,
                trust,
                config.detail_radius * size,
                config.detail_limit,
            )
        maps = [image, rendering.depth, coarse, rendering.mask, target, albedo]
        if places is not None and config.crop_size < size:
            maps = self._cut(maps, trust > 0.5, places)
        image, depth, coarse, mask, target, albedo = maps
        with torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.bfloat16 and torch.is_grad_enabled(),
        ):
            finenet = self.trained["finenet"] if places is not None else self.networks["finenet"]
            fine = finenet(image, depth, mask, mm_per_pixel).float()
        if config.gradient_cutoff > 0 and fine.requires_grad:
            fine.register_hook(lambda g: sobolev_gradient(g, config.gradient_cutoff))
        loss = finenet_loss(
            fine,
            coarse,
            target,
            albedo,
            light,
            mask,
            mm_per_pixel,
            config.shading_weight,
            config.fidelity_weight,
            config.smoothness_weight,
        )
        return {
            "loss": loss.total,
            "shading": loss.shading,
            "fidelity": loss.fidelity,
            "smoothness": loss.smoothness,
        }

    def _cut(self, maps: list[Tensor], skin: Tensor, places: Tensor) -> list[Tensor]:
        """The same window of every map, centred on a pixel of skin: at this share of them all."""
        side, size = self.config.crop_size, skin.shape[-1]
        corners = []
        for face, place in zip(skin[:, 0].cpu(), places.tolist(), strict=True):
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
        """Terms of Eq. (14) on the first 16 faces, and of their coarse surfaces (`coarse_*`)."""
        image, r = self._faces(slice(16), COARSE_SIZE)
        shading = self.light[:16], self.albedo[:16]
        fine = self.criterion(image, r, *shading)
        last = networks["finenet"].regress3
        kept = last.weight.detach().clone(), last.bias.detach().clone()
        last.weight.zero_()
        last.bias.zero_()  # FineNet with a zero last layer returns the coarse depth
        coarse = self.criterion(image, r, *shading)
        last.weight.copy_(kept[0])
        last.bias.copy_(kept[1])
        metrics = {name: value.item() for name, value in fine.items()}
        return metrics | {f"coarse_{name}": value.item() for name, value in coarse.items()}

    @torch.no_grad()
    def pictures(self, networks: nn.ModuleDict) -> dict[str, Tensor]:
        """Four faces: photograph, coarse and fine surface."""
        size = COARSE_SIZE
        image, r = self._faces(slice(4), size)
        rendering = render(self.model, r, size)
        mm = self._pixel_mm(r, size)
        fine = networks["finenet"](image, rendering.depth, rendering.mask, mm)
        light = image.new_tensor([[0.25, -0.3, 0.3, 0.6]]).expand(len(image), 4)
        columns = [image]
        for depth in (rendering.depth, fine):
            normals = normals_from_depth(depth, mm, rendering.mask)
            clay = shade(torch.ones_like(image), light, normals)
            columns.append(torch.where(rendering.mask, clay.clamp(0, 1), 1.0))
        sheet = torch.cat(columns, dim=3)
        return {"surfaces": torch.cat(list(sheet), dim=1).expand(3, -1, -1)}
