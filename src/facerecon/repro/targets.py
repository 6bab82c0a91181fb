"""What the paper reports (figures/targets.toml), and our results (result.json) beside it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from facerecon.repro.items import ReproductionError, find_file

FILE = Path("figures") / "targets.toml"


@dataclass(frozen=True)
class Target:
    """One table or figure of the paper.

    Attributes:
        title: such as "Figure 4, progress through iterations".
        caption: the paper's, word for word.
        text: what the paper says about it elsewhere, word for word.
        section: of the paper that speaks of it.
        paper: what is there, short.
        columns, rows: of a table: the heads, and the numbers by the row's name.
        methods: the row by the name of our implementation (`methods.registry`).
        same_data: whether the paper's own data is not needed to reproduce it.
        reason: one sentence: what the result here rests on, if it is the paper's.
    """

    title: str
    caption: str
    section: str
    paper: str = "pictures"
    text: str = ""
    columns: list[str] = field(default_factory=list)
    rows: dict[str, list[float]] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    same_data: bool = False
    reason: str = ""

    @property
    def reported(self) -> str:
        """What is there, or the rows of the table."""
        if not self.rows:
            return self.paper
        rows = (f"{name} {' / '.join(f'{n:.2f}' for n in row)}" for name, row in self.rows.items())
        return f"{', '.join(rows)} mm"


def read_targets(path: str | Path | None = None) -> dict[str, Target]:
    """All of the paper's tables and figures, by item.

    Args:
        path: the file; by default that of the clone.

    Raises:
        ReproductionError: the file is missing or damaged, or Python 3.10 lacks tomli.
    """
    path = find_file(FILE) if path is None else Path(path)
    try:
        return {item: Target(**values) for item, values in read_toml(path).items()}
    except TypeError as error:
        raise ReproductionError(f"{path}: cannot be read ({error})") from None


def read_toml(path: Path) -> dict:
    """A TOML file.

    Raises:
        ReproductionError: it is missing or damaged, or Python 3.10 lacks tomli.
    """
    try:
        import tomllib
    except ImportError:  # before Python 3.11
        try:
            import tomli as tomllib
        except ImportError as error:
            raise ReproductionError(
                'Python 3.10 needs tomli to read TOML: pip install "facerecon[notebooks]"'
            ) from error
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ReproductionError(f"{path}: cannot be read ({error})") from None


def target(item: str) -> Target:
    """What the paper says about one item.

    Raises:
        ReproductionError: see `read_targets`; or the paper has no such item.
    """
    targets = read_targets()
    if item not in targets:
        raise ReproductionError(f"unknown item {item!r}; {FILE} has: {', '.join(targets)}")
    return targets[item]


def read_result(folder: Path) -> dict | None:
    """What a notebook recorded, or None."""
    try:
        return json.loads((folder / "result.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
