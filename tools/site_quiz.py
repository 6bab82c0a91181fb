"""The quiz as a page of the site: each question with its answers, and a box that explains them.

`docs/conf.py` appends `page` to docs/quiz.md. The questions are in notebooks/quiz.yml.
"""

from pathlib import Path
from typing import Any

import yaml

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
QUIZ = NOTEBOOKS / "quiz.yml"


def read(path: Path = QUIZ) -> list[dict[str, Any]]:
    """The chapters of a quiz, checked.

    Each has `chapter`, a notebook's name, and `questions`; a question has `ask` and `answers`; an
    answer has one of `right` and `wrong`, and `why`.

    Raises:
        ValueError: a question is not of this form, or has not exactly one right answer.
    """
    chapters = yaml.safe_load(path.read_text("utf-8"))
    for chapter in chapters:
        for number, question in enumerate(chapter["questions"], 1):
            place = f"{path}, {chapter['chapter']}, question {number}"
            if set(question) != {"ask", "answers"}:
                raise ValueError(f"{place}: needs 'ask' and 'answers', has {sorted(question)}")
            for answer in question["answers"]:
                if set(answer) not in ({"right", "why"}, {"wrong", "why"}):
                    raise ValueError(f"{place}: an answer needs 'right' or 'wrong', and 'why'")
            texts = [question["ask"], *(t for a in question["answers"] for t in a.values())]
            for text in texts:
                if not isinstance(text, str):  # YAML reads 1. as a number
                    raise ValueError(f"{place}: {text!r} is no text; put it in quotes")
            right = sum("right" in answer for answer in question["answers"])
            if right != 1:
                raise ValueError(f"{place}: {right} right answers, one expected")
    return chapters


def page(chapters: list[dict[str, Any]]) -> str:
    """The questions in Markdown for MyST, under a heading for each chapter."""
    parts = []
    for chapter in chapters:
        name = chapter["chapter"]
        title = (NOTEBOOKS / f"{name}.py").read_text("utf-8").splitlines()[1].removeprefix("# # ")
        parts.append(f"\n## {int(name[:2])} [{title}](../notebooks/{name}.ipynb)")
        for number, question in enumerate(chapter["questions"], 1):
            parts.append(f"**{int(name[:2])}.{number}** {question['ask']}")
            letters = "ABCDEFGH"[: len(question["answers"])]
            pairs = list(zip(letters, question["answers"], strict=True))
            parts.append("\n".join(f"- **{x}** {a.get('right') or a['wrong']}" for x, a in pairs))
            why = "\n".join(
                f"- **{letter}** is {'right' if 'right' in answer else 'wrong'}. {answer['why']}"
                for letter, answer in pairs
            )
            parts.append(f":::{{dropdown}} Which one, and why?\n{why}\n:::")
    return "\n\n".join(parts) + "\n"
