"""Q-values, their errors and shrinkage against closed forms and simulation."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arms.signals import StepSignals
from pipeline.bandit.curriculum import SelfEvolvingCurriculum
from pipeline.bandit.policy import boltzmann, logistic
from pipeline.bandit.q_values import QValues
from pipeline.bandit.settings import BanditParams
from pipeline.bandit.shrinkage import between_groups, shrink

COUNTS = np.array([2, 1, 4])


def test_q_values_follow_the_letter_of_td_0():
    q = QValues(3, 0.25)
    q.update({0: 1.0, 2: -2.0}, COUNTS)
    q.update({0: 3.0}, COUNTS)
    assert q.values_A.tolist() == [0.25 + 0.25 * (3 - 0.25), 0.0, -0.5]


def test_means_are_free_of_the_start_at_zero():
    q = QValues(3, 0.25)
    for reward in (1.0, 3.0, 2.0):
        q.update({0: reward}, COUNTS)
    weights = np.array([0.75**2, 0.75, 1.0])
    assert q.means_A[0] == pytest.approx((weights * [1, 3, 2]).sum() / weights.sum())
    assert np.isnan(q.means_A[1:]).all()
    assert np.isinf(q.errors_A[1:]).all()


def test_errors_are_those_of_a_weighted_mean():
    """With rewards of known variance the error is sigma sqrt(sum w^2 / k) / sum w, and sigma is found from them."""
    rng = np.random.default_rng(0)
    alpha, counts = 0.1, np.array([1, 2, 4, 8] * 10)
    q = QValues(40, alpha)
    for _ in range(400):
        q.update(dict(enumerate(rng.normal(5, 3 / np.sqrt(counts)).tolist())), counts)
    assert np.sqrt(q.noise) == pytest.approx(3, rel=0.1)
    weights = alpha * (1 - alpha) ** np.arange(400)
    expected = np.sqrt(q.noise * (weights**2).sum() / counts) / weights.sum()
    assert q.errors_A == pytest.approx(expected)


def test_the_errors_hold_what_they_say():
    """Over many arms the deviations from the truth, in standard errors, have variance 1."""
    rng = np.random.default_rng(1)
    truth, counts = rng.normal(0, 1, 2000), np.full(2000, 2)
    q = QValues(2000, 0.3)
    for _ in range(25):
        q.update(dict(enumerate((truth + rng.normal(0, 2 / np.sqrt(2), 2000)).tolist())), counts)
    assert np.std((q.means_A - truth) / q.errors_A) == pytest.approx(1, abs=0.06)


def test_a_state_goes_on_exactly():
    rng = np.random.default_rng(0)
    whole, first, second = QValues(3, 0.2), QValues(3, 0.2), QValues(3, 0.2)
    steps = [{int(a): float(rng.normal()) for a in rng.choice(3, 2, replace=False)} for _ in range(9)]
    for step in steps:
        whole.update(step, COUNTS)
    for step in steps[:4]:
        first.update(step, COUNTS)
    second.load_state(first.state())
    for step in steps[4:]:
        second.update(step, COUNTS)
    assert second.state() == whole.state()


ONE_FACTOR = [(name,) for name in "abcd"]
TWO_FACTORS = [(subject, level) for subject in "abc" for level in "12345"]


def test_shrinkage_of_one_factor_is_the_posterior_mean_of_the_normal_model():
    mean, error = np.array([0.0, 1.0, 3.0, 8.0]), np.full(4, 0.5)
    between = mean.var(ddof=1) - 0.25
    shrunk = shrink(mean, error, ONE_FACTOR)
    assert shrunk.mean_A == pytest.approx(3 + (mean - 3) * between / (between + 0.25))
    assert shrunk.deviation_A == pytest.approx(np.sqrt(0.25 / 4 + between * 0.25 / (between + 0.25)))


def test_means_that_part_by_no_more_than_noise_become_one():
    shrunk = shrink(np.array([0.1, -0.2, 0.0, 0.1]), np.full(4, 0.5), ONE_FACTOR)
    assert shrunk.mean_A == pytest.approx(np.zeros(4))


@pytest.mark.parametrize("rare", [1, 5], ids=["errors alike", "a third of the arms hardly known"])
def test_pure_noise_is_rarely_told_apart(rare):
    """In each of three stages 1% of draws may be; without the test of chance four in five draws are."""
    rng = np.random.default_rng(0)
    error = np.where(np.arange(15) % 3 == 0, rare, 1.0)
    alike = [np.ptp(shrink(rng.normal(0, error), error, TWO_FACTORS).mean_A) == 0 for _ in range(1000)]
    assert np.mean(alike) > 0.955


def test_what_lies_beyond_chance_is_estimated_without_bias():
    """Over many draws of effects with deviation 2 and unequal errors the variance between them is 4."""
    rng = np.random.default_rng(0)
    error = np.linspace(0.2, 1.5, 20)
    found = [between_groups(rng.normal(0, np.hypot(2, error)), error**2, 19) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(4, rel=0.05)


def test_exact_means_stay_as_they_are():
    mean = np.arange(15) ** 1.5
    assert shrink(mean, np.full(15, 1e-9), TWO_FACTORS).mean_A == pytest.approx(mean)


def test_an_arm_that_was_never_met_is_like_those_it_shares_factors_with():
    mean = np.array([float(ord(s)) for s, _ in TWO_FACTORS])
    mean[3], error = np.nan, np.full(15, 1e-6)
    error[3] = np.inf
    assert shrink(mean, error, TWO_FACTORS).mean_A[3] == pytest.approx(ord("a"))


def deviations_of(measured_KA):
    """What leaving out each measurement changes of their mean, see MeasuredInParts."""
    parts = len(measured_KA)
    without_KA = (measured_KA.sum(axis=0) - measured_KA) / (parts - 1)
    return np.sqrt((parts - 1) / parts) * (without_KA - without_KA.mean(axis=0))


def shrunk(measured_KA, *, with_deviations=True):
    """The mean of several measurements of well measured arms."""
    deviations_KA = deviations_of(measured_KA) if with_deviations else None
    return shrink(measured_KA.mean(axis=0), np.full(15, 0.05), TWO_FACTORS, deviations_KA)


@pytest.mark.parametrize("parts", [2, 6])
def test_what_parts_differ_by_is_noise_however_well_each_arm_is_measured(parts):
    """Without the parts, every draw of noise that more examples do not reduce would pass for a difference."""
    rng = np.random.default_rng(0)
    draws = [rng.normal(0, 1, (parts, 15)) for _ in range(600)]
    alone = [np.ptp(shrunk(measured_KA, with_deviations=False).mean_A) == 0 for measured_KA in draws]
    assert np.mean(alone) < 0.01
    assert np.mean([np.ptp(shrunk(measured_KA).mean_A) == 0 for measured_KA in draws]) > 0.945


@pytest.mark.parametrize("parts", [2, 6])
def test_noise_of_a_factor_is_not_taken_for_arms(parts):
    """Errors that all arms of a subject share leave no more draws uneven than those of single arms."""
    rng = np.random.default_rng(0)
    draws = [rng.normal(0, 0.2, (parts, 15)) + np.repeat(rng.normal(0, 1, (parts, 3)), 5, axis=1) for _ in range(600)]
    assert np.mean([np.ptp(shrunk(measured_KA).mean_A) > 0 for measured_KA in draws]) < 0.055


def test_a_difference_is_seen_more_often_where_its_noise_is_better_known():
    """Subjects four standard errors of their mean apart: two measurements hardly ever show it, six in most draws."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0.0, 4.0, 8.0], 5)

    def seen(parts):
        noise = np.sqrt(parts) * rng.normal(0, 1, (400, parts, 3))
        return np.mean([np.ptp(shrunk(truth + np.repeat(noise_KG, 5, axis=1)).mean_A) > 0 for noise_KG in noise])

    assert seen(2) < 0.2
    assert seen(6) > 0.5


class Parts:
    """Rewards that are the mean of fixed measurements of each arm, and a little noise of their own."""

    def __init__(self, measured_KA):
        self.measured_KA, self.rng = measured_KA, np.random.default_rng(0)

    def __call__(self, signals):
        reward_A = self.measured_KA.mean(axis=0) + self.rng.normal(0, 0.01, self.measured_KA.shape[1])
        return dict(enumerate(reward_A.tolist()))

    def part_deviations(self, signals):
        return [dict(enumerate(deviations.tolist())) for deviations in deviations_of(self.measured_KA)]


@pytest.mark.parametrize("parts", [2, 6])
@pytest.mark.parametrize("scale", ["none", "history"])
def test_a_curriculum_draws_by_what_the_parts_agree_on_alone(scale, parts):
    """Measurements that have nothing in common are all noise; those that are equal have none."""
    params = BanditParams(
        arms="level_subject",
        alpha=0.05,
        policy="boltzmann",
        tau=0.5,
        epsilon=0,
        warmup=0,
        shrink=True,
        scale=scale,
        draws="systematic",
        reward="",
        rewards={},
    )
    rng = np.random.default_rng(0)
    truth, noise = np.repeat([0.0, 0.5, 1.0], 5), rng.normal(0, 0.5, (parts, 15))
    signals = StepSignals(0, np.arange(15), *([np.ones(15)] * 4))
    drawn = []
    for measured_KA in (np.tile(truth, (parts, 1)), noise):
        curriculum = SelfEvolvingCurriculum(params, TWO_FACTORS, Parts(measured_KA))
        for _ in range(20):
            curriculum.update(signals)
        drawn.append(curriculum.probabilities(0.5))
    assert np.ptp(drawn[0]) > 0.05
    assert np.ptp(drawn[1]) == 0


def test_what_all_parts_agree_on_is_kept():
    rng = np.random.default_rng(0)
    truth = np.repeat([0.0, 10.0, 20.0], 5)
    found = shrunk(truth + rng.normal(0, 0.2, (2, 15)))
    assert found.mean_A - found.mean_A.mean() == pytest.approx(truth - 10, abs=0.5)


def test_nothing_known_is_nothing_told():
    shrunk = shrink(np.full(4, np.nan), np.full(4, np.inf), ONE_FACTOR)
    assert shrunk.mean_A.tolist() == [0] * 4
    assert np.isinf(shrunk.deviation_A).all()


def test_shrinking_by_factors_beats_raw_means_where_factors_rule():
    """Mean squared error over draws of subjects, levels and noise: pooling must be far better than no pooling."""
    rng = np.random.default_rng(0)
    raw, pooled = [], []
    for _ in range(200):
        truth = np.repeat(rng.normal(0, 1, 3), 5) + np.tile(rng.normal(0, 0.3, 5), 3)
        mean = truth + rng.normal(0, 1, 15)
        raw.append(((mean - mean.mean() - truth + truth.mean()) ** 2).mean())
        found = shrink(mean, np.full(15, 1.0), TWO_FACTORS).mean_A
        pooled.append(((found - found.mean() - truth + truth.mean()) ** 2).mean())
    assert np.mean(pooled) < 0.5 * np.mean(raw)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(0.1, 10), st.floats(0, 1))
def test_boltzmann_is_a_distribution_with_a_floor(values, tau, epsilon):
    share_A = boltzmann(np.array(values), tau, epsilon)
    assert share_A.sum() == pytest.approx(1)
    assert share_A.min() >= epsilon / len(values) * (1 - 1e-12)
    assert np.argmax(values) == np.argmax(share_A) or share_A.max() == pytest.approx(share_A[np.argmax(values)])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(0.1, 10), st.floats(0, 1))
def test_logistic_shares_are_in_proportion_to_the_logistic_function(values, tau, epsilon):
    share_A = logistic(np.array(values), tau, epsilon)
    weight_A = np.array([1 / (1 + Decimal(-value / tau).exp()) for value in values])
    expected_A = [float(weight / weight_A.sum()) for weight in weight_A]
    assert share_A == pytest.approx((1 - epsilon) * np.array(expected_A) + epsilon / len(values), rel=1e-9)


def test_logistic_draws_what_is_far_above_zero_alike_and_what_is_far_below_as_boltzmann_does():
    assert logistic(np.array([3.0, 9.0]), 0.1, 0.0) == pytest.approx([0.5, 0.5])
    far = np.array([-700.0, -702.0])
    assert logistic(far, 0.5, 0.1) == pytest.approx(boltzmann(far, 0.5, 0.1))
