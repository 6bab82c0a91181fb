"""The paper's claims (figures/claims.toml), judged by what notebooks and benchmarks measured."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facerecon.repro.claim_checks import CHECKS, MissingValue
from facerecon.repro.items import ReproductionError, find_file
from facerecon.repro.targets import Target, read_result, read_toml

FILE = Path("figures") / "claims.toml"
HOLDS, FAILS, UNTESTED = "holds", "does not hold", "cannot be tested here"
VERDICTS = (HOLDS, FAILS, UNTESTED)
STATUSES = REPRODUCED, SAME_CONCLUSION, NOT_REPRODUCED = (
    "reproduced",
    "other data, same conclusion",
    "does not reproduce",
)
NOT_RUN = "not run"


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, and when it holds.

    Attributes:
        name: of the check in `claim_checks`.
        section: of the paper.
        item: whose notebook shows it.
        says: the paper, word for word.
        holds_if: what the check tests, in words.
        sources: the results that it reads, as in "figures/fig_04"; none if it cannot be tested.
        why: it cannot be tested.
        decides: whether the item reproduces only if it holds.
        if_not: what to say of the item where it does not hold, instead of the sentence itself.
    """

    name: str
    section: str
    item: str
    says: str
    holds_if: str = ""
    sources: tuple[str, ...] = ()
    why: str = ""
    decides: bool = False
    if_not: str = ""


class Judgment(NamedTuple):
    """A claim, its verdict (one of `VERDICTS`), and what was measured, as a sentence."""

    claim: Claim
    verdict: str
    measured: str


class Judgments(list):
    """Judgments as a table, in a notebook or in a terminal."""

    def _repr_markdown_(self) -> str:
        lines = ["| the paper says | here it | holds if | measured |", "|---|---|---|---|"]
        for claim, verdict, measured in self:
            says = f"“{claim.says}” ({claim.section})"
            lines.append(f"| {says} | **{verdict}** | {claim.holds_if} | {measured} |")
        return "\n".join(lines) if self else repr(self)

    def __repr__(self) -> str:
        if not self:
            return f"no claims of the paper: {FILE} comes with the repository"
        return "\n".join(f"{c.name}: {verdict}; {measured}" for c, verdict, measured in self)


def read_claims(path: str | Path | None = None) -> list[Claim]:
    """All claims, in the file's order.

    Args:
        path: the file; by default that of the clone.

    Raises:
        ReproductionError: the file is missing or damaged, or a claim has neither a check nor a
            reason why there is none.
    """
    path = find_file(FILE) if path is None else Path(path)
    claims = []
    for name, values in read_toml(path).items():
        try:
            sources = tuple(values.pop("from", ()))
            claim = Claim(name, **values, sources=sources)
        except (AttributeError, TypeError) as error:
            raise ReproductionError(f"{path}: [{name}] cannot be read ({error})") from None
        if (name in CHECKS) != bool(sources) or bool(sources) == bool(claim.why):
            raise ReproductionError(
                f"{path}: [{name}] needs `from` and a check of its name, or `why` and neither"
            )
        claims.append(claim)
    return claims


def judge(claim: Claim, root: Path, instead: Mapping[str, Path] | None = None) -> Judgment:
    """Judge a claim by the results in a clone.

    Args:
        root: the clone.
        instead: folders that take the place of some sources, such as that of a run.
    """
    if not claim.sources:
        return Judgment(claim, UNTESTED, claim.why)
    results = []
    for source in claim.sources:
        folder = (instead or {}).get(source)
        record = read_result(root / source if folder is None else folder)
        if record is None:
            record = _read_json(root / f"{source}.json")
        if record is None:
            return Judgment(claim, UNTESTED, f"there is no result in {source} yet.")
        results.append(record)
    try:
        holds, measured = CHECKS[claim.name](*results)
    except MissingValue as error:
        return Judgment(claim, UNTESTED, str(error))
    return Judgment(claim, {True: HOLDS, False: FAILS, None: UNTESTED}[holds], measured)


def judge_item(item: str, output: str | Path) -> Judgments:
    """The claims about an item, judged by the run whose folder of results this is.

    Other results that a claim rests on are those of the clone; without one there are no claims.
    """
    try:
        root = find_file(FILE).parents[1]
    except ReproductionError:
        return Judgments()
    instead = {f"figures/{item}": Path(output)}
    found = [judge(c, root, instead) for c in read_claims(root / FILE) if c.item == item]
    return Judgments(found)


def status(item: str, aim: Target, root: Path) -> tuple[str, str]:
    """Does an item of the paper reproduce? One of `STATUSES`, and the reason in one sentence."""
    record = read_result(root / "figures" / item)
    if record is None:
        return NOT_RUN, ""
    judged = [judge(c, root) for c in read_claims(root / FILE) if c.item == item and c.decides]
    if failed := [j for j in judged if j.verdict == FAILS]:
        said = (
            f"{j.claim.if_not or f'“{j.claim.says}” does not hold'}: {j.measured}" for j in failed
        )
        return NOT_REPRODUCED, " ".join(said)
    if untested := [j.measured for j in judged if j.verdict == UNTESTED]:
        return NOT_RUN, untested[0]
    own = aim.same_data or str(record.get("data", "")).startswith("FRGC v2")
    return (REPRODUCED if own else SAME_CONCLUSION), aim.reason


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
