"""Table 1 of the paper: depth errors on the pixels that all methods and the truth hold valid.

docs/evaluation.md explains what is compared with what, and what the paper leaves open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.messages import OneLine
from facerecon.methods.estimate import Estimate
from facerecon.scans.alignment import align_depth, rigid_distances
from facerecon.scans.scan import Scan, mm_per_pixel

NOSE_NAMES = ("Nose", "Nose tip")
MIN_COMMON_PIXELS = 500
"""On fewer pixels, a comparison is not meaningful."""

BIN_MM = 0.02
BINS = 5000
"""The last bin of a histogram also holds everything beyond 100 mm."""


@dataclass(frozen=True)
class ProtocolConfig:
    """How depth errors are taken (Table 1); docs/evaluation.md gives the reasons."""

    translation: str = "median"  # along z: that, or "mean", of the differences becomes 0; "none"
    scale: str = "none"  # of the relief: "none"; "size", true over assumed pixel width; "fit"
    rigid: bool = False  # then rotate and translate by ICP and measure between the surfaces
    crop_mm: float | None = None  # only points this near to the tip of the nose
    registration: str = "report"  # of photograph and range: "report" the offset, or "correct" it
    least_offset: float = 2.5  # pixels; a smaller one is within the error of measuring it
    quantile: float = 0.9
    bootstrap: int = 2000  # resamples of the subjects
    confidence: float = 0.95
    seed: int = 0


class ProtocolError(OneLine, ValueError):
    """A comparison that cannot be made."""


class Score(NamedTuple):
    """Absolute errors of one method on one scan, mm.

    mean: of all common pixels; high: their 90 % quantile (`ProtocolConfig.quantile`);
    histogram: pixels per BIN_MM.
    """

    mean: float
    high: float
    histogram: list[int]


class Interval(NamedTuple):
    """A value and its bootstrap confidence interval."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """One method of the table, mm.

    mean, high: averages over the scans of `Score.mean` and `Score.high`. pooled_mean, pooled_high:
    the same of all pixels of all scans taken together. behind: by how much `mean` exceeds the first
    method's, on the same scans.
    """

    method: str
    scans: int
    mean: Interval
    high: Interval
    pooled_mean: float
    pooled_high: float
    behind: Interval


def common_pixels(
    scan: Scan, estimates: Mapping[str, Estimate], crop_mm: float | None = None
) -> Bool[np.ndarray, "height width"]:
    """The pixels where the truth and every method have a depth, near the nose if asked for.

    Args:
        crop_mm: radius of the ball about the tip of the nose that the true points lie in.

    Raises:
        ProtocolError: an estimate of another size, or fewer than MIN_COMMON_PIXELS pixels.
    """
    mask = scan.mask.copy()
    for name, estimate in estimates.items():
        if estimate.depth_mm.shape != mask.shape:
            raise ProtocolError(
                f"{scan.name}: the depth of {name!r} has shape {estimate.depth_mm.shape}, the"
                f" photograph {mask.shape}"
            )
        mask &= np.isfinite(estimate.depth_mm)
    if crop_mm is not None:
        mask &= near_nose(scan, crop_mm)
    if mask.sum() < MIN_COMMON_PIXELS:
        raise ProtocolError(
            f"{scan.name}: only {int(mask.sum())} pixels are valid for the scan and for all of"
            f" {', '.join(estimates)}"
        )
    return mask


def nose_tip(scan: Scan) -> tuple[int, int]:
    """Row and column of the tip of the nose.

    The dataset's own landmark if there is one, else the nearest measured point in the middle of
    the detector's box, else the nearest one of the whole scan.
    """
    height, width = scan.mask.shape
    for name in NOSE_NAMES:
        if name in scan.landmarks:
            column, row = np.rint(scan.landmarks[name]).astype(int)
            if 0 <= row < height and 0 <= column < width:
                return int(row), int(column)
    part = np.zeros_like(scan.mask)
    try:
        box = largest_face(scan.image)
        rows, columns = (
            slice(max(0, round(start + 0.3 * side)), max(0, round(start + 0.75 * side)))
            for start, side in ((box.y, box.height), (box.x, box.width))
        )
        part[rows, columns] = True
    except NoFaceError:
        part[:] = True
    part = part & scan.mask if (part & scan.mask).any() else scan.mask
    depth = np.where(part, scan.depth_mm, -np.inf)
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row), int(column)


def near_nose(scan: Scan, radius_mm: float) -> Bool[np.ndarray, "height width"]:
    """The measured pixels within a ball about the tip of the nose."""
    row, column = nose_tip(scan)
    here, there = np.nonzero(scan.mask)
    nearest = np.argmin((here - row) ** 2 + (there - column) ** 2)
    tip = scan.points[here[nearest], there[nearest]]
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(scan.points - tip, axis=-1) <= radius_mm


def errors(
    scan: Scan,
    estimate: Estimate,
    mask: Bool[np.ndarray, "height width"],
    config: ProtocolConfig | None = None,
) -> Float[np.ndarray, " pixels"]:
    """Absolute errors in mm of one method at the pixels of a mask, after the alignment asked for.

    Raises:
        ValueError: an alignment that does not exist or that the method cannot have.
    """
    config = config or ProtocolConfig()
    truth, depth = (values[mask].astype(np.float64) for values in (scan.depth_mm, estimate[0]))
    size = mm_per_pixel(scan.points, mask) / estimate.mm_per_pixel
    aligned = align_depth(depth, truth, config.translation, config.scale, size)
    if not config.rigid:
        return np.abs(aligned - truth)
    points = np.column_stack([scan.points[mask][:, :2], aligned])
    return rigid_distances(points, scan.points[scan.mask & _within(mask, margin=10)])


def score(
    scan: Scan, estimates: Mapping[str, Estimate], config: ProtocolConfig | None = None
) -> dict[str, Score]:
    """The errors of all methods on one scan, on the same pixels.

    Raises:
        ProtocolError: see `common_pixels`.
        ValueError: see `errors`.
    """
    config = config or ProtocolConfig()
    mask = common_pixels(scan, estimates, config.crop_mm)
    found = {}
    for name, estimate in estimates.items():
        error = errors(scan, estimate, mask, config)
        bins = np.minimum((error / BIN_MM).astype(int), BINS - 1)
        found[name] = Score(
            float(error.mean()),
            float(np.quantile(error, config.quantile)),
            np.bincount(bins).tolist(),
        )
    return found


def score_table(
    scores: Sequence[Mapping[str, Score]],
    subjects: Sequence[str],
    config: ProtocolConfig | None = None,
) -> list[Row]:
    """Table 1 from the scores of many scans, in the order of the first scan's methods.

    Confidence intervals are percentiles over resampled subjects, not scans: scans of one person
    are no independent evidence. All methods share the resamples.

    Args:
        scores: of every scan, with the same methods.
        subjects: who each scan shows.

    Raises:
        ProtocolError: no scan at all.
    """
    config = config or ProtocolConfig()
    if not scores:
        raise ProtocolError("no scan was evaluated, so there is no table")
    names = list(scores[0])
    values = {
        field: np.array([[getattr(s[name], field) for name in names] for s in scores])
        for field in ("mean", "high")
    }
    weights = _resampled_weights(subjects, config.bootstrap, config.seed)
    rows = []
    for index, name in enumerate(names):
        behind = values["mean"][:, index] - values["mean"][:, 0]
        histogram = np.zeros(BINS)
        for item in scores:
            histogram[: len(item[name].histogram)] += item[name].histogram
        pixels = [sum(item[name].histogram) for item in scores]
        rows.append(
            Row(
                name,
                len(scores),
                _interval(values["mean"][:, index], weights, config.confidence),
                _interval(values["high"][:, index], weights, config.confidence),
                float(np.average(values["mean"][:, index], weights=pixels)),
                _quantile(histogram, config.quantile),
                _interval(behind, weights, config.confidence),
            )
        )
    return rows


def paired_interval(
    differences: Float[np.ndarray, " scans"],
    subjects: Sequence[str],
    config: ProtocolConfig | None = None,
) -> Interval:
    """The mean of differences between two methods on the same scans, subjects resampled.

    Two methods of which the interval contains zero cannot be told apart on these subjects.
    """
    config = config or ProtocolConfig()
    weights = _resampled_weights(subjects, config.bootstrap, config.seed)
    return _interval(differences, weights, config.confidence)


def _within(mask: Bool[np.ndarray, "height width"], margin: int) -> np.ndarray:
    """The bounding box of a mask, a margin wider."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = np.zeros_like(mask)
    box[
        max(0, rows[0] - margin) : rows[-1] + margin + 1,
        max(0, columns[0] - margin) : columns[-1] + margin + 1,
    ] = True
    return box


def _resampled_weights(
    subjects: Sequence[str], count: int, seed: int
) -> Int[np.ndarray, "count scans"]:
    """How often each scan appears when the subjects are resampled with replacement."""
    people, index = np.unique(np.asarray(subjects), return_inverse=True)
    share = np.full(len(people), 1 / len(people))
    return np.random.default_rng(seed).multinomial(len(people), share, count)[:, index]


def _interval(
    values: Float[np.ndarray, " scans"],
    weights: Int[np.ndarray, "count scans"],
    confidence: float,
) -> Interval:
    resampled = weights @ values / weights.sum(axis=1)
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _quantile(histogram: Float[np.ndarray, " bins"], quantile: float) -> float:
    """A quantile of binned values, linear inside the bin."""
    below = np.concatenate([[0], np.cumsum(histogram)])
    return float(np.interp(quantile * below[-1], below, np.arange(len(below)) * BIN_MM))
