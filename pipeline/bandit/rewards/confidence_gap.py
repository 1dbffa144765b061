"""confidence_gap: how much surer of the solution the teacher is than the student.

A model's confidence in a completion is the geometric mean of its token probabilities, exp(log p / tokens), so
long solutions are not unsure for their length alone. The gap is not below zero: where the student leads there is
nothing left to learn.
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


def build(params: Params, all_settings: dict[str, Any], seed: int) -> ConfidenceGap:
    """The reward; it needs neither settings nor seed."""
    return ConfidenceGap()


class ConfidenceGap:
    """Mean over an arm's examples of max(0, teacher's confidence - student's confidence), in 0..1."""

    nonnegative = True

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        teacher_B = np.exp(signals.teacher_log_prob_B / signals.tokens_B)
        student_B = np.exp(signals.student_log_prob_B / signals.tokens_B)
        return mean_per_arm(signals.arm_B, np.maximum(0.0, teacher_B - student_B))
