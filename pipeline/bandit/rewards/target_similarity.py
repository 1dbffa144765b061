"""target_similarity: how much an arm's problems resemble the target, see pipeline/probe/similarity.py.

In nats, the log of how much likelier a problem is under the target than under even draws of the pool's arms: above zero
for what the target has more of. To draw arms in proportion to 1 / (1 + exp(-reward)), as the logistic policy does at
tau 1, is to draw by the probability of being of the target, were both as frequent. A single problem tells little; an
arm's mean tells more, so a smaller tau pays.
"""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pipeline.arms.protocols import ProbeUse
from pipeline.arms.signals import StepSignals
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.common.params import Positive, settings


@settings
class Params:
    """A look takes `problems` of the probe and as many of the pool; when, see ProbeUse."""

    problems: Annotated[int, Field(ge=2)]  # in two parts or more
    first: Positive
    every: Positive


def build(params: Params, all_settings: dict[str, Any], seed: int) -> TargetSimilarity:
    return TargetSimilarity(ProbeUse("similarity", params.problems, params.every, first=params.first))


class TargetSimilarity:
    """Mean log-ratio of an arm's examples, in nats: 0 where target and pool are alike."""

    def __init__(self, probe: ProbeUse) -> None:
        self.probe = probe

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step; none before the first look."""
        similarity_KB = _similarity(signals)
        if np.isnan(similarity_KB).any():
            return {}
        return mean_per_arm(signals.arm_B, similarity_KB.mean(axis=0))

    def part_deviations(self, signals: StepSignals) -> list[dict[int, float]]:
        """The noise of the look: what its parts say of the same problems of an arm."""
        similarity_KB = _similarity(signals)
        if np.isnan(similarity_KB).any():
            return []
        parts = len(similarity_KB)
        # the mean without a part less the mean of all is (mean - part) / (K - 1)
        deviation_KB = (similarity_KB.mean(axis=0) - similarity_KB) / sqrt(parts * (parts - 1))
        return [mean_per_arm(signals.arm_B, deviation_B) for deviation_B in deviation_KB]


def _similarity(signals: StepSignals) -> np.ndarray:
    if signals.target_similarity_KB is None:
        raise TypeError("target_similarity needs target_similarity_KB; the curriculum must pass on its probe")
    return signals.target_similarity_KB
