"""Read-only installations, and processes that fork."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from facerecon.mesh import vertex_normals

ROOT = Path(__file__).resolve().parents[2]


def test_compiled_code_finds_a_place_where_nothing_else_can_be_written(tmp_path):
    code = """
import warnings
from numba.core import caching
name = "UserProvidedCacheLocator"  # nothing else works
provided = getattr(caching, name, None) or getattr(caching, f"_{name}")
caching.CacheImpl._locator_classes = [provided]
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from facerecon.backends.compiled import njit
    @njit()
    def twice(x):
        return 2 * x
    @njit()
    def thrice(x):
        return 3 * x
assert (twice(2), thrice(2)) == (4, 6)
print(*(warning.message for warning in caught if "kept in" in str(warning.message)))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("compiled code is kept in") == 1
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert str(folder) in done.stdout
    assert any(folder.rglob("*.nbi"))
    if hasattr(os, "getuid"):
        assert folder.stat().st_mode & 0o077 == 0


def _work(_: int) -> float:
    torch.randn(400, 400) @ torch.randn(400, 400)
    mesh = torch.rand(8, 500, 3)
    triangles = torch.arange(498)[:, None] + torch.tensor([0, 1, 2])
    return float(np.isfinite(vertex_normals(mesh, triangles).numpy()).all())


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_hang():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert _work(0) == 1
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.map_async(_work, [1]).get(timeout=60) == [1]
    finally:
        torch.set_num_threads(threads)
