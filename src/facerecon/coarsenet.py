"""CoarseNet (3.3) and its iterative use (3.4)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.backend import choose_backend
from facerecon.backends import feedback_numba
from facerecon.camera import N_POSE
from facerecon.config import CoarseNetConfig
from facerecon.mesh import vertex_normals
from facerecon.rasterize import SHORTEST, rasterize
from facerecon.render import Rendering, place, render
from facerecon.shapes import require_shape

INPUT_CHANNELS = 7  # masked grey, PNCC, normals
CONTRAST = 0.5  # standard deviation of the grey values in the mask
DISPLACEMENT_MM = 10.0
"""Unit of the displacements that `CoarseNet.estimate` gives."""
POSE_LIMIT = 8.0  # pose units; far outside the training world, keeps a lost iteration finite


def coarse_input(
    image: Float[Tensor, "batch 1 size size"],
    rendering: Rendering,
    config: CoarseNetConfig | None = None,
) -> Float[Tensor, "batch 7 size size"]:
    """The network's input: the image masked by the feedback's visible vertices, PNCC and normals.

    Inside the mask the grey values are brought to mean 0 and standard deviation `CONTRAST`, so that
    exposure does not matter. What the network's configuration leaves out is zero.
    Source: 3.2.1 and 3.4.
    """
    config = config or CoarseNetConfig()
    mask = rendering.mask.to(image) if config.masked else torch.ones_like(image)
    count = mask.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (image * mask).sum((2, 3), keepdim=True) / count
    centred = (image - mean) * mask
    std = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
    grey = centred * (CONTRAST / std.clamp(min=0.01))
    return _left_out(torch.cat([grey, rendering.pncc, rendering.normals], dim=1), config)


def _left_out(maps: Tensor, config: CoarseNetConfig) -> Tensor:
    """The same maps, with zeros where this configuration has no feedback."""
    if config.feedback == "pncc":
        maps[:, 4:7] = 0
    elif config.feedback == "normals":
        maps[:, 1:4] = 0
    return maps


def convolution_block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, then batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = convolution_block(inputs, outputs, 3, stride)
        self.second = convolution_block(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolution_block(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(residual + self.shortcut(x), inplace=True)


def stem(inputs: int, config: CoarseNetConfig) -> nn.Sequential:
    """The first layers, down to a quarter of the resolution.

    Raises:
        ValueError: an unknown kind.
    """
    if config.stem == "resnet":
        return nn.Sequential(
            convolution_block(inputs, config.width, 7, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
    if config.stem == "patch":
        return nn.Sequential(
            nn.Conv2d(inputs, config.width, 6, 4, 1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(inplace=True),
        )
    raise ValueError(f"unknown stem {config.stem!r}: use 'patch' or 'resnet'")


def residual_blocks(width: int, counts: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Stages of residual blocks, each but the first at half the resolution and twice the channels.

    Returns:
        The blocks, and the channels of their output.
    """
    blocks, inputs = [], width
    for stage, count in enumerate(counts):
        outputs = width * 2**stage
        for index in range(count):
            blocks.append(_BasicBlock(inputs, outputs, 2 if stage and not index else 1))
            inputs = outputs
    return nn.Sequential(*blocks), inputs


class CoarseNet(nn.Module):
    """ResNet from (image, feedback maps) and the current r_t to the next r.

    Pose is a correction of r_t's, since the maps show pose relative to the image; geometry is
    predicted anew, with a learnt linear share of r_t's. The last feature map is pooled for what
    (geometry) and also read in place on a coarse grid for where (pose).

    Args:
        n_coefficients: identity and expression coefficients of the morphable model.
        config: CoarseNetConfig.
    """

    def __init__(self, n_coefficients: int = 284, config: CoarseNetConfig | None = None):
        super().__init__()
        self.config = config = config or CoarseNetConfig()
        if config.feedback not in ("both", "pncc", "normals"):
            raise ValueError(
                f"unknown feedback {config.feedback!r}: use 'both', 'pncc' or 'normals'"
            )
        self.n_coefficients = n_coefficients
        self.local = sum(config.blocks[:2])  # blocks whose output still tells places apart
        self.stem = stem(INPUT_CHANNELS, config)
        self.body, inputs = residual_blocks(config.width, config.blocks)
        self.squeeze = nn.Sequential(
            convolution_block(inputs, config.squeeze, 1), nn.ReLU(inplace=True)
        )
        self.regressor = nn.Linear(
            config.squeeze * config.grid**2 + inputs, n_coefficients + N_POSE
        )
        nn.init.normal_(self.regressor.weight, std=0.002)  # start near r = 0, the mean face
        nn.init.zeros_(self.regressor.bias)
        self.carry = nn.Linear(n_coefficients, n_coefficients, bias=False)
        nn.init.zeros_(self.carry.weight)
        self.displacement = nn.Conv2d(2 * config.width, 3, 1)

    def forward(
        self, maps: Float[Tensor, "batch 7 height width"], r: Float[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n"]:
        """The next r from the maps of the current one (`feedback`) and that r itself."""
        return self.estimate(maps, r)[0]

    def estimate(
        self, maps: Float[Tensor, "batch 7 height width"], r: Float[Tensor, "batch n"]
    ) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch 3 rows columns"]]:
        """The next r, and how far each place of r's surface still is from where it belongs.

        The displacements (x to the right, y downward in the image, z toward the viewer; in units of
        `DISPLACEMENT_MM` at the crop's mean scale) are read from the second stage, an eighth of the
        crop's resolution. In training they teach the features to compare image and feedback.
        """
        features = self.stem(maps)
        for block in self.body[: self.local]:
            features = block(features)
        displacement = self.displacement(features).float()
        for block in self.body[self.local :]:
            features = block(features)
        placed = F.adaptive_avg_pool2d(self.squeeze(features), self.config.grid)
        pooled = features.mean((2, 3))
        output = self.regressor(torch.cat([placed.flatten(1), pooled], dim=1)).float()
        coefficients, correction = output.split([self.n_coefficients, N_POSE], dim=1)
        coefficients = coefficients + self.carry(r[:, : self.n_coefficients]).float()
        pose = (r[:, self.n_coefficients :] + correction).clamp(-POSE_LIMIT, POSE_LIMIT)
        return torch.cat([coefficients, pose], dim=1), displacement


@torch.no_grad()
def feedback(
    model: nn.Module,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
    config: CoarseNetConfig | None = None,
) -> Float[Tensor, "batch 7 size size"]:
    """The input for an estimate r, of a network with this configuration.

    It is `coarse_input`, channels last in memory.

    Raises:
        ValueError: images that are not one square grey one for each r.
    """
    config = config or CoarseNetConfig()
    require_shape("image", image, len(r), 1, image.shape[-1], None)
    if config.masked and choose_backend("auto", image, r) == "numba":
        camera_vertices, projected = place(model, r, image.shape[-1])
        normals = vertex_normals(camera_vertices, model.triangles)
        fragments = rasterize(projected, model.triangles, *image.shape[2:])
        maps = feedback_numba.coarse_input(
            image, normals, model.pncc, *fragments, model.triangles, CONTRAST, SHORTEST
        )
        return _left_out(maps, config)
    maps = coarse_input(image, render(model, r, image.shape[-1]), config)
    return maps.contiguous(memory_format=torch.channels_last)


def step(
    network: nn.Module,
    model: nn.Module,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
) -> Float[Tensor, "batch n"]:
    """One iteration: render the feedback of r (no gradient through it), predict the next r."""
    return network(feedback(model, image, r, getattr(network, "config", None)), r)


def iterate(
    network: nn.Module,
    model: nn.Module,
    image: Float[Tensor, "batch 1 size size"],
    iterations: int = 4,
    tolerance: float = 0.0,
) -> list[Float[Tensor, "batch n"]]:
    """Apply the network from r_0 = 0 (3.4).

    Args:
        image: grey face crops in [0, 1].
        iterations: the most steps taken.
        tolerance: stop earlier once no component of any pose moves by more than this (pose units);
            0 never stops early.

    Returns:
        r after every step, starting with r_0: `taken + 1` tensors (B, 290).
    """
    r = image.new_zeros(len(image), model.n_coefficients + N_POSE)
    steps = [r]
    for _ in range(iterations):
        r = step(network, model, image, steps[-1])
        steps.append(r)
        if tolerance > 0 and (r - steps[-2])[:, -N_POSE:].abs().max() < tolerance:
            break
    return steps
