"""Write docs/claims.md: the paper's claims, judged by figures/ and benchmarks/results.

python tools/claims.py            write it
python tools/claims.py --check    only say whether it is current
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from facerecon.repro import ITEMS, judge, read_claims
from facerecon.repro.claims import FILE, VERDICTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "claims.md"
HEAD = """# The paper's claims

What the paper says about its method, word for word, and whether it holds here. Made by
`python tools/claims.py` from [`figures/claims.toml`](../figures/claims.toml), the checks in
[`claim_checks.py`](../src/facerecon/repro/claim_checks.py) and the results of
`facerecon reproduce` and the benchmarks. The notebook of an item shows the same for its own run. A
criterion that the paper does not give is ours.

The methods that the paper compares with, [20], [34], [36] and [47], are our re-implementations from
their publications ([methods.md](methods.md)). Where an interval is given, it is of a paired
bootstrap over people, with 95 %.
"""
COLUMNS = ("section", "the paper says", "here it", "holds if", "measured", "shown in")


def page(root: Path) -> str:
    """The page in Markdown.

    Args:
        root: the clone whose claims and results these are.
    """
    judgments = [judge(claim, root) for claim in read_claims(root / FILE)]
    counts = Counter(judgment.verdict for judgment in judgments)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    lines = [HEAD, f"Of {len(judgments)} claims: {summary}.", ""]
    lines += [
        "| section | the paper says | here it | holds if | measured | shown in |",
        "|" + "---|" * 6,
    ]
    for claim, verdict, measured in sorted(judgments, key=lambda j: _place(j.claim.section)):
        shown = f"[{claim.item}](../notebooks/{ITEMS[claim.item]}.ipynb)"
        cells = [claim.section, f"“{claim.says}”", f"**{verdict}**", claim.holds_if]
        lines.append("| " + " | ".join([*cells, measured, shown]) + " |")
    return "\n".join(lines) + "\n"


def _place(section: str) -> list[int]:
    return [int(part) for part in section.split(".")]


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns 1 if --check finds another page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    args = parser.parse_args(arguments)
    new = page(ROOT)
    if PAGE.is_file() and PAGE.read_text("utf-8") == new:
        return 0
    if args.check:
        print(f"{PAGE}: is not current; run {Path(__file__).name}", file=sys.stderr)
        return 1
    PAGE.write_text(new, "utf-8", newline="\n")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
