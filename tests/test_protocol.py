import numpy as np
import pytest
from scan_fixtures import DISTANCE, FOCAL, bump, scan
from scipy.spatial.transform import Rotation
from scipy.stats import norm

from facerecon.methods.estimate import Estimate
from facerecon.scans.alignment import align_depth, rigid_distances
from facerecon.scans.protocol import (
    ProtocolConfig,
    ProtocolError,
    Score,
    common_pixels,
    errors,
    near_nose,
    nose_tip,
    score,
    score_table,
)

TRUTH = bump()[..., 2]
WIDTH = DISTANCE / FOCAL


def score_of(depth: np.ndarray, **options) -> Score:
    estimate = Estimate(depth.astype(np.float32), WIDTH)
    return score(scan(), {"it": estimate}, ProtocolConfig(**options))["it"]


def test_no_error_is_no_error():
    found = score_of(TRUTH)
    assert found.mean < 1e-4 and found.high < 1e-4  # float32 of a thousand mm


@pytest.mark.parametrize("translation", ["median", "mean"])
def test_a_constant_shift_vanishes(translation):
    assert score_of(TRUTH + 12.5, translation=translation).mean < 1e-3
    assert score_of(TRUTH + 12.5, translation="none").mean == pytest.approx(12.5, abs=1e-3)


def test_median_and_mean_differ_as_they_should(rng):
    mask = np.isfinite(TRUTH)
    planted = np.where(rng.random(TRUTH.shape) < 0.2, 10.0, 0.0)
    share = planted[mask].mean() / 10
    # The median leaves the 80 % alone; the mean moves all by a fifth of the error.
    assert score_of(TRUTH + planted).mean == pytest.approx(10 * share, abs=1e-3)
    expected = 2 * share * (1 - share) * 10
    assert score_of(TRUTH + planted, translation="mean").mean == pytest.approx(expected, abs=1e-3)


def test_noise_has_its_known_quantiles(rng):
    sigma = 2.0
    found = score_of(TRUTH + sigma * rng.standard_normal(TRUTH.shape))
    n = np.isfinite(TRUTH).sum()
    # Half-normal: mean sigma sqrt(2/pi), 90 % quantile 1.645 sigma; tolerance four standard errors.
    assert found.mean == pytest.approx(sigma * np.sqrt(2 / np.pi), abs=4 * 0.6 * sigma / np.sqrt(n))
    wanted = sigma * norm.ppf(0.95)
    density = 2 * norm.pdf(norm.ppf(0.95)) / sigma
    assert found.high == pytest.approx(wanted, abs=4 * np.sqrt(0.09 / n) / density)
    assert score_of(TRUTH + 0, quantile=0.5).high < 1e-3


def test_a_stretched_relief():
    mask = np.isfinite(TRUTH)
    deviation = TRUTH[mask] - np.median(TRUTH[mask])
    found = score_of(1.1 * TRUTH)
    assert found.mean == pytest.approx(0.1 * np.abs(deviation).mean(), rel=1e-4)
    assert found.high == pytest.approx(0.1 * np.quantile(np.abs(deviation), 0.9), rel=1e-4)
    assert score_of(1.1 * TRUTH, scale="fit").mean < 1e-3


def test_scale_by_size_uses_the_true_width_of_a_pixel():
    mask = np.isfinite(TRUTH)
    truth = TRUTH[mask]
    aligned = align_depth(truth / 1.25, truth, "mean", "size", 1.25)
    np.testing.assert_allclose(aligned, truth, atol=1e-9)
    # A method that takes the head for 0.8 of its size is wrong in both ways alike.
    small = Estimate((0.8 * TRUTH).astype(np.float32), 0.8 * WIDTH)
    found = {
        s: errors(scan(), small, mask, ProtocolConfig(scale=s)).mean() for s in ("none", "size")
    }
    assert found["none"] > 1.5
    # The face is nearer than the wall at DISTANCE by some 3 %, and so are its pixels narrower.
    assert found["size"] < 0.05 * found["none"] + 0.4
    with pytest.raises(ValueError, match="width in mm"):
        errors(scan(), Estimate(small.depth_mm), mask, ProtocolConfig(scale="size"))
    with pytest.raises(ValueError, match="choose from"):
        align_depth(truth, truth, "mode", "none")


def test_a_tilt_counts_unless_rigid():
    rows = np.arange(TRUTH.shape[0])[:, None] * WIDTH
    tilted = TRUTH + np.tan(np.deg2rad(3)) * rows
    mask = np.isfinite(TRUTH)
    planted = (np.tan(np.deg2rad(3)) * rows + 0 * TRUTH)[mask]
    expected = np.abs(planted - np.median(planted)).mean()
    plain = score_of(tilted)
    assert plain.mean == pytest.approx(expected, rel=1e-3)
    # A shear by t is a rotation and a strain of t / 2, which is an error of shape and stays.
    assert score_of(tilted, rigid=True).mean < 0.25 * plain.mean


def test_rigid_alignment_finds_a_rotation_and_keeps_a_difference_of_shape():
    points = bump()[np.isfinite(TRUTH)]
    turn = Rotation.from_euler("xyz", [4, -3, 2], degrees=True)
    moved = turn.apply(points) + np.array([5.0, -3.0, 900.0])
    distance = rigid_distances(moved, points)
    # 0 but for what the planes through twelve neighbors miss of the nose.
    assert distance.mean() < 0.02
    flat = points * [1, 1, 0.9] + [0, 0, -100]
    assert rigid_distances(flat, points).mean() > 0.3


def test_only_common_pixels_count():
    left, right = TRUTH.copy(), TRUTH.copy()
    left[:, 90:] = np.nan
    right[:, :70] = np.nan
    right[:, 100:] += 50  # where the other is not valid, an error cannot matter
    here = scan()
    estimates = {"left": Estimate(left), "right": Estimate(right)}
    mask = common_pixels(here, estimates)
    assert mask.any(axis=0).nonzero()[0].tolist() == list(range(70, 90))
    assert all(s.mean < 1e-3 for s in score(here, estimates).values())
    assert sum(score(here, estimates)["left"].histogram) == mask.sum()
    right[:, :90] = np.nan
    with pytest.raises(ProtocolError, match="only 0 pixels"):
        common_pixels(here, estimates)
    with pytest.raises(ProtocolError, match="shape"):
        common_pixels(here, {"small": Estimate(left[:-1])})


def test_the_nose_and_the_ball_around_it():
    here = scan()
    row, column = nose_tip(here)  # no face for the detector: the nearest point
    assert (row, column) == np.unravel_index(np.nanargmax(TRUTH), TRUTH.shape)
    ball = near_nose(here, 20.0)
    distance = np.linalg.norm(here.points - here.points[row, column], axis=-1)
    np.testing.assert_array_equal(ball, distance <= 20)
    here.landmarks["Nose"] = (40.0, 50.0)
    assert nose_tip(here) == (50, 40)
    cropped = common_pixels(here, {"it": Estimate(TRUTH)}, 20.0)
    assert 500 < cropped.sum() < common_pixels(here, {"it": Estimate(TRUTH)}).sum()


def scores_of(values: np.ndarray) -> list[dict[str, Score]]:
    """One pixel per scan, with these errors of one or more methods (scans x methods)."""
    return [
        {f"m{i}": Score(v, v, np.bincount([int(v / 0.02)]).tolist()) for i, v in enumerate(row)}
        for row in values
    ]


def test_table_averages_and_pools(rng):
    values = rng.uniform(1, 5, (40, 2))
    rows = score_table(scores_of(values), [str(i) for i in range(40)])
    for i, row in enumerate(rows):
        assert row.mean.value == pytest.approx(values[:, i].mean())
        assert row.pooled_mean == pytest.approx(values[:, i].mean())
        assert row.pooled_high == pytest.approx(np.quantile(values[:, i], 0.9), abs=0.15)
        assert row.mean.low < row.mean.value < row.mean.high
    assert rows[0].behind == (0, 0, 0)
    assert rows[1].behind.value == pytest.approx((values[:, 1] - values[:, 0]).mean())


def test_confidence_intervals_are_those_of_the_normal_theory(rng):
    values = rng.normal(5, 1, (400, 1))
    (row,) = score_table(scores_of(values), [str(i) for i in range(400)])
    half = norm.ppf(0.975) * values.std() / np.sqrt(400)
    assert row.mean.high - row.mean.value == pytest.approx(half, rel=0.1)
    assert row.mean.value - row.mean.low == pytest.approx(half, rel=0.1)
    again = score_table(scores_of(values), [str(i) for i in range(400)])
    other = score_table(scores_of(values), [str(i) for i in range(400)], ProtocolConfig(seed=1))
    assert again == [row] != other


def test_scans_of_one_person_are_no_independent_evidence(rng):
    people = rng.normal(5, 1, 40)
    values = np.repeat(people, 10)[:, None]
    (many,) = score_table(scores_of(values), [str(i // 10) for i in range(400)])
    (few,) = score_table(scores_of(people[:, None]), [str(i) for i in range(40)])
    assert many.mean.low == pytest.approx(few.mean.low, abs=1e-9)
    assert many.mean.high == pytest.approx(few.mean.high, abs=1e-9)


def test_an_empty_table_is_an_error():
    with pytest.raises(ProtocolError, match="no scan"):
        score_table([], [])
