import base64
import dataclasses
import importlib.resources
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage
from test_reconstruction import ball

from facerecon.camera import join, pose_parameters
from facerecon.imaging import Crop
from facerecon.mesh import vertex_normals
from facerecon.model_mesh.atlas import Atlas
from facerecon.model_mesh.export import ModelMeshWriter
from facerecon.model_mesh.face_texture import face_texture, tangents
from facerecon.model_mesh.gltf import glb
from facerecon.model_mesh.seen import LIKELY, _kinds, look_up, scalp_weight
from facerecon.model_mesh.unwrap import Mirror
from facerecon.rasterize import interpolate
from facerecon.reconstruction import Reconstruction
from facerecon.render import curved_surface, render

SIZE = 256
TEXELS = 192


def colors(points: torch.Tensor) -> torch.Tensor:
    """Smooth colors of the mean face's points (mm), near skin's, the same on both sides.

    Their waves are shorter than those of light on a face, which would not be mirrored.
    """
    x, y, z = (points / 60).unbind(-1)
    waves = torch.stack([torch.cos(9 * x), torch.sin(8 * y), torch.sin(8 * z)], -1)
    return torch.tensor([0.7, 0.55, 0.45]) + 0.07 * waves


def photographed(model, yaw=0.0, expression="jawOpen", activation=0.3) -> Reconstruction:
    """A face of the model whose colors are known at every point, as if it were reconstructed."""
    coefficients = torch.zeros(1, model.n_coefficients)
    coefficients[0, 0] = 1.0
    index = model.expression_index(expression)
    coefficients[0, index] = activation / model.expression_std[index - model.n_identity]
    pose = torch.tensor([[0.1, np.deg2rad(yaw) / 0.5, 0.2, 0.5, -0.3, -1.0]]).float()
    surface = curved_surface(model, join(coefficients, pose), SIZE)
    seen = surface.fragments.mask[0, 0].numpy()
    image = interpolate(colors(model.mean)[None], surface.fragments, model.triangles)[0]
    image = np.where(seen[..., None], image.permute(1, 2, 0).numpy(), 0.5).astype(np.float32)
    scale = pose_parameters(pose, SIZE).scale.item()
    middle = torch.tensor([(SIZE - 1) / 2, (SIZE - 1) / 2, 0])
    coarse = (surface.projected[0] - middle) * torch.tensor([1 / scale, -1 / scale, 1])
    depth = np.where(seen, surface.depth[0, 0].numpy(), np.nan).astype(np.float32)
    return dataclasses.replace(
        ball(),
        image=image,
        crop=Crop(0, 0, SIZE, SIZE),
        depth_mm=depth,
        coarse_depth_mm=depth,
        mask=seen,
        mm_per_pixel=1 / scale,
        landmarks=surface.projected[0, model.landmarks, :2].numpy(),
        coarse_vertices=coarse.numpy(),
        coarse_faces=model.triangles.numpy(),
        coefficients=coefficients[0].numpy(),
        pose=pose[0].numpy(),
    )


@pytest.fixture(scope="module")
def atlas(model) -> Atlas:
    return Atlas(model, TEXELS)


@pytest.fixture(scope="module")
def writer(model) -> ModelMeshWriter:
    return ModelMeshWriter(model, TEXELS)


def test_every_island_has_its_place(model):
    atlas = Atlas(model, 512)
    assert atlas.coordinates.abs().max() <= 1
    shown = np.unique(atlas.triangle.numpy())
    island = atlas.island[atlas.triangles[:, 0]].numpy()
    sides = atlas.coordinates[atlas.triangles].numpy()
    first, second = sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]
    area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    for number in range(island.max() + 1):
        own = np.flatnonzero(island == number)
        # Back-to-front islands would not be rasterized at all; the smallest triangles miss texels.
        assert area[own][np.isin(own, shown)].sum() > 0.5 * area[own].sum(), number
    boxes = [atlas.coordinates[atlas.island == i].numpy() for i in range(island.max() + 1)]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            apart = (one.min(0) > other.max(0)) | (other.min(0) > one.max(0))
            assert apart.any()
    assert len(atlas.eyeballs) == 2 and len(atlas.cavities) == 1
    for number in atlas.eyeballs:
        own = atlas.island == number
        front = atlas.vertex[own][model.mean[atlas.vertex[own], 2].argmax()]
        place = boxes[number][(atlas.vertex[own] == front).numpy()][0]
        middle = (boxes[number].min(0) + boxes[number].max(0)) / 2
        np.testing.assert_allclose(place, middle, atol=0.02)


def test_tangents_point_where_the_texture_goes(model, atlas):
    points = model.mean[atlas.vertex]
    normals = vertex_normals(model.mean[None], model.triangles)[0, atlas.vertex]
    found = tangents(points, normals, atlas)
    bitangent = torch.linalg.cross(normals, found[:, :3]) * found[:, 3:]
    maps = torch.cat([points, found[:, :3], bitangent], dim=1)
    maps = interpolate(maps[None], atlas.fragments, atlas.triangles)[0]
    whole = (atlas.texel_islands() == 0).numpy()
    for step, axis, rows in ((1, maps[3:6], 2), (-1, maps[6:9], 1)):  # right; up
        walk = step * (maps[:3].roll(-1, rows) - maps[:3])
        along = torch.cosine_similarity(walk, axis, dim=0).numpy()
        inside = whole & np.roll(whole, -1, rows - 1)
        # u and v are not at right angles on the skin everywhere.
        assert np.median(along[inside]) > 0.95
        assert (along[inside] > 0.5).mean() > 0.95


@pytest.mark.parametrize("yaw", [0.0, 35.0])
def test_the_texture_is_the_photograph_and_its_mirror_image(model, atlas, yaw):
    face = photographed(model, yaw)
    texture = face_texture(face, model, atlas, Mirror(model, atlas))
    expected = colors(model.mean)[None]
    expected = interpolate(expected, atlas.fragments, model.triangles)[0].permute(1, 2, 0).numpy()
    error = np.abs(texture.color - expected).max(axis=2)
    shown = texture.shown > 0.99
    assert 0.15 < shown[atlas.mask.numpy()].mean() < 0.9
    # Bilinear samples of a photograph of 1 mm a pixel, colors that change by 0.01 a mm.
    assert np.quantile(error[shown], 0.99) < 0.03
    skin = interpolate(model.skin()[None, :, None], atlas.fragments, model.triangles)[0, 0].numpy()
    position = atlas.position.numpy()
    front = (skin > 0.99) & (position[..., 2] > -20) & (np.abs(position[..., 0]) < 45)
    assert (texture.shown[front] < 0.5).mean() > (0.02 if yaw else -1)
    most = 0.1 if yaw else 0.06  # hidden skin too, from the other side
    assert np.quantile(error[front], 0.9) < most
    hidden = front & (texture.shown < 0.01)
    if yaw:  # where the other side shows them, the waves are there
        found, right = (each[hidden].T for each in (texture.color, expected))
        assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(found, right, strict=True)) > 0.4
    assert np.isfinite(texture.color).all() and texture.color.min() >= 0


def test_hair_and_walls_beside_the_face_do_not_become_its_skin(model, atlas):
    """A face of one color in front of a green wall, which covers the cheek's side and the ear."""
    face = photographed(model)
    skin, wall = np.float32([0.75, 0.55, 0.45]), np.float32([0.2, 0.6, 0.3])
    image = np.where(face.mask[..., None], skin, wall)
    columns = np.flatnonzero(face.mask.any(0))
    image[:, : columns[0] + len(columns) // 6] = wall
    texture = face_texture(
        dataclasses.replace(face, image=image), model, atlas, Mirror(model, atlas)
    )
    # The mean albedo's own pattern fills what nothing shows; lips, brows and neck are darker.
    whole = (atlas.texel_islands() == 0).numpy()
    green = texture.color[..., 1] > 1.05 * texture.color[..., 0]
    assert green[whole].mean() < 0.005
    middle = whole & (np.abs(atlas.position[..., 0].numpy()) < 20) & (texture.shown > 0.99)
    np.testing.assert_allclose(texture.color[middle].mean(0), skin, atol=0.02)


def test_colors_that_mix_with_a_walls_are_no_skin(model, rng):
    rendering = render(model, torch.zeros(1, model.n_coefficients + 6), SIZE)
    skin, wall = np.float32([0.75, 0.55, 0.45]), np.float32([0.25, 0.35, 0.5])
    share = ndimage.gaussian_filter((np.arange(SIZE) < 170).astype(np.float32), 1.2)
    share = np.broadcast_to(share[:, None], (SIZE, SIZE, 1))
    spots = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE, 3)), (3, 3, 0))
    image = share * skin * np.exp(0.1 * spots / spots.std()) + (1 - share) * wall
    image = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    likely = _kinds(image, rendering, model, 1.0)[0][0, 0].numpy() > LIKELY
    mixed = (share[..., 0] > 0.3) & (share[..., 0] < 0.9)
    assert mixed.mean() > 0.005
    assert likely[:, :160].mean() > 0.5 and likely[mixed].mean() < 0.05


def test_skin_opposite_to_hair_makes_no_pale_patch(model, atlas):
    """Hair on the nearer side of the forehead alone: it fills the other, and nothing brighter."""
    face = photographed(model, 25.0)
    r = torch.from_numpy(np.concatenate([face.coefficients, face.pose]))[None]
    fragments = curved_surface(model, r, SIZE).fragments
    x, y, _ = interpolate(model.mean[None], fragments, model.triangles)[0].numpy()
    skin, hair = np.float32([0.6, 0.45, 0.35]), np.float32([0.06, 0.05, 0.04])
    image = np.broadcast_to(skin, face.image.shape)
    with_hair = np.where(((x < -30) & (y > 45))[..., None], hair, skin)
    bare, patched = (
        face_texture(dataclasses.replace(face, image=each), model, atlas, Mirror(model, atlas))
        for each in (image, with_hair)
    )
    whole = (atlas.texel_islands() == 0).numpy()
    assert (patched.color / bare.color)[whole].max() < 1.5


SKIN, HAIR = np.float32([0.6, 0.45, 0.35]), np.float32([0.12, 0.08, 0.05])


def repainted(face: Reconstruction, model, where, color) -> Reconstruction:
    """The face with another color where the mean face's points (x, y, z in mm) ask for it."""
    r = torch.from_numpy(np.concatenate([face.coefficients, face.pose]))[None]
    fragments = curved_surface(model, r, SIZE).fragments
    chosen = where(*interpolate(model.mean[None], fragments, model.triangles)[0].numpy())
    image = np.where((chosen & face.mask)[..., None], color, face.image)
    return dataclasses.replace(face, image=image.astype(np.float32))


def plain(face: Reconstruction, color=SKIN) -> Reconstruction:
    return dataclasses.replace(face, image=np.broadcast_to(color, face.image.shape).copy())


def per_texel(model, atlas, values: torch.Tensor) -> np.ndarray:
    return interpolate(values[None].contiguous(), atlas.fragments, model.triangles)[0].numpy()


@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_the_sides_have_the_light_of_the_face(model, atlas, yaw):
    """Skin that shades smoothly goes on so beyond what is seen, without a band."""
    face = photographed(model, yaw)
    vertices = torch.from_numpy(face.coarse_vertices)[None]
    normals = vertex_normals(vertices, model.triangles)[0]
    shade = torch.exp(normals @ torch.tensor([0.5, 0.2, 0.6]) - 0.6)
    lit = model.albedo_mean * shade[:, None]
    r = torch.from_numpy(np.concatenate([face.coefficients, face.pose]))[None]
    fragments = curved_surface(model, r, SIZE).fragments
    image = interpolate(lit[None], fragments, model.triangles)[0].permute(1, 2, 0).numpy()
    image = np.where(face.mask[..., None], image, 0.5).astype(np.float32)
    face = dataclasses.replace(face, image=image)
    texture = face_texture(face, model, atlas, Mirror(model, atlas))
    *expected, z = per_texel(model, atlas, torch.cat([lit, normals[:, 2:]], dim=1))
    beside = (atlas.texel_islands() == 0).numpy() & (texture.shown < 0.3) & (z > 0.1)
    beside &= per_texel(model, atlas, model.skin()[:, None])[0] > 0.99
    beside &= per_texel(model, atlas, model.ears_and_neck[:, None])[0] < 0.01
    error = np.abs(np.log(texture.color[beside] / np.stack(expected, axis=-1)[beside]))
    assert beside.sum() > 300
    assert np.quantile(error, 0.9) < 0.25


@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_a_scalp_goes_on_in_the_colors_of_hair_and_the_cheeks_do_not(model, atlas, yaw):
    hair = scalp_weight(model)
    face = plain(photographed(model, yaw))
    r = torch.from_numpy(np.concatenate([face.coefficients, face.pose]))[None]
    fragments = curved_surface(model, r, SIZE).fragments
    shown = interpolate(hair[None, :, None], fragments, model.triangles)[0, 0].numpy() > 0.5
    image = np.where(shown[..., None], HAIR, SKIN)
    haired = dataclasses.replace(face, image=image)
    mirror = Mirror(model, atlas)
    bald, texture = (face_texture(each, model, atlas, mirror) for each in (face, haired))
    weight = per_texel(model, atlas, hair[:, None])[0]
    ears = per_texel(model, atlas, model.regions["ears"][:, None])[0]
    darker = (texture.color / bald.color).mean(2)
    whole = (atlas.texel_islands() == 0).numpy()
    unseen = whole & (texture.shown < 0.01)
    assert (unseen & (weight > 0.99)).sum() > 300
    assert np.quantile(darker[unseen & (weight > 0.99)], 0.9) < 0.45  # hair: 0.2
    assert np.quantile(darker[whole & (ears > 0.99)], 0.02) > 0.8
    assert np.quantile(darker[whole & (weight < 0.01)], 0.01) > 0.8


def test_what_reaches_into_the_face_is_left_out_and_glasses_stay(model, atlas):
    """A pink flower from beside the chin; a pink lens of the same color in the middle."""
    pink = np.float32([0.9, 0.5, 0.7])
    face = plain(photographed(model))
    outside = np.where(face.mask[..., None], face.image, pink)
    face = dataclasses.replace(face, image=outside.astype(np.float32))
    face = repainted(face, model, lambda x, y, z: (x > 15) & (y < -55) & (z > -40), pink)
    face = repainted(face, model, lambda x, y, z: np.hypot(x + 28, y + 14) < 12, pink)
    texture = face_texture(face, model, atlas, Mirror(model, atlas))
    x, y, _ = np.moveaxis(atlas.position.numpy(), 2, 0)
    whole = (atlas.texel_islands() == 0).numpy()
    seems_pink = texture.color[..., 2] > texture.color[..., 1]
    cheek = whole & (x > 25) & (x < 60) & (y < -35) & (y > -90)
    lens = whole & (np.hypot(x + 28, y + 14) < 6)
    assert seems_pink[cheek].mean() < 0.02
    assert lens.sum() > 20 and seems_pink[lens].mean() > 0.9


def test_an_open_mouth_shows_what_the_photograph_shows_in_it(model, atlas):
    face = plain(photographed(model, activation=0.7))
    r = torch.from_numpy(np.concatenate([face.coefficients, face.pose]))[None]
    fragments = curved_surface(model, r, SIZE).fragments
    inside = model.regions["mouth_interior"][None, :, None].contiguous()
    inside = interpolate(inside, fragments, model.triangles)[0, 0].numpy() > 0.5
    teeth = np.float32([0.2, 0.9, 0.9])
    face = dataclasses.replace(face, image=np.where(inside[..., None], teeth, face.image))
    texture = face_texture(face, model, atlas, Mirror(model, atlas))
    # The photograph's view again, through the texture.
    uv = atlas.at(fragments)
    seen = atlas.sample(torch.from_numpy(texture.color).permute(2, 0, 1)[None], uv)[0].numpy()
    inner = ndimage.binary_erosion(inside, iterations=2)
    assert inner.sum() > 50
    assert np.quantile(np.abs(seen[:, inner] - teeth[:, None]), 0.8) < 0.1


def test_a_grey_photograph_makes_a_grey_texture(model, atlas):
    face = plain(photographed(model), np.float32([0.5, 0.5, 0.5]))
    texture = face_texture(face, model, atlas, Mirror(model, atlas))
    whole = (atlas.texel_islands() == 0).numpy()
    assert np.ptp(texture.color[whole], axis=1).max() < 0.01


def test_the_sides_of_a_nose_count_more_than_those_of_a_jaw(model, atlas):
    face = plain(photographed(model))
    seen = look_up(face, model, atlas, torch.zeros(TEXELS, TEXELS))
    x, y, _ = np.moveaxis(atlas.position.numpy(), 2, 0)
    steep = (seen.normals[2] > 0.4) & (seen.normals[2] < 0.5) & (atlas.texel_islands() == 0)
    nose = steep.numpy() & (np.abs(x) < 18) & (y < 15) & (y > -20)
    jaw = steep.numpy() & (np.abs(x) > 40) & (y < -50)
    assert min(nose.sum(), jaw.sum()) > 10
    assert seen.facing[nose].min() > 0.9 and seen.facing[jaw].max() < 0.9


def test_a_surface_without_detail_has_a_flat_normal_map(model, atlas):
    face = photographed(model)
    flat = face_texture(face, model, atlas, Mirror(model, atlas)).normals
    np.testing.assert_allclose(np.linalg.norm(flat, axis=2), 1, atol=1e-5)
    # Central differences against the mesh's smooth normals: facets of some degrees.
    assert np.quantile(flat[..., 2], 0.05) > np.cos(np.deg2rad(12))


def test_detail_tilts_the_normal_map_as_it_tilts_the_surface(model, atlas):
    face = photographed(model)
    column = np.arange(SIZE, dtype=np.float32)
    # Waves of 30 mm along the rows, of 4 degrees: their slope is known.
    waves, slope = 30 / face.mm_per_pixel, 0.07
    relief = slope * 30 / (2 * np.pi) * np.sin(2 * np.pi * column / waves)
    wavy = dataclasses.replace(face, depth_mm=face.depth_mm + relief)
    mirror = Mirror(model, atlas)
    maps = [face_texture(each, model, atlas, mirror).normals for each in (wavy, face)]
    change = maps[0] - maps[1]
    vertices = torch.from_numpy(face.coarse_vertices)[None]
    normals = vertex_normals(vertices, model.triangles)[0, atlas.vertex]
    frame = torch.cat([vertices[0, atlas.vertex], normals], dim=1)
    frame = torch.cat([frame, tangents(frame[:, :3], normals, atlas)], dim=1)
    frame = interpolate(frame[None], atlas.fragments, atlas.triangles)[0].numpy()
    place = frame[0] / face.mm_per_pixel + (SIZE - 1) / 2
    expected = -slope * np.cos(2 * np.pi * place / waves) * frame[6]  # the tangent's own x
    facing = (frame[5] > 0.9) & (np.abs(change).sum(2) > 0) & (atlas.texel_islands().numpy() == 0)
    correlation = np.corrcoef(change[..., 0][facing], expected[facing])[0, 1]
    assert facing.sum() > 500 and correlation > 0.8


def parts(content: bytes) -> tuple[dict, bytes]:
    magic, version, total = struct.unpack("<4sII", content[:12])
    assert (magic, version, total) == (b"glTF", 2, len(content))
    length, kind = struct.unpack("<I4s", content[12:20])
    assert kind == b"JSON" and length % 4 == 0
    rest = content[20 + length :]
    size, kind = struct.unpack("<I4s", rest[:8])
    assert kind == b"BIN\0" and size == len(rest) - 8
    return json.loads(content[20 : 20 + length]), rest[8:]


def read(document: dict, data: bytes, number: int) -> np.ndarray:
    """An accessor's values, by the specification."""
    kinds = {5126: np.float32, 5125: np.uint32, 5123: np.uint16}
    accessor = document["accessors"][number]

    def values(view: int, kind: int, count: int, width: int) -> np.ndarray:
        view = document["bufferViews"][view]
        assert view["byteOffset"] % 4 == 0
        found = np.frombuffer(data, kinds[kind], count * width, view["byteOffset"])
        assert found.nbytes == view["byteLength"]
        return found.reshape(count, width)

    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    kind, count = accessor["componentType"], accessor["count"]
    if "bufferView" in accessor:
        return values(accessor["bufferView"], kind, count, width)
    result = np.zeros((count, width), kinds[kind])
    if sparse := accessor.get("sparse"):
        index = values(*sparse["indices"].values(), sparse["count"], 1)[:, 0]
        assert (np.diff(index.astype(int)) > 0).all()
        result[index] = values(sparse["values"]["bufferView"], kind, sparse["count"], width)
    return result


def test_the_file_shows_the_face_as_the_photograph_does(model, writer):
    face = photographed(model, yaw=20)
    document, data = parts(glb(writer.mesh(face)))
    mesh, (node,) = document["meshes"][0], document["nodes"]
    primitive = mesh["primitives"][0]
    base = read(document, data, primitive["attributes"]["POSITION"]).astype(np.float64)
    points = base.copy()
    names = mesh["extras"]["targetNames"]
    assert tuple(names) == model.expression_names and len(mesh["weights"]) == len(names)
    for weight, target in zip(mesh["weights"], primitive["targets"], strict=True):
        points += weight * read(document, data, target["POSITION"])
    matrix = np.array(node["matrix"]).reshape(4, 4).T
    posed = points @ matrix[:3, :3].T + matrix[:3, 3]
    expected = face.coarse_vertices[writer.atlas.vertex]
    # 84 targets may each leave out 0.02 mm; here one is active.
    np.testing.assert_allclose(1000 * posed, expected, atol=0.05)
    assert np.abs(points - base).max() > 0.003  # the mouth is open by some mm
    neutral = model.mean[writer.atlas.vertex] + model.basis[0].view(-1, 3)[writer.atlas.vertex]
    np.testing.assert_allclose(1000 * base, neutral.numpy(), atol=1e-3)
    tangent = read(document, data, primitive["attributes"]["TANGENT"])
    normal = read(document, data, primitive["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    assert np.abs((tangent[:, :3] * normal).sum(1)).max() < 1e-4
    assert set(np.unique(tangent[:, 3])) <= {-1.0, 1.0}
    faces = read(document, data, primitive["indices"]).reshape(-1, 3)
    np.testing.assert_array_equal(writer.atlas.vertex[faces.astype(int)], model.triangles)


def test_trimesh_opens_the_file(tmp_path, model, writer):
    path = writer.save(photographed(model), tmp_path / "face.glb")
    assert path.stat().st_size < 6e6
    mesh = trimesh.load_scene(path, process=False).to_geometry()
    assert len(mesh.faces) == len(model.triangles)
    assert mesh.visual.material.baseColorTexture.size == (TEXELS, TEXELS)
    assert mesh.visual.material.normalTexture.size == (TEXELS, TEXELS)
    with pytest.raises(ValueError, match=r"face\.ply: a model mesh is a \.glb file"):
        writer.save(photographed(model), tmp_path / "face.ply")


THREE = """
async function begin(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const file = await new Promise((done, fail) =>
    new THREE.GLTFLoader().parse(bytes.buffer, '', done, fail));
  window.scene = new THREE.Scene();
  scene.add(file.scene, new THREE.AmbientLight(0xffffff, 1));
  file.scene.traverse((node) => { if (node.isMesh) window.mesh = node; });
  window.camera = new THREE.OrthographicCamera(-0.12, 0.12, 0.12, -0.12, -1, 1);
  window.renderer = new THREE.WebGLRenderer({preserveDrawingBuffer: true});
  renderer.outputEncoding = THREE.sRGBEncoding;
  renderer.setSize(200, 200);
  document.body.appendChild(renderer.domElement);
  return [mesh.morphTargetDictionary, mesh.morphTargetInfluences];
}
function seen(name, value) {
  mesh.morphTargetInfluences[mesh.morphTargetDictionary[name]] = value;
  renderer.render(scene, camera);
  const gl = renderer.getContext(), pixels = new Uint8Array(4 * 200 * 200);
  gl.readPixels(0, 0, 200, 200, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  return Array.from(pixels);
}
"""


@pytest.fixture
def three(browser):
    """A page with the three.js and the glTF loader that trimesh brings for its own viewer."""
    archive = importlib.resources.files("trimesh") / "resources/templates/viewer.zip"
    try:
        with archive.open("rb") as stream, zipfile.ZipFile(stream) as file:
            text = file.read("viewer.html.template").decode()
        start, end = text.index("<script>") + len("<script>"), text.index("var camera,controls")
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"this trimesh brings no three.js: {error}")
    page = browser.new_page(viewport={"width": 220, "height": 220})
    faults = []
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_content(f"<body><script>{text[start:end]}</script><script>{THREE}</script>")
    yield page
    page.close()
    assert faults == []


def test_three_js_shows_it_with_an_expression_at_0_and_at_1(three, model, writer):
    face = photographed(model)
    content = base64.b64encode(glb(writer.mesh(face))).decode()
    names, weights = three.evaluate("base64 => begin(base64)", content)
    assert set(names) == set(model.expression_names)
    assert weights[names["jawOpen"]] == pytest.approx(0.3, abs=1e-5)
    pictures = [
        np.array(three.evaluate("v => seen('jawOpen', v)", value), np.uint8)
        .reshape(200, 200, 4)[::-1, :, :3]
        .astype(int)
        for value in (0, 1)
    ]
    lit = [(picture.sum(2) > 0) for picture in pictures]
    assert 0.2 < lit[0].mean() < 0.9
    rows = [np.flatnonzero(each.any(1)) for each in lit]
    # The jaw drops, the top of the head stays.
    assert rows[0][0] == rows[1][0] and (pictures[0] != pictures[1]).any(2).sum() > 500
    middle = pictures[0][100, 90:110].mean(0) / 255
    np.testing.assert_allclose(middle, face.image[face.mask].mean(0), atol=0.2)
