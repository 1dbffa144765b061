"""stratified: uniform over arms like random, but each gets its share of every batch: the control for what rl draws."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.common.params import settings


@settings
class Params:
    """The arms that are drawn alike."""

    arms: SeveralArms


def build(params: Params, arms: ArmSet, seed: int) -> Stratified:
    return Stratified(len(arms))


class Stratified:
    """The same probability for every arm."""

    def __init__(self, arms: int) -> None:
        self._arms = arms

    def probabilities(self, progress: float) -> np.ndarray:
        """1 / A for each arm."""
        return np.full(self._arms, 1 / self._arms)
