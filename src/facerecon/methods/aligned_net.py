"""The network of Richardson et al. (3DV 2016): geometry of an aligned face, without its pose.

E. Richardson, M. Sela, R. Kimmel, 3D face reconstruction by learning from synthetic data, reference
[34] of the paper. From the publication: one network is applied repeatedly to the image and to a
rendering of the current shape, it is trained on synthetic faces alone, and the geometry's criterion
is Eq. (4). From the CVPR paper: it has no pose ("must be given an aligned template") and no normal
map. Our reading, where we know of no more: the rendering is the shape in the given pose, lit from
the camera; the network is our CoarseNet's without its pose, and training starts from CoarseNet's
weights, so that the two differ by the method and not by how long they were trained.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import join, split
from facerecon.coarsenet import CoarseNet, CoarseNetConfig, normalized_grey
from facerecon.morphable_model import MorphableModel
from facerecon.render import render
from facerecon.resnet import ResNetRegressor
from facerecon.weights import load_weights

CHANNELS = 2  # grey, rendering
BRIGHTEST = 1.5  # of the normalized grey values outside the face
_OF_COARSENET = (0, 6)  # the same channels of CoarseNet's input: grey, normals' z


class AlignedNet(ResNetRegressor):
    """ResNet from (image, rendering of the current shape) to the next coefficients.

    Args:
        n_coefficients: identity and expression coefficients of the morphable model.
        config: CoarseNetConfig.
    """

    config_class = CoarseNetConfig
    sizes = ("n_coefficients",)

    def __init__(self, n_coefficients: int = 284, config: CoarseNetConfig | None = None):
        super().__init__(CHANNELS, n_coefficients, config or CoarseNetConfig())
        self.n_coefficients = n_coefficients

    @classmethod
    def from_coarsenet(cls, coarsenet: CoarseNet) -> "AlignedNet":
        """With the weights of a trained CoarseNet where both have the same, a start for training.

        PNCC, two components of the normals and the current coefficients are no longer seen, and no
        pose is predicted.
        """
        network = cls(coarsenet.n_coefficients, coarsenet.config)
        theirs = coarsenet.state_dict()
        state = {k: theirs[k].float() for k in network.state_dict()}
        state["stem.0.weight"] = state["stem.0.weight"][:, list(_OF_COARSENET)]
        for name in ("regressor.weight", "regressor.bias"):
            state[name] = state[name][: coarsenet.n_coefficients]
        network.load_state_dict(state)
        return network

    def forward(
        self, maps: Float[Tensor, "batch 2 height width"]
    ) -> Float[Tensor, "batch coefficients"]:
        """The next coefficients from `aligned_input`."""
        return self.regress(self.stages(maps)[-1])


def load_alignednet(path: str | Path | None = None) -> AlignedNet:
    """The compared network in eval mode from a file, or the one that ships.

    Raises:
        WeightsError: missing, damaged, or another network's file.
    """
    return load_weights(AlignedNet, path, "alignednet.safetensors")


@torch.no_grad()
def aligned_input(
    model: MorphableModel, image: Float[Tensor, "batch 1 size size"], r: Float[Tensor, "batch n"]
) -> Float[Tensor, "batch 2 size size"]:
    """The network's input for an estimate r: the image, and the shape lit from the camera."""
    rendering = render(model, r, image.shape[-1])
    grey = normalized_grey(image, rendering.mask).clamp(-BRIGHTEST, BRIGHTEST)
    maps = torch.cat([grey, rendering.normals[:, 2:]], dim=1)
    return maps.contiguous(memory_format=torch.channels_last)


def iterate_aligned(
    network: AlignedNet,
    model: MorphableModel,
    image: Float[Tensor, "batch 1 size size"],
    pose: Float[Tensor, "batch 6"],
    iterations: int = 4,
) -> list[Float[Tensor, "batch n"]]:
    """Apply the network from the mean face in a given pose, which stays as it is.

    Args:
        image: grey crops in [0, 1]. pose: pose units, from `methods.zhu2015.fit_pose`.

    Returns:
        r before and after every step.
    """
    steps = [join(pose.new_zeros(len(pose), model.n_coefficients), pose)]
    for _ in range(iterations):
        coefficients = network(aligned_input(model, image, steps[-1]))
        steps.append(join(coefficients, split(steps[-1], model.n_coefficients)[1]))
    return steps
