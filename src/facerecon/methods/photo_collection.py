"""From many photographs of one person to a mesh: the steps of [36] (`roth2016`), one after another.

Landmarks ([19]) and a morphable model on them ([47]) place every photograph; one identity of all is
the template; photometric stereo on its vertices gives normals, and a surface with these normals
becomes the next template.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import grid_sample

from facerecon.camera import CROP_MM, POSE_UNITS, pose_parameters, project, rotation_matrix, split
from facerecon.detection.detect import NoFaceError
from facerecon.imaging import Crop, to_grey
from facerecon.lighting import LUMA
from facerecon.mesh import edges, vertex_normals
from facerecon.methods.contour import Contour
from facerecon.methods.roth2016 import photometric_stereo, shared_identity, surface_from_normals
from facerecon.methods.zhu2015 import LandmarkFit, fit_landmarks
from facerecon.morphable_model import MorphableModel
from facerecon.rasterize import rasterize

Image = Float[np.ndarray, "height width 3"]

ROUNDS = 2
LANDMARK_PX = 2.0
"""Spread of landmarks in pixels of a face 200 wide, for the identity of all photographs."""

GRAZING = 0.35
"""Cosine between normal and line of sight below which a vertex is not read."""


class CollectionFace(NamedTuple):
    """A person without expression.

    vertices: mm, model frame. template: before photometric stereo. albedo: grey, of each vertex.
    fits: pose and expression in each photograph that was used, with the identity of all.
    used: numbers of these photographs.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    template: Float[np.ndarray, "vertices 3"]
    albedo: Float[np.ndarray, " vertices"]
    fits: list[LandmarkFit]
    used: list[int]


@torch.no_grad()
def reconstruct_collection(
    model: MorphableModel,
    images: Sequence[Image],
    landmarks: Callable[[Image], Float[np.ndarray, "68 2"]],
    rounds: int = ROUNDS,
) -> CollectionFace:
    """The face that photographs of one person agree on.

    Args:
        landmarks: finds the 68 points in a photograph (`kazemi2014.default_predictor`).
        rounds: of photometric stereo.

    Raises:
        ValueError: fewer than four photographs show a face.
    """
    contour = Contour(model)
    fits, found, used = [], [], []
    for number, image in enumerate(images):
        try:
            points = landmarks(image)
            fits.append(fit_landmarks(model, contour, points))
        except (NoFaceError, ValueError):
            continue
        found.append(points)
        used.append(number)
    if len(fits) < 4:
        raise ValueError(f"only {len(fits)} of {len(images)} photographs show a face: needs four")
    identity = _identity(model, contour, fits, found)
    for index, fit in enumerate(fits):
        r = fit.r.clone()
        r[:, : model.n_identity] = torch.from_numpy(identity).to(r)
        fits[index] = LandmarkFit(r, fit.crop)
    coefficients = torch.zeros(1, model.n_coefficients)
    coefficients[:, : model.n_identity] = torch.from_numpy(identity).float()
    template = model.vertices(coefficients)[0].double().numpy()
    albedo = (model.albedo_mean @ torch.tensor(LUMA)).double().numpy()
    read = [_read(model, images[n], fit) for n, fit in zip(used, fits, strict=True)]
    intensity, visible = (np.stack(part) for part in zip(*read, strict=True))
    lines, vertices = edges(model.triangles).numpy(), template
    for _ in range(rounds):
        tensor = torch.from_numpy(vertices)[None]
        normals = vertex_normals(tensor, model.triangles)[0].numpy()
        stereo = photometric_stereo(intensity, visible, normals, albedo)
        vertices = surface_from_normals(vertices, normals, stereo.normals, lines)
    return CollectionFace(vertices, template, stereo.albedo, fits, used)


def place_on_photograph(
    model: MorphableModel, face: CollectionFace, photograph: int
) -> tuple[Float[torch.Tensor, "1 vertices 3"], Crop]:
    """A person in one of the photographs, with that one's expression and pose.

    Returns:
        Column and row in the crop, depth in mm, of every vertex; and the crop.

    Raises:
        ValueError: the photograph was not used.
    """
    fit = face.fits[face.used.index(photograph)]
    coefficients, pose = split(fit.r, model.n_coefficients)
    moved = model.vertices(coefficients) + torch.from_numpy(face.vertices - face.template).float()
    return project(moved, pose, fit.crop.size), fit.crop


def _identity(
    model: MorphableModel,
    contour: Contour,
    fits: Sequence[LandmarkFit],
    landmarks: Sequence[np.ndarray],
) -> Float[np.ndarray, " identity"]:
    """The identity of all photographs, their poses and expressions as they were fitted."""
    left, designs = [], []
    basis = model.basis.unflatten(1, (-1, 3)).double()
    for fit, points in zip(fits, landmarks, strict=True):
        coefficients, pose = split(fit.r, model.n_coefficients)
        index = contour.march(model.vertices(coefficients), pose)[0]
        neutral = coefficients.clone()
        neutral[:, : model.n_identity] = 0
        places = project(model.vertices(neutral)[:, index], pose, fit.crop.size)[0, :, :2]
        rotation = rotation_matrix(pose[:, :3] * POSE_UNITS[:3].to(pose))[0, :2].double()
        scale = pose_parameters(pose, fit.crop.size).scale.item()
        axes = rotation * scale * rotation.new_tensor([[1.0], [-1.0]])
        design = torch.einsum("cvk,ak->vac", basis[: model.n_identity, index], axes)
        unit = scale * CROP_MM / 200  # as if the crop had 200 pixels
        left.append((fit.crop.to_crop(points) - places.double().numpy()).ravel() / unit)
        designs.append(design.flatten(0, 1).numpy() / unit)
    return shared_identity(left, designs, LANDMARK_PX)


def _read(model: MorphableModel, image: Image, fit: LandmarkFit) -> tuple[np.ndarray, np.ndarray]:
    """Grey value of every vertex in a photograph, and how far it is seen, 0 to 1."""
    coefficients, pose = split(fit.r, model.n_coefficients)
    vertices, size = model.vertices(coefficients), fit.crop.size
    projected = project(vertices, pose, size)
    triangle = rasterize(projected, model.triangles, size, size).triangle[0]
    seen = torch.zeros(len(model.mean))
    seen[model.triangles[triangle[triangle >= 0].unique()].flatten()] = 1
    turn = rotation_matrix(pose[:, :3] * POSE_UNITS[:3].to(pose))
    facing = (vertex_normals(vertices, model.triangles) @ turn.transpose(1, 2))[0, :, 2]
    grey = torch.from_numpy(fit.crop.cut(to_grey(image)))[None, None]
    grid = (2 * projected[:, None, :, :2] + 1) / size - 1
    value = grid_sample(grey, grid.float(), align_corners=False, padding_mode="border")[0, 0, 0]
    weight = seen * model.skin() * facing.clamp(min=0) * (facing > GRAZING)
    weight = weight * (value > 0.04) * (value < 0.98)
    return value.double().numpy(), weight.double().numpy()
