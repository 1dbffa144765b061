"""Estimates, intervals and tests over seeds and problems; NumPy and SciPy supply what they have.

Shapes by suffix: S seeds, P test problems, R resamples, V validations; `correct_SP` holds 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats


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
class Bootstrap:
    """How often each seed and each problem occurs in each resample.

    One object serves all methods, which makes every comparison paired: the same seeds and the same problems on
    both sides.
    """

    seed_counts_RS: np.ndarray
    problem_counts_RP: np.ndarray


def draw_bootstrap(seeds: int, stratum_P: np.ndarray, resamples: int, rng: np.random.Generator) -> Bootstrap:
    """Draws seeds with replacement and, independently, problems with replacement inside their strata.

    Every seed answers the same problems, so seeds and problems are crossed and each is resampled on its own: the
    pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1(2)). Of S seeds S - 1 are drawn: S draws would
    understate the variance of a mean of few seeds by (S - 1) / S (McCarthy & Snowden 1985, Vital and Health
    Statistics 2(95)). Strata keep the mix of problems as it is (stratified bootstrap, Agarwal et al. 2021, section
    4.1).

    Args:
        seeds: the number of seeds, S.
        stratum_P: anything that tells the strata apart, for example the problems' levels.
        resamples: the number of resamples, R.
        rng: the only source of randomness.
    """
    seed_counts_RS = _counts(seeds, max(1, seeds - 1), resamples, rng)
    problem_counts_RP = np.zeros((resamples, len(stratum_P)), dtype=np.float32)
    for stratum in np.unique(stratum_P):
        members = np.flatnonzero(stratum_P == stratum)
        problem_counts_RP[:, members] = _counts(len(members), len(members), resamples, rng)
    return Bootstrap(seed_counts_RS, problem_counts_RP)


def _counts(size: int, draws: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R, size] counts of `draws` draws with replacement; 32-bit floats add whole numbers below 2**24 without error."""
    drawn = rng.integers(size, size=(resamples, draws)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float32)


def resampled_accuracies(
    correct_SP: np.ndarray, bootstrap: Bootstrap, chosen_P: np.ndarray | None = None
) -> np.ndarray:
    """[R, S]: each seed's mean over the resampled problems, or over those of them that `chosen_P` (bool) picks.

    The values may be differences as well; a resample that holds none of the chosen problems gives NaN.
    """
    chosen_P = np.ones(correct_SP.shape[1], dtype=bool) if chosen_P is None else chosen_P
    counts_RC = bootstrap.problem_counts_RP[:, chosen_P]
    sums_RS = (counts_RC @ correct_SP[:, chosen_P].astype(np.float32).T).astype(np.float64)
    accuracies_RS: np.ndarray = sums_RS / counts_RC.sum(axis=1, dtype=np.float64)[:, None]
    return accuracies_RS


def resampled_seed_means(values_S: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """[R]: mean over the resampled seeds of values that are [S], or [R, S] with a row per resample."""
    counts_RS = bootstrap.seed_counts_RS.astype(np.float64)
    means_R: np.ndarray = (counts_RS * values_S).sum(axis=-1) / counts_RS.sum(axis=-1)
    return means_R


def percentile_interval(mean: float, samples_R: np.ndarray, confidence: float) -> Interval:
    """Percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples_R, [tail, 1 - tail])
    return Interval(float(mean), float(low), float(high))


def mean_interval(
    correct_SP: np.ndarray, bootstrap: Bootstrap, confidence: float, chosen_P: np.ndarray | None = None
) -> Interval:
    """Mean over seeds and (chosen) problems with its hierarchical bootstrap interval.

    Of a difference of two methods' `correct_SP` it gives the paired difference. With one seed the interval is
    over problems only.
    """
    chosen_SP = correct_SP if chosen_P is None else correct_SP[:, chosen_P]
    samples_R = resampled_seed_means(resampled_accuracies(correct_SP, bootstrap, chosen_P), bootstrap)
    return percentile_interval(chosen_SP.mean(), samples_R, confidence)


def seed_interval(values_S: np.ndarray, bootstrap: Bootstrap, confidence: float) -> Interval | PointEstimate:
    """Mean of one value per seed with a bootstrap interval over seeds; no bounds where there is one seed."""
    if len(values_S) < 2:
        return PointEstimate(float(values_S.mean()))
    return percentile_interval(values_S.mean(), resampled_seed_means(values_S, bootstrap), confidence)


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half of the scores (Agarwal et al. 2021, section 4.3)."""
    return float(stats.trim_mean(scores.ravel(), 0.25))


def iqm_interval(correct_SP: np.ndarray, level_P: np.ndarray, bootstrap: Bootstrap, confidence: float) -> Interval:
    """IQM over the accuracies of every seed at every level, with a stratified bootstrap interval.

    Levels take the place of the tasks in Agarwal et al. (2021); the bootstrap's strata must be the levels, so
    that each resample holds problems of each.
    """
    masks_LP = [level_P == level for level in np.unique(level_P)]
    point = iqm(np.stack([correct_SP[:, mask_P].mean(axis=1) for mask_P in masks_LP]))
    scores_RLS = np.stack([resampled_accuracies(correct_SP, bootstrap, mask_P) for mask_P in masks_LP], axis=1)
    chosen_RS = _occurrences(bootstrap.seed_counts_RS)
    scores_RLS = np.take_along_axis(scores_RLS, chosen_RS[:, None, :], axis=2)
    samples_R = np.asarray(stats.trim_mean(scores_RLS.reshape(len(chosen_RS), -1), 0.25, axis=1))
    return percentile_interval(point, samples_R, confidence)


def _occurrences(counts_RS: np.ndarray) -> np.ndarray:
    """[R, draws] positions of the seeds drawn, from how often each was: counts (2, 0, 1) become (0, 0, 2)."""
    ends_RS = counts_RS.cumsum(axis=1)
    positions_RD: np.ndarray = (np.arange(int(counts_RS[0].sum()))[None, :, None] >= ends_RS[:, None, :]).sum(axis=2)
    return positions_RD


def probability_of_improvement(x_S: np.ndarray, y_S: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2 for a random seed of each: Mann-Whitney's U / nm (Agarwal et al. 2021, section 4.3)."""
    return float(_wins(x_S, y_S).mean())


def _wins(x_RS: np.ndarray, y_RS: np.ndarray) -> np.ndarray:
    """[..., S, S]: 1 where a seed of X is more accurate than one of Y, 0 where it is less, 1/2 for a tie."""
    wins_RSS: np.ndarray = 0.5 * (1 + np.sign(x_RS[..., :, None] - y_RS[..., None, :]))
    return wins_RSS


def improvement_interval(x_SP: np.ndarray, y_SP: np.ndarray, bootstrap: Bootstrap, confidence: float) -> Interval:
    """Probability that a seed of X is more accurate than a seed of Y, bootstrap seeds and problems."""
    wins_RSS = _wins(resampled_accuracies(x_SP, bootstrap), resampled_accuracies(y_SP, bootstrap))
    counts_RS = bootstrap.seed_counts_RS.astype(np.float64)
    samples_R = np.einsum("rs,rt,rst->r", counts_RS, counts_RS, wins_RSS) / counts_RS.sum(axis=1) ** 2
    point = probability_of_improvement(x_SP.mean(axis=1), y_SP.mean(axis=1))
    return percentile_interval(point, samples_R, confidence)


def two_sided_p(difference_R: np.ndarray) -> float:
    """Bootstrap p-value of "no difference": twice the smaller share of resamples on either side of zero.

    Resamples at zero count for both sides, and one is added above and below the line, since a p-value from
    finitely many resamples is never zero (Davison & Hinkley 1997, section 4.2).
    """
    fewer = min((difference_R <= 0).sum(), (difference_R >= 0).sum())
    return min(1.0, 2 * (int(fewer) + 1) / (len(difference_R) + 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values (Holm 1979, Scandinavian Journal of Statistics 6(2)), in the given order.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it, and at most 1.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def normalised_area(examples_V: np.ndarray, accuracy_V: np.ndarray) -> float:
    """Area under validation accuracy against examples (trapezoids), divided by the examples: a mean accuracy."""
    return float(np.trapezoid(accuracy_V, examples_V) / (examples_V[-1] - examples_V[0]))


def examples_to_reach(examples_V: np.ndarray, accuracy_V: np.ndarray, target: float) -> int | None:
    """Examples seen at the first validation at or above the target; None (censored) where none is."""
    reached = np.flatnonzero(accuracy_V >= target)
    return int(examples_V[reached[0]]) if len(reached) else None
