"""Numbers of a page that come from results, by reference.

A number stands between two comments, which no rendered page shows:

    nearer by <!-- = yale > means > method=normals+sfs > normals : .2f -->12.86<!-- /= --> degrees

The first names where the number comes from and how it is written. `yale` is
benchmarks/results/yale.json, `figures/fig_09` that item's result.json; what follows are keys,
places in a list, key=value,key=value for the entry of a list that has these, or # for the number of
entries; the end is a Python format.
"""

import json
import re
from pathlib import Path

REFERENCE = re.compile(r"(<!-- = (?P<path>[^\n]+?) : (?P<format>\S+) -->)(.*?)(<!-- /= -->)")


class ReferenceFault(ValueError):
    """A reference in a page leads nowhere; the message names page, reference and cause."""


def resolved(text: str, root: Path, name: str) -> str:
    """A page with the numbers that its references lead to.

    Raises:
        ReferenceFault: a reference leads nowhere, or is not closed.
    """
    if text.count("<!-- = ") != len(REFERENCE.findall(text)):
        raise ReferenceFault(f"{name}: a reference is not closed by <!-- /= --> on its line")

    def number(match: re.Match) -> str:
        try:
            shown = format(look_up(match["path"], root), match["format"])
        except (OSError, KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
            cause = f"{type(error).__name__}: {error}"
            raise ReferenceFault(f"{name}: {match[1]} leads nowhere ({cause})") from None
        return f"{match[1]}{shown}{match[5]}"

    return REFERENCE.sub(number, text)


def look_up(path: str, root: Path) -> object:
    """The value that a reference names."""
    source, *keys = path.split(" > ")
    value = json.loads(result_file(source, root).read_text("utf-8"))
    if source.startswith("figures/"):
        value = value["values"]
    for key in keys:
        if key == "#":
            value = len(value)
        elif isinstance(value, dict):
            value = value[key]
        elif "=" in key:
            wanted = dict(part.split("=") for part in key.split(","))
            value = next(e for e in value if {n: str(e[n]) for n in wanted} == wanted)
        else:
            value = value[int(key)]
    return value


def result_file(source: str, root: Path) -> Path:
    """Where a result lies: `yale`, or `figures/fig_09`."""
    if source.startswith("figures/"):
        return root / source / "result.json"
    return root / "benchmarks" / "results" / f"{source}.json"
