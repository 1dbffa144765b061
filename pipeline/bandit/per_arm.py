"""From examples to arms: what several rewards and curricula share."""

from __future__ import annotations

import numpy as np


def mean_per_arm(arm_B: np.ndarray, value_B: np.ndarray, weight_B: np.ndarray | None = None) -> dict[int, float]:
    """The (weighted) mean of `value_B` over the examples of each arm in the step."""
    weight_B = np.ones(len(arm_B)) if weight_B is None else weight_B
    total_A, weight_A = np.bincount(arm_B, value_B * weight_B), np.bincount(arm_B, weight_B)
    return {int(arm): float(total_A[arm] / weight_A[arm]) for arm in np.unique(arm_B)}
