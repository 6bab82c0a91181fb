"""The portability run: every row names tests that exist, and a failure is not overlooked."""

import importlib.util
from pathlib import Path

import pytest
import torch

from facerecon.repro import ITEMS
from facerecon.training.engine import computes_bfloat16

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("portability", ROOT / "tools/portability.py")
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)


@pytest.mark.parametrize("short", [False, True])
def test_rows_name_what_there_is(short: bool, tmp_path: Path) -> None:
    rows = TOOL.rows(short, tmp_path)
    files = [word for row in rows for word in row.command if word.endswith(".py")]
    assert files and [name for name in files if not (ROOT / name).is_file()] == []
    assert set(TOOL.CHAPTERS) < set(ITEMS)
    environments = [set(row.environment.items()) for row in rows]
    wanted = {("ATEN_CPU_CAPABILITY", "default"), ("OMP_NUM_THREADS", "2")}
    assert any(wanted < each for each in environments)
    assert any(("NUMBA_BOUNDSCHECK", "1") in each for each in environments)


@pytest.mark.parametrize(
    ("program", "well", "said"),
    [
        ("print('3 passed in 1 s')", True, "passed (3 passed)"),
        ("import sys; print('1 failed, 2 passed'); sys.exit(1)", False, "FAILED (1 failed, 2 p"),
        ("import os; os.kill(os.getpid(), 11)", False, "crashed: SIGSEGV"),
        ("import os; os.abort() if os.environ['MORE'] == 'here' else 0", False, "SIGABRT"),
    ],
)
def test_outcomes(program: str, well: bool, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    row = TOOL.Row("a row", {"MORE": "here"}, ["-c", program])
    found, outcome = TOOL.run(row)
    assert found == well and said in outcome


def test_the_table_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = TOOL.Row("good", {"A": "1"}, ["-c", "pass"])
    bad = TOOL.Row("bad", {"B": "2"}, ["-c", "raise SystemExit(3)"])
    monkeypatch.setattr(TOOL, "rows", lambda short, folder: [good, bad])
    assert TOOL.main(["--short"]) == 1
    printed = capsys.readouterr().out
    assert "| good | A=1 | passed," in printed and "| bad | B=2 | FAILED," in printed
    monkeypatch.setattr(TOOL, "rows", lambda short, folder: [good])
    assert TOOL.main([]) == 0


def test_a_processor_held_to_less_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for capability, expected in (("AVX512", True), ("AVX2", False), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert computes_bfloat16(cpu) == expected
