"""learnability: p (1 - p) for the student's confidence p, largest where it is neither sure nor lost.

Used for problems a policy solves sometimes (Rutherford et al. 2024, arXiv 2408.15099); here p is the geometric mean of
the solution's token probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.arms.signals import StepSignals
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.common.params import settings


@settings
class Params:
    """No settings."""


def build(params: Params, all_settings: dict[str, Any], seed: int) -> Learnability:
    return Learnability()


class Learnability:
    """Mean of p (1 - p) over an arm's examples, in 0..1/4."""

    nonnegative = True

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        confidence_B = np.exp(signals.student_log_prob_B / signals.tokens_B)
        return mean_per_arm(signals.arm_B, confidence_B * (1 - confidence_B))
