"""random_reward: standard normal noise, the control that shows whether a reward carries information at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.common.params import STRICT
from pipeline.common.seeding import numpy_rng
from pipeline.distillation.step import StepSignals


@dataclass(frozen=True, config=STRICT)
class Params:
    """No settings."""


def build(params: Params, settings: dict[str, Any], seed: int) -> RandomReward:
    """The reward of one run."""
    return RandomReward(seed)


class RandomReward:
    """Noise that depends on the run's seed, the step and the arm alone."""

    def __init__(self, seed: int) -> None:
        """Takes the run's seed."""
        self._seed = seed

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step."""
        return {
            int(arm): float(numpy_rng(self._seed, "random_reward", signals.step, int(arm)).standard_normal())
            for arm in np.unique(signals.arm_B)
        }

    def state(self) -> dict[str, Any]:
        """Nothing changes over a run."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""
