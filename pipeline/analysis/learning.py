"""How many examples, or how much compute, a method needs: over its learning curves.

Shapes by suffix: S seeds, V validations, G places on a fine grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, isotonic_regression

from pipeline.analysis.statistics import OverSeeds, add_variances, difference_over_seeds

GRID = 1001


@dataclass(frozen=True)
class Curves:
    """The learning curves of one method's seeds: what was spent at each validation, and each seed's value there.

    Values are better the higher they are: validation accuracy, or minus the logarithm of the KL from the teacher.
    """

    spent_V: np.ndarray
    value_SV: np.ndarray

    def gained(self) -> bool:
        """Whether the mean curve ends above where it begins."""
        return bool(self.value_SV[:, -1].mean() > self.value_SV[:, 0].mean())


@dataclass(frozen=True)
class Need:
    """What a method needs to reach its rival's final value, over all that the rival spent.

    ratio: None where the mean curve does not get there: it is then more than `trained`, the whole that the method
    spent. low, high: bounds of its interval, None without two seeds; high is infinite where the interval is open, low
    is `trained` where the method is shown not to get there. rival_gained: whether the rival ended better than it began;
    where it did not, its final value is there before the first example, so there is no ratio and no interval. lead:
    the method's value minus the rival's once it has spent the same, or all that it has; what a ratio of 1 is tested
    by. None without two seeds.
    """

    ratio: float | None
    low: float | None
    high: float | None
    trained: float
    rival_gained: bool
    lead: OverSeeds | None


def normalised_area(spent_V: np.ndarray, value_V: np.ndarray) -> float:
    """Area under a curve against what was spent (trapezoids), divided by all that was: the mean value."""
    return float(np.trapezoid(value_V, spent_V) / (spent_V[-1] - spent_V[0]))


def spent_to_reach(spent_V: np.ndarray, value_V: np.ndarray, level: float) -> float | None:
    """What was spent when the curve reached a level; None (censored) where it never does.

    The curve is the rising one that is nearest to the points (isotonic regression; Barlow et al. 1972), joined by
    monotone cubics (PCHIP; Fritsch and Butland 1984, SIAM Journal on Scientific and Statistical Computing 5(2)).
    Straight lines would lie below a curve that slows down, and ask for too many examples. The first raw point above a
    level is often one by luck: with 3 seeds, 210 validation problems and 7 to 13 points that gave a ratio of 0.91 to
    0.95 to two equal methods, and the rising curve 0.97.
    """
    rising_V = isotonic_regression(value_V).x
    above = np.flatnonzero(rising_V >= level)
    if not len(above):
        return None
    (first, *_) = above
    if first == 0:
        return float(spent_V[0])
    curve = PchipInterpolator(spent_V, rising_V)
    before, after = float(spent_V[first - 1]), float(spent_V[first])
    if curve(after) <= level:  # by rounding: the point itself is there
        return after
    return brentq(lambda spent: float(curve(spent)) - max(level, float(curve(before))), before, after)


def need(method: Curves, rival: Curves, confidence: float) -> Need:
    """How much less a method needs than its rival.

    The interval holds every ratio at which the method's value is not shown to differ from the rival's final one
    (inversion of a test, after Fieller 1954, Journal of the Royal Statistical Society B 16(2)). So it needs no
    crossing in single seeds, whose curves are too noisy for one and may never cross, and a ratio of 1 is left out
    exactly where the method leads, or trails, at the end. The rival's final value is as uncertain as the rest.
    """
    trained, gained = float(method.spent_V[-1] / rival.spent_V[-1]), rival.gained()
    share_V = method.spent_V / rival.spent_V[-1]
    final_S = rival.value_SV[:, -1]
    ratio = spent_to_reach(share_V, method.value_SV.mean(axis=0), float(final_S.mean())) if gained else None
    if len(final_S) < 2:
        return Need(ratio, None, None, trained, gained, None)
    share_G, same = _grid(float(share_V[0]), trained)
    value_SG = PchipInterpolator(share_V, method.value_SV, axis=1)(share_G)
    lead = difference_over_seeds(value_SG[:, same], final_S)
    if not gained:
        return Need(None, None, None, trained, gained, lead)
    lead_G, half_G = _lead(value_SG, final_S, confidence)
    below_G, above_G = lead_G < -half_G, lead_G > half_G
    # true curves rise: who is below after the same spending was below before, who is above stays so
    below_G[: same + 1] |= below_G[same]
    above_G[same:] |= above_G[same]
    if below_G[same] and ratio is not None and ratio <= share_G[same]:
        ratio = None  # it got there in passing, and the last checkpoint counts
    low = trained if below_G.all() else float(share_G[~below_G][0])
    high = np.inf if not above_G[-1] else float(share_G[~above_G].max(initial=share_G[0]))
    if ratio is not None:
        low, high = min(low, ratio), max(high, ratio)  # where nothing varies, rounding may put it a hair outside
    return Need(ratio, low, high, trained, gained, lead)


def _grid(first: float, last: float) -> tuple[np.ndarray, int]:
    """[G] shares of what the rival spent, and where among them is the whole of it, or else the last."""
    share_G = np.unique(np.append(np.linspace(first, last, GRID), min(1.0, last)))
    return share_G, int(np.searchsorted(share_G, min(1.0, last)))


def _lead(value_SG: np.ndarray, final_S: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean value along a curve minus the rival's final one, and half the width of its interval (Welch's)."""
    seeds = len(final_S)
    error_G, degrees_G = add_variances(
        [
            (value_SG.var(axis=0, ddof=1) / seeds, seeds - 1),
            (np.full(value_SG.shape[1], final_S.var(ddof=1) / seeds), seeds - 1),
        ]
    )
    half_G = np.asarray(stats.t.ppf((1 + confidence) / 2, degrees_G)) * error_G
    return value_SG.mean(axis=0) - final_S.mean(), half_G
