"""Richardson et al. (3DV 2016), reference [34]: aligned network, then classic shape from shading.

E. Richardson, M. Sela, R. Kimmel, 3D face reconstruction by learning from synthetic data. The
network is `methods.aligned_net`. From the CVPR paper: the method "required external procedures for
fine details extraction as well as initial guess of the face location, size, and pose". Our reading:
the guess is the mean face's pose by landmarks, and the detail that of RGBD-Fusion (Or-El et al.
2015): a light and an albedo with smooth local changes, then the depth that minimizes shading
residual, distance from the network's depth and roughness, here by `sfs.refine_depth`.
"""

from jaxtyping import Float
from torch import Tensor

from facerecon.camera import pose_parameters
from facerecon.losses import ShadedImage
from facerecon.methods.aligned_net import AlignedNet, iterate_aligned
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.sfs import (
    DetailBounds,
    albedo_maps,
    detail_target,
    refine_depth,
    robust_shading,
)

ITERATIONS = 4
BOUNDS = DetailBounds(radius=0.03, limit=0.08)
STEPS = 150
_UNTRUSTED = (
    "lips", "brows", "eyelids", "eye_left", "eye_right", "mouth_interior", "ears", "neck"
)  # fmt: skip


def reconstruct(
    model: MorphableModel,
    network: AlignedNet,
    image: Float[Tensor, "1 1 size size"],
    pose: Float[Tensor, "1 6"],
    network_image: Float[Tensor, "1 1 small small"] | None = None,
) -> tuple[Float[Tensor, "1 n"], Float[Tensor, "1 1 size size"]]:
    """The face of an aligned crop.

    Args:
        image: grey in [0, 1], in which the detail is looked for.
        pose: of the mean face, from landmarks.
        network_image: the same crop at the size that the network was trained for; `image` if None.

    Returns:
        r of the network's shape, and what the refinement adds to its depth, mm.
    """
    small = image if network_image is None else network_image
    r = iterate_aligned(network, model, small, pose, ITERATIONS)[-1]
    return r, refinement(model, image, r)


def refinement(
    model: MorphableModel, image: Float[Tensor, "1 1 size size"], r: Float[Tensor, "1 n"]
) -> Float[Tensor, "1 1 size size"]:
    """What classic shape from shading adds to the depth of a fitted model, mm; 0 outside."""
    size = image.shape[-1]
    rendering = render(model, r, size)
    mm = 1 / pose_parameters(r[:, -6:], size).scale
    found = robust_shading(
        image, *albedo_maps(model, rendering.fragments), rendering.normals, rendering.mask
    )
    skin = model.outside(_UNTRUSTED)
    seen = model.triangles[rendering.fragments.triangle.clamp(min=0)]
    trust = skin[seen].mean(dim=-1)[:, None] * rendering.mask
    shaded = ShadedImage(image, found.albedo, found.light, rendering.mask, mm)
    target = detail_target(shaded, rendering.normals, trust, BOUNDS)
    refined = refine_depth(rendering.depth, target, steps=STEPS)
    return (refined - rendering.depth) * rendering.mask
