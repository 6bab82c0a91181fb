"""Heads of another statistical model than the one that the networks learned from, photographed.

A validation that is not the training world: geometry from real scans (ICT-FaceKit) or from any
morphable model in our own format, in the frame of the model under test.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn.functional import normalize

from facerecon.camera import CROP_MM, POSE_UNITS, rotation_matrix
from facerecon.detection.detect import NoFaceError, largest_face
from facerecon.evaluation.heads.models import HeadModel
from facerecon.evaluation.heads.photos import normal, picture, uniform, wear_hair
from facerecon.evaluation.heads.registration import register_heads
from facerecon.imaging import Crop
from facerecon.lighting import LUMA
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel, sample_activations
from facerecon.rasterize import interpolate, rasterize
from facerecon.synthetic.photographed_skin import skin_on_vertices
from facerecon.synthetic.sampling import apart
from facerecon.synthetic.skin import Skin
from facerecon.synthetic.texture_bank import TextureBank


class Kind(NamedTuple):
    """What is left of photographed heads, and what is behind them.

    cut: None, or a key of `HeadModel.cut`. hair: whether most wear some. backdrop: an even grey
    as displayed, or None for soft clutter. photographed: skin of photographed people.
    """

    cut: str | None = None
    hair: bool = True
    backdrop: float | None = None
    photographed: bool = False


WHOLE = Kind()

BOXES = ("truth", "detector")
FindCrop = Callable[[Float[np.ndarray, "size size"], Crop], tuple[bool, Crop]]
"""From a grey photograph and the true crop to (found, the crop to use)."""

IDENTITIES = 40
MILD = 0.6
"""Share of the full strength that a plausible expression's units are taken with."""

YAW_LIMIT, PROFILE_LIMIT, PITCH_LIMIT = 60.0, 90.0, 20.0  # degrees
ROLL_STD = 8.0
_BATCH = 25  # photographs rendered together
_REACH = 95.0  # mm around the tip of the nose: chin and brow, but not neck and scalp
_PHOTO_SIZE, _PHOTO_MM = 400, 2 * CROP_MM  # what the detector sees
_POINTS = 1500  # of the skin, at most, that say how a head is turned
_DISTANCE = (450.0, 1500.0)  # mm from a perspective camera to the head
_BOX_SHIFT, _BOX_LOG_WIDTH = 6.0, 0.06  # mm and natural logarithm: spread of a detector's boxes


class Views(NamedTuple):
    """Photographed heads as CoarseNet sees them, and the truth on the same pixels.

    image (N, 1, S, S): grey.
    depth (N, 1, S, S): mm; normals (N, 3, S, S): camera frame; 0 outside the head.
    face (N, 1, S, S): where errors count, the skin within 95 mm of the tip of the nose.
    landmarks (N, 68, 3): column, row, mm; the points of the head's skin that the model's landmarks
        lie on in the registered mean, so that no difference between two lists counts as an error.
    own_landmarks (N, 68, 3): by the population's own list.
    points (N, P, 3): mm, camera frame without perspective: the points of the head's skin that the
        model's vertices `Heads.matched` lie on in the registered mean.
    matched (N, P): those vertices.
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
    points: Tensor
    matched: Tensor
    pose: Tensor
    best_fit: Tensor
    person: Tensor
    perspective: Tensor
    found: Tensor

    def chunks(self, size: int) -> list["Views"]:
        """The same views in pieces of at most `size`."""
        return [Views(*part) for part in zip(*(field.split(size) for field in self), strict=True)]


class Heads(nn.Module):
    """Renders photographs of heads in the frame of the morphable model under test.

    One similarity brings the population's mean onto the model's mean, which also settles what pitch
    0 means; every head is then moved so that the middle of its eyes lies where the model's does.

    Args:
        source: the population.
        model: MorphableModel under test; its mean gives frame and skin.
        size: pixels of the crops.
        textures: photographed skin, for kinds that wear it.
    """

    def __init__(
        self,
        source: HeadModel,
        model: MorphableModel,
        size: int = 200,
        textures: TextureBank | None = None,
    ):
        super().__init__()
        self.model, self.size, self.skin = model, size, Skin(model)
        self.units = source.units
        self.registration = register_heads(
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
        self.cut = {
            name: self.triangles[kept.to(device)[self.triangles].all(1)].contiguous()
            for name, kept in source.cut.items()
        }
        matched = found.used.nonzero().squeeze(1)
        self.register_buffer("matched", matched[:: -(-len(matched) // _POINTS)].to(device))
        self._transfer_skin()
        self.photographed = None if textures is None else skin_on_vertices(model, textures)

    def render(
        self,
        count: int,
        seed: int,
        profiles: int = 0,
        boxes: str | FindCrop = "truth",
        kind: Kind = WHOLE,
        activation: Float[Tensor, " units"] | None = None,
    ) -> Views:
        """Photographs of `IDENTITIES` heads, each several times with other mild expressions.

        Args:
            count: photographs with a yaw evenly spread over +-`YAW_LIMIT`.
            seed: the same seed gives the same photographs on one device.
            profiles: further photographs with a yaw from there to `PROFILE_LIMIT`.
            boxes: "truth": the true box with the spread of a detector's; "detector": the real one;
                or a function that finds it.
            kind: what is left of the heads. People, poses, skin and light are the same for all.
            activation: of all heads alike, instead of mild random expressions; 1 is full strength.

        Raises:
            ValueError: unknown `boxes`, nothing to render, or photographed skin without textures.
        """
        if not callable(boxes):
            if boxes not in BOXES:
                raise ValueError(f"boxes must be one of {', '.join(BOXES)}, got {boxes!r}")
            boxes = {"truth": _true, "detector": detected}[boxes]
        if count < 0 or profiles < 0 or count + profiles == 0:
            raise ValueError(f"count and profiles must be 0 or more, got {count} and {profiles}")
        if kind.photographed and self.photographed is None:
            raise ValueError("photographed skin needs textures: give the heads a bank of them")
        device, total = self.mean.device, count + profiles
        generator = torch.Generator(device=device).manual_seed(seed)
        persons = normal(generator, IDENTITIES, len(self.identity))
        person = torch.arange(total, device=device) % IDENTITIES
        sampled = MILD * sample_activations(
            total, self.partner, self.group, self.frequency, generator
        )
        activation = sampled if activation is None else activation.expand(total, -1)
        pitch = uniform(generator, -PITCH_LIMIT, PITCH_LIMIT, total)
        roll = (ROLL_STD * normal(generator, total)).clamp(-3 * ROLL_STD, 3 * ROLL_STD)
        yaw = torch.cat(
            [
                YAW_LIMIT * _spread(generator, count),
                _beyond(YAW_LIMIT, PROFILE_LIMIT, _spread(generator, profiles)),
            ]
        )
        angles = torch.stack([pitch, yaw, roll], dim=1).deg2rad()
        # Even in 1 / distance, which the distortion is proportional to; 0 is weak perspective.
        nearness = uniform(generator, 1 / _DISTANCE[1], 1 / _DISTANCE[0], total)
        nearness = nearness * (uniform(generator, 0, 1, total) < 0.5)
        views = []
        for part in torch.arange(total, device=device).split(_BATCH):
            vertices = self.shapes(persons[person[part]], activation[part])
            photos = self._photograph(
                vertices, angles[part], nearness[part], boxes, kind, generator
            )
            photos["best_fit"] = self.registration.best_fit(self.model, vertices - self.mean)
            photos["person"], photos["perspective"] = person[part], nearness[part] > 0
            views.append(Views(**photos))
        return Views(*(torch.cat(field) for field in zip(*views, strict=True)))

    def shapes(
        self, identity: Float[Tensor, "batch identity"], activation: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """Heads in mm, model frame, the middle of the eyes where the model's mean has it."""
        neutral = self.mean + torch.tensordot(identity, self.identity, 1)
        eyes = self.model.mean[self.model.landmarks[36:48]].mean(0)
        shift = eyes - neutral[:, self.landmarks[36:48]].mean(1)
        return neutral + shift[:, None] + torch.tensordot(activation, self.expression, 1)

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
        vertices: Float[Tensor, "batch vertices 3"],
        angles: Float[Tensor, "batch 3"],
        nearness: Float[Tensor, " batch"],
        find: FindCrop,
        kind: Kind,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The fields of `Views` that a camera gives; nearness: 1 / its distance in mm."""
        count, device = len(vertices), vertices.device
        camera = vertices @ rotation_matrix(angles).transpose(1, 2)
        scale = _PHOTO_SIZE / _PHOTO_MM  # pixels per mm
        middle = (_PHOTO_SIZE - 1) / 2 + uniform(generator, -20, 20, count, 2)
        stretch = scale / (1 - nearness[:, None] * camera[..., 2])
        pixels = camera.clone()
        pixels[..., 0] = middle[:, :1] + stretch * camera[..., 0]
        pixels[..., 1] = middle[:, 1:] - stretch * camera[..., 1]
        normals = vertex_normals(camera, self.triangles)
        triangles = self.triangles if kind.cut is None else self.cut[kind.cut]
        photos = self._picture(pixels, normals, triangles, kind, generator)

        shift = _BOX_SHIFT * scale * normal(generator, count, 2)
        side = CROP_MM * scale * torch.exp(_BOX_LOG_WIDTH * normal(generator, count, 1))
        corner = middle + shift + 0.5 - side / 2
        squares = [
            Crop(x, y, width, self.size) for x, y, width in torch.cat([corner, side], 1).tolist()
        ]
        pairs = [find(*pair) for pair in zip(photos, squares, strict=True)]
        found, squares = (list(part) for part in zip(*pairs, strict=True))
        images = [square.cut(photo) for square, photo in zip(squares, photos, strict=True)]

        edges = torch.tensor([[s.x, s.y, s.step] for s in squares], device=device)
        start, step = edges[:, None, :2], edges[:, None, 2:]
        pixels[..., :2] = (pixels[..., :2] - start + 0.5) / step - 0.5
        origin = (middle[:, None] - start + 0.5) / step - 0.5
        origin = (origin[:, 0] - (self.size - 1) / 2) / self.size * origin.new_tensor([1.0, -1.0])
        log_scale = torch.log(scale / step[:, 0] * CROP_MM / self.size)
        fragments = rasterize(pixels, triangles, self.size, self.size)
        face = self.face[triangles].all(1)[fragments.triangle.clamp(min=0)][:, None]
        matched = self.matched.expand(count, -1)
        return {
            "image": torch.from_numpy(np.stack(images))[:, None].to(device),
            "depth": interpolate(camera[..., 2:], fragments, triangles),
            "normals": normalize(interpolate(normals, fragments, triangles), dim=1),
            "face": face & fragments.mask,
            "landmarks": self.registration.landmarks_on(pixels),
            "own_landmarks": pixels[:, self.landmarks],
            "points": self.registration.vertices_on(camera, self.matched),
            "matched": matched,
            "pose": torch.cat([angles, origin, log_scale], dim=1) / POSE_UNITS.to(angles),
            "found": torch.tensor(found, device=device),
        }

    def _photographed_skin(
        self, albedo: Float[Tensor, "batch model_vertices"], generator: torch.Generator
    ) -> Float[Tensor, "batch model_vertices"]:
        """Grey albedo of the model's vertices, that of photographed people where they have one."""
        skins, reached = self.photographed
        picks = torch.randint(len(skins), (len(albedo),), generator=generator, device=albedo.device)
        return torch.where(reached, skins[picks] @ albedo.new_tensor(LUMA), albedo)

    def _picture(
        self,
        pixels: Float[Tensor, "batch vertices 3"],
        normals: Float[Tensor, "batch vertices 3"],
        triangles: Int[Tensor, "triangles 3"],
        kind: Kind,
        generator: torch.Generator,
    ) -> Float[np.ndarray, "batch size size"]:
        albedo = self.skin.sample(len(pixels), generator) @ normals.new_tensor(LUMA)
        if kind.photographed:
            albedo = self._photographed_skin(albedo, apart(generator, "skin"))
        albedo = torch.einsum("bvk,vk->bv", albedo[:, self.skin_index], self.skin_weight)
        eyes = self.mean[self.landmarks[36:48]].mean(0)
        haired = wear_hair(albedo, self.mean, eyes, generator)
        albedo = haired if kind.hair else albedo
        front, back = (
            rasterize(pixels, each, _PHOTO_SIZE, _PHOTO_SIZE)
            for each in (triangles, triangles.flip(1).contiguous())
        )
        return picture(
            interpolate(albedo[..., None], front, triangles),
            normalize(interpolate(normals, front, triangles), dim=1),
            front.mask,
            back.mask,
            generator,
            kind.backdrop,
        )


def _spread(generator: torch.Generator, count: int) -> Float[Tensor, " count"]:
    """One number in each of `count` equal intervals of [-1, 1), shuffled."""
    order = torch.randperm(count, generator=generator, device=generator.device)
    return 2 * (order + uniform(generator, 0, 1, count)) / max(count, 1) - 1


def _beyond(low: float, high: float, share: Tensor) -> Tensor:
    """[-1, 1) to the angles between low and high on either side."""
    return torch.where(share < 0, -low, low) + share * (high - low)


def _true(grey: np.ndarray, true: Crop) -> tuple[bool, Crop]:
    return True, true


def detected(grey: Float[np.ndarray, "size size"], true: Crop) -> tuple[bool, Crop]:
    """The detector's crop, or False and the true one."""
    try:
        box = largest_face(np.repeat(grey[..., None], 3, axis=2))
    except NoFaceError:
        return False, true
    x, y, side, _ = box.crop_box()
    return True, Crop(x, y, side, true.size)
