"""From a photograph to a detailed face: detection, CoarseNet, rendering, detail (Figure 3)."""

import warnings
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facerecon.backends.devices import find_device
from facerecon.backends.threads import side_by_side
from facerecon.camera import pose_parameters, split
from facerecon.coarsenet import CoarseNet
from facerecon.depth import depth_to_mesh
from facerecon.detection.detect import Box, detect_faces, largest_face
from facerecon.detection.network import DetectionNet, load_detector
from facerecon.detection.recrop import Fit, fit_all
from facerecon.finenet import FineNet
from facerecon.imaging import Crop, ImageSource, load_image, square_crop, to_grey
from facerecon.messages import OneLine
from facerecon.morphable_model import MorphableModel
from facerecon.normal_refinement import NormalRefinement
from facerecon.on_photo import surface_on_photo
from facerecon.rasterize import interpolate
from facerecon.reconstruction import MIN_DETAILED, Reconstruction
from facerecon.render import curved_surface
from facerecon.rim import cut_mesh, rim_level
from facerecon.shading_refinement import ShadingRefinement
from facerecon.shape_from_normals import ShapeFromNormals
from facerecon.shapes import require_whole
from facerecon.weights import WeightsError, load_coarsenet, load_finenet, load_normalnet

COARSE_SIZE = 200
"""Pixels of the crop that CoarseNet sees (3.4)."""

REFINEMENTS = ("normals", "finenet")
"""What may refine the coarse face: our normals, or the paper's FineNet."""

BACKENDS = ("torch", "onnx")
"""What may compute the networks."""

FINE_SIZES = (200, 400)
"""Pixels of the crop that FineNet may see (Figure 11)."""

MIN_COVERAGE = 0.05
"""Share of the crop that a fitted face covers at least; a face fills about a third."""

MAX_POSE = 6.0
"""Pose units within which a fit is accepted: 3 rad of yaw, 3/8 of the crop off its center."""

MAX_JUMP_MM = 25.0
"""Depth between neighboring pixels beyond which the mesh is cut; under a nose it can be 15 mm."""

_FAILED = (
    "the fitted face lies outside its crop or the photograph; pass a box that fits the face (brows"
    " to chin, as wide as high)"
)


class ReconstructionError(OneLine, ValueError):
    """A face was found, but it cannot be reconstructed."""


class SmallFaceWarning(OneLine, UserWarning):
    """A face is too small in its photograph for detail, or for the size to refine it at."""


class Reconstructor:
    """The whole method of the paper as one function of a photograph.

    Args:
        model: the morphable model that CoarseNet was trained with.
        coarsenet: trained.
        finenet: trained; None leaves the coarse geometry as it is.
        normals: refines the coarse geometry instead of FineNet; called as NormalRefinement is.
        shape: corrects CoarseNet's answer before it is refined; called as ShapeFromNormals is.
        iterations: steps of CoarseNet (3.4).
        size: side in pixels of the crop that is refined, 200 or 400. A face whose crop has no more
            than 200 pixels is refined at 200, with a `SmallFaceWarning`; one with fewer than
            `MIN_DETAILED` brings that warning at both sizes.
        detector: proposes where faces are; the one that ships if None.

    The networks and the model stay on the device that they are on.
    """

    def __init__(
        self,
        model: MorphableModel,
        coarsenet: CoarseNet,
        finenet: FineNet | None,
        iterations: int = 4,
        size: int = 200,
        normals: nn.Module | None = None,
        detector: DetectionNet | None = None,
        shape: nn.Module | None = None,
    ) -> None:
        size, iterations = require_whole("size", size), require_whole("iterations", iterations)
        if size not in FINE_SIZES:
            raise ValueError(f"size must be one of {FINE_SIZES}, got {size}")
        self.model = model.eval()
        self.coarsenet = coarsenet.eval()
        self.finenet = finenet.eval() if finenet is not None else None
        self.normals = normals.eval() if normals is not None else None
        self.detector = detector.eval() if detector is not None else None
        self.shape = shape.eval() if shape is not None else None
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
        refine: str | None = "normals",
        backend: str = "torch",
    ) -> "Reconstructor":
        """With the default morphable model and the weights in these files, or those that ship.

        Args:
            fine: weights of the stage that `refine` names.
            refine: "normals", ours (`normal_refinement`), which is the nearest to measured
                normals of real faces; "finenet", the paper's; None: the coarse face alone.
            backend: what computes the networks: "torch", or "onnx", ONNX Runtime on the CPU
                (`onnx_session`); the rest is the same.

        Raises:
            WeightsError: a file is missing, damaged, or another network's.
            DeviceError: torch cannot compute on this device here.
            ValueError: an unknown way to refine or backend, another size than 200 and 400, or
                backend="onnx" on another device than the CPU.
            ImportError: the packages of a backend are missing; the message names the extra.
        """
        if refine not in (*REFINEMENTS, None):
            known = ", ".join(REFINEMENTS)
            raise ValueError(f"refine must be one of {known} or None, got {refine!r}")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        device = find_device(device)
        if backend == "onnx" and device.type != "cpu":
            raise ValueError(f"backend 'onnx' computes on the CPU, got device={str(device)!r}")
        model = MorphableModel.default().to(device)
        finenet, network, detector = None, None, None
        try:
            if refine == "finenet":
                finenet = load_finenet(fine).to(device)
            elif refine == "normals":
                network = load_normalnet(fine).to(device)
        except WeightsError as error:
            other = next(name for name in REFINEMENTS if name != refine)
            raise WeightsError(
                f"{str(error).rstrip('.')}; these are to be weights of refine={refine!r},"
                f" the other stage is {other!r}"
            ) from None
        coarsenet = load_coarsenet(coarse).to(device)
        if backend == "onnx":
            from facerecon.onnx_session import on_onnx

            coarsenet, detector = on_onnx(coarsenet), on_onnx(load_detector())
            finenet, network = finenet and on_onnx(finenet), network and on_onnx(network)
        normals = network and NormalRefinement(model, network, ShadingRefinement()).to(device)
        shape = network and ShapeFromNormals.after(coarsenet, model, network)
        return cls(model, coarsenet, finenet, iterations, size, normals, detector, shape)

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
                (brows to chin); detected if None.
            all_faces: every face that the detector finds and that can be fitted, largest first.
            refine: False stops after CoarseNet: depth and mesh are then the morphable model's.

        Raises:
            ImageError: the image cannot be used.
            NoFaceError: no face was found.
            ReconstructionError: the fit failed.
            ValueError: an impossible box.
        """
        photo = load_image(image)
        if box is not None:
            wanted = [Box.of(box)]
        elif all_faces:
            wanted = detect_faces(photo, self.coarsenet, self.model, self.detector)
        else:
            wanted = [largest_face(photo, self.coarsenet, self.model, self.detector)]
        crops = [square_crop(box.crop_box(), photo.shape[:2], COARSE_SIZE) for box in wanted]
        fits = fit_all(self.coarsenet, self.model, photo, crops, self.iterations)
        sizes = list(map(self._detailed_size, fits))

        def detailed(number: int) -> Reconstruction | ReconstructionError:
            try:
                return self._detailed(photo, wanted[number], *fits[number], sizes[number], refine)
            except ReconstructionError as error:
                return error

        faces = side_by_side(detailed, range(len(fits)), self.model.mean.device)
        found = [face for face in faces if isinstance(face, Reconstruction)]
        if not found:
            raise faces[-1]
        return found if all_faces else found[0]

    def _detailed_size(self, fit: Fit) -> int:
        """Pixels of the crop that is refined; a warning where the photograph has too few."""
        size, side, causes = self.size, fit.crop.side, []
        if size > COARSE_SIZE >= side:
            size = COARSE_SIZE
            causes.append(
                f"refined at {size} pixels instead of {self.size}, which would add none of its own"
            )
        if side < MIN_DETAILED:
            needs = f"detail needs {MIN_DETAILED} or more"
            causes.append(f"only the coarse shape can be trusted; {needs}")
        if causes:
            cause = "; ".join(causes)
            message = f"the face's crop is {side:.0f} pixels wide: {cause}"
            warnings.warn(message, SmallFaceWarning, stacklevel=3)
        return size

    @torch.no_grad()
    def _detailed(
        self,
        photo: Float[np.ndarray, "height width 3"],
        box: Box,
        steps: list[Float[Tensor, "1 n"]],
        crop: Crop,
        size: int,
        refine: bool,
    ) -> Reconstruction:
        """Render the fit, refine its depth, and lay both on the photograph and on a mesh.

        Args:
            steps, crop: as of `recrop.Fit`. size: pixels of the crop that is refined.
        """
        crop, r, shape, seen = crop.at(size), steps[-1], photo.shape[:2], None
        face = crop.cut(photo)
        grey = torch.from_numpy(to_grey(face)).to(r.device)[None, None]
        if refine and self.shape is not None:
            r, seen = self.shape(grey, r)
        surface = curved_surface(self.model, r, size)
        fragments = surface.fragments
        coefficients, pose = split(r, self.model.n_coefficients)
        inside = torch.from_numpy(crop.inside(shape)).to(r.device)
        mask = fragments.mask & inside
        if mask.float().mean() < MIN_COVERAGE or pose.abs().max() > MAX_POSE:
            raise ReconstructionError(_FAILED)
        scale = pose_parameters(pose, size).scale
        fine, whole = surface.depth, False
        if refine and self.normals is not None:
            color = torch.from_numpy(face).to(r.device).permute(2, 0, 1)[None]
            fine, whole = self.normals(grey, surface, 1 / scale, color, seen).depth, True
        elif refine and self.finenet is not None:
            fine = self.finenet(grey, surface.depth, fragments.mask, 1 / scale)

        detail = fine - surface.depth
        # FineNet's detail is smooth; NormalNet closes steps of the mesh at lids and lips, too.
        known = self.model, surface, detail, crop, shape
        depth_mm, coarse_depth_mm = surface_on_photo(*known, MAX_JUMP_MM if whole else None)
        found = np.isfinite(depth_mm)
        if not found.any():
            raise ReconstructionError(_FAILED)
        pixel_mm = 1 / scale.item()
        # Smooth between vertices, not cut along the edges of triangles, which would leave teeth.
        beside = self.model.ears_and_neck[None, :, None]
        beside = interpolate(beside, fragments, self.model.triangles)
        level = rim_level(fine[0, 0], mask[0, 0], beside[0, 0], pixel_mm)
        mesh = depth_to_mesh(fine[0, 0], mask[0, 0], pixel_mm, MAX_JUMP_MM)
        mesh = cut_mesh(mesh, level)
        coarse_vertices = surface.projected[0].clone()
        coarse_vertices[:, :2] -= (size - 1) / 2
        coarse_vertices[:, :2] /= scale * scale.new_tensor([1.0, -1.0])
        landmarks = surface.projected[0, self.model.landmarks, :2].cpu().numpy()
        return Reconstruction(
            image=photo,
            box=box,
            crop=crop,
            depth_mm=depth_mm,
            coarse_depth_mm=coarse_depth_mm,
            mask=found,
            mm_per_pixel=1 / (scale.item() * crop.step),
            landmarks=crop.to_image(landmarks).astype(np.float32),
            vertices=mesh.vertices.cpu().numpy(),
            faces=mesh.triangles.cpu().numpy(),
            uv=mesh.uv.cpu().numpy(),
            coarse_vertices=coarse_vertices.cpu().numpy(),
            coarse_faces=self.model.triangles.cpu().numpy(),
            coefficients=coefficients[0].cpu().numpy(),
            pose=pose[0].cpu().numpy(),
            iterations=[step[0].cpu().numpy() for step in steps],
        )
