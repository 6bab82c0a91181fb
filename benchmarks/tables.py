"""Write the measured tables of docs/performance.md from benchmarks/results/*.json.

    python benchmarks/tables.py            write them
    python benchmarks/tables.py --check    exit 1 if the page shows other numbers

The page keeps its words; only what stands between <!-- NAME --> and <!-- end --> is replaced.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
WHAT = {
    "numba": "facerecon, `numba`",
    "torch": "facerecon, `torch`",
    "nvdiffrast": "facerecon, `nvdiffrast`",
    "sim3dr": "3DDFA_V2's Sim3DR (C++)",
    "embree": "Embree, tree built for each image",
}


def rasterize_table(report: dict) -> list[str]:
    """Rows of peers: speed, and how much faster `numba` is."""
    rows = [["one thread", "ms/image", "CPU ms/image", "images/s", "`numba` is faster by"]]
    for name, row in report["one_thread"].items():
        ratio = report["numba_over"].get(name)
        numbers = [f"{row['median_ms']:.2f}", f"{row['cpu_ms']:.2f}"]
        faster = f"{ratio:.2g}x" if ratio else ""
        rows.append([WHAT[name], *numbers, f"{row['images_per_second']:.0f}", faster])
    work = report["work_per_image"]
    foot = [
        f"{report['triangles']:,} triangles, {report['foreground']:.0%} foreground, "
        f"{report['settings']['size']} x {report['settings']['size']} pixels, batch "
        f"{report['settings']['batch']}; {machine(report)}. Per image, {work['triangles']:,} "
        f"front faces have a pixel centre in their bounding boxes, which hold {work['tests']:,} "
        f"of them in all, for {work['covered']:,} pixels that are covered. On "
        f"{report['settings']['threads']} threads `numba` is {report['scaling']:.2f} times as "
        "fast as on one."
    ]
    return [*markdown(rows), "", *foot]


def stages_table(report: dict) -> list[str]:
    """Rows of stages: time, floor and their ratio, both ways."""
    head = ["ms/image, one thread", "forward", "floor", "ratio", "backward", "floor", "ratio"]
    rows = [head]
    sums = [0.0] * 4
    keys = ("forward_ms", "forward_floor_ms", "backward_ms", "backward_floor_ms")
    for name, row in report["stages"].items():
        if name == "backend":
            continue
        numbers = [row.get(key) for key in keys]
        sums = [a + (b or 0) for a, b in zip(sums, numbers, strict=True)]
        rows.append([name, *pair(*numbers[:2]), *pair(*numbers[2:])])
    rows.append(["sum", *pair(*sums[:2]), *pair(*sums[2:])])
    foot = (
        f"Backend `{report['stages']['backend']}`, copies at {report['copy_gb_per_s']} GB/s, "
        f"products at {report['gflop_per_s']} GFLOP/s; {machine(report)}."
    )
    return [*markdown(rows), "", foot]


def layer_table(report: dict) -> list[str]:
    """Rows of backends and gradients: the whole layer, forward and backward."""
    threads = report["settings"]["threads"]
    rows = [["forward and backward", "threads", "ms/image", "CPU ms/image", "images/s"]]
    for key, number in (("one_thread", "1"), ("all_threads", str(threads))):
        for name, row in report[f"forward_and_backward_{key}"].items():
            backend, gradient = name.split(", ")
            numbers = [f"{row['median_ms']:.2f}", f"{row['cpu_ms']:.2f}"]
            speed = f"{row['images_per_second']:.0f}"
            rows.append([f"`{backend}`, {gradient} weights", number, *numbers, speed])
    flat = report["memory"]
    before, after = (v for k, v in flat.items() if k.startswith("resident"))
    foot = (
        f"Batch {report['settings']['batch']}. Memory of the process: {before} MB after "
        f"{flat['steps'] // 10} steps, {after} MB after {flat['steps']}."
    )
    return [*markdown(rows), "", foot]


TABLES = {
    "rasterize": ("rasterize.json", rasterize_table),
    "stages": ("render_layer.json", stages_table),
    "layer": ("render_layer.json", layer_table),
}


def pair(time: float | None, floor: float | None) -> list[str]:
    """A time, its floor and their ratio as text; empty where there is none."""
    return [f"{time:.3f}", f"{floor:.3f}", f"{time / floor:.1f}"] if time else ["", "", ""]


def machine(report: dict) -> str:
    """What the numbers were measured on."""
    about = report["machine"]
    place = about.get("gpu") if report["settings"].get("device", "cpu") != "cpu" else None
    return f"{place or about['processor']}, torch {about['torch']}, load {about['load_average']}"


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; returns 1 if --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    text = before = PAGE.read_text("utf-8")
    for name, (file, table) in TABLES.items():
        body = "\n".join(table(json.loads((RESULTS / file).read_text("utf-8"))))
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
        if count != 1:
            print(f"{PAGE}: needs exactly one place for the table {name!r}", file=sys.stderr)
            return 1
    if text == before:
        return 0
    if check:
        print(f"{PAGE}: run {Path(__file__).name}; its tables are not those of {RESULTS}")
        return 1
    PAGE.write_text(text, "utf-8")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
