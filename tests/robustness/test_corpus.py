import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("corpus.py")
CASES = 1000


def test_damaged_files_give_a_result_or_one_clear_line():
    """In a process of its own, which may die: the last number on standard error says of what."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cases", str(CASES)],
        capture_output=True,
        text=True,
        timeout=170,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    last = done.stderr.strip().splitlines()[-1:]
    assert done.stdout, f"died (exit code {done.returncode}) in case {last}: see {SCRIPT} --only"
    report = json.loads(done.stdout)
    assert report["failures"] == {}
    assert report["cases"] == CASES
    kinds = {outcome.split()[0] for outcome in report["outcomes"]}
    for kind in kinds - {".bin"}:  # the corpus holds valid files, too, and readers that read them
        assert f"{kind} refused" in report["outcomes"] or kind == ".json"
        assert f"{kind} read" in report["outcomes"]
