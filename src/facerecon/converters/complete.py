"""Adds to a model of another format what it lacks, and writes our arrays."""

import re
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from facerecon.converters.fitting import (
    NotAHeadError,
    RegisteredModel,
    normals_of,
    register_model,
)
from facerecon.converters.source import SourceModel, sha256
from facerecon.converters.transfer import surface_weights, transfer_landmarks
from facerecon.morphable_model import MorphableModel, sample_activations

ORIGIN_BELOW_EYES = 17.0  # mm, docs/conventions.md
MARGIN = 10.0  # mm of the other mesh that may stand out of the default model's box
STILL = 0.01  # mm: components that move the face by less are left out
JAW = range(17)
# Weight of a square millimeter in Eq. (4): face, ears and neck, eyeballs, as in the default model.
FACE_WEIGHT, REST_WEIGHT, EYE_WEIGHT = 1.0, 0.2, 0.3
# A component is sampled from 0 to 3 standard deviations.
COMPONENT_STD = 1 / 3
ACTIVATION_SAMPLES = 50_000


def complete(
    source: SourceModel, default: MorphableModel
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """All arrays of a model file, and its provenance.

    The mesh is cut to what the default model shows: face, ears, front of the neck. The frame is
    that of docs/conventions.md by a shift alone: the format's scale and rotation stay.

    Raises:
        ModelFileError: the mesh is no head in the expected frame and unit.
    """
    source = _facing_outward(source)
    skin = source.triangles[~_any(source.parts, len(source.vertices))[source.triangles].any(1)]
    try:
        registered = register_model(default, source.vertices, skin)
    except NotAHeadError as error:
        raise source.family.error(source.files[0], error) from None
    notes = list(source.notes)
    if source.landmarks is None:
        found = transfer_landmarks(default, registered, source.vertices, skin)
        source = replace(source, landmarks=found)
        notes.append("landmarks: carried over from the default model by its shape")
    low, high = registered.vertices.min(0) - MARGIN, registered.vertices.max(0) + MARGIN
    source = source.keep(((source.vertices > low) & (source.vertices < high)).all(1))

    outward = normals_of(source.vertices, source.triangles)
    own = {name: mask.numpy() > 0.5 for name, mask in default.regions.items()}
    inner = _any(source.parts, len(source.vertices))
    rest = ~_any({name: own[name] for name in source.parts}, default.n_vertices)
    parts = [(mask, own[name]) for name, mask in source.parts.items()] + [(~inner, rest)]
    weights = surface_weights(default, registered, source.vertices, outward, parts)
    regions = {
        name: source.parts[name].astype(float)
        if name in source.parts
        else np.where(inner, 0.0, weights @ mask.numpy())
        for name, mask in default.regions.items()
    }
    notes.append("regions: carried over from the default model by its shape")

    if source.expression.shape[0] == 0:
        source = _with_default_expressions(source, default, registered, weights)
        notes.append("expressions: those of the default model, carried over by its shape")
    if source.albedo is None:
        mean = weights @ default.albedo_mean.numpy()
        basis = np.stack([weights @ component for component in default.albedo_basis.numpy()])
        source = replace(source, albedo=(mean, basis))
        notes.append("albedo: that of the default model, carried over by its shape")
    if source.uv is None:
        source = replace(source, uv=_cylinder(source.vertices), uv_triangles=source.triangles)
        notes.append("uv: a cylinder around the head")

    identity = source.identity[_moving(source.identity)]
    moving = _moving(source.expression)
    names = [name for name, moves in zip(source.expression_names, moving, strict=True) if moves]
    expression = _expression_arrays(names, source.expression[moving], default)
    area = _areas(source.vertices, source.triangles)
    eyeballs = [mask for name, mask in source.parts.items() if name != "mouth_interior"]
    eyes = [source.vertices[eye].mean(0) for eye in eyeballs] or [
        registered.vertices[own[name]].mean(0) for name in ("eye_left", "eye_right")
    ]
    mean = source.vertices - _origin(source.vertices, np.mean(eyes, 0), area * regions["face"])
    arrays = {
        "mean": mean,
        "identity_basis": identity,
        "albedo_mean": source.albedo[0],
        "albedo_basis": source.albedo[1],
        "triangles": source.triangles,
        "uv": _one_square(source.uv),
        "uv_triangles": source.uv_triangles,
        "landmarks": in_order(source.landmarks, mean),
        "mirror": cKDTree(mean).query(mean * [-1, 1, 1])[1],
        "vertex_weight": _vertex_weight(area, regions, source.mouth),
        "region_names": np.array(list(regions)),
        "region_masks": np.stack(list(regions.values())),
        **expression,
    }
    provenance = {
        "source": source.name,
        "source_files": [path.name for path in source.files[:3]],
        "source_sha256": sha256(source.files),
        "licence": source.family.licence,
        "page": source.family.page,
        "builder": "facerecon model convert",
        "registration_rms_mm": round(registered.distance, 3),
        "notes": notes,
    }
    return arrays, provenance


def in_order(
    landmarks: Int[np.ndarray, "68"], vertices: Float[np.ndarray, "vertices 3"]
) -> Int[np.ndarray, "68"]:
    """The jaw's points in the order of the iBUG scheme: around the chin from right to left.

    vertices: mm, model frame.
    """
    jaw = vertices[landmarks[list(JAW)]]
    around = np.arctan2(jaw[:, 0], vertices[landmarks[27], 1] - jaw[:, 1])
    ordered = landmarks.copy()
    ordered[list(JAW)] = landmarks[list(JAW)][np.argsort(around)]
    return ordered


def _any(masks: dict[str, np.ndarray], n: int) -> Bool[np.ndarray, " n"]:
    return np.logical_or.reduce([np.zeros(n, bool), *masks.values()])


def _facing_outward(source: SourceModel) -> SourceModel:
    corners = source.vertices[source.triangles] - source.vertices.mean(0)
    volume = np.einsum("fc,fc->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2])
    if volume > 0:
        return source
    turned = None if source.uv_triangles is None else source.uv_triangles[:, ::-1]
    return replace(source, triangles=source.triangles[:, ::-1], uv_triangles=turned)


def _origin(vertices: np.ndarray, eyes: np.ndarray, face: np.ndarray) -> Float[np.ndarray, "3"]:
    """On the symmetry plane, below the eyes, as deep as the centroid of the face.

    eyes: their middle. face: weight of the vertices.
    """
    middle = 0.0
    for _ in range(3):  # the plane decides who mirrors whom, and that decides the plane
        reflected = vertices * [-1, 1, 1] + [2 * middle, 0, 0]
        _, mirror = cKDTree(vertices).query(reflected)
        middle = float(np.median(vertices[:, 0] + vertices[mirror, 0])) / 2
    return np.array([middle, eyes[1] - ORIGIN_BELOW_EYES, face @ vertices[:, 2] / face.sum()])


def _areas(vertices: np.ndarray, triangles: np.ndarray) -> Float[np.ndarray, " vertices"]:
    """A third of the area of the triangles at each vertex, mm^2."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(triangles.ravel(), np.repeat(area, 3), len(vertices))


def _vertex_weight(
    area: np.ndarray, regions: dict, mouth: np.ndarray | None
) -> Float[np.ndarray, " vertices"]:
    weight = REST_WEIGHT + (FACE_WEIGHT - REST_WEIGHT) * regions["face"]
    weight = np.where(regions["eye_left"] + regions["eye_right"] > 0.5, EYE_WEIGHT, weight) * area
    if mouth is not None:  # the bag behind the lips, which nobody sees
        weight[mouth] = 0
    return weight / weight.sum()


def _moving(basis: np.ndarray) -> np.ndarray:
    return np.sqrt((basis.astype(np.float64) ** 2).sum(2).mean(1)) > STILL


def _cylinder(vertices: np.ndarray) -> Float[np.ndarray, "vertices 2"]:
    """u around the vertical axis through the back of the mesh, v upward, both in [0, 1]."""
    low, high = vertices.min(0), vertices.max(0)
    angle = np.arctan2(vertices[:, 0] - (low[0] + high[0]) / 2, vertices[:, 2] - low[2] + 1.0)
    return np.stack([angle / np.pi + 0.5, (vertices[:, 1] - low[1]) / (high[1] - low[1])], 1)


def _one_square(uv: np.ndarray) -> np.ndarray:
    """Texture tiles beside the unit square (UDIM) are squeezed into it."""
    return uv / [max(1.0, np.ceil(uv[:, 0].max())), 1.0]


def _with_default_expressions(
    source: SourceModel, default: MorphableModel, registered: RegisteredModel, weights
) -> SourceModel:
    basis = default.basis[default.n_identity :].numpy().reshape(-1, default.n_vertices, 3)
    full = basis / default.expression_std.numpy()[:, None, None]
    moved = np.stack([weights @ unit for unit in full @ registered.turn.T])
    return replace(source, expression=moved, expression_names=default.expression_names)


def _expression_arrays(
    names: list[str], displacement: np.ndarray, default: MorphableModel
) -> dict[str, np.ndarray]:
    """What sampling needs to know about components and units.

    A unit that the default model knows, also as one side of one of its units, shares its group and
    frequency there, and its standard deviation is the root mean square of its activations. A
    component is the more frequent the further it moves the face, and excludes no other.
    """
    known = list(default.expression_names)
    base = {name: name if name in known else re.sub("(Left|Right)$", "", name) for name in names}
    is_unit = np.array([base[name] in known for name in names])
    size = np.sqrt((displacement.astype(np.float64) ** 2).sum(2).mean(1))
    frequency = size / size[~is_unit].mean() if (~is_unit).any() else np.ones(len(names))
    partner, group = np.arange(len(names)), np.zeros(len(names), int)
    n_groups = int(default.expression_group.max()) + 1
    for i, name in enumerate(names):
        if not is_unit[i]:
            group[i], n_groups = n_groups, n_groups + 1
            continue
        at = known.index(base[name])
        group[i] = int(default.expression_group[at])
        frequency[i] = float(default.expression_frequency[at]) / (1 if base[name] == name else 2)
        other = known[int(default.expression_partner[at])]
        if base[name] != name:
            other = base[name] + ("Right" if name.endswith("Left") else "Left")
        partner[i] = names.index(other) if other in names else i
    group = np.unique(group, return_inverse=True)[1]
    activation = sample_activations(
        ACTIVATION_SAMPLES,
        torch.from_numpy(partner),
        torch.from_numpy(group),
        torch.from_numpy(frequency),
        torch.Generator().manual_seed(0),
    )
    rms = activation.square().mean(0).sqrt().numpy()
    std = np.where(is_unit, rms, COMPONENT_STD)
    scale = np.where(is_unit, std, 1.0)
    return {
        "expression_names": np.array(names),
        "expression_basis": displacement * scale[:, None, None],
        "expression_std": std,
        "expression_partner": partner,
        "expression_group": group,
        "expression_frequency": frequency,
        "expression_is_component": (~is_unit).astype(np.int32),
    }
