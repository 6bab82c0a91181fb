"""A reference shape molded by shape from shading, as in [20].

I. Kemelmacher-Shlizerman, R. Basri, 3D face reconstruction from a single image using a single
reference face shape, PAMI 33(2), 2011. From the publication: the face is Lambertian under a light
of spherical harmonics; the reference's normals and albedo give the light, the light and the
reference's albedo give the depth by one sparse linear system, light and depth give the albedo; both
are held near the reference where it is smooth, by a Laplacian of Gaussian; no depth is needed on
the boundary. Minimized is

    |I - rho <l, Y(n)>|^2 + depth_weight |LoG (z - z_ref)|^2 + albedo_weight |LoG (rho - rho_ref)|^2

Our reading, where we know of no more: the reference follows the 68 landmarks by its pose and by a
smooth warp in the image. First-order harmonics with the length of the reference's normals make the
system linear. The Gaussian is diffusion on the face's own pixels, so that nothing flows over the
boundary and the slope across it is the reference's. Intensities lie in [0, 1] and depth counts in
pixels, for which the weights are chosen. The mean depth stays.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.fft import dctn, idctn
from scipy.interpolate import RBFInterpolator
from scipy.sparse import coo_matrix, csr_matrix, diags, identity
from scipy.sparse.linalg import LinearOperator, cg

SIGMA = 1.0
"""Standard deviation of the Gaussian, pixels of a 200-pixel crop."""

DEPTH_WEIGHT = 30.0
ALBEDO_WEIGHT = 1.0
ANCHOR = 1e-5
"""Weight of |z - z_ref|^2, which settles what neither shading nor the Laplacian determines."""

WARP_SMOOTHING = 1000.0
_DIFFUSION = 0.2  # share that a pixel gives to each neighbor in one step
_TOLERANCE = 1e-6
_MAX_STEPS = 200


class Reference(NamedTuple):
    """The aligned reference on the photograph's pixels.

    depth: pixels, larger is nearer. normals: unit, camera frame. albedo: grey. mask: the face.
    """

    depth: Float[np.ndarray, "height width"]
    normals: Float[np.ndarray, "height width 3"]
    albedo: Float[np.ndarray, "height width"]
    mask: Bool[np.ndarray, "height width"]


class Molded(NamedTuple):
    """The result, NaN outside the face: depth in pixels; albedo; the light's four coefficients."""

    depth: Float[np.ndarray, "height width"]
    albedo: Float[np.ndarray, "height width"]
    light: Float[np.ndarray, " 4"]


def mold(
    image: Float[np.ndarray, "height width"],
    reference: Reference,
    light: Float[np.ndarray, " 4"],
    sigma: float = SIGMA,
    depth_weight: float = DEPTH_WEIGHT,
    albedo_weight: float = ALBEDO_WEIGHT,
    trust: Float[np.ndarray, "height width"] | None = None,
) -> Molded:
    """Depth, then albedo of a face, near a reference.

    Args:
        image: grey in [0, 1]. light: from the reference, `lighting.estimate_light`.
        trust: weight of each pixel's shading, 1 everywhere if None.
    """
    mask = reference.mask
    weight = np.ones(mask.shape) if trust is None else trust
    log = LaplacianOfGaussian(mask, sigma)
    across, up = forward_differences(mask)

    # I = rho (l0 + (-l1 z_x - l2 z_y + l3) / N): linear in z once N is the reference's.
    rho, length = reference.albedo[mask], 1 / np.maximum(reference.normals[mask][:, 2], 0.1)
    # Pixels without a neighbor have no difference and are left out.
    complete = (abs(across) + abs(up)).getnnz(axis=1) == 3
    root = np.sqrt(weight[mask] * complete)
    shading = diags(root * rho / length) @ (-light[1] * across - light[2] * up)
    rest = root * (image[mask] - rho * (light[0] + light[3] / length))
    # The unknown is the distance from the reference; from zero, its mean stays zero.
    z_ref = reference.depth[mask]
    moved = log.solve(
        (shading.T @ shading).tocsr(), shading.T @ (rest - shading @ z_ref), depth_weight
    )
    depth = z_ref + moved - moved.mean()

    p, q = across @ depth, up @ depth
    direction = np.stack([np.ones_like(p), -p, -q, np.ones_like(p)])
    direction[1:] /= np.sqrt(p**2 + q**2 + 1)
    received = root * (light @ direction)
    change = log.solve(
        diags(received**2).tocsr(),
        received * (root * image[mask] - received * rho),
        albedo_weight,
    )
    maps = []
    for values in (depth, rho + change):
        maps.append(np.full(mask.shape, np.nan))
        maps[-1][mask] = values
    return Molded(*maps, np.asarray(light))


def warp(
    points: Float[np.ndarray, "n 2"],
    landmarks: Float[np.ndarray, "68 2"],
    target: Float[np.ndarray, "68 2"],
    smoothing: float = WARP_SMOOTHING,
) -> Float[np.ndarray, "n 2"]:
    """Move image points with the landmarks of a reference to those of a photograph, smoothly.

    A thin-plate spline that need not meet the landmarks. The depth of the points stays.

    Args:
        smoothing: 0 meets the landmarks; large: an affine map.
    """
    spline = RBFInterpolator(
        landmarks, target - landmarks, kernel="thin_plate_spline", smoothing=smoothing
    )
    return points + spline(points.astype(np.float64))


def forward_differences(mask: Bool[np.ndarray, "height width"]) -> tuple[csr_matrix, csr_matrix]:
    """Slopes to the right and up of the pixels of a mask; 0 without such a neighbor in it."""
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(mask.sum())
    found = []
    right, above = np.full(mask.shape, -1), np.full(mask.shape, -1)
    right[:, :-1], above[1:] = index[:, 1:], index[:-1]
    for other in (right, above):
        here = (index >= 0) & (other >= 0)
        own, there = index[here], other[here]
        one = np.ones(len(own))
        found.append(
            coo_matrix(
                (np.concatenate([-one, one]), (np.tile(own, 2), np.concatenate([own, there]))),
                shape=(mask.sum(), mask.sum()),
            ).tocsr()
        )
    return found[0], found[1]


class LaplacianOfGaussian:
    """The operator on the pixels of a mask, symmetric; nothing flows over the mask's border.

    n steps of diffusion that give every neighbor the share d are nearly a Gaussian of variance
    2 d n, and exactly one in the limit of many steps.
    """

    def __init__(self, mask: Bool[np.ndarray, "height width"], sigma: float):
        across, up = forward_differences(mask)
        self._mask, self._laplacian = mask, -(across.T @ across + up.T @ up).tocsr()
        n = self._laplacian.shape[0]
        self._step = (identity(n) + _DIFFUSION * self._laplacian).tocsr()
        self._count = max(1, round(sigma**2 / (2 * _DIFFUSION)))

    def __call__(self, values: Float[np.ndarray, " pixels"]) -> Float[np.ndarray, " pixels"]:
        """LoG values."""
        values = self._laplacian @ values
        for _ in range(self._count):
            values = self._step @ values
        return values

    def solve(self, gram: csr_matrix, moment: np.ndarray, weight: float) -> np.ndarray:
        """(gram + weight LoG^2 + ANCHOR)^-1 moment by conjugate gradients from zero.

        They are preconditioned by what the matrix would be on the mask's bounding box under even
        light from all sides: a multiplication of the cosine transform.
        """
        mask = self._mask
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        waves = [2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in mask[box].shape]
        squared = waves[0][:, None] + waves[1]
        alone = np.asarray(gram.sum(axis=1)).ravel()  # what is no derivative: the albedo's own
        even = np.mean(alone) + 0.25 * np.mean(gram.diagonal() - alone) * squared
        even += weight * (squared * (1 - _DIFFUSION * squared) ** self._count) ** 2
        even += ANCHOR

        def precondition(values: np.ndarray) -> np.ndarray:
            spread = np.zeros(mask.shape)
            spread[mask] = values
            spread[box] = idctn(dctn(spread[box], norm="ortho") / even, norm="ortho")
            return spread[mask]

        size = gram.shape
        normal = LinearOperator(
            size, matvec=lambda d: gram @ d + ANCHOR * d + weight * self(self(d)), dtype=np.float64
        )
        inverse = LinearOperator(size, matvec=precondition, dtype=np.float64)
        return cg(normal, moment, rtol=_TOLERANCE, maxiter=_MAX_STEPS, M=inverse)[0]
