"""Table 1 on a folder of scans: in parallel, resumable, on one machine or on a cluster.

The unit of work is a scan. The estimate of a method is kept in `OUT/estimates`, its errors in
`OUT/scans`, each file written whole or not at all; a later run with the same methods, weights,
protocol and files takes them from there. The table is `OUT/table.json` and `OUT/table.csv`.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facerecon import __version__
from facerecon.files import remove_partial, require_writable, write_file
from facerecon.methods.estimate import Estimate
from facerecon.methods.registry import MethodSettings, build_method, check_methods, method_card
from facerecon.pools import fresh_pool
from facerecon.scans.bosphorus import find_bosphorus, read_bosphorus
from facerecon.scans.frgc import find_frgc, read_frgc
from facerecon.scans.protocol import (
    ProtocolConfig,
    ProtocolError,
    Row,
    Score,
    near_nose,
    paired_interval,
    score,
    score_table,
)
from facerecon.scans.registration import measure_offset, moved
from facerecon.scans.scan import Scan, ScanError, ScanFiles, Skipped, list_hash, select, write_list

LAYOUTS = {"frgc": (find_frgc, read_frgc), "bosphorus": (find_bosphorus, read_bosphorus)}
FACE_MM = 95.0
"""Radius about the nose within which photograph and geometry are registered."""


@dataclass(frozen=True)
class ScanTask:
    """One scan to evaluate; travels to another process or machine."""

    files: ScanFiles
    layout: str
    methods: tuple[str, ...]
    hashes: tuple[str, ...]
    settings: MethodSettings
    config: ProtocolConfig
    out: Path


@dataclass(frozen=True)
class ScanTable:
    """The outcome: the table's rows, and what they rest on (as in `table.json`)."""

    rows: list[Row]
    report: dict


def evaluate_scans(
    root: str | Path,
    out: str | Path,
    layout: str = "frgc",
    methods: Sequence[str] = ("ours", "ours (finenet)", "ours (coarse)", "mean face"),
    config: ProtocolConfig | None = None,
    settings: MethodSettings | None = None,
    scan_list: str | Path | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: bool | Callable[[int, int], None] = False,
    limit: int | None = None,
) -> ScanTable:
    """Evaluate methods on all scans below a folder, or on those that a list names.

    A faulty scan is left out with a `SkippedScanWarning`. A scan on which some method finds no
    face, or where too few pixels are valid for all, is left out of the table for all methods and
    counted against the method.

    Args:
        out: folder of the results; what is there already is used.
        jobs: processes on this machine.
        scheduler: address of a dask scheduler whose workers do the work instead; they must see
            the same folders under the same paths.
        progress: show a bar; or a function that is told how many scans of how many are done.
        limit: only the first scans, this many.

    Raises:
        ScanError: no scan is there, or the list does not fit.
        ProtocolError: no scan could be evaluated.
        ValueError: unknown method or layout.
        ImportError: `scheduler` without dask.distributed.
    """
    config, settings = config or ProtocolConfig(), settings or MethodSettings()
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
    check_methods(methods)
    root, out = Path(root).resolve(), Path(out).resolve()
    require_writable(out)
    for folder in (out, out / "scans", *(out / "estimates").glob("*")):
        remove_partial(folder)
    skipped = Skipped()
    found = LAYOUTS[layout][0](root, skipped)
    if scan_list is not None:
        found = select(found, scan_list)
    found = found[:limit]
    cards = {name: method_card(name, settings) for name in methods}
    hashes = tuple(cards[name]["hash"] for name in methods)
    tasks = [
        ScanTask(item, layout, tuple(methods), hashes, settings, config, out) for item in found
    ]
    results = {}
    runner = _on_cluster(tasks, scheduler) if scheduler else _on_this_machine(tasks, jobs)
    tell = progress if callable(progress) else None
    bar = tqdm(runner, total=len(tasks), unit="scan", disable=not progress or tell is not None)
    for result in bar:
        results[result["name"]] = result
        if tell:
            tell(len(results), len(tasks))
        if "fault" in result:
            skipped.skip(Path(result["range"]), ScanError(*result["fault"]))
    ordered = [results[item.name] for item in found if "fault" not in results[item.name]]
    used = [result for result in ordered if "scores" in result]
    names = {result["name"] for result in used}
    write_list(out / "scan_list.csv", [item for item in found if item.name in names], root)
    if not used:
        first = next((r["failures"] for r in ordered), dict(skipped.reasons))
        raise ProtocolError(f"none of {len(found)} scans could be evaluated; the first: {first}")
    scores = [_scores(result) for result in used]
    subjects = [result["subject"] for result in used]
    rows = score_table(scores, subjects, config)
    offsets = np.array([result["offset_pixels"] for result in used])
    report = {
        "version": __version__,
        "layout": layout,
        "protocol": asdict(config),
        "settings": asdict(settings),
        "methods": cards,
        "scan_list_sha256": list_hash([item for item in found if item.name in names], root),
        "scans": {"found": len(found), "used": len(used), "left_out": dict(skipped)},
        "left_out": {Path(k).name: reason for k, reason in skipped.reasons.items()},
        "failures": {
            name: {r["name"]: r["failures"][name] for r in ordered if name in r["failures"]}
            for name in (*methods, "all")
        },
        "axes_flipped": {axes: [r["flipped"] for r in used].count(axes) for axes in _axes(used)},
        "offset_pixels": {
            "median": float(np.median(offsets)),
            "largest": float(offsets.max()),
            "moved": sum(result["moved"] for result in used),
        },
        "table": [_row(row) for row in rows],
        "pairs": [_pair(*pair, scores, subjects, config) for pair in combinations(methods, 2)],
        "per_scan": {
            result["name"]: {
                name: [round(item.mean, 4), round(item.high, 4)] for name, item in scored.items()
            }
            for result, scored in zip(used, scores, strict=True)
        },
    }
    write_file(out / "table.json", (json.dumps(report, indent=1) + "\n").encode())
    write_file(out / "table.csv", _csv(report["table"]).encode())
    return ScanTable(rows, report)


def evaluate_one(task: ScanTask) -> dict:
    """All methods on one scan; from the files in `task.out` where they are there.

    Returns:
        JSON values: name, subject, range and either `fault` (kind, message) or flipped, offset,
        failures by method and, without failures, scores.
    """
    files = task.files
    result = {"name": files.name, "subject": files.subject, "range": str(files.range)}
    target = task.out / "scans" / f"{_slug(files.name)}.json"
    try:
        source = _hash(files.range, files.texture)
        key = _hash(source, repr(task.config), *task.methods, *task.hashes)
        if (known := _read_json(target)) and known.get("key") == key:
            return known["result"]
        scan = LAYOUTS[task.layout][1](files)
        face = near_nose(scan, FACE_MM)
        offset = measure_offset(scan, face)
    except ScanError as error:
        return {**result, "fault": [error.kind, str(error)]}
    except (OSError, ValueError) as error:
        return {**result, "fault": ["damaged", f"{files.range}: {error}"]}
    move = task.config.registration == "correct" and offset.pixels >= task.config.least_offset
    if move:
        scan = moved(scan, offset)
    result |= {
        "flipped": scan.flipped,
        "offset": [round(offset.columns, 3), round(offset.rows, 3)],
        "offset_pixels": round(offset.pixels, 3),
        "moved": move,
        "failures": {},
    }
    estimates = {}
    for name, digest in zip(task.methods, task.hashes, strict=True):
        key_of_method = _hash(source, digest, str(offset) if move else "")
        try:
            estimates[name] = _estimate(scan, name, key_of_method, task)
        except ValueError as error:
            result["failures"][name] = str(error)
    if not result["failures"]:
        try:
            scores = score(scan, estimates, task.config)
            result["scores"] = {name: list(item) for name, item in scores.items()}
        except ProtocolError as error:
            result["failures"]["all"] = str(error)
    write_file(target, json.dumps({"key": key, "result": result}).encode())
    return result


def _estimate(scan: Scan, name: str, key: str, task: ScanTask) -> Estimate:
    path = task.out / "estimates" / _slug(name) / f"{_slug(scan.name)}.npz"
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if str(file["key"]) == key:
                depth = np.full(scan.mask.shape, np.nan, dtype=np.float32)
                row, column = file["corner"]
                part = file["depth"]
                depth[row : row + part.shape[0], column : column + part.shape[1]] = part
                return Estimate(depth, float(file["mm_per_pixel"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or not what we wrote: made anew
    estimate = build_method(name, task.settings)(scan.image)
    rows, columns = (np.flatnonzero(np.isfinite(estimate[0]).any(axis=a)) for a in (1, 0))
    if not rows.size:
        raise ProtocolError(f"{scan.name}: {name!r} found no valid pixel")
    part = estimate.depth_mm[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    data = io.BytesIO()
    np.savez_compressed(
        data,
        key=np.array(key),
        depth=part.astype(np.float32),
        corner=np.array([rows[0], columns[0]]),
        mm_per_pixel=np.array(estimate.mm_per_pixel),
    )
    write_file(path, data.getvalue())
    return estimate


def _on_this_machine(tasks: Sequence[ScanTask], jobs: int) -> Iterator[dict]:
    if jobs < 1:
        raise ValueError(f"the number of jobs must be at least 1, got {jobs}")
    if jobs == 1 or len(tasks) < 2:
        yield from map(evaluate_one, tasks)
        return
    with fresh_pool(min(jobs, len(tasks)), torch.set_num_threads, 1) as pool:
        futures = [pool.submit(evaluate_one, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _on_cluster(tasks: Sequence[ScanTask], address: str) -> Iterator[dict]:
    try:
        from dask.distributed import Client
        from dask.distributed import as_completed as completed
    except ImportError:
        raise ImportError(
            'a scheduler needs dask.distributed: pip install "facerecon[cluster]"'
        ) from None
    with Client(address) as client:
        # The scheduler gives the scans of a lost worker to another one.
        futures = client.map(evaluate_one, tasks, pure=False)
        for future in completed(futures):
            yield future.result()


def _scores(result: dict) -> dict[str, Score]:
    return {name: Score(*values) for name, values in result["scores"].items()}


def _axes(used: Sequence[dict]) -> list[str]:
    return sorted({result["flipped"] for result in used})


def _pair(
    first: str,
    second: str,
    scores: Sequence[Mapping[str, Score]],
    subjects: Sequence[str],
    config: ProtocolConfig,
) -> dict:
    """By how much the mean of one method exceeds that of another, with its interval."""
    differences = np.array([scored[first].mean - scored[second].mean for scored in scores])
    found = paired_interval(differences, subjects, config)
    return {"methods": [first, second], "difference": [round(value, 4) for value in found]}


def _row(row: Row) -> dict:
    values = {"method": row.method, "scans": row.scans}
    for name in ("mean", "high", "behind"):
        interval = getattr(row, name)
        values |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    values |= {"pooled_mean": row.pooled_mean, "pooled_high": row.pooled_high}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def _csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _hash(*parts: Path | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")
