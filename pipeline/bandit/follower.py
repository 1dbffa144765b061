"""A curriculum that follows one quantity of each arm, measured on the examples drawn, and draws by a function of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.arms.signals import StepSignals
from pipeline.bandit.q_values import QValues

Measure = Callable[[StepSignals], dict[int, float]]  # of each arm in the step
Draw = Callable[[np.ndarray], np.ndarray]  # from the quantities of all arms to their probabilities


class Follower:
    """Follows what `measure` says of each arm and draws as `draw` says; `of_unknown` fills in for arms never met."""

    def __init__(self, q: QValues, measure: Measure, draw: Draw, of_unknown: Callable[[np.ndarray], float]) -> None:
        """`of_unknown` gives an arm that was never met its quantity, from those of the others."""
        self._q, self._measure, self._draw, self._of_unknown = q, measure, draw, of_unknown

    @property
    def q_values_A(self) -> np.ndarray:
        """The quantity of each arm."""
        known_A = np.isfinite(self._q.means_A)
        return np.where(known_A, self._q.means_A, self._of_unknown(self._q.means_A[known_A]))

    @property
    def standard_errors_A(self) -> np.ndarray:
        """Of the quantities; NaN where nothing is known."""
        return self._q.standard_errors_A

    def probabilities(self, progress: float) -> np.ndarray:
        return self._draw(self.q_values_A)

    def update(self, signals: StepSignals) -> dict[int, float]:
        """The reward is the quantity itself."""
        measured = self._measure(signals)
        self._q.update(measured, np.bincount(signals.arm_B, minlength=len(self._q.values_A)))
        return measured

    def state(self) -> dict[str, Any]:
        return self._q.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self._q.load_state(state)
