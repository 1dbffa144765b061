"""easy_to_hard: a linear progression from the lowest level to the highest."""

from __future__ import annotations

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.arms.progression import Progression, ProgressionParams

Params = ProgressionParams


def build(params: Params, arms: ArmSet, seed: int) -> Progression:
    return Progression(np.array(arms.levels), params.width, reverse=False)
