"""Draw docs/architecture.svg: the modules and packages of src/facerecon and who imports whom.

    python tools/import_diagram.py            write it
    python tools/import_diagram.py --check    only say whether it is current

A box stands above everything that it imports. Arrows that follow from others are left out, so that
the direct steps show: A to C is not drawn where A imports B and B imports C.
"""

import argparse
import ast
import io
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "facerecon"
OUT = ROOT / "docs" / "architecture.svg"
# The paper's method: the modules that the table of docs/architecture.md gives a section to.
PAPER = {
    "morphable_model", "camera", "coarsenet", "resnet", "rasterize", "render", "finenet", "depth",
    "lighting", "sfs", "appearance", "losses", "pipeline", "synthetic", "training", "scans",
    "methods",
}  # fmt: skip
COLORS = {True: "#f2c879", False: "#dfe6ee"}
WIDTH, BOX, ROW = 17.5, (1.85, 0.36), 0.95


def import_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """For each top-level module or sub-package, those that it imports (functions' imports too)."""
    graph: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name in ("__init__", "__main__"):
            continue
        found = graph.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[0] == "facerecon":
                    found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    for name, found in graph.items():
        found &= graph.keys() - {name}
    return graph


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the arrows that follow from longer ways.

    Raises:
        graphlib.CycleError: two of them import each other.
    """
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below[name] = graph[name].union(*(below[other] for other in graph[name]))
    return {
        name: {a for a in found if not any(a in below[b] for b in found - {a})}
        for name, found in graph.items()
    }


def places(graph: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Middle of each box: the row above all that it imports, ordered so that arrows stay short."""
    row: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        row[name] = 1 + max((row[other] for other in graph[name]), default=-1)
    place: dict[str, tuple[float, float]] = {}
    for level in range(max(row.values()) + 1):
        here = sorted(name for name in row if row[name] == level)
        middle = {
            name: sum(place[o][0] for o in graph[name]) / len(graph[name]) if graph[name] else 0.0
            for name in here
        }
        here.sort(key=lambda name: middle[name])
        step = WIDTH / len(here)
        for index, name in enumerate(here):
            place[name] = ((index + 0.5) * step, level * ROW)
    return place


def diagram(graph: dict[str, set[str]]) -> bytes:
    """The graph as SVG; the same graph gives the same bytes."""
    arrows, place = reduced(graph), places(graph)
    height = max(y for _, y in place.values()) + ROW
    with plt.rc_context({"svg.hashsalt": "facerecon", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(WIDTH * 0.72, height * 0.72))
        axes.set(xlim=(0, WIDTH), ylim=(-ROW / 2, height - ROW / 2))
        axes.axis("off")
        figure.subplots_adjust(0, 0, 1, 1)
        for name, found in sorted(arrows.items()):
            for other in sorted(found):
                (x, y), (to_x, to_y) = place[name], place[other]
                arrow = {"arrowstyle": "-|>", "color": "#8794a5", "lw": 0.8, "shrinkB": 0}
                start, end = (x, y - BOX[1] / 2), (to_x, to_y + BOX[1] / 2)
                axes.annotate("", end, start, arrowprops=arrow, zorder=1)
        for name, (x, y) in sorted(place.items()):
            folder = (PACKAGE / name).is_dir()
            box = FancyBboxPatch(
                (x - BOX[0] / 2, y - BOX[1] / 2), *BOX, boxstyle="round,pad=0.02",
                facecolor=COLORS[name in PAPER], edgecolor="#45505e", lw=1.6 if folder else 0.6,
            )  # fmt: skip
            axes.add_patch(box)
            axes.text(x, y, f"{name}/" if folder else name, ha="center", va="center", zorder=3)
        data = io.BytesIO()
        figure.savefig(data, format="svg", metadata={"Date": None})
        plt.close(figure)
    return data.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns 1 if --check finds another graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    args = parser.parse_args(arguments)
    new = diagram(import_graph())
    if OUT.is_file() and OUT.read_bytes() == new:
        return 0
    if args.check:
        print(f"{OUT}: is not current; run {Path(__file__).name}", file=sys.stderr)
        return 1
    OUT.write_bytes(new)
    print(f"wrote {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
