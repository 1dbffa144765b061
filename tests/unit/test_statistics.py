from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from pipeline.analysis.statistics import (
    draw_bootstrap,
    examples_to_reach,
    holm,
    improvement_interval,
    iqm,
    iqm_interval,
    mean_interval,
    normalised_area,
    probability_of_improvement,
    resampled_accuracies,
    resampled_seed_means,
    seed_interval,
    two_sided_p,
)
from pipeline.common.seeding import numpy_rng


def bernoulli(probability_P, seeds, rng):
    return (rng.random((seeds, np.shape(probability_P)[-1])) < probability_P).astype(float)


def differences_of(difference_SP, bootstrap):
    return resampled_seed_means(resampled_accuracies(difference_SP, bootstrap), bootstrap)


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


def test_resamples_keep_the_number_of_problems_in_each_stratum_and_draw_one_seed_fewer():
    level_P = np.repeat([1, 2, 3], [5, 1, 4])
    bootstrap = draw_bootstrap(3, level_P, 200, numpy_rng(0, "test"))
    assert (bootstrap.seed_counts_RS.sum(axis=1) == 2).all()  # one fewer than there are
    for level, size in ((1, 5), (2, 1), (3, 4)):
        assert (bootstrap.problem_counts_RP[:, level_P == level].sum(axis=1) == size).all()
    assert len(np.unique(bootstrap.problem_counts_RP, axis=0)) > 100


def test_the_same_seed_gives_the_same_resamples_and_another_gives_others():
    first, again, other = (draw_bootstrap(2, np.zeros(9), 50, numpy_rng(seed, "test")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.problem_counts_RP, again.problem_counts_RP)
    assert (first.problem_counts_RP != other.problem_counts_RP).any()


def test_resampled_means_equal_means_over_indices_drawn_one_by_one():
    rng = numpy_rng(0, "test")
    correct_SP = bernoulli(np.full(20, 0.5), 3, rng)
    bootstrap = draw_bootstrap(3, np.zeros(20), 10, rng)
    got_R = differences_of(correct_SP, bootstrap)
    for seeds_S, problems_P, got in zip(bootstrap.seed_counts_RS, bootstrap.problem_counts_RP, got_R, strict=True):
        chosen_S = np.repeat(np.arange(3), seeds_S.astype(int))
        chosen_P = np.repeat(np.arange(20), problems_P.astype(int))
        assert got == pytest.approx(correct_SP[np.ix_(chosen_S, chosen_P)].mean())


@pytest.mark.parametrize(
    ("seeds", "seed_sd", "lowest", "highest"), [(1, 0.0, 0.90, 0.985), (3, 0.1, 0.93, 1.0), (5, 0.15, 0.93, 1.0)]
)
def test_intervals_of_a_difference_cover_the_truth_as_often_as_they_promise(seeds, seed_sd, lowest, highest):
    rng = numpy_rng(0, "coverage", seeds)
    trials, problems = 200, 150
    covered = 0
    for _ in range(trials):
        difficulty_P = rng.normal(0, 1.2, problems)
        x_SP, y_SP = (bernoulli(expit(difficulty_P + rng.normal(0, seed_sd, (seeds, 1))), seeds, rng) for _ in range(2))
        interval = mean_interval(x_SP - y_SP, draw_bootstrap(seeds, np.zeros(problems), 300, rng), 0.95)
        covered += interval.low <= 0 <= interval.high
    assert lowest <= covered / trials <= highest


def test_one_seed_gives_the_ordinary_bootstrap_interval_over_problems():
    correct_SP = bernoulli(np.full(400, 0.3), 1, numpy_rng(0, "test"))
    got = mean_interval(correct_SP, draw_bootstrap(1, np.zeros(400), 4000, numpy_rng(1, "test")), 0.95)
    error = np.sqrt(got.mean * (1 - got.mean) / 400)
    assert got.low == pytest.approx(got.mean - 1.96 * error, abs=0.004)
    assert got.high == pytest.approx(got.mean + 1.96 * error, abs=0.004)


def test_a_chosen_group_of_problems_counts_alone():
    correct_SP = np.array([[1.0] * 6 + [0.0] * 6])
    bootstrap = draw_bootstrap(1, np.zeros(12), 100, numpy_rng(0, "test"))
    got = mean_interval(correct_SP, bootstrap, 0.9, np.arange(12) < 6)
    assert (got.mean, got.low, got.high) == (1.0, 1.0, 1.0)


def test_identical_methods_differ_by_nothing():
    correct_SP = bernoulli(np.full(100, 0.4), 3, numpy_rng(0, "test"))
    bootstrap = draw_bootstrap(3, np.zeros(100), 500, numpy_rng(1, "test"))
    assert two_sided_p(differences_of(correct_SP - correct_SP, bootstrap)) == 1.0
    interval = improvement_interval(correct_SP, correct_SP, bootstrap, 0.95)
    assert interval.mean == 0.5
    assert interval.low <= 0.5 <= interval.high


def test_a_dominated_method_is_always_improved_upon():
    worse_SP = bernoulli(np.full(100, 0.2), 3, numpy_rng(0, "test"))
    better_SP = np.ones_like(worse_SP)
    bootstrap = draw_bootstrap(3, np.zeros(100), 500, numpy_rng(1, "test"))
    assert improvement_interval(better_SP, worse_SP, bootstrap, 0.95).low == 1.0
    assert improvement_interval(worse_SP, better_SP, bootstrap, 0.95).high == 0.0
    assert two_sided_p(differences_of(better_SP - worse_SP, bootstrap)) == pytest.approx(2 / 501)


def test_p_value_counts_the_smaller_side_and_adds_one():
    assert two_sided_p(np.array([-1.0, 0, 1, 2, 3, 4, 5, 6, 7])) == pytest.approx(2 * (2 + 1) / 10)
    assert two_sided_p(np.array([1.0, 2, 3])) == two_sided_p(np.array([-1.0, -2, -3])) == pytest.approx(0.5)


def test_probability_of_improvement_is_mann_whitneys_u_over_nm():
    x_S, y_S = np.array([0.3, 0.5, 0.5, 0.9]), np.array([0.2, 0.5, 0.8])
    assert probability_of_improvement(x_S, y_S) == pytest.approx(stats.mannwhitneyu(x_S, y_S).statistic / 12)
    assert probability_of_improvement(x_S, y_S) + probability_of_improvement(y_S, x_S) == pytest.approx(1)


def test_iqm_interval_repeats_seeds_as_often_as_they_were_drawn():
    level_P = np.repeat([1, 2], 10)
    correct_SP = np.stack([np.zeros(20), np.ones(20)])  # no noise but the seed's: IQM is a function of the draw
    bootstrap = draw_bootstrap(2, level_P, 400, numpy_rng(0, "test"))
    interval = iqm_interval(correct_SP, level_P, bootstrap, 0.95)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)
    samples_R = [iqm(np.repeat([0.0, 1.0], 2 * counts_S.astype(int))) for counts_S in bootstrap.seed_counts_RS]
    assert iqm_interval(correct_SP, level_P, bootstrap, 0.2).low == pytest.approx(np.quantile(samples_R, 0.4))


def test_one_seed_has_no_interval_over_seeds():
    bootstrap = draw_bootstrap(1, np.zeros(5), 100, numpy_rng(0, "test"))
    got = seed_interval(np.array([0.3]), bootstrap, 0.95)
    assert (got.mean, got.low, got.high) == (0.3, None, None)


def test_area_is_the_mean_height_of_the_curve():
    assert normalised_area(np.array([0, 10, 40]), np.array([0.0, 0.4, 0.4])) == pytest.approx((2 + 12) / 40)


def test_examples_to_reach_is_the_first_validation_at_the_target_or_censored():
    examples_V, accuracy_V = np.array([0, 10, 20, 30]), np.array([0.1, 0.3, 0.2, 0.4])
    assert examples_to_reach(examples_V, accuracy_V, 0.3) == 10
    assert examples_to_reach(examples_V, accuracy_V, 0.35) == 30
    assert examples_to_reach(examples_V, accuracy_V, 0.5) is None


def test_the_spread_over_few_seeds_is_that_of_the_unbiased_variance():
    values_S = np.array([0.2, 0.3, 0.7])
    bootstrap = draw_bootstrap(3, np.zeros(2), 100_000, numpy_rng(0, "test"))
    found = resampled_seed_means(values_S, bootstrap).var()
    assert found == pytest.approx(values_S.var(ddof=1) / 3, rel=0.02)
