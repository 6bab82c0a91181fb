"""Write the reproduction table of README.md from figures/targets.toml and figures/*/result.json.

Below the paper's tables and figures stand measurements of ours, of figures/ours.toml, whose numbers
come from results by reference (`facerecon.repro.references`).

python tools/reproduction_table.py            write it
python tools/reproduction_table.py --check    only say whether it is current
"""

import argparse
import sys
from pathlib import Path

from facerecon.repro import ITEMS, Target, read_result, read_targets, status
from facerecon.repro.references import ReferenceFault, resolved
from facerecon.repro.targets import read_toml

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- reproduction table: made by tools/reproduction_table.py -->"
END = "<!-- end of the reproduction table -->"


def status_table(root: Path, targets: dict[str, Target]) -> str:
    """The reproduction table in Markdown: item, paper, ours, data, status and the reason for it.

    Args:
        root: the clone, with figures/claims.toml and a result.json per item.
    """
    lines = ["| in the paper | paper | here | on what data | status |", "|---|---|---|---|---|"]
    for item, aim in targets.items():
        result = read_result(root / "figures" / item) or {}
        outcome = result.get("outcome", {})
        ours = outcome.get("ours", f"run `facerecon reproduce {item}`")
        kind, reason = status(item, aim, root)
        data = f"{result['data']} (preset {result['preset']})" if result.get("data") else ""
        title = f"[{aim.title}](notebooks/{ITEMS[item]}.ipynb)" if item in ITEMS else aim.title
        lines.append(f"| {title} | {aim.reported} | {ours} |")
        lines[-1] += f" {data} | *{kind}*{': ' if reason else ''}{reason} |"
    return "\n".join(lines)


def own_rows(root: Path) -> list[str]:
    """Rows of what the paper does not measure, in the columns of `status_table`.

    Args:
        root: the clone, with figures/ours.toml and the results that it refers to.

    Raises:
        ReferenceFault: a reference leads nowhere.
    """
    rows = []
    for name, own in read_toml(root / "figures/ours.toml").items():
        here = resolved(own["here"], root, f"figures/ours.toml, {name}")
        data = resolved(own["data"], root, f"figures/ours.toml, {name}")
        rows.append(f"| {own['title']} | not in the paper | {here} | {data} |")
        rows[-1] += f" *ours, not the paper's*: {own['reason']} |"
    return rows


def updated(readme: str, table: str) -> str:
    """The README with this table between its marks.

    Raises:
        ValueError: the marks are not there, or not once.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"README.md needs the lines {BEGIN!r} and {END!r}, once each")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns 1 if --check finds another table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    args = parser.parse_args(arguments)
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    try:
        table = [status_table(ROOT, read_targets(ROOT / "figures/targets.toml")), *own_rows(ROOT)]
    except ReferenceFault as error:
        print(error, file=sys.stderr)
        return 1
    new = updated(old, "\n".join(table))
    if old == new:
        return 0
    if args.check:
        print(f"{path}: its table is not current; run {Path(__file__).name}", file=sys.stderr)
        return 1
    path.write_text(new, "utf-8", newline="\n")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
