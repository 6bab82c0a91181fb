"""Do two runs of an item agree? Each value has a tolerance; what exceeds it is named with its size.

Whole numbers, texts and truth values must be equal. Of other numbers a relative tolerance is
allowed, and one unit of the last digit that was recorded. `DEFAULT` covers another number of
threads: sums run in another order. `TOLERANCES` names what amplifies that.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from facerecon.repro.targets import read_result

DEFAULT = 0.01
TOLERANCES: dict[str, dict[str, float]] = {
    # What is learned first decides what is learned next (docs/portability.md).
    "coarsenet": {"small/*": 0.25},
    # A fit of many steps: 2.5 % were seen between two processors.
    "differentiable_rendering": {"fit/*": 0.05},
    "end_to_end": {"tuning/*": 0.05, "*/landmarks_moved_by_tuning_px": 0.25},
    "finenet": {"drawn/short training/*": 0.1, "checkerboard/*": 0.25},
    # Gradients of single steps, recorded to three digits.
    "fig_05": {"gradient_norm/*": 0.05, "vertices_without_gradient": 0.01},
    "fig_07": {"*": 0.1},
}
"""Relative tolerances by item and by a pattern of the value's name; the first that fits counts."""


class Difference(NamedTuple):
    """A value that exceeds its tolerance; `relative` is None if it is no number."""

    name: str
    old: object
    new: object
    relative: float | None
    allowed: float

    def __str__(self) -> str:
        if self.relative is None:
            return f"{self.name}: {_short(self.old)} -> {_short(self.new)}"
        limit = f"allowed {self.allowed:.2%}" if self.allowed else "must be equal"
        change = f"{_short(self.old)} -> {_short(self.new)}, {self.relative:.2%}"
        return f"{self.name}: {change} ({limit})"


class Agreement(NamedTuple):
    """How two records of an item compare.

    Attributes:
        values: how many numbers, texts and truth values were compared.
        differences: those that exceed their tolerance.
        largest: the largest relative difference of a number within its tolerance, and its name.
        notes: what was not the same when they were made, such as the weights.
    """

    item: str
    values: int
    differences: list[Difference]
    largest: tuple[float, str]
    notes: list[str]

    def __str__(self) -> str:
        """One line, then one for each difference."""
        notes = f" [{'; '.join(self.notes)}]" if self.notes else ""
        if not self.differences:
            size, name = self.largest
            largest = f", the largest difference is {100 * size:.2g} %, of {name}"
            most = largest if size else " exactly"
            return f"{self.item}: {self.values} values agree{most}{notes}"
        head = f"{self.item}: {len(self.differences)} of {self.values} values DIFFER{notes}"
        return "\n".join([head, *(f"    {difference}" for difference in self.differences)])


def tolerance(item: str, name: str) -> float:
    """The relative tolerance of a value of an item; whole numbers have one only if it is named."""
    return _named(item, name) or DEFAULT


def compare(item: str, new: Path, old: Path) -> Agreement:
    """The records of an item in two folders, value by value.

    Args:
        new, old: folders that hold a result.json; one without counts as a difference.
    """
    records = [read_result(folder) for folder in (old, new)]
    for folder, record in zip((old, new), records, strict=True):
        if record is None or not record.get("values"):
            missing = Difference(f"{folder}/result.json", "a record", "none", None, 0.0)
            return Agreement(item, 0, [missing], (0.0, ""), [])
    raw = [record["values"] for record in records]
    shared = [{name: v for name, v in values.items() if name in raw[0] and name in raw[1]}
              for values in raw]  # fmt: skip
    differences = [
        Difference(name, raw[0].get(name, "(none)"), raw[1].get(name, "(none)"), None, 0.0)
        for name in dict.fromkeys([*raw[0], *raw[1]])
        if name not in shared[0]
    ]
    before, after = (dict(_flat(values)) for values in shared)
    largest = (0.0, "")
    for name in dict.fromkeys([*before, *after]):
        pair = before.get(name, "(none)"), after.get(name, "(none)")
        relative, allowed = _relative(*pair), _allowed(item, name, *pair)
        if relative is None or (relative > allowed and not _last_digit(*pair)):
            if relative is not None or repr(pair[0]) != repr(pair[1]):
                differences.append(Difference(name, *pair, relative, allowed))
        elif relative > largest[0]:
            largest = relative, name
    notes = [
        f"{what}: {old_value} -> {new_value}"
        for what in ("preset", "seed", "data")
        if (old_value := records[0].get(what)) != (new_value := records[1].get(what))
    ]
    weights = [record.get("weights", {}) for record in records]
    old_hashes, new_hashes = ({k: v["sha256"] for k, v in w.items()} for w in weights)
    if other := sorted({name for name, _ in old_hashes.items() ^ new_hashes.items()}):
        notes.append(f"other weights: {', '.join(other)}")
    compared = len(before | after) + sum(name not in shared[0] for name in raw[0] | raw[1])
    return Agreement(item, compared, differences, largest, notes)


def _named(item: str, name: str) -> float | None:
    patterns = TOLERANCES.get(item, {})
    return next((size for key, size in patterns.items() if fnmatchcase(name, key)), None)


def _allowed(item: str, name: str, old: object, new: object) -> float:
    whole = type(old) is type(new) is int
    return (_named(item, name) or 0.0) if whole else tolerance(item, name)


def _flat(values: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Names and single values; entries of a list as name[0], name[1], ..."""
    for name, value in values.items():
        if isinstance(value, list):
            yield from _flat({f"{name}[{index}]": entry for index, entry in enumerate(value)})
        else:
            yield name, value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _relative(old: object, new: object) -> float | None:
    """The difference over the larger of the two; None if one is no number."""
    if not (_number(old) and _number(new)):
        return None
    if old == new:
        return 0.0
    return abs(old - new) / max(abs(old), abs(new))


def _last_digit(old: object, new: object) -> bool:
    """Whether two decimal numbers are one unit of the last recorded digit apart, at most 0.01."""
    if type(old) is int and type(new) is int:
        return False
    exact = [Decimal(repr(value)) for value in (old, new)]
    digits = min(-2, *(value.normalize().as_tuple().exponent for value in exact))
    return abs(exact[0] - exact[1]) <= Decimal(1).scaleb(digits)


def _short(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value)[:60]
