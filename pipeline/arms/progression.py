"""The linear progression over levels that easy_to_hard and hard_to_easy share."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.common.params import PositiveFloat, settings


@settings
class ProgressionParams:
    """`width` is how many levels away from the current one an arm still gets a share."""

    arms: Literal["level", "difficulty"]
    width: PositiveFloat


class Progression:
    """A window that moves at constant speed over the levels, from the first to the last of `levels_A`' order.

    With the window's centre c going from the first level to the last, an arm's share is proportional to
    max(0, 1 - |level - c| / width); where that leaves nothing, the nearest level takes all.
    """

    def __init__(self, levels_A: np.ndarray, width: float, *, reverse: bool) -> None:
        self._levels_A, self._width = levels_A, width
        self._start, self._end = (levels_A.max(), levels_A.min()) if reverse else (levels_A.min(), levels_A.max())

    def probabilities(self, progress: float) -> np.ndarray:
        """The window's shares at this point of the run."""
        distance_A = np.abs(self._levels_A - (self._start + (self._end - self._start) * progress))
        share_A = np.maximum(0.0, 1 - distance_A / self._width)
        if share_A.sum() == 0:  # a narrow window between two levels: take the nearest
            share_A = (distance_A == distance_A.min()).astype(float)
        probability_A: np.ndarray = share_A / share_A.sum()
        return probability_A
