"""Shrinking noisy means of arms towards what they share: empirical Bayes in stages, factors before single arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

CAUTION = 0.99
MANY = 1e6  # degrees of freedom of what is as good as known


@dataclass(frozen=True)
class Shrunk:
    """Posterior means of A arms and their standard deviations."""

    mean_A: np.ndarray
    deviation_A: np.ndarray


def shrink(
    mean_A: np.ndarray,
    error_A: np.ndarray,
    factors: Sequence[tuple[str, ...]],
    deviation_KA: np.ndarray | None = None,
) -> Shrunk:
    """Posterior means of the model: grand mean + an effect of each factor's value + the arm's own effect + noise.

    `error_A` are the standard errors of `mean_A`, infinite for an arm of which nothing is known. `factors` are every
    arm's values of the factors, such as ("Algebra", "3"). Factors are fitted one after the other, then single arms,
    each to what those before left: an effect e with sampling variance v becomes e t / (t + v) (Efron and Morris 1975,
    JASA 70:311), where t is the variance between effects beyond sampling, see `between_groups`. Where a factor's values
    differ by no more than noise, they stay alike.

    `deviation_KA`: where means share errors that more examples do not reduce, what leaving out each of K measurements
    changes, scaled so that squares add up to the variance that it causes, see MeasuredInParts. They have these errors
    and no signal, so that the squares of their effects are what v lacks.
    """
    precision_A = np.where(np.isfinite(error_A), 1 / np.maximum(error_A, 1e-12) ** 2, 0.0)
    known_A = precision_A > 0
    if not known_A.any():
        return Shrunk(np.zeros(len(mean_A)), np.full(len(mean_A), np.inf))
    value_A = np.where(known_A, mean_A, 0.0)
    noise_KA = np.where(known_A, 0.0 if deviation_KA is None else deviation_KA, 0.0).reshape(-1, len(mean_A))
    everything = _Groups(np.zeros(len(mean_A), dtype=int), precision_A)
    fitted_A = everything.means(value_A)[everything.of_A]
    variance_A = np.full(len(mean_A), 1 / precision_A.sum())
    # what no stage before can explain, however little of its effects is left by shrinking
    unexplained_A = value_A - fitted_A
    noise_KA = noise_KA - np.array([everything.means(noise_A)[everything.of_A] for noise_A in noise_KA])
    degrees_left = int(known_A.sum()) - 1
    columns = [list(column) for column in zip(*factors, strict=True)]
    # a single factor's values are the arms themselves
    stages = [np.unique(column, return_inverse=True)[1] for column in columns] if len(columns) > 1 else []
    for group_A in [*stages, np.arange(len(mean_A))]:
        groups = _Groups(group_A, precision_A)
        effect_G, noise_KG = groups.means(unexplained_A), np.array([groups.means(noise_A) for noise_A in noise_KA])
        degrees = min(int(groups.known_G.sum()) - 1, degrees_left)
        if degrees < 1:
            continue
        shared = float((noise_KG**2).sum()) / degrees
        sampling_G = 1 / groups.precision_G + shared
        mean_sampling = float(sampling_G[groups.known_G].mean())
        # Satterthwaite 1946: of a sum of a known variance and an estimated one, whose K deviations add up to 0
        estimated = degrees * max(1, len(noise_KA) - 1)
        noise_degrees = estimated * (mean_sampling / shared) ** 2 if shared > 0 else np.inf
        between = between_groups(effect_G[groups.known_G], sampling_G[groups.known_G], degrees, noise_degrees)
        reliability_G = np.where(groups.known_G, between / (between + sampling_G), 0.0)
        fitted_A = fitted_A + (groups.means(value_A - fitted_A) * reliability_G)[group_A]
        variance_A = variance_A + np.where(groups.known_G, reliability_G * sampling_G, between)[group_A]
        unexplained_A, noise_KA = unexplained_A - effect_G[group_A], noise_KA - noise_KG[:, group_A]
        degrees_left -= degrees
    return Shrunk(fitted_A, np.sqrt(variance_A))


class _Groups:
    """Arms in groups, `of_A` the group of each; precision_G is 1 where nothing is known of a group."""

    def __init__(self, of_A: np.ndarray, precision_A: np.ndarray) -> None:
        self.of_A, self._arm_precision_A = of_A, precision_A
        total_G = np.bincount(of_A, precision_A)
        self.known_G = total_G > 0
        self.precision_G = np.where(self.known_G, total_G, 1.0)

    def means(self, value_A: np.ndarray) -> np.ndarray:
        """The mean of each group, by precision; 0 where nothing is known."""
        means_G: np.ndarray = np.bincount(self.of_A, self._arm_precision_A * value_A) / self.precision_G
        return means_G


def between_groups(effect_G: np.ndarray, sampling_G: np.ndarray, degrees: int, noise_degrees: float = np.inf) -> float:
    """The variance between effects beyond their sampling variances; 0 where chance may well have made all of it.

    Cochran's Q, the sum of squares weighted by precision, is chi-squared with `degrees` where there is no difference,
    however unequal the variances are; where they are themselves estimated, with `noise_degrees`, Q over its degrees is
    F distributed. Where it is larger than chance makes it in CAUTION of cases, the variance is estimated from it by the
    method of moments (DerSimonian and Laird 1986, Controlled Clinical Trials 7:177). Without the test, half of all pure
    noise would pass for a difference.
    """
    weight_G = 1 / sampling_G
    total, groups = weight_G.sum(), len(effect_G)
    mean = (weight_G * effect_G).sum() / total
    q = float((weight_G * (effect_G - mean) ** 2).sum())
    if q <= degrees * fdtri(degrees, min(noise_degrees, MANY), CAUTION):
        return 0.0
    unit = float(total - (weight_G**2).sum() / total) * degrees / (groups - 1)
    return max(0.0, (q - degrees) / unit)
