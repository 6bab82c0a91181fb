"""Other programs open the files that are written, and find in them what was meant."""

import json

import numpy as np
import pytest
from PIL import Image
from test_model_mesh import photographed
from test_reconstruction import ball

from facerecon.model_mesh.export import ModelMeshWriter


@pytest.fixture(scope="module")
def model_glb(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "face_model.glb"
    return ModelMeshWriter(model, 96).save(photographed(model), path)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl"])
def test_meshio_reads_the_mesh(tmp_path, suffix):
    meshio = pytest.importorskip("meshio")
    face = ball()
    mesh = meshio.read(face.save(tmp_path / f"face{suffix}")[-1])
    triangles = mesh.cells_dict["triangle"]
    assert len(triangles) == len(face.faces)
    # .stl has no shared vertices, so corners are compared.
    np.testing.assert_allclose(
        mesh.points[triangles], face.vertices[face.faces], atol=1e-3, rtol=1e-5
    )


def test_opencv_reads_depth_as_pillow_does(tmp_path):
    cv2 = pytest.importorskip("cv2")
    face = ball()
    picture, reading = face.save_depth(tmp_path / "depth.png")
    values = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, np.asarray(Image.open(picture)))
    said = json.loads(reading.read_text())
    depth = said["offset_mm"] + said["step_mm"] * values[face.mask]
    np.testing.assert_allclose(depth, face.depth_mm[face.mask], atol=said["step_mm"])


@pytest.mark.parametrize("kind", ["detailed", "model"])
def test_pygltflib_reads_the_glb_and_it_keeps_the_rules(tmp_path, kind, model_glb):
    """What glTF 2.0 asks for and a validator would complain about."""
    pygltflib = pytest.importorskip("pygltflib")
    path = model_glb if kind == "model" else ball().save(tmp_path / "face.glb")[0]
    file = pygltflib.GLTF2().load(str(path))
    data = file.binary_blob()
    assert file.asset.version == "2.0" and file.buffers[0].byteLength <= len(data)
    for view in file.bufferViews:
        assert view.byteOffset + view.byteLength <= file.buffers[0].byteLength
    sizes = {5121: 1, 5123: 2, 5125: 4, 5126: 4}
    for accessor in file.accessors:
        if accessor.bufferView is not None:
            offset = accessor.byteOffset + file.bufferViews[accessor.bufferView].byteOffset
            assert offset % sizes[accessor.componentType] == 0
    for mesh in file.meshes:
        for primitive in mesh.primitives:
            place = file.accessors[primitive.attributes.POSITION]
            points = values(file, data, primitive.attributes.POSITION)
            np.testing.assert_allclose(points.min(0), place.min, atol=1e-7)
            np.testing.assert_allclose(points.max(0), place.max, atol=1e-7)
            index = values(file, data, primitive.indices)
            assert index.max() < place.count and len(index) % 3 == 0
            for target in primitive.targets or []:
                assert file.accessors[target["POSITION"]].count == place.count
        if kind == "model":
            names = mesh.extras["targetNames"]
            assert len(names) == len(set(names)) == len(mesh.weights)
            assert len(names) == len(mesh.primitives[0].targets)
    starts = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff"}
    assert file.images
    for image in file.images:
        view = file.bufferViews[image.bufferView]
        assert data[view.byteOffset :].startswith(starts[image.mimeType])


def values(file, data: bytes, number: int) -> np.ndarray:
    kinds = {5123: "<u2", 5125: "<u4", 5126: "<f4"}
    accessor = file.accessors[number]
    width = {"SCALAR": 1, "VEC3": 3}[accessor.type]
    start = accessor.byteOffset + file.bufferViews[accessor.bufferView].byteOffset
    found = np.frombuffer(data, kinds[accessor.componentType], accessor.count * width, start)
    return found.reshape(-1, width)
