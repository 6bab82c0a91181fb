import re

import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from facerecon.course import Exercise, ExerciseError

GRID = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
SQUARE = np.array([[1.0, 2.0], [5.0, 9.0]])


def exercise() -> Exercise:
    return Exercise("2.1", "look at the axes.", "the second axis is x.")


def message(answer, expected=GRID, **options) -> str:
    with pytest.raises(ExerciseError) as caught:
        exercise().equal("the map", answer, expected, **options)
    return str(caught.value)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_right_answer_of_any_kind_passes(kind, wrapped, capsys):
    answer, each = kind(GRID), exercise()
    found = each.equal("the map", (lambda: answer) if wrapped else answer, GRID)
    assert found is answer and not each.solved
    each.true(lambda: True, "never")
    each.passed("maps have axes.")
    assert each.solved and capsys.readouterr().out == "2.1 is right: maps have axes.\n"


def test_tolerances_are_those_of_allclose():
    exercise().equal("x", 100.009, 100.0, rtol=1e-4)
    message(100.011, 100.0, rtol=1e-4)
    exercise().equal("x", 0.9, 0.0, atol=1.0)
    exercise().equal("x", torch.tensor([2.0]), 2)  # one number is one number
    exercise().equal("x", [np.nan, 1], [np.nan, 1])
    exercise().equal("x", torch.tensor([True, False]), [1, 0])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "The map: the answer is None. Does your function end with a return?"),
        (-GRID, "the sign is flipped"),
        (0 * GRID, "zero everywhere"),
        (3 * GRID, "it is 3 times what is expected"),
        (GRID - 0.5, "it is off by -0.5 everywhere"),
        (GRID.T, r"the shape is (3, 2), expected (2, 3). It looks transposed."),
        (GRID[0], r"the shape is (3,), expected (2, 3)."),
        (GRID[:, ::-1], "in reverse order along axis 1"),
        (GRID.ravel()[[1, 0, 2, 3, 4, 5]].reshape(2, 3), "in another order"),
        (np.where(GRID > 16, np.nan, GRID), "NaN or infinite in 1 of 6 places"),
        (GRID + np.eye(2, 3) * 0.3, "The map: expected about 1 at [0, 0], your function gave 1.3."),
        ("two", "a number or an array is expected, your function gave a str."),
        ([[1, 2], [3]], "a number or an array is expected, your function gave a list."),
    ],
)
def test_a_wrong_answer_says_what_is_wrong_with_it(answer, says):
    text = message(answer)
    assert text.startswith("2.1 is not right yet. ") and says in text
    assert text.splitlines()[-2:] == [
        "Hint 1 of 2: look at the axes.",
        "exercise.hint() prints the next one.",
    ]


def test_a_transposed_square_is_told_apart_from_another_order():
    assert "it is transposed" in message(SQUARE.T, SQUARE)


def test_a_scalar_is_not_blamed_on_a_factor():
    text = message(2.0, 6.0)
    assert "expected about 6, your function gave 2." in text and "times" not in text


def test_known_mistakes_come_first_whatever_their_shape():
    mistakes = {"You forgot the sign.": -GRID, "You summed over columns.": GRID.sum(axis=1)}
    assert "The map: You forgot the sign.\n" in message(-GRID, mistakes=mistakes)
    assert "You summed over columns." in message(GRID.sum(axis=1), mistakes=mistakes)
    assert "half" not in message(GRID / 3, mistakes={"It is half.": GRID / 2})
    assert "It is half." in message([1.0], 2.0, mistakes={"It is half.": np.array([1.0])})


def test_an_exception_becomes_a_sentence_with_the_line_of_the_student():
    def student(x):
        y = x + 1
        return y.nonsense

    text = message(lambda: student(3))
    assert "Your function stopped with AttributeError: 'int' object has no attribute" in text
    assert re.search(r"in line \d+ of student: return y.nonsense", text)
    with pytest.raises(ExerciseError, match="ZeroDivisionError"):
        exercise().true(lambda: 1 / 0, "never said")


def test_what_is_done_with_a_missing_return_is_named():
    assert "gave None. Does it end with a return?" in message(lambda: (lambda x: None)(1)[0])


def test_a_false_condition_says_its_sentence():
    with pytest.raises(ExerciseError, match="Only two numbers may change"):
        exercise().true(torch.tensor(False), "Only two numbers may change.")


def test_an_unsolved_exercise_is_reported_once_and_stops_nothing(capsys):
    def stub():
        raise NotImplementedError

    each = exercise()
    assert each.equal("the map", stub, GRID) is None
    each.equal("another", stub, GRID)
    each.true(lambda: None.shape, "never evaluated")
    each.passed("never said.")
    out, err = capsys.readouterr()
    assert not each.solved and out == ""
    assert err == "2.1 is not solved yet. exercise.hint() prints a hint.\n"
    each.hint()
    assert capsys.readouterr().out == "Hint 1 of 2: look at the axes.\n"


def test_what_a_library_has_not_implemented_is_a_wrong_answer():
    def student():
        raise NotImplementedError("'cumsum' for half")

    assert "stopped with NotImplementedError: 'cumsum' for half" in message(student)


def test_hints_come_one_by_one(capsys):
    each = exercise()
    with pytest.raises(ExerciseError, match="Hint 1 of 2"):
        each.equal("the map", -GRID, GRID)
    for expected in ("Hint 2 of 2: the second axis is x.", "There is no other hint for 2.1."):
        each.hint()
        assert capsys.readouterr().out == f"{expected}\n"
    with pytest.raises(ExerciseError) as caught:
        Exercise("1.1").equal("x", 1, 2)
    assert "hint" not in str(caught.value).lower()


@pytest.mark.slow
def test_jupyter_shows_the_message_without_a_traceback():
    source = 'exercise = Exercise("2.1", "first.")\nexercise.equal("x", lambda: 1, 2)'
    cells = [new_code_cell("from facerecon.course import Exercise"), new_code_cell(source)]
    notebook = new_notebook(cells=cells)
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, kernel_name="python3").execute()
    (output,) = notebook.cells[1].outputs
    plain = re.sub(r"\x1b\[\d+m", "", "\n".join(output.traceback))
    assert plain.splitlines() == [
        "2.1 is not right yet. X: expected about 2, your function gave 1.",
        "Hint 1 of 1: first.",
    ]
