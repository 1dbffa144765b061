"""procurl: arms that are neither mastered nor hopeless, after ProCuRL (Tzannetos et al. 2023, arXiv 2304.12877).

    pi(c) proportional to exp(Q(c) (1 - Q(c)) / tau)

with Q(c) the student's probability of success on the arm; here, its confidence in the solution, the geometric mean of
its tokens' probabilities. Where that is above one half everywhere, what the student is least sure of is drawn most.
"""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.signals import StepSignals
from pipeline.bandit.follower import Follower
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.bandit.policy import boltzmann
from pipeline.bandit.q_values import QValues
from pipeline.bandit.settings import Alpha
from pipeline.common.params import PositiveFloat, Share, settings


@settings
class Params:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    tau: PositiveFloat
    epsilon: Share


def build(params: Params, arms: ArmSet, seed: int) -> Follower:
    """Follows the student's confidence; an arm that was never met counts as half mastered."""

    def draw(confidence_A: np.ndarray) -> np.ndarray:
        return boltzmann(confidence_A * (1 - confidence_A), params.tau, params.epsilon)

    return Follower(QValues(len(arms), params.alpha), confidence, draw, lambda _: 0.5)


def confidence(signals: StepSignals) -> dict[int, float]:
    """The mean of the student's confidence over each arm's examples."""
    return mean_per_arm(signals.arm_B, np.exp(signals.student_log_prob_B / signals.tokens_B))
