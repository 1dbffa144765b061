"""procurl: arms that are neither mastered nor hopeless, after ProCuRL (Tzannetos et al. 2023, arXiv 2304.12877).

    pi(c) proportional to exp(Q(c) (1 - Q(c)) / tau)

with Q(c) the student's probability of success on the arm; here, its confidence in the solution, the geometric mean of
its tokens' probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.signals import StepSignals
from pipeline.bandit.policy import boltzmann
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards._per_arm import mean_per_arm
from pipeline.bandit.settings import Alpha
from pipeline.common.params import PositiveFloat, Share, settings


@settings
class Params:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    tau: PositiveFloat
    epsilon: Share


def build(params: Params, arms: ArmSet, seed: int) -> ProCuRL:
    return ProCuRL(params, len(arms))


class ProCuRL:
    """Knows the student's confidence by arm; an arm that was never met counts as half mastered."""

    def __init__(self, params: Params, arms: int) -> None:
        self._params = params
        self._q = QValues(arms, params.alpha)

    @property
    def q_values_A(self) -> np.ndarray:  # noqa: N802 - the suffix names the shape
        """The student's confidence."""
        means_A = self._q.means_A
        return np.where(np.isfinite(means_A), means_A, 0.5)

    @property
    def standard_errors_A(self) -> np.ndarray:  # noqa: N802
        """Of the confidence; NaN where nothing is known."""
        return np.where(np.isfinite(self._q.errors_A), self._q.errors_A, np.nan)

    def probabilities(self, progress: float) -> np.ndarray:
        q_A = self.q_values_A
        return boltzmann(q_A * (1 - q_A), self._params.tau, self._params.epsilon)

    def update(self, signals: StepSignals) -> dict[int, float]:
        """The reward is the confidence itself."""
        confidence_B = np.exp(signals.student_log_prob_B / signals.tokens_B)
        rewards = mean_per_arm(signals.arm_B, confidence_B)
        self._q.update(rewards, np.bincount(signals.arm_B, minlength=len(self._q.values_A)))
        return rewards

    def state(self) -> dict[str, Any]:
        return self._q.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._q.load_state(state)
