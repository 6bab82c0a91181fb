"""The paper's claims: their file, their checks on made-up records, and where they are shown."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest

from facerecon.repro import (
    ITEMS,
    ReproductionError,
    judge,
    judge_item,
    read_claims,
    read_targets,
    status,
)
from facerecon.repro.claim_checks import CHECKS, OURS, MissingValue
from facerecon.repro.claims import FAILS, HOLDS, NOT_RUN, STATUSES, UNTESTED

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = read_claims(ROOT / "figures/claims.toml")
TARGETS = read_targets(ROOT / "figures/targets.toml")


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ablations(**landmarks: float) -> dict:
    return {"rows": {k: {"metrics": {"landmarks_pct_4": v}} for k, v in landmarks.items()}}


def table(finenet: float, kemelmacher: float, richardson: float, zhu: float, half: float) -> dict:
    """A record of Table 1 whose paired intervals reach `half` mm to both sides."""
    means = {OURS: finenet, "kemelmacher2011": kemelmacher}
    means |= {"richardson2016": richardson, "zhu2015": zhu}
    values = {f"bench/{name}/mean": mean for name, mean in means.items()}
    values[f"bench/{OURS}/scans"] = 30
    for i, first in enumerate(means):
        for second in list(means)[i + 1 :]:
            value = means[first] - means[second]
            values[f"bench/{first} minus {second}"] = [value, value - half, value + half]
    return {"values": values}


def yale(fine: list[float], coarse: list[float]) -> dict:
    rows = []
    for method, angles in (("finenet", fine), ("coarse", coarse)):
        for person, angle in enumerate(angles):
            rows.append({"method": method, "person": str(person), "lamp": "a", "normals": angle})
    return {"rows": rows}


def figure_10(fine, coarse, **others) -> dict:
    rows = {OURS: fine, "ours (coarse)": coarse, **others}
    last = "depth_mm_and_normals_deg"
    values = {f"{name}/frontal/{last}": row for name, row in rows.items()}
    return {"values": values | {f"{name}/turned/{last}": row[-1:] for name, row in rows.items()}}


RIVALS = {
    "kemelmacher2011": [[3.0, 11.0], [8.0, 15.0]],
    "richardson2016": [[3.0, 10.0], [7.0, 14.0]],
    "zhu2015": [[3.0, 11.0], [8.0, 16.0]],
}
DETECTOR = {"detectors": {"Haar frontal": {"recall_pct_within_60": 49.0}}}


def detect(share: float) -> dict:
    found = {"Haar frontal": {"right_pct_of_consensus": share}}
    return {"heads": DETECTOR, "photographs": {"with_consensus": 57, "detectors": found}}


def values(**found: object) -> dict:
    return {"values": {name.replace("__", "/"): value for name, value in found.items()}}


def portraits(fine: float, coarse: float, moved: float = 0.1) -> dict:
    return {
        "values": {
            "a/criterion/FineNet/total": fine,
            "a/criterion/coarse/total": coarse,
            "a/depth_change_rms_mm": moved,
        }
    }


def flow(through: float, cut: float) -> dict:
    found = {"flow/Eq. (14)/CoarseNet": through, "flow/Eq. (14), layer cut/CoarseNet": cut}
    return {"values": found}


def terms(full: float, rough: float) -> dict:
    return {"values": {"terms/all terms, noisy/angle_deg": full,
                       "terms/no smoothness, noisy/angle_deg": rough}}  # fmt: skip


def light(angle: float) -> dict:
    names = ("as rendered", "flat light")
    return {"values": {f"{name}/light_angle_deg_median": angle for name in names}}


def fig_08(single: float, many: float) -> dict:
    return {"values": {"ours, 1 photograph/depth_mm": [single, single],
                       "[36], 100/depth_mm": [many]}}  # fmt: skip


def fig_09(last: float, off: float, astray: int = 0) -> dict:
    return values(yaw_deg=[0, 85], depth_mm=[3.0, last], yaw_off_deg=[0.0, off], astray=astray)


def fig_11(correlation: float, low: float, high: float) -> dict:
    numbers = {"correlation": correlation, "step_200_mm": low, "step_400_mm": high}
    return {"values": {f"a, FineNet/{name}": value for name, value in numbers.items()}}


CASES = {  # records for which a claim holds, and for which it does not
    "parameters": ([values(coefficients=[200, 84, 10])], [values(coefficients=[199, 84, 10])]),
    "albedo_coefficients": ([values(coefficients=[2, 8, 10])], [values(coefficients=[2, 8, 9])]),
    "both_feedbacks": (
        [ablations(base=7.0, seed=7.1, pncc=8, normals=8, plain=0, no_displacement=0)],
        [ablations(base=7.0, seed=8.1, pncc=8, normals=8, plain=0, no_displacement=0)],
    ),
    "pose_criterion": (
        [ablations(base=7.0, seed=7.5, pncc=8, normals=8, plain=8.4, no_displacement=8)],
        [ablations(base=7.0, seed=7.5, pncc=8, normals=8, plain=8.6, no_displacement=8)],
    ),
    "self_correction": (
        [values(shipped__landmarks_pct=[2, 2, 2, 1], shipped__yaw_deg=[2, 2, 2, 1])],
        [values(shipped__landmarks_pct=[2, 2, 2, 1], shipped__yaw_deg=[2, 2, 2, 3])],
    ),
    "convergence": (
        [values(a__landmark_moves_px=[6, 1, 1, 0.9])],
        [values(a__landmark_moves_px=[6, 1, 1, 1.1])],
    ),
    "four_iterations": (
        [values(a__landmark_moves_px=[6, 1, 1, 0.9])],
        [values(a__landmark_moves_px=[6, 1, 1])],
    ),
    "standard_detector": ([detect(98.2)], [detect(94.0)]),
    "hidden_vertices": (
        [values(vertices_without_gradient=9, gradient_norm__identity=1.0)],
        [values(vertices_without_gradient=0, gradient_norm__identity=1.0)],
    ),
    "joint_training": (
        [values(CoarseNet__from_criterion=2.0, CoarseNet__from_fidelity=1.0)],
        [values(CoarseNet__from_criterion=0.0, CoarseNet__from_fidelity=1.0)],
    ),
    "through_the_layer": ([flow(2.0, 0.0)], [flow(2.0, 1.0)]),
    "hypercolumn": ([values(hypercolumn_channels=450)], [values(hypercolumn_channels=114)]),
    "light_recovered": ([light(5.0)], [light(11.0)]),
    "learns_the_criterion": ([portraits(1.0, 2.0)], [portraits(2.0, 1.0)]),
    "smoothness_needed": (
        [terms(1.0, 2.0), portraits(1, 1)],
        [terms(1.0, 2.0), portraits(1, 1, moved=2.0)],
    ),
    "accurate_at_test_time": ([yale([1, 2, 3], [2, 3, 4])], [yale([1, 5, 3], [2, 2, 4])]),
    "fast": (
        [{"steps": {"photograph to mesh, 200 x 200": {"median_ms": 900}}}],
        [{"steps": {"photograph to mesh, 200 x 200": {"median_ms": 1100}}}],
    ),
    "lowest_error": ([table(3, 4, 6, 5, 0.5)], [table(3, 4, 6, 5, 1.5)]),  # not told apart
    "order": ([table(3, 4, 6, 5, 0.5)], [table(3, 4, 5, 6, 0.5)]),
    "comparable_to_many": ([fig_08(1.2, 1.0)], [fig_08(1.3, 1.0)]),
    "any_orientation": ([fig_09(5.0, -10.0)], [fig_09(5.0, -20.0)]),
    "fine_details": (
        [figure_10([[3, 8.0], [3, 9.0]], [[3, 10.0], [3, 10.0]], **RIVALS)],
        [figure_10([[3, 9.8], [3, 9.9]], [[3, 10.0], [3, 10.0]], **RIVALS)],
    ),
    "robust_to_pose": (
        [figure_10([[3, 8.0], [7, 9.0]], [[3, 9.0], [3, 9.0]], **RIVALS)],
        [figure_10([[3, 8.0], [9, 9.0]], [[3, 9.0], [3, 9.0]], **RIVALS)],
    ),
    "scales_up": ([fig_11(0.6, 1.0, 1.0)], [fig_11(0.4, 1.0, 1.0)]),
    "more_details": ([fig_11(0.6, 1.0, 1.1)], [fig_11(0.6, 1.0, 0.9)]),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_can_hold_and_fail(name: str) -> None:
    for holds, records in zip((True, False), CASES[name], strict=True):
        found, measured = CHECKS[name](*records)
        assert found is holds, measured
        assert measured.endswith(".") and any(letter.isdigit() for letter in measured)


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_reads_what_the_results_hold(name: str) -> None:
    (claim,) = [claim for claim in CLAIMS if claim.name == name]
    verdict = judge(claim, ROOT)
    assert verdict.verdict in (HOLDS, FAILS) or "run the item again" in verdict.measured


def test_claims_are_of_items_and_sections() -> None:
    assert len(CLAIMS) >= 25 and {claim.item for claim in CLAIMS} <= set(ITEMS)
    assert {claim.name for claim in CLAIMS if claim.sources} == set(CHECKS)
    for claim in CLAIMS:
        assert bool(claim.holds_if) == bool(claim.sources), claim.name
        assert not claim.decides or claim.item in TARGETS
    assert {c.item for c in CLAIMS if c.section == "5"} >= {"table_01", "fig_10", "fig_11"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a]\nsection = "5"\nitem = "x"\nsays = "y"', "needs `from` and a check"),
        ('[order]\nsection = "5"\nitem = "x"\nsays = "y"\nwhy = "z"', "needs `from` and a check"),
        ('[a]\nsection = "5"\nitem = "x"\nsays = "y"\nwho = "z"', r"\[a\] cannot be read"),
        ("[a", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(ReproductionError, match=rf"claims.toml: .*{message}"):
        read_claims(path)


def test_what_a_record_lacks_cannot_be_tested(tmp_path: Path) -> None:
    with pytest.raises(MissingValue):
        CHECKS["order"]({"values": {}})
    (claim,) = [claim for claim in CLAIMS if claim.name == "order"]
    assert judge(claim, tmp_path)[1:] == (UNTESTED, "there is no result in figures/table_01 yet.")
    (masking,) = [claim for claim in CLAIMS if claim.name == "masking"]
    assert judge(masking, tmp_path)[1:] == (UNTESTED, masking.why)


def test_methods_that_cannot_be_told_apart_are_named() -> None:
    _, measured = CHECKS["order"](table(3, 4, 6, 5, 1.5))
    assert "not told apart: ours and [20], [20] and [47], [47] and [34]" in measured
    assert "told apart" not in CHECKS["order"](table(3, 4, 6, 5, 0.5))[1]
    assert "+1.00 mm (+0.50 to +1.50)" in CHECKS["lowest_error"](table(3, 4, 6, 5, 0.5))[1]


def clone(folder: Path, item: str, record: dict) -> Path:
    (folder / "figures" / item).mkdir(parents=True)
    (folder / "figures/claims.toml").write_bytes((ROOT / "figures/claims.toml").read_bytes())
    (folder / "figures" / item / "result.json").write_text(json.dumps(record))
    return folder


def test_a_status_follows_from_the_claims_and_the_data(tmp_path: Path) -> None:
    good, bad = CASES["order"]
    record = {**good[0], "data": "facerecon-bench, 30 scans"}
    place = clone(tmp_path / "other", "table_01", record)
    assert status("table_01", TARGETS["table_01"], place) == (
        STATUSES[1],
        TARGETS["table_01"].reason,
    )
    place = clone(tmp_path / "frgc", "table_01", {**good[0], "data": "FRGC v2, 2000 scans"})
    assert status("table_01", TARGETS["table_01"], place)[0] == STATUSES[0]
    place = clone(tmp_path / "bad", "table_01", {**bad[0], "data": "FRGC v2, 2000 scans"})
    kind, reason = status("table_01", TARGETS["table_01"], place)
    assert kind == STATUSES[2] and "in another order: the order by mean error" in reason
    assert status("fig_01", TARGETS["fig_01"], place) == (NOT_RUN, "")
    assert all(aim.reason.endswith(".") for aim in TARGETS.values())


def test_a_notebook_judges_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACERECON_ROOT", str(ROOT))
    (tmp_path / "result.json").write_text(json.dumps(fig_11(0.6, 1.0, 1.1)))
    found = judge_item("fig_11", tmp_path)
    assert [judgment.verdict for judgment in found] == [HOLDS, HOLDS]
    assert found._repr_markdown_().count("\n") == 3 and "**holds**" in found._repr_markdown_()
    assert repr(found).startswith("scales_up: holds; correlations of 0.60")
    monkeypatch.setenv("FACERECON_ROOT", str(tmp_path))
    assert "comes with the repository" in repr(judge_item("fig_11", tmp_path))


@pytest.mark.parametrize("item", sorted({claim.item for claim in CLAIMS}))
def test_notebooks_show_their_claims(item: str) -> None:
    tree = ast.parse((ROOT / "notebooks" / f"{ITEMS[item]}.py").read_text("utf-8"))
    last = [node for node in tree.body if isinstance(node, ast.Expr)][-1]
    assert ast.unparse(last) == f"repro.judge_item('{item}', output)"


def test_the_page_is_that_of_the_results() -> None:
    assert load_tool("claims").main(["--check"]) == 0
