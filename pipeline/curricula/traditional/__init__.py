"""traditional: standard distillation, uniform over problems. One arm holds them all, dealt without replacement."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.arms.grouping import ArmSet
from pipeline.common.params import settings


@settings
class Params:
    """A single arm makes every epoch a plain shuffle."""

    arms: Literal["all"]


def build(params: Params, arms: ArmSet, seed: int) -> Traditional:
    return Traditional(len(arms))


class Traditional:
    """Always the one arm."""

    def __init__(self, arms: int) -> None:
        self._arms = arms

    def probabilities(self, progress: float) -> np.ndarray:
        return np.full(self._arms, 1 / self._arms)
