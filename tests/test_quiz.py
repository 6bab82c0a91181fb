"""The form of the quiz. That a right answer is right, no test can see."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from test_notebooks import load_tool

ROOT = Path(__file__).resolve().parent.parent
QUIZ = load_tool("site_quiz")


def place_of_the_right_one(question: dict) -> int:
    return ["right" in answer for answer in question["answers"]].index(True)


def test_every_chapter_has_five_to_eight_questions_with_explained_answers() -> None:
    chapters = QUIZ.read()  # raises where a question is not of the right form
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("0*.py"))]
    assert [chapter["chapter"] for chapter in chapters] == names
    for chapter in chapters:
        questions = chapter["questions"]
        assert 5 <= len(questions) <= 8, chapter["chapter"]
        assert len({question["ask"] for question in questions}) == len(questions)
        for question in questions:
            answers = question["answers"]
            assert len(answers) >= 3, question["ask"]
            texts = [answer.get("right") or answer["wrong"] for answer in answers]
            assert len(set(texts)) == len(texts)
            for answer in answers:
                assert len(answer["why"]) > 15 and answer["why"].endswith((".", '."')), answer
    everything = [question for chapter in chapters for question in chapter["questions"]]
    places = Counter(place_of_the_right_one(question) for question in everything)
    assert max(places.values()) < 0.5 * len(everything), f"guessable: {places}"
    longest = 0
    for question in everything:
        lengths = [len(answer.get("right") or answer["wrong"]) for answer in question["answers"]]
        longest += lengths.index(max(lengths)) == place_of_the_right_one(question)
    assert longest < 0.6 * len(everything), f"the longest answer is right {longest} times"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [{"right": "a", "why": "b."}, {"right": "c", "why": "d."}]}, "2 right"),
        ({"answers": [{"wrong": "a", "why": "b."}]}, "0 right"),
        ({"answers": [{"right": "a"}]}, "'why'"),
        ({"answers": [{"right": 1.0, "why": "b."}]}, "in quotes"),
        ({"hint": "a"}, "needs 'ask' and 'answers'"),
    ],
)
def test_a_question_of_another_form_is_refused(tmp_path, change: dict, message: str) -> None:
    question = {"ask": "a?", "answers": [{"right": "a", "why": "b."}]} | change
    path = tmp_path / "quiz.yml"
    path.write_text(yaml.safe_dump([{"chapter": "00_check_setup", "questions": [question]}]))
    with pytest.raises(ValueError, match=message):
        QUIZ.read(path)


def test_the_page_asks_before_it_tells() -> None:
    text = QUIZ.page(QUIZ.read())
    assert text.count(":::{dropdown}") == text.count("** is right.") > 40
    first, box = text.split(":::{dropdown}")[:2]
    assert "is right" not in first and "**A** is wrong" in box.split(":::")[0]
    assert (
        "## 4 [A renderer with gradients](../notebooks/04_differentiable_rendering.ipynb)" in text
    )
