"""excess_over_reference: how much loss the student has left above a reference model's, never below zero.

The reference is the teacher, whose log-probabilities are in the cache: what even it does not predict is noise that no
student can learn. Excess loss over a reference decides what is trained on in RHO-LOSS (Mindermann et al. 2022, arXiv
2206.07137, eq. 3) and, clipped at zero per domain, in DoReMi (Xie et al. 2023, arXiv 2305.10429, section 2).
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


def build(params: Params, all_settings: dict[str, Any], seed: int) -> ExcessOverReference:
    return ExcessOverReference()


class ExcessOverReference:
    """Nats per token by which the student's cross-entropy exceeds the teacher's, over an arm's tokens."""

    nonnegative = True

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        excess_B = (signals.teacher_log_prob_B - signals.student_log_prob_B) / signals.tokens_B
        return mean_per_arm(signals.arm_B, np.maximum(0.0, excess_B), signals.tokens_B)
