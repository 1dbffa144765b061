"""hard_to_easy: a linear progression from the highest level to the lowest."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.arms.progression import Progression, ProgressionParams

Params = ProgressionParams


def build(params: Params, arms: ArmSet, seed: int) -> Progression:
    return Progression(np.array(arms.levels), params.width, reverse=True)
