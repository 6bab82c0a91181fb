"""Bring every measured number of README.md and docs up to date with the results it comes from.

    python tools/results.py            write the numbers, the tables and the lists
    python tools/results.py --check    exit 1 if a page shows something else

In prose a number stands between two comments (`facerecon.repro.references`).
What was measured once and is kept stands between `<!-- historical -->` and
`<!-- end of historical -->`, and begins with a line in italics that says so.
"""

import argparse
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib

from facerecon.repro.references import REFERENCE, ReferenceFault, resolved, result_file

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "src" / "facerecon" / "assets"
HISTORICAL = re.compile(r"<!-- historical -->\n(.*?)<!-- end of historical -->", re.DOTALL)
MARKED = (
    r"<!-- reproduction table.*?<!-- end of the reproduction table -->",
    r"<!-- \w+ -->\n.*?<!-- end -->",  # of benchmarks/tables.py
    HISTORICAL.pattern,
    r"```.*?```",
    r"`[^`\n]*`",
    REFERENCE.pattern,
)
UNIT = r"(?:mm|°|degrees|%|ms)(?!\w)"
MEASURED = re.compile(rf"(?<![\w.])\d+\.\d+(?:(?:,| and| to| or|–) \d+(?:\.\d+)?)*\s?{UNIT}")
SETTINGS = {
    "docs/evaluation.md": ["of 1.5 % of the crop", "6.4 mm on a mean face"],
    "docs/models.md": ["less than 0.01 mm are dropped"],
    "docs/teaching.md": ["A paper reports 2.1 mm, another one 2.9 mm"],
    "docs/teaching_answers.md": ["*0.1 %?*"],
    "docs/training.md": ["by more than\n0.1 degrees"],
}
"""Decimal numbers with a unit that nobody measured: limits, and examples in questions."""
LIST = ROOT / "docs" / "measurements.md"
HEAD = """# Where the numbers come from

Made by `python tools/results.py`, which also writes every measured number into the pages. A test
fails where a result was measured with other weights than those that ship, unless this list says so.

| result | weights | commit | machine | renewed by |
|---|---|---|---|---|"""


def pages(root: Path) -> list[Path]:
    """The pages whose numbers are resolved and checked; the lists are made whole by tools."""
    made = {"claims.md", "measurements.md"}
    found = [path for path in sorted((root / "docs").glob("*.md")) if path.name not in made]
    return [root / "README.md", *found]


def unreferenced(text: str, allowed: list[str]) -> list[str]:
    """Decimal numbers with a unit that no reference, table or historical block accounts for."""
    for phrase in allowed:
        text = text.replace(phrase, "")
    for pattern in MARKED:
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return [match[0] for match in MEASURED.finditer(text)]


def results(root: Path) -> Iterator[tuple[str, dict]]:
    """All results by name, as a reference gives it."""
    for path in sorted((root / "figures").glob("*/result.json")):
        yield f"figures/{path.parent.name}", json.loads(path.read_text("utf-8"))
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        yield path.stem, json.loads(path.read_text("utf-8"))


def measured_with(record: dict) -> dict[str, str]:
    """Hashes of the weights that a result names, by the network's name."""
    found = {}
    for part in (record.get("weights"), record.get("refined_by"), record):
        for name, entry in (part or {}).items() if isinstance(part, dict) else ():
            if isinstance(entry, dict) and "sha256" in entry and name not in ("model", "heads"):
                stem = entry.get("file", name).removesuffix(".safetensors")
                found[stem] = entry["sha256"]
    return dict(sorted(found.items()))


def faults(name: str, record: dict, listed: dict[str, dict], shipped: dict[str, str]) -> list[str]:
    """What is wrong with the weights of a result; empty if they ship, or the list says why not.

    Args:
        listed: benchmarks/results.toml.
        shipped: hashes of the weights that ship.
    """
    about = listed.get(name, {})
    if about.get("why"):
        return []
    found = measured_with(record)
    if not name.startswith("figures/"):
        if name not in listed:
            return [f"{name}: is not in benchmarks/results.toml"]
        lacking = [stem for stem in about["weights"] if stem not in found]
        if lacking:
            return [f"{name}: does not say which {', '.join(lacking)} it was measured with"]
    return [
        f"{name}: was measured with another {stem} than the one that ships"
        for stem, digest in found.items()
        if shipped.get(stem) != digest
    ]


def shipped_hashes(assets: Path = ASSETS) -> dict[str, str]:
    """Of the weights files, by stem."""
    files = sorted(assets.glob("*.safetensors"))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def measurements(root: Path) -> str:
    """The list of all results and of what is kept as history, in Markdown."""
    listed = tomllib.loads((root / "benchmarks" / "results.toml").read_text("utf-8"))
    shipped, lines = shipped_hashes(), [HEAD]
    for name, record in results(root):
        about, path = listed.get(name, {}), result_file(name, root).relative_to(root).as_posix()
        networks = measured_with(record)
        state = {stem: shipped.get(stem) == digest for stem, digest in networks.items()}
        weights = ", ".join(f"{s}{'' if ours else ' (**older**)'}" for s, ours in state.items())
        weights = about.get("why") or weights or "none"
        machine = record.get("machine") or {}
        processor = machine.get("processor", "") if isinstance(machine, dict) else machine
        command = about.get("command", f"facerecon reproduce {name.partition('/')[2]}")
        cells = [f"[{name}](../{path})", weights, record.get("commit", ""), processor]
        lines.append("| " + " | ".join([*cells, f"`{command}`"]) + " |")
    lines += ["", "## Kept as it was", "", "Measured once, with weights that no longer ship:", ""]
    for path in pages(root):
        for block in HISTORICAL.findall(path.read_text("utf-8")):
            first = block.strip().split("\n\n")[0].replace("\n", " ")
            link = path.relative_to(root / "docs") if path.parent.name == "docs" else "../README.md"
            lines.append(f"- [{path.name}]({link}): {first}")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns 1 if --check finds a difference, or a reference leads nowhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    check = parser.parse_args(arguments).check
    code = 0
    for name in ("benchmarks/tables.py", "tools/claims.py", "tools/reproduction_table.py"):
        code |= _load(ROOT / name).main(["--check"] if check else [])
    try:
        wanted = {p: resolved(p.read_text("utf-8"), ROOT, p.name) for p in pages(ROOT)}
    except ReferenceFault as error:
        print(error, file=sys.stderr)
        return 1
    wanted[LIST] = measurements(ROOT)
    for path, text in wanted.items():
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        if check:
            print(f"{path}: is not current; run {Path(__file__).name}", file=sys.stderr)
            code = 1
        else:
            path.write_text(text, "utf-8", newline="\n")
            print(f"wrote {path}")
    return code


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
