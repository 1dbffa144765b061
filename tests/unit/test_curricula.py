"""Each curriculum against its closed form."""

import json
import sys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from pipeline.common.errors import ParamsError
from pipeline.common.params import checked
from pipeline.curricula import adaptive, easy_to_hard, hard_to_easy, rl, traditional
from pipeline.curricula import random as random_curriculum
from pipeline.distillation.step import StepSignals
from pipeline.registry import find, names_in
from pipeline.train import curriculum_module
from pipeline.training.arms import ArmSet

LEVELS = ArmSet(tuple(f"level {n}" for n in range(1, 6)), (1, 2, 3, 4, 5), tuple(np.array([n]) for n in range(5)))
RL = {
    "arms": "level",
    "alpha": 0.25,
    "tau": 0.5,
    "epsilon": 0.1,
    "standardize": False,
    "reward": "confidence_gap",
    "rewards": {
        "confidence_gap": {},
        "knowledge_transfer": {},
        "random_reward": {},
        "multi_objective": {"weights": {"confidence_gap": 1.0, "knowledge_transfer": 2.0}},
    },
}


def signals(step, arms, gap, divergence=0.5):
    """A step whose teacher is certain and whose student is surer by `gap` less, for each example."""
    arms, gap = np.array(arms), np.broadcast_to(gap, len(arms)).astype(float)
    divergence = np.broadcast_to(divergence, len(arms)).astype(float)
    tokens = np.full(len(arms), 4)
    return StepSignals(step, arms, tokens, np.zeros(len(arms)), tokens * np.log(1 - gap), divergence)


def build_rl(seed=0, **changes):
    return rl.build(checked({**RL, **changes}, rl.Params, "params.yaml: curricula.rl"), LEVELS, seed)


def test_every_curriculum_has_the_registrys_form():
    for name in names_in("pipeline.curricula"):
        module = find("pipeline.curricula", name, "curriculum")
        assert callable(module.build)
        assert "arms" in module.Params.__dataclass_fields__


def test_unknown_curriculum_is_named_with_those_there_are():
    known = ", ".join(names_in("pipeline.curricula"))
    with pytest.raises(ParamsError, match=f"unknown curriculum 'no_such_curriculum'; pipeline/curricula has {known}"):
        find("pipeline.curricula", "no_such_curriculum", "curriculum")


def test_only_arms_in_the_batch_move_and_they_move_by_the_td_rule():
    curriculum = build_rl()
    curriculum.update(signals(0, [1, 1, 3], [0.2, 0.4, 0.8]))
    assert curriculum.q_values_A == pytest.approx([0, 0.25 * 0.3, 0, 0.25 * 0.8, 0])
    before = curriculum.q_values_A.copy()
    curriculum.update(signals(1, [1], 0.9))
    assert curriculum.q_values_A[1] == pytest.approx(before[1] + 0.25 * (0.9 - before[1]))
    assert curriculum.q_values_A[[0, 2, 3, 4]].tolist() == before[[0, 2, 3, 4]].tolist()


def test_probabilities_are_boltzmann_with_a_uniform_floor():
    curriculum = build_rl()
    curriculum.update(signals(0, [0, 4], [0.4, 0.8]))
    q = np.array([0.1, 0, 0, 0, 0.2])
    boltzmann = np.exp(q / 0.5) / np.exp(q / 0.5).sum()
    assert curriculum.probabilities(0.7) == pytest.approx(0.9 * boltzmann + 0.1 / 5)


def test_before_any_reward_all_arms_are_equally_likely():
    assert build_rl(tau=0.01).probabilities(0.0) == pytest.approx([0.2] * 5)


def test_a_bandit_finds_the_one_arm_that_pays():
    curriculum = build_rl(tau=0.05, epsilon=0.0)
    rng = np.random.default_rng(0)
    for step in range(300):
        arms = rng.choice(5, size=4, p=curriculum.probabilities(0))
        curriculum.update(signals(step, arms, np.where(arms == 2, 0.9, 0.1)))
    assert curriculum.probabilities(0)[2] > 0.95


def test_standardised_rewards_have_mean_zero_and_deviation_one_over_the_run():
    curriculum = build_rl(standardize=True)
    rng = np.random.default_rng(1)
    raw, seen = [], []
    for step in range(50):
        gap = rng.uniform(0.1, 0.6)
        raw.append(gap)
        seen.append(curriculum.update(signals(step, [step % 5], gap))[step % 5])
        assert seen[-1] == pytest.approx((raw[-1] - np.mean(raw)) / np.std(raw) if step else 0.0, abs=1e-9)


@pytest.mark.parametrize("reward", names_in("pipeline.rewards"))
def test_a_restored_rl_goes_on_exactly_as_the_first_would_have(reward):
    first = build_rl(seed=5, reward=reward, standardize=True)
    rng = np.random.default_rng(2)
    steps = [signals(i, rng.integers(5, size=6), rng.uniform(0, 0.9, 6), rng.uniform(0, 2, 6)) for i in range(40)]
    for s in steps[:17]:
        first.update(s)
    second = build_rl(seed=5, reward=reward, standardize=True)
    second.load_state(json.loads(json.dumps(first.state())))
    for s in steps[17:]:
        assert first.update(s) == second.update(s)
    assert first.q_values_A.tolist() == second.q_values_A.tolist()
    assert first.q_values_A.any()


def progression(module, width):
    params = checked({"arms": "level", "width": width}, module.Params, "x")
    return module.build(params, LEVELS, 0)


def test_easy_to_hard_moves_its_window_from_level_1_to_level_5():
    curriculum = progression(easy_to_hard, 1.0)
    assert curriculum.probabilities(0.0) == pytest.approx([1, 0, 0, 0, 0])
    assert curriculum.probabilities(0.125) == pytest.approx([0.5, 0.5, 0, 0, 0])
    assert curriculum.probabilities(0.5) == pytest.approx([0, 0, 1, 0, 0])
    means = [curriculum.probabilities(t) @ np.arange(1, 6) for t in np.linspace(0, 1, 21)]
    assert all(a < b for a, b in pairwise(means))


def test_hard_to_easy_is_the_reverse():
    up, down = progression(easy_to_hard, 2.0), progression(hard_to_easy, 2.0)
    for t in np.linspace(0, 1, 9):
        assert down.probabilities(t) == pytest.approx(up.probabilities(t)[::-1])


def test_a_window_narrower_than_a_level_takes_the_nearest():
    assert progression(easy_to_hard, 0.1).probabilities(0.1) == pytest.approx([1, 0, 0, 0, 0])


def test_random_is_uniform_over_arms_and_traditional_has_one():
    params = checked({"arms": "level"}, random_curriculum.Params, "x")
    assert random_curriculum.build(params, LEVELS, 0).probabilities(0.3) == pytest.approx([0.2] * 5)
    one = ArmSet(("all",), (None,), (np.arange(9),))
    assert traditional.build(traditional.Params("all"), one, 0).probabilities(0.9).tolist() == [1.0]


def test_only_rl_learns():
    learner = build_rl()
    assert adaptive(learner) is learner
    assert adaptive(progression(easy_to_hard, 1.0)) is None


def test_a_learner_that_could_not_resume_is_refused():
    class Forgetful:
        q_values_A = np.zeros(2)

        def probabilities(self, progress):
            return np.full(2, 0.5)

        def update(self, signals):
            return {}

    with pytest.raises(TypeError, match="Forgetful has update but lacks state, load_state"):
        adaptive(Forgetful())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tau": -1.0}, r"curricula.rl.tau: input should be greater than 0 \(it is -1.0\)"),
        ({"alpha": 1.5}, r"curricula.rl.alpha: input should be less than or equal to 1 \(it is 1.5\)"),
        ({"reward": "applause"}, "unknown reward 'applause'; pipeline/rewards has confidence_gap"),
        ({"rewards": {}}, "curricula.rl.rewards.confidence_gap is missing; add an entry"),
        ({"arms": "all"}, "curricula.rl.arms: input should be 'level', 'subject' or 'level_subject'"),
        ({"speed": 3}, "curricula.rl.speed: "),
        (
            {"reward": "multi_objective", "rewards": {"multi_objective": {"weights": {"multi_objective": 1.0}}}},
            "must not name multi_objective itself",
        ),
    ],
)
def test_wrong_settings_end_in_one_sentence(change, sentence):
    with pytest.raises(ParamsError, match=sentence):
        build_rl(**change)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("class Params: pass\n", "half.py lacks build; pkg/__init__.py says what it must define"),
        ("", "half.py lacks Params and build; pkg/__init__.py"),
    ],
)
def test_an_incomplete_file_in_a_registry_is_refused_by_name(tmp_path, monkeypatch, text, sentence):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").touch()
    (tmp_path / "pkg/half.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pkg", raising=False)
    monkeypatch.delitem(sys.modules, "pkg.half", raising=False)
    with pytest.raises(ParamsError, match=sentence):
        find("pkg", "half", "thing")


def test_a_curriculum_without_arms_is_refused(monkeypatch):
    @dataclass
    class Params:
        width: float

    monkeypatch.setattr(random_curriculum, "Params", Params)
    with pytest.raises(ParamsError, match=r"pipeline/curricula/random.py: Params lacks the field arms"):
        curriculum_module("random")
