"""Faces of unlabeled photographs, detected, cropped and fitted once for FineNet's training."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import nn
from tqdm import tqdm

from facerecon.camera import split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.detect import NoFaceError, detect_faces
from facerecon.imaging import ImageError, crop, list_images, load_image, to_grey

COARSE_SIZE = 200  # CoarseNet's input (3.4)
MAX_LAST_MOVE = 0.5  # pose units in the last iteration; a fit that still moves more has failed

PIGMENT_SCALE = 0.08
"""Deviation of log(red / green) from its surroundings at which a pixel is trusted half."""

PIGMENT_RADIUS = 0.04
"""Standard deviation of those surroundings, crop widths."""


class FaceCrops(NamedTuple):
    """Faces of a folder of photographs, as the networks see them."""

    grey: np.ndarray  # (N, S, S) uint8
    even: np.ndarray  # (N, S, S) uint8: `even_pigment`, 255 for 1
    r: np.ndarray  # (N, numbers): CoarseNet's answer


def even_pigment(rgb: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """Trust in [0, 1] that a pixel's brightness is shading: 1 where skin has its usual color.

    Shading changes all colors alike. Brows, moles, lips and freckles also change the ratio of red
    to green, so what they do to the brightness must not become geometry.
    """
    ratio = np.log((rgb[..., 0] + 0.02) / (rgb[..., 1] + 0.02))
    ratio = gaussian_filter(ratio, 0.7)  # JPEG keeps color at half the resolution
    change = ratio - gaussian_filter(ratio, PIGMENT_RADIUS * len(rgb))
    return 1 / (1 + (change / PIGMENT_SCALE) ** 2)


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
            if str(stored["fingerprint"]) == fingerprint and "even" in stored:
                return FaceCrops(stored["grey"], stored["even"], stored["r"])

    greys, evens, fits = [], [], []
    for path in tqdm(paths, desc="faces", unit="photo", disable=quiet):
        try:
            image = load_image(path)
            box = detect_faces(image)[0].crop_box()
            large, square = crop(image, box, size)
            small = to_grey(square.at(COARSE_SIZE).cut(image))
        except (ImageError, NoFaceError, ValueError):
            continue
        with torch.no_grad():
            steps = iterate(coarsenet, model, torch.from_numpy(small)[None, None], iterations)
        moved = split(steps[-1] - steps[-2], model.n_coefficients)[1].abs().max()
        if moved < MAX_LAST_MOVE:
            greys.append(_bytes(to_grey(large)))
            evens.append(_bytes(even_pigment(large)))
            fits.append(steps[-1][0].numpy())
    if not fits:
        raise ValueError(f"{photos}: no face that CoarseNet could fit in {len(paths)} photographs")
    faces = FaceCrops(np.stack(greys), np.stack(evens), np.stack(fits))
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_name("partial_" + cache.name)
        np.savez(partial, fingerprint=np.array(fingerprint), **faces._asdict())
        partial.replace(cache)
    return faces


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)
