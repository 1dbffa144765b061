"""ddk: arms in proportion to how far the student is behind the teacher, after DDK (Liu et al. 2024, arXiv 2407.16154).

DDK's domain discrepancy factor is the student's perplexity over the teacher's, normalised over domains and smoothed:

    r(c) = exp(CE_student(c) - CE_teacher(c)),    pi = (1 - epsilon) r / sum(r) + epsilon / A

with CE the cross-entropy per token. DDK measures it on held-out data at intervals; here the drawn examples measure it
for nothing, and `alpha` smooths.
"""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.signals import StepSignals
from pipeline.bandit.follower import Follower
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.bandit.policy import with_floor
from pipeline.bandit.q_values import QValues
from pipeline.bandit.settings import Alpha
from pipeline.common.params import Share, settings


@settings
class Params:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    epsilon: Share


def build(params: Params, arms: ArmSet, seed: int) -> Follower:
    """Follows the log of the perplexity ratio; an arm that was never met counts as the others' mean."""

    def draw(behind_A: np.ndarray) -> np.ndarray:
        ratio_A = np.exp(behind_A)
        return with_floor(ratio_A / ratio_A.sum(), params.epsilon)

    def of_unknown(known: np.ndarray) -> float:
        return float(known.mean()) if len(known) else 0.0

    return Follower(QValues(len(arms), params.alpha), nats_behind, draw, of_unknown)


def nats_behind(signals: StepSignals) -> dict[int, float]:
    """How many nats per token the student is behind the teacher, over each arm's tokens."""
    behind_B = (signals.teacher_log_prob_B - signals.student_log_prob_B) / signals.tokens_B
    return mean_per_arm(signals.arm_B, behind_B, signals.tokens_B)
