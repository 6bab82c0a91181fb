import hashlib
import http.server
import os
import pickle
import re
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import trimesh
from model_files import (
    EYES_ICT,
    N_ICT,
    Head,
    fake_chumpy,
    ict_arrays,
    python2_pickle,
    write_bfm2009,
    write_bfm_h5,
    write_flame,
    write_gnm,
    write_ict,
)
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK
from facerecon.converters import KINDS, bfm, convert, find, flame, gnm, ict
from facerecon.converters.complete import in_order
from facerecon.converters.fetch import COMMIT, checksums, fetch_ict
from facerecon.converters.fitting import NotAHeadError, normals_of, register_model
from facerecon.converters.pickled import PickledError, read_pickled
from facerecon.converters.transfer import transfer_landmarks
from facerecon.mesh import vertex_normals
from facerecon.morphable_model import ModelFileError, MorphableModel
from facerecon.render import render
from facerecon.synthetic.world import SyntheticWorld
from facerecon.training.presets import SyntheticConfig

PAGES = {
    "bfm": "faces.dmi.unibas.ch",
    "flame": "flame.is.tue.mpg.de",
    "gnm": "github.com/google/GNM",
    "ict": "github.com/ICT-VGL",
}


@pytest.fixture(scope="module")
def head(model) -> Head:
    return Head.of(model)


def convert_and_load(source: Path, out: Path) -> MorphableModel:
    assert convert(source, out) == out
    assert list(out.parent.glob(".*.tmp")) == []
    return MorphableModel.load(out)


def check_shapes(model, head, n_identity, n_expression, tolerance=0.02):
    """Equal faces, up to one shift, of equal coefficients; returns the shift.

    Bases are stored in half precision: 11 bits of the few mm that a component moves a vertex.
    """
    assert model.n_vertices == len(head.mean)
    torch.testing.assert_close(
        vertex_normals(model.mean[None], model.triangles),
        vertex_normals(
            torch.tensor(head.mean[None], dtype=torch.float32), torch.tensor(head.triangles)
        ),
        atol=2e-3,
        rtol=0,
    )
    rng = np.random.default_rng(5)
    coefficients = np.zeros((3, model.n_coefficients))
    coefficients[1:, :n_identity] = rng.normal(size=(2, n_identity))
    coefficients[1:, model.n_identity :][:, :n_expression] = rng.normal(size=(2, n_expression))
    expected = (
        head.mean
        + np.tensordot(coefficients[:, :n_identity], head.identity[:n_identity], 1)
        + np.tensordot(
            coefficients[:, model.n_identity :][:, :n_expression], head.expression[:n_expression], 1
        )
    )
    found = model.vertices(torch.tensor(coefficients, dtype=torch.float32)).numpy()
    shift = (found - expected).mean((0, 1))
    np.testing.assert_allclose(
        found - expected, np.broadcast_to(shift, found.shape), atol=tolerance
    )
    return shift


def check_whole_package_accepts(model):
    """Frame, landmarks, PNCC, regions, rendering and synthetic photographs."""
    landmarks = model.mean[model.landmarks]
    eyes = model.regions["eye_left"] + model.regions["eye_right"] > 0.5
    assert float(landmarks[36:48, 1].mean()) == pytest.approx(17, abs=3)
    if eyes.sum() > 100:  # eyeballs, not the few points of a skin that lie where they would be
        assert float(model.mean[eyes, 1].mean()) == pytest.approx(17, abs=2)
    assert float(landmarks[36:48, 1].mean()) == pytest.approx(15, abs=3)
    assert float(model.mean[:, 0].mean()) == pytest.approx(0, abs=1.5)
    assert torch.all(landmarks[36:42, 0] < -5) and torch.all(landmarks[42:48, 0] > 5)
    assert torch.all(landmarks[0:16, 0] < landmarks[1:17, 0])  # from the viewer's left to right
    assert landmarks[8, 1] < landmarks[57, 1] < landmarks[51, 1] < landmarks[33, 1]
    left = model.regions["eye_left"] > 0.5
    assert torch.all(model.mean[left, 0] > 10)  # the person's left is the viewer's right
    assert torch.equal(model.pncc.amin(0), torch.zeros(3))
    assert torch.equal(model.pncc.amax(0), torch.ones(3))
    mirrored = model.mean[model.mirror] * torch.tensor([-1.0, 1, 1])
    assert float((mirrored - model.mean).norm(dim=1).median()) < 4  # the person is not symmetric
    assert float(model.albedo_mean.min()) >= 0 and float(model.albedo_mean.max()) <= 1
    assert float(model.uv.min()) >= 0 and float(model.uv.max()) <= 1

    maps = render(model, torch.zeros(1, model.n_coefficients + 6), 100)
    assert 0.15 < float(maps.mask.float().mean()) < 0.7
    assert float(maps.normals[:, 2][maps.mask[:, 0]].mean()) > 0.5  # it looks at the viewer
    world = SyntheticWorld(model, SyntheticConfig(size=64))
    faces = world.render(2, world.generator(0))
    assert torch.isfinite(faces.image).all() and float(faces.image.std()) > 0.05


def landmark_errors(model, head) -> np.ndarray:
    return np.linalg.norm(head.mean[model.landmarks.numpy()] - head.mean[head.landmarks], axis=1)


def test_bfm_2009(tmp_path, head):
    write_bfm2009(tmp_path / "01_MorphableModel.mat", head)
    model = convert_and_load(tmp_path, tmp_path / "bfm.npz")
    check_shapes(model, head, 4, 0)
    check_whole_package_accepts(model)
    # This model has no expressions: it gets the default model's.
    assert model.n_expression == 84
    index = model.expression_index("jawOpen")
    opened = (
        model.basis[index].view(-1, 3)[model.landmarks]
        / model.expression_std[index - model.n_identity]
    )
    assert opened[8, 1] < -15 and abs(opened[30, 1]) < 2
    assert float(opened[62:65, 1].mean()) > float(opened[65:68, 1].mean()) + 10  # the lips part
    np.testing.assert_allclose(model.albedo_mean, head.albedo, atol=2e-3)
    found = model.albedo(torch.tensor([[1.0, -2.0]]))[0].numpy()
    expected = head.albedo + head.albedo_basis[0] - 2 * head.albedo_basis[1]
    np.testing.assert_allclose(found, expected, atol=5e-3)
    # Another person of the default model: the landmarks' vertices are known.
    errors = landmark_errors(model, head)
    assert errors.mean() < 3 and np.median(errors) < 2
    assert "landmarks" in " ".join(model.provenance["notes"])


def test_bfm_h5(tmp_path, head):
    head = head.without_inner_parts()
    path = tmp_path / "model2019_bfm.h5"
    write_bfm_h5(path, head)
    model = convert_and_load(path, tmp_path / "bfm.npz")
    check_shapes(model, head, 4, 3)
    check_whole_package_accepts(model)
    assert model.expression_names == ("expression_000", "expression_001", "expression_002")
    assert model.provenance["source"] == "Basel Face Model 2019"
    assert model.expression_is_component.all()
    drawn = model.sample(200, torch.Generator().manual_seed(0))[:, model.n_identity :]
    assert ((drawn < 0).any(0) & (drawn > 0).any(0)).all()
    np.testing.assert_allclose(model.albedo_mean, head.albedo, atol=2e-3)


@pytest.mark.parametrize("name", ["model2009-publicmm1-bfm.h5", "model2017-1_bfm_nomouth.h5"])
def test_the_other_h5_files(tmp_path, head, name):
    path, with_expression = tmp_path / name, "2017" in name
    write_bfm_h5(path, head, with_expression)
    source = bfm.read(path)
    shift = 0 if with_expression else -1.0  # the expression's mean belongs to the face
    np.testing.assert_allclose(source.vertices, head.mean + shift, atol=1e-4)
    np.testing.assert_allclose(source.identity, head.identity, atol=1e-4)
    np.testing.assert_array_equal(source.triangles, head.triangles)
    assert len(source.expression) == (3 if with_expression else 0)


@pytest.mark.parametrize("protocol", ["python 2", 0, 2, 4, 5])
def test_flame_is_read_as_it_was_written(tmp_path, head, protocol):
    path = tmp_path / "flame2023.pkl"
    written = write_flame(path, head, protocol)
    source = flame.read(path)
    np.testing.assert_allclose(source.vertices, head.mean, rtol=1e-6)
    np.testing.assert_allclose(source.identity, head.identity, atol=1e-5)
    np.testing.assert_allclose(source.expression[:3], head.expression, atol=1e-5)
    np.testing.assert_array_equal(source.triangles, head.triangles)
    np.testing.assert_array_equal(read_pickled(path)["weights"], written["weights"])


def test_flame(tmp_path, head):
    # Eyeballs and skin as separate pieces, as in the original; the mouth is open to nothing.
    head = head.part(~head.mouth[head.triangles].any(1))
    path = tmp_path / "generic_model.pkl"
    written = write_flame(path, head)
    converted = convert_and_load(tmp_path, tmp_path / "flame.npz")
    check_shapes(converted, head, 4, 3)
    check_whole_package_accepts(converted)
    assert torch.equal(converted.regions["eye_left"] > 0.5, torch.tensor(head.eyes[0]))
    assert torch.equal(converted.regions["eye_right"] > 0.5, torch.tensor(head.eyes[1]))
    # Modes that move nothing are dropped; the jaw is added.
    assert converted.expression_names[-1] == "jawOpen" and converted.n_expression == 4
    unit = converted.basis[-1].view(-1, 3).numpy() / float(converted.expression_std[-1])
    np.testing.assert_allclose(unit, 1000 * naive_jaw(written), atol=0.05)
    assert len(set(converted.expression_group.tolist())) == 4


def naive_jaw(arrays) -> np.ndarray:
    """Linear blend skinning with 4x4 matrices, one vertex at a time."""
    joints = arrays["J_regressor"] @ arrays["v_template"]
    rotations = np.stack([np.eye(3)] * 5)
    rotations[2] = Rotation.from_euler("x", flame.JAW_OPEN).as_matrix()
    feature = np.concatenate([(r - np.eye(3)).ravel() for r in rotations[1:]])
    moved = np.zeros_like(arrays["v_template"])
    for v, rest in enumerate(arrays["v_template"]):
        posed = rest + arrays["posedirs"][v] @ feature
        weight = arrays["weights"][v].copy()
        weight[0] = 1 - weight[1:].sum()  # the rest hangs on the root, which does not turn
        transform = np.zeros((4, 4))
        for joint in range(5):
            there, turn, back = np.eye(4), np.eye(4), np.eye(4)
            there[:3, 3], back[:3, 3], turn[:3, :3] = (
                joints[joint],
                -joints[joint],
                rotations[joint],
            )
            transform += weight[joint] * there @ turn @ back
        moved[v] = (transform @ [*posed, 1])[:3] - rest
    return moved


def test_gnm(tmp_path, head):
    write_gnm(tmp_path / "gnm_head.npz", head)
    model = convert_and_load(tmp_path, tmp_path / "gnm.npz")
    check_shapes(model, head, 4, 3)
    check_whole_package_accepts(model)
    np.testing.assert_array_equal(model.landmarks, head.landmarks)  # the jaw in iBUG's order
    assert model.n_identity == 4  # the fifth moves only teeth, which are left out
    assert model.expression_names == ("lower_face_0", "lower_face_1", "lower_face_2")
    corners = np.random.default_rng(2).random((len(head.mean), 2))
    found = model.uv[model.uv_triangles].numpy()
    np.testing.assert_allclose(found, corners[head.triangles], atol=1e-6)
    for name, mask in zip(
        ("eye_left", "eye_right", "mouth_interior"), (*head.eyes, head.mouth), strict=True
    ):
        np.testing.assert_array_equal(model.regions[name] > 0.5, mask)


def test_gnm_finds_the_landmarks_of_a_clone(tmp_path, head):
    data = tmp_path / "gnm" / "shape" / "data"
    (data / "versions" / "v3_0").mkdir(parents=True)
    (data / "landmarks").mkdir()
    write_gnm(data / "versions" / "v3_0" / "gnm_head.npz", head)
    text = data / "versions" / "v3_0" / "head_sparse_68.txt"
    os.replace(text, data / "landmarks" / text.name)
    kind, path = find(tmp_path)
    assert kind == "gnm"
    assert sorted(gnm.read(path).landmarks) == sorted(head.landmarks)


def small_head(head: Head) -> Head:
    """Without the deepest tenth, so that the skin fits on ICT-FaceKit's vertices."""
    near = head.mean[:, 2] > np.quantile(head.mean[:, 2], 0.1)
    return head.part(near[head.triangles].all(1))


def test_ict(tmp_path, head):
    head = small_head(head)
    mean, triangles, identity, expression, place = ict_arrays(head)
    names = ["browInnerUp_L", "browInnerUp_R", "jawOpen"]
    units = dict(zip(names, expression, strict=True)) | {"mouthClose": expression[0]}
    landmarks = place[head.landmarks]
    write_ict(tmp_path, mean, triangles, identity, units, landmarks)
    model = convert_and_load(tmp_path, tmp_path / "ict.npz")
    order = np.argsort(place)  # the skin first, then mouth and eyeballs
    moved = Head(
        head.mean[order],
        np.searchsorted(place[order], place[head.triangles]),
        head.identity[:, order],
        head.expression[:, order] * model.expression_std.numpy()[:, None, None],
        *(None,) * 5,
    )
    check_shapes(model, moved, 4, 3)
    check_whole_package_accepts(model)
    assert model.expression_names == ("browInnerUpLeft", "browInnerUpRight", "jawOpen")
    assert not model.expression_is_component.any()
    assert model.expression_partner.tolist() == [1, 0, 2]
    assert model.expression_group[0] == model.expression_group[1] != model.expression_group[2]
    np.testing.assert_array_equal(order[model.landmarks.numpy()], head.landmarks)


@pytest.mark.slow
def test_the_real_ict_facekit(tmp_path, model, optional_data):
    with np.load(optional_data("ict_facekit/ict_facekit.npz"), allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    n_face = 11248  # face, head and neck; then the eyeballs
    where = np.r_[0:n_face, EYES_ICT[0] : EYES_ICT[1] + 1570]
    chosen = [data["expression_names"].tolist().index(n) for n in ("eyeBlink_L", "jawOpen")]

    def spread(values):
        wide = np.zeros((*values.shape[:-2], N_ICT, 3))
        wide[..., where, :] = values
        return wide

    units = spread(data["expression"][chosen].astype(np.float64))
    folder = write_ict(
        tmp_path,
        spread(data["mean"].astype(np.float64)),
        where[data["faces"]],
        spread(data["identity"][:3].astype(np.float64)),
        {"eyeBlink_L": units[0], "jawOpen": units[1]},
        data["landmarks68"],
    )
    converted = convert_and_load(folder, tmp_path / "ict.npz")
    check_whole_package_accepts(converted)
    # The mesh was cut to the head that the default model shows: match vertices by their place.
    landmarks = converted.mean[converted.landmarks].numpy()
    truth = data["mean"][data["landmarks68"]]
    shift = (truth - landmarks).mean(0)
    np.testing.assert_allclose(landmarks + shift, truth, atol=1e-3)
    assert abs(shift[0]) < 0.01  # the data are symmetric about x = 0
    distance, index = cKDTree(data["mean"]).query(converted.mean.numpy() + shift)
    assert distance.max() < 1e-3
    assert np.isin(np.arange(6706), index).all()  # all of the narrow face
    found = converted.basis[:3].view(3, -1, 3).numpy()
    np.testing.assert_allclose(found, data["identity"][:3, index], atol=0.02)
    full = converted.basis[3:].view(2, -1, 3) / converted.expression_std[:, None, None]
    np.testing.assert_allclose(full, data["expression"][chosen][:, index], atol=0.05)
    left = full[0].norm(dim=1).argmax()
    assert converted.expression_names[0] == "eyeBlinkLeft" and converted.mean[left, 0] > 0

    # How well landmarks are carried over by shape alone, where their places are known.
    skin = data["faces"][(data["faces"] < n_face).all(1)]
    laid = register_model(model, data["mean"].astype(np.float64), skin)
    assert laid.distance < 1
    guessed = transfer_landmarks(model, laid, data["mean"].astype(np.float64), skin)
    error = np.linalg.norm(data["mean"][guessed] - truth, axis=1)
    inner = np.r_[27:36, 48:68]  # nose and mouth; brows and jaw are marked differently
    assert error[inner].mean() < 3 and error[36:48].mean() < 5


def test_the_jaw_is_put_in_order(model, rng):
    landmarks = model.landmarks.numpy()
    shuffled = landmarks.copy()
    shuffled[:17] = rng.permutation(shuffled[:17])
    np.testing.assert_array_equal(in_order(shuffled, model.mean.numpy()), landmarks)


@pytest.mark.parametrize("what", ["a ball", "metres", "turned"])
def test_what_is_no_head(model, what):
    vertices, triangles = model.mean.numpy().astype(np.float64), model.triangles.numpy()
    if what == "a ball":
        ball = trimesh.creation.icosphere(subdivisions=4, radius=90)
        vertices, triangles = ball.vertices.view(np.ndarray), ball.faces.view(np.ndarray)
    elif what == "metres":
        vertices = vertices / 1000
    else:
        vertices = vertices[:, [2, 0, 1]]
    with pytest.raises(NotAHeadError, match="no face was found"):
        register_model(model, vertices, triangles)


def test_normals_point_outward(model):
    normals = normals_of(model.mean.numpy(), model.triangles.numpy())
    assert normals[model.landmarks[30], 2] > 0.8


# What is not a model, or not one any more.


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_says_what_to_do(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match="no such file") as caught:
        convert(tmp_path / "nothing", tmp_path / "out.npz", kind)
    message = str(caught.value)
    assert PAGES[kind] in message and "every chapter runs with it" in message
    with pytest.raises(ModelFileError, match=PAGES[kind]):
        convert(tmp_path, tmp_path / "out.npz", kind)
    assert list(tmp_path.iterdir()) == []


def test_without_a_kind_all_are_named(tmp_path):
    (tmp_path / "model.npz").write_text("something else")
    for source in (tmp_path / "nothing", tmp_path / "model.npz", tmp_path):
        with pytest.raises((FileNotFoundError, ModelFileError)) as caught:
            convert(source, tmp_path / "out.npz")
        assert all(page in str(caught.value) for page in PAGES.values())


def test_two_models_in_a_folder(tmp_path, head):
    write_bfm_h5(tmp_path / "model2019_bfm.h5", head)
    write_bfm_h5(tmp_path / "model2017-1_bfm_nomouth.h5", head)
    with pytest.raises(ModelFileError, match=r"model2017-1_bfm_nomouth.h5, model2019_bfm.h5"):
        find(tmp_path)


WRITERS = {
    "01_MorphableModel.mat": (write_bfm2009, bfm.read),
    "model2019_bfm.h5": (write_bfm_h5, bfm.read),
    "generic_model.pkl": (write_flame, flame.read),
    "gnm_head.npz": (write_gnm, gnm.read),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file(tmp_path, head, name):
    path = tmp_path / name
    write, read = WRITERS[name]
    write(path, head)
    content = path.read_bytes()
    kind, _ = find(path)
    for share in (0.02, 0.5, 0.97):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelFileError) as caught:
            read(path)
        assert path.name in str(caught.value) and PAGES[kind] in str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_another_format(tmp_path, head, name):
    path = tmp_path / name
    other = "01_MorphableModel.mat" if name == "gnm_head.npz" else "gnm_head.npz"
    write_gnm(tmp_path / "gnm_head.npz", head)
    WRITERS[other][0](path, head)
    with pytest.raises(ModelFileError):
        WRITERS[name][1](path)


def test_a_bfm_without_an_array(tmp_path, head):
    from scipy.io import loadmat, savemat

    path = tmp_path / "01_MorphableModel.mat"
    write_bfm2009(path, head)
    arrays = loadmat(path)
    savemat(path, {name: arrays[name] for name in bfm.ARRAYS_2009 if name != "texPC"})
    with pytest.raises(ModelFileError, match="'texPC' is missing"):
        bfm.read(path)


def test_h5_without_h5py(tmp_path, head, monkeypatch):
    path = tmp_path / "model2019_bfm.h5"
    write_bfm_h5(path, head)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"facerecon\[models\]"):
        bfm.read(path)


@pytest.fixture
def ict_folder(tmp_path, head):
    mean, triangles, identity, expression, place = ict_arrays(small_head(head))
    landmarks = place[small_head(head).landmarks]
    return write_ict(tmp_path, mean, triangles, identity[:2], {"jawOpen": expression[0]}, landmarks)


@pytest.mark.parametrize(
    "name", ["generic_neutral_mesh.obj", "vertex_indices.json", "identity000.obj", "jawOpen.obj"]
)
def test_an_incomplete_ict_folder(ict_folder, name):
    path = ict_folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ModelFileError, match=re.escape(name)):
        ict.read(ict_folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(PAGES["ict"])):
        ict.read(ict_folder)


def test_a_failed_conversion_leaves_nothing(tmp_path, head):
    # A head that looks away is none in the expected frame.
    head.without_inner_parts()
    turned = Head(**vars(head.without_inner_parts()))
    turned.mean = turned.mean * [1, -1, -1]
    write_bfm2009(tmp_path / "01_MorphableModel.mat", turned)
    with pytest.raises(ModelFileError, match="no face was found"):
        convert(tmp_path, tmp_path / "out.npz")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert(tmp_path, tmp_path / "away" / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["01_MorphableModel.mat"]


# Pickles are data here, never programs.


class Call:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def dangerous(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    evil = pickle.dumps(Call(os.system, command), 2)
    return {
        "system": pickle.dumps({"v_template": Call(os.system, command)}, 2),
        "eval": pickle.dumps({"v_template": Call(eval, code)}, 4),
        "exec": pickle.dumps({"f": [Call(exec, code)]}, 0),
        "loads": pickle.dumps({"f": Call(pickle.loads, evil)}, 2),
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
        "runstring": b"cnumpy.testing._private.utils\nrunstring\n(S'"
        + code.replace("'", '"').encode()
        + b"'\n(dtR.",
        "load": b"cnumpy\nload\n(S'file.npy'\nI01\ntR.",
        "INST": f"(S'{command}'\nios\nsystem\n.".encode(),
        "OBJ": f"(cos\nsystem\nS'{command}'\no.".encode(),
        "EXT1": b"\x80\x02\x82\x01.",
        "PERSID": b"P1\n.",
        "a call of ndarray": b"cnumpy\nndarray\n(I1000000\ntR.",
        "a state": b"cnumpy\ndtype\n}b.",
        "no dictionary": b"(lp0\n.",
        "object array": pickle.dumps({"f": np.array([{}], dtype=object)}, 2),
    }


@pytest.mark.parametrize("name", dangerous(Path("unused")))
def test_a_dangerous_pickle_does_nothing(tmp_path, name):
    marker, path = tmp_path / "marker", tmp_path / "generic_model.pkl"
    path.write_bytes(dangerous(marker)[name])
    with pytest.raises(PickledError):
        read_pickled(path)
    with pytest.raises(ModelFileError, match=PAGES["flame"]):
        flame.read(path)
    assert not marker.exists()


def test_the_marker_would_appear(tmp_path):
    """The pickles above are really dangerous: Python's own reader runs them."""
    marker = tmp_path / "marker"
    pickle.loads(dangerous(marker)["system"])
    assert marker.exists()


def test_a_refused_name_is_told(tmp_path):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(dangerous(tmp_path / "marker")["eval"])
    with pytest.raises(PickledError, match=r"builtins\.eval"):
        read_pickled(path)


@pytest.mark.parametrize("protocol", ["python 2", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_arrays_survive_every_protocol(tmp_path, rng, protocol):
    shared = rng.normal(size=(3, 4)).astype(">f4")
    values = {
        "fortran": np.asfortranarray(rng.normal(size=(4, 2, 3))),
        "big endian": shared,
        "the same once more": [shared, (shared, None, True, 2, 3.5, "é", 10**20)],
        "scalar": np.float32(1.5),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "csc": sp.csc_matrix(np.eye(3)),
        "csr": sp.csr_matrix(np.diag([1.0, 2, 0])),
    }
    with fake_chumpy() as array_class:
        array = array_class()
        array.x = np.arange(6).reshape(2, 3)
        stored = values | {"chumpy": array}
        data = python2_pickle(stored) if protocol == "python 2" else pickle.dumps(stored, protocol)
    (tmp_path / "file.pkl").write_bytes(data)
    found = read_pickled(tmp_path / "file.pkl")
    for name in ("fortran", "big endian", "bool", "empty", "scalar"):
        np.testing.assert_array_equal(found[name], values[name])
        assert found[name].dtype == values[name].dtype
    np.testing.assert_array_equal(found["chumpy"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(found["csc"].toarray(), np.eye(3))
    np.testing.assert_array_equal(found["csr"].toarray(), np.diag([1, 2, 0]))
    again, rest = found["the same once more"]
    assert again is found["big endian"] is rest[0]
    assert rest[1:5] == (None, True, 2, 3.5) and rest[6] == 10**20


# Fetching.


@pytest.fixture
def server(tmp_path):
    """A small stand-in for the repository, and the paths that were asked for."""
    root = tmp_path / "served"
    (root / "FaceXModel").mkdir(parents=True)
    (root / "LICENSE").write_text("MIT")
    (root / "FaceXModel" / "identity000.obj").write_text("v 0 0 0\n")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/", root, asked
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def hashes(root: Path) -> dict[str, str]:
    paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def test_fetching(tmp_path, server):
    address, root, asked = server
    wanted, folder = hashes(root), tmp_path / "ict"
    assert fetch_ict(folder, address, wanted) == folder / "FaceXModel"
    assert hashes(folder) == wanted
    asked.clear()
    (folder / "LICENSE").write_text("damaged")
    fetch_ict(folder, address, wanted)
    assert asked == ["/LICENSE"]  # only what is missing or wrong
    assert hashes(folder) == wanted


def test_fetched_files_are_checked(tmp_path, server):
    address, root, _ = server
    wanted, folder = hashes(root), tmp_path / "ict"
    (root / "FaceXModel" / "identity000.obj").write_text("something else")
    with pytest.raises(OSError, match="SHA-256"):
        fetch_ict(folder, address, wanted)
    with pytest.raises(OSError, match="cannot be fetched"):
        fetch_ict(folder, address, {"FaceXModel/identity001.obj": "0" * 64})
    assert set(hashes(folder)) <= {"LICENSE"}


def test_the_pinned_files():
    pinned = checksums()
    assert len(COMMIT) == 40
    assert {f"FaceXModel/identity{i:03d}.obj" for i in range(100)} < pinned.keys()
    assert {"LICENSE", "FaceXModel/generic_neutral_mesh.obj"} < pinned.keys()
    assert len(pinned) == 100 + 52 + 3  # mouthClose is not used
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned.values())


# The command.


def test_command(tmp_path, head, capsys):
    write_gnm(tmp_path / "gnm_head.npz", head)
    out = tmp_path / "gnm.npz"
    assert main(["model", "convert", str(tmp_path), "--out", str(out)]) == OK
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["model", "info", str(out)]) == OK
    shown = capsys.readouterr().out
    assert "4 identity, 3 expression" in shown and "source: GNM Head v3" in shown
    assert "Apache-2.0" in shown


def test_command_without_a_file(tmp_path, capsys):
    out = tmp_path / "out.npz"
    source = str(tmp_path / "generic_model.pkl")
    assert main(["model", "convert", source, "--out", str(out), "--kind", "flame"]) == FAILED
    assert PAGES["flame"] in capsys.readouterr().err
    assert not out.exists()


def test_only_ict_is_fetched(tmp_path):
    command = ["model", "convert", str(tmp_path), "--out", str(tmp_path / "o.npz"), "--fetch"]
    with pytest.raises(SystemExit):
        main([*command, "--kind", "bfm"])
