"""Follows one face through a clip, and settles who it is and how it moved (`Track`)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import trim_mean
from torch import Tensor

from facerecon.camera import CROP_MM, N_POSE, POSE_UNITS
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.detection.box import CROP_MARGIN, Box
from facerecon.detection.detect import NoFaceError, detect_faces, largest_face
from facerecon.detection.judge import expected_errors_of_fits
from facerecon.detection.recrop import FAILED, fit, place
from facerecon.imaging import Crop, square_crop, to_grey
from facerecon.morphable_model import MorphableModel
from facerecon.video.clip import Frame
from facerecon.video.smoothing import runs, smoothed

SIZE = 200
"""Pixels of the crop that CoarseNet sees (3.4)."""

LOST_MM = 4.0
"""Expected error of a fit, from which the face counts as lost: on faces it is about 2 mm."""

CUTOFF_HZ = 5.0
"""Default of `smooth`: of movements this fast, half of the swing stays."""

TRIMMED = 0.2
"""Share of the frames that the mean identity leaves out at each end, number by number."""


@dataclass(frozen=True, eq=False)
class Track:
    """One face over the frames of a clip; rows hold NaN where it was not found.

    Attributes:
        number, time: of every frame: its place in the file, seconds.
        found: whether the face was found there.
        crop: left and top edge and side in pixels, as of `imaging.Crop`, of the square that is
            centered on the face and as large as the mean crop: in it, translation and scale of the
            pose are zero.
        angles: pitch, yaw and roll, radians (docs/conventions.md).
        coefficients: identity and expression, in standard deviations.
        shape: rows and columns of the frames.
    """

    number: Int[np.ndarray, " frames"]
    time: Float[np.ndarray, " frames"]
    found: Bool[np.ndarray, " frames"]
    crop: Float[np.ndarray, "frames 3"]
    angles: Float[np.ndarray, "frames 3"]
    coefficients: Float[np.ndarray, "frames coefficients"]
    shape: tuple[int, int]

    def crop_of(self, index: int, size: int = SIZE) -> Crop:
        """The square of a frame at some number of pixels."""
        return Crop(*map(float, self.crop[index]), size)

    def representation(self, index: int) -> Float[Tensor, "1 n"]:
        """r of a frame, in the frame of `crop_of`."""
        pose = np.zeros(N_POSE)
        pose[:3] = self.angles[index] / POSE_UNITS[:3].numpy()
        numbers = np.concatenate([self.coefficients[index], pose]).astype(np.float32)
        return torch.from_numpy(numbers)[None]

    @property
    def center(self) -> Float[np.ndarray, "frames 2"]:
        """Column and row of the model's origin."""
        return self.crop[:, :2] + self.crop[:, 2:] / 2 - 0.5

    @property
    def pixels_per_mm(self) -> Float[np.ndarray, " frames"]:
        """Scale of the camera."""
        return self.crop[:, 2] / CROP_MM


def follow(network: CoarseNet, model: MorphableModel, frames: Iterable[Frame]) -> Track:
    """Fit one face in every frame of a clip, each frame by itself.

    The face is the largest one where one is found first. In the next frame the crop is where the
    last fit left it, which takes no detector. Where the network itself expects its fit to be off by
    more than `LOST_MM`, the face is lost: the detector looks for it, in each frame until it finds
    one, and of several takes the nearest to where the face was.

    Raises:
        NoFaceError: no frame shows a face.
        ValueError: no frame at all.
    """
    rows: list[tuple[int, float, Crop | None, np.ndarray | None]] = []
    crop = last = None
    shape = (0, 0)
    for frame in frames:
        shape = frame.image.shape[:2]
        fitted = _fit_near(network, model, frame.image, crop) if crop is not None else None
        if fitted is None:
            fitted = _find(network, model, frame.image, last)
        if fitted is None:
            crop = None
            rows.append((frame.number, frame.time, None, None))
            continue
        crop, r = fitted
        last = crop
        rows.append((frame.number, frame.time, crop, r))
    if not rows:
        raise ValueError("no frames to follow a face in")
    if last is None:
        raise NoFaceError(f"no face found in any of {len(rows)} frames")
    n = model.n_coefficients
    found = np.array([r is not None for *_, r in rows])
    crops, angles = np.full((len(rows), 3), np.nan), np.full((len(rows), 3), np.nan)
    coefficients = np.full((len(rows), n), np.nan, np.float32)
    for index, (_, _, crop, r) in enumerate(rows):
        if crop is not None:
            crops[index] = crop.x, crop.y, crop.side
            coefficients[index] = r[:n]
            angles[index] = r[n : n + 3] * POSE_UNITS[:3].numpy()
    number, time = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return Track(number, time, found, crops, angles, coefficients, shape)


def _fit_near(
    network: CoarseNet, model: MorphableModel, image: np.ndarray, crop: Crop
) -> tuple[Crop, np.ndarray] | None:
    """The face where it was before, or None if it is not there."""
    rows, columns = image.shape[:2]
    middle = crop.x + crop.side / 2, crop.y + crop.side / 2
    if not (0 < middle[0] < columns and 0 < middle[1] < rows):
        return None
    grey = torch.from_numpy(to_grey(crop.cut(image))).to(model.mean)[None, None]
    return _accepted(network, model, grey, iterate(network, model, grey)[-1], crop)


def _find(
    network: CoarseNet, model: MorphableModel, image: np.ndarray, last: Crop | None
) -> tuple[Crop, np.ndarray] | None:
    """The largest face, or the one nearest to where it was, if there is one."""
    try:
        if last is None:
            box = largest_face(image, network, model)
        else:
            box = min(detect_faces(image, network, model), key=lambda box: _apart(box, last))
    except NoFaceError:
        return None
    crop = square_crop(box.crop_box(), image.shape[:2], SIZE)
    steps, crop = fit(network, model, image, crop)
    grey = torch.from_numpy(to_grey(crop.cut(image))).to(model.mean)[None, None]
    return _accepted(network, model, grey, steps[-1], crop)


def _apart(box: Box, crop: Crop) -> float:
    """How far apart two faces are, in widths, counting also how they differ in size."""
    side = crop.side / CROP_MARGIN
    right = box.x + box.width / 2 - crop.x - crop.side / 2
    down = box.y + box.height / 2 - crop.y - crop.side / 2
    return float(np.hypot(right, down) / side + abs(np.log(box.width / side)))


@torch.no_grad()
def _accepted(
    network: CoarseNet, model: MorphableModel, grey: Tensor, r: Tensor, crop: Crop
) -> tuple[Crop, np.ndarray] | None:
    """The centered crop and r, unless the fit is none of a face."""
    moved = place(r[0, model.n_coefficients :])
    if not torch.isfinite(r).all() or max(map(abs, moved)) > FAILED:
        return None
    if network.config.points:
        error = expected_errors_of_fits(network, model, grey, r)
        if error.item() > LOST_MM:
            return None
    return crop.moved(*moved), r[0].cpu().numpy()


def mean_identity(track: Track, n_identity: int) -> Float[np.ndarray, " identity"]:
    """Who the face is: the trimmed mean over the frames of each number, in standard deviations."""
    identity = track.coefficients[track.found, :n_identity]
    return trim_mean(identity.astype(np.float64), TRIMMED, axis=0).astype(np.float32)


def with_identity(track: Track, identity: Float[np.ndarray, " identity"]) -> Track:
    """The track with one identity in all frames; expression and pose stay what they are.

    Fitting those again under the fixed identity came out no nearer to the truth on rendered clips:
    what CoarseNet says of identity differs little from frame to frame.
    """
    coefficients = track.coefficients.copy()
    coefficients[track.found, : len(identity)] = identity
    return replace(track, coefficients=coefficients)


def smooth(track: Track, cutoff_hz: float = CUTOFF_HZ) -> Track:
    """The track with pose, place and expression smoothed over time, without delay (`smoothed`).

    Frames without the face interrupt: what comes after starts anew.
    """
    crop, angles = track.crop.copy(), track.angles.copy()
    coefficients = track.coefficients.copy()
    for run in runs(track.found):
        center, side = track.center[run], track.crop[run, 2:]
        numbers = np.hstack([center, np.log(side), np.unwrap(angles[run], axis=0)])
        numbers = np.hstack([numbers, coefficients[run]])
        numbers = smoothed(numbers, track.time[run], cutoff_hz)
        side = np.exp(numbers[:, 2:3])
        crop[run] = np.hstack([numbers[:, :2] + 0.5 - side / 2, side])
        angles[run] = numbers[:, 3:6]
        coefficients[run] = numbers[:, 6:]
    return replace(track, crop=crop, angles=angles, coefficients=coefficients)
