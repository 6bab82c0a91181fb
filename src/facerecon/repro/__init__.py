"""Reproduction: run the notebooks strictly, keep what they measured, set it beside the paper.

`reproduce` stands behind the command `facerecon reproduce`; with a `Recorder` a notebook writes its
numbers; `target` is what the paper says. papermill, which runs the notebooks, and torch are
imported only when they are needed.
"""

from facerecon.repro.agreement import Agreement, compare
from facerecon.repro.claims import Judgments, judge, judge_item, read_claims, status
from facerecon.repro.items import (
    ITEMS,
    PRESETS,
    ReproductionError,
    RequestError,
    cache_folder,
    find_file,
    find_notebook,
)
from facerecon.repro.progress import count, counter_of
from facerecon.repro.record import Recorder, code_hash
from facerecon.repro.run import check_parameters, reproduce
from facerecon.repro.start import start
from facerecon.repro.targets import Target, read_result, read_targets, target

__all__ = [
    "ITEMS",
    "PRESETS",
    "Agreement",
    "Judgments",
    "Recorder",
    "ReproductionError",
    "RequestError",
    "Target",
    "cache_folder",
    "check_parameters",
    "code_hash",
    "compare",
    "count",
    "counter_of",
    "find_file",
    "find_notebook",
    "judge",
    "judge_item",
    "read_claims",
    "read_result",
    "read_targets",
    "reproduce",
    "start",
    "status",
    "target",
]
