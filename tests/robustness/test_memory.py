"""Memory: many reconstructions in one process, and the largest photograph that is taken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("memory.py")


def measured(*arguments: str) -> dict[str, float]:
    """What the script prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_many_reconstructions_do_not_pile_up():
    found = measured("many", "--count", "25")
    assert found["growth_mb"] < 100, found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage on this system")
def test_a_photograph_of_77_megapixels():
    found = measured("large")
    assert found["exit_code"] == 0 and found["peak_gb"] < 3, found
