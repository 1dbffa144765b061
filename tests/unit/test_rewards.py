"""Each reward against numbers worked out by hand."""

import numpy as np
import pytest

from pipeline.arms.signals import StepSignals
from pipeline.curricula.rl.rewards import build_reward

SETTINGS = {
    "confidence_gap": {},
    "knowledge_transfer": {},
    "random_reward": {},
    "multi_objective": {"weights": {"confidence_gap": 2.0, "knowledge_transfer": -1.0}},
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


def test_knowledge_transfer_is_the_fall_per_token_since_the_last_draw():
    reward = build_reward("knowledge_transfer", SETTINGS, 0)
    # arm 1: two examples of 2 and 6 tokens, so (2 * 1.0 + 6 * 2.0) / 8 = 1.75 per token
    assert reward(step(0, [1, 1, 2], [0.5] * 3, [0.5] * 3, [1.0, 2.0, 3.0], [2, 6, 1])) == {}
    assert reward(step(1, [1], [0.5], [0.5], [1.5], [4])) == pytest.approx({1: 0.25})
    assert reward(step(2, [2, 1], [0.5] * 2, [0.5] * 2, [3.5, 1.0], [4, 4])) == pytest.approx({2: -0.5, 1: 0.5})


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
    assert reward(step(0, [0], [0.8], [0.4], [1.0], [2])) == {0: 0.0}  # no spread yet, no fall yet
    second = reward(step(1, [0], [0.8], [0.2], [0.4], [2]))
    # gaps 0.4 and 0.6: the second is one deviation above their mean; the only fall has no spread
    assert second == pytest.approx({0: 2.0 * 1.0 - 1.0 * 0.0})
    third = reward(step(2, [0], [0.8], [0.3], [0.6], [2]))
    gaps, falls = [0.4, 0.6, 0.5], [0.6, -0.2]
    expected = 2.0 * (0.5 - np.mean(gaps)) / np.std(gaps) - 1.0 * (-0.2 - np.mean(falls)) / np.std(falls)
    assert third == pytest.approx({0: expected})


@pytest.mark.parametrize("only", ["state", "load_state"])
def test_a_reward_that_could_not_resume_is_refused_before_it_is_used(monkeypatch, only):
    from pipeline.curricula.rl.rewards import knowledge_transfer

    forgetful = type("Forgetful", (), {"__call__": lambda self, signals: {}, only: lambda self, *state: {}})
    monkeypatch.setattr(knowledge_transfer, "build", lambda *arguments: forgetful())
    with pytest.raises(TypeError, match="Forgetful defines only one of state and load_state"):
        build_reward("knowledge_transfer", SETTINGS, 0)
