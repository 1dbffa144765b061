"""The curricula. Each file in this folder is one; its name is its key in params.yaml and its value in `methods`.

A curriculum file defines

    Params                          a frozen dataclass of its settings; it has a field `arms`
    build(params, arms, seed)       -> Curriculum

Files that begin with an underscore are shared helpers, not curricula.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pipeline.distillation.step import StepSignals


class Curriculum(Protocol):
    """Says how likely each arm is to be drawn."""

    def probabilities(self, progress: float) -> np.ndarray:
        """A distribution over the A arms; `progress` is the share of the steps already done, from 0 to below 1."""
        ...


class AdaptiveCurriculum(Curriculum, Protocol):
    """A curriculum that learns from the steps it caused; what makes it one is that it has `update`."""

    q_values_A: np.ndarray  # what it holds of each arm, for the arm log

    def update(self, signals: StepSignals) -> dict[int, float]:
        """Learns from one step; returns the reward of each arm that earned one."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes over a run, as a JSON value that `load_state` takes back exactly."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` returned."""
        ...


def adaptive(curriculum: Curriculum) -> AdaptiveCurriculum | None:
    """The curriculum as one that learns, None if it does not.

    Raises:
        TypeError: it has `update` but lacks something else that learning needs, so it would not learn or not resume.
    """
    if not hasattr(curriculum, "update"):
        return None
    if missing := [name for name in ("q_values_A", "state", "load_state") if not hasattr(curriculum, name)]:
        raise TypeError(
            f"{type(curriculum).__name__} has update but lacks {', '.join(missing)}; see AdaptiveCurriculum"
        )
    return curriculum
