"""static_mixture: the mixture of rl's run from the first step on: shows whether its order in time mattered."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.protocols import Draws
from pipeline.common.params import settings
from pipeline.replay.schedule import Replay, inputs, read_schedule

__all__ = ["Params", "build", "inputs"]


@settings
class Params:
    """Arms and draws, which must be those of `rl`, and which of its mixtures is taken: mean or final."""

    arms: SeveralArms
    draws: Draws
    mixture: Literal["mean", "final"]


def build(params: Params, arms: ArmSet, seed: int) -> Replay:
    """The curriculum of one run.

    Raises:
        ResultsError: rl's run of the same seed is not there, or had other arms.
    """
    schedule_SA = read_schedule(seed, arms)
    mixture_A = schedule_SA.mean(axis=0) if params.mixture == "mean" else schedule_SA[-1]
    return Replay(np.broadcast_to(mixture_A, schedule_SA.shape), params.draws)
