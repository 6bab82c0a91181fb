"""Heads of another model, with the training world's wrinkles laid on by registration."""

import torch
from torch.nn.functional import normalize

from facerecon.appearance import face_maps, vertex_appearance
from facerecon.camera import CROP_MM, rotation_matrix
from facerecon.evaluation.detail import YAW_LIMIT, DetailFaces
from facerecon.evaluation.heads.photos import normal, picture, uniform
from facerecon.evaluation.heads.views import PITCH_LIMIT, Heads
from facerecon.lighting import LUMA
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import sample_activations
from facerecon.rasterize import interpolate, rasterize
from facerecon.render import curved_depth
from facerecon.synthetic.chart import Chart
from facerecon.synthetic.config import DetailConfig
from facerecon.synthetic.detail import MIN_NORMAL_Z
from facerecon.synthetic.wrinkles import Relief, displace


@torch.no_grad()
def head_faces(
    heads: Heads, count: int, seed: int, size: int, strength: tuple[float, float]
) -> DetailFaces:
    """Photographs of wrinkled heads in weak perspective, each of another person.

    Wrinkles and the morphable model's albedo space reach the heads' vertices from the closest
    points of the registered model, as `Heads` brings its skin.

    Args:
        size: pixels of the crop. strength: of the wrinkles, a range of shares of the deepest.
    """
    model, device = heads.model, heads.mean.device
    generator = torch.Generator(device=device).manual_seed(seed)
    activation = sample_activations(count, heads.partner, heads.group, heads.frequency, generator)
    identity = normal(generator, count, len(heads.identity))
    vertices = heads.shapes(identity, 0.6 * activation)
    limits = torch.tensor([PITCH_LIMIT / 2, YAW_LIMIT, 8.0], device=device).deg2rad()
    angles = limits * (2 * uniform(generator, 0, 1, count, 3) - 1)
    camera = vertices @ rotation_matrix(angles).transpose(1, 2)
    scale = size / CROP_MM
    flip = scale * camera.new_tensor([1.0, -1.0])
    pixels = torch.cat([(size - 1) / 2 + flip * camera[..., :2], camera[..., 2:]], dim=2)
    fragments = rasterize(pixels, heads.triangles, size, size)
    back = rasterize(pixels, heads.triangles.flip(1).contiguous(), size, size)

    def across(values: torch.Tensor) -> torch.Tensor:
        """Values per vertex of the model, (V, K), at the heads' vertices."""
        return torch.einsum("vnk,vn->vk", values[heads.skin_index], heads.skin_weight)

    mm_per_pixel = torch.full((count,), 1 / scale, device=device)
    normals = vertex_normals(camera, heads.triangles)
    depth = curved_depth(camera, normals, fragments, heads.triangles)
    appearance = across(vertex_appearance(model))
    smooth = face_maps(depth, fragments, heads.triangles, appearance, mm_per_pixel)

    detail = DetailConfig(age_strength=strength, youth_strength=strength)
    chart = Chart(model, detail.texels(size))
    relief = Relief(model, chart, detail)
    neutral = torch.zeros(count, model.n_coefficients, device=device)
    age = uniform(generator, 0, 1, count, 1)
    coordinates = interpolate(across(_per_vertex(chart, model))[None], fragments, heads.triangles)
    face = heads.face[heads.triangles].all(1)[fragments.triangle.clamp(min=0)][:, None]
    face = face & fragments.mask
    coordinates = torch.where(face, coordinates, 4.0)  # no wrinkles elsewhere
    normals = normalize(interpolate(normals, fragments, heads.triangles), dim=1)
    height = chart.sample(relief.sample(neutral, age, generator), coordinates)
    fine = displace(depth, normals, fragments.mask, height, mm_per_pixel)

    albedo = heads.skin.sample(count, generator) @ normals.new_tensor(LUMA)
    albedo = torch.einsum("bvk,vk->bv", albedo[:, heads.skin_index], heads.skin_weight)
    albedo = interpolate(albedo[..., None].contiguous(), fragments, heads.triangles)
    image = picture(albedo, fine.normals, fragments.mask, back.mask, generator)
    counted = face & (smooth.skin > 0.5) & (normals[:, 2:] > MIN_NORMAL_Z)
    image = torch.from_numpy(image)[:, None].to(device)
    return DetailFaces(image, fine.depth, fine.normals, smooth, counted)


def _per_vertex(chart: Chart, model: torch.nn.Module) -> torch.Tensor:
    """Chart coordinates of the model's vertices, (V, 2); outside the chart as in `Chart`."""
    found = chart.coordinates.new_full((len(model.mean), 2), 4.0)
    corners = chart.coordinates[chart.triangles].flatten(0, 1)
    inside = corners.abs().amax(1) <= 1
    found[model.triangles.flatten()[inside]] = corners[inside]
    return found
