"""Each curriculum against its closed form, and what their registry accepts."""

import json
import sys
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import yaml

from pipeline.arms.grouping import ArmSet
from pipeline.arms.protocols import adaptive, is_systematic, load_state_of, state_of
from pipeline.arms.signals import StepSignals
from pipeline.bandit.policy import POLICIES, PolicyName
from pipeline.bandit.rewards import build_reward
from pipeline.common.errors import ParamsError, ResultsError
from pipeline.common.params import checked, settings
from pipeline.curricula import build_curriculum, easy_to_hard, hard_to_easy, params_class, rl, rl_permuted, traditional
from pipeline.curricula import random as random_curriculum
from pipeline.registry import find, names_in
from pipeline.replay.schedule import log_of
from pipeline.results.files import write_csv
from pipeline.results.rows import ArmStep
from tests.conftest import ROOT

CURRICULA, REWARDS = names_in("pipeline.curricula"), names_in("pipeline.bandit.rewards")
SECTIONS = yaml.safe_load((ROOT / "params.yaml").read_text())["curricula"]
LEVELS = ArmSet(
    tuple(f"level {n}" for n in range(1, 6)),
    (1, 2, 3, 4, 5),
    tuple(np.array([n]) for n in range(5)),
    tuple((str(n),) for n in range(1, 6)),
    (0, 3, 0, 2, 0),
)
RL = {
    "arms": "level",
    "alpha": 0.25,
    "policy": "boltzmann",
    "tau": 0.5,
    "epsilon": 0.1,
    "warmup": 0.0,
    "shrink": False,
    "scale": "none",
    "draws": "independent",
    "reward": "confidence_gap",
    "rewards": {name: {} for name in REWARDS} | SECTIONS["rl"]["rewards"],
}


def signals(step, arms, gap, divergence=0.5):
    """A step whose teacher is certain and whose student is surer by `gap` less, for each example."""
    arms, gap = np.array(arms), np.broadcast_to(gap, len(arms)).astype(float)
    divergence = np.broadcast_to(divergence, len(arms)).astype(float)
    tokens = np.full(len(arms), 4)
    promises = {"target_gain_B": gap - divergence, "target_similarity_KB": np.stack([gap, divergence])}
    return StepSignals(step, arms, tokens, np.zeros(len(arms)), tokens * np.log(1 - gap), divergence, **promises)


@pytest.fixture(autouse=True)
def finished_run(tmp_path, monkeypatch):
    """The run of rl that others replay: 40 steps, in which arm n is drawn in proportion to step + n."""
    monkeypatch.chdir(tmp_path)
    share_SA = np.arange(40)[:, None] + np.arange(1, 6)
    share_SA = share_SA / share_SA.sum(axis=1, keepdims=True)
    rows = [
        ArmStep(step, name, share, None, None, None, 0)
        for step, share_A in enumerate(share_SA)
        for name, share in zip(LEVELS.names, share_A.tolist(), strict=True)
    ]
    for seed in (0, 5):
        write_csv(log_of("rl", seed), ArmStep, rows)
    return share_SA


def build_rl(seed=0, **changes):
    return rl.build(checked({**RL, **changes}, rl.Params, "params.yaml: curricula.rl"), LEVELS, seed)


@pytest.mark.parametrize("name", CURRICULA)
def test_every_curriculum_gives_a_distribution_over_its_arms_all_through_a_run(name):
    kind = params_class(name)
    curriculum = build_curriculum(name, checked(SECTIONS[name], kind, name), LEVELS, 0)
    for progress in np.linspace(0, 0.99, 12):
        share_A = curriculum.probabilities(progress)
        assert share_A.shape == (5,)
        assert (share_A >= 0).all()
        assert share_A.sum() == pytest.approx(1)


def test_unknown_curriculum_is_named_with_those_there_are():
    known = ", ".join(CURRICULA)
    with pytest.raises(ParamsError, match=f"unknown curriculum 'no_such_curriculum'; pipeline/curricula has {known}"):
        params_class("no_such_curriculum")


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


def test_a_logistic_policy_draws_arms_above_zero_alike():
    curriculum = build_rl(policy="logistic", tau=0.05, reward="target_gain", epsilon=0.1)
    curriculum.update(signals(0, [0, 1, 4], [0.9, 0.95, 0.1]))  # gains of 0.4, 0.45 and -0.4
    q = curriculum.q_values_A
    assert q == pytest.approx([0.1, 0.1125, 0, 0, -0.1])
    weight = 1 / (1 + np.exp(-q / 0.05))
    assert curriculum.probabilities(0.7) == pytest.approx(0.9 * weight / weight.sum() + 0.1 / 5)


@pytest.mark.parametrize("reward", ["confidence_gap", "excess_over_reference", "learnability"])
def test_a_logistic_policy_is_refused_for_a_reward_that_is_never_below_zero(reward):
    with pytest.raises(ParamsError, match=f"logistic, .* and {reward} is never below zero; set its policy to boltzma"):
        build_rl(policy="logistic", reward=reward)
    assert build_rl(policy="logistic", reward=reward, scale="arms")  # zero is the mean there


def test_every_policy_that_params_may_name_is_there():
    assert set(POLICIES) == set(get_args(PolicyName))


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
    curriculum = build_rl(scale="history")
    rng = np.random.default_rng(1)
    raw, seen = [], []
    for step in range(50):
        gap = rng.uniform(0.1, 0.6)
        raw.append(gap)
        seen.append(curriculum.update(signals(step, [step % 5], gap))[step % 5])
        assert seen[-1] == pytest.approx((raw[-1] - np.mean(raw)) / np.std(raw) if step else 0.0, abs=1e-9)


def random_steps(count):
    """Steps with signals of all sorts, the same at every call."""
    rng = np.random.default_rng(2)
    for i in range(count):
        yield signals(i, rng.integers(5, size=6), rng.uniform(0, 0.9, 6), rng.uniform(0, 2, 6))


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


@pytest.mark.parametrize("name", REWARDS)
def test_a_restored_reward_goes_on_exactly_as_the_first_would_have(name):
    first, second = (build_reward(name, RL["rewards"], 5) for _ in range(2))
    steps = list(random_steps(40))
    given = [first(s) for s in steps[:17]]
    load_state_of(second, through_json(state_of(first)))
    for s in steps[17:]:
        given.append(first(s))
        assert second(s) == given[-1]
    assert any(given)


@pytest.mark.parametrize("reward", REWARDS)
def test_a_restored_rl_goes_on_exactly_as_the_first_would_have(reward):
    first, second = (build_rl(seed=5, reward=reward, scale="history") for _ in range(2))
    steps = list(random_steps(40))
    given = [first.update(s) for s in steps[:17]]
    second.load_state(through_json(first.state()))
    for s in steps[17:]:
        given.append(first.update(s))
        assert second.update(s) == given[-1]
    assert first.q_values_A.tolist() == second.q_values_A.tolist()
    assert any(given)


@pytest.mark.parametrize("name", CURRICULA)
def test_every_curriculum_that_learns_goes_on_from_its_state(name):
    params = checked(SECTIONS[name], params_class(name), name)
    first, second = (adaptive(build_curriculum(name, params, LEVELS, 5)) for _ in range(2))
    if first is None:
        return
    steps = list(random_steps(40))
    for s in steps[:17]:
        first.update(s)
    second.load_state(through_json(first.state()))
    for s in steps[17:]:
        assert first.probabilities(0.5).tolist() == second.probabilities(0.5).tolist()
        assert first.update(s) == second.update(s)


def build(name, seed=0, **changes):
    return build_curriculum(name, checked(SECTIONS[name] | changes, params_class(name), name), LEVELS, seed)


def test_the_oracle_draws_the_arms_of_the_target_alone():
    assert build("target_only").probabilities(0.3).tolist() == [0, 0.5, 0, 0.5, 0]


def test_a_permuted_replay_exchanges_every_arm_and_keeps_the_time(finished_run):
    replayed = build("rl_permuted")
    order = [int(np.flatnonzero(finished_run[0] == p)[0]) for p in finished_run[0, rl_permuted.exchanged(5, 0)]]
    assert sorted(order) == list(range(5))
    assert all(here != there for here, there in enumerate(order))
    for step in range(40):
        assert replayed.probabilities(step / 40) == pytest.approx(finished_run[step, order], rel=1e-5)


@pytest.mark.parametrize("arms", [2, 3, 5, 35])
@pytest.mark.parametrize("seed", range(3))
def test_no_arm_keeps_its_place(arms, seed):
    exchanged = rl_permuted.exchanged(arms, seed)
    assert sorted(exchanged) == list(range(arms))
    assert (exchanged != np.arange(arms)).all()


def test_a_static_mixture_is_that_of_the_finished_run_from_the_start(finished_run):
    mean, final = build("static_mixture"), build("static_mixture", mixture="final")
    for progress in (0.0, 0.5, 0.99):
        assert mean.probabilities(progress) == pytest.approx(finished_run.mean(axis=0), rel=1e-5)
        assert final.probabilities(progress) == pytest.approx(finished_run[-1], rel=1e-5)


@pytest.mark.parametrize("steps", [39, 40, 41, 80])
def test_a_replay_may_be_of_another_length(finished_run, steps):
    replayed = build("rl_permuted")
    assert all(replayed.probabilities(step / steps).sum() == pytest.approx(1) for step in range(steps))


def test_a_replay_of_other_arms_is_refused():
    others = ArmSet(("a", "b"), (1, 2), (np.array([0]), np.array([1])))
    params = checked(SECTIONS["rl_permuted"], params_class("rl_permuted"), "x")
    with pytest.raises(ResultsError, match="is of other arms than the run that replays it; give both methods the same"):
        build_curriculum("rl_permuted", params, others, 0)


def test_a_replay_needs_its_run():
    with pytest.raises(ResultsError, match=r"rl-3/arm_log\.csv is missing; run `dvc repro` to make it"):
        build("static_mixture", seed=3)


@pytest.mark.parametrize("name", CURRICULA)
def test_arms_get_their_share_of_every_batch_unless_a_curriculum_says_otherwise(name):
    assert is_systematic(build(name)) == (name not in ("random", "sec"))
    if "draws" in SECTIONS[name]:
        assert not is_systematic(build(name, draws="independent"))


def test_sec_is_the_published_rule():
    """Q <- Q + alpha (r - Q) from 0, and softmax(Q / tau) without floor or warm-up; r is p (1 - p), and p 1 - gap."""
    curriculum = build("sec", alpha=0.5, tau=0.1)
    q_A = np.zeros(5)
    for arms, gap in (([0, 1], [0.5, 0.9]), ([1, 2], [0.2, 0.0]), ([0, 0], [0.7, 0.5])):
        curriculum.update(signals(0, arms, gap))
        rewards = np.array(gap) * (1 - np.array(gap))
        for arm in set(arms):
            q_A[arm] += 0.5 * (rewards[[a == arm for a in arms]].mean() - q_A[arm])
        weights = np.exp(q_A / 0.1)
        assert curriculum.probabilities(0.0) == pytest.approx(weights / weights.sum())


def test_procurl_prefers_arms_at_half_mastery():
    curriculum = build("procurl", alpha=1.0, tau=0.1, epsilon=0.0)
    curriculum.update(signals(0, range(5), [0.0, 0.1, 0.5, 0.9, 0.8]))  # confidences 1, 0.9, 0.5, 0.1, 0.2
    weights = np.exp(np.array([0.0, 0.09, 0.25, 0.09, 0.16]) / 0.1)
    assert curriculum.probabilities(0) == pytest.approx(weights / weights.sum())


def test_ucb_adds_a_bonus_for_arms_that_were_seldom_drawn():
    curriculum = build("ucb", alpha=1.0, tau=0.5, epsilon=0.0)
    curriculum.update(signals(0, [0, 0, 0, 1], 0.5))  # learnability 1/4 on both
    drawn = np.array([3, 1, 0, 0, 0])
    bound = np.array([0.25, 0.25, 0, 0, 0]) + np.sqrt(2 * np.log(5) / (drawn + 1))
    weights = np.exp(bound / 0.5)
    assert curriculum.probabilities(0) == pytest.approx(weights / weights.sum())


def test_ddk_draws_in_proportion_to_the_perplexity_ratio():
    curriculum = build("ddk", alpha=1.0, epsilon=0.0)
    curriculum.update(signals(0, [0, 1, 2, 3], [0.0, 0.5, 0.75, 0.2]))
    ratio = 1 / (1 - np.array([0.0, 0.5, 0.75, 0.2]) ** 1)  # the teacher is certain, so the ratio is 1 / confidence
    ratio = np.exp(np.log(ratio) / 1)
    last = np.exp(np.log(ratio).mean())  # of the arm that was not met
    expected = np.array([*ratio, last])
    assert curriculum.probabilities(0) == pytest.approx(expected / expected.sum())


def test_the_warm_up_is_uniform_and_then_ends():
    curriculum = build_rl(warmup=0.25)
    curriculum.update(signals(0, [0, 4], [0.4, 0.8]))
    assert curriculum.probabilities(0.24).tolist() == [0.2] * 5
    assert curriculum.probabilities(0.25)[4] > 0.2


def test_shrunk_rl_stays_near_uniform_on_noise_and_leaves_it_for_a_signal():
    largest = {True: [], False: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        curricula = {shrink: build_rl(alpha=0.05, tau=0.3, shrink=shrink, scale="arms") for shrink in largest}
        for step in range(150):
            arms, gap = rng.integers(5, size=8), rng.uniform(0, 0.9, 8)
            for curriculum in curricula.values():
                curriculum.update(signals(step, arms, gap))
        for shrink, curriculum in curricula.items():
            largest[shrink].append(curriculum.probabilities(0.9).max())
    assert np.mean(largest[True]) < 0.4
    assert np.mean(largest[False]) > 0.6
    signal = build_rl(alpha=0.05, tau=0.3, shrink=True, scale="arms")
    for step in range(150):
        arms = rng.integers(5, size=8)
        signal.update(signals(step, arms, rng.uniform(0, 0.4, 8) + 0.1 * arms))
    assert signal.probabilities(0.9)[4] > 0.6
    assert (np.diff(signal.q_values_A) > 0).all()


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
        q_values_A = standard_errors_A = np.zeros(2)

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
        ({"policy": "greedy"}, r"curricula.rl.policy: input should be 'boltzmann' or 'logistic' \(it is 'greedy'\)"),
        ({"reward": "applause"}, f"unknown reward 'applause'; pipeline/bandit/rewards has {', '.join(REWARDS)}"),
        ({"rewards": {}}, "the curriculum's rewards.confidence_gap is missing; add an entry"),
        (
            {"arms": "all"},
            "curricula.rl.arms: input should be 'level', 'subject', 'level_subject', 'source' or ",
        ),
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


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Writes files of a registry `pkg`, by their paths in it, and leaves nothing of it behind."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**files):
        for path, text in {"__init__": "", **files}.items():
            file = tmp_path / "pkg" / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "pkg"]:
        del sys.modules[name]


def test_names_are_the_files_and_packages_without_an_underscore(registry):
    registry(**{"b": "", "a/__init__": "", "a/helper": "", "_c": "", "_d/__init__": "", "no_package/e": ""})
    assert names_in("pkg") == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("class Params: pass\n", "pkg/half lacks build; pkg/__init__.py says what it must define"),
        ("", "pkg/half lacks Params and build; pkg/__init__.py"),
        ("def build(): ...\n", "pkg/half lacks Params; pkg/__init__.py"),
    ],
)
@pytest.mark.parametrize("path", ["half", "half/__init__"])
def test_an_incomplete_file_in_a_registry_is_refused_by_name(registry, path, text, sentence):
    registry(**{path: text})
    with pytest.raises(ParamsError, match=sentence):
        find("pkg", "half", ["build"], "thing")


IMPORTS = """
from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.common.params import settings

STRICT = ConfigDict(extra="forbid", strict=True)


@settings
class Inner:
    size: int

"""
PLAIN = """
@dataclasses.dataclass(frozen=True)
class Plain:
    size: int

"""
BUILD = """

def build(params): ...
"""
ACCEPTED = {
    "the decorator": "@settings\nclass Params:\n    size: int",
    "the decorator, without fields": "@settings\nclass Params:\n    'None.'",
    "the decorator, all the way down": "@settings\nclass Params:\n    inner: Inner\n    more: dict[str, Inner | None]",
    "as strict by hand": "@dataclass(frozen=True, config=STRICT)\nclass Params:\n    size: int",
    "another's": "Params = Inner",
}
REFUSED = {
    "a class": "class Params:\n    size: int",
    "a dataclass": "@dataclasses.dataclass(frozen=True)\nclass Params:\n    size: int",
    "pydantic's as it comes": "@dataclass(frozen=True)\nclass Params:\n    size: int",
    "not frozen": "@dataclass(config=STRICT)\nclass Params:\n    size: int",
    "not strict": "@dataclass(frozen=True, config=ConfigDict(extra='forbid'))\nclass Params:\n    size: int",
    "with unknown keys": "@dataclass(frozen=True, config=ConfigDict(strict=True))\nclass Params:\n    size: int",
    "a model": "class Params(BaseModel):\n    model_config = STRICT\n    size: int",
    "a subclass without the decorator": "class Params(Inner):\n    weight: float",
    "no class": "Params = 5",
    "a dataclass inside": PLAIN + "@settings\nclass Params:\n    inner: Plain",
    "a dataclass inside a list": PLAIN + "@settings\nclass Params:\n    inner: list[Plain] | None",
    "a dataclass with limits": PLAIN + "@settings\nclass Params:\n    inner: Annotated[Plain, Field()]",
    "a dataclass two classes down": PLAIN
    + "@settings\nclass Middle:\n    inner: Plain\n\n\n@settings\nclass Params:\n    middle: dict[str, Middle]",
}


@pytest.mark.parametrize("params", ACCEPTED.values(), ids=ACCEPTED)
def test_strict_params_are_accepted(registry, params):
    registry(thing=IMPORTS + params + BUILD)
    assert find("pkg", "thing", ["build"], "thing").Params


@pytest.mark.parametrize("params", REFUSED.values(), ids=REFUSED)
def test_params_that_would_accept_anything_are_refused(registry, params):
    registry(thing=IMPORTS + params + BUILD)
    with pytest.raises(
        ParamsError, match=r"^pkg/thing: Params would accept .* decorate it with @settings from pipeline"
    ):
        find("pkg", "thing", ["build"], "thing")


def test_a_curriculum_without_arms_is_refused(monkeypatch):
    @settings
    class Params:
        width: float

    monkeypatch.setattr(random_curriculum, "Params", Params)
    with pytest.raises(ParamsError, match=r"pipeline/curricula/random: Params lacks the field arms"):
        params_class("random")
