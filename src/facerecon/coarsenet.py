"""CoarseNet (3.3) and its iterative use (3.4)."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.backend import choose_backend
from facerecon.backends import feedback_numba
from facerecon.camera import N_POSE, join, split
from facerecon.config import CoarseNetConfig
from facerecon.correspondence import (
    DISPLACEMENT_MM,
    Points,
    most_likely,
    place_points,
    read_field,
    seen,
    spread_points,
    start_spread,
)
from facerecon.mesh import vertex_normals
from facerecon.rasterize import SHORTEST, rasterize
from facerecon.render import Rendering, place, render
from facerecon.shapes import require_shape

INPUT_CHANNELS = 7  # masked grey, PNCC, normals
CONTRAST = 0.5  # standard deviation of the grey values in the mask
_CHUNK = 8  # images whose maps stay in a processor's cache from one pass to the next
_LOG_ERROR = (-4.0, 2.0)
_MIRRORED_POSE = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0)  # signs: yaw, roll and t_x change theirs
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
    """Two 3x3 convolutions and a shortcut (He et al. 2016).

    The shortcut of a block that halves the resolution takes every second pixel and then a 1x1
    convolution: the function of a 1x1 convolution of stride 2. That one itself is avoided: of fewer
    than 16 channels, channels last, the backward pass of torch 2.13's oneDNN writes outside of its
    memory; with 4 channels also under AVX2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = convolution_block(inputs, outputs, 3, stride)
        self.second = convolution_block(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.stride = stride
        self.shortcut = nn.Identity() if same else convolution_block(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(F.relu(self.first(x), inplace=True))
        kept = x[..., :: self.stride, :: self.stride]
        return F.relu(residual + self.shortcut(kept), inplace=True)


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


class Estimate(NamedTuple):
    """What CoarseNet says of r_t.

    r: (B, n) the next r. regressed: (B, n) before the displacements were taken into account.
    displacement, log_error: (B, points, 3) how far points of r_t's surface are from where they
        belong (x right, y down, z toward the viewer, `correspondence.DISPLACEMENT_MM` at the crop's
        mean scale) and the logarithm of their expected error; None without points.
    """

    r: Tensor
    regressed: Tensor
    displacement: Tensor | None = None
    log_error: Tensor | None = None


class CoarseNet(nn.Module):
    """ResNet from (image, feedback maps) and the current r_t to the next r.

    Pose is a correction of r_t's, since the maps show pose relative to the image; geometry is
    predicted anew, with a learnt linear share of r_t's. The last feature map is pooled for what
    (geometry) and also read in place on a coarse grid for where (pose).

    With `config.points` it also tells, in place, how far the surface of r_t is from where it
    belongs, and the next r is the most likely one under both (`correspondence.most_likely`): the
    regression, which knows faces, and the displacements, which know where things are in the image.
    Without, it is the paper's network.

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
        if config.points:
            self.field = DisplacementField(config)
            self.log_spread = nn.Parameter(start_spread(n_coefficients))
            self.log_repeats = nn.Parameter(torch.tensor(math.log(20.0)))
            self.register_buffer("points", torch.zeros(config.points, dtype=torch.long))
        self._known: tuple[Tensor, Tensor, Points] | None = None  # basis, index: their points

    def set_points(self, model: nn.Module) -> None:
        """Choose the points of the model's surface; the choice is stored with the weights."""
        if self.config.points:
            self.points = spread_points(model, self.config.points)

    def points_of(self, model: nn.Module) -> Points | None:
        """The network's points on the model; None without any. Kept until either changes."""
        if not self.config.points:
            return None
        if self._known is not None:
            basis, index, points = self._known
            same = basis is model.basis and index.device == self.points.device
            if same and torch.equal(index, self.points):
                return points
        points = Points.of(model, self.points)
        self._known = model.basis, self.points.clone(), points
        return points

    def forward(
        self,
        maps: Float[Tensor, "batch 7 height width"],
        r: Float[Tensor, "batch n"],
        points: Points | None = None,
    ) -> Estimate:
        """The next r from the maps of the current one (`feedback`) and that r itself.

        points: `points_of(model)`; None: no displacements, the next r is the regressed one.
        """
        stages, features = [], self.stem(maps)
        ends = list(accumulate(self.config.blocks))
        for number, block in enumerate(self.body, start=1):
            features = block(features)
            if number in ends:
                stages.append(features)
        placed = F.adaptive_avg_pool2d(self.squeeze(features), self.config.grid)
        pooled = features.mean((2, 3))
        output = self.regressor(torch.cat([placed.flatten(1), pooled], dim=1)).float()
        coefficients, correction = output.split([self.n_coefficients, N_POSE], dim=1)
        coefficients = coefficients + self.carry(r[:, : self.n_coefficients]).float()
        pose = (r[:, self.n_coefficients :] + correction).clamp(-POSE_LIMIT, POSE_LIMIT)
        regressed = torch.cat([coefficients, pose], dim=1)
        if points is None:
            return Estimate(regressed, regressed)
        field = self.field(stages[1:]).float()
        with torch.autocast(r.device.type, enabled=False):  # too coarse for a linear system
            places = place_points(points, r)
            read = read_field(field, places)
            displacement, log_error = read[..., :3], read[..., 3:].clamp(*_LOG_ERROR)
            # Neighbours err together: a few of them share the trust that one would have.
            trust = (-2 * log_error - self.log_repeats).exp() * seen(points, r, places)
            target = places + DISPLACEMENT_MM * displacement
            after = most_likely(points, regressed, self.log_spread, target, trust)
        pose = after[:, self.n_coefficients :].clamp(-POSE_LIMIT, POSE_LIMIT)
        after = torch.cat([after[:, : self.n_coefficients], pose], dim=1)
        return Estimate(after, regressed, displacement, log_error)


class DisplacementField(nn.Module):
    """Displacements and the logarithms of their errors at an eighth of the crop's resolution.

    Reads the last three stages of the network, the coarse ones for what is where (a feature
    pyramid, Lin et al. 2017).
    """

    def __init__(self, config: CoarseNetConfig):
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Conv2d(config.width * 2**stage, config.field, 1) for stage in (1, 2, 3)
        )
        self.merge = nn.Sequential(
            convolution_block(config.field, config.field, 3), nn.ReLU(inplace=True)
        )
        self.output = nn.Conv2d(config.field, 6, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, stages: Sequence[Tensor]) -> Float[Tensor, "batch 6 rows columns"]:
        """From the features of the second to fourth stage."""
        finer = None
        for lateral, features in zip(reversed(self.lateral), reversed(stages), strict=True):
            here = lateral(features)
            if finer is not None:
                size = here.shape[2:]
                here = here + F.interpolate(finer, size, mode="bilinear", align_corners=False)
            finer = F.relu(here)
        return self.output(self.merge(finer))


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
        placed = place(model, r, image.shape[-1])
        chunks = (values.split(_CHUNK) for values in (image, *placed))
        maps = torch.cat([_compiled_input(model, *chunk) for chunk in zip(*chunks, strict=True)])
        return _left_out(maps, config)
    maps = coarse_input(image, render(model, r, image.shape[-1]), config)
    return maps.contiguous(memory_format=torch.channels_last)


def _compiled_input(
    model: nn.Module, image: Tensor, camera_vertices: Tensor, projected: Tensor
) -> Tensor:
    normals = vertex_normals(camera_vertices, model.triangles)
    fragments = rasterize(projected, model.triangles, *image.shape[2:])
    return feedback_numba.coarse_input(
        image, normals, model.pncc, *fragments, model.triangles, CONTRAST, SHORTEST
    )


def step(
    network: nn.Module,
    model: nn.Module,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
    both_sides: bool | None = None,
) -> Float[Tensor, "batch n"]:
    """One iteration: render the feedback of r (no gradient through it), predict the next r.

    both_sides: ask for the mirrored photograph, too, and average; None: as the network's
        configuration says.
    """
    maps = feedback(model, image, r, network.config)
    points = network.points_of(model)
    if not (network.config.both_sides if both_sides is None else both_sides):
        return network(maps, r, points).r
    maps = torch.cat([maps, mirrored_input(maps)])
    answer = network(maps, torch.cat([r, mirrored(model, r)]), points).r
    one, other = answer.chunk(2)
    return (one + mirrored(model, other)) / 2


def mirrored_input(
    maps: Float[Tensor, "batch 7 size size"],
) -> Float[Tensor, "batch 7 size size"]:
    """`coarse_input` of the mirrored image and face: PNCC's x is 1 - x, the normals' is -x."""
    maps = maps.flip(3)
    painted = maps[:, 1:4].sum(1) > 0
    maps[:, 1] = torch.where(painted, 1 - maps[:, 1], 0)
    maps[:, 4] = -maps[:, 4]
    return maps


def mirrored(model: nn.Module, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """The representation of the mirrored faces in the mirrored images."""
    coefficients, pose = split(r, model.n_coefficients)
    return join(model.mirrored(coefficients), pose * pose.new_tensor(_MIRRORED_POSE))


def iterate(
    network: nn.Module,
    model: nn.Module,
    image: Float[Tensor, "batch 1 size size"],
    iterations: int = 4,
    both_sides: bool | None = None,
) -> list[Float[Tensor, "batch n"]]:
    """Apply the network from r_0 = 0 (3.4).

    Args:
        image: grey face crops in [0, 1].
        iterations: number of steps.
        both_sides: as in `step`, of the last one: what the mirrored photograph adds to the others,
            the last makes up for, and they take half of the time.

    Returns:
        r after every step, starting with r_0: `iterations + 1` tensors (B, 290).
    """
    steps = [image.new_zeros(len(image), model.n_coefficients + N_POSE)]
    for number in range(1, iterations + 1):
        sides = both_sides if number == iterations else False
        steps.append(step(network, model, image, steps[-1], sides))
    return steps
