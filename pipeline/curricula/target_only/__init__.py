"""target_only: the oracle. It is told which arms hold problems of the target, and draws those alone, all alike."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.common.errors import DataError
from pipeline.common.params import settings


@settings
class Params:
    """The arms that are drawn from."""

    arms: SeveralArms


def build(params: Params, arms: ArmSet, seed: int) -> TargetOnly:
    """The curriculum of one run.

    Raises:
        DataError: no arm holds problems like the probe's, so there is nothing that the oracle could know.
    """
    return TargetOnly(arms)


class TargetOnly:
    """The same probability for every arm of the target, none for the others."""

    def __init__(self, arms: ArmSet) -> None:
        of_target_A = np.array(arms.probe_counts) > 0
        if not of_target_A.any():
            raise DataError("target_only finds no arm with problems like the probe's; leave it out of methods")
        self._share_A: np.ndarray = of_target_A / of_target_A.sum()

    def probabilities(self, progress: float) -> np.ndarray:
        return self._share_A
