"""CoarseNet (3.3) and its iterative use (3.4).

The maps of an estimate r_t go in (`feedback`), a ResNet answers with the next r, and `iterate`
repeats that from r_0 = 0. Three additions of ours can be switched off: displacements of points on
the surface (`displacements`, `CoarseNetConfig.points`), a second look at the mirrored photograph
(`mirror`, `CoarseNetConfig.both_sides`) and a linear correction of the last answer (`calibration`,
`CoarseNetConfig.calibrated`).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facerecon.backends import feedback_numba
from facerecon.backends.choose import choose_backend
from facerecon.camera import N_POSE
from facerecon.displacements import (
    DisplacementField,
    corrected,
    points_of,
    spread_points,
    start_spread,
)
from facerecon.mesh import vertex_normals
from facerecon.mirror import mirrored, mirrored_input
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import MIN_LENGTH, rasterize
from facerecon.render import Rendering, place, render
from facerecon.resnet import ResNetConfig, ResNetRegressor
from facerecon.shapes import require_shape

INPUT_CHANNELS = 7  # masked grey, PNCC, normals
CONTRAST = 0.5  # standard deviation of the grey values in the mask
POSE_LIMIT = 8.0  # pose units; far outside the training world, keeps a lost iteration finite
_CHUNK = 8  # images whose maps stay in a processor's cache from one pass to the next
_HIDDEN = {"both": slice(0), "pncc": slice(4, 7), "normals": slice(1, 4)}  # channels, by feedback


@dataclass(frozen=True)
class CoarseNetConfig(ResNetConfig):
    """What CoarseNet is made of and sees; the paper's with points=0, both_sides=False."""

    feedback: str = "both"  # maps of r_t that it sees (3.2.1): "both", or "pncc", "normals" alone
    points: int = 256  # of the surface, whose displacements the network predicts; 0: none
    field: int = 64  # channels of the features that predict displacements
    both_sides: bool = True  # applied to the mirrored photograph, too, and averaged
    calibrated: bool = False  # the mean of both sides is corrected linearly (`calibration`)
    masked: bool = True  # the image is hidden where r_t has no vertex (3.4); False shows it whole


class CoarseEstimate(NamedTuple):
    """What CoarseNet predicts from r_t.

    r: (B, n) the next r. regressed: (B, n) before the displacements were taken into account.
    displacement, log_error: (B, points, 3) how far points of r_t's surface are from where they
        belong (x right, y down, z toward the viewer, `displacements.DISPLACEMENT_MM` at the crop's
        mean scale) and the logarithm of their expected error; None without points.
    """

    r: Tensor
    regressed: Tensor
    displacement: Tensor | None = None
    log_error: Tensor | None = None


class CoarseNet(ResNetRegressor):
    """ResNet from (image, feedback maps) and the current r_t to the next r.

    Pose is a correction of r_t's, since the maps show pose relative to the image; geometry is
    predicted anew, with a learned linear share of r_t's.

    With `config.points` the next r is the most likely one under both this regression, whose
    prior is the faces of training, and displacements of points, which are measured in the image.

    Args:
        n_coefficients: identity and expression coefficients of the morphable model.
        config: CoarseNetConfig.

    Raises:
        ValueError: an unknown stem or feedback; calibrated, but not for both sides.
    """

    config_class = CoarseNetConfig
    sizes = ("n_coefficients",)

    def __init__(self, n_coefficients: int = 284, config: CoarseNetConfig | None = None):
        config = config or CoarseNetConfig()
        if config.feedback not in _HIDDEN:
            raise ValueError(
                f"unknown feedback {config.feedback!r}: use 'both', 'pncc' or 'normals'"
            )
        if config.calibrated and not config.both_sides:
            raise ValueError("the mean of both sides is what is calibrated: set both_sides, too")
        super().__init__(INPUT_CHANNELS, n_coefficients + N_POSE, config)
        self.n_coefficients = n_coefficients
        self.carry = nn.Linear(n_coefficients, n_coefficients, bias=False)
        nn.init.zeros_(self.carry.weight)
        if config.points:
            channels = [config.width * 2**stage for stage in (1, 2, 3)]
            self.field = DisplacementField(channels, config.field)
            self.log_spread = nn.Parameter(start_spread(n_coefficients))
            self.log_repeats = nn.Parameter(torch.tensor(math.log(20.0)))
            self.register_buffer("points", torch.zeros(config.points, dtype=torch.long))
        if config.calibrated:
            self.register_buffer("calibration", torch.zeros(n_coefficients, n_coefficients + 1))

    def set_points(self, model: MorphableModel) -> None:
        """Choose the points of the model's surface; the choice is stored with the weights."""
        if self.config.points:
            self.points = spread_points(model, self.config.points)

    def forward(
        self,
        maps: Float[Tensor, "batch 7 height width"],
        r: Float[Tensor, "batch n"],
        model: MorphableModel,
    ) -> CoarseEstimate:
        """The next r from the maps of the current one (`feedback`), that r and their model."""
        regressed, *field = self.read(maps, r)
        if not field:
            return CoarseEstimate(regressed, regressed)
        points = points_of(model, self.points)
        found = corrected(points, *field, r, regressed, self.log_spread, self.log_repeats)
        return CoarseEstimate(
            self._limited(found.r), regressed, found.displacement, found.log_error
        )

    def read(
        self, maps: Float[Tensor, "batch 7 height width"], r: Float[Tensor, "batch n"]
    ) -> tuple[Tensor, ...]:
        """What the layers say, before any geometry: the part of `forward` that is a plain network.

        Returns:
            The next r by regression, (B, n); with points, the field of displacements, as of
            `displacements.DisplacementField`, too.
        """
        stages = self.stages(maps)
        regressed = self._next(self.regress(stages[-1]), r)
        return (regressed, self.field(stages[1:])) if self.config.points else (regressed,)

    def calibrate(self, r: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """r with the linear correction of its coefficients, if the network has one; else r."""
        if not self.config.calibrated:
            return r
        coefficients = r[:, : self.n_coefficients]
        slope, offset = self.calibration.split([self.n_coefficients, 1], dim=1)
        corrected = coefficients + coefficients @ slope.T + offset.T
        return torch.cat([corrected, r[:, self.n_coefficients :]], dim=1)

    def _next(self, output: Tensor, r: Tensor) -> Tensor:
        coefficients, correction = output.split([self.n_coefficients, N_POSE], dim=1)
        coefficients = coefficients + self.carry(r[:, : self.n_coefficients]).float()
        pose = r[:, self.n_coefficients :] + correction
        return self._limited(torch.cat([coefficients, pose], dim=1))

    def _limited(self, r: Tensor) -> Tensor:
        pose = r[:, self.n_coefficients :].clamp(-POSE_LIMIT, POSE_LIMIT)
        return torch.cat([r[:, : self.n_coefficients], pose], dim=1)


def coarse_input(
    image: Float[Tensor, "batch 1 size size"],
    rendering: Rendering,
    config: CoarseNetConfig | None = None,
) -> Float[Tensor, "batch 7 size size"]:
    """The network's input: the image masked by the feedback's visible vertices, PNCC and normals.

    Inside the mask the grey values are brought to mean 0 and standard deviation `CONTRAST`, so that
    exposure does not matter. Maps that the network's configuration leaves out are zero.
    Source: 3.2.1 and 3.4.
    """
    config = config or CoarseNetConfig()
    mask = rendering.mask if config.masked else torch.ones_like(rendering.mask)
    grey = normalized_grey(image, mask) * mask
    return _shown(torch.cat([grey, rendering.pncc, rendering.normals], dim=1), config)


def normalized_grey(
    image: Float[Tensor, "batch 1 size size"], mask: Bool[Tensor, "batch 1 size size"]
) -> Float[Tensor, "batch 1 size size"]:
    """Grey values with mean 0 and standard deviation `CONTRAST` inside a mask."""
    count = mask.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (image * mask).sum((2, 3), keepdim=True) / count
    centered = image - mean
    std = ((centered * mask).square().sum((2, 3), keepdim=True) / count).sqrt()
    return centered * (CONTRAST / std.clamp(min=0.01))


@torch.no_grad()
def feedback(
    model: MorphableModel,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
    config: CoarseNetConfig | None = None,
) -> Float[Tensor, "batch 7 size size"]:
    """`coarse_input` of the rendered estimate r, channels last in memory; on a CPU in one pass.

    Raises:
        ValueError: images that are not one square grey one for each r.
    """
    config = config or CoarseNetConfig()
    require_shape("image", image, len(r), 1, image.shape[-1], None)
    if config.masked and choose_backend("auto", image, r) == "numba":
        placed = place(model, r, image.shape[-1])
        chunks = (values.split(_CHUNK) for values in (image, *placed))
        maps = torch.cat([_compiled_input(model, *chunk) for chunk in zip(*chunks, strict=True)])
        return _shown(maps, config)
    maps = coarse_input(image, render(model, r, image.shape[-1]), config)
    return maps.contiguous(memory_format=torch.channels_last)


def _compiled_input(
    model: MorphableModel, image: Tensor, camera_vertices: Tensor, projected: Tensor
) -> Tensor:
    normals = vertex_normals(camera_vertices, model.triangles)
    fragments = rasterize(projected, model.triangles, *image.shape[2:])
    return feedback_numba.coarse_input(
        image, normals, model.pncc, *fragments, model.triangles, CONTRAST, MIN_LENGTH
    )


def _shown(maps: Tensor, config: CoarseNetConfig) -> Tensor:
    """The maps, with zeros where this configuration has no feedback."""
    if config.feedback == "both":
        return maps
    shown = maps.new_ones(1, INPUT_CHANNELS, 1, 1)
    shown[:, _HIDDEN[config.feedback]] = 0
    return maps * shown


def step(
    network: CoarseNet,
    model: MorphableModel,
    image: Float[Tensor, "batch 1 size size"],
    r: Float[Tensor, "batch n"],
    both_sides: bool | None = None,
) -> Float[Tensor, "batch n"]:
    """One iteration: render the feedback of r (no gradient through it), predict the next r.

    both_sides: predict for the mirrored photograph, too, average, and calibrate; None: as the
        network's configuration says.
    """
    maps = feedback(model, image, r, network.config)
    if not (network.config.both_sides if both_sides is None else both_sides):
        return network(maps, r, model).r
    maps = torch.cat([maps, mirrored_input(maps)])
    one, other = network(maps, torch.cat([r, mirrored(model, r)]), model).r.chunk(2)
    return network.calibrate((one + mirrored(model, other)) / 2)


def iterate(
    network: CoarseNet,
    model: MorphableModel,
    image: Float[Tensor, "batch 1 size size"],
    iterations: int = 4,
    both_sides: bool | None = None,
) -> list[Float[Tensor, "batch n"]]:
    """Apply the network from r_0 = 0 (3.4).

    Args:
        image: grey face crops in [0, 1].
        iterations: number of steps.
        both_sides: as in `step`, of the last one: the steps before it take half of the time
            without the mirrored photograph, and the last makes up for what they miss.

    Returns:
        r after every step, starting with r_0: `iterations + 1` tensors (B, 290).
    """
    steps = [image.new_zeros(len(image), model.n_coefficients + N_POSE)]
    for number in range(1, iterations + 1):
        sides = both_sides if number == iterations else False
        steps.append(step(network, model, image, steps[-1], sides))
    return steps
