import dataclasses
import io
import json
import re
import warnings

import numpy as np
import pytest
import trimesh
from PIL import Image
from test_reconstruction import ball

from facerecon.cli import main
from facerecon.commands.outcome import FAILED, OK, USAGE
from facerecon.imaging import Crop
from facerecon.pipeline import Reconstructor, SmallFaceWarning
from facerecon.reconstruction import MESH_FORMATS
from facerecon.views import report
from facerecon.web_view import GENERATOR


def test_a_report_holds_everything_and_is_small(model):
    text = report.report(ball(), "Ann & Bob.jpg", model)
    assert "Ann &amp; Bob.jpg" in text and GENERATOR in text
    assert len(text) < 4e6
    assert not re.findall(r"https?://", text.replace("http://www.w3.org", ""))
    for word in ("depth map", "normal map", "<polyline", "Expression", "4.66 mm", "Limits"):
        assert (word in text) == (word != "4.66 mm"), word
    assert "3 mm" in text  # the width of a pixel
    assert text.count("<circle") == 68
    assert "Expression" not in report.report(ball(), "x")


def test_numbers_say_what_is_measured(model):
    face = ball()
    coefficients = face.coefficients.copy()
    index = model.expression_index("jawOpen")
    coefficients[index] = 0.5 / model.expression_std[index - model.n_identity].item()
    coarse = face.depth_mm - np.where(np.arange(100) % 2, 1.0, 3.0).astype(np.float32)
    pose = np.float32([0, -np.deg2rad(20) / 0.5, np.deg2rad(5) / 0.25, 0, 0, 0])
    face = dataclasses.replace(face, coefficients=coefficients, coarse_depth_mm=coarse, pose=pose)
    numbers = report._numbers(face, model)
    assert numbers["Head turned"][0] == "20° to the viewer's left, 5° tilted counter-clockwise"
    assert numbers["Expression"][0].startswith("jawOpen 0.50")
    assert numbers["Detail"][0] == "2.2 mm"  # the root of the mean of 1 and 9
    assert numbers["Depth"][0] == "32 mm"  # 80 mm, less 48 at 0.8 of the radius
    straight = report._numbers(ball(), None)
    assert straight["Head turned"][0] == "not at all"


@pytest.mark.parametrize("side, trusted", [(79, False), (81, True)])
def test_the_numbers_of_a_very_small_face_warn(side, trusted):
    face = dataclasses.replace(ball(), crop=Crop(5, 5, side, side))
    _, meaning = report._numbers(face, None)["Face in the photograph"]
    assert ("only the coarse shape can be trusted" in meaning) is not trusted


def test_view_names_a_very_small_face_in_one_line(tmp_path, monkeypatch, capsys):
    def small(path):
        warnings.warn("the face's crop is 30 pixels wide: x", SmallFaceWarning, stacklevel=2)
        return ball()

    small.model = None
    monkeypatch.setattr(Reconstructor, "from_pretrained", lambda **_: small)
    photo = tmp_path / "tiny.png"
    Image.new("RGB", (40, 40)).save(photo)
    assert main(["view", str(photo), "--out", str(tmp_path)]) == OK
    assert capsys.readouterr().err == (
        f"facerecon: {photo}: the face's crop is 30 pixels wide: x\n"
    )


def test_maps_of_the_crop_are_the_photographs_own_pixels():
    row, column = np.mgrid[:90, :100].astype(np.float32)
    seen = report._of_crop(np.stack([column, row], axis=-1), Crop(20, 15, 60, 60))
    middle = report.MAP_SIZE // 2  # the edge between the crop's pixels 29 and 30
    np.testing.assert_array_equal(seen[middle, middle], [50, 45])
    np.testing.assert_array_equal(seen[0, -1], [79, 15])
    beyond = report._of_crop(column, Crop(-30, 15, 60, 60))
    assert np.isnan(beyond[:, : middle - 8]).all() and not np.isnan(beyond[:, middle + 8 :]).any()


@pytest.mark.parametrize("suffix", MESH_FORMATS)
def test_saved_meshes_are_shown_as_they_are(tmp_path, suffix):
    face = ball()
    path = face.save(tmp_path / f"face{suffix}")[-1]
    (part,) = report.mesh_parts(path)
    assert len(part.faces) == len(face.faces)
    unit = 1000 if suffix == ".glb" else 1
    np.testing.assert_allclose(
        np.ptp(part.vertices, axis=0) * unit, np.ptp(face.vertices, axis=0), rtol=1e-3
    )
    assert (part.texture is not None) == (suffix in (".glb", ".obj"))
    assert (part.colors is not None) == (suffix == ".ply")
    assert "As in the file" in report.mesh_page(path)
    picture = Image.open(io.BytesIO(report.mesh_thumbnail(path)))
    assert picture.size == (720, 240) and np.asarray(picture).std() > 20


def test_parts_of_a_scene_stand_in_their_places(tmp_path):
    ball_mesh = trimesh.creation.icosphere(radius=10)
    scene = trimesh.Scene()
    scene.add_geometry(ball_mesh)
    scene.add_geometry(ball_mesh, transform=trimesh.transformations.translation_matrix([50, 0, 0]))
    scene.export(tmp_path / "two.glb")
    found = sorted(part.vertices[:, 0].mean() for part in report.mesh_parts(tmp_path / "two.glb"))
    np.testing.assert_allclose(found, [0, 50], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("none.glb", None, "no such file"),
        ("text.txt", b"hello", "no mesh file"),
        ("broken.glb", b"glTF, but not really", "not a readable mesh"),
        ("points.ply", None, "holds no triangle"),
    ],
)
def test_what_is_no_mesh_gets_one_line(tmp_path, name, content, cause):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "points.ply":
        trimesh.PointCloud(np.eye(3)).export(path)
    with pytest.raises(report.MeshFileError, match=cause) as caught:
        report.mesh_page(path)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_the_contact_sheet_links_to_every_face():
    cards = [report.Card(f"{i} & co", f"{i}_view.html", report.thumbnail(ball(), 40)) for i in "ab"]
    text = report.contact_sheet(cards, "Faces")
    assert re.findall(r'<a href="(.*?)"', text) == ["a_view.html", "b_view.html"]
    assert "a &amp; co" in text and text.count("data:image/jpeg") == 2


def test_view_shows_meshes_and_goes_past_what_it_cannot_read(tmp_path, capsys):
    good = ball().save(tmp_path / "face.glb") + ball().save(tmp_path / "face.ply")
    (tmp_path / "bad.glb").write_bytes(b"no")
    out = tmp_path / "out"
    code = main(["view", *map(str, good), str(tmp_path / "bad.glb"), "--out", str(out)])
    assert code == FAILED
    said = capsys.readouterr()
    assert f"{tmp_path / 'bad.glb'}: not a readable mesh" in said.err
    assert len(said.err.splitlines()) == 1
    names = {"face_view.html", "face-2_view.html", "faces.html"}
    assert {path.name for path in out.iterdir()} == names
    sheet = (out / "faces.html").read_text()
    assert re.findall(r'<a href="(.*?)"', sheet) == ["face_view.html", "face-2_view.html"]
    assert main(["view", str(good[0]), "--out", str(out)]) == OK  # over its own page
    (out / "face_view.html").write_text("mine")
    assert main(["view", str(good[0]), "--out", str(out)]) == FAILED
    assert (out / "face_view.html").read_text() == "mine"


PIXELS = """
(([yaw, look, detail]) => {
  document.getElementById('faceview-look').value = look;
  document.getElementById('faceview-detail').value = detail;
  const canvas = document.querySelector('canvas.faceview');
  canvas.turnTo(yaw, 0);
  const gl = canvas.getContext('webgl2');
  const pixels = new Uint8Array(4 * canvas.width * canvas.height);
  gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  return {width: canvas.width, pixels: Array.from(pixels)};
})
"""


def seen(page, yaw=0.0, look="photo", detail=1.0) -> np.ndarray:
    """What the canvas shows, (rows, columns, 4), the first row on top."""
    found = page.evaluate(PIXELS, [yaw, look, detail])
    return np.array(found["pixels"], np.uint8).reshape(-1, found["width"], 4)[::-1]


@pytest.fixture
def shown(browser, tmp_path, model):
    """Opens a page of a face in a browser that has no network; collects what goes wrong."""
    page = browser.new_page(viewport={"width": 500, "height": 800}, reduced_motion="reduce")
    page.faults = []
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith(("file:", "data:", "blob:")) else page.faults.append(r.url)
        ),
    )

    def show(text: str):
        path = tmp_path / "face.html"
        path.write_text(text, "utf-8")
        page.goto(path.as_uri())
        page.wait_for_selector("canvas.faceview[data-ready]", timeout=60_000)
        return page

    yield show
    assert page.faults == []
    page.close()


def test_a_browser_shows_the_photographs_colors(shown):
    image = np.zeros((90, 100, 3), np.float32)
    image[:, :50] = [0.8, 0.3, 0.1]  # the viewer's left half
    image[:45, 50:] = [0.1, 0.5, 0.9]
    image[45:, 50:] = [0.6, 0.6, 0.2]
    page = shown(report.report(dataclasses.replace(ball(), image=image), "ball"))
    picture = seen(page)
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    for dy, dx, color in (
        (0, -30, [0.8, 0.3, 0.1]),
        (-30, 30, [0.1, 0.5, 0.9]),
        (30, 30, [0.6, 0.6, 0.2]),
    ):
        found = picture[rows + dy, columns + dx]
        # Not darker and not lighter than the photograph, but for the JPEG's rounding.
        np.testing.assert_allclose(found[:3] / 255, color, atol=0.03)
    assert picture[3, 3, 3] == 0  # nothing in the corner


def test_in_a_browser_the_face_turns_and_the_slider_blends(shown):
    face = ball()
    relief = np.float32([0, 0, 1]) * 4 * np.sin(face.vertices[:, :1] / 6)
    page = shown(report.report(dataclasses.replace(face, vertices=face.vertices + relief), "ball"))
    coarse, half, fine = (
        seen(page, look="clay", detail=d)[..., :3].astype(int) for d in (0, 0.5, 1)
    )
    rough = [np.abs(np.diff(picture, axis=1)).mean() for picture in (coarse, half, fine)]
    assert rough[0] < rough[1] < rough[2]
    front, turned = seen(page), seen(page, yaw=80)
    assert 0.2 < (turned[..., 3] > 0).sum() / (front[..., 3] > 0).sum() < 0.8
    both = seen(page, look="both")
    top, bottom = (
        np.array_split(both, 2)
        if both.shape[0] > both.shape[1]
        else np.array_split(both, 2, axis=1)
    )
    assert (top[..., 3] > 0).mean() == pytest.approx((bottom[..., 3] > 0).mean(), rel=0.05)
    spread = [
        np.ptp(half[half[..., 3] > 0][:, :3].astype(int), axis=1).mean() for half in (top, bottom)
    ]
    assert spread[0] > 20 > 1 > spread[1]  # colors beside grey clay
    page.keyboard.press("Tab")
    before = seen(page, look="photo")
    page.locator("canvas.faceview").press("ArrowRight")
    page.wait_for_timeout(300)
    after = page.evaluate("document.querySelector('canvas.faceview').toDataURL()")
    page.locator("canvas.faceview").press("0")
    page.wait_for_timeout(300)
    assert page.evaluate("document.querySelector('canvas.faceview').toDataURL()") != after
    np.testing.assert_array_equal(seen(page), before)


def test_a_page_fits_a_phone(shown, model):
    page = shown(report.report(ball(), "a_very_long_name_" * 10, model))
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
    assert broken == 0


def test_a_notebooks_frame_shows_the_face(browser, tmp_path):
    page = browser.new_page(viewport={"width": 700, "height": 600})
    (tmp_path / "notebook.html").write_text(
        f"<!doctype html><p>Out[1]</p>{ball()._repr_html_()}", "utf-8"
    )
    page.goto((tmp_path / "notebook.html").as_uri())
    inner = page.frame_locator("iframe")
    inner.locator("canvas.faceview[data-ready]").wait_for(timeout=60_000)
    page.close()


def test_a_browser_without_webgl_says_so(browser, tmp_path):
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    (tmp_path / "face.html").write_text(report.report(ball(), "ball"), "utf-8")
    page.goto((tmp_path / "face.html").as_uri())
    page.wait_for_selector(".problem")
    assert (
        page.inner_text(".problem")
        == "No 3D view: this browser has no WebGL 2, which the 3D view needs."
    )
    page.close()


def test_packed_data_is_json(model):
    text = report.report(ball(), "ball", model)
    scene = json.loads(re.search(r'id="faceview-data">(.*?)</script>', text, re.S)[1])
    assert scene["parts"][0]["vertices"] == len(ball().vertices)


def test_a_page_gets_the_name_that_is_asked_for(tmp_path, capsys):
    mesh, other = (str(ball().save(tmp_path / name)[0]) for name in ("face.glb", "face.ply"))
    page = tmp_path / "pages" / "v.html"
    assert main(["view", mesh, "--out", str(page)]) == OK
    assert [path.name for path in page.parent.iterdir()] == ["v.html"]
    assert GENERATOR in page.read_text() and f"{mesh} -> {page}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["view", mesh, other, "--out", str(page)])
    assert ended.value.code == USAGE
    assert f"--out {page}: one page shows one face" in capsys.readouterr().err
    page.write_text("a page of the user's")
    assert main(["view", mesh, "--out", str(page)]) == FAILED
    assert f"{page}: is no page of facerecon's" in capsys.readouterr().err
    assert page.read_text() == "a page of the user's"


def test_a_folder_may_have_a_pages_name(tmp_path):
    (tmp_path / "v.html").mkdir()
    mesh = str(ball().save(tmp_path / "face.glb")[0])
    assert main(["view", mesh, "--out", str(tmp_path / "v.html")]) == OK
    assert (tmp_path / "v.html" / "face_view.html").is_file()


@pytest.mark.parametrize(
    "command", [["view", "a.ply"], ["reconstruct", "a.jpg"], ["video", "a.mp4"]]
)
def test_a_files_name_makes_no_folder(tmp_path, command, capsys):
    out = tmp_path / "face.glb"
    with pytest.raises(SystemExit) as ended:
        main([*command, "--out", str(out)])
    assert ended.value.code == USAGE and not out.exists()
    assert f"{out} is a file's name; name a folder" in capsys.readouterr().err
