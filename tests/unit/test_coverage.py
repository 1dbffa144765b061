"""The report's intervals and verdicts on simulated experiments whose truth is known; benchmarks/coverage.py has more.

A share of `TRIALS` that should be 95% may fall short by chance alone: the bound is what it falls below once in 1,000.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import coverage
from benchmarks.coverage import (
    CONFIDENCE,
    TINY,
    Scale,
    accuracies,
    accuracy_cases,
    false_verdicts,
    full_scale,
    kl_ratios,
    most_by_chance,
    ratios,
)
from benchmarks.study.settings import METHODS, REPLAYS
from pipeline.analysis.resampling import least_resamples
from pipeline.analysis.verdict import ADAPTIVE, BASELINE, pairs

TRIALS = 300
FAMILY = (BASELINE, ADAPTIVE, "random", "easy_to_hard", "hard_to_easy")  # against the baseline, and rl against random
SCALE = Scale(TRIALS, 400, (), (), (), (FAMILY,), (), (), ())
LEAST_COVERED = stats.binom.ppf(0.001, TRIALS, 0.95) / TRIALS  # 0.907
MOST_FALSE = stats.binom.ppf(0.999, TRIALS, 0.05) / TRIALS  # 0.093


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("deviation", [0.0, 0.03])
def test_accuracies_and_their_differences_are_covered(seeds, deviation):
    found = accuracies(SCALE, dict.fromkeys(FAMILY, deviation), seeds, 200)
    assert found["accuracy covered"] >= LEAST_COVERED
    assert found["difference covered"] >= LEAST_COVERED
    assert found["false among 5"] <= MOST_FALSE


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_method_that_varies_more_than_the_others_is_covered(seeds):
    """Where one variance pooled over all methods, which has more degrees of freedom, would not do."""
    found = accuracies(SCALE, dict.fromkeys(FAMILY, 0.01) | {BASELINE: 0.1}, seeds, 500)
    assert found["difference covered"] >= LEAST_COVERED
    assert found["covered if pooled"] < LEAST_COVERED


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_ratios_are_covered(seeds, speed):
    found = ratios(SCALE, speed, 0.01, seeds, 7)
    assert found["ratio covered"] >= LEAST_COVERED
    if speed == 1:
        assert found["false among 5"] <= MOST_FALSE


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("speed", [0.5, 0.3])
def test_ratios_by_kl_are_covered(seeds, speed):
    """Curves of few points that bend and hardly vary: straight lines between them cover 0.3 in 1 to 60%."""
    found = kl_ratios(SCALE, speed, 0.01, seeds, 7)
    assert found["ratio covered"] >= LEAST_COVERED
    assert found["restricted ratio"] == pytest.approx(speed, abs=0.005)


@pytest.mark.parametrize("seeds", [3, 10])
def test_equal_methods_hardly_ever_get_a_verdict_by_kl(seeds):
    found = kl_ratios(SCALE, 1.0, 0.07, seeds, 7)
    assert found["ratio covered"] >= LEAST_COVERED
    assert 0 < found["false among 5"] <= MOST_FALSE


def test_a_family_has_a_false_verdict_where_the_smallest_p_survives_all_its_comparisons():
    small, large = (BASELINE, ADAPTIVE, "random"), FAMILY
    p_values = {
        (ADAPTIVE, BASELINE): 0.015,
        ("random", BASELINE): 0.5,
        (ADAPTIVE, "random"): 0.5,
        ("easy_to_hard", BASELINE): 0.5,
        ("hard_to_easy", BASELINE): 0.5,
    }
    assert false_verdicts(p_values, [small, large]) == {"false among 3": True, "false among 5": False}
    elsewhere = p_values | {(ADAPTIVE, BASELINE): 0.5, ("hard_to_easy", BASELINE): 0.005}
    assert false_verdicts(elsewhere, [small, large]) == {"false among 3": False, "false among 5": True}


def test_the_published_families_are_those_of_params_and_of_the_study(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("methods: [rl, traditional, random]\nreplays: [rl_permuted]\n")
    monkeypatch.setattr(coverage, "ROOT", tmp_path)
    usual, study = coverage.full_scale().families
    assert set(usual) == {"rl", "traditional", "random", "rl_permuted"}
    assert set(study) == {*METHODS, *REPLAYS}


def test_methods_vary_alike_but_for_the_baseline_or_the_pair_that_is_looked_at():
    deviations = {name: case.args[1] for name, case in accuracy_cases(TINY).items()}
    assert deviations == {
        "100 problems, 2 points, 3 seeds": {BASELINE: 0.02, ADAPTIVE: 0.02, "random": 0.02},
        "100 problems, baseline 2, others 0.5, 3 seeds": {BASELINE: 0.02, ADAPTIVE: 0.005, "random": 0.005},
        "100 problems, both 2, others 0.5, 3 seeds": {BASELINE: 0.02, ADAPTIVE: 0.02, "random": 0.005},
    }


def test_the_published_families_can_have_verdicts():
    scale = full_scale()
    for family in scale.families:
        assert scale.resamples >= 2 * least_resamples(len(pairs(family)), 1 - CONFIDENCE)


def test_the_most_that_chance_explains_is_exceeded_once_in_a_hundred():
    most = np.random.default_rng(0).binomial(1000, 0.05, (4000, 36)).max(axis=1) / 1000
    bound = most_by_chance(1000, 36)
    assert (most <= bound).mean() == pytest.approx(0.99, abs=0.006)
    assert (most < bound).mean() < 0.99
