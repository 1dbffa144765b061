"""From what is known of arms to how likely each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy.special import log_expit, softmax

PolicyName = Literal["boltzmann", "logistic"]


def boltzmann(values_A: np.ndarray, tau: float, epsilon: float) -> np.ndarray:
    """(1 - epsilon) softmax(values / tau) + epsilon / A: Boltzmann sampling with a uniform floor."""
    return with_floor(softmax(values_A / tau), epsilon)


def logistic(values_A: np.ndarray, tau: float, epsilon: float) -> np.ndarray:
    """(1 - epsilon) of shares in proportion to 1 / (1 + exp(-values / tau)), and epsilon / A.

    Far below 0 it is Boltzmann sampling; arms far above 0 are drawn alike, however far they are. For values whose zero
    means something, such as the log of a ratio.
    """
    return with_floor(softmax(log_expit(values_A / tau)), epsilon)


POLICIES: dict[PolicyName, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "boltzmann": boltzmann,
    "logistic": logistic,
}


def with_floor(probability_A: np.ndarray, epsilon: float) -> np.ndarray:
    """A distribution over arms, mixed with the uniform one: `epsilon` of it."""
    mixed_A: np.ndarray = (1 - epsilon) * probability_A + epsilon / len(probability_A)
    return mixed_A
