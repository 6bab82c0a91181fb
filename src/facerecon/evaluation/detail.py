"""Detail against a known truth: coarse surface, FineNets, per-image shape from shading.

The faces have displacement wrinkles, so their true surface is finer than any morphable model.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from facerecon.appearance import (
    FaceMaps,
    estimate_light_and_albedo,
    model_maps,
    shading_target,
)
from facerecon.camera import POSE_UNITS, split
from facerecon.coarsenet import CoarseNet, iterate
from facerecon.depth import normals_from_depth
from facerecon.evaluation.metrics import MIN_PIXELS, depth_errors, normal_error
from facerecon.losses import CriterionWeights
from facerecon.morphable_model import MorphableModel
from facerecon.sfs import DetailBounds, gaussian_blur, refine_depth
from facerecon.synthetic.detail import MIN_NORMAL_Z
from facerecon.synthetic.world import SyntheticWorld

HIGH_PASS = 0.03
"""Standard deviation in crop widths (6.4 mm on a mean face) of the Gaussian that is taken off."""

RIM = 0.015
"""Crop widths at the border of both masks where no error counts: a silhouette is no detail."""

YAW_LIMIT = 45.0
"""Degrees; beyond, half of the face has no detail to see."""

COARSE_SIZE = 200
STARTS = ("true coarse", "CoarseNet")
METRICS = ("depth", "normals", "highpass", "detail")


class DetailFaces(NamedTuple):
    """Photographs of faces with wrinkles, in weak perspective, and the truth on their pixels.

    image (N, 1, S, S): grey. depth (N, 1, S, S), normals (N, 3, S, S): true, with wrinkles.
    smooth: the same surface without wrinkles, the best that a coarse method can find.
    face (N, 1, S, S): visible skin, where errors count. r: of the morphable model's faces; None
    for heads that it does not span.
    """

    image: Float[Tensor, "n 1 size size"]
    depth: Float[Tensor, "n 1 size size"]
    normals: Float[Tensor, "n 3 size size"]
    smooth: FaceMaps
    face: Bool[Tensor, "n 1 size size"]
    r: Float[Tensor, "n numbers"] | None = None


def halved(faces: DetailFaces) -> DetailFaces:
    """The same photographs and surfaces on half as many pixels across: means of 2 x 2."""
    smooth, whole = faces.smooth, avg_pool2d(faces.smooth.mask.float(), 2) == 1
    depth = avg_pool2d(smooth.depth, 2)
    normals = nn.functional.normalize(avg_pool2d(faces.normals, 2), dim=1)
    mm_per_pixel = 2 * smooth.mm_per_pixel
    return DetailFaces(
        image=avg_pool2d(faces.image, 2),
        depth=avg_pool2d(faces.depth, 2),
        normals=normals,
        smooth=FaceMaps(
            depth=depth,
            normals=normals_from_depth(depth, mm_per_pixel, whole),
            mask=whole,
            mm_per_pixel=mm_per_pixel,
            albedo_mean=avg_pool2d(smooth.albedo_mean, 2),
            albedo_basis=avg_pool2d(smooth.albedo_basis, 2),
            skin=avg_pool2d(smooth.skin, 2),
            bare=(avg_pool2d(smooth.bare.float(), 2) == 1) & whole,
        ),
        face=(avg_pool2d(faces.face.float(), 2) == 1) & whole,
        r=faces.r,
    )


def synthetic_faces(world: SyntheticWorld, count: int, seed: int) -> DetailFaces:
    """Faces of a `SyntheticWorld` with a yaw of at most 45 degrees.

    Its configuration should leave the skin visible: `synthetic.detail.detail_config`.
    """
    generator, model = world.generator(seed), world.model
    limit = math.radians(YAW_LIMIT) / POSE_UNITS[1].item()
    taken: list[Tensor] = []
    while sum(map(len, taken)) < count:
        r = world.sample(32, generator)
        taken.append(r[split(r, model.n_coefficients)[1][:, 1].abs() <= limit])
    r = torch.cat(taken)[:count]
    faces = world.render(count, generator, r)
    smooth = model_maps(model, r, world.config.size)
    face = smooth.mask & (smooth.skin > 0.5) & (faces.rendering.normals[:, 2:] > MIN_NORMAL_Z)
    depth = smooth.depth + faces.fine_depth - faces.rendering.depth
    return DetailFaces(faces.image, depth, faces.fine_normals, smooth, face, r)


@torch.no_grad()
def coarsenet_answer(
    network: CoarseNet,
    model: MorphableModel,
    image: Float[Tensor, "n 1 size size"],
    iterations: int,
) -> Float[Tensor, "n numbers"]:
    """CoarseNet's own r of each photograph; the network sees 200 pixels."""
    small = interpolate(image, size=(COARSE_SIZE, COARSE_SIZE), mode="area")
    return iterate(network, model, small, iterations)[-1]


class ShapeFromShading(NamedTuple):
    """Refines each depth map on its own: what FineNet learns to do in one pass.

    bounds: of the detail. weights: of Eq. (14). light_order: of the spherical harmonics.
    """

    bounds: DetailBounds
    weights: CriterionWeights
    light_order: int = 2
    steps: int = 300

    def __call__(
        self, image: Float[Tensor, "n 1 size size"], start: FaceMaps
    ) -> Float[Tensor, "n 1 size size"]:
        """The depth map that minimizes Eq. (14)."""
        found = estimate_light_and_albedo(image, start, self.light_order)
        goal = shading_target(image, start, found.albedo, found.light, self.bounds)
        return refine_depth(start.depth, goal, self.weights, self.steps)


def high_pass(
    depth: Float[Tensor, "n 1 size size"],
    valid: Bool[Tensor, "n 1 size size"],
    radius: float = HIGH_PASS,
) -> Float[Tensor, "n 1 size size"]:
    """Depth minus its Gaussian mean over the valid pixels; 0 elsewhere. radius: crop widths."""
    sigma = radius * depth.shape[-1]
    known = valid.to(depth)
    mean = gaussian_blur(torch.where(valid, depth, 0.0), sigma)
    mean = mean / gaussian_blur(known, sigma).clamp(min=1e-6)
    return torch.where(valid, depth - mean, 0.0)


def correlation(
    first: Float[Tensor, "n 1 size size"],
    second: Float[Tensor, "n 1 size size"],
    valid: Bool[Tensor, "n 1 size size"],
) -> Float[Tensor, " n"]:
    """Pearson's correlation over the valid pixels; NaN with too few, or where one map is flat."""
    found = []
    for a, b, inside in zip(first, second, valid, strict=True):
        if inside.sum() < MIN_PIXELS:
            found.append(first.new_tensor(torch.nan, dtype=torch.float64))
            continue
        x, y = (values[inside].double() for values in (a, b))
        x, y = x - x.mean(), y - y.mean()
        norms = x.norm() * y.norm()
        found.append(torch.where(norms > 0, (x * y).sum() / norms, torch.nan))
    return torch.stack(found)


def detail_metrics(
    depth: Float[Tensor, "n 1 size size"], start: FaceMaps, faces: DetailFaces
) -> dict[str, Float[Tensor, " n"]]:
    """How near a refined depth map is to the true surface, per face.

    Args:
        depth: mm, on the pixels of `start.mask`. start: the surface that was refined.

    Returns:
        `depth`: mean absolute error, mm, after a shift by the median difference.
        `normals`: mean angle, degrees, to the true normals.
        `highpass`: correlation of the `high_pass` depth with that of the true depth.
        `detail`: correlation of what the refinement added to its start with what the wrinkles add
            to the smooth surface, both `high_pass`; NaN where nothing was added.
    """
    valid = erode(faces.face & erode(start.mask, RIM), RIM)
    normals = normals_from_depth(depth, start.mm_per_pixel, start.mask)
    true, added = high_pass(faces.depth, valid), high_pass(depth - start.depth, valid)
    wrinkles = high_pass(faces.depth - faces.smooth.depth, valid)
    return {
        "depth": depth_errors(depth, faces.depth, valid)["depth"],
        "normals": normal_error(normals, faces.normals, valid),
        "highpass": correlation(high_pass(depth, valid), true, valid),
        "detail": correlation(added, wrinkles, valid),
    }


def erode(mask: Bool[Tensor, "n 1 size size"], width: float) -> Bool[Tensor, "n 1 size size"]:
    """The mask without its rim of `width` crop widths; the image's border is no rim."""
    reach = round(width * mask.shape[-1])
    outside = nn.functional.max_pool2d((~mask).float(), 2 * reach + 1, 1, reach)
    return outside == 0
