"""target_gain: what a step on an example promises on the target, see pipeline/probe/gradient.py."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.arms.protocols import ProbeUse
from pipeline.arms.signals import StepSignals
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.common.params import Positive, settings


@settings
class Params:
    """A look takes `problems` of the probe, `every` that many steps; `memory` is kept of earlier looks."""

    problems: Positive
    every: Positive
    memory: Annotated[float, Field(ge=0, lt=1)]


def build(params: Params, all_settings: dict[str, Any], seed: int) -> TargetGain:
    return TargetGain(ProbeUse("gradient", params.problems, params.every, params.memory))


class TargetGain:
    """Mean gain of an arm's examples: 1 is what an example of the target gains, below 0 is harm."""

    def __init__(self, probe: ProbeUse) -> None:
        self.probe = probe

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step; none while the probe shows no direction."""
        gain_B = signals.target_gain_B
        if gain_B is None:
            raise TypeError("target_gain needs target_gain_B; the curriculum must pass on its reward's probe")
        return {} if np.isnan(gain_B).any() else mean_per_arm(signals.arm_B, gain_B)
