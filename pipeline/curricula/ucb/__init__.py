"""ucb: the arms of greatest promise or of least experience, after DUMP (Wang et al. 2025, arXiv 2504.09710).

    UCB(c) = Q(c) + sqrt(2 ln(n + 1) / (n_c + 1)),    pi = (1 - epsilon) softmax(UCB / tau) + epsilon / A

with n_c the examples drawn from arm c and n all of them. DUMP's reward is the advantage's size; here it is any of those
in pipeline/bandit/rewards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.arms.grouping import ArmSet, SeveralArms
from pipeline.arms.protocols import Reward, load_state_of, probe_use, state_of
from pipeline.arms.signals import StepSignals
from pipeline.bandit.policy import boltzmann
from pipeline.bandit.q_values import QValues
from pipeline.bandit.rewards import build_reward
from pipeline.bandit.settings import Alpha
from pipeline.common.params import PositiveFloat, Share, settings


@settings
class Params:
    """See params.yaml, `curricula.rl`, for each setting's meaning."""

    arms: SeveralArms
    alpha: Alpha
    tau: PositiveFloat
    epsilon: Share
    reward: str
    rewards: dict[str, dict[str, Any]]


def build(params: Params, arms: ArmSet, seed: int) -> UpperConfidenceBound:
    """The curriculum of one run.

    Raises:
        ParamsError: the reward is unknown or its settings are wrong.
    """
    return UpperConfidenceBound(params, len(arms), build_reward(params.reward, params.rewards, seed))


class UpperConfidenceBound:
    """Q-values with a bonus for arms that were seldom drawn."""

    def __init__(self, params: Params, arms: int, reward: Reward) -> None:
        self._params, self._reward = params, reward
        self._q = QValues(arms, params.alpha)
        self._drawn_A = np.zeros(arms)
        self.probe = probe_use(reward)

    @property
    def q_values_A(self) -> np.ndarray:
        """The mean rewards; 0 where there were none."""
        means_A = self._q.means_A
        return np.where(np.isfinite(means_A), means_A, 0.0)

    @property
    def standard_errors_A(self) -> np.ndarray:
        """Of the Q-values; NaN where nothing is known."""
        return self._q.standard_errors_A

    def probabilities(self, progress: float) -> np.ndarray:
        """Boltzmann over the upper confidence bounds."""
        bonus_A = np.sqrt(2 * np.log(self._drawn_A.sum() + 1) / (self._drawn_A + 1))
        return boltzmann(self.q_values_A + bonus_A, self._params.tau, self._params.epsilon)

    def update(self, signals: StepSignals) -> dict[int, float]:
        counts_A = np.bincount(signals.arm_B, minlength=len(self._drawn_A))
        rewards = self._reward(signals)
        self._q.update(rewards, counts_A)
        self._drawn_A += counts_A
        return rewards

    def state(self) -> dict[str, Any]:
        return {"q": self._q.state(), "drawn": self._drawn_A.tolist(), "reward": state_of(self._reward)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._q.load_state(state["q"])
        self._drawn_A = np.array(state["drawn"])
        load_state_of(self._reward, state["reward"])
