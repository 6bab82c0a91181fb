"""Landmarks of the jaw that follow the visible outline of the face.

A person who marks the jaw in a photograph marks the outline. On a turned head this is another curve
on the surface, so a fixed vertex cannot stand for a jaw landmark. X. Zhu et al. (CVPR 2015,
"landmark marching") mark lines on the face, one per jaw landmark, and take the vertex of each that
lies farthest out once the head is turned. Our reading: a line starts at the landmark's vertex
and runs at constant height toward the middle of the mean face; the chin stays.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from facerecon.camera import POSE_UNITS, rotation_matrix
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import MorphableModel

JAW, CHIN = range(17), 8
_STEPS = 24
_NEAREST_MIDDLE = 0.3  # of the landmark's distance from the plane of symmetry
_FACING = 0.05  # least z of the normals of a line's vertices on the mean face
_NOT_SKIN = ("ears", "neck", "eye_left", "eye_right", "mouth_interior", "lips")


class Contour(nn.Module):
    """The lines of a morphable model, and the landmarks' vertices under a pose.

    Args:
        model: its mean gives the lines.
    """

    def __init__(self, model: MorphableModel):
        super().__init__()
        self.register_buffer("landmarks", model.landmarks)
        self.register_buffer("lines", contour_lines(model))

    def march(
        self, vertices: Float[Tensor, "batch vertices 3"], pose: Float[Tensor, "batch 6"]
    ) -> Int[Tensor, "batch 68"]:
        """Vertices of the 68 landmarks as an annotator would see them.

        Args:
            vertices: mm, model frame. pose: pose units; roll does not matter.
        """
        angles = pose[:, :3] * POSE_UNITS[:3].to(pose)
        upright = rotation_matrix(angles * angles.new_tensor([1.0, 1.0, 0.0]))
        places = vertices[:, self.lines.flatten()].unflatten(1, self.lines.shape)
        across = (places @ upright[:, None, 0, :, None]).squeeze(-1)  # (batch, 17, steps)
        outward = across.new_tensor([-1.0] * CHIN + [1.0] * (len(JAW) - CHIN))
        chosen = (across * outward[:, None]).argmax(dim=2)
        index = self.landmarks.expand(len(vertices), -1).clone()
        lines = self.lines.expand(len(vertices), -1, -1)
        index[:, : len(JAW)] = lines.gather(2, chosen[..., None]).squeeze(2)
        return index


def contour_lines(model: MorphableModel) -> Int[Tensor, "17 steps"]:
    """Vertices along each jaw landmark's line, from the landmark inward; the chin's is itself."""
    mean = model.mean
    normals = vertex_normals(mean[None], model.triangles)[0]
    skin = ((model.skin(_NOT_SKIN) > 0.5) & (normals[:, 2] > _FACING)).nonzero().squeeze(1)
    lines = model.landmarks[: len(JAW), None].repeat(1, _STEPS)
    for number in JAW:
        if number == CHIN:
            continue
        x, y = mean[model.landmarks[number], :2]
        wanted = torch.stack(
            [
                x * torch.linspace(1, _NEAREST_MIDDLE, _STEPS, device=mean.device),
                y.expand(_STEPS),
            ],
            dim=1,
        )
        lines[number, 1:] = skin[torch.cdist(wanted, mean[skin, :2]).argmin(dim=1)][1:]
    return lines
