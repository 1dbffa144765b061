"""random: uniform over arms, whatever they hold, drawn one by one."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.protocols import Draws
from pipeline.common.params import settings


@settings
class Params:
    """The arms that are drawn with equal probability."""

    arms: SeveralArms


def build(params: Params, arms: ArmSet, seed: int) -> Random:
    return Random(len(arms))


class Random:
    """The same probability for every arm."""

    draws: Draws = "independent"

    def __init__(self, arms: int) -> None:
        self._arms = arms

    def probabilities(self, progress: float) -> np.ndarray:
        """1 / A for each arm."""
        return np.full(self._arms, 1 / self._arms)
