"""Camera, pose and coefficients of a reconstruction as JSON, for other programs.

Frames and units: docs/conventions.md; how to use the file: docs/howto.md.
"""

import json
from pathlib import Path

import numpy as np
import torch

from facerecon import __version__
from facerecon.camera import POSE_NAMES, pose_parameters, rotation_angles
from facerecon.files import write_file
from facerecon.morphable_model import MorphableModel
from facerecon.reconstruction import Reconstruction

FORMAT = "facerecon-face/1"

UNITS = {
    "camera.pixels_per_mm": "pixels of the photograph for 1 mm, if the head has the mean size of"
    " the model; the same at every depth",
    "camera.origin_px": "column and row of the mesh's x = y = 0; the center of the photograph's top"
    " left pixel is (0, 0)",
    "camera.orthographic_mm": "the photograph's edges in the mesh's x and y, as orthographic"
    " cameras take them",
    "pose": "from the model frame (x to the viewer's right, y up, z to the viewer) to that of the"
    " mesh: rotation @ p + translation_mm",
    "pose.angles_deg": "rotation = R_z(roll) R_x(pitch) R_y(yaw)",
    "pose.numbers": "the last six numbers of the representation r, of the crop",
    "identity": "standard deviations, in the order of the model's basis",
    "expression": "1 is the whole movement; times 1 / standard deviation it is the coefficient",
    "landmarks_px": "the 68 iBUG points, column and row, also hidden ones",
    "box, crop": "pixels from the photograph's left top corner",
}


def parameters(face: Reconstruction, model: MorphableModel) -> dict[str, object]:
    """Everything but shape and image, as JSON values.

    Args:
        model: that the face was reconstructed with.
    """
    pose = pose_parameters(torch.from_numpy(face.pose).double()[None], face.crop.size)
    angles = torch.rad2deg(rotation_angles(pose.rotation))[0].tolist()
    shift = (pose.translation / pose.scale)[0].tolist()
    rows, columns = face.image.shape[:2]
    column, row = (edge + face.crop.side / 2 - 0.5 for edge in (face.crop.x, face.crop.y))
    width = face.mm_per_pixel
    activation = face.coefficients[model.n_identity :] * model.expression_std.cpu().numpy()
    return {
        "format": FORMAT,
        "facerecon": __version__,
        "photograph": {"width": columns, "height": rows},
        "box": [float(v) for v in (face.box.x, face.box.y, face.box.width, face.box.height)],
        "crop": {
            "x": face.crop.x,
            "y": face.crop.y,
            "side": face.crop.side,
            "size": face.crop.size,
        },
        "camera": {
            "kind": "weak perspective: it has no focal length, and no point of view",
            "equation": "column = origin_px[0] + pixels_per_mm * x,"
            " row = origin_px[1] - pixels_per_mm * y",
            "pixels_per_mm": 1 / width,
            "origin_px": [column, row],
            "orthographic_mm": {
                "left": -(column + 0.5) * width,
                "right": (columns - 0.5 - column) * width,
                "top": (row + 0.5) * width,
                "bottom": -(rows - 0.5 - row) * width,
            },
        },
        "pose": {
            "rotation": pose.rotation[0].tolist(),
            "translation_mm": [*shift, 0.0],
            "angles_deg": dict(zip(("pitch", "yaw", "roll"), angles, strict=True)),
            "numbers": dict(zip(POSE_NAMES, face.pose.tolist(), strict=True)),
        },
        "identity": face.coefficients[: model.n_identity].tolist(),
        "expression": dict(zip(model.expression_names, activation.tolist(), strict=True)),
        "landmarks_px": np.round(face.landmarks.astype(float), 2).tolist(),
        "units": UNITS,
    }


def save_parameters(face: Reconstruction, model: MorphableModel, path: str | Path) -> Path:
    """Write `parameters` as a .json file.

    Raises:
        ValueError: another suffix.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path}: parameters are written as .json")
    return write_file(path, (json.dumps(parameters(face, model), indent=1) + "\n").encode())
