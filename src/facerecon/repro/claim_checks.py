"""The checks of the paper's claims, each a function of records that figures/claims.toml names.

A check returns whether the claim holds (None: these records cannot tell) and what was measured, as
a sentence. `claims` knows them by their names.
"""

from collections.abc import Callable
from itertools import pairwise
from statistics import fmean

Verdict = tuple[bool | None, str]
CHECKS: dict[str, Callable[..., Verdict]] = {}
PAPERS = {"[20]": "kemelmacher2011", "[34]": "richardson2016", "[47]": "zhu2015"}
"""The compared methods by the paper's number; all are our re-implementations."""
OURS = "ours (finenet)"
"""The paper's own method in our comparisons."""


class MissingValue(LookupError):
    """A record was made before it held what a check needs."""

    def __str__(self) -> str:
        return f"the record holds no {self.args[0]!r} yet; run the item again."


def check(function: Callable[..., Verdict]) -> Callable[..., Verdict]:
    """Register the check of the claim that has the function's name."""
    CHECKS[function.__name__] = function
    return function


def _values(record: dict) -> "_Values":
    return _Values(record.get("values", record))


class _Values(dict):
    def __missing__(self, name: str) -> object:
        raise MissingValue(name)

    def ending(self, suffix: str) -> dict[str, object]:
        """The values whose names end like this, without the ending."""
        found = {k.removesuffix(suffix): v for k, v in self.items() if k.endswith(suffix)}
        return found or self[suffix]


@check
def parameters(record: dict) -> Verdict:
    identity, expression, _ = _values(record)["coefficients"]
    return (identity, expression) == (200, 84), f"{identity} + {expression} + 6."


@check
def albedo_coefficients(record: dict) -> Verdict:
    count = _values(record)["coefficients"][2]
    return count == 10, f"{count} albedo coefficients."


@check
def both_feedbacks(record: dict) -> Verdict:
    errors = _landmark_errors(record)
    chance = abs(errors["base"] - errors["seed"])
    least = min(errors["pncc"], errors["normals"])
    text = f"landmark errors {errors['base']:.2f} % with both, {errors['pncc']:.2f} % with PNCC"
    text += f" alone, {errors['normals']:.2f} % with normals alone; another seed changes"
    return least - errors["base"] > chance, f"{text} {chance:.2f}."


@check
def pose_criterion(record: dict) -> Verdict:
    errors = _landmark_errors(record)
    chance = abs(errors["base"] - errors["seed"])
    plain, posed = errors["plain"], errors["no_displacement"]
    text = f"landmark errors {plain:.2f} % with the criterion of section 3.3, {posed:.2f} % with"
    return plain - posed <= chance, f"{text} posed vertices; another seed changes {chance:.2f}."


def _landmark_errors(record: dict) -> dict[str, float]:
    """In percent of the face, after four looks, by the row of the ablations."""
    rows = _Values(record["rows"])
    names = ("base", "seed", "pncc", "normals", "plain", "no_displacement")
    return {name: rows[name]["metrics"]["landmarks_pct_4"] for name in names}


@check
def self_correction(record: dict) -> Verdict:
    values = _values(record)
    landmarks, yaw = values["shipped/landmarks_pct"], values["shipped/yaw_deg"]
    text = f"landmarks {landmarks[0]:.2f} % after one look, {landmarks[3]:.2f} % after four;"
    text += f" yaw {yaw[0]:.2f} and {yaw[3]:.2f} degrees."
    return landmarks[3] < landmarks[0] and yaw[3] < yaw[0], text


@check
def convergence(record: dict) -> Verdict:
    moves = _values(record).ending("/landmark_moves_px").values()
    first, last = min(steps[0] for steps in moves), max(steps[-1] for steps in moves)
    settles = all(steps[-1] < min(1.0, steps[0] / 3) for steps in moves)
    return settles, f"first steps of {first:.1f} pixels or more, last steps of {last:.2f} or less."


@check
def four_iterations(record: dict) -> Verdict:
    moves = _values(record).ending("/landmark_moves_px").values()
    counts = sorted({len(steps) for steps in moves})
    return counts == [4], f"{', '.join(map(str, counts))} looks."


@check
def standard_detector(record: dict) -> Verdict:
    photographs = record["photographs"]
    row = _Values(photographs["detectors"])["Haar frontal"]
    share, count = row["right_pct_of_consensus"], photographs["with_consensus"]
    heads = record["heads"]["detectors"]["Haar frontal"]["recall_pct_within_60"]
    text = f"{share:.1f} % of {count} portraits; of rendered heads turned up to 60 degrees"
    return share >= 95, f"{text} only {heads:.0f} %, so we use another detector."


@check
def hidden_vertices(record: dict) -> Verdict:
    values = _values(record)
    hidden, found = values["vertices_without_gradient"], values["gradient_norm/identity"]
    text = f"{hidden:,} vertices get no gradient; that of the identity has a norm of {found:.3g}."
    return hidden > 0 and found > 0, text


@check
def joint_training(record: dict) -> Verdict:
    values = _values(record)
    norms = values["CoarseNet/from_criterion"], values["CoarseNet/from_fidelity"]
    text = f"norms of CoarseNet's gradient: {norms[0]:.0f} from Eq. (14), {norms[1]:.0f} from"
    return min(norms) > 0, f"{text} fidelity."


@check
def through_the_layer(record: dict) -> Verdict:
    values = _values(record)
    flow, cut = values["flow/Eq. (14)/CoarseNet"], values["flow/Eq. (14), layer cut/CoarseNet"]
    return flow > 0 == cut, f"norm {flow:.3g} through the layer, {cut:.3g} without it."


@check
def hypercolumn(record: dict) -> Verdict:
    channels = _values(record)["hypercolumn_channels"]
    text = f"FineNet's hypercolumn has {channels} channels, the paper's 450: ours is narrower, to"
    return channels == 450, f"{text} train and run on a CPU (preset `paper` has the paper's width)."


@check
def light_recovered(record: dict) -> Verdict:
    values = _values(record)
    angle, flat = (values[f"{k}/light_angle_deg_median"] for k in ("as rendered", "flat light"))
    return angle < 10, f"{angle:.1f} degrees; under flat light {flat:.0f}."


@check
def learns_the_criterion(record: dict) -> Verdict:
    values = _values(record)
    fine = values.ending("/criterion/FineNet/total")
    coarse = values.ending("/criterion/coarse/total")
    pairs = ", ".join(f"{fine[k]:.1f} against {coarse[k]:.1f}" for k in fine)
    text = f"Eq. (14) is {pairs} on the coarse face; the FineNet that ships learned it in another"
    return all(fine[k] < coarse[k] for k in fine), f"{text} form (`losses.linear_finenet_loss`)."


@check
def smoothness_needed(terms: dict, portraits: dict) -> Verdict:
    values = _values(terms)
    full, rough = (values[f"terms/{k}, noisy/angle_deg"] for k in ("all terms", "no smoothness"))
    moved = max(_values(portraits).ending("/depth_change_rms_mm").values())
    text = f"{full:.1f} degrees with all terms, {rough:.1f} without smoothness; FineNet moves the"
    return rough > full and moved < 1, f"{text} portraits' depth by {moved:.2f} mm or less."


@check
def accurate_at_test_time(record: dict) -> Verdict:
    value, low, high, means = _paired_people(record, "finenet", "coarse")
    text = f"{means[0]:.2f} degrees with FineNet, {means[1]:.2f} on the coarse face:"
    return high < 0, f"{text} {-value:.2f} less ({-high:.2f} to {-low:.2f})."


def _paired_people(record: dict, first: str, second: str):
    """Difference of two stages' normal angles on the same photographs, people resampled."""
    import numpy as np

    from facerecon.scans.protocol import paired_interval

    angles = {(r["method"], r["person"], r["lamp"]): r["normals"] for r in record["rows"]}
    keys = [key[1:] for key in angles if key[0] == first]
    pairs = [(angles[(first, *key)], angles[(second, *key)]) for key in keys]
    if not pairs:
        raise MissingValue(first)
    interval = paired_interval(-np.diff(np.array(pairs, float))[:, 0], [key[0] for key in keys])
    return *interval, tuple(fmean(column) for column in zip(*pairs, strict=True))


@check
def fast(record: dict) -> Verdict:
    step = _Values(record["steps"])["photograph to mesh, 200 x 200"]
    return step["median_ms"] < 1000, f"{step['median_ms']:.0f} ms."


@check
def lowest_error(record: dict) -> Verdict:
    values = _values(record)
    place = _dataset(values)
    text, ahead = [], True
    for number, method in PAPERS.items():
        value, low, high = _difference(values, place, method)
        text.append(f"{number} {value:+.2f} mm ({low:+.2f} to {high:+.2f})")
        ahead &= low > 0
    own = values[f"{place}/{OURS}/mean"]
    text = f"{own:.2f} mm; behind it, as re-implemented by us: {', '.join(text)}"
    return ahead, f"{text}, on {values[f'{place}/{OURS}/scans']} scans."


@check
def order(record: dict) -> Verdict:
    values = _values(record)
    place = _dataset(values)
    methods = {"ours": OURS, **PAPERS}
    means = {key: values[f"{place}/{name}/mean"] for key, name in methods.items()}
    found = sorted(means, key=means.__getitem__)
    text = ", ".join(f"{key} {means[key]:.2f}" for key in found)
    text = f"the order by mean error (mm) is {text}; the paper's is ours, [20], [47], [34]"
    alike = []
    for first, second in pairwise(found):
        _, low, high = _difference(values, place, methods[second], methods[first])
        alike += [f"{first} and {second}"] if low <= 0 <= high else []
    told = f"; not told apart: {', '.join(alike)}" if alike else ""
    return found == ["ours", "[20]", "[47]", "[34]"], f"{text}{told}."


def _dataset(values: _Values) -> str:
    """The first dataset of Table 1: FRGC v2, if it was measured."""
    return next(iter(values.ending(f"/{OURS}/mean")))


def _difference(values: _Values, place: str, method: str, first: str = OURS) -> tuple[float, ...]:
    """By how much a method's mean error exceeds another's, with its paired interval, mm."""
    if f"{place}/{method} minus {first}" in values:
        return tuple(values[f"{place}/{method} minus {first}"])
    value, low, high = values[f"{place}/{first} minus {method}"]
    return -value, -high, -low


@check
def comparable_to_many(record: dict) -> Verdict:
    by_method = {k: fmean(v) for k, v in _values(record).ending("/depth_mm").items()}
    many = next(v for k, v in by_method.items() if k.startswith("[36]"))
    single = {k.split(",")[0]: v for k, v in by_method.items() if not k.startswith("[36]")}
    text = ", ".join(f"{name} {value:.1f} mm" for name, value in single.items())
    return max(single.values()) <= 1.25 * many, f"{text} from one photograph, [36] {many:.1f} mm."


@check
def any_orientation(record: dict) -> Verdict:
    values = _values(record)
    yaws, errors, off = (values[k] for k in ("yaw_deg", "depth_mm", "yaw_off_deg"))
    good = values["astray"] == 0 and abs(off[-1]) < 15 and errors[-1] < 2 * errors[0]
    text = f"{errors[0]:.1f} mm at {yaws[0]} degrees, {errors[-1]:.1f} mm at {yaws[-1]}, where the"
    text += f" yaw is off by {abs(off[-1]):.1f} degrees"
    return good, f"{text}; {values['astray']} fits went astray."


@check
def fine_details(record: dict) -> Verdict:
    means = _figure_10(record, "frontal", 1)
    own, coarse = means[OURS], means["ours (coarse)"]
    rivals = {number: means[PAPERS[number]] for number in ("[34]", "[47]")}
    text = f"{own:.1f} degrees to the true normals with FineNet, {coarse:.1f} on the coarse face, "
    text += ", ".join(f"{number} {angle:.1f}" for number, angle in rivals.items())
    good = own < min(rivals.values()) and own <= 0.9 * coarse
    return good, f"{text}: FineNet takes {1 - own / coarse:.0%} off, the rest is the coarse shape."


@check
def robust_to_pose(record: dict) -> Verdict:
    turned, frontal = (_figure_10(record, view, 0) for view in ("turned", "frontal"))
    own, other = turned[OURS], turned[PAPERS["[20]"]]
    text = f"{own:.1f} mm against {other:.1f} mm of [20]; on frontal subjects"
    return own < other, f"{text} {frontal[OURS]:.1f} against {frontal[PAPERS['[20]']]:.1f}."


def _figure_10(record: dict, view: str, column: int) -> _Values:
    """Mean depth error (0) or angle of normals (1) by method, over its frontal or turned faces."""
    rows = _values(record).ending(f"/{view}/depth_mm_and_normals_deg")
    if not rows or not all(rows.values()):
        raise MissingValue(f"{view} faces for every method")
    return _Values({name: fmean(pair[column] for pair in rows[name]) for name in rows})


@check
def scales_up(record: dict) -> Verdict:
    found = _values(record).ending(", FineNet/correlation").values()
    return min(found) > 0.5, f"correlations of {min(found):.2f} or more."


@check
def more_details(record: dict) -> Verdict:
    values = _values(record)
    low, high = (values.ending(f", FineNet/step_{size}_mm") for size in (200, 400))
    ratios = [high[name] / low[name] for name in low]
    text = f"{min(ratios):.2f} to {max(ratios):.2f} times"
    text = f"at 400 pixels FineNet's detail has steps between neighboring pixels of {text}"
    return min(ratios) > 1, f"{text} those at 200."
