"""Processes of a pool do not outlive the one that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import os, sys, time
from pathlib import Path
from facerecon.pools import fresh_pool

def prepare(word):
    os.environ["SAID"] = word

def work(folder):
    (Path(folder) / "new").write_text(f"{os.getpid()} {os.environ['SAID']}")
    (Path(folder) / "new").rename(Path(folder) / "begun")
    time.sleep(120)

if __name__ == "__main__":
    with fresh_pool(1, prepare, "hello") as pool:
        pool.submit(work, sys.argv[1]).result()
"""


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a zombie has ended, though its new parent did not look yet
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_a_killed_process_takes_its_workers_along(tmp_path):
    (tmp_path / "start.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "start.py"), str(tmp_path)]
    begun = tmp_path / "begun"
    with subprocess.Popen(command) as process:
        assert wait_until(begun.exists, 60)
        worker, word = begun.read_text().split()
        assert word == "hello" and runs(int(worker))
        process.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not runs(int(worker)), 15)
