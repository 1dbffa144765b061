"""Each reward against numbers worked out by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.arms.protocols import ProbeUse
from pipeline.arms.signals import StepSignals
from pipeline.bandit.rewards import build_reward
from pipeline.common.errors import ParamsError

SETTINGS = {
    "confidence_gap": {},
    "knowledge_transfer": {"window": 4},
    "learnability": {},
    "excess_over_reference": {},
    "target_gain": {"problems": 5, "every": 2, "memory": 0.5},
    "target_similarity": {"problems": 5, "first": 2, "every": 8},
    "random_reward": {},
    "multi_objective": {"weights": {"confidence_gap": 2.0, "learnability": -1.0}},
}


def step(number, arms, teacher, student, divergence, tokens):
    return StepSignals(
        number,
        np.array(arms),
        np.array(tokens),
        np.log(teacher) * tokens,
        np.log(student) * tokens,
        np.array(divergence, dtype=float),
    )


def test_confidence_gap_is_the_mean_lead_of_the_teacher_never_below_zero():
    reward = build_reward("confidence_gap", SETTINGS, 0)
    seen = reward(step(0, [4, 4, 9], [0.9, 0.5, 0.3], [0.5, 0.7, 0.1], [0, 0, 0], [3, 10, 7]))
    assert seen == pytest.approx({4: (0.4 + 0.0) / 2, 9: 0.2})


def test_knowledge_transfer_is_the_shrunken_slope_of_the_divergence():
    reward = build_reward("knowledge_transfer", SETTINGS, 0)
    # arm 1: two examples of 2 and 6 tokens, so (2 * 1.0 + 6 * 2.0) / 8 = 1.75 per token
    assert reward(step(0, [1, 1, 2], [0.5] * 3, [0.5] * 3, [1.0, 2.0, 3.0], [2, 6, 1])) == {}
    assert reward(step(2, [1], [0.5], [0.5], [1.5], [4])) == {}
    seen = reward(step(3, [1], [0.5], [0.5], [1.0], [4]))
    line = sm_line([0, 2, 3], [1.75, 1.5, 1.0], [8, 4, 4])
    assert seen == pytest.approx({1: -line.slope * max(0, 1 - line.error**2 / line.slope**2)})


def test_the_window_forgets_what_lies_behind_it():
    reward = build_reward("knowledge_transfer", SETTINGS, 0)
    for number, divergence in enumerate([9.0, 4.0, 3.0, 2.0, 1.0]):
        seen = reward(step(number, [1], [0.5], [0.5], [divergence], [4]))
    assert seen == pytest.approx({1: 1.0})  # the last four visits lie on a line, whose error is zero


def test_a_slope_that_is_no_larger_than_its_error_earns_nothing():
    reward = build_reward("knowledge_transfer", SETTINGS, 0)
    for number, divergence in enumerate([1.0, 2.0, 1.0, 2.0]):
        seen = reward(step(number, [1], [0.5], [0.5], [divergence], [4]))
    assert seen == {1: 0.0}


@dataclass
class Line:
    slope: float
    error: float


def sm_line(x, y, weight):
    """Weighted least squares from its normal equations."""
    design = np.stack([np.ones(len(x)), x], axis=1)
    inverse = np.linalg.inv(design.T @ np.diag(weight) @ design)
    fit = inverse @ design.T @ np.diag(weight) @ y
    residual = y - design @ fit
    noise = residual @ np.diag(weight) @ residual / (len(x) - 2)
    return Line(fit[1], np.sqrt(noise * inverse[1, 1]))


def test_learnability_is_p_times_1_minus_p():
    seen = build_reward("learnability", SETTINGS, 0)(step(0, [4, 4, 9], [1] * 3, [0.5, 0.9, 0.2], [0] * 3, [3, 10, 7]))
    assert seen == pytest.approx({4: (0.25 + 0.09) / 2, 9: 0.16})


def test_excess_is_the_students_cross_entropy_above_the_teachers_per_token():
    seen = build_reward("excess_over_reference", SETTINGS, 0)(
        step(0, [4, 4, 9], [0.8, 0.2, 0.3], [0.4, 0.5, 0.3], [0] * 3, [3, 5, 7])
    )
    assert seen == pytest.approx({4: 3 * np.log(2) / 8, 9: 0.0})


def test_target_gain_is_the_mean_gain_and_says_how_it_looks():
    reward = build_reward("target_gain", SETTINGS, 0)
    assert reward.probe == ProbeUse("gradient", 5, 2, 0.5)
    s = step(0, [4, 4, 9], [0.5] * 3, [0.5] * 3, [0] * 3, [3, 5, 7])
    assert reward(replace(s, target_gain_B=np.array([1.0, -3.0, 0.5]))) == pytest.approx({4: -1.0, 9: 0.5})
    assert reward(replace(s, target_gain_B=np.full(3, np.nan))) == {}


def test_target_similarity_is_the_mean_log_ratio_of_target_to_pool():
    reward = build_reward("target_similarity", SETTINGS, 0)
    assert reward.probe == ProbeUse("similarity", 5, 8, first=2)
    s = step(0, [4, 4, 9], [0.5] * 3, [0.5] * 3, [0] * 3, [3, 5, 7])
    scores = np.array([[1.0, -3.0, 0.0], [2.0, -3.0, 0.0]])
    seen = reward(replace(s, target_similarity_KB=scores))
    assert seen == pytest.approx({4: (1.5 - 3) / 2, 9: 0})
    assert reward(replace(s, target_similarity_KB=np.full((2, 3), np.nan))) == {}


@pytest.mark.parametrize("parts", [2, 6])
def test_the_part_deviations_of_target_similarity_are_the_noise_of_its_look(parts):
    """Scores by each part are truth plus its noise by arm: their mean has a K-th of the noise's variance."""
    rng = np.random.default_rng(0)
    reward = build_reward("target_similarity", SETTINGS, 0)
    noise_KA = rng.normal(0, 0.02, (parts, 400))
    arms = np.repeat(np.arange(400), 3)
    truth = rng.normal(0, 0.3, 400)
    s = step(0, arms, [0.5] * 1200, [0.5] * 1200, [0] * 1200, [3] * 1200)
    s = replace(s, target_similarity_KB=truth[arms] + noise_KA[:, arms])
    found_KA = np.array([list(deviations.values()) for deviations in reward.part_deviations(s)])
    errors = np.array(list(reward(s).values())) - truth
    expected = 0.02**2 / parts
    assert (found_KA**2).sum(axis=0).mean() == pytest.approx(expected, rel=0.15)
    assert np.mean(errors**2) == pytest.approx(expected, rel=0.2)
    assert reward.part_deviations(replace(s, target_similarity_KB=np.full((parts, 1200), np.nan))) == []


def test_part_deviations_are_what_leaving_out_a_part_changes():
    scores_KB = np.array([[0.5, -2.0], [1.5, -1.0], [4.0, 0.0]])
    s = replace(step(0, [0, 1], [0.5] * 2, [0.5] * 2, [0] * 2, [3] * 2), target_similarity_KB=scores_KB)
    reward = build_reward("target_similarity", SETTINGS, 0)
    without = [reward(replace(s, target_similarity_KB=np.delete(scores_KB, k, axis=0))) for k in range(3)]
    mean = {arm: np.mean([each[arm] for each in without]) for arm in (0, 1)}
    for each, deviations in zip(without, reward.part_deviations(s), strict=True):
        assert deviations == pytest.approx({arm: np.sqrt(2 / 3) * (each[arm] - mean[arm]) for arm in (0, 1)})


def test_the_part_deviations_of_multi_objective_are_those_of_its_parts_in_its_own_unit():
    settings = SETTINGS | {"multi_objective": {"weights": {"target_similarity": 2.0, "learnability": -1.0}}}
    rng = np.random.default_rng(0)
    s = step(0, [0, 1, 2], [0.8] * 3, [0.1, 0.4, 0.3], [1.0] * 3, [2] * 3)
    parts_KB = rng.normal(0, 1, (4, 3))
    reward, similarity = build_reward("multi_objective", settings, 0), build_reward("target_similarity", settings, 0)
    whole = replace(s, target_similarity_KB=parts_KB)
    reward(whole)
    deviation = np.std(list(similarity(whole).values()))
    expected = [
        pytest.approx({arm: 2.0 * value / deviation for arm, value in deviations.items()})
        for deviations in similarity.part_deviations(whole)
    ]
    assert len(expected) == 4
    assert reward.part_deviations(whole) == expected


def test_random_reward_depends_on_seed_step_and_arm_alone():
    s = step(3, [0, 1], [0.5] * 2, [0.5] * 2, [1, 1], [2, 2])
    other = step(3, [1, 0], [0.9] * 2, [0.1] * 2, [7, 7], [5, 5])
    assert build_reward("random_reward", SETTINGS, 1)(s) == build_reward("random_reward", SETTINGS, 1)(other)
    assert build_reward("random_reward", SETTINGS, 1)(s) != build_reward("random_reward", SETTINGS, 2)(s)


def test_random_reward_is_standard_normal():
    reward = build_reward("random_reward", SETTINGS, 0)
    values = [v for i in range(400) for v in reward(step(i, range(5), [0.5] * 5, [0.5] * 5, [1] * 5, [2] * 5)).values()]
    assert abs(np.mean(values)) < 5 / np.sqrt(2000)
    assert abs(np.std(values) - 1) < 5 / np.sqrt(4000)


def test_multi_objective_sums_weighted_standardised_parts():
    reward = build_reward("multi_objective", SETTINGS, 0)
    assert reward(step(0, [0], [0.8], [0.4], [1.0], [2])) == {0: 0.0}  # no spread yet
    students = [0.4, 0.2, 0.3]
    for number, student in enumerate(students[1:], start=1):
        seen = reward(step(number, [0], [0.8], [student], [1.0], [2]))
        gaps = 0.8 - np.array(students[: number + 1])
        learnable = np.array([p * (1 - p) for p in students[: number + 1]])
        expected = 2.0 * (gaps[-1] - gaps.mean()) / gaps.std() - (learnable[-1] - learnable.mean()) / learnable.std()
        assert seen == pytest.approx({0: expected})


def test_multi_objective_looks_as_its_part_does():
    weights = {"confidence_gap": 1.0, "target_gain": 1.0}
    reward = build_reward("multi_objective", SETTINGS | {"multi_objective": {"weights": weights}}, 0)
    assert reward.probe == ProbeUse("gradient", 5, 2, 0.5)


def test_multi_objective_refuses_two_ways_to_look():
    weights = {"target_similarity": 1.0, "target_gain": 1.0}
    with pytest.raises(
        ParamsError, match="look at the probe differently, target_similarity and target_gain; a run has"
    ):
        build_reward("multi_objective", SETTINGS | {"multi_objective": {"weights": weights}}, 0)


@pytest.mark.parametrize("only", ["state", "load_state"])
def test_a_reward_that_could_not_resume_is_refused_before_it_is_used(monkeypatch, only):
    from pipeline.bandit.rewards import knowledge_transfer

    forgetful = type("Forgetful", (), {"__call__": lambda self, signals: {}, only: lambda self, *state: {}})
    monkeypatch.setattr(knowledge_transfer, "build", lambda *arguments: forgetful())
    with pytest.raises(TypeError, match="Forgetful defines only one of state and load_state"):
        build_reward("knowledge_transfer", SETTINGS, 0)
