import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_model_mesh import photographed

from facerecon.imaging import to_bytes
from facerecon.parameters import parameters, save_parameters

HOWTO = Path(__file__).parents[1] / "docs" / "howto.md"


def test_the_camera_puts_the_mesh_on_the_photograph(model):
    face = photographed(model, yaw=15)
    found = json.loads(json.dumps(parameters(face, model)))  # JSON values alone
    camera, pose = found["camera"], found["pose"]
    column, row = camera["origin_px"]
    x, y, _ = face.coarse_vertices[model.landmarks].T
    seen = np.stack([column + camera["pixels_per_mm"] * x, row - camera["pixels_per_mm"] * y], 1)
    np.testing.assert_allclose(seen, found["landmarks_px"], atol=0.01)
    edges = camera["orthographic_mm"]
    width = (edges["right"] - edges["left"]) * camera["pixels_per_mm"]
    assert width == pytest.approx(found["photograph"]["width"])
    left = column + camera["pixels_per_mm"] * edges["left"]
    top = row - camera["pixels_per_mm"] * edges["top"]
    assert (left, top) == (pytest.approx(-0.5), pytest.approx(-0.5))
    bottom = row - camera["pixels_per_mm"] * edges["bottom"]
    assert bottom == pytest.approx(found["photograph"]["height"] - 0.5)

    coefficients = np.array(found["identity"]), np.array(list(found["expression"].values()))
    coefficients = np.concatenate([coefficients[0], coefficients[1] / model.expression_std.numpy()])
    own = model.mean.numpy() + (coefficients @ model.basis.numpy()).reshape(-1, 3)
    placed = own @ np.array(pose["rotation"]).T + pose["translation_mm"]
    np.testing.assert_allclose(placed, face.coarse_vertices, atol=0.02)
    assert pose["angles_deg"]["yaw"] == pytest.approx(15, abs=1e-3)
    assert found["expression"]["jawOpen"] == pytest.approx(0.3, abs=1e-5)


def test_parameters_are_json_files(tmp_path, model):
    face = photographed(model)
    path = save_parameters(face, model, tmp_path / "face.json")
    assert json.loads(path.read_text())["format"] == "facerecon-face/1"
    with pytest.raises(ValueError, match=r"face\.txt: parameters are written as \.json"):
        save_parameters(face, model, tmp_path / "face.txt")


def test_the_howtos_python_puts_the_mesh_over_the_photograph(tmp_path, model, monkeypatch):
    face = photographed(model, yaw=15)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(to_bytes(face.image)).save("face.jpg")
    save_parameters(face, model, "face.json")
    mesh_face = {"vertices": face.coarse_vertices, "faces": face.coarse_faces}
    import trimesh

    trimesh.Trimesh(**mesh_face, process=False).export("face.ply")
    (code,) = re.findall(r"```python\n(# over the photograph.*?)```", HOWTO.read_text(), re.S)
    names: dict = {}
    exec(compile(code, "howto", "exec"), names)
    assert Path("over.png").is_file()
    outline = np.asarray(names["column"]), np.asarray(names["row"])
    assert (
        face.mask[
            np.rint(outline[1]).astype(int).clip(0, 255),
            np.rint(outline[0]).astype(int).clip(0, 255),
        ].mean()
        > 0.9
    )
