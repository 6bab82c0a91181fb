import csv
import json
import math
import struct
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from skimage import data as photographs

from facerecon.camera import POSE_UNITS, join
from facerecon.cli import main
from facerecon.commands import video as command
from facerecon.commands.outcome import FAILED, OK, USAGE
from facerecon.detection.detect import NoFaceError
from facerecon.files import OutputError
from facerecon.imaging import to_bytes
from facerecon.synthetic.config import SyntheticConfig
from facerecon.synthetic.studio import NEUTRAL_CAMERA, turned
from facerecon.synthetic.world import SyntheticWorld
from facerecon.video import track as tracking
from facerecon.video.clip import ClipError, ClipWriter, Frame, clip_info, read_frames
from facerecon.video.overlay import overlay
from facerecon.video.smoothing import runs, smoothed, tremble
from facerecon.video.table import COLUMNS
from facerecon.video.track import Track, follow, mean_identity, smooth, with_identity
from facerecon.weights import load_coarsenet

RATE = 30


@pytest.fixture(scope="module")
def network():
    return load_coarsenet()


@pytest.fixture(scope="module")
def film(model):
    """A rendered head that turns and opens its mouth: frames, r of each in the whole frame."""
    size, count = 240, 24
    base = SyntheticConfig(size=size)
    base = replace(base, detail=replace(base.detail, wrinkles=False, texture=False))
    world = turned(
        SyntheticWorld(model, base),
        skin={"p_glasses": 0.0},
        scene={"p_occluder": 0.0},
        pose={"p_perspective": 0.0},
        camera=NEUTRAL_CAMERA,
    )
    time = torch.arange(count) / RATE
    swing = torch.sin(2 * math.pi * time / 0.8)
    coefficients = torch.zeros(count, model.n_coefficients)
    coefficients[:, : model.n_identity] = 0.7 * torch.randn(
        model.n_identity, generator=world.generator(1)
    )
    jaw = model.expression_index("jawOpen")
    opened = 0.4 - 0.4 * torch.cos(2 * math.pi * time / 0.8)
    coefficients[:, jaw] = opened / model.expression_std[jaw - model.n_identity]
    still = torch.ones(count)
    physical = torch.stack(
        [0.05 * swing, 0.4 * swing, 0.05 * swing, 0.04 * swing, 0.03 * still, -0.4 * still], dim=1
    )
    r = join(coefficients, physical / POSE_UNITS.float())
    # The same seed for every frame: the same skin, hair and light.
    images = [world.render(1, world.generator(3), each[None], True).image[0] for each in r]
    noise = np.random.default_rng(0)
    frames = [
        Frame(i, i / RATE, np.clip(image.permute(1, 2, 0).numpy() + shot, 0, 1).astype(np.float32))
        for i, (image, shot) in enumerate(
            zip(images, noise.normal(0, 0.03, (count, size, size, 3)), strict=True)
        )
    ]
    return frames, r


@pytest.fixture(scope="module")
def followed(film, network, model):
    return follow(network, model, film[0])


def write(path, pictures, rate=RATE):
    with ClipWriter(path, rate) as clip:
        for picture in pictures:
            clip.add(picture)
    return path


def stripes(count=10, rows=48, columns=64):
    """Grey pictures, each brighter than the one before, with a bright left top corner."""
    pictures = np.zeros((count, rows, columns, 3), np.uint8)
    pictures += (10 * np.arange(count, dtype=np.uint8) + 30)[:, None, None, None]
    pictures[:, : rows // 2, : columns // 2] = 230
    return pictures


# Numbers over time


def test_at_the_cutoff_half_of_a_swing_stays_without_delay():
    time = np.arange(2000) / 100
    inner = slice(500, 1500)  # away from the ends, where the curve has no neighbors
    for frequency, share in ((1.0, 1 / (1 + 1 / 16)), (2.0, 0.5), (4.0, 1 / 17)):
        swing = np.stack([np.sin(2 * np.pi * frequency * time)], axis=1)
        found = smoothed(swing, time, cutoff_hz=2.0)
        # The second differences of a swing are a little smaller than its second derivative.
        np.testing.assert_allclose(found[inner], share * swing[inner], atol=0.005)


def test_straight_lines_stay_at_uneven_times():
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.uniform(0.02, 0.06, 40))
    line = np.stack([3 * time - 1, np.full(40, 2.0)], axis=1)
    np.testing.assert_allclose(smoothed(line, time, 3.0), line, atol=1e-9)


def test_smoothing_minimizes_what_it_says():
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.uniform(0.02, 0.06, 12))
    values = rng.normal(size=(12, 1))

    def cost(z):
        step, total = np.diff(time), 0.0
        for i in range(12):
            around = [step[k] for k in (i - 1, i) if 0 <= k < 11]
            total += np.gradient(time)[i] * (values[i, 0] - z[i]) ** 2 if around else 0
        for i in range(1, 11):
            width = (step[i - 1] + step[i]) / 2
            bend = ((z[i + 1] - z[i]) / step[i] - (z[i] - z[i - 1]) / step[i - 1]) / width
            total += width * bend**2 / (2 * np.pi * 4.0) ** 4
        return total

    best = smoothed(values, time, 4.0)[:, 0]
    for i in range(12):
        for change in (-1e-3, 1e-3):
            assert cost(best + change * (np.arange(12) == i)) > cost(best)


def test_tremble_is_the_deviation_of_noise_and_ignores_motion():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, (5000, 2))
    line = np.arange(5000)[:, None] * [1.0, -2.0]
    assert tremble(noise + line) == pytest.approx(0.3, rel=0.03)
    assert tremble(line[:2]) == 0.0
    broken = line.copy()
    broken[100] = np.nan
    broken[101:] += 50  # a jump, but not from one frame to the next
    assert tremble(broken) == pytest.approx(0, abs=1e-9)


def test_runs_are_neighbors():
    assert runs(np.array([True, True, False, True])) == [slice(0, 2), slice(3, 4)]
    assert runs(np.array([False])) == []


# Files


def test_pictures_come_back_with_their_times(tmp_path):
    path = write(tmp_path / "clip.mp4", stripes())
    assert clip_info(path) == (RATE, 10)
    frames = list(read_frames(path))
    assert [frame.number for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(10) / RATE, atol=1e-6)
    for frame, picture in zip(frames, stripes(), strict=True):
        assert np.abs(frame.image * 255 - picture).mean() < 4  # the codec loses a little
    some = list(read_frames(path, every=2, start=0.1, end=0.25))
    assert [frame.number for frame in some] == [3, 5, 7]


def test_odd_sizes_lose_a_line(tmp_path):
    path = write(tmp_path / "odd.mp4", stripes(3, 49, 63))
    assert next(read_frames(path)).image.shape == (48, 62, 3)


def test_what_a_phone_filmed_upright_is_upright(tmp_path):
    path = write(tmp_path / "clip.mp4", stripes())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix comes after 40 bytes
    # Columns of the photograph become rows: a quarter turn clockwise, as the file format has it.
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    seen = next(read_frames(path)).image
    assert seen.shape == (64, 48, 3)
    bright = seen[..., 0] > 0.6
    assert bright[:32, 24:].mean() > 0.9 and bright[32:].mean() < 0.1  # the right top corner


def test_what_is_no_video_gets_one_line(tmp_path):
    from PIL import Image

    (tmp_path / "text.mp4").write_text("no video at all")
    Image.fromarray(stripes()[0]).save(tmp_path / "photo.jpg")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    whole = write(tmp_path / "clip.mp4", stripes()).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    causes = {
        "none.mp4": "no such file",
        ".": "is a folder",
        "text.mp4": "not a video",
        "photo.jpg": "is a picture",
        "sound.wav": "holds no video, only audio",
        "cut.mp4": "not a video of a known format, or damaged",
    }
    for name, cause in causes.items():
        with pytest.raises(ClipError, match=cause) as caught:
            list(read_frames(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_video_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), ClipWriter(tmp_path / "clip.mp4", RATE) as clip:
        clip.add(stripes()[0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "clip.mp4", stripes())
    with pytest.raises(ValueError, match=r"written as \.mp4"):
        ClipWriter(tmp_path / "clip.avi", RATE)
    with pytest.raises(ValueError, match="one size"), ClipWriter(tmp_path / "c.mp4", RATE) as clip:
        clip.add(stripes()[0])
        clip.add(stripes(1, 32, 32)[0])


def test_without_pyav_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["video", str(tmp_path / "x.mp4"), "--out", str(tmp_path / "out")]) == FAILED
    assert 'pip install "facerecon[video]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Following


def deviation(track: Track, r: torch.Tensor) -> np.ndarray:
    """Degrees by which pitch, yaw and roll differ from the truth."""
    truth = r[:, -6:-3].double() * POSE_UNITS[:3]
    return np.rad2deg(track.angles - truth.numpy())


@pytest.mark.slow
def test_a_turning_head_is_followed(film, followed, model):
    frames, r = film
    assert followed.found.all()
    error = deviation(followed, r)
    # What CoarseNet reaches on this world is about a degree; yaw swings by 23.
    assert np.sqrt((error**2).mean(0)).max() < 2.5
    size = frames[0].image.shape[0]
    shift = r[:, -3:-1].double() * POSE_UNITS[3:5] * size * torch.tensor([1.0, -1.0])
    apart = followed.center - (shift.numpy() + (size - 1) / 2)
    assert np.sqrt((apart**2).sum(1)).max() < 2.5  # pixels; the face is 120 wide
    side = size * np.exp(r[:, -1].double().numpy() * 0.15)
    np.testing.assert_allclose(followed.crop[:, 2], side, rtol=0.04)
    jaw = model.expression_index("jawOpen")
    assert np.corrcoef(followed.coefficients[:, jaw], r[:, jaw])[0, 1] > 0.97


@pytest.mark.slow
def test_smoothing_takes_the_tremble_and_not_the_motion(film, followed, model):
    settled = smooth(with_identity(followed, mean_identity(followed, model.n_identity)))
    before, after = deviation(followed, film[1]), deviation(settled, film[1])
    assert tremble(after) < 0.4 * tremble(before)
    assert np.sqrt((after**2).mean()) < 1.05 * np.sqrt((before**2).mean())
    assert np.ptp(settled.angles[:, 1]) > 0.9 * np.ptp(followed.angles[:, 1])
    identity = settled.coefficients[:, : model.n_identity]
    np.testing.assert_allclose(identity, np.repeat(identity[:1], len(identity), 0), atol=1e-5)
    assert identity.std() > 0.1


@pytest.mark.slow
def test_the_mesh_lies_over_the_face(film, followed, model):
    frames, _ = film
    picture = overlay(frames[6].image, followed, 6, model)
    size = frames[6].image.shape[0]
    assert picture.shape == (size, 2 * size, 3)
    changed = np.abs(picture[:, :size] / 255.0 - frames[6].image).max(axis=2) > 0.03
    row, column = np.nonzero(changed)
    center = followed.center[6]
    side = followed.crop[6, 2]
    assert np.hypot(column.mean() - center[0], row.mean() - center[1]) < 0.15 * side
    assert 0.2 < changed.sum() / side**2 < 0.8
    lost = replace(followed, found=np.zeros_like(followed.found))
    plain = overlay(frames[6].image, lost, 6, model)
    np.testing.assert_array_equal(plain[:, :size], to_bytes(frames[6].image))
    assert np.ptp(plain[:, size:]) == 0


def astronaut(x: int, y: int, side: int = 300, size: int = 200) -> np.ndarray:
    """A square of the portrait; the face is about 100 pixels wide around (222, 115)."""
    import cv2

    part = photographs.astronaut()[y : y + side, x : x + side]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def filmed(images) -> list[Frame]:
    return [Frame(i, i / RATE, image) for i, image in enumerate(images)]


@pytest.mark.slow
def test_the_detector_is_asked_only_when_the_face_is_lost(network, model, monkeypatch):
    asked = []
    for name in ("largest_face", "detect_faces"):
        found = getattr(tracking, name)

        def counting(*given, found=found, name=name):
            asked.append(name)
            return found(*given)

        monkeypatch.setattr(tracking, name, counting)
    nothing = np.random.default_rng(0).random((200, 200, 3), np.float32)
    here, there = astronaut(80, 0), astronaut(180, 0)
    images = [nothing, here, astronaut(85, 2), nothing, nothing, there, there]
    track = follow(network, model, filmed(images))
    assert track.found.tolist() == [False, True, True, False, False, True, True]
    assert asked == ["largest_face"] * 2 + ["detect_faces"] * 3
    assert track.center[1, 0] - track.center[5, 0] == pytest.approx(100 * 200 / 300, abs=4)
    assert np.isnan(track.angles[~track.found]).all()
    settled = smooth(track)  # both halves, each on its own
    assert np.isfinite(settled.angles[track.found]).all()
    assert np.abs(settled.center - track.center)[track.found].max() < 3


@pytest.mark.slow
def test_of_several_faces_the_first_largest_is_followed(network, model):
    large, small = astronaut(100, 0, 240), np.full((200, 200, 3), 0.5, np.float32)
    small[50:150, 50:150] = astronaut(80, 0, 300, 100)
    both, changed = np.hstack([large, small]), np.hstack([small, large])
    # Two steps in which the right face grows; the left one stays the followed one.
    track = follow(network, model, filmed([both, np.hstack([large, large]), both]))
    assert (track.center[:, 0] < 200).all()
    assert follow(network, model, filmed([changed])).center[0, 0] > 200


def test_no_face_anywhere(network, model):
    grey = np.full((64, 64, 3), 0.5, np.float32)
    with pytest.raises(NoFaceError, match="no face found in any of 2 frames"):
        follow(network, model, filmed([grey, grey]))


# The command


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pictures = [to_bytes(astronaut(80 + 4 * i, i)) for i in range(4)]
    return write(tmp_path_factory.mktemp("clips") / "move.mp4", pictures)


@pytest.mark.slow
def test_the_command_writes_table_summary_and_overlay(tmp_path, clip, model, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "move_track.csv").write_text("somebody's")
    assert main(["video", str(clip), "--out", str(out), "--every", "2"]) == OK
    said = capsys.readouterr()
    assert "face found in 2 of 2 frames" in said.out and said.err == ""
    assert (out / "move_track.csv").read_text() == "somebody's"
    rows = list(csv.DictReader((out / "move-2_track.csv").read_text().splitlines()))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert tuple(rows[0])[len(COLUMNS) :] == model.expression_names
    assert [row["frame"] for row in rows] == ["0", "2"]
    moved = float(rows[0]["center_x"]) - float(rows[1]["center_x"])
    assert moved == pytest.approx(8 * 200 / 300, abs=1.5)
    assert float(rows[0]["mouthSmileLeft"]) > 0.2  # she smiles
    found = json.loads((out / "move-2_track.json").read_text())
    assert len(found["identity"]) == model.n_identity and found["found"] == 2
    info = clip_info(out / "move-2_overlay.mp4")
    assert info == (RATE / 2, 2)
    assert next(read_frames(out / "move-2_overlay.mp4")).image.shape == (200, 400, 3)
    assert main(["video", str(clip), "--out", str(out), "--every", "2"]) == OK
    assert "done before" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {
        ".facerecon", "move_track.csv",
        "move-2_track.csv", "move-2_track.json", "move-2_overlay.mp4",
    }  # fmt: skip


def test_what_goes_wrong_is_one_line_and_leaves_nothing(tmp_path, capsys):
    faceless = write(tmp_path / "faceless.mp4", stripes(3))
    (tmp_path / "text.mp4").write_text("no video")
    for path, cause in (
        (faceless, "no face found in any of 3 frames"),
        (tmp_path / "text.mp4", "not a video"),
        (tmp_path / "none.mp4", "no such file"),
    ):
        assert main(["video", str(path), "--out", str(tmp_path / "out")]) == FAILED
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"facerecon: {path}: ") and cause in line
    late = ["video", str(faceless), "--out", str(tmp_path / "out"), "--start", "99"]
    assert main(late) == FAILED
    assert "no frame from second 99 on; the last one read is at 0.1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_usage(capsys):
    for options in (["--every", "0"], ["--smooth", "-1"], ["--start", "3", "--end", "2"]):
        with pytest.raises(SystemExit) as caught:
            main(["video", "x.mp4", "--out", "out", *options])
        assert caught.value.code == USAGE
    capsys.readouterr()


def test_the_commands_default_is_the_modules():
    assert command.DEFAULT_CUTOFF == tracking.CUTOFF_HZ
