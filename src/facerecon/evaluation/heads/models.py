"""Populations of heads that the networks have not learned from: ICT-FaceKit, or any other model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from facerecon.evaluation.heads.registration import NOT_SKIN
from facerecon.files import read_npz
from facerecon.morphable_model import ModelFileError, MorphableModel
from facerecon.weights import shipped

LEFT_OUT = ("eyeLook", "mouthClose")
"""Expressions that move eyeballs, or that make no face without another one, by their beginnings."""

_MOUTH = 45.0  # mm from the middle of the lips to the deepest of the mouth's inside
_BELOW_JAW = 8.0  # mm below the jaw's line at which a head without neck ends


ICT_FACEKIT = "ict"
"""Name of the heads that ship: ICT-FaceKit's, packed by `data_scripts/pack_heads.py`."""


class HeadModel(NamedTuple):
    """A population of heads: linear, in its own frame (y up, z toward the viewer) and unit.

    face: vertices of the face's skin, without ears, neck, eyeballs and inside of the mouth.
    cut: vertices that are left of the heads when they are cut to the "face" with eyes and mouth,
        or to that with the "ears" but without neck and scalp.
    expression: displacement at full strength. partner, group, frequency: see `sample_activations`.
    units: names of the expressions.
    scanned: the identities have the statistics of scans, and are not those of our networks' model.
    """

    mean: Float[Tensor, "vertices 3"]
    identity: Float[Tensor, "identity vertices 3"]
    expression: Float[Tensor, "units vertices 3"]
    triangles: Int[Tensor, "triangles 3"]
    landmarks: Int[Tensor, " 68"]
    face: Bool[Tensor, " vertices"]
    cut: dict[str, Bool[Tensor, " vertices"]]
    partner: Int[Tensor, " units"]
    group: Int[Tensor, " units"]
    frequency: Float[Tensor, " units"]
    units: tuple[str, ...]
    scanned: bool


def heads_file(heads: str | Path) -> Path:
    """The file of heads that are named or given as a file."""
    return shipped("ict_heads.npz") if str(heads) == ICT_FACEKIT else Path(heads)


def load_heads(heads: str | Path = ICT_FACEKIT) -> HeadModel:
    """Read ICT-FaceKit's arrays packed into one .npz, or a morphable model in our own format.

    Args:
        heads: a file, or "ict" for the heads that ship. Identity and expression may be whole
            numbers with a scale for each unit (`data_scripts/pack_heads.py`).

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is neither of the two.
    """
    path = heads_file(heads)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; give a morphable model or other heads as .npz, or"
            f" {ICT_FACEKIT!r}"
        )
    try:
        packed = read_npz(path)
    except ValueError as error:
        raise ModelFileError(f"{path}: not a readable .npz ({error}); copy it again") from error
    if "landmarks68" not in packed:
        return _of_morphable_model(MorphableModel.load(path))
    try:
        return _of_packed(packed)
    except KeyError as error:
        raise ModelFileError(f"{path}: the array {error} is missing; pack it again") from error


def _of_morphable_model(model: MorphableModel) -> HeadModel:
    basis = model.basis.unflatten(1, (-1, 3))
    regions = model.regions
    face = regions["face"] > 0.5
    for name in NOT_SKIN:
        face = face & (regions[name] < 0.5)
    features = sum(regions[name] for name in ("eye_left", "eye_right", "mouth_interior")) > 0.5
    alone, ears = face | features, regions["ears"] > 0.5
    return HeadModel(
        mean=model.mean,
        identity=basis[: model.n_identity],
        expression=basis[model.n_identity :] / model.expression_std[:, None, None],
        triangles=model.triangles,
        landmarks=model.landmarks,
        face=face,
        cut={
            "face": alone,
            "ears": (alone | ears) & _above_jaw(model.mean, model.landmarks),
        },
        partner=model.expression_partner,
        group=model.expression_group,
        frequency=model.expression_frequency,
        units=model.expression_names,
        scanned=False,
    )


def _of_packed(file: dict[str, np.ndarray]) -> HeadModel:
    names = [str(name) for name in file["expression_names"]]
    kept = [i for i, name in enumerate(names) if not name.startswith(LEFT_OUT)]
    names = [names[i] for i in kept]
    swap = {"_L": "_R", "_R": "_L"}
    other = [name[:-2] + swap.get(name[-2:], name[-2:]) for name in names]
    partner = torch.tensor([names.index(name) for name in other])
    vertices = torch.arange(len(file["mean"]))
    mean, landmarks = torch.from_numpy(file["mean"]).float(), torch.from_numpy(file["landmarks68"])
    face = vertices < int(file["narrow_face_vertices"])
    outer = vertices < int(file["face_vertices"])
    edges = file["faces"][:, [0, 1, 1, 2]].reshape(-1, 2).T
    joined = coo_array((np.ones(edges.shape[1]), edges), shape=(len(mean),) * 2)
    part = torch.from_numpy(connected_components(joined, directed=False)[1])
    eyeballs = part != part[0]
    lips = mean[landmarks[48:].long()].mean(0)
    mouth = ~outer & ~eyeballs & ((mean - lips).norm(dim=1) < _MOUTH)
    features = eyeballs | mouth
    return HeadModel(
        mean=mean,
        identity=_displacements(file, "identity"),
        expression=_displacements(file, "expression")[kept],
        triangles=torch.from_numpy(file["faces"].astype(np.int64)),
        landmarks=landmarks.long(),
        face=face,
        cut={
            "face": face | features,
            "ears": features | (outer & _above_jaw(mean, landmarks.long())),
        },
        partner=partner,
        group=torch.minimum(partner, torch.arange(len(names))),
        frequency=torch.ones(len(names)),
        units=tuple(names),
        scanned=True,
    )


def _displacements(file: dict[str, np.ndarray], name: str) -> Float[Tensor, "units vertices 3"]:
    units = torch.from_numpy(file[name]).float()
    scale = file.get(f"{name}_scale")
    return units if scale is None else units * torch.from_numpy(scale)[:, None, None]


def _above_jaw(
    mean: Float[Tensor, "vertices 3"], landmarks: Int[Tensor, " 68"]
) -> Bool[Tensor, " vertices"]:
    """Vertices above the plane through chin and jaw angles, and a little below it."""
    chin, angles = mean[landmarks[8]], mean[landmarks[[4, 12]]].mean(0)
    forward = chin[2] - angles[2]
    slope = (chin[1] - angles[1]) / forward.clamp(min=1.0)
    line = chin[1] + slope * (mean[:, 2] - chin[2])
    # Behind the jaw's angles it goes on level: the slope would cut the ears' lobes.
    return mean[:, 1] > torch.where(mean[:, 2] < angles[2], angles[1], line) - _BELOW_JAW
