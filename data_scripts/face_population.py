"""A population of plausible faces and expressions, and its principal components."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from makehuman import RACES

# A target and its opposite form one control.
OPPOSITES = (
    ("incr", "decr"), ("up", "down"), ("out", "in"), ("forward", "backward"),
    ("convex", "concave"), ("uncompress", "compress"), ("l", "r"),
)  # fmt: skip
# These move the head on the body, which pose and crop already describe.
NO_SHAPE = ("head-trans", "head-angle", "neck-trans", "measure-neck-height", "neck-scale-vert")
# Spread of a control in units of its target, and in mm for the vertex that it moves most (some
# targets are huge).
MAX_SPREAD = 0.28
MAX_SPREAD_MM = 2.8
# Relative spread of some controls. Raised or lowered corners of the mouth read as an expression.
STRENGTH = {r"asym": 0.75, r"chin": 0.8, r"[lr]-ear": 0.6, r"mouth-angles": 0.5}
SIDE_CORRELATION = 0.95
FINGERPRINT_VERTICES = 12
FINGERPRINT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Control:
    """One degree of freedom: a target for positive values and mostly one for negative values."""

    name: str
    positive: int
    negative: int | None


def controls(names: list[str]) -> list[Control]:
    """Pair the head targets with their opposites; one-sided targets stay alone."""
    index = {name: i for i, name in enumerate(names)}
    found, used = [], set()
    for name in names:
        if name in used or name.startswith(NO_SHAPE):
            continue
        for a, b in (pair for first in OPPOSITES for pair in (first, first[::-1])):
            other = f"{name.removesuffix(a)}{b}"
            if name.endswith(f"-{a}") and other in index:
                found.append(Control(name.removesuffix(f"-{a}"), index[name], index[other]))
                used |= {name, other}
                break
        else:
            found.append(Control(name, index[name], None))
    return found


def macro_weights(names: list[str], n: int, generator: np.random.Generator) -> np.ndarray:
    """(n, targets) weights of the macro targets for `n` persons."""

    def thirds(x: np.ndarray, kind: str) -> dict[str, np.ndarray]:
        levels = {
            "min": np.clip(1 - 2 * x, 0, 1),
            "average": 1 - np.abs(2 * x - 1),
            "max": np.clip(2 * x - 1, 0, 1),
        }
        return {level + kind: weight for level, weight in levels.items()}

    def unit_normal(spread: float) -> np.ndarray:
        return np.clip(generator.normal(0.5, spread, n), 0, 1)

    gender, age = generator.beta(0.6, 0.6, n), generator.beta(0.9, 1.6, n)
    muscle, weight, height, proportion = map(unit_normal, (0.17, 0.2, 0.15, 0.15))
    race = generator.dirichlet(np.full(len(RACES), 0.5), n)
    factors = {
        "male": 1 - gender, "female": gender, "young": 1 - age, "old": age,
        "minheight": 1 - height, "maxheight": height,
        "idealproportions": 1 - proportion, "uncommonproportions": proportion,
        **thirds(muscle, "muscle"), **thirds(weight, "weight"),
        **dict(zip(RACES, race.T, strict=True)), "universal": np.ones(n),
    }  # fmt: skip
    weights = np.stack([np.prod([factors[w] for w in name.split("-")], 0) for name in names], 1)
    return weights.astype(np.float32)


def control_weights(
    of: list[Control], n_targets: int, largest: np.ndarray, n: int, generator: np.random.Generator
) -> np.ndarray:
    """(n, n_targets) weights of the head targets; largest: (n_targets,) mm, farthest vertex."""
    weights = np.zeros((n, n_targets), np.float32)
    shared: dict[str, np.ndarray] = {}
    for control in of:
        reach = max(largest[[control.positive, control.negative or control.positive]])
        spread = min(MAX_SPREAD, MAX_SPREAD_MM / max(reach, 1e-3))
        spread *= next((s for k, s in STRENGTH.items() if re.match(k, control.name)), 1.0)
        value = generator.normal(size=n)
        if control.name.startswith(("l-", "r-")):
            common = shared.setdefault(control.name[2:], generator.normal(size=n))
            value = SIDE_CORRELATION * common + np.sqrt(1 - SIDE_CORRELATION**2) * value
        value = np.clip(spread * value, -1, 1)
        weights[:, control.positive] = np.clip(value, 0, None)
        if control.negative is not None:
            weights[:, control.negative] = np.clip(-value, 0, None)
    return weights


def align(shapes: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Similarity that takes every shape (n, v, 3) closest to the target (v, 3), weighted by (v,).

    The scale is the one that leaves residuals orthogonal to the scaling of the target.
    """
    weight = weight / weight.sum()
    shapes = shapes - np.einsum("v,nvi->ni", weight, shapes)[:, None]
    center = weight @ target
    weighted = weight[:, None] * (target - center)
    u, s, vt = np.linalg.svd(np.einsum("nvi,vj->nij", shapes, weighted).astype(np.float64))
    flip = np.ones_like(s)
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (weighted * (target - center)).sum() / (s * flip).sum(1)
    transform = scale[:, None, None] * ((u * flip[:, None]) @ vt)
    return shapes @ transform.astype(shapes.dtype) + center.astype(shapes.dtype)


def mean_shape(
    shapes: np.ndarray, weight: np.ndarray, mirror: np.ndarray, rounds: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Generalized Procrustes to a mirror-symmetric mean: (aligned shapes, mean)."""
    mean = shapes.mean(0, dtype=np.float64)
    for _ in range(rounds):
        mean = (mean + reflect(mean, mirror)) / 2
        shapes = align(shapes, mean, weight)
        mean = shapes.mean(0, dtype=np.float64)
    mean = (mean + reflect(mean, mirror)) / 2
    return align(shapes, mean, weight), mean


def reflect(vectors: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Mirror image of positions or displacements (..., v, 3) on a symmetric mesh."""
    return vectors[..., mirror, :] * np.array([-1, 1, 1], vectors.dtype)


def similarity_directions(shape: np.ndarray) -> np.ndarray:
    """(7, v, 3): the shape's displacement under small translations, rotations and scaling."""
    axes = np.eye(3)
    return np.stack(
        [np.broadcast_to(a, shape.shape) for a in axes]
        + [np.cross(a, shape) for a in axes]
        + [shape]
    )


def remove_similarity(basis: np.ndarray, shape: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Take out of basis (k, v, 3) what is a small similarity of the face, by weight (v,)."""
    directions = similarity_directions(shape)
    root = np.sqrt(weight)[:, None]
    rigid, *_ = np.linalg.lstsq(
        (directions * root).reshape(7, -1).T, (basis * root).reshape(len(basis), -1).T, rcond=None
    )
    return basis - np.tensordot(rigid.T, directions, 1)


def principal_components(
    shapes: np.ndarray, mean: np.ndarray, weight: np.ndarray, mirror: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Components (n, v, 3), one standard deviation each, and all variances.

    The population is the shapes (m, v, 3) and their mirror images, whose components are either
    symmetric or antisymmetric, so the two kinds are found apart. weight: (v,), of the squared
    displacements.
    """
    deviation = shapes - mean.astype(shapes.dtype)
    image = reflect(deviation, mirror)
    root = np.sqrt(weight / weight.sum()).astype(shapes.dtype)[:, None]
    components, variances = [], []
    for part in ((deviation + image) / 2, (deviation - image) / 2):
        rows = (part * root).reshape(len(part), -1)
        variance, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64) / len(rows))
        variance, vectors = variance[::-1], vectors[:, ::-1]
        chosen = vectors[:, :n].T.astype(shapes.dtype) / np.sqrt(len(part)).astype(shapes.dtype)
        components.append((chosen @ part.reshape(len(part), -1)).reshape(-1, *mean.shape))
        variances.append(variance)
    order = np.argsort(-np.concatenate([v[:n] for v in variances]), kind="stable")[:n]
    found = np.concatenate(components)[order]
    return fix_signs_of_side(found, mean), np.sort(np.concatenate(variances))[::-1]


def fix_signs(basis: np.ndarray) -> np.ndarray:
    """Choose the free sign of every component (k, ...) so that its largest entry is positive."""
    flat = basis.reshape(len(basis), -1)
    sign = np.sign(flat[np.arange(len(flat)), np.abs(flat).argmax(1)])
    return (flat * sign[:, None]).reshape(basis.shape)


def fix_signs_of_side(basis: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Like `fix_signs`, by the entries of the left side: of an antisymmetric one both sides tie."""
    left = basis[:, mean[:, 0] >= 0].reshape(len(basis), -1)
    sign = np.sign(left[np.arange(len(left)), np.abs(left).argmax(1)])
    return basis * sign[:, None, None]


def parity(basis: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(k,) 1 for a symmetric component (k, v, 3), -1 for an antisymmetric one."""
    return np.sign((basis * reflect(basis, mirror)).sum((1, 2)))


@dataclass(frozen=True)
class IdentitySpread:
    """Scatter of a population of scanned faces in MakeHuman's components.

    The fingerprint, values of the components at a few vertices, tells whether these are still the
    components that the scatter was measured with.
    """

    factor: np.ndarray  # (r, k): the covariance of the coefficients is factor.T @ factor
    vertices: np.ndarray  # (p,)
    fingerprint: np.ndarray  # (k, p, 3) mm
    provenance: dict[str, object]

    @classmethod
    def measure(
        cls, coefficients: np.ndarray, sign: np.ndarray, basis: np.ndarray, about: dict[str, object]
    ) -> "IdentitySpread":
        """From coefficients (n, k) of fits with a basis (k, v, 3) of known parity (k,).

        The population is closed under reflection, so coefficients of different parity do not
        correlate.
        """
        covariance = np.cov(coefficients.T) * (sign[:, None] == sign)
        variance, vectors = np.linalg.eigh(covariance)
        kept = variance > 1e-3 * variance[-1]
        vertices = np.linspace(0, basis.shape[1] - 1, FINGERPRINT_VERTICES).astype(int)
        factor = (vectors[:, kept] * np.sqrt(variance[kept])).T[::-1]
        return cls(factor, vertices, basis[:, vertices], about)

    def save(self, path: Path) -> None:
        np.savez_compressed(
            path,
            factor=self.factor.astype(np.float16),
            vertices=self.vertices.astype(np.int32),
            fingerprint=self.fingerprint.astype(np.float16),
            provenance=np.array(json.dumps(self.provenance)),
        )

    @classmethod
    def load(cls, path: Path) -> "IdentitySpread":
        with np.load(path, allow_pickle=False) as file:
            return cls(
                file["factor"].astype(np.float64),
                file["vertices"],
                file["fingerprint"].astype(np.float64),
                json.loads(str(file["provenance"])),
            )

    def check(self, basis: np.ndarray) -> None:
        """Raise a ValueError unless the basis (k, v, 3) is the one that was measured with."""
        now = basis[:, self.vertices]
        gap = np.linalg.norm(now - self.fingerprint) / np.linalg.norm(now)
        if gap > FINGERPRINT_TOLERANCE:
            raise ValueError(
                f"the identity spread was measured with other components (they differ by {gap:.1%})"
                "; run measure_identity_spread.py again"
            )

    def recombine(
        self, basis: np.ndarray, weight: np.ndarray, mirror: np.ndarray, share: float
    ) -> np.ndarray:
        """(k, k) matrix that makes new components, one standard deviation each, of the basis.

        Their covariance is `share` of the identity, which is MakeHuman's, and the rest of this
        spread. In order of variance, uncorrelated in the metric of weight (v,).
        """
        n = len(basis)
        covariance = share * np.eye(n) + (1 - share) * self.factor.T @ self.factor
        rows = (basis * np.sqrt(weight / weight.sum())[:, None]).reshape(n, -1)
        metric = rows @ rows.T
        matrix, variances = np.zeros((n, n)), np.zeros(n)
        sign = parity(basis, mirror)
        for side in (1, -1):
            (own,) = np.nonzero(sign == side)
            block = np.ix_(own, own)
            half = np.linalg.cholesky((covariance[block] + covariance[block].T) / 2)
            variance, vectors = np.linalg.eigh(half.T @ metric[block] @ half)
            matrix[block] = (half @ vectors).T
            variances[own] = variance
        return matrix[np.argsort(-variances, kind="stable")]
