"""The bootstrap over test problems, and what needs one value per seed and no interval.

Shapes by suffix: S seeds, P test problems, R resamples; `correct_SP` holds 0 and 1.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def draw_problems(stratum_P: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R, P]: how often each problem occurs in each resample, drawn with replacement inside its stratum.

    Strata keep the mix of problems as it is (stratified bootstrap, Agarwal et al. 2021, section 4.1). One draw serves
    all methods, which makes every comparison paired: the same problems on both sides.

    Args:
        stratum_P: anything that tells the strata apart, for example the problems' levels.
        resamples: the number of resamples, R.
        rng: the only source of randomness.
    """
    counts_RP = np.zeros((resamples, len(stratum_P)), dtype=np.float32)
    for stratum in np.unique(stratum_P):
        members = np.flatnonzero(stratum_P == stratum)
        counts_RP[:, members] = _counts(len(members), resamples, rng)
    return counts_RP


def _counts(size: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[R, size] counts of `size` draws with replacement; 32-bit floats add whole numbers below 2**24 without error."""
    drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float32)


def resampled_means(value_P: np.ndarray, counts_RP: np.ndarray) -> np.ndarray:
    """[R]: the mean of one value per problem over each resample, which has as many problems as there are."""
    # not a matrix product: its sums depend on the number of threads, and with them the last bits of a picture
    means_R: np.ndarray = np.einsum("rp,p->r", counts_RP, value_P, dtype=np.float64) / len(value_P)
    return means_R


def two_sided_p(difference_R: np.ndarray) -> float:
    """Bootstrap p-value of "no difference": twice the smaller share of resamples on either side of zero.

    Resamples at zero count for both sides, and one is added above and below the line, since a p-value from
    finitely many resamples is never zero (Davison & Hinkley 1997, section 4.2).
    """
    fewer = min((difference_R <= 0).sum(), (difference_R >= 0).sum())
    return min(1.0, 2 * (int(fewer) + 1) / (len(difference_R) + 1))


def least_resamples(comparisons: int, alpha: float) -> int:
    """The fewest with which the smallest p-value there is, times so many comparisons, stays below `alpha`."""
    return int(2 * comparisons / alpha)  # below it: (2 / (resamples + 1)) * comparisons >= alpha


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean: the mean of the middle half of the scores (Agarwal et al. 2021, section 4.3)."""
    return float(stats.trim_mean(scores.ravel(), 0.25))


def probability_of_improvement(x_S: np.ndarray, y_S: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2 for a random seed of each: Mann-Whitney's U / nm (Agarwal et al. 2021, section 4.3)."""
    return float(0.5 * (1 + np.sign(x_S[:, None] - y_S[None, :])).mean())
