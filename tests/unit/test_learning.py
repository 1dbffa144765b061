from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import PchipInterpolator

from pipeline.analysis.learning import Curves, need, normalised_area, spent_to_reach
from pipeline.analysis.statistics import OverSeeds, difference_over_seeds

EXAMPLES_V = np.array([0.0, 10.0, 20.0, 40.0])
RISING_V = np.array([0.1, 0.2, 0.3, 0.5])


def curves(*accuracies, spent_V=EXAMPLES_V):
    return Curves(spent_V, np.array(accuracies))


def around(accuracy_V, offset):
    """Three seeds whose mean is a curve, and that differ everywhere by the same offset."""
    return [np.asarray(accuracy_V) + shift for shift in (-offset, 0, offset)]


def test_area_is_the_mean_height_of_the_curve():
    assert normalised_area(np.array([0, 10, 40]), np.array([0.0, 0.4, 0.4])) == pytest.approx((2 + 12) / 40)


def test_a_rising_curve_is_read_on_its_straight_lines():
    assert spent_to_reach(EXAMPLES_V, RISING_V, 0.25) == pytest.approx(15)
    assert spent_to_reach(EXAMPLES_V, RISING_V, 0.4) == pytest.approx(30)
    assert spent_to_reach(EXAMPLES_V, RISING_V, 0.5) == pytest.approx(40)
    assert spent_to_reach(EXAMPLES_V, RISING_V, 0.05) == 0
    assert spent_to_reach(EXAMPLES_V, RISING_V, 0.51) is None


def test_a_lucky_point_does_not_count_alone():
    """0.4 and 0.2 become 0.3 twice, which is the nearest rising curve."""
    assert spent_to_reach(EXAMPLES_V, np.array([0.1, 0.4, 0.2, 0.5]), 0.3) == pytest.approx(10)
    assert 20 < spent_to_reach(EXAMPLES_V, np.array([0.1, 0.4, 0.2, 0.5]), 0.4) < 40


def test_a_curve_that_slows_down_is_read_between_its_points_without_bias():
    """1 - exp(-x) at 0, 1/2, 1 and 3/2 is 0.3 at -log 0.7; a straight line to its second point is there too late."""
    places = np.array([0, 0.5, 1, 1.5])
    found = spent_to_reach(places, 1 - np.exp(-places), 0.3)
    assert found == pytest.approx(-np.log(0.7), abs=0.004)
    assert np.interp(0.3, 1 - np.exp(-places), places) > found + 0.02


def test_a_method_twice_as_fast_needs_half():
    found = need(curves(*around([0.1, 0.3, 0.5, 0.6], 0.01)), curves(*around(RISING_V, 0.01)), 0.95)
    assert found.ratio == pytest.approx(0.5)
    assert found.low < 0.5 < found.high < 1


def test_the_interval_ends_where_the_lead_is_as_large_as_its_error():
    """Seeds that differ by the same everywhere have one error; the curve then meets both ends of the band."""
    error = np.sqrt(2 / 3) * 0.01
    half = stats.t.ppf(0.975, 4) * error
    found = need(curves(*around([0.1, 0.3, 0.5, 0.6], 0.01)), curves(*around(RISING_V, 0.01)), 0.95)
    curve = PchipInterpolator(EXAMPLES_V, [0.1, 0.3, 0.5, 0.6])
    assert curve(40 * found.low) == pytest.approx(0.5 - half, abs=0.001)
    assert curve(40 * found.high) == pytest.approx(0.5 + half, abs=0.001)


def test_a_method_that_never_gets_there_needs_more_than_all():
    found = need(curves(*around([0.1, 0.15, 0.2, 0.25], 0.01)), curves(*around(RISING_V, 0.01)), 0.95)
    assert (found.ratio, found.low, found.high, found.trained) == (None, 1.0, np.inf, 1.0)
    found = need(curves(*around([0.1, 0.2, 0.3, 0.49], 0.02)), curves(*around(RISING_V, 0.02)), 0.95)
    assert (found.ratio, found.high) == (None, np.inf)
    assert found.low < 1  # it may get there


def test_a_ratio_of_one_is_tested_by_the_accuracies_at_the_end():
    rng = np.random.default_rng(0)
    for _ in range(200):
        method, rival = (curves(*(RISING_V + rng.normal(0, 0.03, (3, 4)))) for _ in range(2))
        found = need(method, rival, 0.9)
        expected = difference_over_seeds(method.value_SV[:, -1], rival.value_SV[:, -1])
        assert asdict(found.lead) == pytest.approx(asdict(expected))
        left_out = found.high < 1 or (found.low >= 1 and found.ratio is None)
        assert left_out == (found.lead.p() < 0.1)
        assert found.low <= (found.ratio or 1.0) <= found.high


def test_a_method_that_was_there_in_passing_did_not_get_there():
    found = need(curves(*around([0.1, 0.7, 0.7, 0.4], 0.01)), curves(*around(RISING_V, 0.01)), 0.95)
    assert (found.ratio, found.low, found.high) == (None, 1.0, np.inf)


def test_equal_compute_is_read_where_both_have_spent_the_same():
    """A method with a tenth more compute than its rival: at equal compute it has just less than its end."""
    dear = curves(*around(RISING_V, 0.01), spent_V=EXAMPLES_V * 1.25)
    found = need(dear, curves(*around(RISING_V, 0.01)), 0.95)
    assert found.ratio == pytest.approx(1.25)
    assert found.trained == pytest.approx(1.25)
    assert found.lead.value == pytest.approx(np.interp(32, EXAMPLES_V, RISING_V) - 0.5)
    cheap = curves(*around(RISING_V, 0.01), spent_V=EXAMPLES_V * 0.75)
    assert need(cheap, curves(*around(RISING_V, 0.01)), 0.95).ratio == pytest.approx(0.75)


def test_who_leads_after_equal_spending_may_fall_back_later():
    late = curves(*around([0.1, 0.4, 0.6, 0.45], 0.001), spent_V=EXAMPLES_V * 1.25)
    found = need(late, curves(*around(RISING_V, 0.001)), 0.95)
    assert found.lead.value > 0
    assert found.low < found.ratio <= found.high < 1


def test_one_seed_gives_the_ratio_alone():
    found = need(curves([0.1, 0.3, 0.5, 0.6]), curves(RISING_V), 0.95)
    assert (found.low, found.high, found.lead) == (None, None, None)
    assert found.ratio == pytest.approx(0.5)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("rival_V", [[0.3, 0.2, 0.2, 0.1], [0.3, 0.3, 0.3, 0.3], [0.3, 0.5, 0.4, 0.3]])
def test_the_level_of_a_rival_that_gained_nothing_is_no_ratio(rival_V, seeds):
    """It is there before the first example, whatever the method does."""
    for own_V in ([0.3, 0.25, 0.25, 0.2], [0.3, 0.4, 0.5, 0.6]):
        found = need(curves(*around(own_V, 0.01)[:seeds]), curves(*around(rival_V, 0.01)[:seeds]), 0.95)
        assert (found.ratio, found.low, found.high, found.rival_gained) == (None, None, None, False)
    assert need(curves(*around(rival_V, 0.01)), curves(*around(RISING_V, 0.01)), 0.95).rival_gained


def test_equal_runs_are_equal():
    same = curves(RISING_V, RISING_V, RISING_V)
    found = need(same, same, 0.95)
    assert found.ratio == 1
    assert found.lead.p() == 1
    assert found.low <= 1 <= found.high


def test_the_smallest_detectable_lead_is_shown_in_eight_of_ten_repetitions():
    rng = np.random.default_rng(0)
    error = 0.02 * np.sqrt(2 / 5)
    least = OverSeeds(0.0, error, 8).smallest_detectable(0.05)
    shown = 0
    for _ in range(2000):
        method, rival = (curves(*(RISING_V + lead + rng.normal(0, 0.02, (5, 4)))) for lead in (least, 0.0))
        shown += need(method, rival, 0.95).lead.p() < 0.05
    assert shown / 2000 == pytest.approx(0.8, abs=0.05)
