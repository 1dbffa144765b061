"""The report's intervals and verdicts on simulated experiments whose truth is known; benchmarks/coverage.py has more.

A share of `TRIALS` that should be 95% may fall short by chance alone: the bound is what it falls below once in 1,000.
"""

from __future__ import annotations

import pytest
from scipy import stats

from benchmarks.coverage import Scale, accuracies, kl_ratios, ratios

TRIALS = 300
SCALE = Scale(TRIALS, 400, (), (), (), (4,), (), (), ())
LEAST_COVERED = stats.binom.ppf(0.001, TRIALS, 0.95) / TRIALS  # 0.907
MOST_FALSE = stats.binom.ppf(0.999, TRIALS, 0.05) / TRIALS  # 0.093


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("deviation", [0.0, 0.03])
def test_accuracies_and_their_differences_are_covered(seeds, deviation):
    found = accuracies(SCALE, (deviation,) * 5, seeds, 200)
    assert found["accuracy covered"] >= LEAST_COVERED
    assert found["difference covered"] >= LEAST_COVERED
    assert found["false among 4"] <= MOST_FALSE


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_method_that_varies_more_than_the_others_is_covered(seeds):
    """Where one variance pooled over all methods, which has more degrees of freedom, would not do."""
    found = accuracies(SCALE, (0.1, *[0.01] * 4), seeds, 500)
    assert found["difference covered"] >= LEAST_COVERED
    assert found["covered if pooled"] < LEAST_COVERED


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("speed", [1.0, 0.5])
def test_ratios_are_covered(seeds, speed):
    found = ratios(SCALE, speed, 0.01, seeds, 7)
    assert found["ratio covered"] >= LEAST_COVERED
    if speed == 1:
        assert found["false among 4"] <= MOST_FALSE


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("speed", [0.5, 0.3])
def test_ratios_by_kl_are_covered(seeds, speed):
    """Curves of few points that bend and hardly vary: straight lines between them cover 0.3 in 1 to 60%."""
    found = kl_ratios(SCALE, speed, 0.01, seeds, 7)
    assert found["ratio covered"] >= LEAST_COVERED
    assert found["restricted ratio"] == pytest.approx(speed, abs=0.005)
