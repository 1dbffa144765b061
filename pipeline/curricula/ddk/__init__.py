"""ddk: arms in proportion to how far the student is behind the teacher, after DDK (Liu et al. 2024, arXiv 2407.16154).

DDK's domain discrepancy factor is the student's perplexity over the teacher's, normalised over domains and smoothed:

    r(c) = exp(CE_student(c) - CE_teacher(c)),    pi = (1 - epsilon) r / sum(r) + epsilon / A

with CE the cross-entropy per token. DDK measures it on held-out data at intervals; here the drawn examples measure it
for nothing, and `alpha` smooths.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.signals import StepSignals
from pipeline.bandit.policy import with_floor
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards._per_arm import mean_per_arm
from pipeline.bandit.settings import Alpha
from pipeline.common.params import Share, settings


@settings
class Params:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    epsilon: Share


def build(params: Params, arms: ArmSet, seed: int) -> DomainDiscrepancy:
    return DomainDiscrepancy(params, len(arms))


class DomainDiscrepancy:
    """Knows the log of the perplexity ratio by arm, in nats; an arm that was never met counts as the others' mean."""

    def __init__(self, params: Params, arms: int) -> None:
        self._params = params
        self._q = QValues(arms, params.alpha)

    @property
    def q_values_A(self) -> np.ndarray:  # noqa: N802 - the suffix names the shape
        """The log of the perplexity ratio."""
        known_A = np.isfinite(self._q.means_A)
        others = float(self._q.means_A[known_A].mean()) if known_A.any() else 0.0
        return np.where(known_A, self._q.means_A, others)

    @property
    def standard_errors_A(self) -> np.ndarray:  # noqa: N802
        """Of the Q-values; NaN where nothing is known."""
        return np.where(np.isfinite(self._q.errors_A), self._q.errors_A, np.nan)

    def probabilities(self, progress: float) -> np.ndarray:
        ratio_A = np.exp(self.q_values_A)
        return with_floor(ratio_A / ratio_A.sum(), self._params.epsilon)

    def update(self, signals: StepSignals) -> dict[int, float]:
        """The reward is how many nats per token the student is behind."""
        behind_B = (signals.teacher_log_prob_B - signals.student_log_prob_B) / signals.tokens_B
        rewards = mean_per_arm(signals.arm_B, behind_B, signals.tokens_B)
        self._q.update(rewards, np.bincount(signals.arm_B, minlength=len(self._q.values_A)))
        return rewards

    def state(self) -> dict[str, Any]:
        return self._q.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._q.load_state(state)
