"""Heads of another statistical model than the one that the networks learned from, photographed.

A validation that is not the training world: geometry from real scans (ICT-FaceKit) or from any
morphable model in our own format, in the frame of the model under test.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor, nn

from facerecon import photography
from facerecon.camera import CROP_MM, POSE_UNITS, rotation_matrix
from facerecon.data import Crop
from facerecon.detect import NoFaceError, detect_faces
from facerecon.head_registration import NOT_SKIN, Registration, register
from facerecon.lighting import LUMA, sh_basis
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import ModelFileError, MorphableModel, sample_activations
from facerecon.rasterize import interpolate, rasterize
from facerecon.skin import Skin

BOXES = ("truth", "detector")
IDENTITIES = 40
MILD = 0.6
"""Share of the full strength that a plausible expression's units are taken with."""

YAW_LIMIT, PROFILE_LIMIT, PITCH_LIMIT = 60.0, 90.0, 20.0  # degrees
_ROLL_STD = 8.0
_REACH = 95.0  # mm around the tip of the nose: chin and brow, but not neck and scalp
_PHOTO_SIZE, _PHOTO_MM = 400, 2 * CROP_MM  # what the detector sees
_DISTANCE = (450.0, 1500.0)  # mm from a perspective camera to the head
_BOX_SHIFT, _BOX_LOG_WIDTH = 6.0, 0.06  # mm and natural logarithm: spread of a detector's boxes
# Units that move eyeballs, or that make no face without another one.
_LEFT_OUT = ("eyeLook", "mouthClose")


class HeadModel(NamedTuple):
    """A population of heads: linear, in its own frame (y up, z toward the viewer) and unit.

    face: vertices of the face's skin, without ears, neck, eyeballs and inside of the mouth.
    expression: displacement at full strength. partner, group, frequency: see `sample_activations`.
    """

    mean: Float[Tensor, "vertices 3"]
    identity: Float[Tensor, "identity vertices 3"]
    expression: Float[Tensor, "units vertices 3"]
    triangles: Int[Tensor, "triangles 3"]
    landmarks: Int[Tensor, " 68"]
    face: Bool[Tensor, " vertices"]
    partner: Int[Tensor, " units"]
    group: Int[Tensor, " units"]
    frequency: Float[Tensor, " units"]


class Views(NamedTuple):
    """Photographed heads as CoarseNet sees them, and the truth on the same pixels.

    image (N, 1, S, S): grey.
    depth (N, 1, S, S): mm; normals (N, 3, S, S): camera frame; 0 outside the head.
    face (N, 1, S, S): where errors count, the skin within 95 mm of the tip of the nose.
    landmarks (N, 68, 3): column, row, mm; the points of the head's skin that the model's landmarks
        lie on in the registered mean, so that no difference between two lists counts as an error.
    own_landmarks (N, 68, 3): by the population's own list.
    pose (N, 6): pose units; of a perspective camera, at the depth of the head's origin.
    best_fit (N, coefficients): the model's own approximation of the head.
    person (N,): the identity's number. perspective (N,): the camera, otherwise weak perspective.
    found (N,): False where the detector found nothing; the image is then cut by the true box.
    """

    image: Tensor
    depth: Tensor
    normals: Tensor
    face: Tensor
    landmarks: Tensor
    own_landmarks: Tensor
    pose: Tensor
    best_fit: Tensor
    person: Tensor
    perspective: Tensor
    found: Tensor

    def chunks(self, size: int) -> list["Views"]:
        """The same views in pieces of at most `size`."""
        return [Views(*part) for part in zip(*(field.split(size) for field in self), strict=True)]


def load_heads(path: str | Path) -> HeadModel:
    """Read ICT-FaceKit's arrays packed into one .npz, or a morphable model in our own format.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is neither of the two.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a morphable model or ICT-FaceKit .npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            packed = {n: file[n] for n in file.files} if "landmarks68" in file.files else None
    except (ValueError, OSError, EOFError, AttributeError) as error:
        raise ModelFileError(f"{path}: not a readable .npz ({error}); copy it again") from error
    if packed is None:
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
    return HeadModel(
        mean=model.mean,
        identity=basis[: model.n_identity],
        expression=basis[model.n_identity :] / model.expression_std[:, None, None],
        triangles=model.triangles,
        landmarks=model.landmarks,
        face=face,
        partner=model.expression_partner,
        group=model.expression_group,
        frequency=model.expression_frequency,
    )


def _of_packed(file: dict[str, np.ndarray]) -> HeadModel:
    names = [str(name) for name in file["expression_names"]]
    kept = [i for i, name in enumerate(names) if not name.startswith(_LEFT_OUT)]
    names = [names[i] for i in kept]
    swap = {"_L": "_R", "_R": "_L"}
    other = [name[:-2] + swap.get(name[-2:], name[-2:]) for name in names]
    partner = torch.tensor([names.index(name) for name in other])
    vertices = torch.arange(len(file["mean"]))
    return HeadModel(
        mean=torch.from_numpy(file["mean"]).float(),
        identity=torch.from_numpy(file["identity"]).float(),
        expression=torch.from_numpy(file["expression"][kept]).float(),
        triangles=torch.from_numpy(file["faces"]).long(),
        landmarks=torch.from_numpy(file["landmarks68"]).long(),
        face=vertices < int(file["narrow_face_vertices"]),
        partner=partner,
        group=torch.minimum(partner, torch.arange(len(names))),
        frequency=torch.ones(len(names)),
    )


class Heads(nn.Module):
    """Draws photographs of heads in the frame of the morphable model under test.

    One similarity brings the population's mean onto the model's mean, which also settles what pitch
    0 means; every head is then moved so that the middle of its eyes lies where the model's does.

    Args:
        source: the population.
        model: MorphableModel under test; its mean gives frame and skin.
        size: pixels of the crops.
    """

    def __init__(self, source: HeadModel, model: MorphableModel, size: int = 200):
        super().__init__()
        self.model, self.size, self.skin = model, size, Skin(model)
        self.registration: Registration = register(
            model, source.mean, source.triangles, source.landmarks, source.face
        )
        device, found = model.mean.device, self.registration
        turn = (found.scale * found.rotation).to(device)
        for name in ("identity", "expression"):
            self.register_buffer(name, getattr(source, name).to(device) @ turn.T)
        self.register_buffer("mean", source.mean.to(device) @ turn.T + found.shift.to(device))
        for name in ("triangles", "landmarks", "partner", "group", "frequency"):
            self.register_buffer(name, getattr(source, name).to(device))
        nose = self.mean[self.landmarks[30]]
        self.register_buffer(
            "face", source.face.to(device) & ((self.mean - nose).norm(dim=1) < _REACH)
        )
        self._transfer_skin()

    def draw(
        self, count: int, seed: int, profiles: int = 0, boxes: str = "truth", batch: int = 25
    ) -> Views:
        """Photographs of `IDENTITIES` heads, each several times with other mild expressions.

        Args:
            count: photographs with a yaw evenly spread over +-`YAW_LIMIT`.
            seed: the same seed gives the same photographs on one device.
            profiles: further photographs with a yaw from there to `PROFILE_LIMIT`.
            boxes: "truth": the true box with the spread of a detector's; "detector": the real one.

        Raises:
            ValueError: unknown `boxes`.
        """
        if boxes not in BOXES:
            raise ValueError(f"boxes must be one of {', '.join(BOXES)}, got {boxes!r}")
        generator = torch.Generator(device=self.mean.device).manual_seed(seed)
        draw = photography.Draw(count + profiles, generator)
        persons = torch.randn(
            IDENTITIES, len(self.identity), generator=generator, device=self.mean.device
        )
        person = torch.arange(count + profiles, device=self.mean.device) % IDENTITIES
        activation = MILD * sample_activations(
            count + profiles, self.partner, self.group, self.frequency, generator
        )
        angles = torch.cat(
            [
                draw.uniform(-PITCH_LIMIT, PITCH_LIMIT, 1),
                self._yaw(count, profiles, generator),
                (_ROLL_STD * draw.normal(1)).clamp(-3 * _ROLL_STD, 3 * _ROLL_STD),
            ],
            dim=1,
        ).deg2rad()
        perspective = draw.chance(0.5).flatten()
        near, far = _DISTANCE  # even in 1 / distance, which the distortion is proportional to
        distance = 1 / draw.uniform(1 / far, 1 / near, 1)
        views = []
        for part in torch.arange(count + profiles, device=self.mean.device).split(batch):
            vertices = self.shapes(persons[person[part]], activation[part])
            camera = vertices @ rotation_matrix(angles[part]).transpose(1, 2)
            stretch = distance[part] / (distance[part] - camera[..., 2])
            seen = torch.where(perspective[part, None], stretch, torch.ones_like(stretch))
            view = self._photograph(camera, seen, angles[part], boxes, generator)
            fit = self.registration.best_fit(self.model, vertices - self.mean)
            views.append((*view[:-1], fit, person[part], perspective[part], view[-1]))
        return Views(*(torch.cat(field) for field in zip(*views, strict=True)))

    def shapes(
        self, identity: Float[Tensor, "batch identity"], activation: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """Heads in mm, model frame, the middle of the eyes where the model's mean has it."""
        neutral = self.mean + torch.tensordot(identity, self.identity, 1)
        eyes = self.model.mean[self.model.landmarks[36:48]].mean(0)
        shift = eyes - neutral[:, self.landmarks[36:48]].mean(1)
        return neutral + shift[:, None] + torch.tensordot(activation, self.expression, 1)

    def _yaw(self, count: int, profiles: int, generator: torch.Generator) -> Tensor:
        """Degrees (count + profiles, 1), one in each of as many equal intervals, shuffled."""

        def spread(n: int) -> Tensor:
            jitter = torch.rand(n, generator=generator, device=self.mean.device)
            order = torch.randperm(n, generator=generator, device=self.mean.device)
            return 2 * (order + jitter) / max(n, 1) - 1

        far = spread(profiles)
        far = far.sign() * YAW_LIMIT + far * (PROFILE_LIMIT - YAW_LIMIT)
        return torch.cat([spread(count) * YAW_LIMIT, far])[:, None]

    def _transfer_skin(self) -> None:
        """Weights that bring per-vertex albedo of the model to the heads, by closest points."""
        usable = (self.model.regions["mouth_interior"] < 0.5).cpu().numpy()
        own = self.registration.fitted.numpy()[usable]
        distance, nearest = cKDTree(own).query(self.mean.cpu().numpy(), k=24)
        # Sharp where the model has a surface, a broad mean beyond its border (scalp, neck).
        weight = 1 / (distance + 0.5) ** 4
        weight /= weight.sum(1, keepdims=True)
        device = self.mean.device
        index = torch.from_numpy(np.flatnonzero(usable)[nearest]).to(device)
        self.register_buffer("skin_index", index)
        self.register_buffer("skin_weight", torch.from_numpy(weight).float().to(device))

    def _photograph(
        self,
        camera: Float[Tensor, "batch vertices 3"],
        stretch: Float[Tensor, "batch vertices"],
        angles: Float[Tensor, "batch 3"],
        boxes: str,
        generator: torch.Generator,
    ) -> tuple[Tensor, ...]:
        """The fields of `Views` up to the pose, and `found`."""
        count = len(camera)
        draw = photography.Draw(count, generator)
        scale, middle = _PHOTO_SIZE / _PHOTO_MM, (_PHOTO_SIZE - 1) / 2
        offset = draw.uniform(-20, 20, 2)  # pixels of the photograph
        pixels = camera.clone()
        pixels[..., 0] = middle + offset[:, :1] + scale * stretch * camera[..., 0]
        pixels[..., 1] = middle + offset[:, 1:] - scale * stretch * camera[..., 1]
        normals = vertex_normals(camera, self.triangles)
        photo = self._picture(pixels, normals, offset + middle, scale, generator)
        noise = torch.cat([_BOX_SHIFT * draw.normal(2), _BOX_LOG_WIDTH * draw.normal(1)], dim=1)
        images, squares, found = [], [], []
        for item in range(count):
            side = CROP_MM * scale * math.exp(noise[item, 2])
            centre = offset[item] + _PHOTO_SIZE / 2 + scale * noise[item, :2]
            x, y = (float(value) - side / 2 for value in centre)
            square = Crop(x, y, side, self.size)
            array = photo[item, 0].cpu().numpy()
            ok = True
            if boxes == "detector":
                ok, square = _detected(array, square)
            images.append(torch.from_numpy(square.cut(array)))
            squares.append((square.x, square.y, square.step))
            found.append(ok)
        image = torch.stack(images)[:, None].to(camera)
        left, top, step = torch.tensor(squares, device=camera.device).float().unbind(1)
        for axis, start in enumerate((left, top)):
            pixels[..., axis] = (pixels[..., axis] - (start - 0.5)[:, None]) / step[:, None] - 0.5
        fragments = rasterize(pixels, self.triangles, self.size, self.size)
        face = self.face[self.triangles].all(1)[fragments.triangle.clamp(min=0)][:, None]
        origin = (offset + middle - torch.stack([left, top], 1) + 0.5) / step[:, None] - 0.5
        origin = (origin - (self.size - 1) / 2) * origin.new_tensor([1.0, -1.0]) / self.size
        log_scale = torch.log(scale / step * CROP_MM / self.size)[:, None]
        pose = torch.cat([angles, origin, log_scale], dim=1) / POSE_UNITS.to(angles)
        return (
            image,
            interpolate(camera[..., 2:], fragments, self.triangles),
            nn.functional.normalize(interpolate(normals, fragments, self.triangles), dim=1),
            face & fragments.mask,
            self.registration.landmarks_on(pixels),
            pixels[:, self.landmarks],
            pose,
            torch.tensor(found, device=camera.device),
        )

    def _picture(
        self,
        pixels: Float[Tensor, "batch vertices 3"],
        normals: Float[Tensor, "batch vertices 3"],
        centre: Float[Tensor, "batch 2"],
        scale: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch 1 height width"]:
        """Grey photographs of `_PHOTO_SIZE`: skin under random lights, surroundings, camera."""
        count, size, triangles = len(pixels), _PHOTO_SIZE, self.triangles
        draw = photography.Draw(count, generator)
        albedo = self.skin.sample(count, generator) @ normals.new_tensor(LUMA)
        albedo = torch.einsum("bvk,vk->bv", albedo[:, self.skin_index], self.skin_weight)
        fragments = rasterize(pixels, triangles, size, size)
        # Inside faces show through the open mouth, which has no floor here: it is dark.
        inside = rasterize(pixels, triangles.flip(1).contiguous(), size, size).mask
        albedo = interpolate(albedo[..., None], fragments, triangles)
        maps = nn.functional.normalize(interpolate(normals, fragments, triangles), dim=1)
        head = albedo * _shading(draw, maps) + _highlight(draw, maps)
        picture = photography.background(draw, size)
        picture = photography.person(
            draw,
            picture,
            centre - scale * draw.uniform(30, 50, 1) * centre.new_tensor([0.0, 1.0]),
            centre + scale * centre.new_tensor([0.0, 120.0]),
            centre.new_full((count,), scale),
            p_hair=0.7,
            p_clothes=0.8,
        )
        picture = torch.where(inside & ~fragments.mask, picture.new_tensor(0.05), picture)
        picture = torch.where(fragments.mask, head, picture)
        picture = photography.expose(draw, picture, fragments.mask, 1.0)
        picture = photography.blur(draw, picture, 0.5)
        picture = photography.add_noise(draw, picture, 0.5)
        return photography.jpeg(draw, picture.clamp(0, 1), 0.5).clamp(0, 1)


def _shading(
    draw: photography.Draw, normals: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """A soft environment and one lamp from above or the side."""
    count = len(normals)
    light = torch.cat(
        [draw.uniform(0.2, 0.7, 1), 0.15 * draw.normal(3), 0.05 * draw.normal(5)], dim=1
    )
    light[:, 3] = light[:, 3].abs()  # what the camera sees is not lit from behind alone
    soft = torch.einsum("bk,bkhw->bhw", light, sh_basis(normals, order=2))[:, None].clamp(min=0.02)
    azimuth, elevation = draw.uniform(-1.4, 1.4, 1), draw.uniform(-0.3, 1.1, 1)
    lamp = torch.cat(
        [azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], dim=1
    )
    hard = torch.einsum("bc,bchw->bhw", lamp, normals).clamp(min=0)[:, None]
    return soft + draw.uniform(0, 1).view(count, 1, 1, 1) * hard


def _highlight(
    draw: photography.Draw, normals: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch 1 height width"]:
    """Gloss of skin, brightest where the normal halves the way to a lamp above the camera."""
    half = torch.nn.functional.normalize(
        torch.cat([0.3 * draw.normal(1), 0.3 + 0.2 * draw.normal(1), draw.uniform(1, 1.001, 1)], 1)
    )
    gloss = torch.einsum("bc,bchw->bhw", half, normals).clamp(min=1e-6)[:, None]
    return draw.uniform(0, 0.2) * gloss ** draw.uniform(8, 40)


def _detected(grey: np.ndarray, true: Crop) -> tuple[bool, Crop]:
    """The detector's crop, or False and the true one."""
    try:
        box = detect_faces(np.repeat(grey[..., None], 3, axis=2))[0]
    except NoFaceError:
        return False, true
    x, y, side, _ = box.crop_box()
    return True, Crop(x, y, side, true.size)
