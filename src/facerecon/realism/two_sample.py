"""Tests whether two sets of images come from one source, by their statistics."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import ks_2samp, rankdata, wasserstein_distance

Statistics = Mapping[str, np.ndarray]  # name -> one number per image


class Difference(NamedTuple):
    """How one statistic differs between a reference and another sample."""

    ks: float  # Kolmogorov-Smirnov: largest distance of the distribution functions, 0 to 1
    p: float  # of a ks as large as this where both samples have one source
    wasserstein: float  # mean distance that mass must move, in standard deviations of the reference
    shift: float  # of the mean, in the same unit; positive: the other sample is larger


def compare(
    reference: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"], unit: float | None = None
) -> Difference:
    """Compare two samples of one statistic.

    Args:
        unit: of `wasserstein` and `shift`; by default the standard deviation of the reference.
    """
    found = ks_2samp(reference, other)
    unit = unit if unit is not None else float(reference.std())
    unit = unit or 1.0  # a constant reference: in the statistic's own unit
    return Difference(
        float(found.statistic),
        float(found.pvalue),
        float(wasserstein_distance(reference, other)) / unit,
        float(other.mean() - reference.mean()) / unit,
    )


def discriminate(
    first: Statistics, second: Statistics, rng: np.random.Generator, folds: int = 5
) -> float:
    """Area under the ROC curve of a classifier that tells the samples apart by all statistics.

    A ridge logistic regression on the statistics and their squares, scored on images that it was
    not fitted to (cross-validation): 0.5 is chance, 1 is perfect.

    Args:
        rng: chooses the folds.

    Raises:
        ValueError: a sample has fewer images than there are folds.
    """
    columns = [np.column_stack([sample[name] for name in first]) for sample in (first, second)]
    if min(map(len, columns)) < folds:
        raise ValueError(f"a comparison needs at least {folds} images of each kind")
    features = np.concatenate(columns)
    label = np.repeat([0.0, 1.0], [len(c) for c in columns])
    fold = np.concatenate([rng.permutation(len(c)) % folds for c in columns])
    areas = []
    for held in range(folds):
        train, test = fold != held, fold == held
        known, new = _standardized(features[train], features[test])
        areas.append(area_under_curve(new @ _logistic(known, label[train]), label[test]))
    return float(np.mean(areas))


def area_under_curve(score: Float[np.ndarray, " n"], label: Float[np.ndarray, " n"]) -> float:
    """Probability that an image of label 1 scores above one of label 0 (ties count half)."""
    positive = label == 1
    n, m = positive.sum(), (~positive).sum()
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def halves(count: int, rng: np.random.Generator) -> tuple[Int[np.ndarray, " n"], ...]:
    """Two random halves of range(count)."""
    order = rng.permutation(count)
    return order[: count // 2], order[count // 2 :]


def _standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics, their squares and a constant, scaled by the training images; outliers clipped."""
    middle, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = [np.clip((part - middle) / spread, -3, 3) for part in (train, test)]
    return tuple(np.column_stack([z, z**2 - 1, np.ones(len(z))]) for z in scaled)


def _logistic(features: np.ndarray, label: np.ndarray, ridge: float = 0.03) -> np.ndarray:
    """Weights of a logistic regression with both labels weighing the same; the last is free."""
    sign = 2 * label - 1
    weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean())) / len(label)
    penalty = np.full(features.shape[1], ridge)
    penalty[-1] = 0

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ w)
        value = weight @ np.logaddexp(0, -margin) + penalty @ w**2 / 2
        return value, penalty * w - features.T @ (weight * sign * expit(-margin))

    return minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x
