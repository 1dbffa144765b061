"""What a curriculum is told of each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StepSignals:
    """What one step saw of each of its B examples.

    arm_B: the arm it was drawn from. tokens_B: completion tokens. teacher_log_prob_B, student_log_prob_B:
    log-probability of the whole completion at temperature 1 (nats, the student's before this step's update).
    divergence_B: divergence per completion token (nats). On sampled teacher logits it is the KL of the draws' own
    shares from the student, which exceeds the teacher's on average by what the shares lack in entropy: an amount that
    no student changes, so differences between steps are not biased by it. target_gain_B: what the example's gradient
    promises on the target, as a multiple of what an example of the target itself does; None for a curriculum that does
    not look at the probe, NaN while its looks show no direction. target_similarity_KB: the log of how much likelier the
    example is under the target than under even draws of the arms, by each of K parts of the last look; NaN before the
    first.
    """

    step: int
    arm_B: np.ndarray
    tokens_B: np.ndarray
    teacher_log_prob_B: np.ndarray
    student_log_prob_B: np.ndarray
    divergence_B: np.ndarray
    target_gain_B: np.ndarray | None = None
    target_similarity_KB: np.ndarray | None = None
