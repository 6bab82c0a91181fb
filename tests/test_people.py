"""Who is who: the reader, the scores on made-up distances, and the command on two portraits."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from facerecon.cli import main
from facerecon.commands.outcome import FAILED
from facerecon.evaluation.people import (
    PARTS,
    FittedPerson,
    PeopleError,
    PeopleWarning,
    identity_distances,
    list_people,
    mean_point_errors,
    point_errors,
    recognition,
)
from facerecon.imaging import to_bytes
from facerecon.views.portraits import portraits


def write(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (40, 40), "grey").save(folder / name)
    return folder


def template(rng):
    """68 landmarks and 189 points that agree."""
    landmarks = rng.uniform(100, 300, (68, 2))
    angle = np.linspace(np.pi, 0, 17)
    landmarks[:17] = np.stack([200 + 90 * np.cos(angle), 200 + 100 * np.sin(angle)], 1)
    points = rng.uniform(100, 300, (189, 2))
    pairs = [(18, 36), (22, 39), (23, 42), (27, 45), (87, 48), (93, 54), (64, 31), (55, 33)]
    for ours, theirs in [*pairs, (69, 35)]:
        points[ours] = landmarks[theirs]
    for number in range(9):  # on the line of the jaw, between its landmarks
        points[125 + number] = (landmarks[2 + number] + landmarks[3 + number]) / 2
    points[18], points[27] = (150, 150), (250, 150)
    landmarks[36], landmarks[45] = points[18], points[27]
    return landmarks, points


def test_people_with_both_photographs_in_order(tmp_path):
    folder = write(tmp_path, "b_neutral.jpg", "b_smiling.jpg", "a_neutral.jpg", "a_smiling.jpg")
    write(tmp_path, "c_neutral.jpg")
    rows = np.arange(378.0).reshape(189, 2)
    points = {"london/b_neutral.jpg": rows.tolist()}
    (folder / "points189.json").write_text(json.dumps(points))
    with pytest.warns(PeopleWarning, match=r"c left out: c_smiling\.jpg"):
        first, second = list_people(folder)
    assert (first.name, second.name) == ("a", "b")
    assert first.points is None and second.smiling == folder / "b_smiling.jpg"
    np.testing.assert_array_equal(second.points, rows)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "not points by photograph"),
        ("{", "not points by photograph"),
        ('{"a_neutral.jpg": [[1, 2]]}', "189 finite points"),
        ('{"a_neutral.jpg": [[1, 2], [3]]}', "not points by photograph"),
    ],
)
def test_damaged_points_are_named(tmp_path, content, says):
    write(tmp_path, "a_neutral.jpg", "a_smiling.jpg", "b_neutral.jpg", "b_smiling.jpg")
    (tmp_path / "points189.json").write_text(content)
    with pytest.raises(PeopleError, match=rf"points189\.json: .*{says}"):
        list_people(tmp_path)


def test_a_folder_without_people(tmp_path):
    with pytest.raises(PeopleError, match="no such folder"):
        list_people(tmp_path / "none")
    write(tmp_path, "a_neutral.jpg", "a_smiling.jpg")
    with pytest.raises(PeopleError, match=r"two people or more.* has 1"):
        list_people(tmp_path)


def test_recognition_against_counting(rng):
    distance = torch.from_numpy(rng.uniform(1, 3, (7, 7)))
    distance.diagonal().mul_(0.6)
    found = recognition(distance)
    wins = [
        distance[a, a] < distance[b, c] for a in range(7) for b, c in product(range(7), repeat=2)
        if b != c
    ]  # fmt: skip
    assert found["auc"] == pytest.approx(np.mean(wins))
    right = [all(distance[a, a] <= distance[a, b] for b in range(7)) for a in range(7)]
    assert found["rank_1"] == pytest.approx(np.mean(right)) and 0 < found["rank_1"] < 1
    assert found["within_mm"] == pytest.approx(distance.diagonal().mean().item())
    assert found["between_mm"] > found["within_mm"]
    assert recognition(torch.ones(4, 4))["auc"] == 0.5


def test_distances_are_those_of_the_vertices(model, generator):
    shapes = torch.randn(2, 2, model.n_identity, generator=generator)
    people = [FittedPerson(str(i), *shapes[i], np.zeros((68, 2)), None) for i in range(2)]
    distance = identity_distances(model, people)
    moved = (shapes[1, 1] - shapes[0, 0]) @ model.basis[: model.n_identity]
    squares = moved.view(-1, 3).square().sum(1)
    expected = (squares * model.vertex_weight).sum().sqrt()
    assert distance[1, 0].item() == pytest.approx(expected.item(), rel=1e-3)
    assert distance[0, 0] > 0


def test_point_errors_are_percent_of_the_eyes_distance(rng):
    landmarks, points = template(rng)
    assert max(point_errors(landmarks, points).values()) == pytest.approx(0, abs=1e-9)
    moved = landmarks.copy()
    moved[48] += (3, 4)  # one of two mouth corners, by 5 of 100 pixels
    moved[33] += (0, 6)
    found = point_errors(moved, points)
    assert found["mouth corners"] == pytest.approx(2.5) and found["nose"] == pytest.approx(2)
    # The jaw may slide along its line, but not move across it.
    slid = np.concatenate([(landmarks[:16] + landmarks[1:17]) / 2, landmarks[16:]])
    assert point_errors(slid, points)["jaw"] < 1
    lower = landmarks + np.where(np.arange(68)[:, None] < 17, (0, 5), 0)
    assert 2 < point_errors(lower, points)["jaw"] <= 5
    person = FittedPerson("a", torch.zeros(1), torch.zeros(1), moved, points)
    unknown = person._replace(points=None)
    assert mean_point_errors([person, unknown]) == pytest.approx(found)
    assert mean_point_errors([unknown]) == {} and set(found) == set(PARTS)


def test_the_command_on_two_portraits(tmp_path, capsys):
    folder = tmp_path / "people"
    folder.mkdir()
    for name, photo in portraits().items():
        picture = Image.fromarray(to_bytes(photo))
        picture.save(folder / f"{name.split()[0]}_neutral.jpg", quality=95)
        picture.save(folder / f"{name.split()[0]}_smiling.jpg", quality=40)
    assert main(["evaluate", "people", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "rank-1 1.00, AUC 1.000" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "people.json").read_text())
    assert content["recognition"]["within_mm"] < 0.5 * content["recognition"]["between_mm"]
    assert content["points"] == {} and len(content["people"]) == 2
    assert all(row["nearest"] == name for name, row in content["people"].items())


def test_no_faces_is_one_clear_line(tmp_path, capsys):
    write(tmp_path, "a_neutral.jpg", "a_smiling.jpg", "b_neutral.jpg", "b_smiling.jpg")
    assert main(["evaluate", "people", str(tmp_path)]) == FAILED
    output = capsys.readouterr()
    assert "a left out" in output.out and "needs two" in output.err
