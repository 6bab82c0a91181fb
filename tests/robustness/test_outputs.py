"""The files of `facerecon reconstruct`: nothing of the user's is lost, nothing is done twice."""

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data as photographs

import facerecon
from facerecon.cli import main
from facerecon.coarsenet import CoarseNet, CoarseNetConfig
from facerecon.commands.outcome import FAILED, OK, say
from facerecon.commands.outputs import Outputs, read_records, without_results
from facerecon.files import remove_partial, sole_writer, write_file
from facerecon.imaging import ImageError, load_image
from facerecon.messages import one_line
from facerecon.pipeline import Reconstructor
from facerecon.weights import ModelCard, WeightsError, load_coarsenet, save_weights

CARD = ModelCard("coarse", "quick", "none", 0, 0, 0.0, "unknown", {}, {})


@pytest.fixture(scope="module")
def weights(tmp_path_factory, model):
    """Options that name an untrained CoarseNet; it reconstructs something near the mean face."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "coarse.safetensors"
    network = CoarseNet(model.n_coefficients, CoarseNetConfig(width=4, points=0))
    save_weights(path, network.eval(), CARD)
    return ["--coarse", str(path), "--no-refine"]


def portrait(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photographs.astronaut()[:256, 96:352]).save(path)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(inputs, out, weights, *options) -> int:
    return main(["reconstruct", *map(str, inputs), "--out", str(out), *options, *weights])


def test_inputs_that_look_like_outputs_survive_and_a_second_run_finds_nothing_to_do(
    tmp_path, weights, capsys
):
    names = ("p.png", "p_preview.png", "p_depth.png")
    before = {name: portrait(tmp_path / name).read_bytes() for name in names}
    assert run([tmp_path], tmp_path, weights) == OK
    after = files(tmp_path)
    assert {name: after[name] for name in names} == before
    assert {"p-2.ply", "p_preview.ply", "p_depth.ply"} <= set(after)
    capsys.readouterr()
    assert run([tmp_path], tmp_path, weights) == OK
    assert capsys.readouterr().out.count("done before") == 3
    assert files(tmp_path) == after


def test_another_photograph_with_the_same_name_gets_a_number(tmp_path, weights):
    first, second = portrait(tmp_path / "a" / "g.png"), portrait(tmp_path / "b" / "g.png")
    out = tmp_path / "out"
    assert run([first], out, weights) == OK
    kept = files(out)
    assert run([second], out, weights) == OK
    assert kept.items() <= files(out).items()
    assert {path.name for path in out.glob("*.ply")} == {"g.ply", "g-2.ply"}


def test_a_file_of_someone_else_is_left_alone(tmp_path, weights):
    out = tmp_path / "out"
    out.mkdir()
    (out / "g.ply").write_text("mine")
    photo = portrait(tmp_path / "g.png")
    for _ in range(2):
        assert run([photo], out, weights, "--overwrite") == OK
        assert (out / "g.ply").read_text() == "mine"
    assert {path.name for path in out.glob("*.ply")} == {"g.ply", "g-2.ply"}


def test_the_second_face_and_a_photograph_of_its_name(tmp_path):
    group, other = tmp_path / "g.jpg", tmp_path / "g_face2.jpg"
    for path in (group, other):
        path.write_bytes(b"photograph")
    outputs = Outputs(tmp_path / "out", [group, other], {})
    names = lambda stem: [f"{stem}.ply", f"{stem}_preview.png"]  # noqa: E731
    assert outputs.free_stem(group, "g", names) == "g"
    assert outputs.free_stem(group, "g_face2", names) == "g_face2"
    assert outputs.free_stem(other, "g_face2", names) == "g_face2-2"
    assert outputs.free_stem(other, "G", names) == "G-2"  # one file on some file systems


def test_other_options_or_a_changed_photograph_are_done_again(tmp_path, weights, capsys):
    photo, out = portrait(tmp_path / "g.png"), tmp_path / "out"
    assert run([photo], out, weights) == OK
    capsys.readouterr()
    assert run([photo], out, weights, "--formats", "stl") == OK
    assert (out / "g.stl").is_file()
    text = capsys.readouterr().out
    assert "made anew, with other options" in text and "left as before: g.ply" in text
    Image.fromarray(photographs.astronaut()[:250, 96:346]).save(photo)
    capsys.readouterr()
    assert run([photo], out, weights, "--formats", "stl") == OK
    assert "done before" not in capsys.readouterr().out
    assert run([photo], out, weights, "--formats", "stl", "--overwrite") == OK
    assert "done before" not in capsys.readouterr().out
    (out / "g_depth.npy").unlink()
    assert run([photo], out, weights, "--formats", "stl") == OK
    assert (out / "g_depth.npy").is_file()


def test_files_of_other_options_stay_results(tmp_path, weights):
    photo = portrait(tmp_path / "g.png")
    for formats in ("obj", "ply", "ply"):
        assert run([tmp_path], tmp_path, weights, "--formats", formats) == OK
    assert {path.name for path in tmp_path.glob("*.ply")} == {"g.ply"}
    assert without_results(sorted(tmp_path.glob("*.png"))) == [photo]


def test_two_processes_do_not_take_one_name(tmp_path):
    first, second = tmp_path / "a" / "n.jpg", tmp_path / "b" / "n.jpg"
    for path in (first, second):
        path.parent.mkdir()
        path.write_bytes(str(path).encode())
    names = lambda stem: [f"{stem}.ply"]  # noqa: E731
    one, other = (Outputs(tmp_path / "out", [path], {}) for path in (first, second))
    assert one.claim(first, "n", names) == "n"
    assert other.claim(second, "n", names) == "n-2"
    assert Outputs(tmp_path / "out", [first], {}).claim(first, "n", names) == "n"


def test_damaged_records_do_not_stop_the_work(tmp_path, weights):
    photo, out = portrait(tmp_path / "g.png"), tmp_path / "out"
    (out / ".facerecon").mkdir(parents=True)
    for number, text in enumerate((b"", b"{", b"[]", b'{"photo": 1}', b"\xff\xfe")):
        (out / ".facerecon" / f"{number}.json").write_bytes(text)
    assert read_records(out) == {}
    assert run([photo], out, weights) == OK
    record = json.loads((out / ".facerecon" / "g.json").read_bytes())
    assert record["done"] and set(record["files"]) < set(os.listdir(out))


def test_pictures_of_an_earlier_run_are_no_photographs(tmp_path, weights):
    photo = portrait(tmp_path / "g.png")
    assert run([photo], tmp_path, weights) == OK
    found = sorted(tmp_path.glob("*.png"))
    assert len(found) == 3
    assert without_results(found) == [photo]


def test_a_line_that_the_terminal_cannot_encode(monkeypatch):
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii"))
    say("Jos\u00e9 \udcff \U0001f600")
    sys.stdout.flush()
    assert written.getvalue() == b"Jos\\xe9 \\udcff \\U0001f600\n"


def test_a_closed_pipe_does_not_stop_the_work():
    code = (
        "from facerecon.commands.outcome import say\n"
        "import sys\n"
        "for _ in range(100_000): say('a line')\n"
        "print('went on', file=sys.stderr)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read().decode().strip().endswith("went on")
    assert process.wait(60) == 0


def test_many_threads_write_one_path(tmp_path):
    path, texts = tmp_path / "a.bin", [bytes([n]) * 100_000 for n in range(8)]
    threads = [threading.Thread(target=write_file, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_threads_save_one_face_to_one_path(tmp_path, weights):
    photo = photographs.astronaut()[:256, 96:352]
    face = Reconstructor.from_pretrained(weights[1], refine=None)(photo, (81, 68, 93, 93))
    path, alone = tmp_path / "face.obj", tmp_path / "alone"
    expected = {p.name: p.read_bytes() for p in face.save(alone / "face.obj")}
    with ThreadPoolExecutor(4) as pool:
        for written in pool.map(face.save, [path] * 12):
            assert len(written) == 3
    alone.rename(tmp_path.with_name("elsewhere"))
    assert files(tmp_path) == expected


@pytest.mark.parametrize("stem", ["a" * 235, "\u00e4" * 120])
def test_too_long_a_name_is_cut(tmp_path, weights, capsys, stem):
    first, second = portrait(tmp_path / f"{stem}1.png"), portrait(tmp_path / f"{stem}2.png")
    out = tmp_path / "out"
    arguments = [[first, second], out, weights, "--formats", "obj", "--solid", "2"]
    assert run(*arguments) == OK
    names = {path.stem for path in out.glob("*.obj")}
    assert len(names) == 2 and all(stem.startswith(name[:100]) for name in names)
    capsys.readouterr()
    assert run(*arguments) == OK
    assert capsys.readouterr().out.count("done before") == 2


@pytest.mark.parametrize("name", ["a\nb.png", "a\rb.png", "a\x1b[2Jb.png", "a\u2028b.png"])
def test_a_control_character_in_a_name_stays_on_one_line(tmp_path, weights, capsys, name):
    good, bad = portrait(tmp_path / name), tmp_path / f"bad{name}"
    bad.write_bytes(b"no photograph")
    assert run([good, bad], tmp_path / "out", weights) == FAILED
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 and len(printed.err.splitlines()) == 2
    assert "\x1b" not in printed.out + printed.err
    assert printed.err.count(one_line(name)) == 1  # the summary names no file
    for read, error in ((load_image, ImageError), (load_coarsenet, WeightsError)):
        with pytest.raises(error) as caught:
            read(bad)
        assert len(str(caught.value).splitlines()) == 1 and one_line(name) in str(caught.value)


def test_every_error_of_the_package_is_one_line():
    """Of all that the package defines; those that take more than a message say how.

    `ExerciseError` is a text for a student, with a hint in a line of its own.
    """
    for path in (Path(facerecon.__file__).parent).rglob("*.py"):
        for name in re.findall(r"^class (\w+(?:Error|Warning))\(", path.read_text(), re.MULTILINE):
            if name == "ExerciseError":
                continue
            module = path.relative_to(Path(facerecon.__file__).parents[1]).with_suffix("")
            kind = getattr(import_module(".".join(module.parts)), name)
            error = kind("damaged", "a\nb") if name == "ScanError" else kind("a\nb")
            assert str(error) == r"a\nb", name


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks on this system")
def test_a_folder_has_one_writer_until_it_ends(tmp_path):
    folder = tmp_path / "new"
    code = (
        "import sys, pathlib, facerecon.files as f\nwith f.sole_writer(pathlib.Path(sys.argv[1])):"
    )
    other = [sys.executable, "-c", f"{code}\n    print(1)", str(folder)]
    with sole_writer(folder):
        done = subprocess.run(other, capture_output=True, text=True)
        assert f"{folder}: another process is at work there" in done.stderr
    killed = subprocess.run(
        [sys.executable, "-c", f"{code}\n    f.os.kill(f.os.getpid(), 9)", folder]
    )
    assert killed.returncode == -9
    assert subprocess.run(other, capture_output=True, text=True).stdout == "1\n"
    assert not list(folder.iterdir())


def test_the_longest_name_that_a_file_system_takes(tmp_path):
    path = tmp_path / ("a" * 251 + ".bin")
    write_file(path, b"content")
    assert path.read_bytes() == b"content"


def test_leftovers_of_killed_writers_go_and_those_in_use_stay(tmp_path):
    old, new = tmp_path / ".facerecon-a.tmp", tmp_path / ".facerecon-b.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, weights, capsys, monkeypatch
):
    monkeypatch.setattr(Reconstructor, "__call__", lambda *arguments, **options: pytest.fail())
    (tmp_path / "file").write_text("")
    photo = portrait(tmp_path / "g.png")
    assert run([photo, photo], tmp_path / "file" / "out", weights) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file" / "out") in line and "cannot be written" in line


def test_a_folder_without_photographs_is_one_line(tmp_path, capsys):
    assert main(["reconstruct", str(tmp_path), "--out", str(tmp_path / "out")]) == FAILED
    assert len(capsys.readouterr().err.splitlines()) == 1
