"""random_reward: standard normal noise, the control that shows whether a reward carries information at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.arms.signals import StepSignals
from pipeline.common.params import settings
from pipeline.common.seeding import numpy_rng


@settings
class Params:
    """No settings."""


def build(params: Params, all_settings: dict[str, Any], seed: int) -> RandomReward:
    return RandomReward(seed)


class RandomReward:
    """Noise that depends on the run's seed, the step and the arm alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        return {
            int(arm): float(numpy_rng(self._seed, "random_reward", signals.step, int(arm)).standard_normal())
            for arm in np.unique(signals.arm_B)
        }
