"""From a photograph to a detailed face: detection, CoarseNet, rendering, FineNet (Figure 3)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from facerecon.camera import pose_parameters, split, to_pixels
from facerecon.coarsenet import CoarseNet
from facerecon.data import Crop, ImageSource, crop, load_image, to_grey
from facerecon.depth import depth_to_mesh, trim_rim
from facerecon.detect import Box, detect_faces
from facerecon.finenet import FineNet
from facerecon.fit import fit
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.rasterize import interpolate, rasterize
from facerecon.reconstruction import Reconstruction
from facerecon.render import curved_depth, curved_surface
from facerecon.weights import load_coarsenet, load_finenet

COARSE_SIZE = 200
"""Pixels of the crop that CoarseNet sees (3.4)."""

FINE_SIZES = (200, 400)
"""Pixels of the crop that FineNet may see (Figure 11)."""

LEAST_COVER = 0.05
"""Share of the crop that a fitted face covers at least; a face fills about a third."""

FARTHEST_POSE = 6.0
"""Pose units within which a fit is believed: 3 rad of yaw, 3/8 of the crop off its middle."""

MAX_JUMP_MM = 25.0
"""Depth between neighbouring pixels beyond which the mesh is cut; under a nose it can be 15 mm."""

_STRIP_PIXELS = 1 << 22
_ASTRAY = (
    "the fitted face lies outside its crop or the photograph; pass a box that fits the face (brows"
    " to chin, as wide as high)"
)


class ReconstructionError(ValueError):
    """A face was found, but nothing sensible can be made of it."""


class Reconstructor:
    """The whole method of the paper as one function of a photograph.

    Args:
        model: the morphable model that CoarseNet was trained with.
        coarsenet: trained.
        finenet: trained; None leaves the coarse geometry as it is.
        normals: refines the coarse geometry instead of FineNet.
        iterations: steps of CoarseNet (3.4).
        size: side in pixels of the crop that FineNet refines, 200 or 400.

    The networks and the model stay on the device that they are on.
    """

    def __init__(
        self,
        model: MorphableModel,
        coarsenet: CoarseNet,
        finenet: FineNet | None,
        iterations: int = 4,
        size: int = 200,
        normals: NormalRefinement | None = None,
    ) -> None:
        if size not in FINE_SIZES:
            raise ValueError(f"size must be one of {FINE_SIZES}, got {size}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.model = model.eval()
        self.coarsenet = coarsenet.eval()
        self.finenet = finenet.eval() if finenet is not None else None
        self.normals = normals.eval() if normals is not None else None
        self.iterations = iterations
        self.size = size

    @classmethod
    def from_pretrained(
        cls,
        coarse: str | Path | None = None,
        fine: str | Path | None = None,
        device: str | torch.device = "cpu",
        iterations: int = 4,
        size: int = 200,
    ) -> "Reconstructor":
        """With the default morphable model and the weights in these files, or those that ship.

        Raises:
            WeightsError: a file is missing, damaged, or another network's.
        """
        return cls(
            MorphableModel.default().to(device),
            load_coarsenet(coarse).to(device),
            load_finenet(fine).to(device),
            iterations,
            size,
        )

    @overload
    def __call__(
        self,
        image: ImageSource,
        box: Box | tuple[float, float, float, float] | None = ...,
        all_faces: Literal[False] = ...,
        refine: bool = ...,
    ) -> Reconstruction: ...

    @overload
    def __call__(
        self,
        image: ImageSource,
        box: Box | tuple[float, float, float, float] | None = ...,
        *,
        all_faces: Literal[True],
        refine: bool = ...,
    ) -> list[Reconstruction]: ...

    def __call__(
        self,
        image: ImageSource,
        box: Box | tuple[float, float, float, float] | None = None,
        all_faces: bool = False,
        refine: bool = True,
    ) -> Reconstruction | list[Reconstruction]:
        """Reconstruct the largest face, or a list of all of them.

        Args:
            image: whatever `load_image` takes.
            box: x, y, width, height of the face in pixels, as a frontal face detector would box it
                (brows to chin); the detector is asked if None.
            all_faces: every face that the detector finds and that can be fitted, largest first.
            refine: False stops after CoarseNet: depth and mesh are then the morphable model's.

        Raises:
            ImageError: the image cannot be used.
            NoFaceError: no face was found.
            ReconstructionError: the fit went astray, or the face is too small for `size`.
            ValueError: an impossible box.
        """
        photo = load_image(image)
        if box is None:
            boxes = detect_faces(photo)
        else:
            boxes = [box if isinstance(box, Box) else Box(*map(float, box))]
            if not min(boxes[0].width, boxes[0].height) > 0:
                raise ValueError(f"{boxes[0]}: width and height must be positive")
        if not all_faces:
            return self._reconstruct(photo, boxes[0], refine)
        found = []
        for box in boxes:
            try:
                found.append(self._reconstruct(photo, box, refine))
            except ReconstructionError:
                if not found and box is boxes[-1]:
                    raise
        return found

    @torch.no_grad()
    def _reconstruct(
        self, photo: Float[np.ndarray, "height width 3"], box: Box, refine: bool
    ) -> Reconstruction:
        _, square = crop(photo, box.crop_box(), COARSE_SIZE)
        if self.size > COARSE_SIZE >= square.side:
            raise ReconstructionError(
                f"the face's crop is {square.side:.0f} pixels wide: nothing to gain from size"
                f" {self.size}, use size {COARSE_SIZE}"
            )
        device = self.model.mean.device
        steps, square = fit(self.coarsenet, self.model, photo, square, self.iterations)
        square = square.at(self.size)
        surface = curved_surface(self.model, steps[-1], self.size)
        coarse, fragments, camera_vertices, normals, projected = surface
        inside = torch.from_numpy(_inside_image(square, photo.shape[:2])).to(device)
        mask = fragments.mask & inside
        coefficients, pose = split(steps[-1], self.model.n_coefficients)
        if mask.float().mean() < LEAST_COVER or pose.abs().max() > FARTHEST_POSE:
            raise ReconstructionError(_ASTRAY)
        scale = pose_parameters(pose, self.size).scale
        fine = coarse
        if refine and self.normals is not None:
            rgb = square.cut(photo)
            color = torch.from_numpy(rgb).to(device).permute(2, 0, 1)[None]
            fine = self.normals(_grey(rgb, device), surface, 1 / scale, color).depth
        elif refine and self.finenet is not None:
            grey = _grey(square.cut(photo), device)
            fine = self.finenet(grey, coarse, fragments.mask, 1 / scale)

        # FineNet's detail is smooth; NormalNet closes steps of the mesh at lids and lips, too.
        whole = fine if refine and self.normals is not None else None
        known = square, fine - coarse, fragments.mask, photo.shape[:2], whole
        depth_mm, coarse_depth_mm = self._on_photo(camera_vertices, normals, pose, *known)
        if not np.isfinite(depth_mm).any():
            raise ReconstructionError(_ASTRAY)
        pixel_mm = 1 / scale.item()
        # A border between vertices, not along the edges of triangles, which would leave teeth.
        beside = interpolate(self.model.beside[None, :, None], fragments, self.model.triangles)
        solid = trim_rim(fine[0, 0], (mask & (beside < 0.5))[0, 0], pixel_mm)
        mesh = depth_to_mesh(fine[0, 0], solid, pixel_mm, MAX_JUMP_MM)
        coarse_vertices = projected[0].clone()
        coarse_vertices[:, :2] -= (self.size - 1) / 2
        coarse_vertices[:, :2] /= scale * scale.new_tensor([1.0, -1.0])
        landmarks = projected[0, self.model.landmarks, :2].cpu().numpy()
        return Reconstruction(
            image=photo,
            box=box,
            crop=square,
            depth_mm=depth_mm,
            coarse_depth_mm=coarse_depth_mm,
            mask=np.isfinite(depth_mm),
            mm_per_pixel=1 / (scale.item() * square.step),
            landmarks=square.to_image(landmarks).astype(np.float32),
            vertices=mesh.vertices.cpu().numpy(),
            faces=mesh.triangles.cpu().numpy(),
            uv=mesh.uv.cpu().numpy(),
            coarse_vertices=coarse_vertices.cpu().numpy(),
            coarse_faces=self.model.triangles.cpu().numpy(),
            coefficients=coefficients[0].cpu().numpy(),
            pose=pose[0].cpu().numpy(),
            iterations=[r[0].cpu().numpy() for r in steps],
        )

    def _on_photo(
        self,
        vertices: Float[Tensor, "1 vertices 3"],
        normals: Float[Tensor, "1 vertices 3"],
        pose: Float[Tensor, "1 6"],
        square: Crop,
        detail: Float[Tensor, "1 1 size size"],
        mask: Bool[Tensor, "1 1 size size"],
        shape: tuple[int, int],
        whole: Float[Tensor, "1 1 size size"] | None = None,
    ) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
        """Detailed and coarse depth on the photograph's grid, NaN outside the face.

        The coarse mesh is rasterized there anew, so that its outline and depth are exact at any
        resolution; only FineNet's detail, smooth by comparison, is interpolated from the crop.
        With `whole`, the detailed depth in the crop, that is taken instead, away from its outline.
        """
        fine, coarse = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
        inner = None if whole is None else _away_from_steps(whole, mask)
        on_photo = to_pixels(vertices, pose, square.size)
        offset = on_photo.new_tensor([square.x - 0.5, square.y - 0.5]) + 0.5 * square.step
        on_photo[..., :2] = on_photo[..., :2] * square.step + offset
        known = mask.to(detail)
        maps = torch.cat([detail * known, known], dim=1)
        for rows, columns in _strips(square, shape):
            local = on_photo - on_photo.new_tensor([columns.start, rows.start, 0])
            height, width = rows.stop - rows.start, columns.stop - columns.start
            fragments = rasterize(local, self.model.triangles, height, width)
            depth = curved_depth(vertices, normals, fragments, self.model.triangles)[0, 0]
            grid = _sampling_grid(square, rows, columns).to(detail)
            value, weight = functional.grid_sample(maps, grid, align_corners=False)[0]
            refined = depth + value / weight.clamp(min=1e-6)
            if whole is not None:
                share = functional.grid_sample(inner, grid, align_corners=False)[0, 0]
                smooth = functional.grid_sample(whole, grid, mode="bicubic", align_corners=False)
                refined = torch.lerp(refined, smooth[0, 0], share)
            seen = fragments.mask[0, 0]
            coarse[rows, columns] = depth.where(seen, torch.nan).cpu().numpy()
            fine[rows, columns] = refined.where(seen, torch.nan).cpu().numpy()
        return fine, coarse


def _away_from_steps(
    depth: Float[Tensor, "1 1 size size"], mask: Bool[Tensor, "1 1 size size"]
) -> Float[Tensor, "1 1 size size"]:
    """1 inside one surface, falling to 0 over some pixels before its outline and its jumps."""

    def greatest(values: Tensor) -> Tensor:
        return functional.max_pool2d(values, 3, 1, 1)

    jump = greatest(depth) + greatest(-depth) > MAX_JUMP_MM
    inside = 1 - greatest(greatest((~mask | jump).to(depth)))
    return functional.avg_pool2d(inside, 3, 1, 1) * inside


def _grey(rgb: Float[np.ndarray, "size size 3"], device: torch.device) -> Tensor:
    return torch.from_numpy(to_grey(rgb)).to(device)[None, None]


def _inside_image(square: Crop, shape: tuple[int, int]) -> Bool[np.ndarray, "size size"]:
    """The crop's pixels whose centre lies in the photograph."""
    centre = (np.arange(square.size) + 0.5) * square.step
    column, row = square.x + centre, square.y + centre
    return np.outer((row > 0) & (row < shape[0]), (column > 0) & (column < shape[1]))


def _strips(square: Crop, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """The photograph's pixels with their centre in the crop, in pieces that bound the memory."""
    spans = []
    for start, length in zip((square.y, square.x), shape, strict=True):
        first, last = int(np.ceil(start - 0.5)), int(np.floor(start + square.side - 0.5))
        spans.append((max(first, 0), min(last + 1, length)))
    (top, bottom), (left, right) = spans
    if bottom > top and right > left:
        height = max(1, _STRIP_PIXELS // (right - left))
        for row in range(top, bottom, height):
            yield slice(row, min(row + height, bottom)), slice(left, right)


def _sampling_grid(square: Crop, rows: slice, columns: slice) -> Float[Tensor, "1 height width 2"]:
    """The photograph's pixels as `grid_sample` counts: -1 and 1 are the crop's edges."""
    row = (torch.arange(rows.start, rows.stop) + 0.5 - square.y) / square.side * 2 - 1
    column = (torch.arange(columns.start, columns.stop) + 0.5 - square.x) / square.side * 2 - 1
    return torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1)[None]
