"""The README speaks of what exists: its links, attributes and commands."""

import re
import shlex
from pathlib import Path

import pytest

from facerecon.cli import _parser
from facerecon.reconstruction import Reconstruction

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^(facerecon [a-z]+ .*?)(?: +#.*)?$", README, re.M)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_attributes_exist() -> None:
    table = README.split("## What you get")[1].split("\n\n`face.save")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) >= 15
    known = {*Reconstruction.__dataclass_fields__, *vars(Reconstruction)}
    assert [name for name in names if name not in known] == []
    assert set(Reconstruction.__dataclass_fields__) <= set(names)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    _parser(training=True).parse_args(shlex.split(command)[1:])  # exits on a mistake


def test_all_kinds_of_commands_were_found() -> None:
    kinds = {"reconstruct", "reproduce", "train", "data", "evaluate", "bench", "view"}
    kinds |= {"video", "demo", "export"}
    assert {command.split()[1] for command in COMMANDS} == kinds
