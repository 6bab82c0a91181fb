"""CoarseNet on photographs without a truth: does it settle, is the result plausible and steady."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from facerecon.camera import POSE_UNITS, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.evaluation.coarse import projected_landmarks
from facerecon.evaluation.metrics import point_error
from facerecon.imaging import Crop, ImageError, crop, load_image, to_grey
from facerecon.morphable_model import MorphableModel

LARGEST_COEFFICIENT = 5.0
"""Standard deviations; a face beyond that is not believed."""


class CroppedPhotos(NamedTuple):
    """Face crops of photographs.

    names: one for each crop. image (N, 1, S, S): grey.
    frame (N, 4): the photograph's left, top, right and bottom edge in pixels of the crop.
    failed: why the others gave none, by name.
    """

    names: list[str]
    image: Tensor
    frame: Tensor
    failed: dict[str, str]


Follow = Callable[[Float[np.ndarray, "height width 3"], Crop], Crop]
"""From a photograph and the crop of a detector's box to the crop to use."""


def load_photos(
    paths: Sequence[str | Path], size: int = 200, follow: Follow | None = None
) -> CroppedPhotos:
    """The largest face of each photograph, cropped as for CoarseNet.

    Args:
        paths: image files.
        size: pixels of the crops.
        follow: moves the detector's crop, as `detection.recrop` does.

    Raises:
        ImageError: no photograph shows a face that the detector finds.
    """
    names, images, frames, failed = [], [], [], {}
    for path in map(Path, paths):
        try:
            photo = load_image(path)
            face, square = crop(photo, largest_face(photo).crop_box(), size)
            if follow is not None:
                square = follow(photo, square)
                face = square.cut(photo)
        except (ImageError, NoFaceError) as error:
            failed[path.name] = str(error)
            continue
        corners = np.array([[0, 0], [photo.shape[1] - 1, photo.shape[0] - 1]], dtype=np.float64)
        names.append(path.name)
        images.append(torch.from_numpy(to_grey(face))[None])
        frames.append(torch.from_numpy(square.to_crop(corners).ravel()).float())
    if not names:
        raise ImageError(f"no face was found in any of {len(failed)} photographs; give others")
    return CroppedPhotos(names, torch.stack(images), torch.stack(frames), failed)


@torch.no_grad()
def evaluate_photos(
    network: CoarseNet,
    model: MorphableModel,
    photos: CroppedPhotos,
    iterations: int = 4,
    batch: int = 25,
) -> dict[str, Tensor]:
    """Per-photograph measures.

    Returns:
        r (N, numbers), the last estimate; landmarks (N, 68, 2) in pixels of the crop.
        moved, turned, changed (N, iterations): what each step changes: landmarks in percent of the
        face box, the rotation in degrees, the shape in mm (root of Eq. (4)).
        largest (N,): largest absolute coefficient. inside (N,): the landmarks' box lies inside the
        photograph. accepted (N,): both are as they should be.
        mirror (N,): distance of the landmarks from those of the mirrored crop, percent of the face
        box; 0 for a mirror-equivariant network.
    """
    parts = []
    for image, frame in zip(photos.image.split(batch), photos.frame.split(batch), strict=True):
        image, frame = image.to(model.mean), frame.to(model.mean)
        parts.append(_measures(network, model, image, frame, iterations))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _measures(
    network: CoarseNet, model: MorphableModel, image: Tensor, frame: Tensor, iterations: int
) -> dict[str, Tensor]:
    size, n = image.shape[-1], model.n_coefficients
    steps = iterate(network, model, image, iterations)
    points = torch.stack([projected_landmarks(model, r, size) for r in steps], dim=1)
    last = points[:, -1]
    metric = model.geometry_metric()
    moved, turned, changed = [], [], []
    for t in range(1, len(steps)):
        shape, pose = split(steps[t] - steps[t - 1], n)
        moved.append(point_error(points[:, t - 1], points[:, t]))
        angles = pose[:, :3] * POSE_UNITS[:3].to(pose)
        turned.append(angles.norm(dim=1).rad2deg())
        changed.append(torch.einsum("bi,ij,bj->b", shape, metric, shape).clamp(min=0).sqrt())
    low, high = last.amin(1), last.amax(1)
    inside = (low >= frame[:, :2]).all(1) & (high <= frame[:, 2:]).all(1)
    largest = steps[-1][:, :n].abs().amax(1)
    sides = image, image.flip(3)  # each alone: together they agree by construction
    alone = [iterate(network, model, side, iterations, both_sides=False)[-1] for side in sides]
    ahead, mirrored = (projected_landmarks(model, r, size) for r in alone)
    mirrored = mirrored[:, mirror_landmarks(model)]
    mirrored[..., 0] = (size - 1) - mirrored[..., 0]
    return {
        "r": steps[-1],
        "landmarks": last,
        "moved": torch.stack(moved, 1),
        "turned": torch.stack(turned, 1),
        "changed": torch.stack(changed, 1),
        "largest": largest,
        "inside": inside,
        "accepted": inside & (largest <= LARGEST_COEFFICIENT),
        "mirror": point_error(mirrored, ahead),
    }


def mirror_landmarks(model: MorphableModel) -> Int[Tensor, " 68"]:
    """The landmark on the other side of the face, for each landmark."""
    points = model.mean[model.landmarks]
    return torch.cdist(points * points.new_tensor([-1.0, 1.0, 1.0]), points).argmin(1)


def worst_first(measures: dict[str, Tensor]) -> Int[Tensor, " photos"]:
    """Indices: those not accepted, then by the disagreement with the mirrored photograph."""
    return (measures["mirror"] + 1e6 * ~measures["accepted"]).argsort(descending=True)


def photo_table(measures: dict[str, Tensor]) -> str:
    """What every iteration changes, and the shares that converge and are accepted."""
    moved = measures["moved"]
    lines = [f"{'step':<8}{'landmarks %':>14}{'90 %':>10}{'rotation deg':>14}{'shape mm':>12}"]
    for t in range(moved.shape[1]):
        lines.append(
            f"{t + 1:<8}{moved[:, t].median():>14.2f}{moved[:, t].quantile(0.9):>10.2f}"
            f"{measures['turned'][:, t].median():>14.2f}{measures['changed'][:, t].median():>12.2f}"
        )
    lines += ["", "medians of what a step changes; landmarks: percent of the face box"]
    for text, value in photo_summary(measures).items():
        lines.append(f"{text:<44}{value:>8.2f}")
    return "\n".join(lines)


def photo_summary(measures: dict[str, Tensor]) -> dict[str, float]:
    """The shares and averages of `photo_table`."""
    moved = measures["moved"]
    result = {"accepted, %": 100 * measures["accepted"].float().mean().item()}
    result["landmark box inside the photograph, %"] = 100 * measures["inside"].float().mean().item()
    result["largest coefficient, median"] = measures["largest"].median().item()
    if moved.shape[1] > 1:
        shrinks = (moved[:, 1:] < moved[:, :-1]).all(1).float().mean()
        result["every step smaller than the one before, %"] = 100 * shrinks.item()
        result["last step over the one before, median"] = (
            (moved[:, -1] / moved[:, -2].clamp(min=1e-9)).median().item()
        )
    result["mirrored photograph, landmarks %, median"] = measures["mirror"].median().item()
    result["mirrored photograph, landmarks %, 90 %"] = measures["mirror"].quantile(0.9).item()
    return result
