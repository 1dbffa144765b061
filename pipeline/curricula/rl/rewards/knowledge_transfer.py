"""knowledge_transfer: how far the student has come closer to the teacher on an arm since it last met it.

The reward is the fall of the arm's divergence per completion token from its previous draw to this one. Both
divergences are measured before their step's update, so the first draw of an arm earns nothing: there is no fall yet.
"""

from __future__ import annotations

from typing import Any

from pipeline.arms.signals import StepSignals
from pipeline.common.params import settings
from pipeline.curricula.rl.rewards._standardize import mean_per_arm


@settings
class Params:
    """No settings."""


def build(params: Params, all_settings: dict[str, Any], seed: int) -> KnowledgeTransfer:
    """The reward; it needs neither settings nor seed."""
    return KnowledgeTransfer()


class KnowledgeTransfer:
    """Previous minus present divergence per token of each arm, in nats."""

    def __init__(self) -> None:
        self._previous: dict[int, float] = {}

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step that was met before."""
        present = mean_per_arm(signals.arm_B, signals.divergence_B, signals.tokens_B)
        falls = {arm: self._previous[arm] - value for arm, value in present.items() if arm in self._previous}
        self._previous.update(present)
        return falls

    def state(self) -> dict[str, Any]:
        """Each arm's last divergence per token."""
        return {"previous": sorted(self._previous.items())}

    def load_state(self, state: dict[str, Any]) -> None:
        self._previous = {int(arm): value for arm, value in state["previous"]}
