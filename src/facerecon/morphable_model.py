"""The 3D morphable model: shape (Eq. 1) and albedo (Eq. 10) of a face by linear coefficients."""

import io
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from facerecon.files import read_npz, write_file
from facerecon.messages import OneLine

FORMAT = "facerecon-3dmm/1"
N_LANDMARKS = 68
REGIONS = (
    "face", "lips", "eyelids", "ears", "neck", "brows", "eye_left", "eye_right", "mouth_interior",
)  # fmt: skip

# Axes of every array in a file; equal letters mean equal lengths.
_SHAPES = {
    "mean": "v3",
    "identity_basis": "iv3",
    "expression_basis": "ev3",
    "albedo_mean": "v3",
    "albedo_basis": "av3",
    "triangles": "f3",
    "uv": "t2",
    "uv_triangles": "f3",
    "landmarks": "l",
    "mirror": "v",
    "vertex_weight": "v",
    "region_names": "r",
    "region_masks": "rv",
    "expression_names": "e",
    "expression_std": "e",
    "expression_partner": "e",
    "expression_group": "e",
    "expression_frequency": "e",
    "expression_is_component": "e",
}
_OPTIONAL = {"expression_is_component"}  # all zero where missing
_TEXT = ("region_names", "expression_names")
_BASES = ("identity_basis", "expression_basis")
# Integer arrays and the axis that they index, if any.
_INDICES = {
    "triangles": "v",
    "uv_triangles": "t",
    "landmarks": "v",
    "mirror": "v",
    "expression_partner": "e",
    "expression_group": "e",
    "expression_is_component": None,
}
_BUFFERS = tuple(name for name in _SHAPES if name not in (*_TEXT, *_BASES))
_HALF_PRECISION = (*_BASES, "albedo_mean", "albedo_basis", "region_masks")

MAX_ACTIVE_UNITS = 5
NEUTRAL_SHARE = 0.2
SYMMETRIC_SHARE = 0.85  # of the active units whose partner follows
SIDE_DIFFERENCE = 0.2  # at most, of the partner's activation
ACTIVATION_BETA = 1.6


class ModelFileError(OneLine, ValueError):
    """A file is not a usable morphable model."""


class MorphableModel(nn.Module):
    """A linear model of face shape and albedo; its arrays are buffers, so `.to(device)` moves it.

    Args:
        arrays: by name, as in a model file; shapes by letter: v vertices, f triangles, t texture
            points, i identity, e expression and a albedo coefficients, r regions.
            mean (v, 3): mm, model frame; identity_basis (i, v, 3), expression_basis (e, v, 3): mm
            per standard deviation; albedo_mean (v, 3), albedo_basis (a, v, 3): RGB as displayed;
            triangles, uv_triangles (f, 3); uv (t, 2): v up; landmarks (68,): the iBUG points;
            mirror (v,): every vertex's mirror image; vertex_weight (v,): sums to 1;
            region_names (r,), region_masks (r, v): in [0, 1]; expression_names, _std, _partner,
            _group, _frequency (e,): see `sample_activations`; expression_is_component (e,): 1 for
            a principal component, which goes both ways, 0 (default) for a unit that is activated.
        provenance: where the model comes from, as JSON values.

    Raises:
        ModelFileError: an array is missing, does not fit the others, or has a value out of range.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], provenance: Mapping[str, object]) -> None:
        super().__init__()
        _validate(arrays)
        self.provenance = dict(provenance)
        self.expression_names = tuple(arrays["expression_names"].tolist())
        self.region_names = tuple(arrays["region_names"].tolist())
        for name in _BUFFERS:
            dtype = np.int64 if name in _INDICES else np.float32
            array = arrays[name] if name in arrays else np.zeros(len(arrays["expression_basis"]))
            self.register_buffer(name, torch.from_numpy(array.astype(dtype)))
        self.n_identity = len(arrays["identity_basis"])
        self.n_expression = len(arrays["expression_basis"])
        self.n_coefficients = self.n_identity + self.n_expression
        self.n_albedo = len(arrays["albedo_basis"])
        self.n_vertices = len(arrays["mean"])
        basis = np.empty((self.n_coefficients, self.n_vertices * 3), np.float32)
        basis[: self.n_identity] = arrays["identity_basis"].reshape(self.n_identity, -1)
        basis[self.n_identity :] = arrays["expression_basis"].reshape(self.n_expression, -1)
        self.register_buffer("basis", torch.from_numpy(basis))
        self._mirroring: Tensor | None = None  # computed on first use
        low, high = self.mean.amin(0), self.mean.amax(0)
        self.register_buffer("pncc", (self.mean - low) / (high - low))

    @classmethod
    def default(cls) -> "MorphableModel":
        """The model that ships with the package, made from open data (see `provenance`)."""
        return cls.load(files("facerecon") / "assets" / "morphable_model.npz")

    @classmethod
    def load(cls, path: str | Path) -> "MorphableModel":
        """Read a model file.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: the file is damaged or not a model file of this format.
        """
        arrays = read_arrays(path)
        try:
            provenance = json.loads(str(arrays.pop("provenance")))
            return cls(arrays, provenance)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}; build or convert the model again") from error
        except json.JSONDecodeError as error:
            raise ModelFileError(
                f"{path}: `provenance` is not JSON ({error}); build or convert the model again"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write a model file; bases, albedo and regions are stored in half precision."""
        arrays = {name: getattr(self, name).detach().cpu().numpy() for name in _BUFFERS}
        basis = self.basis.detach().cpu().numpy().reshape(self.n_coefficients, -1, 3)
        arrays["identity_basis"] = basis[: self.n_identity]
        arrays["expression_basis"] = basis[self.n_identity :]
        arrays["expression_names"] = np.array(self.expression_names)
        arrays["region_names"] = np.array(self.region_names)
        write_arrays(path, arrays, self.provenance)

    @property
    def regions(self) -> dict[str, Float[Tensor, " vertices"]]:
        """Soft masks in [0, 1] by region name."""
        return dict(zip(self.region_names, self.region_masks, strict=True))

    @property
    def ears_and_neck(self) -> Float[Tensor, " vertices"]:
        """Soft mask in [0, 1]; excluded from evaluation and from the detailed mesh."""
        return torch.maximum(self.regions["ears"], self.regions["neck"])

    def skin(
        self, without: Sequence[str] = ("eye_left", "eye_right", "mouth_interior")
    ) -> Float[Tensor, " vertices"]:
        """Soft mask in [0, 1] of the face without these regions.

        Where masks overlap, the least counts: `skin(names) > 0.5` are the vertices of the face that
        belong to none of the regions.
        """
        return torch.minimum(self.regions["face"], self.outside(without))

    def outside(self, names: Sequence[str]) -> Float[Tensor, " vertices"]:
        """Soft mask in [0, 1] of what belongs to none of these regions."""
        return 1 - torch.stack([self.regions[name] for name in names]).amax(dim=0)

    def vertices(
        self, coefficients: Float[Tensor, "batch coefficients"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """Vertices in mm, model frame, of coefficients in standard deviations, identity first.

        Source: Eq. (1).
        """
        return self.mean + (coefficients @ self.basis).unflatten(1, (self.n_vertices, 3))

    def albedo(
        self, coefficients: Float[Tensor, "batch albedo_coefficients"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """RGB reflectance per vertex, not clipped, of coefficients in standard deviations.

        Source: Eq. (10).
        """
        return self.albedo_mean + torch.tensordot(coefficients, self.albedo_basis, 1)

    def mirrored(
        self, coefficients: Float[Tensor, "batch coefficients"]
    ) -> Float[Tensor, "batch coefficients"]:
        """Coefficients of the mirror images: exact where the bases are symmetric, else the nearest.

        Nearest in the metric of Eq. (4).
        """
        if self._mirroring is None or self._mirroring.device != coefficients.device:
            # Sums over one side of the face: the other's symmetric part is the same, and its
            # antisymmetric part has the other sign.
            vertex = torch.arange(self.n_vertices, device=self.mirror.device)
            (side,) = torch.where(vertex <= self.mirror)
            other, weight = self.mirror[side], self.vertex_weight.double()
            weight = (weight[side] + weight[other]) * torch.where(side == other, 1.0, 2.0)
            basis = self.basis.view(self.n_coefficients, -1, 3)
            flip = weight.new_tensor([-1.0, 1.0, 1.0])
            ours, theirs = basis[:, side].double(), basis[:, other].double() * flip
            root = weight.sqrt()[:, None] / 2
            even, odd = ((ours + theirs) * root).flatten(1), ((ours - theirs) * root).flatten(1)
            even, odd = even @ even.T, odd @ odd.T
            metric = even + odd
            least = 1e-9 * metric.trace() * torch.eye(len(metric)).to(metric)
            self._mirroring = torch.linalg.solve(metric + least, even - odd).T.float()
        return coefficients @ self._mirroring.to(coefficients)

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n coefficients"]:
        """Coefficients of `n` plausible faces: normal identities, a few expression units each.

        Expressions that are principal components are normal, too; a share of `NEUTRAL_SHARE` of
        the faces has no expression of either kind.

        generator: source of randomness, on any device; the result is on the model's.
        """
        device = generator.device if generator is not None else self.mean.device
        identity = torch.randn(n, self.n_identity, generator=generator, device=device)
        activation = sample_activations(
            n,
            self.expression_partner.to(device),
            self.expression_group.to(device),
            self.expression_frequency.to(device),
            generator,
        )
        expression = activation / self.expression_std.to(device)
        component = self.expression_is_component.to(device) > 0
        if component.any():
            both_ways = torch.randn(expression.shape, generator=generator, device=device)
            both_ways = both_ways * (activation > 0).any(1, keepdim=True)
            expression = torch.where(component, both_ways, expression)
        return torch.cat([identity, expression], 1).to(self.mean.device)

    def geometry_metric(self) -> Float[Tensor, "coefficients coefficients"]:
        """G such that d^T G d is the mean squared displacement in mm^2 of coefficients d.

        The mean over the vertices is weighted by vertex_weight. Source: Eq. (4), whose sum over
        vertices this evaluates without making vertices.
        """
        weighted = self.basis * self.vertex_weight.repeat_interleave(3)
        return weighted @ self.basis.T

    def expression_index(self, name: str) -> int:
        """Index of an expression unit in the whole coefficient vector.

        Raises:
            ValueError: there is no such unit.
        """
        if name not in self.expression_names:
            raise ValueError(
                f"no expression {name!r}; there are {', '.join(self.expression_names)}"
            )
        return self.n_identity + self.expression_names.index(name)


def sample_activations(
    n: int,
    partner: Int[Tensor, " units"],
    group: Int[Tensor, " units"],
    frequency: Float[Tensor, " units"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n units"]:
    """Activations in [0, 1] of plausible expressions: some neutral, else one to five units each.

    partner: unit that usually goes with this one (the other side of the face), itself if none.
    group: units of one group exclude each other, partners excepted.
    frequency: how common a unit is, relative to the others.
    generator: on the device of the tensors.
    """
    units, device = len(partner), frequency.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device, dtype=frequency.dtype)

    # With Gumbel noise the largest scores are samples without replacement, at these frequencies.
    score = frequency.log() - (-uniform(n, units).clamp(1e-7, 1 - 1e-7).log()).log()
    n_groups = int(group.max()) + 1
    best = score.new_full((n, n_groups), -torch.inf)
    best = best.scatter_reduce(1, group.expand(n, -1), score, "amax")
    rank = best.argsort(1, descending=True).argsort(1)
    n_active = 1 + (MAX_ACTIVE_UNITS * uniform(n, 1)).long().clamp(max=MAX_ACTIVE_UNITS - 1)
    n_active[uniform(n, 1) < NEUTRAL_SHARE] = 0
    active = (score == best[:, group]) & (rank < n_active)[:, group]
    # The inverse distribution function of Beta(1, 1.6): weak expressions are the common ones.
    activation = active * (1 - (1 - uniform(n, units)) ** (1 / ACTIVATION_BETA))
    follows = uniform(n, units) < SYMMETRIC_SHARE
    strength = 1 - SIDE_DIFFERENCE * uniform(n, units)
    return torch.maximum(activation, activation[:, partner] * follows * strength)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a model file as they are stored.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is damaged or not a model file of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such model file; give the path of a .npz in the format {FORMAT}"
        )
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise ModelFileError(
            f"{path}: not a readable .npz archive ({error}); copy or build the file again"
        ) from error
    if str(arrays.pop("format", "missing")) != FORMAT:
        raise ModelFileError(
            f"{path}: its `format` is not {FORMAT}; convert the model into this format first"
        )
    if "provenance" not in arrays:
        raise ModelFileError(f"{path}: `provenance` is missing; build or convert the model again")
    return arrays


def write_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], provenance: Mapping[str, object]
) -> None:
    """Write the arrays of a model as a model file; equal input makes equal bytes.

    Raises:
        ModelFileError: an array is missing, does not fit the others, or has a value out of range.
        OutputError: the file cannot be written.
    """
    _validate(arrays)
    stored = {"format": np.array(FORMAT), "provenance": np.array(json.dumps(dict(provenance)))}
    for name in _SHAPES:
        if name not in arrays:
            continue
        if name in _HALF_PRECISION:
            dtype = np.float16
        elif name in _INDICES:
            dtype = np.int32
        else:
            dtype = arrays[name].dtype if name in _TEXT else np.float32
        stored[name] = arrays[name].astype(dtype)
    data = io.BytesIO()
    np.savez_compressed(data, **stored)
    write_file(Path(path), data.getvalue())


def _validate(arrays: Mapping[str, np.ndarray]) -> None:
    lengths = {"3": 3, "2": 2, "l": N_LANDMARKS}
    for name, axes in _SHAPES.items():
        if name not in arrays:
            if name in _OPTIONAL:
                continue
            raise ModelFileError(f"`{name}` is missing")
        array = arrays[name]
        if array.ndim != len(axes) or any(
            lengths.setdefault(axis, length) != length
            for axis, length in zip(axes, array.shape, strict=True)
        ):
            wanted = " x ".join(str(lengths.get(axis, axis)) for axis in axes)
            raise ModelFileError(f"`{name}` has shape {array.shape}, expected {wanted}")
        kinds = "U" if name in _TEXT else "iu" if name in _INDICES else "f"
        if array.dtype.kind not in kinds:
            raise ModelFileError(f"`{name}` has type {array.dtype}, which cannot be used here")
        if kinds == "f" and not np.isfinite(array).all():
            raise ModelFileError(f"`{name}` holds values that are not finite")
    for name, axis in _INDICES.items():
        if axis is None:
            continue
        if arrays[name].min() < 0 or arrays[name].max() >= lengths[axis]:
            raise ModelFileError(f"`{name}` points outside 0..{lengths[axis] - 1}")
    missing = set(REGIONS) - set(arrays["region_names"].tolist())
    if missing:
        raise ModelFileError(f"`region_names` lacks {', '.join(sorted(missing))}")
    for name in ("expression_std", "expression_frequency"):
        if arrays[name].min() <= 0:
            raise ModelFileError(f"`{name}` must be positive")
    if abs(float(arrays["vertex_weight"].sum(dtype=np.float64)) - 1) > 1e-3:
        raise ModelFileError("`vertex_weight` does not sum to 1")
