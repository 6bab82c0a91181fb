"""Heads with one strong expression: what is measured, and what is found of it."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from facerecon.evaluation.heads.expressions import (
    EXPRESSIONS,
    MEASURES,
    ExpressionError,
    activation,
    evaluate_expressions,
    expressions_table,
    openings,
)
from facerecon.evaluation.heads.models import load_heads
from facerecon.evaluation.heads.views import Heads
from facerecon.evaluation.sheets import expressions_sheet
from facerecon.weights import load_coarsenet

OWN = Path(str(files("facerecon") / "assets" / "morphable_model.npz"))


@pytest.fixture(scope="module")
def heads(model):
    return Heads(load_heads(OWN), model)


@pytest.fixture(scope="module")
def found(model, heads):
    return evaluate_expressions(load_coarsenet(), model, heads, 6, seed=1)


def test_openings_are_shares_of_the_eyes_distance():
    landmarks = torch.zeros(1, 68, 2)
    landmarks[0, 45, 0] = 50.0  # outer eye corners 50 pixels apart
    landmarks[0, [61, 62, 63], 1], landmarks[0, [67, 66, 65], 1] = -4.0, 6.0
    landmarks[0, 54, 0] = 30.0
    found = openings(landmarks)
    assert found["gape"].item() == pytest.approx(20) and found["width"].item() == pytest.approx(60)
    assert found["eyes"].item() == 0


def test_a_unit_means_both_of_its_sides(heads):
    chosen = activation(heads, "eyeBlink").bool()
    names = {name for name, yes in zip(heads.units, chosen, strict=True) if yes}
    assert names == {"eyeBlinkLeft", "eyeBlinkRight"}
    assert not activation(heads, None).any()
    with pytest.raises(ExpressionError, match="no expression tailWag"):
        activation(heads, "tailWag")


def test_expressions_change_what_they_should(found):
    assert list(found) == list(EXPRESSIONS)
    true = {name: each.true for name, each in found.items()}
    assert true["mouth open"]["gape"] > true["neutral"]["gape"] + 10
    assert true["lids shut"]["eyes"] < 0.5 * true["neutral"]["eyes"]
    assert true["lips pursed"]["width"] < true["neutral"]["width"]
    assert true["smile"]["width"] > true["neutral"]["width"]


def test_the_network_that_ships_sees_them(found):
    said = {name: each.estimated for name, each in found.items()}
    assert said["mouth open"]["gape"] > said["neutral"]["gape"] + 5
    assert said["lids shut"]["eyes"] < said["neutral"]["eyes"]


def test_table_and_sheet(found, model):
    lines = expressions_table(found).splitlines()
    assert len(lines) == 1 + len(EXPRESSIONS) and all(name in lines[0] for name in MEASURES)
    sheet = expressions_sheet(model, found, each=2)
    assert sheet.width == 2 * (3 * 120 + 4) and sheet.height % len(EXPRESSIONS) == 0
