"""Measured numbers in the pages: they come from results, and the results from weights that ship."""

import importlib.util
import json
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("results_tool", ROOT / "tools/results.py")
TOOL = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(TOOL)
LISTED = tomllib.loads((ROOT / "benchmarks/results.toml").read_text("utf-8"))
RESULTS = dict(TOOL.results(ROOT))
PAGES = [path.relative_to(ROOT).as_posix() for path in TOOL.pages(ROOT)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with two results."""
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "figures/fig_09").mkdir(parents=True)
    rows = [{"method": "a", "n": 1, "x": 1.0}, {"method": "a", "n": 2, "x": 0.126}]
    (tmp_path / "benchmarks/results/yale.json").write_text(json.dumps({"rows": rows}))
    record = {"values": {"a/depth, mm": [1.25, 2.5]}, "commit": "abc"}
    (tmp_path / "figures/fig_09/result.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "form", "shown"),
    [
        ("yale > rows > method=a,n=2 > x", ".2f", "0.13"),
        ("yale > rows > 0 > x", ".0f", "1"),
        ("yale > rows > method=a,n=2 > x", ".0%", "13%"),
        ("yale > rows > #", "d", "2"),
        ("figures/fig_09 > a/depth, mm > 1", ".1f", "2.5"),
    ],
)
def test_a_reference_is_filled_in(clone: Path, path: str, form: str, shown: str) -> None:
    text = f"It is <!-- = {path} : {form} -->7.7<!-- /= --> mm, and <!-- other -->."
    filled = TOOL.resolved(text, clone, "page.md")
    assert filled == text.replace("7.7", shown)
    assert TOOL.resolved(filled, clone, "page.md") == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- = yale > rows > 9 > x : .2f -->1<!-- /= -->", "leads nowhere .IndexError"),
        ("<!-- = yale > rows > method=b > x : .2f -->1<!-- /= -->", "leads nowhere"),
        ("<!-- = yale > no : .2f -->1<!-- /= -->", "leads nowhere .KeyError"),
        ("<!-- = nothing > no : .2f -->1<!-- /= -->", "leads nowhere .FileNotFoundError"),
        ("<!-- = yale > rows > 0 > method : .2f -->1<!-- /= -->", "leads nowhere .ValueError"),
        ("<!-- = yale > rows > 0 > x : .2f -->1", "is not closed"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(clone: Path, text: str, message: str) -> None:
    with pytest.raises(TOOL.ReferenceFault, match=rf"page\.md: .*{message}"):
        TOOL.resolved(text, clone, "page.md")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an error of 3.44 mm", ["3.44 mm"]),
        ("6.3 degrees and 4.6 % of it", ["6.3 degrees", "4.6 %"]),
        ("fell from 1.94 to 1.58 %", ["1.94 to 1.58 %"]),
        ("16.65° or 0.5 ms", ["16.65°", "0.5 ms"]),
        ("Eq. (3), version 0.1.0, torch 2.13.0, 45 degrees", []),
        ("between <!-- = a > b : .2f -->3.44<!-- /= --> mm", []),
        ("<!-- yale -->\n| 3.44 mm |\n<!-- end -->", []),
        ("<!-- historical -->\n*Historical: x.*\n\n3.44 mm\n<!-- end of historical -->", []),
        ("```\n3.44 mm\n```", []),
        ("at most 0.01 mm here", []),
    ],
)
def test_measured_numbers_without_a_reference_are_found(text: str, found: list[str]) -> None:
    assert TOOL.unreferenced(text, ["at most 0.01 mm"]) == found


@pytest.mark.parametrize("page", PAGES)
def test_every_measured_number_of_a_page_has_a_reference(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    allowed = TOOL.SETTINGS.get(page, [])
    assert [phrase for phrase in allowed if phrase not in text] == []
    assert TOOL.unreferenced(text, allowed) == []


@pytest.mark.parametrize("page", PAGES)
def test_what_is_history_says_so(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    blocks = TOOL.HISTORICAL.findall(text)
    assert len(blocks) == text.count("<!-- historical -->")
    assert all(block.startswith("*Historical: ") for block in blocks)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_was_measured_with_the_weights_that_ship(name: str) -> None:
    assert TOOL.faults(name, RESULTS[name], LISTED, TOOL.shipped_hashes()) == []


def test_other_weights_and_silence_about_them_are_found() -> None:
    shipped = {"coarsenet": "new", "finenet": "f"}
    listed = {"yale": {"weights": ["coarsenet", "finenet"]}, "old": {"why": "an ablation"}}
    weights = {"file": "coarsenet.safetensors", "sha256": "old"}
    record = {"weights": weights, "refined_by": {"finenet": {"sha256": "f"}}}
    assert TOOL.measured_with(record) == {"coarsenet": "old", "finenet": "f"}
    (fault,) = TOOL.faults("yale", record, listed, shipped)
    assert "another coarsenet" in fault
    assert TOOL.faults("old", record, listed, shipped) == []
    weights["sha256"] = "new"
    assert TOOL.faults("yale", record, listed, shipped) == []
    del record["refined_by"]
    assert "does not say which finenet" in TOOL.faults("yale", record, listed, shipped)[0]
    assert "is not in benchmarks/results.toml" in TOOL.faults("other", record, listed, shipped)[0]
    figure = {"weights": {"coarsenet": {"sha256": "old"}}}
    assert "another coarsenet" in TOOL.faults("figures/fig_01", figure, {}, shipped)[0]


def test_the_list_names_what_there_is() -> None:
    names = {name for name in RESULTS if not name.startswith("figures/")}
    assert set(LISTED) == names
    for name, about in LISTED.items():
        assert bool(about.get("why")) != bool(about.get("weights")), name
    page = TOOL.measurements(ROOT)
    assert all(f"[{name}]" in page for name in RESULTS) and "Historical: " in page


def test_all_pages_are_current() -> None:
    assert TOOL.main(["--check"]) == 0
