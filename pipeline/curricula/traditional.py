"""traditional: standard distillation, uniform over problems. One arm holds them all, dealt without replacement."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.common.params import STRICT
from pipeline.training.arms import ArmSet


@dataclass(frozen=True, config=STRICT)
class Params:
    """A single arm makes every epoch a plain shuffle."""

    arms: Literal["all"]


def build(params: Params, arms: ArmSet, seed: int) -> Traditional:
    """The curriculum of one run."""
    return Traditional(len(arms))


class Traditional:
    """Always the one arm."""

    def __init__(self, arms: int) -> None:
        """Takes the number of arms, one."""
        self._arms = arms

    def probabilities(self, progress: float) -> np.ndarray:
        """Certainty."""
        return np.full(self._arms, 1 / self._arms)
