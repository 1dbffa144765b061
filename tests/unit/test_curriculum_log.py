from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from report_inputs import REPORT, write_inputs

from pipeline.analysis.curriculum import curriculum, entropy_share, q_correlation
from pipeline.analysis.reading import read_results
from pipeline.analysis.summary import summarise
from pipeline.analysis.wording import q_sentence


def log(rows):
    """An arm log of (step, arm, probability, Q after the step, reward)."""
    return pd.DataFrame(rows, columns=["step", "arm", "probability", "q_value", "reward"])


def test_q_is_held_against_the_reward_that_comes_next():
    """Q before a step is the one after the step before; the first step has none, and an arm without reward none."""
    rows = [
        (0, "a", 0.5, 1.0, 9.0),
        (0, "b", 0.5, 2.0, 9.0),
        (0, "c", 0.5, 6.0, 9.0),
        (1, "a", 0.5, 3.0, 10.0),  # Q 1
        (1, "b", 0.5, 5.0, 30.0),  # Q 2
        (1, "c", 0.5, 1.0, 20.0),  # Q 6
        (2, "a", 0.5, 0.0, None),
        (2, "b", 0.5, 0.0, 20.0),  # Q 5
        (2, "c", 0.5, 0.0, 70.0),  # Q 1
    ]
    q, reward = [-2, -1, 3, 2, -2], [-10, 10, 0, -25, 25]  # minus means of 3 and 20 in step 1, of 3 and 45 in step 2
    assert q_correlation(log(rows)) == pytest.approx(np.corrcoef(q, reward)[0, 1])


@pytest.mark.parametrize("trend", [0.0, 0.2, -0.2])
def test_what_all_arms_share_predicts_nothing(trend):
    """Rewards of 20 equal arms that rise or fall together; Q follows each arm's own rewards."""
    rng, held, rows = np.random.default_rng(0), np.zeros(20), []
    for step in range(200):
        reward_A = trend * step / 200 + rng.normal(scale=0.05, size=20)
        held += 0.05 * (reward_A - held)
        rows += [(step, str(arm), 0.05, held[arm], reward_A[arm]) for arm in range(20)]
    pooled = log(rows)
    before = pooled.groupby("arm")["q_value"].shift()
    assert (abs(before.corr(pooled["reward"])) > 0.5) == (trend != 0)
    assert q_correlation(pooled) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("change", [{"q_value": None}, {"q_value": 1.0}, {"reward": None}, {"reward": 1.0}])
def test_without_variation_there_is_no_correlation(change):
    table = log([(step, arm, 0.5, step + ord(arm), step * ord(arm)) for step in range(4) for arm in "ab"])
    assert q_correlation(table) is not None
    assert q_correlation(table.assign(**change)) is None
    [(name, value)] = change.items()
    if value is not None:  # nor where it varies over steps alone
        assert q_correlation(table.assign(**{name: value + 0.1 * table["step"]})) is None


def test_entropy_is_that_of_the_draws_as_a_share_of_even_ones():
    rows = [
        (0, "a", 0.25, None, None),
        (0, "b", 0.75, None, None),
        (1, "a", 0.0, None, None),
        (1, "b", 1.0, None, None),
    ]
    nats = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert entropy_share(log(rows)) == pytest.approx(nats / 2 / np.log(2))
    even = log([(step, arm, 1 / 3, None, None) for step in range(2) for arm in "abc"])
    assert entropy_share(even) == pytest.approx(1)
    assert entropy_share(log([(0, "all", 1.0, None, None)])) is None


def results_of(monkeypatch, tmp_path, seeds, change=None):
    monkeypatch.chdir(tmp_path)
    write_inputs({"rl": 0.5, "traditional": 0.4}, seeds, {"traditional": "all"})
    results = read_results(["rl", "traditional"], seeds)
    for run in results.runs["rl"]:
        if change:
            change(run.arm_log, np.random.default_rng(run.record.seed))
    return results


def noise(table, rng):
    table["reward"] = rng.normal(size=len(table))


def against(table, rng):
    table["reward"] = -table["reward"]


def in_one_seed(table, rng):
    if rng.random() < 0.6:  # seeds 1 and 2: 0.51 and 0.26
        noise(table, rng)


@pytest.mark.parametrize(
    ("change", "seeds", "predicts", "said"),
    [
        (None, [0, 1, 2], True, "The Q-values of rl predict rewards: an arm's Q and its next reward have a"),
        (in_one_seed, [0, 1, 2], False, "**The Q-values of rl predict nothing**"),
        (noise, [0, 1, 2], False, "**The Q-values of rl predict nothing**: an arm's Q and its next reward have a"),
        (against, [0, 1, 2], False, "**The Q-values of rl predict nothing**"),
        (None, [0, 1], None, "rl: fewer than 3 seeds cannot tell whether its Q-values predict anything"),
        (None, [0], None, "rl: fewer than 3 seeds cannot tell"),
    ],
)
def test_a_curriculum_whose_q_predicts_nothing_is_said_to_be_one(monkeypatch, tmp_path, change, seeds, predicts, said):
    results = results_of(monkeypatch, tmp_path, seeds, change)
    found = curriculum(results.runs["rl"], 0.95)
    by_seed = [q_correlation(run.arm_log) for run in results.runs["rl"]]
    assert found.q_predicts is predicts
    assert list(found.q_correlation_by_seed.values()) == by_seed
    assert found.q_correlation.mean == pytest.approx(np.mean(by_seed))
    assert q_sentence("rl", summary_of(results).methods["rl"], 0.95).startswith(said)


def summary_of(results):
    return summarise(results, "mini", REPORT)


def test_who_has_no_q_values_and_one_arm_has_nothing_to_say(monkeypatch, tmp_path):
    results = results_of(monkeypatch, tmp_path, [0, 1, 2])
    found = curriculum(results.runs["traditional"], 0.95)
    assert (found.q_correlation, found.q_predicts, found.entropy_share) == (None, None, None)
    assert q_sentence("traditional", summary_of(results).methods["traditional"], 0.95) == ""


def held_alike(table, rng):
    """Q that never varies, so that all arms are drawn alike."""
    table["q_value"], table["probability"] = 0.0, 1 / table["arm"].nunique()


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_q_that_never_varies_is_said_to_predict_nothing(monkeypatch, tmp_path, seeds):
    results = results_of(monkeypatch, tmp_path, seeds, held_alike)
    found = curriculum(results.runs["rl"], 0.95)
    assert found.q_correlation is None
    assert found.q_predicts is (False if len(seeds) > 1 else None)
    said = q_sentence("rl", summary_of(results).methods["rl"], 0.95)
    assert said == (
        "**The Q-values of rl predict nothing**: they, or the rewards, do not tell arms apart."
        if len(seeds) > 1
        else "The Q-values of rl, or its rewards, do not tell arms apart in these seeds."
    )


def test_seeds_in_which_q_never_varies_count_against_it(monkeypatch, tmp_path):
    """Three of six that predict are no curriculum that does, and a mean over three says which it is of."""
    results = results_of(monkeypatch, tmp_path, range(6), lambda table, rng: table)
    assert curriculum(results.runs["rl"], 0.95).q_predicts is True
    for run in results.runs["rl"][3:]:
        held_alike(run.arm_log, None)
    found = curriculum(results.runs["rl"], 0.95)
    by_seed = [q_correlation(run.arm_log) for run in results.runs["rl"][:3]]
    assert found.q_correlation.mean == pytest.approx(np.mean(by_seed))
    assert found.q_correlation.low > 0.1
    assert found.q_predicts is False
    said = q_sentence("rl", summary_of(results).methods["rl"], 0.95)
    assert said.startswith(
        "**The Q-values of rl predict nothing**: an arm's Q and its next reward have a correlation of"
    )
    assert said.endswith(", in the 3 of 6 seeds where both vary at all.")
