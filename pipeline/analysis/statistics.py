"""Estimates, intervals and tests over seeds and problems; NumPy and SciPy supply what they have.

Two things vary: seeds, of which there are few, and test problems. An interval over seeds is of Student's t, with each
method's own variance; beside it stands the bootstrap over problems, and the wider of the two counts. Percentile
bootstraps over 3, 5 and 10 seeds cover 75, 87 and 92% instead of 95, and one variance pooled over all methods 66 to 75%
where one or two of fourteen vary more than the rest; benchmarks/coverage.py has the figures of what is used here.

Shapes by suffix: S seeds, P test problems, R resamples; `correct_SP` holds 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from pipeline.analysis.resampling import resampled_means, two_sided_p

LEAST_SEEDS = 3  # fewer say too little of how much a method varies: no test, no verdict
POWER = 0.8
SMALLEST_P = 1e-12
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PointEstimate:
    """A mean without an interval, since one seed is all there is to go by; in JSON its bounds are null."""

    mean: float
    low: None = None
    high: None = None


@dataclass(frozen=True)
class OverSeeds:
    """A value with its standard error over seeds and the degrees of freedom that this error has, for Student's t.

    problem_error: what the choice of test problems adds, known from so many of them that it is as good as certain.
    """

    value: float
    error: float
    degrees: float
    problem_error: float = 0.0

    def interval(self, confidence: float) -> Interval:
        half = self._distance((1 + confidence) / 2)
        return Interval(self.value, self.value - half, self.value + half)

    def p(self) -> float:
        """Two-sided, of "the value is zero"; 1 where nothing varied, since then nothing is known of the error."""
        if self.error == self.problem_error == 0:
            return 1.0
        if self.problem_error == 0:
            return float(2 * stats.t.sf(abs(self.value) / self.error, self.degrees))
        if self._distance(1 - SMALLEST_P / 2) <= abs(self.value):
            return SMALLEST_P
        tail = brentq(lambda tail: self._distance(1 - tail) - abs(self.value), SMALLEST_P / 2, 0.5)
        return float(2 * tail)

    def smallest_detectable(self, alpha: float) -> float:
        """The smallest true value that a test at `alpha` finds in 8 of 10 repetitions of the experiment.

        The minimum detectable effect of Bloom (1995, Evaluation Review 19(5)): the sum of two quantiles of t times
        the standard error.
        """
        return self._distance(1 - alpha / 2, POWER)

    def _distance(self, *levels: float) -> float:
        """As many errors as the quantiles at these levels add up to; both errors' distances add up in squares.

        That is the interval of Howe (1974, Journal of the American Statistical Association 69) for a sum of two
        variances. One t with Satterthwaite's degrees for both covers 93% over three seeds.
        """
        over_seeds = sum(float(stdtrit(self.degrees, level)) for level in levels) * self.error
        return math.hypot(over_seeds, sum(float(ndtri(level)) for level in levels) * self.problem_error)


@dataclass(frozen=True)
class OverSeedsAndProblems:
    """A value that is known per seed and problem: with its error, None of one seed, and over resampled problems."""

    over_seeds: OverSeeds | None
    value: float
    resampled_R: np.ndarray

    def interval(self, confidence: float) -> Interval:
        """The wider of both intervals on either side; of one seed, that over problems alone.

        Over problems: the percentile bootstrap (Efron & Tibshirani 1993, chapter 13).
        """
        low, high = map(float, np.quantile(self.resampled_R, [(1 - confidence) / 2, (1 + confidence) / 2]))
        if self.over_seeds is None:
            return Interval(self.value, low, high)
        seeds = self.over_seeds.interval(confidence)
        return Interval(self.value, min(low, seeds.low), max(high, seeds.high))

    def p(self) -> float:
        """Two-sided, of "the value is zero": the larger of both, as the wider interval asks for."""
        over_problems = two_sided_p(self.resampled_R)
        return over_problems if self.over_seeds is None else max(over_problems, self.over_seeds.p())

    def smallest_detectable(self, alpha: float) -> float:
        """The larger of both, see OverSeeds."""
        over_problems = OverSeeds(self.value, float(self.resampled_R.std()), np.inf).smallest_detectable(alpha)
        return (
            over_problems if self.over_seeds is None else max(over_problems, self.over_seeds.smallest_detectable(alpha))
        )


def add_variances(
    parts: Sequence[tuple[float | np.ndarray, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """The standard error of a sum of independent parts, and its degrees of freedom.

    Each part is a variance with its degrees of freedom. With two methods' own variances this is Welch's test (Welch
    1947, Biometrika 34); the degrees are Satterthwaite's (1946, Biometrics Bulletin 2), without end where nothing
    varies.
    """
    total = np.sum([np.asarray(variance) for variance, _ in parts], axis=0)
    spread = np.sum([np.square(variance) / degrees for variance, degrees in parts], axis=0)
    degrees = np.divide(np.square(total), spread, out=np.full(np.shape(total), np.inf), where=spread > 0)
    return np.sqrt(total), degrees


def mean_over_seeds(value_S: np.ndarray) -> OverSeeds:
    """The mean of at least two seeds."""
    error, degrees = add_variances([_variance_of_mean(value_S)])
    return OverSeeds(float(value_S.mean()), float(error), float(degrees))


def difference_over_seeds(x_S: np.ndarray, y_S: np.ndarray) -> OverSeeds:
    """The mean of X's seeds minus that of Y's, not paired: what two methods share under one seed's number is little."""
    error, degrees = add_variances([_variance_of_mean(x_S), _variance_of_mean(y_S)])
    return OverSeeds(float(x_S.mean() - y_S.mean()), float(error), float(degrees))


def _variance_of_mean(value_S: np.ndarray) -> tuple[float, float]:
    return float(value_S.var(ddof=1)) / len(value_S), len(value_S) - 1


def accuracy(correct_SP: np.ndarray, counts_RP: np.ndarray) -> OverSeedsAndProblems:
    """One method's accuracy over its seeds and (chosen) problems."""
    return _over_seeds_and_problems(correct_SP, [correct_SP.mean(axis=1)], counts_RP)


def accuracy_difference(x_SP: np.ndarray, y_SP: np.ndarray, counts_RP: np.ndarray) -> OverSeedsAndProblems:
    """X's accuracy minus Y's: paired by problem, not by seed."""
    return _over_seeds_and_problems(x_SP - y_SP, [x_SP.mean(axis=1), y_SP.mean(axis=1)], counts_RP)


def _over_seeds_and_problems(
    value_SP: np.ndarray, methods: Sequence[np.ndarray], counts_RP: np.ndarray
) -> OverSeedsAndProblems:
    """The variance is that of seeds, plus what problems add to it beyond what already shows between seeds.

    Seeds and problems are crossed, so the variance of the mean is that over seeds plus that over problems minus that
    of what both share (Cameron, Gelbach & Miller 2011, Journal of Business & Economic Statistics 29(2), eq. 2.7; Owen
    2007, Annals of Applied Statistics 1(2)).
    """
    value, resampled_R = float(value_SP.mean()), resampled_means(value_SP.mean(axis=0), counts_RP)
    if len(value_SP) < 2:
        return OverSeedsAndProblems(None, value, resampled_R)
    beyond_seeds = max(0.0, float(resampled_R.var()) - _shared_variance(value_SP))
    error, degrees = add_variances(list(map(_variance_of_mean, methods)))
    over_seeds = OverSeeds(value, float(error), float(degrees), float(np.sqrt(beyond_seeds)))
    return OverSeedsAndProblems(over_seeds, value, resampled_R)


def _shared_variance(value_SP: np.ndarray) -> float:
    """The part of the mean's variance that belongs to single answers: neither to a seed nor to a problem as a whole."""
    seeds, problems = value_SP.shape
    rest_SP = value_SP - value_SP.mean(axis=1, keepdims=True) - value_SP.mean(axis=0) + value_SP.mean()
    return float(np.square(rest_SP).sum() / ((seeds - 1) * max(1, problems - 1)) / (seeds * problems))


def seed_interval(value_S: np.ndarray, confidence: float) -> Interval | PointEstimate:
    """Mean of one value per seed with its interval over seeds; no bounds where there is one seed."""
    if len(value_S) < 2:
        return PointEstimate(float(value_S.mean()))
    return mean_over_seeds(value_S).interval(confidence)


def seed_difference(x_S: np.ndarray, y_S: np.ndarray, confidence: float) -> Interval | PointEstimate:
    """X's mean minus Y's with its interval over seeds; no bounds where there is one seed."""
    if len(x_S) < 2:
        return PointEstimate(float(x_S.mean() - y_S.mean()))
    return difference_over_seeds(x_S, y_S).interval(confidence)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down adjusted p-values (Holm 1979, Scandinavian Journal of Statistics 6(2)), in the given order.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it, and at most 1.
    """
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
