"""Q-values of arms, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NOISE_MEMORY = 0.97  # of the noise of rewards, per step: it changes as the student learns


class QValues:
    """TD(0) estimates of A arms' rewards: Q(c) <- Q(c) + alpha (r(c) - Q(c)) for the arms of a step, Q_0 = 0.

    values_A: Q to the letter. After n rewards it is the sum of alpha (1 - alpha)^(n - i) r_i, whose weights add up to
    less than 1: `means_A` divides by their sum, as Adam corrects its moments (Kingma and Ba 2015, section 3), NaN where
    an arm has earned nothing yet. errors_A: standard errors of `means_A`, infinite there: with a reward's variance
    sigma^2 / k for k examples, sigma sqrt(sum of squared weights / k) over the sum of weights.
    """

    def __init__(self, arms: int, alpha: float) -> None:
        """All zero, and nothing known of the noise; 0 < alpha <= 1."""
        self._alpha = alpha
        self.values_A = np.zeros(arms)
        self._weight_A, self._squares_A = np.zeros(arms), np.zeros(arms)
        self._noise_sum, self._noise_count = 0.0, 0.0

    def update(self, rewards: Mapping[int, float], counts_A: np.ndarray) -> None:
        """Moves each rewarded arm towards its reward, the mean over `counts_A` examples."""
        arms = np.array(list(rewards), dtype=int)
        reward, count = np.array(list(rewards.values())), counts_A[arms]
        self._learn_noise(arms, reward, count)
        for kept_A, new in ((self.values_A, reward), (self._weight_A, 1.0)):
            kept_A[arms] += self._alpha * (new - kept_A[arms])
        self._squares_A[arms] = (1 - self._alpha) ** 2 * self._squares_A[arms] + self._alpha**2 / count

    def _learn_noise(self, arms: np.ndarray, reward: np.ndarray, count: np.ndarray) -> None:
        """A reward deviates from its arm's mean by sigma^2 (1 / k + error^2 / sigma^2) in the mean square."""
        known = self._weight_A[arms] > 0
        arms, reward, count = arms[known], reward[known], count[known]
        weight = self._weight_A[arms]
        spread = 1 / count + self._squares_A[arms] / weight**2
        deviation = reward - self.values_A[arms] / weight
        self._noise_sum = NOISE_MEMORY * self._noise_sum + float((deviation**2 / spread).sum())
        self._noise_count = NOISE_MEMORY * self._noise_count + len(arms)

    @property
    def means_A(self) -> np.ndarray:
        """The weighted mean of each arm's rewards; NaN where there were none."""
        known_A = self._weight_A > 0
        return np.where(known_A, self.values_A / np.where(known_A, self._weight_A, 1), np.nan)

    @property
    def noise(self) -> float:
        """The variance of one example's reward inside an arm; infinite while none was met twice."""
        return self._noise_sum / self._noise_count if self._noise_count else np.inf

    @property
    def errors_A(self) -> np.ndarray:
        """The standard error of `means_A`; infinite where nothing is known."""
        known_A = self._weight_A > 0
        if not np.isfinite(self.noise):
            return np.full(len(known_A), np.inf)
        weight_A = np.where(known_A, self._weight_A, 1)
        return np.where(known_A, np.sqrt(self.noise * self._squares_A) / weight_A, np.inf)

    @property
    def standard_errors_A(self) -> np.ndarray:
        """`errors_A` for the arm log: NaN where nothing is known."""
        return np.where(np.isfinite(self.errors_A), self.errors_A, np.nan)

    def state(self) -> dict[str, Any]:
        """All that was learnt."""
        return {
            "values": self.values_A.tolist(),
            "weight": self._weight_A.tolist(),
            "squares": self._squares_A.tolist(),
            "noise": [self._noise_sum, self._noise_count],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.values_A, self._weight_A = np.array(state["values"]), np.array(state["weight"])
        self._squares_A = np.array(state["squares"])
        self._noise_sum, self._noise_count = state["noise"]
