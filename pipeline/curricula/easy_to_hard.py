"""easy_to_hard: a linear progression from the lowest level to the highest."""

from __future__ import annotations

import numpy as np

from pipeline.curricula._progression import Progression, ProgressionParams
from pipeline.training.arms import ArmSet

Params = ProgressionParams


def build(params: Params, arms: ArmSet, seed: int) -> Progression:
    """The curriculum of one run."""
    return Progression(np.array(arms.levels), params.width, reverse=False)
