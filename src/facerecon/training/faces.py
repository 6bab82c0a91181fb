"""Faces of unlabeled photographs, detected, cropped and fitted once for FineNet's training."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from facerecon.appearance import estimate_light_and_albedo, model_maps
from facerecon.camera import split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.files import write_file
from facerecon.imaging import ImageError, crop, list_images, load_image, to_bytes, to_grey
from facerecon.morphable_model import MorphableModel

COARSE_SIZE = 200  # CoarseNet's input (3.4)
MAX_LAST_MOVE = 0.5  # pose units in the last iteration; a fit that still moves more has failed

PIGMENT_SCALE = 0.08
"""Deviation of log(red / green) from its surroundings at which a pixel's weight is 1/2."""

PIGMENT_RADIUS = 0.04
"""Standard deviation of those surroundings, crop widths."""


class FaceCrops(NamedTuple):
    """Faces of a folder of photographs, as the networks see them."""

    grey: np.ndarray  # (N, S, S) uint8
    even: np.ndarray  # (N, S, S) uint8: `even_pigment`, 255 for 1
    r: np.ndarray  # (N, numbers): CoarseNet's answer


class FittedCrops(NamedTuple):
    """Photographed faces and what their coarse fit says of them.

    image (B, 1, S, S): grey crops. even (B, 1, S, S): `even_pigment`. r (B, numbers):
    CoarseNet's answer. light (B, terms), albedo (B, K): of Eqs. (11) and (12).
    """

    image: Tensor
    even: Tensor
    r: Tensor
    light: Tensor
    albedo: Tensor


class PhotographedFaces:
    """The crops of a folder on the model's device, each with its light and albedo, read once.

    Args:
        light_order: of the spherical harmonics.
    """

    def __init__(self, faces: FaceCrops, model: MorphableModel, light_order: int):
        self.faces, self.device = faces, model.mean.device
        lights, albedos = [], []
        for start in range(0, len(self), 16):
            image, _, r = self._rows(slice(start, start + 16), COARSE_SIZE)
            with torch.no_grad():
                maps = model_maps(model, r, COARSE_SIZE)
                found = estimate_light_and_albedo(image, maps, light_order)
            lights.append(found.light)
            albedos.append(found.albedo_coefficients)
        self.light, self.albedo = torch.cat(lights), torch.cat(albedos)

    def __len__(self) -> int:
        return len(self.faces.r)

    def crops(self, chosen: slice | Tensor, size: int) -> FittedCrops:
        """Some of the faces, as crops of `size` pixels."""
        return FittedCrops(*self._rows(chosen, size), self.light[chosen], self.albedo[chosen])

    def _rows(self, chosen: slice | Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = chosen.numpy() if isinstance(chosen, Tensor) else chosen
        maps = [torch.from_numpy(each[rows]) for each in (self.faces.grey, self.faces.even)]
        maps = torch.stack(maps, dim=1).to(self.device).float() / 255
        image, even = interpolate(maps, size=(size, size), mode="area").split(1, dim=1)
        return image, even, torch.from_numpy(self.faces.r[rows]).to(self.device)


def even_pigment(rgb: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """Weight in [0, 1] of a pixel's brightness as shading: 1 where skin has its usual color.

    Shading changes all colors alike. Brows, moles, lips and freckles also change the ratio of red
    to green, so what they do to the brightness must not become geometry.
    """
    ratio = np.log((rgb[..., 0] + 0.02) / (rgb[..., 1] + 0.02))
    ratio = gaussian_filter(ratio, 0.7)  # JPEG keeps color at half the resolution
    change = ratio - gaussian_filter(ratio, PIGMENT_RADIUS * len(rgb))
    return 1 / (1 + (change / PIGMENT_SCALE) ** 2)


def collect_faces(
    photos: Path,
    model: MorphableModel,
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
            if str(stored["fingerprint"]) == fingerprint and "even" in stored:
                return FaceCrops(stored["grey"], stored["even"], stored["r"])

    greys, evens, fits = [], [], []
    for path in tqdm(paths, desc="faces", unit="photo", disable=quiet):
        try:
            image = load_image(path)
            box = largest_face(image).crop_box()
            large, square = crop(image, box, size)
            small = to_grey(square.at(COARSE_SIZE).cut(image))
        except (ImageError, NoFaceError, ValueError):
            continue
        with torch.no_grad():
            steps = iterate(coarsenet, model, torch.from_numpy(small)[None, None], iterations)
        moved = split(steps[-1] - steps[-2], model.n_coefficients)[1].abs().max()
        if moved < MAX_LAST_MOVE:
            greys.append(to_bytes(to_grey(large)))
            evens.append(to_bytes(even_pigment(large)))
            fits.append(steps[-1][0].numpy())
    if not fits:
        raise ValueError(f"{photos}: no face that CoarseNet could fit in {len(paths)} photographs")
    faces = FaceCrops(np.stack(greys), np.stack(evens), np.stack(fits))
    if cache is not None:
        data = io.BytesIO()
        np.savez(data, fingerprint=np.array(fingerprint), **faces._asdict())
        write_file(cache, data.getvalue())
    return faces
