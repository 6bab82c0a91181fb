"""The methods that Table 1 compares with, from a photograph to its depth.

All three begin with the same landmarks ([19], `kazemi2014`), as in section 5 of the paper.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facerecon.camera import CROP_MM, join, pose_parameters, split, to_camera, to_pixels
from facerecon.imaging import Crop, to_grey
from facerecon.lighting import estimate_light
from facerecon.mesh import vertex_normals
from facerecon.methods.aligned_net import load_alignednet
from facerecon.methods.contour import Contour
from facerecon.methods.estimate import Estimate
from facerecon.methods.kazemi2014 import default_predictor
from facerecon.methods.kemelmacher2011 import Reference, mold, warp
from facerecon.methods.richardson2016 import reconstruct
from facerecon.methods.zhu2015 import LandmarkFit, fit_landmarks
from facerecon.morphable_model import MorphableModel
from facerecon.on_photo import (
    detail_on_photo,
    mesh_on_photo,
    model_on_photo,
    on_face,
    pixel_width,
)
from facerecon.rasterize import interpolate, interpolate_unit, rasterize
from facerecon.render import render
from facerecon.sfs import albedo_maps
from facerecon.weights import read_card, shipped

Image = Float[np.ndarray, "height width 3"]

SIZE = 200
"""Pixels of the aligned crop, as wide as CoarseNet's."""


class Aligned(NamedTuple):
    """The mean face in the pose that the landmarks give it; shift and scale are the crop's."""

    r: Float[Tensor, "1 n"]
    crop: Crop


def align(fit: LandmarkFit, n_coefficients: int, size: int = SIZE) -> Aligned:
    """Cut the photograph so that a fitted pose is centered and of zero log scale."""
    pose = fit.r[:, n_coefficients:]
    physical = pose_parameters(pose, fit.crop.size)
    x, y = physical.translation[0].tolist()
    middle = (fit.crop.size - 1) / 2
    center = fit.crop.to_image(np.array([middle + x, middle - y]))
    side = CROP_MM * physical.scale.item() * fit.crop.step
    crop = Crop(*(center + 0.5 - side / 2).tolist(), side, size)
    angles = torch.cat([pose[:, :3], torch.zeros_like(pose[:, 3:])], dim=1)
    return Aligned(join(torch.zeros(1, n_coefficients), angles), crop)


class ReferenceFace(NamedTuple):
    """The mean face on a photograph.

    projected: vertices in the crop. mm: width of a pixel of the crop. grey: the crop. maps, light:
    what `kemelmacher2011.mold` takes.
    """

    projected: Float[Tensor, "1 vertices 3"]
    crop: Crop
    mm: float
    grey: Float[np.ndarray, "size size"]
    maps: Reference
    light: Float[np.ndarray, " 4"]


class Compared:
    """The three methods; they share landmarks and alignment of the photograph seen last."""

    def __init__(self) -> None:
        self.model = MorphableModel.default().eval()
        self.contour = Contour(self.model)
        self.predictor = default_predictor()
        self._image: np.ndarray | None = None
        self._landmarks: np.ndarray | None = None

    def landmarks(self, image: Image) -> Float[np.ndarray, "68 2"]:
        """Column and row by [19].

        Raises:
            NoFaceError: no face was found.
        """
        if self._landmarks is None or image is not self._image:
            self._landmarks = None
            self._landmarks, self._image = self.predictor(image), image
        return self._landmarks

    def aligned(self, image: Image) -> Aligned:
        """The mean face on the landmarks."""
        fit = fit_landmarks(self.model, self.contour, self.landmarks(image), shape=False)
        return align(fit, self.model.n_coefficients)

    @torch.no_grad()
    def zhu2015(self, image: Image) -> Estimate:
        """[47]: the morphable model on the landmarks."""
        fit = fit_landmarks(self.model, self.contour, self.landmarks(image))
        depth = model_on_photo(self.model, fit.r, fit.crop, image.shape[:2])
        return Estimate(depth, pixel_width(fit.r, fit.crop))

    @torch.no_grad()
    def kemelmacher2011(self, image: Image) -> Estimate:
        """[20]: the mean face on the landmarks, molded by its shading."""
        face = self.reference(image)
        found = mold(face.grey, face.maps, face.light)
        detail = torch.from_numpy((found.depth - face.maps.depth) * face.mm)
        mask = torch.from_numpy(face.maps.mask)
        return self._refined(
            face.projected, face.crop, detail.float()[None, None], mask[None, None], image
        )

    @torch.no_grad()
    def reference(self, image: Image) -> "ReferenceFace":
        """The mean face on a photograph, with what [20] reads from it: maps and light."""
        r, crop = self.aligned(image)
        pose = split(r, self.model.n_coefficients)[1]
        vertices = to_camera(self.model.mean[None], pose)
        projected = to_pixels(vertices, pose, SIZE)
        index = self.contour.march(self.model.mean[None], pose)[0]
        places = projected[0, :, :2].double().numpy()
        places = warp(places, places[index], crop.to_crop(self.landmarks(image)))
        projected[..., :2] = torch.from_numpy(places)
        mm = CROP_MM / SIZE
        vertices[..., :2] = projected[..., :2] * vertices.new_tensor([mm, -mm])
        fragments = rasterize(projected, self.model.triangles, SIZE, SIZE)
        normals = interpolate_unit(
            vertex_normals(vertices, self.model.triangles), fragments, self.model.triangles
        )
        depth = interpolate(vertices[..., 2:], fragments, self.model.triangles)
        albedo = albedo_maps(self.model, fragments)[0]
        mask = on_face(self.model, fragments)[:, None]
        grey = torch.from_numpy(crop.cut(to_grey(image)))[None, None]
        light = estimate_light(grey, albedo, normals, mask)
        maps = Reference(
            depth[0, 0].double().numpy() / mm,
            normals[0].permute(1, 2, 0).double().numpy(),
            albedo[0, 0].double().numpy(),
            mask[0, 0].numpy(),
        )
        return ReferenceFace(
            projected, crop, mm, grey[0, 0].double().numpy(), maps, light[0].double().numpy()
        )

    @cached_property
    def _alignednet(self) -> tuple:
        path = shipped("alignednet.safetensors")
        return load_alignednet(path), read_card(path)["config"]["data"]["size"]

    @torch.no_grad()
    def richardson2016(self, image: Image) -> Estimate:
        """[34]: geometry by a network in the landmarks' pose, then shape from shading."""
        r, crop = self.aligned(image)
        network, trained = self._alignednet
        grey = to_grey(image)
        large, small = (
            torch.from_numpy(crop.at(size).cut(grey))[None, None] for size in (SIZE, trained)
        )
        pose = split(r, self.model.n_coefficients)[1]
        r, detail = reconstruct(self.model, network, large, pose, small)
        rendering = render(self.model, r, SIZE)
        return self._refined(rendering.projected, crop, detail, rendering.mask, image)

    def _refined(
        self, projected: Tensor, crop: Crop, detail: Tensor, mask: Tensor, image: Image
    ) -> Estimate:
        """A mesh on the photograph plus the detail of an aligned crop."""
        depth = mesh_on_photo(self.model, projected, crop, image.shape[:2])
        depth += detail_on_photo(detail, mask, crop, image.shape[:2])
        return Estimate(depth, CROP_MM / crop.side)
