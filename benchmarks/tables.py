"""Write the measured tables of the pages in docs.

    python benchmarks/tables.py            write them
    python benchmarks/tables.py --check    exit 1 if a page shows other numbers

They come from benchmarks/results/*.json and from the cards of the weights that ship. The pages keep
their words; only what stands between <!-- NAME --> and <!-- end --> is replaced.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from facerecon.weights import read_card

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ASSETS = ROOT / "src" / "facerecon" / "assets"
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
    rounds = (report[key]["numba"]["fastest_ms"] for key in ("one_thread", "all_threads"))
    fastest = next(rounds) / next(rounds)
    foot = [
        f"{report['triangles']:,} triangles, {report['foreground']:.0%} foreground, "
        f"{report['settings']['size']} x {report['settings']['size']} pixels, batch "
        f"{report['settings']['batch']}; {machine(report)}. Per image, {work['triangles']:,} "
        f"front faces have a pixel center in their bounding boxes, which hold {work['tests']:,} "
        f"of them in all, for {work['covered']:,} pixels that are covered. On "
        f"{report['settings']['threads']} threads `numba` is {report['scaling']:.2f} times as "
        f"fast as on one, medians compared; {fastest:.2f} times, the fastest rounds compared, "
        "which other programs disturbed least."
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


def synthetic_table(report: dict) -> list[str]:
    """Rows of worlds: photographs and whole samples a second."""
    settings = report["settings"]
    rows = [[f"threads: {settings['threads']}", "photographs/s", "samples/s"]]
    worlds = {
        "lit": "two renders, shading, feedback maps, no more",
        "plain": "plain: a lit face before a gradient, through a camera",
        "full": "the default world",
    }
    for name, what in worlds.items():
        speeds = (report[f"{name}_{kind}"]["per_second"] for kind in ("photographs", "samples"))
        rows.append([what, *(f"{speed:.0f}" for speed in speeds)])
    size, batch = settings["size"], settings["batch"]
    return [*markdown(rows), "", f"{size} x {size} pixels, batch {batch}; {machine(report)}."]


def ablations_table(report: dict) -> list[str]:
    """Rows of small trainings: errors after four iterations, and how they contract."""
    head = ["", "landmarks, %", "yaw, degrees", "GMSE, mm²", "identity, %", "expression, %"]
    rows = [[*head, "contraction", "best after"]]
    for row in report["rows"].values():
        m = row["metrics"]
        curve = [m[f"landmarks_pct_{t}"] for t in range(1, 9)]
        best = 1 + curve.index(min(curve))
        rows.append(
            [
                row["what"],
                *(f"{m[name + '_4']:.2f}" for name in ("landmarks_pct", "yaw_deg")),
                *(
                    f"{m[name + '_4']:.1f}"
                    for name in ("gmse_mm2", "identity_pct", "expression_pct")
                ),
                f"{m['contraction_4']:.2f}",
                f"{best} iteration{'s' if best > 1 else ''}, {min(curve):.2f} %",
            ]
        )
    settings, samples = report["settings"], {row["samples"] for row in report["rows"].values()}
    foot = (
        f"Each row saw {' or '.join(f'{n:,}' for n in sorted(samples))} samples of the same "
        f"{settings['faces']:,} images of {settings['size']} pixels, in batches of 16, with a "
        f"network of width {settings['network']['width']}; measured from r = 0 on "
        f"{settings['test_faces']} other faces, after four iterations, and after up to eight in "
        f"the last column; r = 0 itself is off by {settings['start']:.2f} %. {machine(report)}."
    )
    return [*markdown(rows), "", foot]


def shipped_table() -> list[str]:
    """Rows of the weights that ship, from the cards inside of them."""
    rows = [["weights", "preset", "samples", "before", "data", "seed", "commit"]]
    for path in sorted(ASSETS.glob("*.safetensors")):
        card = read_card(path)
        before = card.get("started_from", "random weights")
        numbers = [f"{card['samples']:,}", before, card["data"], str(card["seed"])]
        rows.append([f"`{path.name}`", f"`{card['preset']}`", *numbers, card["commit"]])
    return markdown(rows)


def stored(file: str, table: Callable[[dict], list[str]]) -> Callable[[], list[str]]:
    """A table of a result in benchmarks/results; empty while there is none."""

    def make() -> list[str]:
        path = RESULTS / file
        return table(json.loads(path.read_text("utf-8"))) if path.exists() else []

    return make


def heads_table(report: dict) -> list[str]:
    """Rows of detectors on heads whose boxes are known."""
    heads = report["heads"]
    bins = list(next(iter(heads["detectors"].values()))["recall_pct_by_yaw"])
    rows = [
        ["", *(f"{b}°" for b in bins), "within 60°", "false boxes", "off center", "width off", "ms"]
    ]
    for name, row in heads["detectors"].items():
        recall = [f"{row['recall_pct_by_yaw'][b]:.0f} %" for b in bins]
        within, false = row["recall_pct_within_60"], row["false_boxes_per_100_images"]
        off, width = row["off_centre_pct_of_width_median"], row["width_off_pct_median"]
        numbers = [f"{within:.1f} %", f"{false:.1f}", f"{off:.1f} %", f"{width:.1f} %"]
        rows.append([name, *recall, *numbers, f"{row['cpu_ms']:.0f}"])
    foot = (
        f"{heads['images']} images of {heads['size'][1]} x {heads['size'][0]} pixels. Recall by"
        " yaw; false boxes per 100 images; medians of the distance between a right box's middle and"
        " the true one, and of the error of its width, in percent of the true width; milliseconds"
        " of processor time per image."
    )
    return [*markdown(rows), "", foot]


def photographs_table(report: dict) -> list[str]:
    """Rows of detectors on photographs, by their agreement with the consensus."""
    photos = report["photographs"]
    rows = [["", "right", "some box", "more than one", "ms"]]
    for name, row in photos["detectors"].items():
        shares = ("right_pct_of_consensus", "some_box_pct", "more_than_one_box_pct")
        rows.append([name, *(f"{row[s]:.1f} %" for s in shares), f"{row['cpu_ms']:.0f}"])
    foot = (
        f"{photos['images']} portraits; right: of the {photos['with_consensus']} on which the"
        " detectors have a consensus."
    )
    return [*markdown(rows), "", foot]


def detail_table(report: dict) -> list[str]:
    """Rows of the detail benchmark: each method from each start, on each kind of faces."""
    rows = [["faces, pixels", "from", "", "depth, mm", "normals", "gain", "highpass", "detail"]]
    coarse = 0.0
    for row in report["rows"]:
        first = row["method"] == "coarse"
        coarse = row["normals"] if first else coarse
        gain = "" if first else f"{100 * (1 - row['normals'] / coarse):.0f} %"
        places = [f"{row['faces']}, {row['size']}", row["start"]] if first else ["", ""]
        numbers = [f"{row['depth']:.3f}", f"{row['normals']:.2f}°", gain]
        detail = "" if first else f"{row['detail']:.2f}"
        rows.append([*places, row["method"], *numbers, f"{row['highpass']:.3f}", detail])
    count = len(report["rows"][0]["per_face"]["depth"])
    foot = f"{count} faces of each kind, seed 0; `sfs`: {report['sfs_steps']} steps."
    return [*markdown(rows), "", foot]


YALE = {
    "coarse": "CoarseNet",
    "shape": "the shape from NormalNet's normals",
    "integrated": "CoarseNet's own smooth normals, integrated to depth",
    "sfs": "the same after linear shape from shading, no network",
    "finenet": 'with FineNet, the paper\'s (`refine="finenet"`)',
    "normals": "with NormalNet",
    "normals+sfs": 'with NormalNet and shading, ours (`refine="normals"`)',
}


def normalnet_table(report: dict) -> list[str]:
    """Rows of NormalNet's ablations."""
    rows = [["", "normals", "relief", "added", "gain"]]
    first = next(iter(report["rows"].values()))
    known = [("CoarseNet's", first["coarse"])]
    known += [(row["what"], row["metrics"]) for row in report["rows"].values()]
    for what, row in known:
        added = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("added", "gain")]
        rows.append([what, f"{row['normals']:.2f}°", f"{row['relief']:.3f}", *added])
    foot = (
        f"Each row saw {first['samples']:,} samples from random weights;"
        f" {first['coarse']['photographs']} photographs, crops of 200 pixels, without shading."
    )
    return [*markdown(rows), "", foot]


def yale_table(report: dict) -> list[str]:
    """Rows of detail stages on real people with measured normals."""
    rows = [["", "normals", "relief", "added", "gain"]]
    for row in report["means"]:
        added = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("added", "gain")]
        rows.append([YALE[row["method"]], f"{row['normals']:.2f}°", f"{row['relief']:.2f}", *added])
    people = len({row["person"] for row in report["rows"]})
    lamps = len({row["lamp"] for row in report["rows"]})
    foot = (
        f"{people} people (yaleB01 to yaleB{people:02d}), {lamps} lamps,"
        f" {report['means'][0]['photographs']} photographs, crops of {report['size']} pixels, the"
        " weights that ship."
    )
    return [*markdown(rows), "", foot]


ALBEDOS = {
    "known": "each face's own",
    "average": "average of the rendered people",
    "model's": "the model's average, of photographs",
    "even": "even, the same everywhere",
}


def light_table(report: dict) -> list[str]:
    """Rows of worlds and albedos: first-order light, all faces."""
    rows = [["world", "albedo", "direction", "shading", "at best"]]
    for row in report["rows"]:
        if row["order"] == 1 and row["group"] == "all":
            shares = [f"{row[key]:.1f} %" for key in ("shading", "unexplained")]
            what = [row["world"], ALBEDOS[row["albedo"]]]
            rows.append([*what, f"{row['direction']:.1f}°", *shares])
    return [*markdown(rows), "", f"Medians of {report['count']} faces."]


def lamps_table(report: dict) -> list[str]:
    """Rows of average albedos: the light of real people."""
    rows = [["albedo that Eq. (11) takes for everybody's", "mean", "median"]]
    for row in report["people"]:
        angles = [f"{row[key]:.1f}°" for key in ("mean", "median")]
        rows.append([ALBEDOS[row["albedo"]], *angles])
    count = report["people"][0]["photographs"]
    return [*markdown(rows), "", f"Extended Yale B, {count} photographs."]


def albedo_table(report: dict) -> list[str]:
    """Rows of albedos: their slopes along the normals."""
    rows = [["", "up", "toward", "explained"]]
    known = {row["albedo"]: row for row in report["albedo"]}
    parts = [row for name, row in known.items() if "component" in name]
    people = [row for name, row in known.items() if name.startswith("yale")]
    for name in ("average", "model's"):
        rows.append([ALBEDOS[name], *_slopes(known[name], known[name])])
    for what, each in (
        ("one of its components", parts),
        (f"{len(people)} measured people", people),
    ):
        keys = ("up", "toward", "share")
        low, high = ({k: pick(row[k] for row in each) for k in keys} for pick in (min, max))
        rows.append([f"{what}, least to most", *_slopes(low, high)])
    return markdown(rows)


def _slopes(low: dict, high: dict) -> list[str]:
    """Slopes and share of an albedo, or their ranges."""
    cells = []
    for key, form in (("up", "+.2f"), ("toward", "+.2f"), ("share", ".0%")):
        cells.append(" to ".join(dict.fromkeys(f"{row[key]:{form}}" for row in (low, high))))
    return cells


def populations_table(report: dict) -> list[str]:
    """Rows of the benchmark's populations and protocols: errors, and what the mean face costs."""
    rows = [["population", "protocol", "coarse", "mean face", "zhu2015", "mean face behind"]]
    for population, protocols in report["populations"].items():
        for title, methods in protocols.items():
            means = [f"{row['mean_mm']:.2f} mm" for row in methods.values()]
            value, low, high = methods["mean face"]["behind_mm"]
            behind = f"{value:.2f} mm ({low:.2f} to {high:.2f})"
            rows.append([population, title, *means, behind])
    return [*markdown(rows), "", f"{report['subjects']} subjects of each, seed {report['seed']}."]


def face_mesh_table(report: dict) -> list[str]:
    """Rows of protocols: mean errors of CoarseNet, the mean face and MediaPipe's mesh."""
    rows = [["protocol", "coarse", "mean face", "mediapipe", "mediapipe behind coarse"]]
    for title, methods in report["protocols"].items():
        means = [f"{row['mean_mm']:.2f} mm" for row in methods.values()]
        value, low, high = methods["mediapipe"]["behind_mm"]
        rows.append([title, *means, f"{value:.2f} mm ({low:.2f} to {high:.2f})"])
    foot = f"{report['subjects']} subjects, seed {report['seed']}; mediapipe {report['mediapipe']}."
    return [*markdown(rows), "", foot]


def kinds_table(report: dict) -> list[str]:
    """Rows of heads of another model, kind by kind."""
    degrees, plain = ("yaw", "pitch", "normals"), ("yaw_slope", "yaw_short", "pitch_slope", "depth")
    columns = ["yaw_slope", "yaw_short", "pitch_slope", "yaw", "pitch", "depth", "normals"]
    titles = ["yaw slope", "short, degrees", "pitch slope", "yaw", "pitch", "depth, mm", "normals"]
    digits = dict.fromkeys((*degrees, *plain), 2) | {"yaw_slope": 3, "pitch_slope": 3}
    digits |= {"yaw_short": 1, "normals": 1}
    rows = [["kind", *titles]]
    for name, measures in report["kinds"].items():
        cells = [f"{measures[c]:.{digits[c]}f}" + "°" * (c in degrees) for c in columns]
        rows.append([name, *cells])
    count = len(next(iter(report["kinds"].values()))["true"])
    return [*markdown(rows), "", f"{count} photographs of each kind, seed {report['seed']}."]


SHOWN = ("its shape, true rotation", "its pose, best shape", "mean face, true landmarks")


def steps_table(report: dict) -> list[str]:
    """Rows of all heads with a yaw within 45 degrees, after each iteration, and baselines."""
    rows = [["", "depth, mm", "90 %", "normals", "yaw", "pitch", "landmarks"]]
    for name, row in report["within_45_degrees"].items():
        if name.startswith("iteration") or name in SHOWN:
            lengths = [f"{row[key]:.2f}" for key in ("depth", "depth_p90")]
            angles = [f"{row[key]:.2f}°" for key in ("normals", "yaw", "pitch")]
            rows.append([name, *lengths, *angles, f"{row['landmarks']:.2f} %"])
    return markdown(rows)


def expressions_table(report: dict) -> list[str]:
    """Rows of heads with one strong expression."""
    rows = [["at full strength", "inner lips", "lids", "mouth's width", "depth, mm"]]
    for name, row in report["expressions"].items():
        pairs = [f"{row['true'][k]:.1f} → {row['estimated'][k]:.1f}" for k in row["true"]]
        rows.append([name, *pairs, f"{row['depth']:.2f}"])
    return markdown(rows)


def people_table(report: dict) -> list[str]:
    """Who is who, before and after shape from normals, and points that people set."""
    rows = [["", "rank-1", "AUC", "within a person", "between two", *report["points"]]]
    points = [f"{value:.1f} %" for value in report["points"].values()]
    kinds = {"recognition": "CoarseNet", "recognition_by_normals": "shape from normals"}
    for key, title in kinds.items():
        found = report[key]
        numbers = [f"{found['rank_1']:.2f}", f"{found['auc']:.3f}"]
        numbers += [f"{found[key]:.2f} mm" for key in ("within_mm", "between_mm")]
        rows.append([title, *numbers, *(points if key == "recognition" else [""] * len(points))])
    return [*markdown(rows), "", f"{len(report['people'])} people."]


def reconstruct_table(report: dict) -> list[str]:
    """Rows of steps from a photograph to a file."""
    settings = report["settings"]
    rows = [[f"threads: {settings['threads']}", "ms", "fastest", "CPU ms"]]
    for name, row in report["steps"].items():
        rows.append([name, *(f"{row[k]:.0f}" for k in ("median_ms", "fastest_ms", "cpu_ms"))])
    rows_, columns = settings["pixels"]
    foot = (
        f"A photograph of {columns} x {rows_} pixels; medians of {settings['rounds']} rounds;"
        f" {machine(report)}. Loading the networks takes {report['load_networks_s']:.2f} s, the"
        f" first photograph {report['first_photograph_s']:.2f} s."
    )
    return [*markdown(rows), "", foot]


def crowd_table(report: dict) -> list[str]:
    """Rows of photographs: of one face, and of many."""
    settings = report["settings"]
    rows = [[f"threads: {settings['threads']}", "ms", "fastest", "CPU ms"]]
    for name, row in report["steps"].items():
        rows.append([name, *(f"{row[k]:.0f}" for k in ("median_ms", "fastest_ms", "cpu_ms"))])
    ratios = report["ratio"], report["cpu_ratio"]
    rows.append(["ratio", f"{ratios[0]:.1f}", "", f"{ratios[1]:.1f}"])
    sizes = " and ".join(f"{c} x {r}" for r, c in settings["pixels"].values())
    foot = (
        f"Photographs of {sizes} pixels, crops of {settings['crops'][0]} to"
        f" {settings['crops'][-1]} pixels; medians of {settings['rounds']} rounds;"
        f" {machine(report)}."
    )
    return [*markdown(rows), "", foot]


def onnx_table(report: dict) -> list[str]:
    """Rows of networks, and a photograph, under both backends."""
    rows = [[f"threads: {report['settings']['threads']}; CPU ms", "torch", "ONNX Runtime", "ratio"]]
    for name, row in report["steps"].items():
        torch, onnx = (row[backend]["cpu_ms"] for backend in ("torch", "onnx"))
        rows.append([name, f"{torch:.1f}", f"{onnx:.1f}", f"{torch / onnx:.2f}"])
    pixels, columns = report["settings"]["pixels"]
    found = report["differences"]
    foot = (
        f"A photograph of {columns} x {pixels} pixels; medians of {report['settings']['rounds']}"
        f" rounds; {machine(report)}, onnxruntime {report['machine']['onnxruntime']}. The two"
        f" results differ by at most {found['r']:g} in r; in depth by less than"
        f" {found['depth_mm_999']:g} mm on 99.9 % of the pixels and by {found['depth_mm']:g} mm at"
        " most."
    )
    return [*markdown(rows), "", foot]


TABLES = {
    "evaluation.md": {
        "detail": stored("detail.json", detail_table),
        "yale": stored("yale.json", yale_table),
        "populations": stored("populations.json", populations_table),
        "face_mesh": stored("face_mesh.json", face_mesh_table),
        "kinds": stored("heads.json", kinds_table),
        "steps": stored("heads.json", steps_table),
        "expressions": stored("heads.json", expressions_table),
        "people": stored("people.json", people_table),
        "light": stored("light.json", light_table),
        "lamps": stored("light.json", lamps_table),
        "albedo": stored("light.json", albedo_table),
    },
    "performance.md": {
        "reconstruct": stored("reconstruct.json", reconstruct_table),
        "crowd": stored("crowd.json", crowd_table),
        "onnx": stored("onnx_backend.json", onnx_table),
        "rasterize": stored("rasterize.json", rasterize_table),
        "stages": stored("render_layer.json", stages_table),
        "synthetic": stored("synthetic.json", synthetic_table),
        "layer": stored("render_layer.json", layer_table),
    },
    "detection.md": {
        "heads": stored("detect.json", heads_table),
        "photographs": stored("detect.json", photographs_table),
    },
    "training.md": {
        "ablations": stored("ablations.json", ablations_table),
        "normalnet": stored("normalnet_ablations.json", normalnet_table),
        "shipped": shipped_table,
    },
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
    """Write or check the pages; returns 1 if --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    different = False
    for page, tables in TABLES.items():
        path = DOCS / page
        text = before = path.read_text("utf-8")
        for name, table in tables.items():
            body = "\n".join(table())
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            text, count = pattern.subn(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
            if count != 1:
                print(f"{path}: needs exactly one place for the table {name!r}", file=sys.stderr)
                return 1
        if text == before:
            continue
        different = True
        if check:
            print(f"{path}: run {Path(__file__).name}; its tables are not those that are stored")
        else:
            path.write_text(text, "utf-8")
            print(f"wrote {path}")
    return int(check and different)


if __name__ == "__main__":
    sys.exit(main())
