import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from skimage import data as photographs

import facerecon
from facerecon import __version__, pipeline
from facerecon.cli import _parser, main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands import reconstruct, view
from facerecon.commands.outcome import FAILED, OK, USAGE
from facerecon.finenet import FineNet, FineNetConfig
from facerecon.reconstruction import MESH_FORMATS
from facerecon.weights import ModelCard, save_weights

CARD = ModelCard("coarse", "quick", "none", 0, 0, 0.0, "unknown", {}, {})
BOX = ["--box", "177", "68", "93", "93"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    """Options that name untrained networks; they reconstruct something near the mean face."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    coarse, fine = folder / "coarse.safetensors", folder / "fine.safetensors"
    network = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0)).eval()
    save_weights(coarse, network, CARD)
    save_weights(fine, FineNet(FineNetConfig(width=4, regressor=(8, 8))).eval(), CARD)
    return ["--coarse", str(coarse), "--fine", str(fine), "--refine", "finenet"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "astronaut.png"
    Image.fromarray(photographs.astronaut()).save(path)
    return path


def usage_error(argv) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    return caught.value.code


def test_one_photograph_gives_all_files(tmp_path, photo, weights, capsys):
    out = tmp_path / "results"
    code = main(["reconstruct", str(photo), "--out", str(out), "--formats", "ply,OBJ", *weights])
    assert code == OK
    names = {
        "astronaut.ply", "astronaut.obj", "astronaut.mtl", "astronaut_texture.png",
        "astronaut_depth.npy", "astronaut_depth.png", "astronaut_depth.json",
        "astronaut_preview.png",
    }  # fmt: skip
    assert {path.name for path in out.iterdir() if path.is_file()} == names
    depth = np.load(out / "astronaut_depth.npy")
    assert depth.shape == (512, 512)
    reading = json.loads((out / "astronaut_depth.json").read_text())
    values = np.asarray(Image.open(out / "astronaut_depth.png"))
    mask = values > 0
    np.testing.assert_array_equal(mask, np.isfinite(depth))
    restored = reading["offset_mm"] + reading["step_mm"] * values[mask]
    np.testing.assert_allclose(restored, depth[mask], atol=reading["step_mm"])
    assert len(trimesh.load(out / "astronaut.ply").faces) > 10_000
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == f"[1/1] {photo} -> {out / 'astronaut.ply'}\n"


def test_a_bad_photograph_does_not_stop_the_others(tmp_path, photo, weights, capsys):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.jpg"
    bad.write_bytes(b"")
    blank = tmp_path / "blank.png"
    Image.new("RGB", (80, 80)).save(blank)
    arguments = [str(p) for p in (bad, missing, tmp_path / "*.tiff", blank, photo)]
    code = main(["reconstruct", *arguments, "--out", str(tmp_path / "out"), *weights])
    assert code == FAILED
    captured = capsys.readouterr()
    assert "[4/4]" in captured.out
    assert (tmp_path / "out" / "astronaut.ply").exists()
    lines = captured.err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["facerecon"] * 5
    causes = ("no file matches", "empty", "no such file", "no face", "4 failed, 1 done")
    for line, cause in zip(lines, causes, strict=True):
        assert cause in line
    for line, path in zip(lines[1:4], (bad, missing, blank), strict=True):
        assert str(path) in line


def test_photographs_of_the_same_name_do_not_overwrite_each_other(tmp_path, photo, weights):
    twin = tmp_path / "album" / "astronaut.png"
    twin.parent.mkdir()
    twin.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    assert (
        main(["reconstruct", str(photo), str(twin), str(photo), "--out", str(out), *weights]) == OK
    )
    assert {path.name for path in out.glob("*.ply")} == {"astronaut.ply", "astronaut-2.ply"}


def test_the_photograph_itself_survives(tmp_path, photo, weights):
    before = photo.read_bytes()
    arguments = ["reconstruct", str(photo), "--out", str(photo.parent), "--formats", "obj"]
    assert main([*arguments, *weights]) == OK
    assert photo.read_bytes() == before


def test_all_faces_are_numbered(tmp_path, weights):
    head = photographs.astronaut()[30:200, 140:310]
    group = np.full((200, 400, 3), 128, np.uint8)
    group[10:180, 10:180] = group[10:180, 210:380] = head
    Image.fromarray(group).save(tmp_path / "group.png")
    arguments = ["reconstruct", str(tmp_path / "group.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--all-faces", *weights]) == OK
    assert {p.name for p in (tmp_path / "out").glob("*.ply")} == {"group.ply", "group_face2.ply"}


def test_box_size_and_no_refine(tmp_path, photo, weights, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["reconstruct", str(photo), *out, *BOX, "--no-refine", *weights[:2]]) == OK
    assert main(["reconstruct", str(photo), *out, *BOX, "--size", "400", *weights]) == OK
    assert f"{photo}: the face's crop is 112 pixels wide" in capsys.readouterr().err
    far = ["--box", "9000", "0", "50", "50"]
    assert main(["reconstruct", str(photo), *out, *far, *weights]) == FAILED
    assert "outside the image of 512 x 512" in capsys.readouterr().err


def test_reports_model_mesh_and_parameters(tmp_path, photo, weights, capsys):
    twin = tmp_path / "twin.png"
    twin.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    argv = ["reconstruct", str(photo), str(twin), "--out", str(out), "--formats", "glb,json"]
    argv += ["--mesh", "model", "--report", *weights]
    assert main(argv) == OK
    for name in ("astronaut", "twin"):
        for rest in (".glb", ".json", "_model.glb", "_report.html", "_preview.png"):
            assert (out / f"{name}{rest}").is_file(), rest
    found = json.loads((out / "twin.json").read_text())
    assert found["photograph"] == {"width": 512, "height": 512}
    sheet = (out / "faces.html").read_text()
    assert re.findall(r'<a href="(.*?)"', sheet) == ["astronaut_report.html", "twin_report.html"]
    assert capsys.readouterr().out.splitlines()[-1] == f"all 2 faces -> {out / 'faces.html'}"
    (out / "faces.html").write_text("mine")
    assert main(argv) == FAILED  # all done before, but the sheet would overwrite a file
    assert "is no page of facerecon's" in capsys.readouterr().err
    assert (out / "faces.html").read_text() == "mine"


def test_a_solid_for_a_printer(tmp_path, photo, weights):
    arguments = ["reconstruct", str(photo), "--out", str(tmp_path), "--solid", "3", *weights]
    assert main(arguments) == OK
    mesh = trimesh.load(tmp_path / "astronaut_solid.stl")
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 1e5  # mm^3


def test_bad_weights_are_one_line(tmp_path, photo, weights, capsys):
    (tmp_path / "bad.safetensors").write_bytes(b"junk")
    argv = ["reconstruct", str(photo), "--out", str(tmp_path / "out"), *weights]
    assert main([*argv, "--coarse", str(tmp_path / "bad.safetensors")]) == FAILED
    assert main([*argv, "--fine", str(tmp_path / "none.safetensors")]) == FAILED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "bad.safetensors: not a readable" in lines[0]
    assert "none.safetensors: no such" in lines[1]


def test_an_unwritable_output_folder_is_one_line(tmp_path, photo, weights, capsys):
    (tmp_path / "file").write_text("")
    argv = ["reconstruct", str(photo), *BOX, "--out", str(tmp_path / "file" / "out"), *weights]
    assert main(argv) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


def test_an_unknown_device_is_one_line(tmp_path, photo, weights, capsys):
    for device in ("warp", "cuda:99"):
        argv = ["reconstruct", str(photo), "--out", str(tmp_path), "--device", device, *weights]
        assert main(argv) == FAILED
        (line,) = capsys.readouterr().err.splitlines()
        assert f"device '{device}': " in line and "there is: cpu" in line


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["paint"],
        ["reconstruct"],
        ["reconstruct", "a.jpg"],
        ["reconstruct", "a.jpg", "--out", "x", "--size", "300"],
        ["reconstruct", "a.jpg", "--out", "x", "--formats", "ply,dae"],
        ["reconstruct", "a.jpg", "--out", "x", "--solid", "0.3"],
        ["reconstruct", "a.jpg", "--out", "x", "--box", "1", "2", "3"],
        ["reconstruct", "a.jpg", "b.jpg", "--out", "x", *BOX],
        ["reconstruct", "a.jpg", "--out", "x", "--all-faces", *BOX],
        ["reconstruct", "a.jpg", "--out", "x", "--box", "nan", "2", "3", "3"],
        ["reconstruct", "a.jpg", "--out", "x", "--box", "1", "2", "0", "3"],
        ["reconstruct", "a.jpg", "--out", "x", "--solid", "nan"],
        ["reconstruct", "a.jpg", "--out", "x", "--no-refine", "--fine", "x.safetensors"],
        ["reconstruct", "a.jpg", "--out", "x", "--no-refine", "--refine", "finenet"],
        ["reconstruct", "a.jpg", "--out", "x", "--over"],
        ["reproduce", "--jobs", "0"],
        ["train", "everything"],
        ["train", "coarse", "--samples", "0"],
        ["train", "coarse", "--cooldown", "1.5"],
        ["train", "coarse", "--minutes", "nan"],
        ["train", "coarse", "--threads", "0"],
        ["evaluate", "synthetic", "--count", "0"],
        ["evaluate", "synthetic", "--iterations", "none"],
        ["evaluate", "scans", "x", "--out", "x", "--jobs", "0"],
        ["bench", "write", "x", "--subjects", "-1"],
        ["data"],
        ["data", "write", "--out", "x", "--count", "0", "--shards", "1"],
        ["data", "write", "--out", "x", "--count", "9", "--shards", "1", "--seed", "-1"],
        ["data", "report", "--out", "x"],
    ],
)
def test_wrong_usage_is_exit_code_2(argv, capsys):
    assert usage_error(argv) == USAGE
    assert capsys.readouterr().err.startswith("usage: facerecon")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["reproduce", "fig_99"], "unknown item 'fig_99'"),
        (["reproduce", "fig_03", "--preset", "silly"], "unknown preset 'silly'"),
        (["reproduce", "fig_03", "-p", "nope", "3"], "has no parameter 'nope'"),
        (["reproduce", "fig_03", "-p", "seed", "x"], "is not of type int"),
        (["reproduce", "fig_03", "-p", "output_dir", "x"], "give --out instead"),
        (["reproduce", "fig_03", "-p", "preset", "full"], "give --preset instead"),
        (["reproduce", "fig_03", "-p", "seed", "1", "-p", "seed", "2"], "given 2 times"),
        (["reproduce", "table_01", "--frgc", ".", "-p", "frgc", "x"], "give --frgc instead"),
        (["reproduce", "fig_03", "--out", "x", "--against", "x"], "the results themselves"),
        (["data", "write", "--out", "x", "--count", "9", "--shards", "1", "--preset", "z"], "z"),
        (["train", "coarse", "--preset", "silly"], "--preset silly: unknown"),
        (["train", "coarse", "--photos", "x"], "--photos is for fine and end-to-end"),
        (["train", "coarse", "--supervised"], "--supervised is for fine, not coarse"),
        (["train", "fine", "--heads", "x", "--photos", "x"], "--heads is for coarse, not fine"),
        (["train", "aligned", "--data", "x"], "--data is for coarse, not aligned"),
        (["train", "fine", "--normals", "x", "--supervised"], "--normals is for normals, not fine"),
        (["train", "fine"], "needs --photos"),
        (["evaluate", "scans", "x", "--out", "x", "--methods", "magic"], "unknown method 'magic'"),
    ],
)
def test_what_is_not_there_or_would_be_ignored_is_wrong_usage(
    argv, said, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACERECON_ROOT", str(Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    assert main(argv) == USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(tmp_path.iterdir())


def test_info_lists_all_weights_that_ship(capsys):
    assert main(["info"]) == OK
    assets = Path(facerecon.__file__).parent / "assets"
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert {path.stem for path in assets.glob("*.safetensors")} <= shown


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["reconstruct"],
        ["view"],
        ["video"],
        ["demo"],
        ["train"],
        ["data"],
        ["data", "write"],
        ["reproduce"],
        ["info"],
    ],
)
def test_help_tells_the_exit_codes(command, capsys):
    assert usage_error([*command, "--help"]) == OK
    text = capsys.readouterr().out
    assert "exit codes: 0 all went well, 1 something failed, 2 wrong usage" in text


def test_version(capsys):
    assert usage_error(["--version"]) == OK
    assert capsys.readouterr().out == f"facerecon {__version__}\n"


def test_train_hands_over(monkeypatch, tmp_path, capsys):
    from facerecon.commands import train as training

    seen = []
    monkeypatch.setattr(training, "main", lambda args: seen.append(args) or 0)
    assert main(["train", "coarse", "--preset", "quick", "--run", str(tmp_path)]) == OK
    assert (seen[0].network, seen[0].preset, seen[0].run) == ("coarse", "quick", tmp_path)


@pytest.mark.slow
def test_data_mistakes_get_one_line(tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--quiet"]
    few = ["data", "write", "--count", "3", "--shards"]
    assert main([*few, "4", *out]) == FAILED
    assert main([*few, "1", "--preset", "huge", *out]) == USAGE
    assert main([*few, "1", "--model", "none.npz", *out]) == FAILED
    assert main(["data", "verify", str(tmp_path / "nowhere")]) == FAILED
    assert main(["data", "report", "--photos", str(tmp_path), *out]) == FAILED
    lines = capsys.readouterr().err.splitlines()
    causes = (
        "3 faces in 4 shards: needs", "--preset huge: unknown", "none.npz: no such model file",
        "manifest.json: cannot be read (no such file", "the folder holds no image",
    )  # fmt: skip
    assert len(lines) == len(causes)
    for line, cause in zip(lines, causes, strict=True):
        assert line.startswith("facerecon: ") and cause in line
    assert not list(tmp_path.iterdir())


def test_reproduce_hands_over(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("facerecon.repro.reproduce", lambda *args: calls.append(args) or 1)
    argv = [
        "reproduce",
        "end_to_end",
        "--preset",
        "full",
        "-p",
        "seed",
        "3",
        "--out",
        str(tmp_path),
        "--jobs",
        "2",
        "--frgc",
        str(tmp_path),
    ]
    assert main(argv) == FAILED
    data = {"frgc": str(tmp_path.resolve())}
    assert calls == [(["end_to_end"], "full", {"seed": "3"}, tmp_path, 2, False, data, None)]
    assert main([*argv[:-1], str(tmp_path / "none")]) == FAILED
    assert len(calls) == 1


def test_info_names_model_and_weights(capsys):
    code = main(["info"])
    text = capsys.readouterr().out
    for word in (__version__, "200 identity", "coarsenet", "finenet", torch.__version__):
        assert word in text
    assert re.search(r"^rendering +on CPUs numba, on NVIDIA GPUs (torch|nvdiffrast)", text, re.M)
    assert code == (FAILED if "missing" in text else OK)


def test_the_command_starts_without_loading_anything_heavy():
    heavy = "{'torch', 'numpy', 'numba', 'cv2', 'matplotlib', 'trimesh', 'PIL', 'scipy'}"
    code = f"import sys, facerecon.cli; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_module_can_be_run():
    command = [sys.executable, "-m", "facerecon", "reconstruct", "none.jpg", "--out", "unused"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == FAILED
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("synthetic", 200),
        ("heads --heads x", 200),
        ("photos x", 200),
        ("detail", 16),
        ("light", 100),
    ],
)
def test_every_evaluation_has_its_own_count(kind, count):
    assert _parser(training=False).parse_args(["evaluate", *kind.split()]).count == count


def test_the_command_offers_what_the_pipeline_has():
    """The command does not import torch before it runs, so it has its own copies."""
    assert reconstruct.REFINEMENTS == pipeline.REFINEMENTS
    assert reconstruct.SIZES == pipeline.FINE_SIZES
    assert set(view.MESHES) == set(MESH_FORMATS)
    assert {f".{name}" for name in reconstruct.MESH_FORMATS} == set(MESH_FORMATS)
