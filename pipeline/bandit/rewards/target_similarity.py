"""target_similarity: how much an arm's problems resemble the target, see pipeline/probe/similarity.py.

The log of the probability that a problem is one of the target, were it drawn from target or pool with equal chances. To
draw arms by the exponential of it, as the Boltzmann policy does at tau 1, is to draw by that probability: it falls
without end for arms that are unlike the target, and hardly tells those apart that are like it.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.special import log_expit

from pipeline.arms.protocols import ProbeUse
from pipeline.arms.signals import StepSignals
from pipeline.bandit.per_arm import mean_per_arm
from pipeline.common.params import Positive, settings


@settings
class Params:
    """A look takes `problems` of the probe and as many of the pool, `every` that many steps."""

    problems: Annotated[int, Field(ge=2)]  # in two halves
    every: Positive


def build(params: Params, all_settings: dict[str, Any], seed: int) -> TargetSimilarity:
    return TargetSimilarity(ProbeUse("similarity", params.problems, params.every))


class TargetSimilarity:
    """Mean log-probability of an arm's examples, in nats: log 1/2 where target and pool are alike."""

    def __init__(self, probe: ProbeUse) -> None:
        self.probe = probe
        self._parting: dict[int, list[float]] = {}  # by arm, sums: half the difference of both halves' scores, examples

    def __call__(self, signals: StepSignals) -> dict[int, float]:
        """The reward of every arm in the step; none before the first look."""
        similarity_2B = signals.target_similarity_2B
        if similarity_2B is None:
            raise TypeError("target_similarity needs target_similarity_2B; the curriculum must pass on its probe")
        if np.isnan(similarity_2B).any():
            return {}
        log_posterior_2B = log_expit(similarity_2B)
        for arm, parting in zip(signals.arm_B.tolist(), (log_posterior_2B[0] - log_posterior_2B[1]) / 2, strict=True):
            total, count = self._parting.get(arm, (0.0, 0.0))
            self._parting[arm] = [total + float(parting), count + 1]
        return mean_per_arm(signals.arm_B, log_expit(similarity_2B.mean(axis=0)))

    @property
    def common_error(self) -> float:
        """The noise of looks: both halves see the same problems of an arm, so their mean difference is theirs alone.

        Half of it has the variance of the halves' mean. Its mean over all arms is left out: it moves no draw.
        """
        means = [total / count for total, count in self._parting.values()]
        return float(np.std(means)) if len(means) > 1 else 0.0

    def state(self) -> dict[str, Any]:
        """Where the halves parted, by arm."""
        return {"parting": sorted(self._parting.items())}

    def load_state(self, state: dict[str, Any]) -> None:
        self._parting = {int(arm): sums for arm, sums in state["parting"]}
