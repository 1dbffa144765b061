"""knowledge_transfer: how fast the student comes closer to the teacher on an arm.

The reward is the slope of the arm's divergence per completion token against the step, over its last `window` visits,
with its sign turned: nats per token and step that were gained. One or two examples per visit are noise, so the slope is
shrunk by its standard error s as James and Stein shrink a single mean: slope max(0, 1 - s^2 / slope^2). An arm with
fewer than three visits earns nothing: a line through two points has no error.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.arms.signals import StepSignals
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.common.params import settings

FEWEST_VISITS = 3


@settings
class Params:
    """How many of an arm's last visits the line is drawn through."""

    window: Annotated[int, Field(ge=FEWEST_VISITS)]


def build(params: Params, all_settings: dict[str, Any], seed: int) -> KnowledgeTransfer:
    return KnowledgeTransfer(params.window)


class KnowledgeTransfer:
    """Knows the last visits of each arm: step, divergence per token in nats, and tokens, which weigh it."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._visits: dict[int, list[list[float]]] = {}

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step that has been visited often enough."""
        present = mean_per_arm(signals.arm_B, signals.divergence_B, signals.tokens_B)
        tokens_A = np.bincount(signals.arm_B, signals.tokens_B)
        rewards = {}
        for arm, divergence in present.items():
            visits = [*self._visits.get(arm, []), [float(signals.step), divergence, float(tokens_A[arm])]]
            self._visits[arm] = visits[-self._window :]
            if len(self._visits[arm]) >= FEWEST_VISITS:
                slope, error = weighted_slope(*np.array(self._visits[arm]).T)
                rewards[arm] = -slope * max(0.0, 1 - error**2 / slope**2) if slope else 0.0
        return rewards

    def state(self) -> dict[str, Any]:
        """Each arm's last visits."""
        return {"visits": sorted(self._visits.items())}

    def load_state(self, state: dict[str, Any]) -> None:
        self._visits = {int(arm): visits for arm, visits in state["visits"]}


def weighted_slope(x_N: np.ndarray, y_N: np.ndarray, weight_N: np.ndarray) -> tuple[float, float]:
    """Slope and its standard error of the line through N >= 3 points by weighted least squares.

    Weights are inverse variances up to a factor, which the residuals decide (Draper and Smith 1998, section 9.2).
    """
    dx_N = x_N - np.average(x_N, weights=weight_N)
    dy_N = y_N - np.average(y_N, weights=weight_N)
    spread = float((weight_N * dx_N**2).sum())
    slope = float((weight_N * dx_N * dy_N).sum()) / spread
    noise = float((weight_N * (dy_N - slope * dx_N) ** 2).sum()) / (len(x_N) - 2)
    return slope, float(np.sqrt(noise / spread))
