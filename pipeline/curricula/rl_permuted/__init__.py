"""rl_permuted: the schedule of rl's run with its arms exchanged: as uneven and as changeable, but about nothing."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.protocols import Draws
from pipeline.common.params import settings
from pipeline.common.seeding import numpy_rng
from pipeline.replay.schedule import Replay, inputs, read_schedule

__all__ = ["Params", "build", "inputs"]


@settings
class Params:
    """Arms and draws, which must be those of `rl`."""

    arms: SeveralArms
    draws: Draws


def build(params: Params, arms: ArmSet, seed: int) -> Replay:
    """The curriculum of one run.

    Raises:
        ResultsError: rl's run of the same seed is not there, or had other arms.
    """
    return Replay(read_schedule(seed, arms)[:, exchanged(len(arms), seed)], params.draws)


def exchanged(arms: int, seed: int) -> np.ndarray:
    """For each arm another one whose place it takes: a random cycle through all arms, so that none keeps its own."""
    order = numpy_rng(seed, "rl_permuted").permutation(arms)
    other_A = np.empty(arms, dtype=int)
    other_A[order] = np.roll(order, 1)
    return other_A
