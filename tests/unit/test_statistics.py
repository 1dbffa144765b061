from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.resampling import (
    draw_problems,
    iqm,
    least_resamples,
    probability_of_improvement,
    resampled_means,
    two_sided_p,
)
from pipeline.analysis.statistics import (
    OverSeeds,
    accuracy,
    accuracy_difference,
    add_variances,
    difference_over_seeds,
    holm,
    mean_over_seeds,
    seed_difference,
    seed_interval,
)
from pipeline.common.seeding import numpy_rng


def bernoulli(probability_P, seeds, rng):
    return (rng.random((seeds, np.shape(probability_P)[-1])) < probability_P).astype(float)


def variance(found):
    """Of the estimate, over seeds and problems together."""
    return found.over_seeds.error**2 + found.over_seeds.problem_error**2


def one_stratum(problems, resamples=500):
    return draw_problems(np.zeros(problems), resamples, numpy_rng(1, "test"))


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        # worked by hand: sorted 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 raised to the 0.06 before it
        ({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}),
        ({"a": 0.4, "b": 0.9}, {"a": 0.8, "b": 0.9}),
        ({"a": 0.6, "b": 0.7}, {"a": 1.0, "b": 1.0}),
        ({"only": 0.02}, {"only": 0.02}),
        ({}, {}),
    ],
)
def test_holm_matches_hand_worked_tables(raw, adjusted):
    assert holm(raw) == pytest.approx(adjusted)
    assert list(holm(raw)) == list(raw)


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm(np.array([[100.0, 1, 2, 3], [4, 5, 6, -100]])) == pytest.approx((2 + 3 + 4 + 5) / 4)


def test_resamples_keep_the_number_of_problems_in_each_stratum():
    level_P = np.repeat([1, 2, 3], [5, 1, 4])
    counts_RP = draw_problems(level_P, 200, numpy_rng(0, "test"))
    for level, size in ((1, 5), (2, 1), (3, 4)):
        assert (counts_RP[:, level_P == level].sum(axis=1) == size).all()
    assert len(np.unique(counts_RP, axis=0)) > 100


def test_the_same_seed_gives_the_same_resamples_and_another_gives_others():
    first, again, other = (draw_problems(np.zeros(9), 50, numpy_rng(seed, "test")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_resampled_means_equal_means_over_indices_drawn_one_by_one():
    value_P = numpy_rng(0, "test").random(20)
    counts_RP = one_stratum(20, 10)
    for counts_P, got in zip(counts_RP, resampled_means(value_P, counts_RP), strict=True):
        assert got == pytest.approx(np.repeat(value_P, counts_P.astype(int)).mean(), rel=1e-6)


def test_the_interval_of_a_mean_is_students():
    value_S = np.array([0.2, 0.3, 0.7])
    low, high = stats.t.interval(0.9, 2, value_S.mean(), stats.sem(value_S))
    got = mean_over_seeds(value_S).interval(0.9)
    assert (got.mean, got.low, got.high) == pytest.approx((0.4, low, high))
    assert mean_over_seeds(value_S).p() == pytest.approx(stats.ttest_1samp(value_S, 0).pvalue)


def test_the_test_of_a_difference_is_welchs():
    x_S, y_S = np.array([0.2, 0.3, 0.7, 0.1]), np.array([0.9, 0.8, 0.95, 0.85])
    welch = stats.ttest_ind(x_S, y_S, equal_var=False)
    got = difference_over_seeds(x_S, y_S)
    assert got.p() == pytest.approx(welch.pvalue)
    assert (got.interval(0.95).low, got.interval(0.95).high) == pytest.approx(tuple(welch.confidence_interval(0.95)))


def test_the_p_value_and_the_interval_say_the_same():
    for problem_error in (0.0, 0.05, 0.5):
        found = OverSeeds(0.3, 0.1, 3.7, problem_error)
        assert found.interval(1 - found.p()).low == pytest.approx(0, abs=1e-9)
    assert OverSeeds(0.3, 0.0, np.inf, 0.1).p() == pytest.approx(2 * stats.norm.sf(3))
    assert OverSeeds(9.0, 0.1, 100, 0.1).p() == pytest.approx(0, abs=1e-11)
    assert OverSeeds(0.0, 0.1, 3.7, 0.1).p() == 1


def test_variances_add_up_with_satterthwaites_degrees():
    error, degrees = add_variances([(0.04, 2), (0.05, 4), (0.0, np.inf)])
    assert error == pytest.approx(0.3)
    assert degrees == pytest.approx(0.09**2 / (0.04**2 / 2 + 0.05**2 / 4))
    error_G, degrees_G = add_variances([(np.array([0.0, 1.0]), 3), (np.array([0.0, 0.0]), 3)])
    np.testing.assert_allclose(error_G, [0, 1])
    np.testing.assert_allclose(degrees_G, [np.inf, 3])


def test_the_variance_of_an_accuracy_is_that_of_crossed_seeds_and_problems():
    """Against the analysis of variance of a table with effects of seeds, of problems and of single answers."""
    rng = numpy_rng(0, "test")
    seeds, problems, trials = 6, 80, 400
    counts_RP = one_stratum(problems, 400)
    found = []
    for _ in range(trials):
        value_SP = rng.normal(0, 1, (seeds, 1)) + rng.normal(0, 2, problems) + rng.normal(0, 3, (seeds, problems))
        found.append(variance(accuracy(value_SP, counts_RP)))
    true = 1 / seeds + 4 / problems + 9 / (seeds * problems)
    assert np.mean(found) == pytest.approx(true, rel=0.06)


def test_what_problems_add_is_their_mean_square_less_that_of_single_answers():
    """Against a two-way analysis of variance of one table, from its sums of squares."""
    rng = numpy_rng(0, "test")
    seeds, problems = 3, 200
    value_SP = rng.normal(0, 1, problems) + rng.normal(0, 3, (seeds, problems))
    mean_S, mean_P = value_SP.mean(axis=1), value_SP.mean(axis=0)
    total, between_seeds = value_SP.var() * value_SP.size, mean_S.var() * value_SP.size
    rest = (total - between_seeds - mean_P.var() * value_SP.size) / ((seeds - 1) * (problems - 1))
    expected = mean_S.var(ddof=1) / seeds + mean_P.var() / problems - rest / value_SP.size
    assert variance(accuracy(value_SP, one_stratum(problems, 20_000))) == pytest.approx(expected, rel=0.03)


def test_with_no_seed_effect_the_difference_is_about_as_sure_as_its_answers():
    rng = numpy_rng(0, "test")
    x_SP, y_SP = (rng.normal(0, 1, (10, 500)) for _ in range(2))
    found = variance(accuracy_difference(x_SP, y_SP, one_stratum(500)))
    assert np.sqrt(found) == pytest.approx(np.sqrt(2 / (10 * 500)), rel=0.35)


def test_the_wider_interval_counts_and_the_larger_p():
    rng = numpy_rng(0, "test")
    correct_SP = np.tile(bernoulli(np.full(100, 0.4), 1, rng), (3, 1))  # seeds are all alike: only problems vary
    found = accuracy(correct_SP, one_stratum(100))
    low, high = np.quantile(found.resampled_R, [0.025, 0.975])
    got = found.interval(0.95)
    assert got.low <= low + 1e-9
    assert got.high >= high - 1e-9
    spread_S1 = np.array([[0.0], [0.5], [1.0]])  # problems are all alike: only seeds vary
    found = accuracy(np.tile(spread_S1, (1, 100)), one_stratum(100))
    assert found.interval(0.95).low == pytest.approx(mean_over_seeds(spread_S1[:, 0]).interval(0.95).low)
    assert found.p() == pytest.approx(mean_over_seeds(spread_S1[:, 0]).p())


def test_one_seed_gives_the_ordinary_bootstrap_interval_over_problems():
    correct_SP = bernoulli(np.full(400, 0.3), 1, numpy_rng(0, "test"))
    got = accuracy(correct_SP, one_stratum(400, 4000)).interval(0.95)
    error = np.sqrt(got.mean * (1 - got.mean) / 400)
    assert got.low == pytest.approx(got.mean - 1.96 * error, abs=0.004)
    assert got.high == pytest.approx(got.mean + 1.96 * error, abs=0.004)


def test_identical_methods_differ_by_nothing():
    correct_SP = bernoulli(np.full(100, 0.4), 3, numpy_rng(0, "test"))
    found = accuracy_difference(correct_SP, correct_SP, one_stratum(100))
    assert found.p() == 1.0
    got = found.interval(0.95)
    assert got.mean == 0
    assert got.low < 0 < got.high  # their seeds vary: alike by chance
    nothing_SP = np.ones((3, 100))
    found = accuracy_difference(nothing_SP, nothing_SP, one_stratum(100))
    assert (found.p(), found.interval(0.95).low, found.interval(0.95).high) == (1.0, 0.0, 0.0)
    assert found.smallest_detectable(0.05) == 0.0


def test_a_dominated_method_is_told_apart():
    worse_SP = bernoulli(np.full(100, 0.2), 3, numpy_rng(0, "test"))
    better_SP = bernoulli(np.full(100, 0.9), 3, numpy_rng(2, "test"))
    found = accuracy_difference(better_SP, worse_SP, one_stratum(100))
    assert found.interval(0.95).low > 0.5
    assert found.p() < 0.01


def test_what_is_detectable_is_detected_in_eight_of_ten_repetitions():
    """Against the power of the t test, which is a probability of the noncentral t distribution."""
    for degrees in (4, 8, 18):
        found = OverSeeds(0.0, 0.02, degrees)
        shift, edge = found.smallest_detectable(0.05) / found.error, stats.t.ppf(0.975, degrees)
        assert stats.nct.sf(edge, degrees, shift) == pytest.approx(0.8, abs=0.03)
    assert found.smallest_detectable(0.05 / 4) > found.smallest_detectable(0.05)


@pytest.mark.parametrize("comparisons", [1, 5, 20])
def test_fewer_resamples_can_show_nothing(comparisons):
    least = least_resamples(comparisons, 0.05)
    smallest, above = (two_sided_p(np.ones(resamples)) for resamples in (least, least - 1))
    p_values = dict.fromkeys(range(comparisons), 1.0)
    assert holm(p_values | {0: smallest})[0] < 0.05 <= holm(p_values | {0: above})[0]


def test_p_value_counts_the_smaller_side_and_adds_one():
    assert two_sided_p(np.array([-1.0, 0, 1, 2, 3, 4, 5, 6, 7])) == pytest.approx(2 * (2 + 1) / 10)
    assert two_sided_p(np.array([1.0, 2, 3])) == two_sided_p(np.array([-1.0, -2, -3])) == pytest.approx(0.5)


def test_probability_of_improvement_is_mann_whitneys_u_over_nm():
    x_S, y_S = np.array([0.3, 0.5, 0.5, 0.9]), np.array([0.2, 0.5, 0.8])
    assert probability_of_improvement(x_S, y_S) == pytest.approx(stats.mannwhitneyu(x_S, y_S).statistic / 12)
    assert probability_of_improvement(x_S, y_S) + probability_of_improvement(y_S, x_S) == pytest.approx(1)


def test_one_seed_has_no_interval_over_seeds():
    got = seed_interval(np.array([0.3]), 0.95)
    assert (got.mean, got.low, got.high) == (0.3, None, None)
    got = seed_difference(np.array([0.5]), np.array([0.25]), 0.95)
    assert (got.mean, got.low, got.high) == (0.25, None, None)
