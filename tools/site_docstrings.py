"""Docstrings as the site needs them: this project's plain spelling as reStructuredText.

A docstring is paragraphs, sections such as `Args:`, lists of `name: what it is`, and indented code.
"""

import re
import textwrap
from collections.abc import Sequence

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Warns|Notes?|Examples?):$")
ENTRY = re.compile(r"([\w*.`][^:]{0,60}): ")
CODE = re.compile(r"(``[^`]+``|`[^`]+`)")


def restructured(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring, without their common indentation, as reStructuredText."""
    out: list[str] = []
    within = False
    for block in "\n".join(lines).strip("\n").split("\n\n"):
        first, _, rest = block.strip("\n").partition("\n")
        if head := SECTION.match(first):
            out += [f"**{head[1].replace('Args', 'Arguments')}**", ""]
            within, block = True, rest
        elif first.startswith("    ") and not within:
            out += ["::", "", *textwrap.indent(textwrap.dedent(block), "    ").split("\n"), ""]
            continue
        else:
            within &= first.startswith(" ")
        parts = entries(textwrap.dedent(block).strip("\n").split("\n"), within)
        if len(parts) > 1 or within:
            parts = [re.sub(r"^([\w\\*., ()]+): ", r"| **\1**: ", part) for part in parts]
            parts = [part if part.startswith("| ") else f"| {part}" for part in parts]
        out += [*parts, ""]
    return out


def entries(lines: Sequence[str], within: bool) -> list[str]:
    """One text for each entry of a list, and one for a whole paragraph."""
    texts: list[str] = []
    listed = within or len([line for line in lines if ENTRY.match(line)]) > 1
    for line in lines:
        starts = ENTRY.match(line) or (texts and texts[-1].endswith("."))
        if not texts or line.startswith("- ") or (listed and starts and not line.startswith(" ")):
            texts.append(line.strip())
        else:
            texts[-1] += f" {line.strip()}"
    return [literal(text) for text in texts]


def literal(text: str) -> str:
    """A text whose code is marked, and in which no other sign means anything."""
    parts = CODE.split(text)
    for place in range(0, len(parts), 2):
        parts[place] = re.sub(r"([\\*|_`])", r"\\\1", parts[place])
    for place in range(1, len(parts), 2):
        before = "\\ " if parts[place - 1][-1:].isalnum() else ""
        after = "" if re.match(r"$|[\s\"')\]}>/:.,;!?-]", parts[place + 1]) else "\\ "
        parts[place] = f"{before}``{parts[place].strip('`')}``{after}"
    return "".join(parts)
